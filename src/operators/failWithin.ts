import type { MonoTypeOperatorFunction } from 'rxjs';
import type { ScopeOptions } from '../core/options.js';
import { within } from './deadline.js';

/**
 * Gives the whole source a total time. When it has passed, everything below is stopped, and the output errors once it has.
 *
 * ```
 * source    --a--b-----c---d--|           source    --a--b----------
 *                                         calls       ------x~~|      told to stop at 8
 * output    --a--b--#                     output    --a--b-----#
 * ```
 *
 * Use it where a partial result is worth nothing. Unlike `timeout`, a source that keeps emitting fails as well.
 *
 * ```ts
 * import { NEVER } from 'rxjs';
 * import { failWithin } from 'rxfleet';
 *
 * NEVER.pipe(failWithin(10, { label: 'lookup' })).subscribe({ error: (error) => console.log(error.message) });
 * ```
 *
 * @param ms - total time in milliseconds from subscription, 0 or more; null and Infinity mean none. RangeError for NaN
 * and negatives. What completes in the deadline's own frame is in time.
 * @param options - those of every scope
 * @returns an operator that errors with DeadlineExceededError at the deadline, passes the source's own error unchanged, and
 * errors with ScopeCancelledError when its signal or parent cancelled it; unsubscribing stops everything below
 * @see takeWithin for partial results
 */
export function failWithin<T>(ms: number | null, options: ScopeOptions = {}): MonoTypeOperatorFunction<T> {
  return within('failWithin', ms, options, false, undefined);
}
