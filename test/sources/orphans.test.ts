import { Subject, takeUntil, type Observable } from 'rxjs';
import type { Scope } from 'rxfleet';
import { agent, conversation, tool, type AgentEvent, type AnyTool } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type Reply } from 'rxfleet/testing';
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

/** What a tool does when it is told to stop: pass it on; need 120 ms; ignore it. */
const KINDS = {
  coop: (signal: AbortSignal) =>
    new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => resolve('done'), 300);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      });
    }),
  cleanup: (signal: AbortSignal) =>
    new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => resolve('done'), 300);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        setTimeout(() => reject(signal.reason as Error), 120);
      });
    }),
  deaf: (_signal: AbortSignal) => new Promise<string>((resolve) => void setTimeout(() => resolve('done'), 300)),
} as const;

type Kind = keyof typeof KINDS;

interface Bench {
  readonly running: number;
  readonly started: number;
  readonly tools: readonly AnyTool[];
}

/** Counts the bodies of the tools that run now. */
function bench(kind: Kind): Bench {
  let running = 0;
  let started = 0;
  const counted = async <T>(work: () => Promise<T>): Promise<T> => {
    running++;
    started++;
    try {
      return await work();
    } finally {
      running--;
    }
  };
  const body = KINDS[kind];
  const slow = tool({ name: 'slow', description: '', input: z.object({}), run: (_, call) => counted(() => body(call.signal)) });
  const bad = tool({
    name: 'bad',
    description: '',
    input: z.object({}),
    run: () =>
      counted(async () => {
        await sleep(50);
        throw new Error('boom');
      }),
  });
  return {
    get running() {
      return running;
    },
    get started() {
      return started;
    },
    tools: [slow, bad],
  };
}

const five = (first: string): Reply => reply.toolUse([first, 'slow', 'slow', 'slow', 'slow'].map((name) => ({ name, input: {} })));

interface Watched {
  readonly ended: Promise<string>;
  readonly events: readonly AgentEvent[];
}

/** Notes how many calls ran at the moment of the end. */
function watch(source: Observable<AgentEvent>, running: () => number): Watched {
  const events: AgentEvent[] = [];
  const ended = new Promise<string>((resolve) =>
    source.subscribe({
      next: (event) => events.push(event),
      error: (error: unknown) => resolve(`${(error as Error).name}, ${running()} running`),
      complete: () => resolve(`complete, ${running()} running`),
    }),
  );
  return { ended, events };
}

describe.each(Object.keys(KINDS) as Kind[])('no call outlives its scope: %s tools', (kind) => {
  it('one tool fails: the siblings go on, and nothing runs when the agent has ended', async () => {
    const work = bench(kind);
    const { client } = await start((request) => (lastToolResults(request).length > 0 ? reply.text('done') : five('bad')));
    const { ended, events } = watch(agent({ client, ...ask, tools: work.tools }), () => work.running);
    expect(await ended).toBe('complete, 0 running');
    expect(events.find((event) => event.type === 'turn')?.results.map(({ is_error }) => is_error ?? false)).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  it('the caller aborts while tools run: nothing runs when the agent has ended', async () => {
    const work = bench(kind);
    const { client, server } = await start([five('slow')]);
    const controller = new AbortController();
    const { ended } = watch(agent({ client, ...ask, tools: work.tools, signal: controller.signal }), () => work.running);
    while (work.started < 5) await sleep(2);
    await sleep(50);
    controller.abort();
    expect(await ended).toBe('ScopeCancelledError, 0 running');
    await server.whenIdle();
    expect(server.stats().requests).toBe(1);
  });

  it('the consumer leaves while tools run: nothing runs when its scope has closed, and no other request goes out', async () => {
    const work = bench(kind);
    const { client, server } = await start([five('slow'), reply.text('never asked')]);
    let scope: Scope | undefined;
    const run = agent({ client, ...ask, tools: work.tools, onScope: (each) => (scope = each) }).subscribe();
    while (work.started < 5) await sleep(2);
    await sleep(50);
    run.unsubscribe();
    expect(work.running).toBe(kind === 'coop' ? 5 : 5);
    const report = await scope!.closed;
    expect(work.running).toBe(0);
    expect(report).toMatchObject({ abandoned: [], errors: [], reason: { kind: 'unsubscribed' } });
    await sleep(20);
    expect(server.stats()).toMatchObject({ requests: 1, open: 0 });
  });

  it('the consumer leaves while the model speaks: its stream is closed', async () => {
    const work = bench(kind);
    const { client, server } = await start([reply.toolUse([{ name: 'slow', input: {} }], { fault: { kind: 'stall', after: 2 } })]);
    let scope: Scope | undefined;
    const left = new Subject<void>();
    agent({ client, ...ask, tools: work.tools, onScope: (each) => (scope = each) })
      .pipe(takeUntil(left))
      .subscribe();
    await server.when(() => server.requests[0]?.events === 2);
    left.next();
    await scope!.closed;
    await server.when(({ closedByClient, open }) => closedByClient === 1 && open === 0);
    expect(work.started).toBe(0);
  });
});

describe('the history of an agent that was stopped', () => {
  /** Small and repeatable. */
  function random(seed: number): () => number {
    let state = seed;
    return () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
  }

  it('can be continued, whenever and however it was stopped', async () => {
    const next = random(7);
    const work = bench('coop');
    const script = (request: { readonly messages: readonly unknown[] }): Reply => {
      const pace = { eventMs: 1, chunkChars: 4 };
      if (request.messages.length > 5) return reply.text('that is all', { pace });
      const calls = [
        { name: 'quick', input: { ms: 3 } },
        { name: 'quick', input: { ms: 'x' } },
        { name: 'quick', input: { ms: 12 } },
        { name: 'nope', input: {} },
      ];
      return reply.toolUse(calls, { pace, text: 'working', ...(next() < 0.3 ? { fault: { kind: 'max_tokens' } } : {}) });
    };
    const quick = tool({ name: 'quick', description: '', input: z.object({ ms: z.number() }), run: ({ ms }) => sleep(ms) });
    const { client, server } = await start(script);
    const complaints = await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const chat = conversation([hello]);
        let scope: Scope | undefined;
        const controller = new AbortController();
        const options = { client, ...ask, tools: [quick, ...work.tools], messages: chat, concurrency: 2, signal: controller.signal };
        const run = agent({ ...options, onScope: (each) => (scope = each) }).subscribe({ error: () => {} });
        const peeks: unknown[] = [];
        await sleep(next() * 220);
        peeks.push(chat.messages);
        if (n % 2 === 0) run.unsubscribe();
        else controller.abort();
        peeks.push(chat.messages);
        await scope!.closed;
        peeks.push(chat.messages);
        for (const history of peeks as (typeof hello)[][]) await client.messages.countTokens({ model: 'm', messages: [...history, hello] });
        return chat.busy;
      }),
    );
    expect(complaints.filter(Boolean)).toEqual([]);
    await server.whenIdle();
    expect(server.requests.filter(({ error }) => error !== undefined).map(({ error }) => error)).toEqual([]);
  });
});
