import fc from 'fast-check';
import { concat, defer, EMPTY, NEVER, of, throwError, type Observable, type SchedulerLike } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { RetryGate } from '../../src/gates/retryGate.js';
import { retryThrough } from '../../src/operators/retryThrough.js';
import { pause, virtual } from '../support/virtual.js';

const OUTCOMES = ['value', 'empty', 'down', 'busy', 'busy, asks', 'far too long', 'fatal', 'value, then down', 'hangs'] as const;
type Outcome = (typeof OUTCOMES)[number];

const ERRORS: Partial<Record<Outcome, object>> = {
  down: { status: 500 },
  busy: { status: 429 },
  'busy, asks': { status: 429, headers: { 'retry-after-ms': '40' } },
  'far too long': { status: 429, headers: { 'retry-after-ms': '9000' } },
  fatal: { status: 400 },
  'value, then down': { status: 502 },
};

interface Step {
  readonly what: Outcome;
  /** When it comes; undefined while it is being subscribed. */
  readonly ms: number | undefined;
}

interface Plan {
  readonly at: number;
  /** Of one attempt after the other; after these it succeeds. */
  readonly steps: readonly Step[];
  readonly leavesAfter: number | undefined;
  readonly maxElapsedMs: number | undefined;
  readonly retryPartial: boolean;
}

const sometimes = (most: number): fc.Arbitrary<number | undefined> => fc.option(fc.nat(most), { nil: undefined });
const plan: fc.Arbitrary<Plan> = fc.record({
  at: fc.nat(300),
  steps: fc.array(fc.record({ what: fc.constantFrom('busy' as const, 'down' as const, ...OUTCOMES), ms: sometimes(60) }), { maxLength: 8 }),
  leavesAfter: sometimes(200),
  maxElapsedMs: sometimes(300),
  retryPartial: fc.boolean(),
});

const script = fc.record({
  plans: fc.array(plan, { minLength: 1, maxLength: 25 }),
  jumps: fc.array(fc.record({ at: fc.nat(400), by: fc.integer({ min: -1_000, max: 1_000 }) }), { maxLength: 3 }),
  initial: fc.integer({ min: 1, max: 3 }),
  step: fc.integer({ min: 1, max: 3 }),
  chance: fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 1, maxLength: 9 }),
  budget: fc.constantFrom(null, { ratio: 0.5, minPerSec: 1 }, { ratio: 0, minPerSec: 0 }),
  disposedAt: sometimes(2_000),
});

function result(what: Outcome): Observable<string> {
  const error = ERRORS[what];
  const fails = error === undefined ? EMPTY : throwError(() => error);
  if (what === 'hangs') return NEVER;
  return what === 'value' ? of('v') : what === 'value, then down' ? concat(of('v'), fails) : fails;
}

function attempt({ what, ms }: Step): Observable<string> {
  return ms === undefined ? result(what) : concat(pause(ms), result(what));
}

/** How the steps of one call went. */
interface Course {
  made: number;
  readonly failures: Outcome[];
  emitted: number;
  over: boolean;
  hanging: boolean;
}

describe('whatever calls do, unsubscribe or time does', () => {
  it('the gate never sticks, attempts stay within bounds, and nothing is left behind', () => {
    fc.assert(
      fc.property(script, ({ plans, jumps, initial, step, chance, budget, disposedAt }) => {
        virtual(({ scheduler, at, flush }) => {
          const clock = {
            skew: 0,
            now: () => scheduler.now() + clock.skew,
            schedule: (...args: Parameters<SchedulerLike['schedule']>) => scheduler.schedule(...args),
          };
          let draws = 0;
          const random = (): number => chance[draws++ % chance.length] as number;
          const slowStart = { initial, step };
          const rules = { baseMs: 10, capMs: 200, jitterMs: 5, maxAttempts: 3, maxRetryAfterMs: 1_000, probeMaxMs: 100 };
          const gate = new RetryGate({ ...rules, random, slowStart, budget, scheduler: clock });
          gate.state$.subscribe(({ state, allowed, probing }) => {
            if (state === 'reopening') expect(probing).toBeLessThanOrEqual(allowed as number);
            if (state === 'open') expect(probing).toBe(0);
          });
          const courses = plans.map((each) => run(gate, each, at));
          for (const { at: when, by } of jumps) at(when, () => (clock.skew += by));
          if (disposedAt !== undefined) at(disposedAt, () => gate.dispose());
          flush();
          for (const [i, course] of courses.entries()) {
            expect(course.over || course.hanging).toBe(true);
            check(course, plans[i] as Plan);
          }
          expect(gate.snapshot()).toMatchObject({ waiting: 0, backingOff: 0, inFlight: courses.filter(({ hanging }) => hanging).length });
          expect(scheduler.actions).toHaveLength(0);
          gate.dispose({ cancelInFlight: true });
        });
      }),
      { numRuns: 500 },
    );
  });

  it('who came first is let in first', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ at: fc.nat(30), leaves: fc.boolean() }), { maxLength: 40 }), (callers) => {
        virtual(({ at, flush }) => {
          const gate = new RetryGate({ jitterMs: 0, retryAfter: () => 50 });
          let made = 0;
          defer(() => (made++ === 0 ? throwError(() => ({ status: 429 })) : EMPTY))
            .pipe(retryThrough(gate))
            .subscribe();
          const order: number[] = [];
          const arrival: number[] = [];
          for (const [i, caller] of callers.entries())
            at(caller.at, () => {
              const sub = defer(() => (order.push(i), pause(i % 3)))
                .pipe(retryThrough(gate))
                .subscribe();
              if (caller.leaves) at(5, () => sub.unsubscribe());
              else arrival.push(i);
            });
          flush();
          expect(order).toEqual(arrival);
        });
      }),
      { numRuns: 200 },
    );
  });
});

function run(
  gate: RetryGate,
  { at: start, steps, leavesAfter, maxElapsedMs, retryPartial }: Plan,
  at: (ms: number, task: () => void) => void,
): Course {
  const course: Course = { made: 0, failures: [], emitted: 0, over: false, hanging: false };
  const source = defer(() => {
    expect(course.over).toBe(false);
    const step = steps[course.made++] ?? { what: 'value', ms: 1 };
    course.hanging = step.what === 'hangs';
    course.failures.push(step.what);
    return attempt(step);
  });
  at(start, () => {
    const over = (): void => void (course.over = true);
    const sub = source.pipe(retryThrough(gate, { maxElapsedMs, retryPartial })).subscribe({
      next: () => course.emitted++,
      error: over,
      complete: over,
    });
    if (leavesAfter !== undefined)
      at(leavesAfter, () => {
        course.hanging = false;
        course.over = true;
        sub.unsubscribe();
      });
  });
  return course;
}

/** That every attempt but the last was one to be repeated. */
function check({ made, failures }: Course, { retryPartial }: Plan): void {
  const repeated = failures.slice(0, made - 1);
  const partial = retryPartial ? ['value, then down'] : [];
  for (const what of repeated) expect(['down', 'busy', 'busy, asks', ...partial]).toContain(what);
  expect(repeated.filter((what) => what === 'down' || what === 'value, then down').length).toBeLessThan(3);
}
