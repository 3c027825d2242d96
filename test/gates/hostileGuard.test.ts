import fc from 'fast-check';
import { concat, defer, map, merge, NEVER, of, throwError, timer, VirtualTimeScheduler, type Observable, type Subscription } from 'rxjs';
import {
  bulkhead,
  CircuitBreaker,
  FleetBudget,
  guard,
  KeyedLock,
  RetryGate,
  scoped,
  Semaphore,
  TokenBucket,
  type GateEvent,
  type ScopeContext,
} from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { leakCheck } from '../support/leaks.js';
import { cleaning } from '../support/virtual.js';

/** Real gates under a virtual clock that may run dry: what is left in it then would have kept a process alive. */
class Clock extends VirtualTimeScheduler {
  pending(): number {
    return this.actions.filter((action) => !action.closed).length;
  }
}

const kinds = ['sync', 'value', 'throttle', 'server', 'own', 'throws', 'never', 'deaf', 'partial', 'many', 'stubborn', 'nested'] as const;
type Kind = (typeof kinds)[number];

const errorOf = (kind: Kind): unknown =>
  kind === 'throttle' ? { status: 429, headers: { 'retry-after-ms': '7' } } : kind === 'server' ? { status: 500 } : new Error('own');

function source(kind: Kind, ms: number, clock: Clock, ctx: ScopeContext, semaphore: Semaphore): Observable<number> {
  const later = <T>(value: T): Observable<T> => timer(ms, clock).pipe(map(() => value));
  switch (kind) {
    case 'sync':
      return of(3);
    case 'value':
      return later(5);
    case 'many':
      return merge(later(1), later(2), timer(2 * ms, clock).pipe(map(() => 40)));
    case 'partial':
      return concat(
        later(4),
        defer(() => throwError(() => errorOf('server'))),
      );
    case 'never':
      return NEVER;
    case 'deaf':
      return cleaning(ctx, 3);
    case 'stubborn':
      return merge(
        later(1),
        scoped((inner: ScopeContext) => cleaning(inner, 120), { scheduler: clock, graceMs: 10 }),
      );
    case 'nested':
      return concat(
        later(1),
        defer(() => of(2).pipe(bulkhead(semaphore))),
      );
    case 'throws':
      return defer((): never => {
        throw new Error('thrown');
      });
    default:
      return later(0).pipe(
        map(() => {
          throw errorOf(kind);
        }),
      );
  }
}

const call = fc.record({
  kind: fc.constantFrom(...kinds),
  at: fc.nat(30),
  ms: fc.integer({ min: 0, max: 12 }),
  leaves: fc.option(fc.nat(60), { nil: undefined }),
  estimate: fc.integer({ min: 0, max: 30 }),
  cost: fc.integer({ min: 0, max: 4 }),
  permits: fc.integer({ min: 1, max: 2 }),
  key: fc.option(fc.constantFrom('a', 'b'), { nil: undefined }),
  agent: fc.constantFrom('one', 'two'),
});
const acts = ['trip', 'isolate', 'budget', 'resume', 'raise', 'shrink', 'grow', 'pause', 'drain', 'reset'] as const;
const act = fc.record({ what: fc.constantFrom(...acts), at: fc.nat(60) });

