import Anthropic from '@anthropic-ai/sdk';
import fc from 'fast-check';
import { lastValueFrom, take, takeUntil, takeWhile, timer, toArray, type Observable } from 'rxjs';
import { costOf, FleetBudget, fleetBudget, RetryGate, TokenBucket, tokenCounts, type PriceTable } from 'rxfleet';
import {
  agent,
  message,
  messageStream,
  modelGuard,
  tool,
  type ModelGuardOptions,
  type RequestOptions,
  type UsageRecord,
} from 'rxfleet/agents';
import { expectNoOpenScopes, reply, type Fault, type Reply, type Script } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  await sleep(20);
  expectNoOpenScopes();
  quiet();
});

/** A dollar for a million tokens of input, five for output. */
const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 100_000, cacheWrite5m: 1_250_000, cacheWrite1h: 2_000_000 };
const prices: PriceTable = { 'claude-test': rates };
/** What is taken for the most that the input can have. */
const INPUT = 100;
const RESERVED = INPUT + 5 * ask.max_tokens;

/** What the tokens of a record cost: those that were seen, and the most that it can have been. */
const seenOf = ({ model, usage }: UsageRecord): number => costOf(prices, model, tokenCounts(usage));
const mostOf = (record: UsageRecord): number => (record.exact ? seenOf(record) : Math.max(RESERVED, seenOf(record)));
const sum = (all: readonly number[]): number => all.reduce((a, b) => a + b, 0);

interface Books {
  readonly records: UsageRecord[];
  readonly budget: FleetBudget;
  readonly bucket: TokenBucket;
  readonly options: RequestOptions;
  /** How much of each limit of the bucket is gone. */
  gone(): readonly number[];
}

const CAPACITY = 1_000_000;

const HOUR = 3_600_000;
const bucketOf = (everyMs: number): TokenBucket => {
  const limit = { capacity: CAPACITY, refill: { tokens: 1_000, everyMs } };
  return new TokenBucket({ name: 'model', limits: { requests: { ...limit, cost: 1 }, inputTokens: limit, outputTokens: limit } });
};

/** A purse, a bucket that hardly refills while a test runs, and the records of whatever goes through them. */
function books(gates: Partial<ModelGuardOptions> & { readonly bucket?: TokenBucket } = {}, options: RequestOptions = {}): Books {
  const records: UsageRecord[] = [];
  const budget = new FleetBudget({ name: 'fleet', usd: '1', calls: 'unbounded', tokens: 'unbounded' });
  const { bucket = bucketOf(HOUR * 1_000) } = gates;
  const guard = modelGuard({ budget, prices, inputTokens: () => INPUT, ...gates, bucket });
  return {
    records,
    budget,
    bucket,
    options: { guard, usage: { next: (record) => void records.push(record) }, ...options },
    gone: () => Object.values(bucket.snapshot().limits).map(({ tokens }) => CAPACITY - tokens),
  };
}

type Send = (client: Anthropic, options: RequestOptions) => Observable<unknown>;
const sends: readonly (readonly [string, Send])[] = [
  ['message', (client, options) => message(client, ask, options)],
  ['messageStream', (client, options) => messageStream(client, ask, options)],
];
const ended = (source: Observable<unknown>): Promise<unknown> => lastValueFrom(source.pipe(toArray())).catch((error: unknown) => error);

