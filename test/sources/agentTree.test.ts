import { lastValueFrom, Subject, tap, toArray, type Observable } from 'rxjs';
import { ApprovalGate, classifyError, DepthGate, drawTree, guard, KeyedLock, RetryGate, type Scope } from 'rxfleet';
import {
  agent,
  tool,
  turn,
  VersionConflictError,
  type AgentEvent,
  type AnyTool,
  type ToolRequest,
  type TurnEvent,
  type TurnOptions,
} from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type MessagesRequest } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start, watchProcess } from './harness.js';

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
const calls = (name: string, ...inputs: object[]) => reply.toolUse(inputs.map((input) => ({ name, input })));
const results = (events: readonly TurnEvent[]) => (events.at(-1) as TurnEvent & { type: 'turn' }).results;
const all = (options: Partial<TurnOptions> & { client: Client }): Promise<TurnEvent[]> =>
  lastValueFrom(turn({ ...ask, ...options }).pipe(toArray()));

describe('approvals', () => {
  const made: unknown[] = [];
  beforeEach(() => void (made.length = 0));
  const mail = tool({
    name: 'mail',
    description: 'sends',
    input: z.object({ to: z.string(), text: z.string().optional() }),
    needsApproval: ({ to }) => to !== 'me',
    timeoutMs: 60,
    run: (input) => {
      made.push(input);
      return `sent to ${input.to}`;
    },
  });

  it('each call asks under its own id, they are answered in any order, and one that needs none goes ahead', async () => {
    const approvals = new ApprovalGate({ name: 'boss' });
    const { client } = await start([calls('mail', { to: 'a' }, { to: 'me' }, { to: 'b' })]);
    const asked: string[] = [];
    const events = await lastValueFrom(
      turn({ client, ...ask, tools: [mail], approvals }).pipe(
        tap((event) => {
          if (event.type !== 'tool' || event.event.type !== 'approval') return;
          asked.push(event.event.id);
          if (asked.length === 2) setTimeout(() => [...asked].reverse().forEach((id) => approvals.approve(id)), 100);
        }),
        toArray(),
      ),
    );
    expect(new Set(asked).size).toBe(2);
    expect(made).toEqual([{ to: 'me' }, { to: 'b' }, { to: 'a' }]);
    expect(results(events).map(({ content }) => content)).toEqual(['sent to a', 'sent to me', 'sent to b']);
  });

  it('a denial is an answer that says why, and the tool did not run', async () => {
    const approvals = new ApprovalGate({ name: 'boss' });
    approvals.events$.subscribe(
      (event) => event.type === 'approval' && event.outcome === 'asked' && setTimeout(() => approvals.deny(event.id, 'not on a Sunday')),
    );
    const { client } = await start([calls('mail', { to: 'a' })]);
    const [result] = results(await all({ client, tools: [mail], approvals }));
    expect(result).toMatchObject({ is_error: true, content: expect.stringMatching(/not on a Sunday.*did not run/s) as string });
    expect(made).toEqual([]);
  });

  it('an edited input is checked again, and is what the tool runs with', async () => {
    const approvals = new ApprovalGate({ name: 'boss' });
    const wrong: unknown[] = [];
    approvals.events$.subscribe((event) => {
      if (event.type !== 'approval' || event.outcome !== 'asked') return;
      setTimeout(() => {
        try {
          approvals.approve(event.id, { input: { to: 5 } });
        } catch (error) {
          wrong.push((error as Error).message);
        }
        approvals.approve(event.id, { input: { to: 'c', text: 'softer' } });
      });
    });
    const { client } = await start([calls('mail', { to: 'a', text: 'harsh' })]);
    const events = await all({ client, tools: [mail], approvals });
    expect(made).toEqual([{ to: 'c', text: 'softer' }]);
    expect(wrong[0]).toContain('does not fit its schema');
    const started = events.flatMap((each) => (each.type === 'tool' && each.event.type === 'started' ? [each.event.input] : []));
    expect(started).toEqual([{ to: 'c', text: 'softer' }]);
  });

  it('without anybody to ask the call is refused', async () => {
    const { client } = await start([calls('mail', { to: 'a' })]);
    const [result] = results(await all({ client, tools: [mail] }));
    expect(result).toMatchObject({ is_error: true, content: expect.stringContaining('needs an approval') as string });
    expect(made).toEqual([]);
  });

  it('a person is asked once, however often the call is tried', async () => {
    const approvals = new ApprovalGate({ name: 'boss' });
    const asked: string[] = [];
    approvals.events$.subscribe((event) => {
      if (event.type !== 'approval' || event.outcome !== 'asked') return;
      asked.push(event.id);
      setTimeout(() => approvals.approve(event.id));
    });
    let tries = 0;
    const flaky = tool({
      name: 'flaky',
      description: 'fails twice',
      input: z.object({}),
      needsApproval: true,
      run: () => {
        if (++tries < 3) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' });
        return 'ok';
      },
    });
    const retry = new RetryGate({ name: 'tools', baseMs: 1, random: () => 0 });
    const { client } = await start([calls('flaky', {})]);
    const [result] = results(await all({ client, tools: [flaky], approvals, toolGuard: guard<ToolRequest>({ retry }) }));
    expect([result?.content, tries, asked.length]).toEqual(['ok', 3, 1]);
  });

  it('a decision that came after the listener had left is there when the same call asks again', async () => {
    const approvals = new ApprovalGate({ name: 'boss' });
    const { client } = await start(() =>
      reply.message({ content: [{ type: 'tool_use', id: 'toolu_same', name: 'mail', input: { to: 'a' } }] } as never),
    );
    await new Promise<void>((resolve) => {
      const running = turn({ client, ...ask, tools: [mail], approvals }).subscribe((event) => {
        if (event.type !== 'tool' || event.event.type !== 'approval') return;
        setTimeout(() => {
          running.unsubscribe();
          resolve();
        });
      });
    });
    expect(approvals.snapshot().pending).toMatchObject([{ id: 'toolu_same', left: true }]);
    approvals.approve('toolu_same');
    const events = await all({ client, tools: [mail], approvals });
    expect(results(events)[0]?.content).toBe('sent to a');
    expect(made).toEqual([{ to: 'a' }]);
  });
});

