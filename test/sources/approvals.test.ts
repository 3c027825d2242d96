import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { lastValueFrom, tap, toArray } from 'rxjs';
import { ApprovalGate } from 'rxfleet';
import { agent, conversation, tool, turn, type AgentEvent, type TurnEvent, type TurnOptions } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
const made: unknown[] = [];
beforeEach(() => {
  made.length = 0;
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

const approving = { description: 'asks first', needsApproval: true } as const;
const mail = tool({
  ...approving,
  name: 'mail',
  input: z.object({ to: z.string() }),
  run: (input) => {
    made.push(input);
    return `sent to ${input.to}`;
  },
});
const wipe = tool({
  ...approving,
  name: 'wipe',
  input: z.object({ disk: z.string().regex(/^disk/) }),
  run: (input) => {
    made.push(input);
    return 'wiped';
  },
});
const pay = tool({
  ...approving,
  name: 'pay',
  input: z.object({ usd: z.number().transform((usd) => usd * 100) }),
  run: (input) => {
    made.push(input);
    return 'paid';
  },
});
const tools = [mail, wipe, pay];

type Calls = readonly { readonly id?: string; readonly name: string; readonly input: object }[];
const replying = (calls: Calls) =>
  reply.message({ content: calls.map((call, n) => ({ type: 'tool_use', id: `call_${n}`, ...call })) } as never);
const asksFor = (event: AgentEvent): string[] => (event.type === 'tool' && event.event.type === 'approval' ? [event.event.request] : []);
const resultsOf = (events: readonly AgentEvent[]) =>
  (events.filter(({ type }) => type === 'turn').at(-1) as TurnEvent & { type: 'turn' }).results;

/** Subscribes and leaves when somebody is asked. */
const leaveWhenAsked = (options: TurnOptions): Promise<string> =>
  new Promise((resolve) => {
    const running = agent(options).subscribe((event) => {
      const [id] = asksFor(event);
      if (id === undefined) return;
      setTimeout(() => {
        running.unsubscribe();
        resolve(id);
      });
    });
  });

describe('approvals of calls', () => {
  it('may be given in the very event that asks for them', async () => {
    const desk = new ApprovalGate();
    const { client } = await start([
      replying([
        { name: 'mail', input: { to: 'a' } },
        { name: 'mail', input: { to: 'b' } },
      ]),
    ]);
    const given: boolean[] = [];
    const events: AgentEvent[] = [];
    await new Promise<void>((resolve, reject) => {
      turn({ client, ...ask, tools, approvals: desk }).subscribe({
        next: (event) => {
          events.push(event);
          for (const id of asksFor(event)) given.push(desk.approve(id));
        },
        error: reject,
        complete: resolve,
      });
    });
    expect(given).toEqual([true, true]);
    expect(resultsOf(events).map(({ content }) => content)).toEqual(['sent to a', 'sent to b']);
  });

  it('a call that leaves the event that asks for it is asked no more', async () => {
    const desk = new ApprovalGate();
    const { client } = await start([replying([{ name: 'mail', input: { to: 'a' } }])]);
    await new Promise<void>((resolve) => {
      const running = turn({ client, ...ask, tools, approvals: desk }).subscribe((event) => {
        if (asksFor(event).length === 0) return;
        running.unsubscribe();
        resolve();
      });
    });
    await sleep(1);
    expect(desk.pending()).toMatchObject([{ id: 'call_0', left: true }]);
    expect(made).toEqual([]);
  });

  it('are not asked for before the reply is complete', async () => {
    const desk = new ApprovalGate();
    const look = tool({ ...approving, name: 'look', effect: 'none', input: z.object({}), run: () => 'seen' });
    const calls = [
      { name: 'look', input: {} },
      { name: 'look', input: {} },
    ];
    const { client } = await start([reply.toolUse(calls, { pace: { eventMs: 5 }, fault: { kind: 'fin', after: 8 } })]);
    const events: AgentEvent[] = [];
    const broken = new Promise(
      (resolve) =>
        void turn({ client, ...ask, tools: [look], approvals: desk }).subscribe({ next: (event) => events.push(event), error: resolve }),
    );
    expect(((await broken) as Error).name).toBe('StreamTruncatedError');
    expect([events.flatMap(asksFor), desk.pending()]).toEqual([[], []]);
  });

  it('one that was kept is for that call alone, even where another comes under the same id', async () => {
    for (const decidedFirst of [true, false]) {
      made.length = 0;
      const desk = new ApprovalGate();
      let n = 0;
      const { client } = await start(() =>
        replying([n++ === 0 ? { name: 'mail', input: { to: 'bob' } } : { name: 'wipe', input: { disk: 'disk1' } }]),
      );
      const options = { client, ...ask, tools, approvals: desk };
      expect(await leaveWhenAsked(options)).toBe('call_0');
      if (decidedFirst) expect(desk.approve('call_0')).toBe(true);
      const asked: string[] = [];
      const end = lastValueFrom(turn(options).pipe(tap((event) => asked.push(...asksFor(event)))));
      await expect.poll(() => asked).toEqual([decidedFirst ? 'call_0' : 'call_0-1']);
      expect(desk.pending().filter(({ left }) => !left)).toMatchObject([{ id: asked[0], title: 'wipe', input: { disk: 'disk1' } }]);
      desk.approve(asked[0] as string);
      await end;
      expect(made).toEqual([{ disk: 'disk1' }]);
    }
  });

  it('a conversation that is continued finds the decision, though the model asks under another id', async () => {
    for (const before of [true, false]) {
      made.length = 0;
      const desk = new ApprovalGate();
      const chat = conversation([hello]);
      let n = 0;
      const { client } = await start((request) =>
        lastToolResults(request).some(({ text }) => text.startsWith('sent'))
          ? reply.text('done')
          : replying([{ id: `toolu_${n++}`, name: 'mail', input: { to: 'bob' } }]),
      );
      const options = { client, ...ask, messages: chat, tools, approvals: desk };
      const asked = await leaveWhenAsked(options);
      expect(desk.pending()).toMatchObject([{ id: asked, left: true }]);
      if (before) expect(desk.approve(asked)).toBe(true);
      chat.add({ role: 'user', content: 'go on' });
      const ids: string[] = [];
      const end = lastValueFrom(agent(options).pipe(toArray()));
      if (!before) {
        await expect.poll(() => desk.pending()).toMatchObject([{ id: 'toolu_1', left: false }]);
        expect([desk.approve(asked), desk.approve('toolu_1')]).toEqual([false, true]);
      }
      for (const event of await end) ids.push(...asksFor(event));
      expect(ids).toEqual(before ? [] : ['toolu_1']);
      expect(made).toEqual([{ to: 'bob' }]);
      expect(desk.snapshot()).toMatchObject({ pending: [], remembered: 0 });
    }
  });

  it('calls of different conversations may have the same id at one desk, and are decided each for itself', async () => {
    const desk = new ApprovalGate();
    const { client } = await start((request) => replying([{ name: 'mail', input: { to: JSON.stringify(request.messages[0]?.content) } }]));
    const asked: string[][] = [];
    const ends = ['ann', 'bob', 'cy'].map((name, n) => {
      const mine: string[] = (asked[n] = []);
      const messages = [{ role: 'user' as const, content: name }];
      return lastValueFrom(
        turn({ client, ...ask, messages, tools, approvals: desk }).pipe(
          tap((event) => mine.push(...asksFor(event))),
          toArray(),
        ),
      );
    });
    await expect.poll(() => desk.pending()).toHaveLength(3);
    expect(asked.flat().sort()).toEqual(['call_0', 'call_0-1', 'call_0-2']);
    desk.approve(asked[1]?.[0] as string);
    desk.deny(asked[0]?.[0] as string);
    desk.approve(asked[2]?.[0] as string);
    const said = (await Promise.all(ends)).map((events) => resultsOf(events)[0]?.content);
    expect(said).toEqual([expect.stringContaining('was denied'), 'sent to "bob"', 'sent to "cy"']);
  });

  it('a decision for one history is none for another, though id, tool and input are the same', async () => {
    const desk = new ApprovalGate();
    const { client } = await start(() => replying([{ name: 'mail', input: { to: 'bob' } }]));
    const options = (content: string) => ({ client, ...ask, messages: [{ role: 'user' as const, content }], tools, approvals: desk });
    const mine = options('mine');
    desk.approve(await leaveWhenAsked(mine));
    await leaveWhenAsked(options('yours'));
    expect(made).toEqual([]);
    await lastValueFrom(turn(mine));
    expect(made).toEqual([{ to: 'bob' }]);
  });

  it('what is kept does not hold on to the agent that asked', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const desk = new ApprovalGate();
    const { client } = await start(() => replying([{ name: 'mail', input: { to: 'bob' } }]));
    const gone: WeakRef<object>[] = [];
    for (const approve of [true, false]) {
      await (async () => {
        const messages = [{ role: 'user' as const, content: 'x'.repeat(1000) }];
        gone.push(new WeakRef(messages));
        const id = await leaveWhenAsked({ client, ...ask, messages, tools, approvals: desk });
        if (approve) desk.approve(id);
      })();
    }
    await expect
      .poll(() => {
        collect();
        return gone.map((each) => each.deref());
      })
      .toEqual([undefined, undefined]);
    expect(desk.snapshot()).toMatchObject({ pending: [{ left: true }], remembered: 1 });
  });

  it('so does one that an agent inside of it was asking for', async () => {
    const desk = new ApprovalGate();
    const chat = conversation([hello]);
    let n = 0;
    const { client } = await start((request) => {
      const lead = request.messages[0]?.content === hello.content;
      if (lastToolResults(request).some(({ text }) => text.startsWith('sent') || text === 'done')) return reply.text('done');
      return replying([{ id: `toolu_${n++}`, ...(lead ? { name: 'delegate', input: {} } : { name: 'mail', input: { to: 'bob' } }) }]);
    });
    const delegate = tool({
      name: 'delegate',
      description: 'gives a task away',
      input: z.object({}),
      run: (_input, { scope }) =>
        agent({ client, ...ask, name: 'helper', messages: [{ role: 'user', content: 'write' }], tools: [mail], within: scope }),
    });
    const options = { client, ...ask, messages: chat, tools: [delegate], approvals: desk };
    const asked = new Promise<string>((resolve) => desk.events$.subscribe((event) => event.type === 'approval' && resolve(event.id)));
    const running = agent(options).subscribe();
    const id = await asked;
    running.unsubscribe();
    expect(desk.approve(id)).toBe(true);
    chat.add({ role: 'user', content: 'go on' });
    await lastValueFrom(agent(options));
    expect(made).toEqual([{ to: 'bob' }]);
    expect(desk.snapshot()).toMatchObject({ pending: [], remembered: 0 });
  });

  it('also one that was started inside of a turn', async () => {
    const desk = new ApprovalGate();
    const chat = conversation([hello]);
    const { client } = await start((request) => {
      if (lastToolResults(request).some(({ text }) => text.startsWith('sent') || text === 'done')) return reply.text('done');
      const lead = request.messages[0]?.content === hello.content;
      return replying([lead ? { name: 'delegate', input: {} } : { name: 'mail', input: { to: 'bob' } }]);
    });
    const delegate = tool({
      name: 'delegate',
      description: 'gives a task away',
      input: z.object({}),
      run: (_input, { scope }) => agent({ client, ...ask, messages: [{ role: 'user', content: 'write' }], tools: [mail], within: scope }),
    });
    const options = { client, ...ask, messages: chat, tools: [delegate], approvals: desk };
    const asked = new Promise<string>((resolve) => desk.events$.subscribe((event) => event.type === 'approval' && resolve(event.id)));
    const running = turn(options).subscribe();
    const id = await asked;
    running.unsubscribe();
    expect(desk.approve(id)).toBe(true);
    chat.add({ role: 'user', content: 'go on' });
    await lastValueFrom(turn(options));
    expect([made, desk.snapshot().remembered]).toEqual([[{ to: 'bob' }], 0]);
  });

  it('another conversation does not, though it asks for the same', async () => {
    const desk = new ApprovalGate();
    let n = 0;
    const { client } = await start(() => replying([{ id: `toolu_${n++}`, name: 'mail', input: { to: 'bob' } }]));
    const options = { client, ...ask, tools, approvals: desk };
    desk.approve(await leaveWhenAsked({ ...options, messages: conversation([hello]) }));
    await leaveWhenAsked({ ...options, messages: conversation([hello]) });
    expect(made).toEqual([]);
    expect(desk.snapshot()).toMatchObject({ pending: [{ id: 'toolu_1' }], remembered: 1 });
  });

  it('a call that was answered because the time was up, or another one failed, is asked about no more', async () => {
    const broken = tool({
      name: 'broken',
      description: '',
      input: z.object({}),
      run: async () => {
        await sleep(20);
        throw new Error('boom');
      },
    });
    const calls: Calls = [
      { name: 'mail', input: { to: 'a' } },
      { name: 'broken', input: {} },
    ];
    for (const [options, error] of [
      [{ timeouts: { group: 40 } }, undefined],
      [{ timeouts: { turn: 40 } }, 'DeadlineExceededError'],
      [{ onToolError: 'failFast' }, 'Error'],
    ] as const) {
      const desk = new ApprovalGate();
      const { client } = await start([replying(calls)]);
      const end = lastValueFrom(
        turn({ client, ...ask, messages: conversation([hello]), tools: [mail, broken], approvals: desk, ...options }),
      );
      expect(
        await end.then(
          () => undefined,
          (problem: unknown) => (problem as Error).name,
        ),
      ).toBe(error);
      expect(desk.snapshot()).toMatchObject({ pending: [], remembered: 0 });
    }
    expect(made).toEqual([]);
  });

  it('an edit is of what the model wrote, and goes through the schema once', async () => {
    for (const [edit, expected] of [
      [undefined, { usd: 500 }],
      [{ usd: 6 }, { usd: 600 }],
    ] as const) {
      made.length = 0;
      const desk = new ApprovalGate();
      const { client } = await start([replying([{ name: 'pay', input: { usd: 5 } }])]);
      const end = lastValueFrom(turn({ client, ...ask, tools, approvals: desk }).pipe(toArray()));
      await expect.poll(() => desk.pending()).toMatchObject([{ input: { usd: 5 }, editable: true }]);
      desk.approve('call_0', edit === undefined ? {} : { input: edit });
      const started = (await end).flatMap((event) => (event.type === 'tool' && event.event.type === 'started' ? [event.event.input] : []));
      expect([made, started]).toEqual([[expected], [expected]]);
      const told = resultsOf(await end)[0]?.content;
      expect(told).toBe(edit === undefined ? 'paid' : 'A person changed the input before the tool ran: {"usd":6}\npaid');
    }
  });
});