describe.each(sends)('what failed before its usage was known: %s', (name, send) => {
  const stream = name === 'messageStream';
  const faulty = (fault: Fault): Reply => reply.text('hello', { fault });
  type Case = readonly [string, Reply, UsageRecord['phase'], 'free' | 'unknown'];
  const cases: readonly Case[] = [
    ...[400, 401, 404, 408, 409, 413, 429, 529].map((status): Case => [`${status}`, reply.error(status), 'failed', 'free']),
    ['503 with retry-after', reply.error(503, { retryAfter: 1 }), 'failed', 'free'],
    ...[500, 502, 503, 504].map((status): Case => [`${status}`, reply.error(status), 'failed', 'unknown']),
    ['a connection closed before the headers', faulty({ kind: 'fin', after: 'request' }), 'truncated', 'unknown'],
    ['a connection reset before the headers', faulty({ kind: 'reset', after: 'request' }), 'truncated', 'unknown'],
    ['headers that never come', faulty({ kind: 'stall', after: 'request' }), 'truncated', 'unknown'],
    ['a body that never comes', faulty({ kind: 'stall', after: 'headers' }), 'truncated', 'unknown'],
    ['a body that is empty', faulty({ kind: 'fin', after: 'headers' }), 'truncated', 'unknown'],
    ...(stream
      ? ([
          ['an event overloaded_error first', faulty({ kind: 'error', after: 'headers' }), 'failed', 'free'],
          ['an event api_error first', faulty({ kind: 'error', after: 'headers', error: { type: 'api_error' } }), 'failed', 'unknown'],
        ] as const)
      : []),
  ];

  it.each(cases)('%s: record, budget and calls agree', async (_, answer, phase, cost) => {
    const { records, budget, options } = books();
    const { client, server } = await start([answer]);
    const silenceMs = answer.type === 'message' && answer.fault?.kind === 'stall' ? 80 : 5_000;
    await ended(send(client, { ...options, headersMs: silenceMs, idleMs: silenceMs }));
    expect(server.stats().requests).toBe(1);
    const ceiling = cost === 'free' ? 0 : ask.max_tokens;
    expect(records).toMatchObject([{ phase, exact: cost === 'free', attempt: 1, outputTokens: { floor: 0, estimate: 0, ceiling } }]);
    const spent = cost === 'free' ? 0 : RESERVED;
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent, uncertain: spent, reserved: 0 }, calls: { spent: 1 }, inFlight: 0 });
  });

  it('a connection that is refused costs nothing', async () => {
    const { records, budget, options } = books();
    const { client, server } = await start([]);
    await server.close();
    await ended(send(client, options));
    expect(records).toMatchObject([{ phase: 'never-sent', exact: true, outputTokens: { ceiling: 0 } }]);
    expect(budget.snapshot().microUsd).toMatchObject({ spent: 0, reserved: 0 });
  });
});

/** A client that counts what it sends: `fetch` with a signal that is aborted already sends nothing. */
async function counting(script: Script): Promise<{ client: Anthropic; sent: () => number; requests: () => number }> {
  const { server } = await start(script);
  let sent = 0;
  const fetch: typeof globalThis.fetch = (url, init) => {
    if (init?.signal?.aborted !== true) sent++;
    return globalThis.fetch(url, init);
  };
  const client = new Anthropic({ apiKey: 'test', baseURL: server.url, maxRetries: 3, logLevel: 'off', fetch });
  return { client, sent: () => sent, requests: () => server.stats().requests };
}

const MICROTASKS = 40;

