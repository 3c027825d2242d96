import { firstValueFrom, lastValueFrom, Subject, tap, toArray } from 'rxjs';
import { ApprovalGate, FleetBudget, guard, isGateError, RetryGate, Semaphore } from 'rxfleet';
import {
  agent,
  conversation,
  messageStream,
  modelGuard,
  tool,
  turn,
  type AgentEvent,
  type TurnEvent,
  type UsageRecord,
} from 'rxfleet/agents';
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

const read = (ms: number) =>
  tool({
    name: 'read',
    description: 'reads',
    effect: 'none',
    input: z.object({ key: z.string() }),
    run: ({ key }, { signal }) =>
      new Promise<string>((resolve, reject) => {
        const timer = setTimeout(() => resolve(`value of ${key}`), ms);
        signal.addEventListener('abort', () => {
          clearTimeout(timer);
          reject(signal.reason as Error);
        });
      }),
  });
const calls = ['a', 'b', 'c'].map((key) => ({ name: 'read', input: { key } }));
const toolKinds = (events: readonly (TurnEvent | AgentEvent)[]): string[] =>
  events.flatMap((each) => (each.type === 'tool' ? [each.event.type] : []));

describe('tools that start early', () => {
  it('a group whose time is up while the reply is still written does not hang the turn: later calls are answered as well', async () => {
    const { client } = await start([reply.toolUse(calls, { pace: { eventMs: 40 } })]);
    const events = await lastValueFrom(turn({ ...ask, client, tools: [read(10_000)], timeouts: { group: 30 } }).pipe(toArray()));
    const end = events.at(-1) as TurnEvent & { type: 'turn' };
    expect(end.results).toHaveLength(3);
    expect(end.results.every(({ is_error, content }) => is_error === true && JSON.stringify(content).includes('30 ms'))).toBe(true);
    expect(toolKinds(events).filter((kind) => kind === 'cancelled')).toHaveLength(3);
  }, 3_000);

  it('what a refusal stops is told: nothing is lost silently', async () => {
    const script = [{ ...reply.toolUse(calls.slice(0, 2), { pace: { eventMs: 15 } }), stop_reason: 'refusal' as const }];
    const { client } = await start(script);
    const events = await lastValueFrom(turn({ ...ask, client, tools: [read(10_000)] }).pipe(toArray()));
    expect(toolKinds(events)).toEqual(['started', 'cancelled']);
  });

  it('max_tokens with onMaxTokens "end": every call has one end, and the history is whole', async () => {
    const script = [{ ...reply.toolUse(calls, { pace: { eventMs: 15 } }), stop_reason: 'max_tokens' as const }];
    const { client } = await start(script);
    const events = await lastValueFrom(turn({ ...ask, client, tools: [read(10_000)], onMaxTokens: 'end' }).pipe(toArray()));
    const ends = events.flatMap((each) =>
      each.type === 'tool' && ['result', 'failed', 'cancelled'].includes(each.event.type) ? [each.event.id] : [],
    );
    expect(new Set(ends).size).toBe(3);
    expect(ends).toHaveLength(3);
    const end = events.at(-1) as TurnEvent & { type: 'turn' };
    await client.messages.countTokens({ model: 'm', messages: [...end.history, hello] });
  });
});

describe('usage records', () => {
  const records = (): { seen: UsageRecord[]; usage: { next: (record: UsageRecord) => void } } => {
    const seen: UsageRecord[] = [];
    return { seen, usage: { next: (record) => void seen.push(record) } };
  };

  it('an onResponse that throws is no request that was never sent', async () => {
    const { seen, usage } = records();
    const { client } = await start([reply.text('hello')]);
    const onResponse = (): never => {
      throw new Error('mine');
    };
    await expect(lastValueFrom(messageStream(client, ask, { usage, onResponse }))).rejects.toThrow();
    expect(seen).toMatchObject([{ phase: 'truncated', exact: false }]);
  });

  it.each(['abort', 'drain'] as const)('an observer that throws keeps no connection open (%s)', async (onCancel) => {
    quiet();
    quiet = () => undefined;
    const problems: unknown[] = [];
    const note = (problem: unknown): void => void problems.push(problem);
    const before = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', note);
    process.on('unhandledRejection', note);
    try {
      const { client, server } = await start([
        reply.text('hello there', { fault: { kind: onCancel === 'drain' ? 'fin' : 'stall', after: 3 } }),
      ]);
      const usage = {
        next: (): never => {
          throw new Error('mine');
        },
      };
      await firstValueFrom(messageStream(client, ask, { usage, onCancel }));
      await sleep(300);
      expect(server.stats().open).toBe(0);
      expect(problems.map(String)).toEqual(['Error: mine']);
    } finally {
      process.removeListener('uncaughtException', note);
      process.removeListener('unhandledRejection', note);
      for (const each of before) process.on('uncaughtException', each);
    }
  });

  it('one for each attempt of a retry, whatever became of it, and each attempt is reserved and settled once', async () => {
    const { seen, usage } = records();
    const budget = new FleetBudget({ name: 'fleet', usd: '1' });
    const prices = { 'claude-test': { input: 1_000_000, output: 5_000_000, cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 } };
    const settled: string[] = [];
    budget.events$.subscribe(({ type }) => settled.push(type));
    const retry = new RetryGate({ baseMs: 1, jitterMs: 0 });
    const { client } = await start([reply.error(500), reply.error(529), reply.text('hello')]);
    await lastValueFrom(messageStream(client, ask, { usage, guard: modelGuard({ retry, budget, prices }) }));
    expect(seen.map(({ phase, attempt }) => [phase, attempt])).toEqual([
      ['failed', 1],
      ['failed', 2],
      ['final', 3],
    ]);
    expect(settled.filter((type) => type === 'admitted')).toHaveLength(3);
    expect(settled.filter((type) => type === 'settled')).toHaveLength(3);
    expect(budget.snapshot().calls).toMatchObject({ reserved: 0 });
  });
});

