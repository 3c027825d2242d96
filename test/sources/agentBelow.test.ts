import { filter, lastValueFrom, map, tap, toArray, type Observable } from 'rxjs';
import { ApprovalGate, DepthGate, FleetBudget, guard, KeyedLock, type Scope } from 'rxfleet';
import {
  agent,
  modelGuard,
  tool,
  type AgentBelow,
  type AgentEvent,
  type AgentOptions,
  type AnyTool,
  type ToolRequest,
  type UsageRecord,
} from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type MessagesRequest } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask as asking, sleep, start, watchProcess } from './harness.js';

const ask = { ...asking, model: 'claude-opus-4-5' };
let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

type Client = Awaited<ReturnType<typeof start>>['client'];

/** Which agent a request is of: its first message says. */
const taskOf = ({ messages: [first] }: MessagesRequest): string => (typeof first?.content === 'string' ? first.content : '');
const delegating = (task: string) => ({ name: 'delegate', input: { task } });
const said = (task: string) => [{ role: 'user' as const, content: task }];

/** A tool that gives a task to another agent, which has it as well. */
function delegate(
  client: Client,
  options: Partial<AgentOptions> = {},
  seen?: (events: Observable<AgentEvent>) => Observable<AgentEvent>,
): AnyTool {
  const self: AnyTool = tool({
    name: 'delegate',
    description: 'starts an agent',
    input: z.object({ task: z.string() }),
    effect: 'none',
    run: ({ task }, { scope }) => {
      const below = agent({
        client,
        ...ask,
        ...options,
        name: task,
        messages: said(task),
        within: scope,
        tools: [self, ...(options.tools ?? [])],
      });
      return (seen?.(below) ?? below).pipe(
        filter((event) => event.type === 'done'),
        map(({ text }) => text),
      );
    },
  });
  return self;
}

const below = (events: readonly AgentEvent[]): AgentBelow[] => events.flatMap((event) => (event.type === 'agent' ? [event] : []));
const line = ({ agent: n, parent, path, depth, event }: AgentBelow): string =>
  `${parent}>${n} ${path.at(-1)} ${depth} ${event.type}${event.type === 'tool' ? ` ${event.event.type}` : event.type === 'ended' ? ` ${event.how}` : ''}`;

