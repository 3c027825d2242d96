import { AsyncLocalStorage } from 'node:async_hooks';
import { from, BehaviorSubject, lastValueFrom, NEVER, of, repeat, ReplaySubject, Subject, tap, throwError, toArray } from 'rxjs';
import { agent, conversation, isConversationBusyError, tool, type AgentEvent, type AgentMessage } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
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

const slow = { pace: { eventMs: 10 } };
const joined = (events: readonly AgentEvent[]) =>
  events.flatMap((event) =>
    event.type === 'message' ? [`${event.turn} ${JSON.stringify(event.content)}${event.ignored ? ' (ignored)' : ''}`] : [],
  );
const doneOf = (events: readonly AgentEvent[]) => events.at(-1) as AgentEvent & { type: 'done' };
const said = (text: string) => ({ role: 'user', content: text });

describe('inbox$', () => {
  it('what is there before the first turn joins it', async () => {
    const { client, server } = await start((request) => reply.text(`${request.messages.length} messages`));
    const events = await lastValueFrom(agent({ client, ...ask, inbox$: of('one', 'two') }).pipe(toArray()));
    expect(joined(events)).toEqual(['0 "one"', '0 "two"']);
    expect(doneOf(events).text).toBe('3 messages');
    expect(server.stats().requests).toBe(1);
  });

  it('an agent with nothing to answer waits until somebody says something', async () => {
    const inbox$ = new Subject<string>();
    const { client, server } = await start(() => reply.text('hello'));
    const chat = conversation();
    const end = lastValueFrom(agent({ client, ...ask, messages: chat, inbox$ }).pipe(toArray()));
    inbox$.next('  ');
    await sleep(20);
    expect(server.stats().requests).toBe(0);
    inbox$.next('hi');
    expect(joined(await end)).toEqual(['0 "  " (ignored)', '0 "hi"']);
    expect(chat.messages[0]).toEqual(said('hi'));
  });

  it('one that is left while it waits asks nobody', async () => {
    const { client, server } = await start(() => reply.text('hello'));
    const inbox$ = new Subject<string>();
    const running = agent({ client, ...ask, messages: [], inbox$ }).subscribe();
    running.unsubscribe();
    expect(inbox$.observed).toBe(false);
    await sleep(20);
    expect(server.stats().requests).toBe(0);
  });

  it('nor does it ask the model to answer its own reply', async () => {
    const inbox$ = new Subject<string>();
    const { client, server } = await start(() => reply.text('hello'));
    const chat = conversation([hello, { role: 'assistant', content: 'and you?' }]);
    const end = lastValueFrom(agent({ client, ...ask, messages: chat, inbox$ }).pipe(toArray()));
    await sleep(20);
    expect(server.stats().requests).toBe(0);
    inbox$.next('fine');
    expect(joined(await end)).toEqual(['0 "fine"']);
  });

  it('what has nothing in it does not join, and is told; a conversation takes none of it', async () => {
    const { client, server } = await start(() => reply.text('ok'));
    const chat = conversation([hello]);
    const blank: AgentMessage['content'][] = ['', ' \n', [], [{ type: 'text', text: ' ' }]];
    const events = await lastValueFrom(agent({ client, ...ask, messages: chat, inbox$: of(...blank) }).pipe(toArray()));
    expect(joined(events)).toHaveLength(4);
    expect(joined(events).every((each) => each.endsWith('(ignored)'))).toBe(true);
    expect([server.stats().requests, chat.messages.length]).toEqual([1, 2]);
    expect(() => chat.add({ role: 'user', content: '' })).toThrow('messages must have something in them');
    await lastValueFrom(agent({ client, ...ask, messages: (chat.add(hello), chat) }));
  });

  it('what is said while the agent waits for its turn at the conversation is not lost', async () => {
    const { client } = await start(() => reply.text('ok', slow));
    const chat = conversation([hello]);
    const first = lastValueFrom(agent({ client, ...ask, messages: chat }));
    const inbox$ = new Subject<string>();
    const second = lastValueFrom(agent({ client, ...ask, messages: chat, inbox$, whenBusy: 'wait' }).pipe(toArray()));
    inbox$.next('and this');
    await first;
    expect(joined(await second)).toEqual(['0 "and this"']);
    expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
  });

  it('what nobody has read when the agent errors or is left is in the conversation, after a history that is valid', async () => {
    for (const leave of [false, true]) {
      const chat = conversation([hello]);
      const inbox$ = new Subject<string>();
      const { client } = await start([
        reply.text('a long reply', { ...slow, ...(!leave && { fault: { kind: 'fin', after: 4 } }) }),
        reply.text('ok'),
      ]);
      await new Promise<void>((resolve) => {
        const running = agent({ client, ...ask, messages: chat, inbox$ }).subscribe({
          next: (event) => {
            if (event.type !== 'text') return;
            inbox$.next('wait');
            if (leave) running.unsubscribe();
            if (leave) resolve();
          },
          error: () => resolve(),
        });
      });
      expect(chat.messages.at(-1)).toEqual(said('wait'));
      await lastValueFrom(agent({ client, ...ask, messages: chat }));
    }
  });

  it('what is read is read once, however it is told', async () => {
    const { client } = await start(() => reply.text('ok'));
    const replayed = new ReplaySubject<string>(1);
    replayed.next('x');
    for (const inbox$ of [new BehaviorSubject('x'), replayed, of('x')]) {
      const events = await lastValueFrom(agent({ client, ...ask, inbox$ }).pipe(toArray()));
      expect([joined(events), doneOf(events).unread]).toEqual([['0 "x"'], []]);
    }
    const broken = agent({ client, ...ask, inbox$: throwError(() => new Error('no line')) });
    await expect(lastValueFrom(broken)).rejects.toThrow('no line');
  });

  it('what is no content ends the agent, before the API sees it', async () => {
    const { client, server } = await start(() => reply.text('ok'));
    await expect(lastValueFrom(agent({ client, ...ask, inbox$: of(5 as unknown as string) }))).rejects.toThrow(
      'inbox$ must emit texts, or lists',
    );
    expect(server.stats().requests).toBe(0);
  });

  it('what the API would refuse does not join, and spoils nothing; blank parts of it are left out', async () => {
    const odd = [
      [{ type: 'tool_result', tool_use_id: 'toolu_9', content: 'x' }],
      [5],
      [null],
      [{ type: 'text' }],
      [{ type: 'nonsense' }],
    ] as never[];
    const captioned = [
      { type: 'text', text: '' },
      { type: 'text', text: 'hi' },
    ] as never;
    const { client } = await start((request) => reply.text(JSON.stringify(request.messages.at(-1)?.content)));
    const chat = conversation([hello]);
    const events = await lastValueFrom(agent({ client, ...ask, messages: chat, inbox$: from([...odd, captioned]) }).pipe(toArray()));
    expect(joined(events).map((each) => each.endsWith('(ignored)'))).toEqual([true, true, true, true, true, false]);
    expect(doneOf(events).text).toBe('[{"type":"text","text":"hi"}]');
  });

  it('the agent goes on in its own async context, whoever spoke first', async () => {
    const user = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const look = tool({ name: 'look', description: '', input: z.object({}), run: () => void seen.push(user.getStore()) });
    const { client } = await start((request) =>
      request.messages.length > 1 ? reply.text('ok') : reply.toolUse([{ name: 'look', input: {} }]),
    );
    const inbox$ = new Subject<string>();
    const end = user.run('owner', () =>
      lastValueFrom(agent({ client, ...ask, messages: [], tools: [look], inbox$ }).pipe(tap(() => seen.push(user.getStore())))),
    );
    user.run('visitor', () => inbox$.next('hi'));
    await end;
    expect(new Set(seen)).toEqual(new Set(['owner']));
  });

  it('a flood ends the agent', async () => {
    const { client } = await start(() => reply.text('ok', slow));
    let said = 0;
    const endless = of('x').pipe(
      repeat(),
      tap(() => said++),
    );
    await expect(lastValueFrom(agent({ client, ...ask, inbox$: endless }))).rejects.toThrow('more than 1000 messages');
    expect(said).toBeLessThan(1_010);
  });
});

