import { lastValueFrom, takeWhile, toArray } from 'rxjs';
import { failWithin, isScopeCancelledError, type Scope } from 'rxfleet';
import { conversation, isConversationBusyError, tool, turn, type TurnEvent, type TurnOptions } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
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

type Of<T extends TurnEvent['type']> = Extract<TurnEvent, { type: T }>;

function pick<T extends TurnEvent['type']>(events: readonly TurnEvent[], type: T): Of<T>[] {
  return events.filter((event): event is Of<T> => event.type === type);
}

const echo = tool({ name: 'echo', description: 'says it again', input: z.object({ text: z.string() }), run: async ({ text }) => text });
const wait = tool({
  name: 'wait',
  description: 'waits',
  input: z.object({ ms: z.number() }),
  run: async ({ ms }) => {
    await sleep(ms);
    return `waited ${ms}`;
  },
});

async function run(script: Parameters<typeof start>[0], options: Partial<TurnOptions> = {}) {
  const { client, server } = await start(script);
  const events = await lastValueFrom(turn({ client, ...ask, tools: [echo, wait], ...options }).pipe(toArray()));
  const end = pick(events, 'turn')[0]!;
  return { client, server, events, end };
}

/** What the server has against a history, if the user says more. */
async function complaint(client: Awaited<ReturnType<typeof start>>['client'], history: readonly unknown[]): Promise<string> {
  const messages = [...history, hello] as (typeof hello)[];
  const error = await client.messages.countTokens({ model: 'm', messages }).then(
    () => undefined,
    (each: unknown) => each as Error,
  );
  return error?.message ?? '';
}

