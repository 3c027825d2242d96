import { AsyncLocalStorage } from 'node:async_hooks';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import {
  concat,
  connect,
  EMPTY,
  firstValueFrom,
  forkJoin,
  from,
  lastValueFrom,
  map,
  merge,
  NEVER,
  Observable,
  of,
  range,
  Subject,
  take,
  tap,
  throwError,
  timer,
  toArray,
  type ObservableInput,
} from 'rxjs';
import { ApprovalGate, guard, isDeadlineExceededError, isScopeCancelledError, scoped, Semaphore, takeWithin, type Scope } from 'rxfleet';
import {
  agent,
  foldMessage,
  fromMcp,
  fromTool,
  messageStream,
  tool,
  toolCalls,
  toToolResult,
  type AnyTool,
  type ToolEvent,
} from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { PlannedCall } from '../../src/sources/graphPlan.js';
import { toolGraphResults } from '../../src/sources/graphResults.js';
import type { GraphEvent } from '../../src/sources/graphRun.js';
import { toolGraph, type ToolGraphOptions } from '../../src/sources/toolGraph.js';
import { ask, hello, sleep, start } from './harness.js';
import { connect as connectTo, newServer } from './mcpHarness.js';
import { cleaning, failing, later, virtual, type Virtual } from '../support/virtual.js';

afterEach(expectNoOpenScopes);

const anything = z.object({}).loose();
type Input = Record<string, unknown>;

function made(name: string, run: (input: Input, scope: Scope) => unknown, options: { timeoutMs?: number; effect?: 'none' } = {}): AnyTool {
  return tool({ name, description: name, input: anything, ...options, run: (input, call) => run(input, call.scope) });
}

const echo = made('echo', (input) => input['v']);
const wait = made('wait', ({ ms, v }) => later(Number(ms), v));
const fail = made('fail', ({ ms, v }) => failing(Number(ms), v ?? new Error('boom')));
const slow = made('slow', ({ ms }, scope) => cleaning(scope, Number(ms)));
const stop = made('stop', (_input, scope) => (scope.cancel('enough'), NEVER));
const tools = [echo, wait, fail, slow, stop];

const call = (id: string, name: string, input: unknown = {}, dependsOn?: string[]): PlannedCall => ({ id, name, input, dependsOn });
const a = (ms: number, v: unknown = 1): PlannedCall => call('a', 'wait', { ms, v });

/** One letter for each event, in capitals when it is the last of its call: `a:s a:R`. */
const letter = {
  started: 's',
  waiting: 'w',
  conflict: 'x',
  progress: 'p',
  approval: 'q',
  result: 'R',
  failed: 'F',
  cancelled: 'C',
} as const;
const short = ({ id, type }: GraphEvent): string => `${id}:${letter[type]}`;
const graph = (plan: ObservableInput<PlannedCall>, options: Partial<ToolGraphOptions> = {}): Observable<GraphEvent> =>
  from(plan).pipe(toolGraph({ tools, ...options }));
const all = (plan: ObservableInput<PlannedCall>, options: Partial<ToolGraphOptions> = {}): Promise<GraphEvent[]> =>
  lastValueFrom(graph(plan, options).pipe(toArray()));
const told = async (plan: PlannedCall[], options: Partial<ToolGraphOptions> = {}): Promise<string> =>
  (await all(plan, options)).map(short).join(' ');
/** Subscribes, and tells at frame 100 what came when. */
function timed({ at, now }: Virtual, output: Observable<GraphEvent>, ...expected: string[]): void {
  const seen: string[] = [];
  const note = (what: string): void => void seen.push(`${what} ${now()}`);
  output.subscribe({
    next: (event) => note(short(event)),
    error: (error: unknown) => note(String(error)),
    complete: () => note('end'),
  });
  at(100, () => expect(seen).toEqual(expected));
}
const last = (events: readonly GraphEvent[], id: string): GraphEvent | undefined => events.findLast((event) => event.id === id);
const errorOf = (events: readonly GraphEvent[], id: string): unknown => (last(events, id) as { error?: unknown } | undefined)?.error;