describe('a guard of real gates', () => {
  it('C3, C4: whatever happens to the calls, every lease is settled once, nothing stays held, waiting or armed, and no limit is passed', () => {
    fc.assert(
      fc.property(
        fc.array(call, { minLength: 1, maxLength: 14 }),
        fc.array(act, { maxLength: 8 }),
        fc.boolean(),
        fc.boolean(),
        (calls, deeds, timed, reacts) => {
          const check = leakCheck();
          const clock = new Clock();
          const semaphore = new Semaphore({ name: 's', limit: 3, scheduler: clock });
          const bucket = new TokenBucket({ name: 't', capacity: 8, refill: { tokens: 1, everyMs: 3 }, scheduler: clock });
          const breaker = new CircuitBreaker({ name: 'c', failures: 2, openMs: 9, scheduler: clock });
          const retry = new RetryGate({ name: 'r', baseMs: 2, jitterMs: 0, random: () => 0.5, scheduler: clock, maxAttempts: 3 });
          const fleet = new FleetBudget({ name: 'f', microUsd: 120, scheduler: clock });
          const agents = { one: fleet.child('one', { microUsd: 70 }), two: fleet.child('two', { share: 0.5 }) };
          const lock = new KeyedLock({ name: 'l', scheduler: clock });
          const gates = [semaphore, bucket, breaker, retry, fleet, lock];
          const tally = new Map<string, { admitted: number; settled: number }>();
          let worst = 0;
          for (const gate of gates) {
            const count = { admitted: 0, settled: 0 };
            tally.set(gate.name, count);
            gate.events$.subscribe((event: GateEvent) => {
              if (event.type === 'admitted') count.admitted++;
              if (event.type === 'settled') count.settled++;
              const { spent, reserved, overrun } = fleet.snapshot().microUsd;
              worst = Math.max(worst, spent + reserved - overrun - Number(fleet.snapshot().microUsd.limit));
              if (!reacts) return;
              if (event.type === 'alert') breaker.trip('budget');
              if (event.type === 'tripped' && gate === breaker && !fleet.snapshot().tripped) agents.one.trip('breaker');
            });
          }
          const polite = guard<(typeof calls)[number]>({
            retry,
            breaker,
            lock,
            semaphore,
            bucket,
            budget: (req) => agents[req.agent],
            ...(timed && { timeoutMs: 8 }),
            ask: ({ cost, permits, key, estimate }) => ({
              cost,
              permits,
              key,
              estimate,
              writes: key === undefined ? [] : [key],
              used: (value) => ({ charged: value as number, cost: Math.min(4, value as number) }),
            }),
          });
          const ends = calls.map(() => 0);
          const running: (Subscription | undefined)[] = [];
          calls.forEach((each, i) => {
            clock.schedule(() => {
              const run = scoped(
                (ctx: ScopeContext) =>
                  defer(() => {
                    return source(each.kind, each.ms, clock, ctx, semaphore);
                  }).pipe((from) => defer(() => from), polite(each)),
                { scheduler: clock, graceMs: 50 },
              );
              running[i] = run.subscribe({ error: () => ends[i]!++, complete: () => ends[i]!++ });
            }, each.at);
            if (each.leaves !== undefined) clock.schedule(() => running[i]?.unsubscribe(), each.at + each.leaves);
          });
          const held: { dispose(): void }[] = [];
          for (const { what, at } of deeds)
            clock.schedule(() => {
              if (what === 'trip') breaker.trip('by hand');
              if (what === 'isolate') held.push(breaker.isolate());
              if (what === 'reset') breaker.reset();
              if (what === 'budget') fleet.trip('by hand');
              if (what === 'resume') fleet.resume();
              if (what === 'raise') fleet.raise({ microUsd: 10 });
              if (what === 'shrink') semaphore.setLimit(2);
              if (what === 'grow') semaphore.setLimit(4);
              if (what === 'pause') bucket.pause(6);
              if (what === 'drain') bucket.drain();
            }, at);
          clock.schedule(() => {
            for (const each of held) each.dispose();
            for (const each of running) each?.unsubscribe();
          }, 400);
          clock.flush();
          expect(ends.every((n) => n <= 1)).toBe(true);
          expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
          expect(bucket.snapshot()).toMatchObject({ inFlight: 0, waiting: 0 });
          expect(breaker.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, probing: 0 });
          expect(retry.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, backingOff: 0, probing: 0 });
          expect(lock.snapshot()).toMatchObject({ held: 0, waiting: 0, keys: [] });
          const { microUsd, calls: counted, children, inFlight, waiting } = fleet.snapshot();
          expect({ inFlight, waiting, reserved: microUsd.reserved, calls: counted.reserved }).toEqual({
            inFlight: 0,
            waiting: 0,
            reserved: 0,
            calls: 0,
          });
          expect(children.reduce((sum, child) => sum + child.microUsd.spent, 0)).toBe(microUsd.spent);
          expect(worst).toBeLessThanOrEqual(0);
          for (const [name, { admitted, settled }] of tally) expect({ name, settled }).toEqual({ name, settled: admitted });
          expect(clock.pending()).toBe(0);
          check();
        },
      ),
      { numRuns: 300 },
    );
  }, 60_000);

  const heard = (gate: CircuitBreaker | FleetBudget): string[] => {
    const types: string[] = [];
    gate.events$.subscribe((event) => {
      if (['revoked', 'settled', 'tripped'].includes(event.type))
        types.push(event.type === 'tripped' ? `tripped ${event.cancelled}` : event.type);
    });
    return types;
  };

  it('2.1: a trip in the middle of the teardown of another one tells of each call once', () => {
    const breaker = new CircuitBreaker({ name: 'c' });
    const budget = new FleetBudget({ name: 'f', microUsd: 100, alerts: [0.4] });
    budget.events$.subscribe(({ type }) => type === 'alert' && breaker.trip('alert'));
    const seen = heard(breaker);
    const errors: unknown[] = [];
    const polite = guard({ breaker, budget, ask: () => ({ estimate: 45 }) });
    for (let i = 0; i < 2; i++) NEVER.pipe(polite()).subscribe({ error: (error: { cause: unknown }) => errors.push(error.cause) });
    breaker.trip('by hand');
    expect(errors).toEqual(['by hand', 'by hand']);
    expect(seen.sort()).toEqual(['revoked', 'revoked', 'settled', 'settled', 'tripped 0', 'tripped 2']);
  });

  it('2.3: the same at a budget', () => {
    const budget = new FleetBudget({ name: 'f', microUsd: 100, alerts: [0.4] });
    budget.events$.subscribe(({ type }) => type === 'alert' && budget.trip('alert'));
    const seen = heard(budget);
    const errors: unknown[] = [];
    const polite = guard({ budget, ask: () => ({ estimate: 45 }) });
    for (let i = 0; i < 2; i++) NEVER.pipe(polite()).subscribe({ error: (error: { cause: unknown }) => errors.push(error.cause) });
    budget.trip('by hand');
    expect(errors).toEqual(['by hand', 'by hand']);
    expect(seen.sort()).toEqual(['revoked', 'revoked', 'settled', 'settled', 'tripped 0', 'tripped 2']);
  });
});
