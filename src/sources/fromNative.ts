import { Observable } from 'rxjs';
import { refuse } from './checks.js';
import type { NativeObservable } from './nativeObservable.js';

/**
 * The values of an Observable of the platform (`element.when('click')`), which RxJS 7 does not take for one.
 *
 * ```
 * native    --a--b----c--|                native    --a--b--x          its signal is aborted
 * output    --a--b----c--|                output    --a--b--!
 * ```
 *
 * ```ts
 * import { fromNative, type NativeObservable } from 'rxfleet';
 *
 * const native: NativeObservable<string> = {
 *   subscribe(observer) {
 *     observer?.next?.('a');
 *     observer?.complete?.();
 *   },
 * };
 * fromNative(native).subscribe((value) => console.log(value));
 * ```
 *
 * @param source - a native Observable, or a function that gives one for each subscription
 * @returns a cold Observable; unsubscribing aborts the signal of its subscription, also while the source emits synchronously. Errors with
 * the source's own error
 * @see toNative for the other way
 */
export function fromNative<T>(source: NativeObservable<T> | (() => NativeObservable<T>)): Observable<T> {
  if (typeof source !== 'function' && typeof (source as Partial<NativeObservable<T>> | null | undefined)?.subscribe !== 'function')
    refuse(TypeError, 'fromNative', 'source', 'a native Observable, or a function that gives one', source);
  return new Observable<T>((subscriber) => {
    const controller = new AbortController();
    subscriber.add(() => controller.abort());
    // The platform calls them without `this`.
    const observer = {
      next: (value: T) => subscriber.next(value),
      error: (error: unknown) => subscriber.error(error),
      complete: () => subscriber.complete(),
    };
    const native = typeof source === 'function' ? source() : source;
    // Observables of libraries know no signal, and give a subscription instead.
    subscriber.add(native.subscribe(observer, { signal: controller.signal }));
  });
}
