import { defer, merge, mergeMap, range, retry, throwError, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { RetryGate } from '../../src/gates/retryGate.js';
import { retryThrough } from '../../src/operators/retryThrough.js';
import { virtual } from '../support/virtual.js';

/** A generator of chance that can be repeated. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Outcome {
  readonly requests: number;
  /** Those that the server could not serve yet. */
  readonly during: number;
  readonly successes: number;
  readonly doneMs: number;
}

type Client = (call: Observable<string>) => Observable<string>;

const THROTTLED = { status: 429, headers: { 'retry-after': '1' } };

/** So many callers at once; the server answers 429 until `until`, and then serves so many requests in every second. */
function storm(client: Client, { callers = 200, until = 10_000, perSecond = 10, latencyMs = (): number => 5 } = {}): Outcome {
  const seen = { requests: 0, during: 0, successes: 0, doneMs: 0 };
  virtual(({ now, flush }) => {
    let second = -1;
    let served = 0;
    const serve = (): boolean => {
      const at = Math.floor(now() / 1_000);
      if (at !== second) [second, served] = [at, 0];
      return now() >= until && served++ < perSecond;
    };
    const call = defer(() => {
      seen.requests++;
      if (now() < until) seen.during++;
      const ok = serve();
      return timer(latencyMs()).pipe(mergeMap(() => (ok ? ['ok'] : throwError(() => THROTTLED))));
    });
    merge(...Array.from({ length: callers }, () => client(call))).subscribe({
      next: () => {
        seen.successes++;
        seen.doneMs = now();
      },
      error: () => undefined,
    });
    flush();
  });
  return seen;
}

/** Each caller for itself. */
const alone =
  (waitMs: (attempt: number) => number, count = Infinity): Client =>
  (call) =>
    call.pipe(retry({ count, delay: (_, attempt) => timer(waitMs(attempt)) }));

const through =
  (gate: RetryGate): Client =>
  (call) =>
    call.pipe(retryThrough(gate));

const SEEDS = Array.from({ length: 10 }, (_, i) => i + 1);

describe('200 callers, an outage of 10 s with Retry-After: 1, then 10 requests a second #83', () => {
  it('each alone with full jitter: more than 1,200 requests, done after more than 40 s', () => {
    for (const seed of SEEDS) {
      const random = chance(seed);
      const { requests, successes, doneMs } = storm(alone((attempt) => random() * Math.min(30_000, 500 * 2 ** (attempt - 1))));
      expect(successes).toBe(200);
      expect(requests).toBeGreaterThan(1_200);
      expect(doneMs).toBeGreaterThan(40_000);
    }
  });

  it('each alone after Retry-After: 4,100 requests, done after 29 s', () => {
    const outcome = storm(
      alone(() => 1_000),
      { latencyMs: () => 0 },
    );
    expect(outcome).toMatchObject({ requests: 4_100, successes: 200, doneMs: 29_000 });
  });

  it.each(SEEDS)('through one gate: at most 520 requests, done within 30 s (chance %d)', (seed) => {
    const gate = new RetryGate({ random: chance(seed), capMs: 1_000 });
    const { requests, successes, doneMs } = storm(through(gate));
    expect(successes).toBe(200);
    expect(requests).toBeLessThanOrEqual(520);
    expect(requests).toBeLessThanOrEqual(2.7 * successes);
    expect(doneMs).toBeLessThanOrEqual(30_000);
    expect(gate.snapshot()).toMatchObject({ state: 'open', inFlight: 0, waiting: 0, backingOff: 0 });
  });

  it.each(SEEDS)('with all defaults it sends no more, though it may find out later that the outage is over (chance %d)', (seed) => {
    const { requests, successes, doneMs } = storm(through(new RetryGate({ random: chance(seed) })));
    expect(successes).toBe(200);
    expect(requests).toBeLessThanOrEqual(520);
    expect(doneMs).toBeLessThanOrEqual(65_000);
  });

  it.each(SEEDS)('with answers that take 20 to 40 ms: at most 600 requests, done within 34 s (chance %d)', (seed) => {
    const random = chance(seed);
    const { requests, successes, doneMs } = storm(through(new RetryGate({ random, capMs: 1_000 })), {
      latencyMs: () => 20 + Math.floor(random() * 21),
    });
    expect(successes).toBe(200);
    expect(requests).toBeLessThanOrEqual(600);
    expect(doneMs).toBeLessThanOrEqual(34_000);
  });
});

describe('20 agents that all meet one 429', () => {
  const short = { callers: 20, until: 5_500, perSecond: 1_000 };

  it('retry five times each alone: 100 calls more, all in vain', () => {
    const { requests, successes } = storm(
      alone(() => 1_000, 5),
      { ...short, latencyMs: () => 0 },
    );
    expect([requests - 20, successes]).toEqual([100, 0]);
  });

  it.each(SEEDS)('through one gate: one probe for each pause instead of a wave, and all succeed (chance %d)', (seed) => {
    const { requests, during, successes } = storm(through(new RetryGate({ random: chance(seed), capMs: 1_000 })), short);
    expect(during - 20).toBeLessThanOrEqual(5);
    expect(requests - during).toBe(20);
    expect(successes).toBe(20);
  });

  it('the wave after one pause is 20 calls at once alone, and one through the gate', () => {
    const wave = (client: Client): number[] => {
      const made: number[] = [];
      virtual(({ now, flush }) => {
        const call = defer(() => {
          made.push(now());
          return now() === 0 ? throwError(() => THROTTLED) : timer(10).pipe(mergeMap(() => ['ok']));
        });
        range(20)
          .pipe(mergeMap(() => client(call)))
          .subscribe();
        flush();
      });
      return made.filter((at) => at > 0);
    };
    expect(wave(alone(() => 1_000)).filter((at) => at === 1_000)).toHaveLength(20);
    const gated = wave(through(new RetryGate({ jitterMs: 0, capMs: 1_000 })));
    expect([1_000, 1_010, 1_020, 1_030, 1_040].map((at) => gated.filter((each) => each === at).length)).toEqual([1, 2, 4, 8, 5]);
  });
});