describe('a conversation that was left', () => {
  it('is free at once, though a tool is still being stopped', async () => {
    const deaf = tool({ name: 'deaf', description: '', input: z.object({}), graceMs: 300, run: () => lastValueFrom(NEVER) });
    let n = 0;
    const { client } = await start(() => (n++ === 0 ? reply.toolUse([{ name: 'deaf', input: {} }]) : reply.text('ok')));
    for (const whenBusy of ['error', 'wait'] as const) {
      n = 0;
      const chat = conversation([hello]);
      const closed: Promise<unknown>[] = [];
      await new Promise<void>((resolve) => {
        const running = agent({ client, ...ask, messages: chat, tools: [deaf], onScope: (scope) => closed.push(scope.closed) }).subscribe(
          (event) => {
            if (event.type !== 'tool') return;
            setTimeout(() => {
              running.unsubscribe();
              resolve();
            });
          },
        );
      });
      expect(chat.busy).toBe(false);
      chat.add({ role: 'user', content: 'never mind' });
      const begun = performance.now();
      await lastValueFrom(agent({ client, ...ask, messages: chat, tools: [deaf], whenBusy }));
      expect(performance.now() - begun).toBeLessThan(250);
      await closed[0];
    }
  });

  it('is free when its end is told', async () => {
    const { client } = await start(() => reply.text('ok'));
    const chat = conversation([hello]);
    const next = agent({ client, ...ask, messages: chat }).pipe(tap((event) => event.type === 'done' && chat.add(hello)));
    await lastValueFrom(next);
    expect(chat.messages).toHaveLength(3);
  });

  it('those who wait come in one after the other, also when one leaves the line or is left at its first event', async () => {
    const { client } = await start(() => reply.text('ok', slow));
    const chat = conversation([hello]);
    const order: string[] = [];
    const run = (name: string) =>
      agent({ client, ...ask, messages: chat, whenBusy: 'wait' }).pipe(
        tap((event) => {
          if (event.type === 'model' && event.event.type === 'message_start') order.push(`${name}+`);
          if (event.type === 'done') order.push(`${name}-`);
        }),
      );
    const a = lastValueFrom(run('a'));
    const leaver = run('b').subscribe();
    const third = new Promise<void>((resolve) => {
      const running = run('c').subscribe(() => {
        running.unsubscribe();
        resolve();
      });
    });
    const d = lastValueFrom(run('d'));
    leaver.unsubscribe();
    const busy = await lastValueFrom(agent({ client, ...ask, messages: chat })).catch((error: unknown) => error);
    expect(isConversationBusyError(busy)).toBe(true);
    await Promise.all([a, third, d]);
    expect(order).toEqual(['a+', 'a-', 'c+', 'd+', 'd-']);
    expect(chat.busy).toBe(false);
  });
});
