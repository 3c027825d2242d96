import type { MonoTypeOperatorFunction } from 'rxjs';
import { checkFunction, type ScopeOptions } from '../core/options.js';
import { within, type DeadlineEnd } from './deadline.js';

export interface TakeWithinOptions extends ScopeOptions {
  /** Called once when the scope has closed, before the output ends: tells a finished stream from one that was cut off. */
  readonly onEnd?: ((end: DeadlineEnd) => void) | undefined;
}

/**
 * Forwards what arrives within a total time, then stops everything below, waits until it has stopped, and completes.
 *
 * ```
 * source    --a--b-----c---d--|           source    --a--b----------
 *                                         calls       ------x~~|      told to stop at 8
 * output    --a--b--|                     output    --a--b-----|
 * ```
 *
 * Use it for "whatever arrived in three seconds"; failWithin where a partial result is worth nothing.
 *
 * ```ts
 * import { interval } from 'rxjs';
 * import { takeWithin } from 'rxfleet';
 *
 * interval(10).pipe(takeWithin(35, { onEnd: ({ timedOut }) => console.log({ timedOut }) })).subscribe();
 * ```
 *
 * @param ms - total time in milliseconds from subscription, 0 or more; null and Infinity mean none. RangeError for NaN
 * and negatives. What is due in the deadline's own frame comes first.
 * @param options - those of every scope, and `onEnd`
 * @returns an operator that passes the source's own error unchanged, errors with ScopeError when something failed while
 * it was stopped, and with ScopeCancelledError when its signal or parent cancelled it; unsubscribing stops everything below
 * @see failWithin for an error at the deadline
 */
export function takeWithin<T>(ms: number | null, options: TakeWithinOptions = {}): MonoTypeOperatorFunction<T> {
  const { onEnd } = options;
  if (onEnd !== undefined) checkFunction('takeWithin', 'onEnd', onEnd);
  return within('takeWithin', ms, options, true, onEnd);
}
