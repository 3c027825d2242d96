import Anthropic from '@anthropic-ai/sdk';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import { forkJoin, from, lastValueFrom, mergeMap, Observable, Subject, takeUntil } from 'rxjs';
import { fanOutScoped, type Scope } from 'rxfleet';
import { agent, type AgentEvent } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start } from '../sources/harness.js';

/** What the migration pages say of what is installed here, ours and theirs. */
afterEach(expectNoOpenScopes);

const KINDS = ['coop', 'cleanup', 'deaf'] as const;
type Kind = (typeof KINDS)[number];

const TOOL_MS = 400;
const CLEANUP_MS = 100;

/** Five calls of one kind, the first of which may fail. */
class Five {
  running = 0;
  started = 0;

  constructor(
    private readonly kind: Kind,
    private readonly fails: boolean = false,
  ) {}

  all<T>(start: (n: number) => T): T[] {
    return [0, 1, 2, 3, 4].map(start);
  }

  async call(n: number, signal?: AbortSignal | null): Promise<string> {
    this.running++;
    this.started++;
    try {
      if (this.fails && n === 0) {
        await sleep(20);
        throw new Error('boom');
      }
      return await this.work(signal);
    } finally {
      this.running--;
    }
  }

  private work(signal: AbortSignal | null | undefined): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => resolve('done'), TOOL_MS);
      if (this.kind === 'deaf') return;
      signal?.addEventListener('abort', () => {
        clearTimeout(timer);
        const stop = (): void => reject(signal.reason as Error);
        if (this.kind === 'coop') stop();
        else setTimeout(stop, CLEANUP_MS);
      });
    });
  }

  /** Counted as in the benchmark: what the turn of the event loop in which control came back still ends is no orphan. */
  async orphans(): Promise<number> {
    await new Promise((resolve) => setImmediate(resolve));
    return this.running;
  }

  async over(): Promise<void> {
    while (this.running > 0) await sleep(5);
  }
}

/** One number for each kind. */
function eachKind(count: (kind: Kind) => Promise<number>): Promise<number[]> {
  return Promise.all(KINDS.map(count));
}

const fiveTimes = (text: string): string[] => Array.from({ length: 5 }, () => text);

const ended = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);

describe('calls without a model', () => {
  const abortable = (run: (signal: AbortSignal) => Promise<string>): Observable<string> =>
    new Observable((subscriber) => {
      const controller = new AbortController();
      run(controller.signal).then(
        (value) => {
          subscriber.next(value);
          subscriber.complete();
        },
        (error: unknown) => subscriber.error(error),
      );
      return () => controller.abort();
    });

  const ways = {
    'Promise.all': (five: Five) => from(Promise.all(five.all((n) => five.call(n)))),
    forkJoin: (five: Five) => forkJoin(five.all((n) => from(five.call(n)))),
    mergeMap: (five: Five) => from([0, 1, 2, 3, 4]).pipe(mergeMap((n) => abortable((signal) => five.call(n, signal)))),
    fanOutScoped: (five: Five) => from([0, 1, 2, 3, 4]).pipe(fanOutScoped((n, _i, ctx) => ctx.call((signal) => five.call(n, signal)))),
  };

  it.each([
    ['Promise.all', [4, 4, 4]],
    ['forkJoin', [4, 4, 4]],
    ['mergeMap', [0, 4, 4]],
    ['fanOutScoped', [0, 0, 0]],
  ] as const)('one fails: %s leaves %j', async (way, expected) => {
    const found = await eachKind(async (kind) => {
      const five = new Five(kind, true);
      await ended(lastValueFrom(ways[way](five) as Observable<unknown>));
      const orphans = await five.orphans();
      await five.over();
      return orphans;
    });
    expect(found).toEqual(expected);
  });

  it.each([
    ['forkJoin', [5, 5, 5]],
    ['mergeMap', [0, 5, 5]],
    ['fanOutScoped', [0, 5, 5]],
  ] as const)('left: right after the unsubscribe %s leaves %j', async (way, expected) => {
    const found = await eachKind(async (kind) => {
      const five = new Five(kind);
      const left = new Subject<void>();
      (ways[way](five) as Observable<unknown>).pipe(takeUntil(left)).subscribe();
      await sleep(20);
      left.next();
      const orphans = await five.orphans();
      await five.over();
      return orphans;
    });
    expect(found).toEqual(expected);
  });

  it('left: fanOutScoped leaves nothing once scope.closed has resolved', async () => {
    const found = await eachKind(async (kind) => {
      const five = new Five(kind);
      let scope: Scope | undefined;
      const options = { onScope: (each: Scope) => (scope = each) };
      const calls = from([0, 1, 2, 3, 4]).pipe(fanOutScoped((n, _i, ctx) => ctx.call((signal) => five.call(n, signal)), options));
      const run = calls.subscribe();
      await sleep(20);
      run.unsubscribe();
      await scope!.closed;
      return five.running;
    });
    expect(found).toEqual([0, 0, 0]);
  });

  it('Promise.all with a signal for each rejects with the first that stops, and does not wait for one that stops later', async () => {
    const [quick, slow] = [new Five('coop'), new Five('cleanup')];
    const controller = new AbortController();
    const all = Promise.all([quick.call(0, controller.signal), slow.call(0, controller.signal)]);
    controller.abort(new Error('enough'));
    await expect(all).rejects.toThrow('enough');
    expect([quick.running, await slow.orphans()]).toEqual([0, 1]);
    await slow.over();
  });
});