describe('toolGraph', () => {
  it('runs each call as soon as all that it needs is there, and those that need nothing at once', () =>
    virtual((test) => {
      const plan = test.cold<PlannedCall>('xyz--|', {
        x: a(3),
        y: call('b', 'wait', { ms: 5, v: 2 }),
        z: call('c', 'wait', { ms: 2, v: ['$a', '$b'] }),
      });
      timed(test, graph(plan), 'a:s 0', 'b:s 1', 'a:R 3', 'b:R 6', 'c:s 6', 'c:R 8', 'end 8');
      test.expectSubscriptions(plan.subscriptions).toBe('^----!');
    }));

  it('puts outputs in the place of references, and tells the input with them', async () => {
    const events = await all([
      call('b', 'echo', { v: { whole: '$a', part: '$a.x[1]', text: 'is ${a.x[1]}' } }),
      call('a', 'echo', { v: { x: [1, 2] } }),
    ]);
    expect(last(events, 'b')).toEqual({
      type: 'result',
      id: 'b',
      name: 'echo',
      index: 0,
      output: { whole: { x: [1, 2] }, part: 2, text: 'is 2' },
    });
    expect(events.map(short).join(' ')).toBe('a:s a:R b:s b:R');
  });

  it('no call changes what another one gets', async () => {
    const spoil = made('spoil', (input) => {
      (input['o'] as Input)['x'] = 'spoiled';
      (input['part'] as unknown[]).push('spoiled');
    });
    const plan = [
      call('a', 'echo', { v: { x: 'good', list: [1] } }),
      call('spoil', 'spoil', { o: '$a', part: '$a.list' }),
      call('b', 'echo', { v: '$a' }, ['spoil']),
    ];
    const events = await all(plan, { tools: [echo, spoil] });
    for (const id of ['a', 'b']) expect(last(events, id)).toMatchObject({ type: 'result', output: { x: 'good', list: [1] } });
  });

  it('numbers in the place of ids are taken for texts', async () => {
    const plan = [
      { id: 1, name: 'echo', input: { v: 'x' } },
      { id: 2, name: 'echo', input: { v: 'then ${1}' }, dependsOn: [1] },
    ];
    const events = await all(plan as unknown as PlannedCall[]);
    expect(events.flatMap((event) => (event.type === 'result' ? [[event.id, event.output]] : []))).toEqual([
      ['1', 'x'],
      ['2', 'then x'],
    ]);
  });

  it.each(['no more than $1', "awk '{ print $1 }' log", 'SELECT * FROM t WHERE id = $1'])(
    'without braces a sign inside of a text refers to nothing, also where there is such a call: %s',
    async (text) => {
      const events = await all([call('1', 'fail', { ms: 0 }), call('2', 'echo', { v: text })]);
      expect(last(events, '2')).toMatchObject({ type: 'result', output: text });
    },
  );

  it('parts of what a tool from elsewhere puts out can be referred to, though it is text', async () => {
    const server = newServer();
    const content = (text: string, structuredContent: Record<string, unknown>) => ({
      content: [{ type: 'text' as const, text }],
      structuredContent,
    });
    const outputSchema = { sum: z.number() };
    server.registerTool('sum', { inputSchema: { a: z.number() }, outputSchema }, ({ a: sum }) => content(JSON.stringify({ sum }), { sum }));
    server.registerTool('told', { inputSchema: { a: z.number() }, outputSchema }, ({ a: sum }) => content(`It is ${sum}.`, { sum }));
    const { client } = await connectTo(server);
    const shout = betaZodTool({
      name: 'shout',
      description: 'Shouts.',
      inputSchema: z.object({ n: z.number() }),
      run: ({ n }) => JSON.stringify({ words: [`${n}!`] }),
    });
    const plan = [
      call('one', 'sum', { a: 2 }),
      call('two', 'told', { a: '$one.sum' }),
      call('three', 'shout', { n: '$two.sum' }),
      call('all', 'echo', { v: ['$one', '$two[0].text', '$three.words[0]', 'so ${three.words[0]}'] }),
      call('none', 'echo', { v: '$one.product' }),
    ];
    const events = await all(plan, { tools: [...(await firstValueFrom(fromMcp(client))), shout, echo] });
    expect(last(events, 'all')).toMatchObject({ output: ['{"sum":2}', 'It is 2.', '2!', 'so 2!'] });
    expect(errorOf(events, 'none')).toMatchObject({ name: 'UnknownReferenceError', missing: 'part', known: ['sum'] });
  });

  it('in a tool of an agent its people are asked, and its lock orders the calls; what is given comes first', async () => {
    const asked: string[] = [];
    const person = (name: string): ApprovalGate => {
      const gate = new ApprovalGate({ name });
      gate.events$.subscribe((event) => {
        if (event.type !== 'approval' || event.outcome !== 'asked') return;
        asked.push(name);
        queueMicrotask(() => gate.approve(event.id));
      });
      return gate;
    };
    let most = 0;
    let live = 0;
    const write = tool({
      name: 'write',
      description: 'Writes',
      input: anything,
      needsApproval: true,
      resources: () => ({ writes: ['file'] }),
      run: async () => {
        most = Math.max(most, ++live);
        await sleep(3);
        live--;
        return 'written';
      },
    });
    const own = person('own');
    const both = (way: string): PlannedCall[] => ['a', 'b'].map((id) => call(way + id, 'write'));
    const results = (events: Observable<ToolEvent>) => events.pipe(toArray(), map((each) => each.filter(({ type }) => type === 'result').length)); // prettier-ignore
    const ways: Record<string, (within: Scope) => Observable<number>> = {
      graph: (within) => results(from(both('graph')).pipe(toolGraph({ tools: write, within }))),
      given: (within) => results(from(both('given')).pipe(toolGraph({ tools: write, within, approvals: own }))),
      one: (within) => results(merge(...both('one').map((each) => fromTool(write, each, within)))),
    };
    const plan = tool({
      name: 'plan',
      description: 'Plans',
      input: z.object({ way: z.string() }),
      run: ({ way }, { scope }) => ways[way]!(scope),
    });
    const calls = Object.keys(ways).map((way) => ({ name: 'plan', input: { way } }));
    const { client } = await start((request) => {
      const answers = lastToolResults(request);
      return answers.length === 0 ? reply.toolUse(calls) : reply.text(answers.map(({ text }) => text).join());
    });
    const done = await lastValueFrom(agent({ ...ask, client, tools: [plan], approvals: person('shared') }));
    expect(done).toMatchObject({ type: 'done', text: '2,2,2' });
    expect(asked.sort()).toEqual(['own', 'own', 'shared', 'shared', 'shared', 'shared']);
    expect(most).toBe(1);
  });

  it('dependsOn waits without using the output', async () => {
    expect(await told([call('b', 'echo', {}, ['a']), call('a', 'echo')])).toBe('a:s a:R b:s b:R');
  });

  it('the input is checked by the schema of the tool once the outputs are in it', async () => {
    const add = tool({ name: 'add', description: '', input: z.object({ n: z.number() }), run: ({ n }) => n + 1 });
    const plan = [call('a', 'echo', { v: 1 }), call('b', 'add', { n: '$a' }), call('c', 'echo', { v: 'x' }), call('d', 'add', { n: '$c' })];
    const events = await all(plan, { tools: [echo, add] });
    expect(last(events, 'b')).toMatchObject({ type: 'result', output: 2 });
    expect(last(events, 'd')).toMatchObject({ type: 'failed', phase: 'input', error: { name: 'ToolInputError' }, effect: 'none' });
  });

  it('an empty plan completes, a plan that never ends keeps it open', () =>
    virtual(({ expectObservable, cold }) => {
      expectObservable(graph(EMPTY)).toBe('|');
      expectObservable(graph(cold('---|'))).toBe('---|');
      expectObservable(graph(NEVER), '-----!').toBe('-');
      expectObservable(graph(merge([a(2)], NEVER)).pipe(map(short)), '----!').toBe('s-r', { s: 'a:s', r: 'a:R' });
    }));

  it('one operator, two subscriptions, two plans of their own', async () => {
    const output = graph([a(1)]);
    expect(await Promise.all([lastValueFrom(output.pipe(toArray())), lastValueFrom(output.pipe(toArray()))])).toHaveLength(2);
  });

  it('no more calls at once than concurrency, and what waits for others takes no place', () =>
    virtual((test) => {
      const plan = [call('c', 'wait', { ms: 1, v: '$b' }), a(3), call('b', 'wait', { ms: 2 }), call('d', 'wait', { ms: 1 })];
      const expected = ['a:s 0', 'a:R 3', 'b:s 3', 'b:R 5', 'd:s 5', 'd:R 6', 'c:s 6', 'c:R 7', 'end 7'];
      timed(test, graph(plan, { concurrency: 1 }), ...expected);
    }));

  it('a guard is passed with the input as it is made', async () => {
    const seen: unknown[] = [];
    const semaphore = new Semaphore({ limit: 1 });
    const rule = guard<{ readonly input: unknown }>({ semaphore, ask: ({ input }) => (seen.push(input), {}) });
    await all([call('a', 'echo', { v: 1 }), call('b', 'echo', { v: '$a' })], { guard: rule });
    expect(seen).toEqual([{ v: 1 }, { v: 1 }]);
    expect(semaphore.snapshot()).toMatchObject({ inUse: 0 });
  });

  it('timeoutMs limits each call, and those that need it fail', () =>
    virtual((test) => {
      const plan = [call('a', 'slow', { ms: 2 }), call('b', 'echo', { v: '$a' }), call('c', 'echo')];
      timed(test, graph(plan, { timeoutMs: 4 }), 'a:s 0', 'c:s 0', 'c:R 0', 'a:F 6', 'b:F 6', 'end 6');
    }));

  it('a call comes in the async context that it was given in, whoever sets it free', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const look = made('look', async ({ v }) => seen.push([v, storage.getStore()]));
    const plan = new Subject<PlannedCall>();
    const done = all(plan, { tools: [look, wait] });
    storage.run('first', () => plan.next(call('b', 'look', { v: 'b' }, ['a'])));
    storage.run('second', () => plan.next(call('c', 'look', { v: 'c' }, ['b'])));
    storage.run('third', () => plan.next(a(1)));
    plan.complete();
    await done;
    expect(seen).toEqual([
      ['b', 'first'],
      ['c', 'second'],
    ]);
  });

  it('a call that is fed from the handler of an event finds its place', async () => {
    const plan = new Subject<PlannedCall>();
    const seen: string[] = [];
    const ended = new Promise<void>((resolve) =>
      plan.pipe(toolGraph({ tools })).subscribe({
        next: (event) => {
          seen.push(short(event));
          if (short(event) === 'a:R') plan.next(call('b', 'echo', { v: '$a' }));
          if (short(event) === 'b:R') plan.complete();
        },
        complete: resolve,
      }),
    );
    plan.next(call('a', 'echo', { v: 1 }));
    await ended;
    expect(seen.join(' ')).toBe('a:s a:R b:s b:R');
  });
});