describe.each(sends)('what was stopped before it went out: %s', (_, send) => {
  it('in the turn in which it was subscribed: nothing was sent, and everything is given back', async () => {
    const { records, budget, options, gone } = books();
    const { client, sent, requests } = await counting([]);
    send(client, options).subscribe().unsubscribe();
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent: 0, reserved: 0, uncertain: 0 }, calls: { spent: 0 } });
    expect(gone()).toEqual([0, 0, 0]);
    await sleep(20);
    expect(records).toMatchObject([
      { phase: 'never-sent', exact: true, inputTokens: 0, outputTokens: { floor: 0, estimate: 0, ceiling: 0 } },
    ]);
    expect([sent(), requests()]).toEqual([0, 0]);
  });

  it('at every microtask: never-sent only if nothing is sent, now or later, and charged nothing', async () => {
    const { client, sent } = await counting(() => reply.text('hello'));
    const phases: string[] = [];
    let prepared = 0;
    for (let n = 0; n < MICROTASKS; n++) {
      const { records, budget, options, gone } = books();
      const before = sent();
      const running = send(client, options).subscribe();
      for (let i = 0; i < n; i++) await Promise.resolve();
      running.unsubscribe();
      await sleep(10);
      const [record, ...more] = records as [UsageRecord, ...UsageRecord[]];
      expect(more).toEqual([]);
      const out = sent() - before;
      const never = record.phase === 'never-sent';
      if (never) expect([n, out]).toEqual([n, 0]);
      else if (out === 0) prepared++;
      expect([n, record.exact]).toEqual([n, never]);
      expect([n, budget.snapshot().microUsd.spent]).toEqual([n, never ? 0 : RESERVED]);
      expect([n, gone()]).toEqual([n, never ? [0, 0, 0] : [1, INPUT, ask.max_tokens]]);
      if (phases.at(-1) !== record.phase) phases.push(record.phase);
    }
    expect(phases).toEqual(['never-sent', 'cancelled']);
    // The client prepares a request after it has been handed on, where nobody can look: it is taken for sent.
    expect(prepared).toBeLessThanOrEqual(4);
  });

  it('of a client of which nobody knows what it does, what was handed to it may have been sent', async () => {
    const { records, budget, options } = books();
    const { client } = await counting([]);
    const other = { messages: { create: client.messages.create.bind(client.messages) } } as unknown as Anthropic;
    send(other, options).subscribe().unsubscribe();
    await sleep(20);
    expect(records).toMatchObject([{ phase: 'cancelled', exact: false, outputTokens: { ceiling: ask.max_tokens } }]);
    expect(budget.snapshot().microUsd.spent).toBe(RESERVED);
  });

  it('a gate in a pipe of its own hears of it as well; a pipe that does other work is charged', async () => {
    const { client } = await counting([]);
    const direct = new FleetBudget({ name: 'direct', usd: '1' });
    send(client, {})
      .pipe(fleetBudget(direct, { estimate: 1_000 }))
      .subscribe()
      .unsubscribe();
    const behind = new FleetBudget({ name: 'behind', usd: '1' });
    send(client, {})
      .pipe(toArray(), fleetBudget(behind, { estimate: 1_000 }))
      .subscribe()
      .unsubscribe();
    await sleep(20);
    expect([direct, behind].map((budget) => budget.snapshot().microUsd.spent)).toEqual([0, 1_000]);
  });

  it('a client without a key', async () => {
    const { records, budget, options, gone } = books();
    const client = new Anthropic({ apiKey: null, authToken: null, baseURL: 'http://127.0.0.1:9', logLevel: 'off' });
    await ended(send(client, options));
    expect(records).toMatchObject([{ phase: 'never-sent', exact: true }]);
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent: 0, reserved: 0 } });
    expect(gone()).toEqual([0, 0, 0]);
  });
});

describe('what was left when it was complete', () => {
  const settled = ({ records, budget, gone }: Books): void => {
    expect(records).toMatchObject([{ phase: 'final', exact: true }]);
    const [record] = records as [UsageRecord];
    expect(budget.snapshot().microUsd).toMatchObject({ spent: seenOf(record), uncertain: 0, reserved: 0 });
    expect(gone()).toEqual([1, record.inputTokens, record.outputTokens.floor]);
  };

  it('a stream, exactly at message_stop', async () => {
    const all = books();
    const { client } = await start([reply.text('hello there', { pace: { eventMs: 2 } })]);
    await ended(messageStream(client, ask, all.options).pipe(takeWhile(({ type }) => type !== 'message_stop')));
    await sleep(20);
    settled(all);
  });

  it('a stream, one event earlier: what it cost is not known for good', async () => {
    const { records, budget, options } = books();
    const { client } = await start([reply.text('hello there', { pace: { eventMs: 5 } })]);
    await ended(messageStream(client, ask, options).pipe(takeWhile(({ type }) => type !== 'message_delta')));
    await sleep(20);
    expect(records).toMatchObject([{ phase: 'cancelled', exact: false }]);
    expect(budget.snapshot().microUsd).toMatchObject({ spent: RESERVED, reserved: 0 });
    expect(budget.snapshot().microUsd.uncertain).toBeGreaterThan(0);
  });

  it.each([0, 1, 2, 3, 4, 5])('a whole reply, %i microtasks after it came: record and budget agree', async (n) => {
    const all = books();
    const { client } = await start([reply.text('hello there')]);
    const seen: UsageRecord[] = all.records;
    const usage = {
      next: (record: UsageRecord): void => {
        seen.push(record);
        if (n === 0) return running.unsubscribe();
        let left: Promise<void> = Promise.resolve();
        for (let i = 1; i < n; i++) left = left.then(() => undefined);
        void left.then(() => running.unsubscribe());
      },
    };
    const running = message(client, ask, { ...all.options, usage }).subscribe();
    for (let i = 0; i < 200 && seen.length === 0; i++) await sleep(5);
    await sleep(20);
    settled(all);
  });
});

