import type { CallFunction, CallOptions } from 'rxfleet';
import type { Observable } from 'rxjs';
import { CallObservable } from '../../src/core/call.js';

/** A call that is given no scope: it belongs to the one in whose subscribe chain it is subscribed, or to none. */
export function looseCall<T>(fn: CallFunction<T>, options?: CallOptions): Observable<T> {
  return new CallObservable(undefined, fn, options);
}
