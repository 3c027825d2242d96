import type { MonoTypeOperatorFunction } from 'rxjs';
import type { RetryGate } from '../gates/retryGate.js';
import { checkRetryAsk, type RetryAsk } from '../gates/retryOptions.js';
import { gated } from './admit.js';

/** How these calls are treated, instead of the gate's own rules. */
export type RetryThroughOptions = RetryAsk;

/**
 * Tries a call again when that may help, in step with everybody else who calls the same thing: after "too many requests" all
 * wait for one pause, and one call finds out whether it is over.
 *
 * ```
 * call 1    --#                           call 1    --#
 *             .....--a--|                             ....!        unsubscribed: no further attempt
 *           retryThrough(gate)                      retryThrough(gate)
 * output 1  ---------a--|                 output 1  ------
 * call 2      ..........--b--|            its source is not subscribed before call 1 has succeeded
 * ```
 *
 * Use it around the single call, one gate for each quota: a provider, an API key, a model. Switch off the retries of the
 * client inside. A call that has shown a value is not repeated, for downstream would see it twice.
 *
 * ```ts
 * import { defer, of, throwError } from 'rxjs';
 * import { RetryGate, retryThrough } from 'rxfleet';
 *
 * let attempts = 0;
 * const call = defer(() => (++attempts < 3 ? throwError(() => ({ status: 500 })) : of('done')));
 * const provider = new RetryGate({ name: 'provider', baseMs: 1 });
 * call.pipe(retryThrough(provider)).subscribe((value) => console.log(value, attempts));
 * ```
 *
 * @param gate - shared by all calls that are throttled together
 * @param options - for these calls, instead of the gate's own: `classify` (what an error means), `maxAttempts` (how many
 * attempts may fail, without those that were throttled), `maxElapsedMs` (no attempt begins so many milliseconds after the
 * first); and `retryPartial` (try again also after a value, default false)
 * @returns an operator that errors with the error of the last attempt, unchanged, when it gives up; with
 * RetryAfterTooLongError when the server asks to wait longer than the gate allows; with ResourceDisposedError. Unsubscribing
 * leaves the line, gives up the retry, or stops the attempt in flight, whose place in the slow start the next caller gets
 * @see circuitBreak for what does not answer at all
 */
export function retryThrough<T>(gate: RetryGate, options: RetryThroughOptions = {}): MonoTypeOperatorFunction<T> {
  checkRetryAsk('retryThrough', options);
  return gated('retryThrough', gate, options);
}