describe("onCancel 'drain'", () => {
  const slow = (fault?: Fault): Reply =>
    reply.text('hello there, how are you', { pace: { eventMs: 6, chunkChars: 4 }, ...(fault && { fault }) });
  const leave = (client: Anthropic, options: RequestOptions, events: number): Promise<unknown> =>
    ended(messageStream(client, ask, { ...options, onCancel: 'drain' }).pipe(take(events)));

  it('what is set aside stays so while the reply is read to its end, and settles with what it has used', async () => {
    const { records, budget, options, gone } = books();
    const { client, server } = await start([slow()]);
    await leave(client, options, 3);
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent: 0, reserved: RESERVED }, inFlight: 1 });
    await server.whenIdle();
    await sleep(20);
    const [record] = records as [UsageRecord];
    expect(records).toMatchObject([{ phase: 'final', exact: true }]);
    expect(record.outputTokens.floor).toBeGreaterThan(3);
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent: seenOf(record), reserved: 0, uncertain: 0 }, inFlight: 0 });
    expect(gone()).toEqual([1, record.inputTokens, record.outputTokens.floor]);
  });

  it('one that breaks off meanwhile has cost nobody knows what', async () => {
    const { records, budget, options } = books();
    const { client, server } = await start([slow({ kind: 'reset', after: 7 })]);
    await leave(client, options, 3);
    await server.whenIdle();
    await sleep(40);
    expect(records).toMatchObject([{ phase: 'cancelled', exact: false, outputTokens: { ceiling: ask.max_tokens } }]);
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent: RESERVED, reserved: 0 }, inFlight: 0 });
  });

  it('who waits for room at the budget comes in when the reply has ended', async () => {
    const budget = new FleetBudget({ name: 'small', microUsd: RESERVED + 50 });
    const { options } = books({ budget, ask: () => ({ onExceed: 'wait' }) });
    const { client, server } = await start([slow(), reply.text('hello')]);
    await leave(client, options, 3);
    const second = ended(message(client, { ...ask, max_tokens: 10 }, options));
    await sleep(5);
    expect(server.stats().requests).toBe(1);
    expect(await second).toMatchObject([{ message: { content: [{ text: 'hello' }] } }]);
    expect(budget.snapshot().microUsd.reserved).toBe(0);
  });

  it('an agent that is left: its last request as well', async () => {
    const { records, budget, options } = books();
    const look = tool({ name: 'look', description: 'looks', effect: 'none', input: z.object({}), run: () => 'seen' });
    const { client, server } = await start([reply.toolUse([{ name: 'look', input: {} }]), slow()]);
    const { guard, usage } = options;
    const run = agent({ client, ...ask, tools: [look], modelGuard: guard, usage, onCancel: 'drain' });
    await ended(run.pipe(takeWhile((event) => !(event.type === 'text' && event.turn === 2))));
    await server.whenIdle();
    await sleep(20);
    expect(records.map(({ phase, exact }) => [phase, exact])).toEqual([
      ['final', true],
      ['final', true],
    ]);
    expect(budget.snapshot().microUsd).toMatchObject({ spent: sum(records.map(seenOf)), reserved: 0, uncertain: 0 });
  });
});

describe('attempts', () => {
  it.each(sends)('%s: one record for each, numbered, of which the sum is what the fleet has spent', async (_, send) => {
    const retry = new RetryGate({ name: 'claude', baseMs: 1, jitterMs: 0, random: () => 0 });
    const { records, budget, options } = books({ retry, bucket: bucketOf(1) });
    const { client, server } = await start([
      reply.error(529),
      reply.error(529),
      reply.error(429),
      reply.text('hello there'),
      reply.text('more'),
    ]);
    await ended(send(client, options));
    await ended(send(client, options));
    expect(records.map(({ attempt, phase, requestId }) => [attempt, phase, requestId])).toEqual([
      [1, 'failed', 'req_0001'],
      [2, 'failed', 'req_0002'],
      [3, 'failed', 'req_0003'],
      [4, 'final', 'req_0004'],
      [1, 'final', 'req_0005'],
    ]);
    expect(server.stats().requests).toBe(5);
    expect(records.every(({ exact }) => exact)).toBe(true);
    expect(budget.snapshot()).toMatchObject({
      microUsd: { spent: sum(records.map(seenOf)), reserved: 0, uncertain: 0 },
      calls: { spent: 5 },
    });
  });
});