describe('what happens in agents below', () => {
  /** root starts a and b, a starts c. */
  const family = (request: MessagesRequest) => {
    if (lastToolResults(request).length > 0) return reply.text(`${taskOf(request)} is done`);
    if (taskOf(request) === 'root') return reply.toolUse([delegating('a'), delegating('b')]);
    return taskOf(request) === 'a' ? reply.toolUse([delegating('c')]) : reply.text(`${taskOf(request)} is done`);
  };

  it('comes out at every agent above, once, with numbers that make a tree, and without pieces of replies', async () => {
    const { client } = await start(family);
    const within = new Map<string, AgentEvent[]>();
    const tools = [
      delegate(client, {}, (events) => {
        const seen: AgentEvent[] = [];
        return events.pipe(tap((event) => seen.push(event) === 1 && within.set(String(within.size), seen)));
      }),
    ];
    const events = await lastValueFrom(agent({ client, ...ask, messages: said('root'), name: 'root', tools }).pipe(toArray()));
    const lines = below(events).map(line);
    for (const name of ['a', 'b', 'c'])
      expect(lines.filter((each) => each.includes(` ${name} `) && each.endsWith('started') && !each.includes('tool'))).toHaveLength(1);
    const of = (name: string) => lines.filter((each) => each.split(' ')[1] === name).map((each) => each.replace(/^\S+ \S+ /, ''));
    expect(of('b')).toEqual(['2 started', '2 turn', '2 done', '2 ended completed']);
    expect(of('a')).toEqual(['2 started', '2 tool started', '2 tool result', '2 turn', '2 turn', '2 done', '2 ended completed']);
    expect(of('c')).toEqual(['3 started', '3 turn', '3 done', '3 ended completed']);
    const numbers = new Map(below(events).map((each) => [each.path.at(-1), each]));
    expect(numbers.get('a')?.parent).toBe(0);
    expect(numbers.get('c')?.parent).toBe(numbers.get('a')?.agent);
    expect(new Set(below(events).map(({ agent: n }) => n))).toEqual(new Set([1, 2, 3]));
    const [ofA] = [...within.values()].filter((each) => below(each).length > 0);
    expect(new Set(below(ofA ?? []).map(({ path }) => path.at(-1)))).toEqual(new Set(['c']));
    expect(events.at(-1)?.type).toBe('done');
  });

  it('a failure of one is told with its error, and the agent above goes on', async () => {
    const { client } = await start((request) =>
      taskOf(request) === 'a'
        ? reply.error(400)
        : lastToolResults(request).length > 0
          ? reply.text('so be it')
          : reply.toolUse([delegating('a')]),
    );
    const events = await lastValueFrom(agent({ client, ...ask, messages: said('root'), tools: [delegate(client)] }).pipe(toArray()));
    const [, end] = below(events);
    expect(end?.event).toMatchObject({ type: 'ended', how: 'failed', error: { status: 400 } });
    expect(events.at(-1)).toMatchObject({ type: 'done', text: 'so be it' });
  });

  it('one that is cancelled on its own is told with the reason', async () => {
    const { client } = await start((request) =>
      taskOf(request) === 'a'
        ? reply.text('never', { pace: { eventMs: 5_000 } })
        : lastToolResults(request).length > 0
          ? reply.text('so be it')
          : reply.toolUse([delegating('a')]),
    );
    const tools = [delegate(client, { timeouts: { workflow: 40 } })];
    const events = await lastValueFrom(agent({ client, ...ask, messages: said('root'), tools }).pipe(toArray()));
    const ends = below(events).filter(({ event }) => event.type === 'ended');
    expect(ends.map(({ event }) => event)).toMatchObject([{ how: 'cancelled', reason: { kind: 'deadline', ms: 40 } }]);
  });

  it('whoever leaves at such an event stops the whole tree', async () => {
    const { client, server } = await start((request) =>
      taskOf(request) === 'c' ? reply.text('never', { pace: { eventMs: 5_000 } }) : family(request),
    );
    const scopes: Scope[] = [];
    const seen: string[] = [];
    const running = agent({
      client,
      ...ask,
      messages: said('root'),
      tools: [delegate(client)],
      onScope: (scope) => scopes.push(scope),
    }).subscribe((event) => {
      if (event.type !== 'agent') return;
      seen.push(line(event));
      if (event.path.at(-1) === 'c') running.unsubscribe();
    });
    await new Promise((resolve) => running.add(() => resolve(undefined)));
    await scopes[0]!.closed;
    expect(seen.at(-1)).toMatch(/ c 3 started$/);
    await server.whenIdle();
    expect(server.stats().open).toBe(0);
  });
});

describe('what agents below inherit', () => {
  const once = (request: MessagesRequest) =>
    lastToolResults(request).length > 0 || taskOf(request) !== 'root'
      ? reply.text('done')
      : reply.toolUse([delegating('a'), delegating('b')]);

  it('the guard of requests and with it the budget, and who is told of usage', async () => {
    const { client, server } = await start(once);
    const budget = new FleetBudget({ name: 'fleet', usd: '5' });
    const records: UsageRecord[] = [];
    const lead = { client, ...ask, messages: said('root'), name: 'root', tools: [delegate(client)] };
    await lastValueFrom(agent({ ...lead, modelGuard: modelGuard({ budget }), usage: { next: (record) => records.push(record) } }));
    expect(server.stats().requests).toBe(4);
    expect(budget.snapshot().calls.spent).toBe(4);
    expect(records.map(({ path }) => path.find((label) => label === 'a' || label === 'b') ?? 'root').sort()).toEqual([
      'a',
      'b',
      'root',
      'root',
    ]);
    expect(budget.snapshot().microUsd.reserved).toBe(0);
  });

  it('their own, where they have one', async () => {
    const { client } = await start(once);
    const [fleet, own] = [new FleetBudget({ name: 'fleet', usd: '5' }), new FleetBudget({ name: 'own', usd: '0.000001' })];
    const lead = {
      client,
      ...ask,
      messages: said('root'),
      name: 'root',
      tools: [delegate(client, { modelGuard: modelGuard({ budget: own }) })],
    };
    const events = await lastValueFrom(agent({ ...lead, modelGuard: modelGuard({ budget: fleet }) }).pipe(toArray()));
    const failures = below(events).flatMap(({ event }) => (event.type === 'ended' ? [event.how] : []));
    expect(failures).toEqual(['failed', 'failed']);
    expect(own.snapshot().microUsd.spent).toBe(0);
  });

  it('the people who are asked and the order of resources, but not what the tool around them stands behind', async () => {
    const log: string[] = [];
    const edit = tool({
      name: 'edit',
      description: 'edits',
      input: z.object({ by: z.string() }),
      resources: () => ({ writes: ['file'] }),
      needsApproval: ({ by }) => by === 'b',
      run: async ({ by }) => {
        log.push(`${by}+`);
        await sleep(10);
        log.push(`${by}-`);
        return 'ok';
      },
    });
    const { client } = await start((request) =>
      lastToolResults(request).length > 0
        ? reply.text('done')
        : taskOf(request) === 'root'
          ? reply.toolUse([delegating('a'), delegating('b')])
          : reply.toolUse([{ name: 'edit', input: { by: taskOf(request) } }]),
    );
    const approvals = new ApprovalGate({ name: 'boss' });
    const asked: string[] = [];
    approvals.events$.subscribe((event) => {
      if (event.type !== 'approval' || event.outcome !== 'asked') return;
      asked.push(event.id);
      approvals.approve(event.id);
    });
    const passed: string[] = [];
    const lock = new KeyedLock({ name: 'files' });
    const toolGuard = guard<ToolRequest>({
      ask: (request) => {
        passed.push(request.name);
        return {};
      },
    });
    const lead = { client, ...ask, messages: said('root'), name: 'root', tools: [delegate(client, { tools: [edit] })] };
    const end = await lastValueFrom(agent({ ...lead, approvals, toolGuard, lock }));
    expect(end.type).toBe('done');
    expect(asked).toHaveLength(1);
    expect(passed).toEqual(['delegate', 'delegate']);
    expect(log.join(' ')).toMatch(/^(\w)\+ \1- (\w)\+ \2-$/);
  });
});

