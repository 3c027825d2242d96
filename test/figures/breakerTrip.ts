import { finalize, interval, type Observable, take, tap, throwError, timer } from 'rxjs';
import { circuitBreak, CircuitBreaker } from '../../src/index.js';
import { simulate } from './virtualTime.js';

export const IN_FLIGHT = 15;
const TOKENS_PER_SECOND = 50;
const DOWN_MS = 10_500;

export interface Trip {
  readonly trippedMs: number;
  /** Milliseconds, and tokens billed by then. */
  readonly billed: readonly (readonly [ms: number, tokens: number])[];
  readonly total: number;
  readonly afterTrip: number;
  /** How many calls were still in flight when the failure that tripped the breaker was told, in the turn of the trip. */
  readonly inFlightWhenTold: number;
  /** What the calls in flight ended with. */
  readonly errors: readonly string[];
}

/** Fifteen answers of 30 to 58 s are in flight when requests begin to fail, one each second; the fifth trips the breaker. */
export function breakerTrip(cancelInFlight: boolean): Trip {
  const billed: [number, number][] = [[0, 0]];
  const errors: string[] = [];
  let [total, atTrip, trippedMs, live, inFlightWhenTold] = [0, 0, 0, 0, 0];
  simulate((now) => {
    const breaker = new CircuitBreaker({ failures: 5, openMs: 60_000, cancelInFlight });
    const bill = (): void => void billed.push([now(), (total += TOKENS_PER_SECOND)]);
    for (let i = 0; i < IN_FLIGHT; i++) {
      live++;
      answer(30 + 2 * i, bill)
        .pipe(
          finalize(() => live--),
          circuitBreak(breaker),
        )
        .subscribe({ error: (error: Error) => errors.push(error.name) });
    }
    const failing = throwError(() => ({ status: 500 })).pipe(circuitBreak(breaker));
    const told = (): void => {
      if (breaker.state === 'open' && trippedMs === 0) [trippedMs, atTrip, inFlightWhenTold] = [now(), total, live];
    };
    timer(DOWN_MS, 1_000)
      .pipe(take(5))
      .subscribe(() => failing.subscribe({ error: told }));
  });
  return { trippedMs, billed, total, afterTrip: total - atTrip, inFlightWhenTold, errors };
}

/** A streamed answer, which is billed as it comes. */
function answer(seconds: number, bill: () => void): Observable<number> {
  return interval(1_000).pipe(take(seconds), tap(bill));
}
