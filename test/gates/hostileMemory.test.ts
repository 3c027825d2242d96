import { map, NEVER, of, Subject, VirtualTimeScheduler, type MonoTypeOperatorFunction, type SchedulerLike } from 'rxjs';
import {
  ApprovalGate,
  awaitApproval,
  bulkhead,
  circuitBreak,
  CircuitBreaker,
  DepthGate,
  depthLimit,
  FleetBudget,
  fleetBudget,
  guard,
  KeyedLock,
  RetryGate,
  retryThrough,
  Semaphore,
  serializeBy,
  TokenBucket,
  tokenBucket,
} from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { leakCheck } from '../support/leaks.js';

/** How many objects can be reached from one, without its clock. */
function reachable(from: object, without: object): number {
  const seen = new Set<object>([without]);
  const queue: object[] = [from];
  const add = (value: unknown): void => {
    if ((typeof value === 'object' || typeof value === 'function') && value !== null) queue.push(value);
  };
  for (let each = queue.pop(); each !== undefined; each = queue.pop()) {
    if (seen.has(each)) continue;
    seen.add(each);
    if (each instanceof Map) for (const pair of each as Map<unknown, unknown>) add(pair);
    if (each instanceof Set) for (const value of each as Set<unknown>) add(value);
    if (typeof each === 'function') continue;
    for (const name of Reflect.ownKeys(each)) add(Object.getOwnPropertyDescriptor(each, name)?.value);
  }
  return seen.size;
}

class Clock extends VirtualTimeScheduler {
  get pending(): number {
    return this.actions.filter(({ closed }) => !closed).length;
  }
}

const refill = { tokens: 1, everyMs: 1 };
type Through = (n: number) => MonoTypeOperatorFunction<number>;
type Make = (scheduler: SchedulerLike) => readonly [gate: object, through: Through];
const using =
  <G extends object>(make: (scheduler: SchedulerLike) => G, through: (gate: G, n: number) => MonoTypeOperatorFunction<number>): Make =>
  (scheduler) => {
    const gate = make(scheduler);
    return [gate, (n) => through(gate, n)];
  };

const cases: readonly (readonly [string, Make])[] = [
  [
    'Semaphore',
    using(
      (scheduler) => new Semaphore({ limit: 2, scheduler }),
      (gate, n) => bulkhead(gate, { key: `k${n}`, priority: n % 7 }),
    ),
  ],
  [
    'TokenBucket',
    using(
      (scheduler) => new TokenBucket({ capacity: 3, refill, maxWaitMs: 50, scheduler }),
      (gate, n) => tokenBucket(gate, { key: `k${n}`, priority: n % 7, cost: n % 3 }),
    ),
  ],
  [
    'CircuitBreaker',
    using(
      (scheduler) => new CircuitBreaker({ whileProbing: 'queue', openMs: 5, scheduler }),
      (gate) => circuitBreak(gate),
    ),
  ],
  [
    'FleetBudget',
    using(
      (scheduler) => new FleetBudget({ microUsd: 10, scheduler }),
      (gate, n) => fleetBudget(gate, { estimate: n % 6, actual: () => 0, onExceed: 'wait', onCancel: 'seen', chargeOnError: () => 0 }),
    ),
  ],
  [
    'RetryGate',
    using(
      (scheduler) => new RetryGate({ baseMs: 1, maxElapsedMs: 40, scheduler }),
      (gate) => retryThrough(gate),
    ),
  ],
  [
    'KeyedLock',
    using(
      (scheduler) => new KeyedLock({ scheduler }),
      (gate, n) => serializeBy(gate, { writes: [`k${n % 10}`], reads: [`r${n}`] }),
    ),
  ],
  [
    'DepthGate',
    using(
      (scheduler) => new DepthGate({ maxLive: 3, scheduler }),
      (gate) => depthLimit(gate),
    ),
  ],
  [
    'ApprovalGate',
    using(
      (scheduler) => new ApprovalGate({ expiresMs: 20, keepMs: 5, maxKept: 3, scheduler }),
      (gate, n) => awaitApproval(gate, { id: `i${n}`, keep: n % 2 === 0 }),
    ),
  ],
];

describe('what calls leave behind', () => {
  it.each(cases)(
    '%s: nothing after 100,000 calls that end, fail, wait, leave and are stopped',
    (name, make) => {
      const check = leakCheck();
      const clock = new Clock();
      const [gate, through] = make(clock);
      const quiet = { error: () => undefined };
      const before = reachable(gate, clock);
      const errors = [{ status: 500 }, { status: 429 }, new Error('own'), { status: 400 }];
      for (let round = 0; round < 1_000; round++) {
        const n = round * 100;
        for (let i = 0; i < 70; i++)
          of(i)
            .pipe(through(n + i))
            .subscribe(quiet);
        const open = Array.from({ length: 20 }, (_, i) => NEVER.pipe(through(n + 70 + i)).subscribe(quiet));
        const failing = new Subject<number>();
        for (let i = 0; i < 10; i++) failing.pipe(through(n + 90 + i)).subscribe(quiet);
        failing.error(errors[round % 4]);
        for (const each of open) each.unsubscribe();
        if (round % 10 === 0) clock.flush();
      }
      clock.flush();
      if (name === 'ApprovalGate') NEVER.pipe(through(-1)).subscribe(quiet).unsubscribe();
      expect(clock.pending).toBe(0);
      expect(reachable(gate, clock) - before).toBeLessThan(60);
      check();
    },
    60_000,
  );

  it('a guard of all of them neither', () => {
    const check = leakCheck();
    const clock = new Clock();
    const scheduler = clock;
    const gates = {
      retry: new RetryGate({ baseMs: 1, scheduler }),
      breaker: new CircuitBreaker({ scheduler }),
      budget: new FleetBudget({ usd: '1000', scheduler }),
      lock: new KeyedLock({ scheduler }),
      semaphore: new Semaphore({ limit: 3, scheduler }),
      bucket: new TokenBucket({ capacity: 1_000_000, refill, scheduler }),
    };
    const polite = guard<number>({ ...gates, ask: (n) => ({ estimate: 5, reads: [`k${n}`], used: () => ({ charged: 1 }) }) });
    const before = reachable(gates, clock);
    for (let n = 0; n < 20_000; n++) {
      of(n)
        .pipe(
          map((each) => each),
          polite(n),
        )
        .subscribe();
      NEVER.pipe(polite(n)).subscribe().unsubscribe();
    }
    clock.flush();
    expect(clock.pending).toBe(0);
    // The history of grants of a bucket is a ring of 1,024 numbers, which are no objects.
    expect(reachable(gates, clock) - before).toBeLessThan(60);
    check();
  }, 60_000);
});
