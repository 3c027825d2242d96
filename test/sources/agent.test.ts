import { AsyncLocalStorage } from 'node:async_hooks';
import type Anthropic from '@anthropic-ai/sdk';
import { concatMap, from, lastValueFrom, take, toArray, type Observable } from 'rxjs';
import { fanOutScoped, isScopeCancelledError, scoped, takeWithin, type Scope } from 'rxfleet';
import { agent, conversation, tool, type AgentDone, type AgentEvent, type AgentOptions } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type Script } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

const add = tool({
  name: 'add',
  description: 'adds',
  input: z.object({ a: z.number(), b: z.number() }),
  effect: 'none',
  run: ({ a, b }) => a + b,
});

const sum = (a: number, b: number) => ({ name: 'add', input: { a, b } });

async function run(script: Script, options: Partial<AgentOptions> = {}) {
  const { client, server } = await start(script);
  const events = await lastValueFrom(agent({ client, ...ask, tools: [add], ...options }).pipe(toArray()));
  return { client, server, events, done: events.at(-1) as AgentDone };
}

const roles = (history: readonly Anthropic.Messages.MessageParam[]): string => history.map(({ role }) => role[0]).join('');

describe('agent', () => {
  it('turns until the model is done', async () => {
    const { events, done, server } = await run([
      reply.toolUse([sum(1, 2), sum(3, 4)], { text: 'Let me add.' }),
      reply.toolUse([sum(3, 7)]),
      reply.text('It is 10.'),
    ]);
    expect(done).toMatchObject({ type: 'done', stop: 'end_turn', turns: 3, text: 'It is 10.' });
    expect(roles(done.history)).toBe('uauaua');
    expect(events.filter(({ type }) => type === 'turn')).toMatchObject([{ turn: 1 }, { turn: 2 }, { turn: 3 }]);
    expect(events.flatMap((event) => (event.type === 'text' ? [event.text] : [])).join('')).toBe('Let me add.It is 10.');
    expect(server.requests.map(({ body }) => roles((body as { messages: [] }).messages))).toEqual(['u', 'uau', 'uauau']);
    await server.whenIdle();
    expect(server.stats()).toMatchObject({ requests: 3, completed: 3 });
  });

  it('adds the usage of its turns up', async () => {
    const { done } = await run([
      reply.toolUse([sum(1, 2)], { usage: { input_tokens: 10, output_tokens: 5, cache_read_input_tokens: 100 } }),
      reply.text('3', { usage: { input_tokens: 20, output_tokens: 6, cache_creation_input_tokens: 7 } }),
    ]);
    expect(done.usage).toEqual({ input_tokens: 30, output_tokens: 11, cache_read_input_tokens: 100, cache_creation_input_tokens: 7 });
  });

  it('ends at maxTurns with a history that can be continued', async () => {
    const { done, client, server } = await run(() => reply.toolUse([sum(1, 1)]), { maxTurns: 3 });
    expect(done).toMatchObject({ stop: 'max_turns', turns: 3 });
    expect(roles(done.history)).toBe('uauauau');
    expect(server.stats().requests).toBe(3);
    await client.messages.countTokens({ model: 'm', messages: [...done.history, hello] });
  });

  it('a last turn that the model ends by itself is not max_turns', async () => {
    expect((await run([reply.toolUse([sum(1, 1)]), reply.text('2')], { maxTurns: 2 })).done.stop).toBe('end_turn');
  });

  it('pause_turn is sent back unchanged, and the model goes on', async () => {
    const { done, server } = await run([
      reply.message({ content: [{ type: 'text', text: 'searching' }], stop_reason: 'pause_turn' }),
      reply.text('found'),
    ]);
    expect(done).toMatchObject({ stop: 'end_turn', turns: 2, text: 'found' });
    expect((server.requests[1]?.body as { messages: unknown[] }).messages).toMatchObject([
      hello,
      { role: 'assistant', content: [{ text: 'searching' }] },
    ]);
  });

  it('the model can act on what was wrong', async () => {
    const script: Script = (request) => {
      const [result] = lastToolResults(request);
      if (result === undefined) return reply.toolUse([{ name: 'add', input: { a: '1', b: 2 } }]);
      if (result.isError) return reply.toolUse([sum(result.text.includes('- a: ') ? 1 : 0, 2)]);
      return reply.text(result.text);
    };
    expect((await run(script)).done.text).toBe('3');
  });

  it('goes on after input was cut off, and can be told to end instead', async () => {
    const script: Script = (request) => {
      const results = lastToolResults(request);
      return results[0]?.isError === true ? reply.text('shorter') : reply.toolUse([sum(1, 2)], { fault: { kind: 'max_tokens' } });
    };
    expect((await run(script)).done).toMatchObject({ stop: 'end_turn', turns: 2, text: 'shorter' });
    expect((await run(script, { onMaxTokens: 'end' })).done).toMatchObject({ stop: 'max_tokens', turns: 1 });
  });

  it('text cut off at max_tokens ends it', async () => {
    const { done } = await run([reply.text('a long story', { fault: { kind: 'max_tokens' } })]);
    expect(done).toMatchObject({ stop: 'max_tokens', turns: 1 });
  });

  it('is a scope of its own: one level deeper, with its name in the path', async () => {
    const seen: unknown[] = [];
    const look = tool({ name: 'look', description: '', input: z.object({}), run: (_, { path, depth }) => void seen.push([path, depth]) });
    const { client } = await start(() => (seen.length === 0 ? reply.toolUse([{ name: 'look', input: {} }]) : reply.text('ok')));
    const options = { client, ...ask, tools: [look], name: 'scout' };
    await lastValueFrom(scoped((scope) => agent({ ...options, within: scope }), { label: 'root' }));
    expect(seen).toEqual([[['root', 'scout', 'look'], 1]]);
  });

  it('runs inside a tool of another agent, and is cancelled with it', async () => {
    const depths: number[] = [];
    const script: Script = (request) => {
      const inner = request.system === 'inner';
      if (inner) return lastToolResults(request).length > 0 ? reply.text('inner done') : reply.toolUse([{ name: 'deep', input: {} }]);
      return lastToolResults(request)[0] ? reply.text(lastToolResults(request)[0]!.text) : reply.toolUse([{ name: 'delegate', input: {} }]);
    };
    const { client, server } = await start(script);
    let hang = false;
    const deep = tool({
      name: 'deep',
      description: '',
      input: z.object({}),
      run: (_, { depth, signal }) => {
        depths.push(depth);
        return hang ? new Promise((_r, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))) : 'ok';
      },
    });
    const delegate = tool({
      name: 'delegate',
      description: '',
      input: z.object({}),
      run: (_, { scope }) => textOf(agent({ client, ...ask, system: 'inner', name: 'inner', tools: [deep], within: scope })),
    });
    const outer = agent({ client, ...ask, name: 'outer', tools: [delegate] });
    expect(((await lastValueFrom(outer)) as AgentDone).text).toBe('inner done');
    expect(depths).toEqual([2]);
    hang = true;
    let root: Scope | undefined;
    const running = agent({ client, ...ask, name: 'outer', tools: [delegate], onScope: (scope) => (root = scope) }).subscribe();
    while (depths.length < 2) await sleep(1);
    running.unsubscribe();
    expect(await root!.closed).toMatchObject({ abandoned: [], reason: { kind: 'unsubscribed' } });
    await server.whenIdle();
  });

  it('many agents in one fan-out share nothing', async () => {
    const script: Script = (request) => {
      const [result] = lastToolResults(request);
      const n = Number((request.messages[0]!.content as string).slice(1));
      return result === undefined ? reply.toolUse([sum(n, n)]) : reply.text(result.text);
    };
    const { client } = await start(script);
    const many = Array.from({ length: 20 }, (_, n) => n);
    const texts = await lastValueFrom(
      from(many).pipe(
        fanOutScoped(
          (n, _, ctx) => textOf(agent({ client, ...ask, messages: [{ role: 'user', content: `n${n}` }], tools: [add], within: ctx })),
          {
            order: 'index',
            concurrency: 8,
          },
        ),
        toArray(),
      ),
    );
    expect(texts).toEqual(many.map((n) => String(2 * n)));
  });

  it('many agents can be stopped by one signal, and each keeps its async context', async () => {
    const user = new AsyncLocalStorage<number>();
    const seen = new Set<string>();
    const who = tool({
      name: 'who',
      description: '',
      input: z.object({ n: z.number() }),
      run: async ({ n }, { signal }) => {
        await sleep(1);
        seen.add(`${n} is ${user.getStore()} ${signal.aborted}`);
        return sleepUntil(signal);
      },
    });
    const script: Script = ({ system }) => reply.toolUse([1, 2, 3].map(() => ({ name: 'who', input: { n: Number(system) } })));
    const { client, server } = await start(script);
    const { signal, abort } = bound(new AbortController());
    const ends = Array.from({ length: 15 }, (_, n) =>
      user.run(n, () =>
        lastValueFrom(agent({ client, ...ask, system: String(n), tools: [who], concurrency: 2, signal })).catch(isScopeCancelledError),
      ),
    );
    while (seen.size < 15) await sleep(2);
    abort();
    expect(await Promise.all(ends)).toEqual(ends.map(() => true));
    expect([...seen].sort()).toEqual(ends.map((_, n) => `${n} is ${n} false`).sort());
    await server.whenIdle();
  });

  it('keeps no timer when it has ended', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;
    const before = timers();
    await run([reply.toolUse([sum(1, 2)]), reply.text('3')]);
    expect(timers()).toBeLessThanOrEqual(before);
  });

  it('a model error is its error, as it is, after events of the turns before', async () => {
    const chat = conversation([hello]);
    const { client } = await start([reply.toolUse([sum(1, 2)]), reply.error(529)]);
    const events: AgentEvent[] = [];
    const error = await new Promise((resolve) =>
      agent({ client, ...ask, messages: chat, tools: [add] }).subscribe({ next: (event) => events.push(event), error: resolve }),
    );
    expect(error).toMatchObject({ status: 529 });
    expect(events.at(-1)).toMatchObject({ type: 'turn', turn: 1 });
    expect(roles(chat.messages)).toBe('uau');
    expect(chat.busy).toBe(false);
  });

  it('a conversation is continued by the next agent', async () => {
    const chat = conversation([hello]);
    const { client } = await start([reply.toolUse([sum(1, 2)]), reply.text('3'), reply.text('again')]);
    const one = agent({ client, ...ask, messages: chat, tools: [add] });
    await lastValueFrom(one);
    chat.add({ role: 'user', content: 'and again' });
    expect(((await lastValueFrom(one)) as AgentDone).history).toHaveLength(6);
  });

  it('a deadline above gives what there was by then', async () => {
    const slow = tool({ name: 'slow', description: '', input: z.object({}), run: (_, { signal }) => sleepUntil(signal) });
    const { client } = await start([reply.toolUse([{ name: 'slow', input: {} }])]);
    const events = await lastValueFrom(agent({ client, ...ask, tools: [slow] }).pipe(takeWithin(100), toArray()));
    expect(events.at(-1)).toMatchObject({ type: 'tool', event: { type: 'started' } });
  });

  it('an abort from outside ends it with the reason', async () => {
    const controller = new AbortController();
    const slow = tool({ name: 'slow', description: '', input: z.object({}), run: (_, { signal }) => sleepUntil(signal) });
    const { client } = await start([reply.toolUse([{ name: 'slow', input: {} }])]);
    const error = await lastValueFrom(
      agent({ client, ...ask, tools: [slow], signal: controller.signal }).pipe(
        concatMap((event) => {
          if (event.type === 'tool') controller.abort('enough');
          return [event];
        }),
      ),
    ).catch((each: unknown) => each);
    if (!isScopeCancelledError(error)) throw error;
    expect(error.reason).toEqual({ kind: 'signal', reason: 'enough' });
  });

  it('leaving at each event leaves nothing behind, and a history that can be continued', async () => {
    const calls = [sum(1, 2), { name: 'slow', input: {} }, { name: 'nope', input: {} }];
    const slow = tool({ name: 'slow', description: '', input: z.object({}), run: () => sleep(2) });
    const script: Script = (request) => (lastToolResults(request).length > 0 ? reply.text('done') : reply.toolUse(calls));
    const { client, server } = await start(script);
    const all = await lastValueFrom(agent({ client, ...ask, tools: [add, slow] }).pipe(toArray()));
    for (let n = 1; n <= all.length; n++) {
      const chat = conversation([hello]);
      let root: Scope | undefined;
      const options = { client, ...ask, tools: [add, slow], messages: chat, onScope: (scope: Scope) => (root = scope) };
      await lastValueFrom(agent(options).pipe(take(n)));
      expect((await root!.closed).abandoned).toEqual([]);
      await client.messages.countTokens({ model: 'm', messages: [...chat.messages, hello] });
      expect(chat.busy).toBe(false);
    }
    await server.whenIdle();
  });

  it.each<[string, object, RegExp]>([
    ['name', { name: 5 }, /^agent: name must be a string/],
    ['maxTurns', { maxTurns: 0 }, /^agent: maxTurns must be an integer of at least 1/],
    ['maxTurns', { maxTurns: 1.5 }, /^agent: maxTurns/],
    ['maxTurns', { maxTurns: '3' }, /^agent: maxTurns/],
    ['tools', { tools: [add, add] }, /^agent: tools must have names of their own/],
    ['client', { client: undefined }, /^agent: client/],
    ['signal', { signal: 'stop' }, /^agent: signal/],
  ])('refuses a wrong %s', async (_, wrong, expected) => {
    const { client } = await start([]);
    expect(() => agent({ client, ...ask, ...wrong })).toThrow(expected);
  });
});

function textOf(events: Observable<AgentEvent>): Observable<string> {
  return events.pipe(concatMap((event) => (event.type === 'done' ? [event.text] : [])));
}

function sleepUntil(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
}

function bound(controller: AbortController): { readonly signal: AbortSignal; abort(): void } {
  return { signal: controller.signal, abort: () => controller.abort() };
}