describe('what cannot run is answered', () => {
  it('a failed call fails those that need it, the rest goes on', async () => {
    const events = await all([
      call('a', 'fail', { ms: 1 }),
      call('b', 'echo', { v: '$a' }),
      call('c', 'echo', {}, ['b']),
      call('d', 'wait', { ms: 3 }),
    ]);
    expect(events.map(short).join(' ')).toBe('a:s d:s a:F b:F c:F d:R');
    expect(errorOf(events, 'c')).toMatchObject({ name: 'DependencyFailedError', dependency: 'b', root: 'a' });
    expect(last(events, 'c')).toMatchObject({ phase: 'input', effect: 'none' });
  });

  it('a cancelled call does so too', async () => {
    const events = await all([call('a', 'stop'), call('b', 'echo', {}, ['a']), call('c', 'echo')]);
    expect(last(events, 'a')?.type).toBe('cancelled');
    expect(errorOf(events, 'b')).toMatchObject({ dependency: 'a', cause: { name: 'ScopeCancelledError' } });
    expect(last(events, 'c')?.type).toBe('result');
  });

  it('a cycle as soon as it is closed, though the plan goes on', () =>
    virtual(({ cold, expectObservable }) => {
      const plan = cold<PlannedCall>('x-y-----|', { x: call('a', 'echo', { v: '$b' }), y: call('b', 'echo', { v: '$a' }) });
      expectObservable(graph(plan).pipe(map(short))).toBe('--(ba)--|', { a: 'a:F', b: 'b:F' });
    }));

  it('references that never come, when the plan ends', () =>
    virtual(({ cold, expectObservable }) => {
      const plan = cold<PlannedCall>('x-y--|', { x: call('a', 'echo', { v: '$nope' }), y: call('b', 'echo', {}, ['a']) });
      expectObservable(graph(plan).pipe(map(short))).toBe('-----(ab|)', { a: 'a:F', b: 'b:F' });
    }));

  it('an unknown tool at once, also when it needs what never comes', async () => {
    const events = await all(concat([call('a', 'nope', { v: '$z' })], timer(5).pipe(map(() => call('b', 'echo', {}, ['a'])))));
    expect(errorOf(events, 'a')).toMatchObject({ name: 'UnknownToolError', known: ['echo', 'wait', 'fail', 'slow', 'stop'] });
    expect(errorOf(events, 'b')).toMatchObject({ dependency: 'a', root: 'a' });
  });

  it('the second call with an id, told apart by its index', async () => {
    const events = await all([call('a', 'echo', { v: 1 }), call('a', 'echo', { v: 2 })]);
    expect(events.map(({ index, type }) => [index, type])).toEqual([
      [0, 'started'],
      [0, 'result'],
      [1, 'failed'],
    ]);
  });

  it('a part that an output does not have', async () => {
    const events = await all([
      call('a', 'echo', { v: { x: 1 } }),
      call('b', 'echo', { v: '$a.constructor' }),
      call('c', 'echo', {}, ['b']),
    ]);
    expect(errorOf(events, 'b')).toMatchObject({ name: 'UnknownReferenceError', missing: 'part', known: ['x'] });
    expect(errorOf(events, 'c')).toMatchObject({ dependency: 'b' });
  });

  it.each([null, 5, {}, { id: 'x' }, { id: 'x', name: 'echo', input: {}, dependsOn: 5 }])('%j in the place of a call', async (bad) => {
    const events = await all([bad as unknown as PlannedCall, a(1)]);
    expect(errorOf(events.slice(0, 1), (events[0] as GraphEvent).id)).toMatchObject({ name: 'InvalidCallError' });
    expect(last(events, 'a')?.type).toBe('result');
  });

  it('what is no call is known by its id: calls that need it hear at once, though the plan goes on', () =>
    virtual((test) => {
      const plan = test.cold<unknown>('xy---', { x: { id: 'a', name: 5 }, y: call('b', 'echo', { v: '$a' }) });
      const heard: string[] = [];
      const subscription = graph(plan as Observable<PlannedCall>).subscribe((event) => {
        heard.push(`${short(event)} ${test.now()} ${(event as { error: Error }).error.name}`);
      });
      test.at(10, () => subscription.unsubscribe());
      test.at(100, () => expect(heard).toEqual(['a:F 0 InvalidCallError', 'b:F 1 DependencyFailedError']));
      test.expectSubscriptions(plan.subscriptions).toBe('^---------!');
    }));

  it('something that throws when it is looked at ends the graph, not the process', async () => {
    const bad = {
      get id(): string {
        throw new Error('no id');
      },
    };
    await expect(all([bad as PlannedCall])).rejects.toThrow('no id');
    const input = Object.defineProperty({}, 'v', { enumerable: true, get: () => JSON.parse('no') as unknown });
    expect(errorOf(await all([call('a', 'echo', input)]), 'a')).toMatchObject({ name: 'InvalidCallError' });
  });

  it('an output nested deeper than the schema can follow fails the call that uses it', async () => {
    const deep = made('deep', () => Array.from({ length: 100_000 }).reduce<unknown>((inner) => [inner], 1));
    const json = tool({ name: 'json', description: '', input: z.object({ v: z.json() }), run: () => 'ok' });
    const events = await all([call('a', 'deep'), call('b', 'json', { v: '$a' }), call('c', 'json', { v: 'x${a}' })], {
      tools: [deep, json],
    });
    expect(last(events, 'b')?.type).toBe('failed');
    expect(last(events, 'c')?.type).toBe('result');
  });
});