describe('inbox$', () => {
  it('does not come between a reply that is paused and its continuation', async () => {
    const inbox$ = new Subject<string>();
    const seen: unknown[] = [];
    const { client } = await start((request) => {
      seen.push(request.messages.map(({ role }) => role).join(' '));
      return seen.length === 1 ? { ...reply.text('searching'), stop_reason: 'pause_turn' as const } : reply.text('done');
    });
    const running = agent({ ...ask, client, inbox$ }).pipe(
      tap((event) => {
        if (event.type === 'turn' && event.turn === 1) inbox$.next('and this');
      }),
      toArray(),
    );
    const events = await lastValueFrom(running);
    expect(events.filter(({ type }) => type === 'message')).toMatchObject([{ turn: 2 }]);
    expect(seen[1]).toBe('user assistant');
    expect(seen[2]).toBe('user assistant assistant user');
  });
});

describe('a reply that was paused', () => {
  it('and is not continued leaves no call of the API without a result behind', async () => {
    const search = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: {}, caller: { type: 'direct' } } as const;
    const paused = reply.message({ content: [{ type: 'text', text: 'searching' }, search], stop_reason: 'pause_turn' });
    const { client } = await start([paused, reply.text('done')]);
    const chat = conversation([hello]);
    await lastValueFrom(agent({ ...ask, client, messages: chat, maxTurns: 1 }));
    expect(chat.messages.at(-1)?.content).toMatchObject([{ type: 'text' }, { type: 'server_tool_use' }]);
    const before = chat.messages;
    chat.add({ role: 'user', content: 'never mind' });
    expect(chat.messages[0]).toBe(before[0]);
    expect(chat.messages.slice(1)).toMatchObject([
      { role: 'assistant', content: [{ type: 'text', text: 'searching' }] },
      { role: 'user', content: 'never mind' },
    ]);
    expect(await lastValueFrom(agent({ ...ask, client, messages: chat }))).toMatchObject({ text: 'done' });
  });
});

describe('shared gates', () => {
  it('a sub-agent that queues for the permit which its own tool call holds errors with the path, and the agent goes on', async () => {
    const semaphore = new Semaphore({ name: 'model', limit: 1 });
    const { client } = await start((request) => {
      const last = JSON.stringify(request.messages.at(-1));
      return last.includes('tool_result') ? reply.text('done') : reply.toolUse([{ name: 'ask_other', input: {} }]);
    });
    const other = tool({
      name: 'ask_other',
      description: 'd',
      input: z.object({}),
      run: async (_input, { scope }) => {
        await sleep(1);
        return lastValueFrom(agent({ ...ask, client, name: 'inner', within: scope, modelGuard: guard({ semaphore }) }));
      },
    });
    const events = await lastValueFrom(
      agent({ ...ask, client, name: 'outer', tools: [other], toolGuard: guard({ semaphore }) }).pipe(toArray()),
    );
    const failed = events.find((each) => each.type === 'tool' && each.event.type === 'failed') as never as {
      event: { error: Error & { path?: unknown } };
    };
    expect(isGateError(failed.event.error) && failed.event.error.code).toBe('REENTRANT_ACQUIRE');
    expect(failed.event.error.message).toContain('outer');
    expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
  }, 3_000);

  it('an approval that is left and given later lets a second run of the same reply go at once', async () => {
    const approvals = new ApprovalGate({ name: 'desk' });
    const made: string[] = [];
    const send = tool({
      name: 'send',
      description: 'd',
      input: z.object({ to: z.string() }),
      needsApproval: true,
      run: ({ to }) => {
        made.push(to);
        return 'sent';
      },
    });
    const script = (request: { messages: readonly unknown[] }) =>
      JSON.stringify(request.messages.at(-1)).includes('tool_result')
        ? reply.text('done')
        : reply.toolUse([{ name: 'send', input: { to: 'ann' }, id: 'toolu_same' }]);
    const { client } = await start(script);
    await new Promise<void>((resolve) => {
      const running = agent({ ...ask, client, tools: [send], approvals }).subscribe((event) => {
        if (event.type !== 'tool' || event.event.type !== 'approval') return;
        setTimeout(() => {
          running.unsubscribe();
          resolve();
        });
      });
    });
    expect(approvals.pending()).toMatchObject([{ id: 'toolu_same', left: true }]);
    expect(approvals.approve('toolu_same', { input: { to: 'bob' } })).toBe(true);
    expect(await lastValueFrom(agent({ ...ask, client, tools: [send], approvals }))).toMatchObject({ text: 'done' });
    expect(made).toEqual(['bob']);
    expect(approvals.snapshot()).toMatchObject({ pending: [], remembered: 0 });
    expect(conversation([hello]).busy).toBe(false);
  });
});