describe('resources', () => {
  const log: string[] = [];
  beforeEach(() => void (log.length = 0));
  const edit = tool({
    name: 'edit',
    description: 'edits',
    effect: 'idempotent',
    input: z.object({ file: z.string(), n: z.number() }),
    resources: ({ file }) => ({ writes: [`file:${file}`] }),
    run: async ({ file, n }) => {
      log.push(`${file}${n}+`);
      await sleep(20);
      log.push(`${file}${n}-`);
      return n;
    },
  });

  it('calls that conflict run one after the other in the order of the model, all others in parallel', async () => {
    const { client } = await start([calls('edit', { file: 'a', n: 1 }, { file: 'a', n: 2 }, { file: 'b', n: 1 })]);
    await all({ client, tools: [edit], eager: false });
    expect(log).toEqual(['a1+', 'b1+', 'a1-', 'a2+', 'b1-', 'a2-'].sort((x, y) => log.indexOf(x) - log.indexOf(y)));
    expect(log.indexOf('a2+')).toBeGreaterThan(log.indexOf('a1-'));
    expect(log.indexOf('b1+')).toBeLessThan(log.indexOf('a1-'));
  });

  it('a shared lock orders the calls of several agents, and tells of those that wait', async () => {
    const lock = new KeyedLock({ name: 'files' });
    const queued: string[] = [];
    lock.events$.subscribe(({ type }) => type === 'queued' && queued.push(type));
    const { client } = await start(() => calls('edit', { file: 'a', n: 1 }));
    await Promise.all([1, 2].map(() => all({ client, tools: [edit], lock })));
    expect(log).toEqual(['a1+', 'a1-', 'a1+', 'a1-']);
    expect(queued).toHaveLength(1);
  });
});

describe('versions', () => {
  it('a write that is based on an older version is answered with the current value, and decided again', async () => {
    let stored = { version: 3, text: 'hers' };
    const write = tool({
      name: 'write',
      description: 'writes',
      input: z.object({ version: z.number(), text: z.string() }),
      run: ({ version, text }) => {
        if (version !== stored.version) throw new VersionConflictError(version, stored.version, stored.text);
        stored = { version: version + 1, text };
        return stored;
      },
    });
    const { client } = await start((request) => {
      const [last] = lastToolResults(request);
      if (last === undefined) return calls('write', { version: 2, text: 'mine' });
      if (!last.isError) return reply.text('done');
      const version = Number(/with version (\d+)/.exec(last.text)?.[1]);
      return calls('write', { version, text: last.text.includes('hers') ? 'hers and mine' : 'lost' });
    });
    await lastValueFrom(agent({ client, ...ask, tools: [write] }));
    expect(stored).toEqual({ version: 4, text: 'hers and mine' });
    expect(classifyError(new VersionConflictError('a', 'b', undefined))).toBe('fatal');
  });
});