describe('ending', () => {
  const both = [call('a', 'slow', { ms: 3 }), call('b', 'echo', {}, ['a']), call('c', 'echo', {}, ['z'])];

  it('failFast stops the rest, answers it, and errors with what the call failed with once all has stopped', () =>
    virtual((test) => {
      const plan = concat([call('f', 'fail', { ms: 2, v: 'first' }), ...both], NEVER);
      timed(test, graph(plan, { policy: 'failFast' }), 'f:s 0', 'a:s 0', 'f:F 2', 'a:C 5', 'b:C 5', 'c:C 5', 'first 5');
    }));

  it('a plan that errors stops what runs, and the output errors with it', () =>
    virtual((test) => {
      const plan = concat(both, test.cold<never>('--#', {}, 'broken'));
      timed(test, graph(plan), 'a:s 0', 'a:C 5', 'b:C 5', 'c:C 5', 'broken 5');
    }));

  it('a signal, a scope above and the owner: everything is answered once it has stopped', () =>
    virtual(({ at, now }) => {
      for (const how of ['signal', 'within', 'cancel', 'deadline'] as const) {
        const controller = new AbortController();
        const seen: string[] = [];
        let group: Scope | undefined;
        let parent: Scope | undefined;
        const output = scoped((scope) => {
          parent = scope;
          return graph(concat(both, NEVER), { signal: controller.signal, within: scope, onScope: (own) => void (group = own) });
        });
        const direct = graph(concat(both, NEVER), { signal: controller.signal, onScope: (own) => void (group = own) });
        (how === 'within' ? output : direct).subscribe({
          next: (event) => seen.push(`${short(event)} ${now()}`),
          error: (error: unknown) =>
            seen.push(isScopeCancelledError(error) ? `cancelled: ${error.kind}` : isDeadlineExceededError(error) ? 'late' : String(error)),
          complete: () => seen.push('complete'),
        });
        at(2, () => {
          if (how === 'signal') controller.abort();
          else if (how === 'within') parent?.cancel();
          else if (how === 'cancel') group?.cancel();
          else group?.setDeadline(0);
        });
        const answers = ['a:C 5', 'b:C 5', 'c:C 5'];
        at(20, () => {
          if (how === 'within') expect(seen).toEqual(['a:s 0', 'complete']);
          else {
            const end = { signal: 'cancelled: signal', cancel: 'complete', deadline: 'late' }[how];
            expect(seen).toEqual(['a:s 0', ...answers, end]);
          }
        });
      }
    }));

  it('unsubscribing stops everything, and says nothing any more', () =>
    virtual(({ expectObservable, at, scheduler }) => {
      let group: Scope | undefined;
      let closedAt = -1;
      const onScope = (own: Scope): void => {
        group = own;
        own.closed$.subscribe(() => (closedAt = scheduler.now()));
      };
      expectObservable(graph(concat(both, NEVER), { onScope }).pipe(map(short)), '--!').toBe('s', { s: 'a:s' });
      at(10, () => {
        expect(closedAt).toBe(5);
        expect(group?.dump().state).toBe('closed');
      });
    }));

  it('what had started may have had an effect, unless its tool has none', async () => {
    const idle = made('idle', () => NEVER, { effect: 'none' });
    const broken = concat(
      [call('a', 'slow', { ms: 0 }), call('b', 'idle'), call('c', 'echo', {}, ['a'])],
      throwError(() => 'broken'),
    );
    const seen: GraphEvent[] = [];
    graph(broken, { tools: [slow, idle, echo] }).subscribe({ next: (event) => seen.push(event), error: () => {} });
    await new Promise((resolve) => void setTimeout(resolve, 5));
    const ends = seen.filter(({ type }) => type === 'cancelled');
    const reason = { kind: 'parent-cancelled', cause: { kind: 'source-error', error: 'broken' } };
    expect(ends).toEqual([
      { id: 'a', name: 'slow', index: 0, type: 'cancelled', ran: true, effect: 'unknown', reason },
      { id: 'b', name: 'idle', index: 1, type: 'cancelled', ran: true, effect: 'none', reason },
      { id: 'c', name: 'echo', index: 2, type: 'cancelled', ran: false, effect: 'none', reason },
    ]);
  });

  it('stopping the graph at `started` keeps the call from running, and its answer says so', () => {
    let ran = 0;
    const count = made('count', () => ++ran);
    let group: Scope | undefined;
    const seen: GraphEvent[] = [];
    graph([call('a', 'count')], { tools: count, onScope: (own) => void (group = own) }).subscribe((event) => {
      seen.push(event);
      group?.cancel();
    });
    expect(ran).toBe(0);
    expect(seen[1]).toMatchObject({ type: 'cancelled', ran: false, effect: 'none' });
  });

  it('leaving at `started` keeps the call from running', () => {
    let ran = 0;
    const count = made('count', () => ++ran);
    graph([call('a', 'count'), call('b', 'count')], { tools: count })
      .pipe(take(1))
      .subscribe();
    expect(ran).toBe(0);
  });

  it('takeWithin gives what there is in time', () =>
    virtual((test) => {
      const plan = [a(2), call('b', 'wait', { ms: 50, v: '$a' })];
      timed(test, graph(plan).pipe(takeWithin(5)), 'a:s 0', 'a:R 2', 'b:s 2', 'end 5');
    }));

  it('an endless synchronous plan is stopped by whoever leaves', () => {
    const seen: string[] = [];
    graph(range(0, 1e9).pipe(map((i) => call(String(i), 'echo'))))
      .pipe(take(4))
      .subscribe((event) => seen.push(short(event)));
    expect(seen).toEqual(['0:s', '0:R', '1:s', '1:R']);
  });

  it('an abandoned call says that it may have had an effect, and those that need it did not run', () =>
    virtual(({ at }) => {
      const seen: GraphEvent[] = [];
      const deaf = made('deaf', (_input, scope) => cleaning(scope, 10_000));
      const controller = new AbortController();
      let end: unknown;
      const plan = [call('a', 'deaf'), call('b', 'echo', {}, ['a'])];
      graph(plan, { tools: [deaf, echo], graceMs: 10, signal: controller.signal }).subscribe({
        next: (event) => seen.push(event),
        error: (error: unknown) => (end = error),
      });
      at(5, () => controller.abort());
      at(14, () => expect(seen).toHaveLength(1));
      at(16, () => {
        expect(seen.slice(1)).toMatchObject([
          { id: 'a', type: 'cancelled', ran: true, effect: 'unknown' },
          { id: 'b', type: 'cancelled', ran: false, effect: 'none' },
        ]);
        expect(isScopeCancelledError(end)).toBe(true);
      });
    }));
});

