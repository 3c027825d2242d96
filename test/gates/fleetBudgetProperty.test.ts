import fc from 'fast-check';
import { finalize, Observable, type Subscription } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { UNITS } from '../../src/gates/budgetAccount.js';
import { type BudgetNode, FleetBudget } from '../../src/gates/fleetBudget.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { fleetBudget } from '../../src/operators/fleetBudget.js';
import { virtual } from '../support/virtual.js';

/** A call: when it comes, what it estimates, when it reports what, how it ends, and when its subscriber leaves. */
const call = fc.record({
  at: fc.nat(30),
  node: fc.nat(3),
  estimate: fc.nat(60),
  wait: fc.boolean(),
  inner: fc.boolean(),
  reports: fc.array(fc.record({ after: fc.nat(5), microUsd: fc.nat(80) }), { maxLength: 3, size: 'max' }),
  end: fc.constantFrom('complete', 'throttled', 'boom', 'never', 'sync'),
  leaves: fc.option(fc.nat(20), { nil: undefined }),
});

const act = fc.record({ at: fc.nat(40), node: fc.nat(3), what: fc.constantFrom('raise', 'trip', 'resume', 'dispose'), by: fc.nat(50) });

type Plan = typeof call extends fc.Arbitrary<infer P> ? P : never;

interface Run {
  readonly plan: Plan;
  started: number;
  seen: number | undefined;
  ended: 'cancelled' | 'complete' | 'throttled' | 'boom';
}

/** What it must have been charged. */
function charge({ plan, started, seen, ended }: Run): number {
  if (started === 0) return 0;
  if (ended === 'complete' || ended === 'boom') return seen ?? plan.estimate;
  return ended === 'throttled' ? (seen ?? 0) : Math.max(plan.estimate, seen ?? 0);
}

describe('a fleet of calls', () => {
  it('#2.3 whatever happens: the ledger is the sum of its leaves, no limit is passed but by what had been used already, all comes back', () =>
    fc.assert(
      fc.property(
        fc.array(call, { minLength: 1, maxLength: 30, size: 'max' }),
        fc.array(act, { maxLength: 4, size: 'max' }),
        fc.array(fc.integer({ min: 20, max: 150 }), { minLength: 4, maxLength: 4 }),
        (plans, acts, limits) =>
          virtual(({ at, flush }) => {
            const fleet = new FleetBudget({ name: 'fleet', microUsd: limits[0]! });
            const agent = fleet.child('agent', { microUsd: limits[1]! });
            const nodes: readonly BudgetNode[] = [
              fleet,
              agent,
              agent.child('task', { microUsd: limits[2]! }),
              fleet.child('other', { share: 0.5 }),
            ];
            const narrow = new Semaphore({ limit: 2 });
            const check = (): void => {
              for (const node of nodes) {
                const { limit, spent, reserved, overrun, uncertain } = node.snapshot().microUsd;
                expect(spent + reserved).toBeLessThanOrEqual((limit as number) + overrun);
                expect(uncertain).toBeLessThanOrEqual(spent);
              }
            };
            fleet.events$.subscribe(check);
            const runs: Run[] = [];
            const open: Subscription[] = [];
            for (const plan of plans) at(plan.at, () => begin(plan));
            for (const { at: when, node, what, by } of acts)
              at(when, () => (what === 'raise' ? nodes[node]!.raise({ microUsd: by }) : nodes[node]![what](by as never)));
            at(100, () => {
              for (const each of open) each.unsubscribe();
            });
            flush();
            check();
            const parents = [undefined, 0, 1, 0];
            for (const [i, node] of nodes.entries()) {
              const below = (n: number | undefined): boolean => n !== undefined && (n === i || below(parents[n]));
              const mine = runs.filter(({ plan }) => below(plan.node));
              const { microUsd, calls, inFlight, waiting } = node.snapshot();
              expect(microUsd.spent).toBe(mine.reduce((sum, run) => sum + charge(run), 0));
              expect(calls.spent).toBe(mine.filter(({ started }) => started > 0).length);
              expect([microUsd.reserved, calls.reserved, inFlight, waiting]).toEqual([0, 0, 0, 0]);
              for (const unit of UNITS) expect(node.snapshot()[unit].reserved).toBe(0);
            }

            function begin(plan: Plan): void {
              const run: Run = { plan, started: 0, seen: undefined, ended: 'cancelled' };
              runs.push(run);
              const source = sourceOf(plan, run, at);
              const inside = plan.inner ? source.pipe(bulkhead(narrow)) : source;
              const guarded = inside.pipe(
                fleetBudget(nodes[plan.node]!, {
                  estimate: plan.estimate,
                  onExceed: plan.wait ? 'wait' : 'error',
                  actual: (microUsd) => {
                    run.seen = Math.max(run.seen ?? 0, microUsd);
                    return microUsd;
                  },
                }),
                finalize(check),
              );
              const subscription = guarded.subscribe({ error: () => check(), complete: () => check() });
              open.push(subscription);
              if (plan.leaves !== undefined) at(plan.leaves, () => subscription.unsubscribe());
            }
          }),
      ),
      { numRuns: 400 },
    ));
});

function sourceOf(plan: Plan, run: Run, at: (frame: number, task: () => void) => void): Observable<number> {
  return new Observable<number>((out) => {
    run.started++;
    const finish = (): void => {
      if (out.closed || plan.end === 'never') return;
      run.ended = plan.end === 'sync' ? 'complete' : plan.end;
      if (run.ended === 'complete') out.complete();
      else out.error(run.ended === 'throttled' ? { status: 429 } : new Error('boom'));
    };
    const emit = (microUsd: number): void => {
      if (!out.closed) out.next(microUsd);
    };
    if (plan.end === 'sync') {
      for (const { microUsd } of plan.reports) emit(microUsd);
      return finish();
    }
    let time = 0;
    for (const { after, microUsd } of plan.reports) at((time += after), () => emit(microUsd));
    at(time + 1, finish);
  });
}