describe('the tool runner and the agent', () => {
  const scripted = (eventMs = 0): ReturnType<typeof start> =>
    start(
      (request) =>
        lastToolResults(request).length > 0
          ? reply.text('done')
          : reply.toolUse(
              [0, 1, 2, 3, 4].map((n) => ({ name: 'work', input: { n } })),
              { pace: { eventMs } },
            ),
      {},
    );

  const sdkTool = (five: Five): ReturnType<typeof betaZodTool> =>
    betaZodTool({
      name: 'work',
      description: 'Works.',
      inputSchema: z.object({ n: z.number() }),
      run: ({ n }, context) => five.call(n, context?.signal),
    }) as ReturnType<typeof betaZodTool>;

  const runner = (client: Anthropic, five: Five, extra: object = {}, options: Anthropic.RequestOptions = {}) =>
    client.beta.messages.toolRunner({ ...ask, messages: [hello], tools: [sdkTool(five)], ...extra }, options);

  const agentOf = (client: Anthropic, five: Five, extra: object = {}): Observable<AgentEvent> =>
    agent({ ...ask, client, tools: [sdkTool(five)], ...extra });

  async function underWay(five: Five, count: number): Promise<void> {
    while (five.started < count) await sleep(1);
    await sleep(20);
  }

  it('one fails: both answer it, and wait for the others', async () => {
    const found = await eachKind(async (kind) => {
      const [theirs, ours] = [new Five(kind, true), new Five(kind, true)];
      await runner((await scripted()).client, theirs).runUntilDone();
      await lastValueFrom(agentOf((await scripted()).client, ours));
      return theirs.running + ours.running;
    });
    expect(found).toEqual([0, 0, 0]);
  });

  it('aborted: both wait for what runs, and answer every call; the agent tells why', async () => {
    const found = await eachKind(async (kind) => {
      const [theirs, ours] = [new Five(kind), new Five(kind)];
      const controller = new AbortController();
      const { signal } = controller;
      const enough = new Error('enough');
      const their = runner((await scripted()).client, theirs, {}, { signal });
      const ends = Promise.all([
        ended(their.runUntilDone()).then(async (error) => [error, await theirs.orphans()] as const),
        ended(lastValueFrom(agentOf((await scripted()).client, ours, { signal }))).then((error) => [error, ours.running] as const),
      ]);
      await Promise.all([underWay(theirs, 5), underWay(ours, 5)]);
      controller.abort(enough);
      const [[theirError, left], [ourError, oursLeft]] = await ends;
      expect(theirError).toBeInstanceOf(Anthropic.APIUserAbortError);
      expect(String((theirError as Error).cause)).not.toContain('enough');
      const said = kind === 'deaf' ? 'done' : 'Error: enough';
      expect(lastToolResults({ messages: their.params.messages }).map(({ text }) => text)).toEqual(fiveTimes(said));
      expect(ourError).toMatchObject({ name: 'ScopeCancelledError', reason: { kind: 'signal', reason: enough } });
      return left + oursLeft;
    });
    expect(found).toEqual([0, 0, 0]);
  });

  it('aborted in the middle of a reply: calls that were begun early run on, and their history is refused', async () => {
    const five = new Five('deaf');
    const { client } = await scripted(30);
    const controller = new AbortController();
    const run = runner(client, five, { stream: true, runToolsEagerly: true }, { signal: controller.signal });
    const end = ended(run.runUntilDone());
    await underWay(five, 1);
    controller.abort();
    await end;
    expect(await five.orphans()).toBeGreaterThan(0);
    const messages = run.params.messages as (typeof hello)[];
    await expect(client.messages.countTokens({ model: 'm', messages: [...messages, hello] })).rejects.toThrow('tool_result');
    await five.over();
  });

  it('left in the middle of a reply: the runner leaves calls behind, the agent none', async () => {
    const [theirs, ours] = [new Five('coop'), new Five('coop')];
    reading: for await (const stream of runner((await scripted(30)).client, theirs, {
      stream: true,
      runToolsEagerly: true,
    }) as AsyncIterable<AsyncIterable<unknown>>)
      for await (const _event of stream) if (theirs.started > 0) break reading;
    expect(await theirs.orphans()).toBeGreaterThan(0);

    let scope: Scope | undefined;
    const { client, server } = await scripted(30);
    const run = agentOf(client, ours, { onScope: (each: Scope) => (scope = each) }).subscribe();
    await server.when(() => (server.requests[0]?.events ?? 0) > 3);
    run.unsubscribe();
    await scope!.closed;
    expect(ours.running).toBe(0);
    await server.whenIdle();
    await theirs.over();
  });
});