describe('whatever happens', () => {
  const fault: fc.Arbitrary<Fault | undefined> = fc.option(
    fc.record({
      kind: fc.constantFrom('fin', 'reset', 'stall', 'error'),
      after: fc.constantFrom('request', 'headers', 1, 2, 3, 5, 6, 99),
    }) as fc.Arbitrary<Fault>,
    { nil: undefined, freq: 2 },
  );
  const answer: fc.Arbitrary<Reply> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ fault, eventMs: fc.constantFrom(0, 0, 1, 3), headersMs: fc.constantFrom(0, 2) }).map(toReply) },
    { weight: 1, arbitrary: fc.constantFrom(400, 429, 500, 503, 529).map((status) => reply.error(status)) },
  );
  function toReply({ fault: each, eventMs, headersMs }: { fault: Fault | undefined; eventMs: number; headersMs: number }): Reply {
    return reply.text('hello there, how are you', { pace: { eventMs, headersMs, chunkChars: 8 }, ...(each && { fault: each }) });
  }
  const job = fc.record({
    send: fc.constantFrom(...sends.map(([, send]) => send)),
    /** When it is left, in ms; 0 in the same turn. */
    leaveMs: fc.option(fc.constantFrom(0, 1, 2, 4, 8, 15), { nil: undefined, freq: 2 }),
    onCancel: fc.constantFrom('abort' as const, 'drain' as const),
  });

  it('there is one record for each attempt, and the budget lies between what they have cost at least and at most', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(answer, { minLength: 1, maxLength: 12 }),
        fc.array(job, { minLength: 1, maxLength: 5 }),
        async (answers, jobs) => {
          let served = 0;
          const { client, sent, requests } = await counting(() => answers[served++ % answers.length] as Reply);
          const retry = new RetryGate({ name: 'claude', baseMs: 1, capMs: 2, jitterMs: 0, maxAttempts: 3, maxElapsedMs: 40 });
          const { records, budget, bucket, options } = books({ retry, bucket: bucketOf(1) }, { headersMs: 100, idleMs: 100 });
          const run = ({ send, leaveMs, onCancel }: (typeof jobs)[number]): Promise<unknown> => {
            const source = send(client, { ...options, onCancel });
            if (leaveMs === undefined) return ended(source);
            if (leaveMs > 0) return ended(source.pipe(takeUntil(timer(leaveMs))));
            source.subscribe().unsubscribe();
            return Promise.resolve();
          };
          await Promise.all(jobs.map(run));
          for (let i = 0; i < 400 && budget.snapshot().inFlight > 0; i++) await sleep(5);
          await sleep(60);
          const out = records.filter(({ phase }) => phase !== 'never-sent');
          expect(out.length).toBe(sent());
          // A request that was given up before any answer may not have reached the server.
          const lost = out.filter(({ phase, requestId }) => phase !== 'failed' && requestId === null).length;
          expect(requests()).toBeLessThanOrEqual(out.length);
          expect(requests()).toBeGreaterThanOrEqual(out.length - lost);
          const ids = records.flatMap(({ requestId }) => requestId ?? []);
          expect(new Set(ids).size).toBe(ids.length);
          const { microUsd, tokens, calls, inFlight } = budget.snapshot();
          expect([microUsd.reserved, tokens.reserved, calls.reserved, inFlight, bucket.snapshot().inFlight]).toEqual([0, 0, 0, 0, 0]);
          expect(microUsd.spent).toBeGreaterThanOrEqual(sum(records.map(seenOf)));
          expect(microUsd.spent).toBeLessThanOrEqual(sum(records.map(mostOf)));
          expect(microUsd.spent).toBeLessThanOrEqual(microUsd.limit as number);
          if (records.every(({ exact }) => exact)) expect(microUsd).toMatchObject({ spent: sum(records.map(seenOf)), uncertain: 0 });
        },
      ),
      { numRuns: 40, timeout: 5_000, endOnFailure: true },
    );
  }, 60_000);
});