describe('options', () => {
  it.each([
    [undefined, TypeError],
    [{}, TypeError],
    [{ tools: 5 }, TypeError],
    [{ tools: [echo, echo] }, TypeError],
    [{ tools, concurrency: 0 }, RangeError],
    [{ tools, concurrency: '1' }, TypeError],
    [{ tools, policy: 'other' }, RangeError],
    [{ tools, guard: {} }, TypeError],
    [{ tools, timeoutMs: -1 }, RangeError],
    [{ tools, approvals: {} }, TypeError],
    [{ tools, lock: {} }, TypeError],
    [{ tools, within: {} }, TypeError],
    [{ tools, graceMs: NaN }, RangeError],
  ])('%j is refused at once', (options, kind) => {
    expect(() => toolGraph(options as never)).toThrow(kind);
    expect(() => toolGraph(options as never)).toThrow('toolGraph: ');
  });

  it('toolGraphResults checks maxChars', () => expect(() => toolGraphResults({ maxChars: 0 })).toThrow(RangeError));
});

describe('size', () => {
  const n = 10_000;
  const chain = [...Array(n).keys()].map((i) => call(`c${i}`, 'echo', { v: i === 0 ? 0 : `$c${i - 1}` }));

  it.each([
    ['in order', chain],
    ['backwards', [...chain].reverse()],
  ])('a chain of 10,000 synchronous calls, %s', async (_name, plan) => {
    const events = await all(plan);
    expect(events).toHaveLength(2 * n);
    expect(last(events, `c${n - 1}`)).toMatchObject({ type: 'result', output: 0 });
  });

  it('outputs that hold each other twice do not double', async () => {
    const twice = (n: number): PlannedCall => call(`n${n}`, 'echo', { v: n === 0 ? { x: 1 } : [`$n${n - 1}`, `$n${n - 1}`] });
    const events = await all(Array.from({ length: 200 }, (_, n) => twice(n)));
    let at = (last(events, 'n199') as { output?: unknown }).output;
    for (let n = 199; n > 0; n--) at = (at as unknown[])[n % 2];
    expect(at).toEqual({ x: 1 });
  });

  it('a chain of 10,000 whose beginning fails, and one that is a cycle', async () => {
    const bad = [...chain.slice(1), call('c0', 'fail', { ms: 0 })];
    expect((await all(bad)).filter(({ type }) => type === 'failed')).toHaveLength(n);
    const cycle = [...chain.slice(1), call('c0', 'echo', { v: `$c${n - 1}` })];
    expect((await all(cycle)).map(({ type }) => type)).toEqual(Array(n).fill('failed'));
  });

  it('10,000 calls at once are stopped at once', async () => {
    const seen: GraphEvent[] = [];
    const controller = new AbortController();
    const run = new Promise<unknown>((resolve) => {
      const never = made('never', () => NEVER);
      const plan = chain.map(({ id }) => call(id, 'never'));
      graph(plan, { tools: never, concurrency: Infinity, signal: controller.signal }).subscribe({
        next: (e) => seen.push(e),
        error: resolve,
      });
    });
    controller.abort();
    expect(isScopeCancelledError(await run)).toBe(true);
    expect(seen.filter(({ type }) => type === 'cancelled')).toHaveLength(n);
  });
});

