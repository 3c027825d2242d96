import { fromEvent, takeUntil, type Observable } from 'rxjs';
import { refuse } from './checks.js';
import type { NativeObservable, NativeObservableConstructor } from './nativeObservable.js';

/**
 * An Observable of the platform with the values of `source`.
 *
 * ```
 * source    --a--b----c--|                source    --a--b--x
 * output    --a--b----c--|                output    --a--b--!          the last signal is aborted
 * ```
 *
 * @param source - an Observable
 * @param Native - the platform's class. Default `globalThis.Observable`; TypeError where there is none
 * @returns a native Observable. Those who listen to it at the same time share one subscription to the source, as the platform has it today; it
 * ends when the last of them has left
 * @see fromNative for the other way
 */
export function toNative<T>(
  source: Observable<T>,
  Native: NativeObservableConstructor = (globalThis as { Observable?: unknown }).Observable as NativeObservableConstructor,
): NativeObservable<T> {
  if (typeof Native !== 'function') refuse(TypeError, 'toNative', 'Native', "the platform's Observable class", Native);
  return new Native<T>((subscriber) => {
    // The platform asks for values even if nobody has listened for a moment.
    if (subscriber.signal.aborted) return;
    source.pipe(takeUntil(fromEvent(subscriber.signal, 'abort'))).subscribe({
      next: (value) => subscriber.next(value),
      error: (error: unknown) => subscriber.error(error),
      complete: () => subscriber.complete(),
    });
  });
}