describe('limits of a tree of agents', () => {
  /** Every agent gives its task on, as long as it may. */
  async function grow(
    limits: AgentOptions['limits'],
    below: AgentOptions['limits'],
    task = 'root',
  ): Promise<{ started: string[]; refused: string[] }> {
    let n = 0;
    const { client } = await start((request) =>
      lastToolResults(request).length > 0 || n > 20 ? reply.text('done') : reply.toolUse([delegating(`a${++n}`)]),
    );
    const lead = agent({ client, ...ask, messages: said(task), name: task, tools: [delegate(client, { limits: below })], limits });
    const events = await lastValueFrom(lead.pipe(toArray()));
    const steps = events.flatMap((event) => (event.type === 'agent' ? [event] : []));
    return {
      started: steps.flatMap(({ event }) => (event.type === 'started' ? [event.name] : [])),
      refused: events
        .map((event) => (event.type === 'agent' ? event.event : event))
        .flatMap((event) => (event.type === 'tool' && event.event.type === 'failed' ? [(event.event.error as Error).name] : [])),
    };
  }
  it('hold for all of it, whatever limits an agent below brings', async () => {
    const { started, refused } = await grow({ maxDepth: 2 }, { maxDepth: 100, maxTotal: 100 });
    expect([started, refused]).toEqual([['a1', 'a2'], ['DepthLimitError']]);
    expect((await grow({ maxTotal: 3 }, { maxTotal: 3 })).started).toEqual(['a1', 'a2']);
  });

  it('those of an agent below count from where it starts, and hold as well', async () => {
    expect((await grow({ maxDepth: 5 }, { maxDepth: 0 })).started).toEqual(['a1']);
    expect((await grow(undefined, { maxDepth: 1 })).started).toEqual(['a1', 'a2']);
  });

  it('an agent that another limit refused is not counted', async () => {
    const outer = new DepthGate({ name: 'outer', maxTotal: 10 });
    const { started } = await grow(outer, { maxDepth: 0 });
    expect(started).toEqual(['a1']);
    expect(outer.snapshot()).toMatchObject({ live: 0, total: 2 });
  });

  it('cycles are those of agents, not of the tools that start them', async () => {
    const cyclic = (names: string[]) => {
      let n = 0;
      return start((request) =>
        lastToolResults(request).length > 0 || names[n] === undefined
          ? reply.text('done')
          : reply.toolUse([delegating(names[n++] as string)]),
      );
    };
    for (const [names, expected] of [
      [
        ['a', 'b', 'c'],
        ['a', 'b', 'c'],
      ],
      [
        ['a', 'b', 'root'],
        ['a', 'b'],
      ],
    ] as const) {
      const { client } = await cyclic([...names]);
      const lead = agent({ client, ...ask, messages: said('root'), name: 'root', tools: [delegate(client)], limits: { cycles: 'refuse' } });
      const events = await lastValueFrom(lead.pipe(toArray()));
      expect(below(events).flatMap(({ event }) => (event.type === 'started' ? [event.name] : []))).toEqual(expected);
    }
  });
});
