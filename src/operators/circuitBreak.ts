import type { MonoTypeOperatorFunction } from 'rxjs';
import { checkCircuitAsk, type CircuitAsk } from '../gates/breakerOptions.js';
import type { CircuitBreaker } from '../gates/circuitBreaker.js';
import { gated } from './admit.js';

/**
 * Stops calling what does not answer: when too many calls have failed, those in flight are stopped at once, and later ones
 * are refused without being made, until a probe has succeeded.
 *
 * ```
 * call 1    ---#                        call 1    ------     unsubscribed: counts for nothing
 * call 2    -a--                                  circuitBreak(breaker)
 *           circuitBreak(breaker)         output    ------
 * output 1  ---#    its own error, told last
 * output 2  -a-#    CircuitTrippedError, stopped in the same frame
 * output 3  ------# CircuitOpenError, call 3 is not subscribed
 * ```
 *
 * Use it on the single call, one breaker for each thing that fails as a whole: a provider, a tool, a host. Put a time limit
 * inside with `failWithin`: `takeWithin` completes, which is a success.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { circuitBreak, CircuitBreaker } from 'rxfleet';
 *
 * const provider = new CircuitBreaker({ name: 'provider', failures: 5 });
 * of('hello').pipe(circuitBreak(provider)).subscribe((value) => console.log(value, provider.state));
 * ```
 *
 * @param breaker - shared by all calls whose outcomes it judges together
 * @param options - for these calls, instead of the breaker's own: `classify` (what an error means), `isFailureResult`
 * (whether a call failed although it completed, given its last value), `cancelAfterValue` (what a call is that its subscriber
 * leaves after a value: `success`, the default, or `neutral`)
 * @returns an operator that errors with CircuitOpenError or CircuitIsolatedError without subscribing the source, with
 * CircuitTrippedError when the breaker stopped the call, with ResourceDisposedError, and otherwise as the source does.
 * Unsubscribing before a value counts for nothing, unless the call was slow by then; a probe's place is free again
 * @see bulkhead for too many calls at once
 */
export function circuitBreak<T>(breaker: CircuitBreaker, options: CircuitAsk<T> = {}): MonoTypeOperatorFunction<T> {
  checkCircuitAsk('circuitBreak', options);
  return gated('circuitBreak', breaker, options as CircuitAsk);
}
