import { catchError, defer, EMPTY, map, merge, of, repeat, tap, throwError, timer, type Observable } from 'rxjs';
import { FleetBudget, fleetBudget, usd } from '../../src/index.js';
import { chance, simulate } from './virtualTime.js';

export const LIMIT: number = usd('1.00');
const [LEAST, MOST] = [usd('0.005'), usd('0.05')];

export interface Spending {
  /** Milliseconds, and micro-dollars spent by then. */
  readonly spent: readonly (readonly [ms: number, microUsd: number])[];
  readonly total: number;
  /** The most that was spent and set aside at any time. */
  readonly peak: number;
}

type Call = Observable<number>;

/** Agents that make one call after the other until they are told that the money is gone. */
function runAgents(agents: number, call: Call, note: () => void): void {
  const agent = call.pipe(
    tap({ complete: note }),
    repeat(),
    catchError(() => EMPTY),
  );
  merge(...Array.from({ length: agents }, () => agent)).subscribe();
}

/** A call takes one to three seconds and emits what it has cost: from half a cent to five cents. */
function makeModel(): Call {
  const random = chance(1);
  return defer(() => timer(1_000 + random() * 2_000).pipe(map(() => LEAST + Math.floor(random() * (MOST - LEAST + 1)))));
}

/** Looks at what is spent before a call, and adds up after it. */
export function checkThenRecord(agents: number): Spending {
  const spent: [number, number][] = [[0, 0]];
  let total = 0;
  simulate((now) => {
    const model = makeModel();
    const call = defer(() => (total < LIMIT ? model : throwError(() => new Error('the money is gone')))).pipe(
      tap((cost) => (total += cost)),
    );
    runAgents(agents, call, () => spent.push([now(), total]));
  });
  return { spent, total, peak: total };
}

/** Sets the most aside before a call, and pays after it. */
export function reserveThenSettle(agents: number): Spending {
  const spent: [number, number][] = [[0, 0]];
  let [total, peak] = [0, 0];
  simulate((now) => {
    const budget = new FleetBudget({ name: 'fleet', microUsd: LIMIT });
    const call = makeModel().pipe(fleetBudget(budget, { estimate: MOST, actual: (cost) => cost }));
    const watching = budget.state$.subscribe(({ microUsd }) => (peak = Math.max(peak, microUsd.spent + microUsd.reserved)));
    runAgents(agents, call, () => spent.push([now(), (total = budget.snapshot().microUsd.spent)]));
    timer(60_000).subscribe(() => watching.unsubscribe());
  });
  return { spent, total, peak };
}

export interface SimpleBudgets {
  readonly budgets: number;
  readonly wrongInIntegers: number;
  readonly wrongInFloats: number;
}

/** Calls of 1 to 50 cents, and budgets for exactly 1 to 100 of them: how many budgets let in more calls, or fewer. */
export function simpleBudgets(): SimpleBudgets {
  let [budgets, wrongInIntegers, wrongInFloats] = [0, 0, 0];
  for (let cents = 1; cents <= 50; cents++)
    for (let calls = 1; calls <= 100; calls++) {
      budgets++;
      if (admittedByBudget(cents, calls) !== calls) wrongInIntegers++;
      if (admittedInFloats(cents / 100, (cents * calls) / 100) !== calls) wrongInFloats++;
    }
  return { budgets, wrongInIntegers, wrongInFloats };
}

function admittedByBudget(cents: number, calls: number): number {
  const [price, budget] = [usd((cents / 100).toFixed(2)), new FleetBudget({ usd: ((cents * calls) / 100).toFixed(2) })];
  const call = of('answer').pipe(fleetBudget(budget, { estimate: price, actual: () => price }));
  let admitted = 0;
  let refused = false;
  while (!refused) call.subscribe({ complete: () => admitted++, error: () => (refused = true) });
  return admitted;
}

function admittedInFloats(price: number, limit: number): number {
  let [admitted, left] = [0, limit];
  for (; left >= price; admitted++) left -= price;
  return admitted;
}