describe('toolGraphResults', () => {
  const blocks = async (plan: ObservableInput<PlannedCall>, options: Partial<ToolGraphOptions> = {}) =>
    lastValueFrom(graph(plan, options).pipe(toolGraphResults()));

  it('one block for each call, in the order of the plan', async () => {
    const plan = [call('b', 'wait', { ms: 5, v: '$a' }), a(1, { x: 1 }), call('c', 'fail', { ms: 0 }), call('d', 'echo', {}, ['c'])];
    expect(await blocks(plan)).toEqual([
      { type: 'tool_result', tool_use_id: 'b', content: '{"x":1}' },
      { type: 'tool_result', tool_use_id: 'a', content: '{"x":1}' },
      { type: 'tool_result', tool_use_id: 'c', content: 'The tool "fail" failed: boom', is_error: true },
      {
        type: 'tool_result',
        tool_use_id: 'd',
        content: 'DependencyFailedError: The call "d" needs "c", which has no result: boom\nThe tool did not run.',
        is_error: true,
      },
    ]);
  });

  it('tells the model what to write instead of a reference that is none', async () => {
    const [block] = await blocks([call('a', 'echo', { v: '$100' })]);
    expect(block?.content).toContain('To say "$100" itself, write "$$100".');
    const [right] = await blocks([call('a', 'echo', { v: '$$100' })]);
    expect(right?.content).toBe('$100');
  });

  it('one block for an id that comes twice: the first', async () => {
    expect((await blocks([a(2, 'first'), call('a', 'echo')])).map(({ content }) => content)).toEqual(['first']);
  });

  it('none for what has no id: the API would refuse the whole message', async () => {
    const nameless = [{ name: 'echo', input: {} }, null, { id: {}, name: 'echo' }] as unknown as PlannedCall[];
    const answered = await blocks([...nameless, a(1)]);
    expect(answered).toEqual([{ type: 'tool_result', tool_use_id: 'a', content: '1' }]);
    const { client } = await start([]);
    const asking = { role: 'assistant' as const, content: [{ type: 'tool_use' as const, id: 'a', name: 'wait', input: {} }] };
    await client.messages.countTokens({ model: 'm', messages: [hello, asking, { role: 'user' as const, content: answered }] });
  });

  it('an empty plan has an empty answer', async () => expect(await blocks([])).toEqual([]));

  it('when the graph errors, everything is answered before the error', async () => {
    const seen: unknown[] = [];
    const broken = concat(
      [call('a', 'slow', { ms: 0 }), call('b', 'echo', {}, ['a'])],
      throwError(() => 'broken'),
    );
    await new Promise<void>((resolve) =>
      graph(broken)
        .pipe(toolGraphResults())
        .subscribe({ next: (each) => seen.push(each), error: (error) => (seen.push(error), resolve()) }),
    );
    expect(seen).toMatchObject([
      [
        { tool_use_id: 'a', is_error: true },
        { tool_use_id: 'b', is_error: true },
      ],
      'broken',
    ]);
  });

  it('calls of which the end was not told are answered too', async () => {
    const started = (index: number): GraphEvent => ({
      id: `i${index}`,
      name: 't',
      type: 'started',
      input: {},
      attempt: 1,
      path: [],
      index,
    });
    const cut = await lastValueFrom(of(started(1), started(0)).pipe(toolGraphResults()));
    expect(cut).toMatchObject([{ tool_use_id: 'i0', content: expect.stringContaining('stopped') as string }, { tool_use_id: 'i1' }]);
    const failed = concat(
      [started(0)],
      throwError(() => new Error('lost')),
    ).pipe(toolGraphResults(), take(1));
    expect(await lastValueFrom(failed)).toMatchObject([{ content: 'The tool "t" failed: lost' }]);
  });

  it('maxChars cuts', async () => {
    const [block] = await lastValueFrom(graph([a(0, 'long text')]).pipe(toolGraphResults({ maxChars: 4 })));
    expect(block?.content).toMatch(/^long\n\[cut off/);
  });

  it('the events go through toToolResult as well, in the order in which calls end', async () => {
    const ids = await lastValueFrom(graph([a(3), call('b', 'echo')]).pipe(toToolResult(), map(({ tool_use_id }) => tool_use_id), toArray())); // prettier-ignore
    expect(ids).toEqual(['b', 'a']);
  });
});

describe('the calls of a reply', () => {
  it('refer to each other by position, run while it is written, and are answered in one batch that the API takes', async () => {
    const calls = [
      { name: 'echo', input: { v: 'rxjs' } },
      { name: 'echo', input: { v: 'about ${1}' } },
      { name: 'fail', input: { ms: 0 } },
      { name: 'echo', input: { v: '$3' } },
    ];
    const { client } = await start([reply.toolUse(calls, { pace: { eventMs: 3 } })]);
    const seen: string[] = [];
    const batch = messageStream(client, ask).pipe(
      connect((events) => {
        const results = events.pipe(
          toolCalls(),
          map((each, at) => ({ ...each, ref: String(at + 1) })),
          toolGraph({ tools }),
          tap((event) => seen.push(short(event))),
          toolGraphResults(),
        );
        const message = events.pipe(
          foldMessage(),
          tap(() => seen.push('message')),
        );
        return forkJoin({ message, results });
      }),
    );
    const { message, results } = await lastValueFrom(batch);
    expect(seen.indexOf('toolu_0002:R')).toBeLessThan(seen.indexOf('message'));
    expect(results.map(({ content }) => content)).toMatchObject(['rxjs', 'about rxjs', /boom/, /needs "3"/].map((each) => expect.stringMatching(each) as string)); // prettier-ignore
    const messages = [hello, { role: 'assistant' as const, content: message.content }, { role: 'user' as const, content: results }];
    await client.messages.countTokens({ model: 'm', messages: messages });
  });
});
