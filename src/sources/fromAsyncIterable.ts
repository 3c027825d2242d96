import type { Observable } from 'rxjs';
import { CallObservable } from '../core/call.js';
import type { ScopeNode } from '../core/node.js';
import { checkScopeOptions } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import { refuse } from './checks.js';
import { promisedIterable } from './promisedIterable.js';
import { isReadable, readIterable } from '../core/readIterable.js';

/** What can be iterated with `for await`. */
export type IterableInput<T> = AsyncIterable<T> | Iterable<T | PromiseLike<T>>;

export interface FromAsyncIterableOptions {
  /** The enclosing scope. Default: the one in whose synchronous subscribe chain it is subscribed, if any. */
  readonly within?: ScopeContext | undefined;
  /** Name of the call in reports and dumps. Default: the function's name, else `iterable`. */
  readonly label?: string | undefined;
}

/**
 * The values of an async iterable, which is told to stop when nobody listens any more, also while it is stuck.
 *
 * ```
 * next()    a--b----c--done               next()    a--b----------
 * output    a--b----c--|                  output    a--b--!            return() is called here,
 *                                         return()        ---|         and the scope waits for it
 * ```
 *
 * Use it instead of `from`, which calls `return()` only when the pending `next()` has settled, and waits for neither.
 *
 * ```ts
 * import { fromAsyncIterable } from 'rxfleet';
 *
 * const ticks = async function* () {
 *   yield 1;
 *   yield 2;
 * };
 * fromAsyncIterable(ticks).subscribe((tick) => console.log(tick));
 * ```
 *
 * @param source - an async iterable, an iterable of values or promises, or a function that gives one for each subscription. If it declares a
 * parameter it is given a signal, which alone reaches an async generator in the middle of an `await`
 * @param options - `within` and `label`
 * @returns a cold Observable that pulls one value at a time. Unsubscribing calls `return()` at once; the scope waits until that has settled, at
 * most its grace. Errors with what the iterable threw; what `return()` throws is a failure of the scope's cleanup
 * @see fromSse for events of a server
 */
export function fromAsyncIterable<T>(
  source: IterableInput<T> | ((signal: AbortSignal) => IterableInput<T>),
  options: FromAsyncIterableOptions = {},
): Observable<T> {
  checkScopeOptions('fromAsyncIterable', { within: options.within, label: options.label });
  const open = typeof source === 'function' ? opener(source) : (): AsyncIterable<T> => asyncIterable(source);
  if (typeof source !== 'function') asyncIterable(source);
  const label = options.label ?? ((typeof source === 'function' && source.name) || 'iterable');
  return new CallObservable(options.within as ScopeNode | undefined, open, { label });
}

/** A call makes a signal only for a function that declares a parameter. */
function opener<T>(source: (signal: AbortSignal) => IterableInput<T>): (signal: AbortSignal) => AsyncIterable<T> {
  if (source.length > 0) return (signal) => asyncIterable(source(signal));
  return () => asyncIterable((source as () => IterableInput<T>)());
}

function asyncIterable<T>(source: IterableInput<T>): AsyncIterable<T> {
  if (typeof source === 'object' && source !== null) {
    if (isReadable<T>(source)) return readIterable(source);
    if (Symbol.asyncIterator in source) return source;
    if (Symbol.iterator in source) return promisedIterable(source);
  }
  return refuse(TypeError, 'fromAsyncIterable', 'source', 'an async iterable, or an iterable other than a string', source);
}