describe('turn', () => {
  it('a reply without calls: model events, text, and the turn', async () => {
    const { events, end } = await run([reply.text('hello there', { pace: { chunkChars: 6 } })]);
    expect(events.map(({ type }) => type).join(' ')).toBe('model model model text model text model model model turn');
    expect(pick(events, 'text').map(({ text }) => text)).toEqual(['hello ', 'there']);
    expect(end).toMatchObject({ turn: 1, stop: 'end_turn', results: [], continues: false, requestId: 'req_0001' });
    expect(end.history).toMatchObject([hello, { role: 'assistant', content: [{ type: 'text', text: 'hello there' }] }]);
  });

  it('runs all calls at once and answers them in one batch, in the order of the model', async () => {
    const calls = [30, 10, 20].map((ms) => ({ name: 'wait', input: { ms } }));
    const { events, end, client } = await run([reply.toolUse(calls)]);
    const finished = pick(events, 'tool').filter(({ event }) => event.type === 'result');
    expect(finished.map(({ event }) => event.id)).toEqual(['toolu_0002', 'toolu_0003', 'toolu_0001']);
    expect(end.results.map(({ tool_use_id, content }) => [tool_use_id, content])).toEqual([
      ['toolu_0001', 'waited 30'],
      ['toolu_0002', 'waited 10'],
      ['toolu_0003', 'waited 20'],
    ]);
    expect(end).toMatchObject({ stop: 'tool_use', continues: true });
    expect(end.history.at(-1)).toEqual({ role: 'user', content: end.results });
    expect(await complaint(client, end.history)).toBe('');
  });

  it('no more calls at once than concurrency', async () => {
    let running = 0;
    let peak = 0;
    const busy = tool({
      name: 'busy',
      description: '',
      input: z.object({}),
      run: async () => {
        peak = Math.max(peak, ++running);
        await sleep(5);
        running--;
      },
    });
    await run([reply.toolUse(Array.from({ length: 6 }, () => ({ name: 'busy', input: {} })))], { tools: [busy], concurrency: 2 });
    expect(peak).toBe(2);
  });

  it('a tool that fails is an answer, and its siblings go on', async () => {
    const bad = tool({
      name: 'bad',
      description: '',
      input: z.object({}),
      run: () => {
        throw undefined;
      },
    });
    const calls = [
      { name: 'bad', input: {} },
      { name: 'wait', input: { ms: 20 } },
      { name: 'echo', input: { text: 5 } },
      { name: 'nope', input: {} },
    ];
    const { end } = await run([reply.toolUse(calls)], { tools: [echo, wait, bad] });
    expect(end.results).toEqual([
      { type: 'tool_result', tool_use_id: 'toolu_0001', content: 'The tool "bad" failed without giving a reason.', is_error: true },
      { type: 'tool_result', tool_use_id: 'toolu_0002', content: 'waited 20' },
      expect.objectContaining({ content: expect.stringContaining('- text: Invalid input: expected string, received number') as string }),
      expect.objectContaining({ content: expect.stringContaining('The tools are: echo, wait, bad.') as string, is_error: true }),
    ]);
  });

  it('input cut off at max_tokens is answered, does not run, and the calls before it do', async () => {
    const calls = [
      { name: 'echo', input: { text: 'whole' } },
      { name: 'echo', input: { text: 'a very long text that is cut off' } },
    ];
    const { end, events, client } = await run([reply.toolUse(calls, { fault: { kind: 'max_tokens', keep: 20 } })]);
    expect(end).toMatchObject({ stop: 'max_tokens', continues: true });
    expect(end.results[0]?.content).toBe('whole');
    expect(end.results[1]).toMatchObject({
      is_error: true,
      content: expect.stringMatching(
        /was cut off: the reply ended with max_tokens after 20 characters.*did not run.*shorter input.*\{"text":"a very long/s,
      ) as string,
    });
    expect(pick(events, 'tool').find(({ event }) => event.type === 'failed')?.event).toMatchObject({
      type: 'failed',
      phase: 'input',
      error: { name: 'ToolInputCutOffError' },
    });
    expect(await complaint(client, end.history)).toBe('');
  });

  it('a cut-off input that looks whole does not run either', async () => {
    const fault = { kind: 'max_tokens', keep: 1000 } as const;
    const { end } = await run([reply.toolUse([{ name: 'echo', input: { text: 'x' } }], { fault })]);
    expect(end.results).toMatchObject([{ is_error: true }]);
  });

  it('onMaxTokens: end runs nothing, answers everything, and does not go on', async () => {
    const calls = [
      { name: 'echo', input: { text: 'whole' } },
      { name: 'echo', input: { text: 'cut' } },
    ];
    const fault = { kind: 'max_tokens' } as const;
    const { end, client } = await run([reply.toolUse(calls, { fault })], { onMaxTokens: 'end' });
    expect(end).toMatchObject({ stop: 'max_tokens', continues: false });
    expect(end.results).toMatchObject([
      { is_error: true, content: 'The tool "echo" did not run: the reply ended with max_tokens.' },
      { is_error: true, content: expect.stringContaining('cut off') as string },
    ]);
    expect(await complaint(client, end.history)).toBe('');
  });

  it.each(['end_turn', 'stop_sequence', 'model_context_window_exceeded'] as const)(
    '%s ends, and calls in it are answered',
    async (stop) => {
      const content = [
        { type: 'text' as const, text: 'so far' },
        { type: 'tool_use' as const, name: 'echo', input: { text: 'x' } },
      ];
      const { end, client } = await run([reply.message({ content, stop_reason: stop })]);
      expect(end).toMatchObject({ stop, continues: false, results: [{ is_error: true }] });
      expect(await complaint(client, end.history)).toBe('');
    },
  );

  it('pause_turn goes on with the reply sent back unchanged', async () => {
    const content = [{ type: 'text' as const, text: 'searching' }];
    const { end } = await run([reply.message({ content, stop_reason: 'pause_turn' })]);
    expect(end).toMatchObject({ stop: 'pause_turn', continues: true, results: [] });
    expect(end.history.at(-1)).toMatchObject({ role: 'assistant', content: [{ text: 'searching' }] });
  });

  it('a refused reply is told, but stays out of the history', async () => {
    const { end, client } = await run([
      reply.message({
        content: [
          { type: 'text', text: 'I' },
          { type: 'tool_use', name: 'echo', input: {} },
        ],
        stop_reason: 'refusal',
      }),
    ]);
    expect(end).toMatchObject({ stop: 'refusal', continues: false, results: [], history: [hello] });
    expect(end.message.content).toHaveLength(2);
    expect(await complaint(client, end.history)).toBe('');
  });

  it('an empty reply, and blank texts, stay out of the history', async () => {
    expect((await run([reply.message({ content: [], stop_reason: 'end_turn' })])).end.history).toEqual([hello]);
    const content = [
      { type: 'text' as const, text: ' ' },
      { type: 'text' as const, text: 'x' },
    ];
    const { end, client } = await run([reply.message({ content, stop_reason: 'end_turn' })]);
    expect(end.history.at(-1)).toMatchObject({ content: [{ text: 'x' }] });
    expect(await complaint(client, end.history)).toBe('');
  });

  it('thinking goes back unchanged; thinking that was cut off does not go back', async () => {
    const thinking = { type: 'enabled' as const, budget_tokens: 1024 };
    const { end, client } = await run([reply.toolUse([{ name: 'echo', input: { text: 'x' } }], { thinking: 'hmm, let me see' })], {
      thinking,
      max_tokens: 2000,
    });
    expect(end.history[1]).toMatchObject({
      content: [{ type: 'thinking', thinking: 'hmm, let me see', signature: 'sig_0001' }, { type: 'tool_use' }],
    });
    expect(await complaint(client, end.history)).toBe('');
    const cut = await run([reply.message({ content: [{ type: 'thinking', thinking: 'a long thought' }], fault: { kind: 'max_tokens' } })]);
    expect(cut.end).toMatchObject({ stop: 'max_tokens', continues: false, history: [hello] });
  });

  it('the same id twice is two calls with ids of their own', async () => {
    const calls = [1, 2].map((n) => ({ id: 'toolu_same', name: 'echo', input: { text: String(n) } }));
    const { end, client } = await run([reply.toolUse(calls)]);
    expect(end.results).toMatchObject([
      { tool_use_id: 'toolu_same', content: '1' },
      { tool_use_id: 'toolu_same_2', content: '2' },
    ]);
    expect(await complaint(client, end.history)).toBe('');
  });

  it('an id that an earlier turn has used gets another', async () => {
    const chat = conversation([hello]);
    const calls = [{ id: 'toolu_x', name: 'echo', input: { text: 'x' } }];
    const { client } = await start([reply.toolUse(calls), reply.toolUse(calls), reply.text('fine')]);
    for (let i = 0; i < 2; i++) await lastValueFrom(turn({ client, ...ask, messages: chat, tools: [echo] }));
    expect(await complaint(client, chat.messages)).toBe('');
    expect(JSON.stringify(chat.messages)).toContain('toolu_x_2');
  });

  it('an input that is no object is answered, and goes back as an empty object', async () => {
    const { end, client } = await run([reply.toolUse([{ name: 'echo', input: ['x'] }])]);
    expect(end.results).toMatchObject([{ is_error: true, content: expect.stringContaining('expected object, received array') as string }]);
    expect(await complaint(client, end.history)).toBe('');
  });

  it('passes every other parameter to the API, and the tools as the API wants them', async () => {
    const web = { type: 'web_search_20250305' as const, name: 'web_search' as const };
    const { server } = await run([reply.text('x')], {
      system: 'be brief',
      metadata: { user_id: 'u' },
      tool_choice: { type: 'auto' },
      tools: [echo, web],
    });
    expect(server.requests[0]?.body).toEqual({
      model: 'claude-test',
      max_tokens: 200,
      messages: [hello],
      stream: true,
      system: 'be brief',
      metadata: { user_id: 'u' },
      tool_choice: { type: 'auto' },
      tools: [echo.definition.toApi(), web],
    });
  });

  it('is cold: each subscription starts from the given messages', async () => {
    const { client, server } = await start(() => reply.text('again'));
    const messages = [hello];
    const once = turn({ client, ...ask, messages });
    await lastValueFrom(once);
    await lastValueFrom(once);
    expect(messages).toEqual([hello]);
    expect(server.requests.map(({ body }) => (body as { messages: unknown[] }).messages.length)).toEqual([1, 1]);
  });

  it('a model error is the error of the turn, as it is, and the history stays as it was', async () => {
    const chat = conversation([hello]);
    const { client } = await start([reply.error(429), reply.text('x', { fault: { kind: 'fin', after: 3 } })]);
    await expect(lastValueFrom(turn({ client, ...ask, messages: chat }))).rejects.toMatchObject({ status: 429 });
    await expect(lastValueFrom(turn({ client, ...ask, messages: chat }))).rejects.toMatchObject({ name: 'StreamTruncatedError' });
    expect(chat).toMatchObject({ messages: [hello], busy: false });
  });

  it('its calls see its path, and a deadline above', async () => {
    const seen: unknown[] = [];
    const look = tool({
      name: 'look',
      description: '',
      input: z.object({}),
      run: (_, { path, scope, depth, id }) => seen.push(path, scope.remaining() <= 500, depth, id),
    });
    const { client } = await start([reply.toolUse([{ name: 'look', input: {} }])]);
    await lastValueFrom(turn({ client, ...ask, tools: [look] }).pipe(failWithin(500, { label: 'turn' })));
    expect(seen).toEqual([['turn', 'look'], true, 0, 'toolu_0001']);
  });

  it('an aborted signal ends it with the reason, and nothing is sent when it was aborted before', async () => {
    const { client, server } = await start([reply.text('x', { fault: { kind: 'stall', after: 2 } })]);
    const controller = new AbortController();
    const events = lastValueFrom(turn({ client, ...ask, signal: controller.signal })).catch((error: unknown) => error);
    await server.when(() => server.requests[0]?.events === 2);
    controller.abort('stop');
    const error = await events;
    if (!isScopeCancelledError(error)) throw error;
    expect(error.reason).toEqual({ kind: 'signal', reason: 'stop' });
    const again = await lastValueFrom(turn({ client, ...ask, signal: controller.signal })).catch((each: unknown) => each);
    expect(isScopeCancelledError(again)).toBe(true);
    expect(server.stats().requests).toBe(1);
  });

  it('onScope hands out its scope, which can cancel it quietly', async () => {
    const { client, server } = await start([reply.text('x', { fault: { kind: 'stall', after: 2 } })]);
    let scope: Scope | undefined;
    const events = lastValueFrom(turn({ client, ...ask, onScope: (each) => (scope = each) }).pipe(toArray()));
    await server.when(() => server.requests[0]?.events === 2);
    await sleep(10);
    expect(scope?.dump().calls).toMatchObject([{ label: 'messages.create', state: 'running' }]);
    scope?.cancel();
    expect(await events).toHaveLength(2);
    await server.when(({ closedByClient }) => closedByClient === 1);
  });

  it('results go to the model as they are', async () => {
    const source = { type: 'base64', media_type: 'image/png', data: 'AA==' } as const;
    const picture = tool({ name: 'picture', description: '', input: z.object({}), run: () => [{ type: 'image', source }] });
    const { end, client } = await run([reply.toolUse([{ name: 'picture', input: {} }])], { tools: [picture] });
    expect(end.results[0]?.content).toEqual([{ type: 'image', source }]);
    expect(await complaint(client, end.history)).toBe('');
  });

  it.each<[string, object, RegExp]>([
    ['client', { client: {} }, /^turn: client must be an Anthropic client/],
    ['messages', { messages: 'hello' }, /^turn: messages must be an array or a conversation/],
    ['tools', { tools: echo }, /^turn: tools must be an array/],
    ['tools', { tools: [() => 1] }, /^turn: tools must be made with tool\(\)/],
    ['tools', { tools: [null] }, /^turn: tools must be made with tool\(\)/],
    ['tools', { tools: [echo, echo] }, /^turn: tools must have names of their own, and two are called "echo"/],
    ['tools', { tools: [echo, { ...echo.definition.toApi() }] }, /two are called "echo"/],
    ['concurrency', { concurrency: 0 }, /^turn: concurrency must be/],
    ['onMaxTokens', { onMaxTokens: 'stop' }, /^turn: onMaxTokens must be one of "continue", "end"/],
    ['maxResultChars', { maxResultChars: 0 }, /^turn: maxResultChars/],
    ['graceMs', { graceMs: -1 }, /^turn: graceMs/],
    ['idleMs', { idleMs: -1 }, /^turn: idleMs/],
    ['within', { within: {} }, /^turn: within/],
  ])('refuses a wrong %s', async (_, wrong, expected) => {
    const { client } = await start([]);
    expect(() => turn({ client, ...ask, ...wrong })).toThrow(expected);
  });
});

describe('conversation', () => {
  it('is continued by a turn, and can be added to between turns', async () => {
    const chat = conversation([hello]);
    const { client, server } = await start([reply.text('hi'), reply.text('fine')]);
    await lastValueFrom(turn({ client, ...ask, messages: chat }));
    chat.add({ role: 'user', content: 'how are you?' });
    await lastValueFrom(turn({ client, ...ask, messages: chat }));
    expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
    expect((server.requests[1]?.body as { messages: unknown }).messages).toEqual(chat.messages.slice(0, 3));
  });

  it('is continued by one at a time', async () => {
    const chat = conversation([hello]);
    const { client, server } = await start([reply.text('x', { fault: { kind: 'stall', after: 1 } }), reply.text('y')]);
    const first = turn({ client, ...ask, messages: chat }).subscribe();
    await server.when(() => server.requests[0]?.events === 1);
    expect(chat.busy).toBe(true);
    const error = await lastValueFrom(turn({ client, ...ask, messages: chat })).catch((each: unknown) => each);
    expect(isConversationBusyError(error)).toBe(true);
    expect(() => chat.add(hello)).toThrow(/being continued/);
    expect(chat.busy).toBe(true);
    first.unsubscribe();
    expect(chat.busy).toBe(false);
    await lastValueFrom(turn({ client, ...ask, messages: chat }));
    expect(chat.messages).toHaveLength(2);
  });

  it('hands out arrays of its own', () => {
    const given = [hello];
    const chat = conversation(given);
    chat.messages.push(hello);
    given.push(hello);
    expect(chat.messages).toEqual([hello]);
    expect(conversation().messages).toEqual([]);
    expect(() => conversation('hello' as never)).toThrow(/^conversation: messages must be an array/);
  });

  it('is valid and truthful at every moment of a turn', async () => {
    const chat = conversation([hello]);
    const seen: string[] = [];
    const slow = tool({ name: 'slow', description: '', input: z.object({}), effect: 'none', run: () => sleep(30) });
    const calls = [
      { name: 'echo', input: { text: 'done' } },
      { name: 'wait', input: { ms: 1000 } },
      { name: 'slow', input: {} },
      { name: 'echo', input: { text: 'queued' } },
    ];
    const { client } = await start([reply.toolUse(calls)]);
    const results = (): string[] => lastToolResults({ messages: chat.messages }).map(({ text }) => text);
    const run = turn({ client, ...ask, messages: chat, tools: [echo, wait, slow], concurrency: 2 }).subscribe(({ type }) => {
      if (type === 'model') seen.push(String(chat.messages.length));
    });
    await sleep(80);
    expect(new Set(seen)).toEqual(new Set(['1']));
    expect(results()).toEqual([
      'done',
      'The tool "wait" was started and has not finished yet. It may have completed, check before repeating it.',
      'The call completed without output.',
      'queued',
    ]);
    expect(await complaint(client, chat.messages)).toBe('');
    run.unsubscribe();
    expect(results()[1]).toBe('The tool "wait" was stopped before it finished. It may have completed, check before repeating it.');
    expect(await complaint(client, chat.messages)).toBe('');
    await sleep(1000);
  });

  it('tells which calls did not run', async () => {
    const chat = conversation([hello]);
    const calls = [1, 2, 3].map(() => ({ name: 'wait', input: { ms: 60 } }));
    const { client } = await start([reply.toolUse(calls)]);
    const run = turn({ client, ...ask, messages: chat, tools: [wait], concurrency: 1 });
    await lastValueFrom(run.pipe(takeWhile(({ type }) => type !== 'tool')), { defaultValue: undefined });
    const texts = lastToolResults({ messages: chat.messages }).map(({ text }) => text);
    expect(texts).toEqual(calls.map(() => 'The tool "wait" did not run.'));
    expect(await complaint(client, chat.messages)).toBe('');
  });
});