describe('agents that start agents', () => {
  /** An agent whose tool starts another one, as long as the model asks for it. */
  function nested(client: Client, options: { limits?: DepthGate; scopes?: Scope[] } = {}): Observable<AgentEvent> {
    const make = (level: number): AnyTool =>
      tool({
        name: 'delegate',
        description: 'starts an agent',
        input: z.object({ level: z.number() }),
        run: ({ level: below }, { scope }) =>
          agent({ client, ...ask, name: `agent ${below}`, within: scope, tools: [make(below)] }).pipe(
            toArray(),
            tap(() => level),
          ),
      });
    return agent({
      client,
      ...ask,
      name: 'agent 0',
      tools: [make(0)],
      ...(options.limits && { limits: options.limits }),
      onScope: (scope) => options.scopes?.push(scope),
    });
  }

  const depthOf = ({ messages }: MessagesRequest): number => messages.length;

  it('stay inside of maxDepth: the model is told, and nothing recurses', async () => {
    let deepest = 0;
    let refusals = 0;
    const { client } = await start((request) => {
      const answers = lastToolResults(request);
      if (answers.length === 0) return reply.toolUse([{ name: 'delegate', input: { level: (deepest += 1) } }]);
      refusals += answers.filter(({ isError }) => isError).length;
      return reply.text('done');
    });
    const limits = new DepthGate({ name: 'tree', maxDepth: 2 });
    const end = await lastValueFrom(nested(client, { limits }));
    expect([end.type, deepest, refusals]).toEqual(['done', 3, 1]);
    expect(limits.snapshot()).toMatchObject({ live: 0, total: 3 });
  });

  it('stay inside of maxTotal, whoever starts them', async () => {
    let refusals = 0;
    const { client } = await start((request) => {
      const answers = lastToolResults(request);
      refusals += answers.filter(({ isError }) => isError).length;
      if (answers.length > 0 || depthOf(request) > 1) return reply.text('done');
      return reply.toolUse([1, 2, 3].map((level) => ({ name: 'delegate', input: { level } })));
    });
    const limits = new DepthGate({ name: 'tree', maxTotal: 5 });
    await lastValueFrom(nested(client, { limits }));
    expect(limits.snapshot().total).toBe(5);
    expect(refusals).toBeGreaterThan(0);
  });

  it('can be drawn at any time', async () => {
    const scopes: Scope[] = [];
    let level = 0;
    let picture = '';
    const { client } = await start((request) => {
      if (lastToolResults(request).length > 0) return reply.text('done');
      if (++level < 3) return reply.toolUse([{ name: 'delegate', input: { level } }]);
      picture = drawTree(scopes[0]!.dump());
      return reply.text('deep enough');
    });
    await lastValueFrom(nested(client, { scopes }));
    const lines = picture.split('\n');
    expect(lines[0]).toMatch(/^agent 0 \(open\)/);
    expect(lines.findIndex((line) => line.includes('agent 1'))).toBeGreaterThan(0);
    expect(lines.findIndex((line) => line.includes('agent 2'))).toBeGreaterThan(lines.findIndex((line) => line.includes('agent 1')));
    expect(picture).toMatch(/└─ messages\.create \(running, \d+ ms\)/);
  });

  it('bad limits are told when the agent is made', () => {
    const client = { messages: { create: (() => {}) as never } };
    expect(() => agent({ client, ...ask, limits: { maxDepth: -1 } })).toThrow(RangeError);
    expect(() => agent({ client, ...ask, inbox$: 5 as never })).toThrow('agent: inbox$ must be an Observable');
  });
});

describe('inbox$', () => {
  it('what people say joins between turns in order, is acknowledged, and is answered', async () => {
    const inbox$ = new Subject<string>();
    const { client, server } = await start((request) => {
      const said = request.messages.length;
      return said === 1 ? reply.toolUse([{ name: 'slow', input: {} }]) : reply.text(`after ${said}`);
    });
    const slow = tool({
      name: 'slow',
      description: 'waits',
      input: z.object({}),
      run: async () => {
        inbox$.next('first');
        inbox$.next('second');
        await sleep(5);
        return 'x';
      },
    });
    const events = await lastValueFrom(agent({ client, ...ask, tools: [slow], inbox$ }).pipe(toArray()));
    const heard = events.flatMap((event) => (event.type === 'message' ? [[event.turn, event.content]] : []));
    expect(heard).toEqual([
      [1, 'first'],
      [1, 'second'],
    ]);
    const end = events.at(-1) as AgentEvent & { type: 'done' };
    expect([end.text, end.unread]).toEqual(['after 5', []]);
    expect(server.stats().requests).toBe(2);
  });

  it('a message keeps an agent going that was done, and what comes too late is told', async () => {
    const inbox$ = new Subject<string>();
    const { client } = await start(() => reply.text('ok'));
    const events = await lastValueFrom(
      agent({ client, ...ask, maxTurns: 2, inbox$ }).pipe(
        tap((event) => {
          if (event.type === 'text') inbox$.next(`more after turn ${event.turn}`);
        }),
        toArray(),
      ),
    );
    const end = events.at(-1) as AgentEvent & { type: 'done' };
    expect([end.turns, end.unread]).toEqual([2, ['more after turn 2']]);
  });

  it('an error of it is the error of the agent, and leaving leaves it', async () => {
    const inbox$ = new Subject<string>();
    const { client } = await start(() => reply.text('slowly', { pace: { eventMs: 30 } }));
    const failed = lastValueFrom(agent({ client, ...ask, inbox$ })).catch((error: unknown) => error);
    setTimeout(() => inbox$.error(new Error('line is dead')), 20);
    expect(((await failed) as Error).message).toBe('line is dead');
    const other$ = new Subject<string>();
    const running = agent({ client, ...ask, inbox$: other$ }).subscribe();
    expect(other$.observed).toBe(true);
    running.unsubscribe();
    expect(other$.observed).toBe(false);
    await sleep(30);
  });
});
