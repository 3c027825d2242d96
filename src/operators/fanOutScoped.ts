import type { ObservableInput, OperatorFunction } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { checkChoice, checkConcurrency, checkFunction, checkScopeOptions, type ScopeOptions } from '../core/options.js';
import type { Outcome, Scope } from '../core/types.js';
import { FanOut } from './fanOut.js';

export interface FanOutOptions extends ScopeOptions {
  /** How many children may be alive at once. Default 16; Infinity may be asked for. */
  readonly concurrency?: number | undefined;
  /** `completion` emits values as they come; `index` in the order of the source. Default `completion`. */
  readonly order?: 'completion' | 'index' | undefined;
  /**
   * `failFast`: the first failure cancels the rest. `collect`: all run to their end, then every failure in one error.
   * `settle`: one Outcome per child, never an error for a child. `race`: the first child to complete wins. Default `failFast`.
   */
  readonly policy?: 'failFast' | 'collect' | 'settle' | 'race' | undefined;
  /** What the report keeps of each child: those that were not fulfilled, or all. Default `unfulfilled`. */
  readonly outcomes?: 'unfulfilled' | 'all' | undefined;
}

/** Starts a child for a value. `ctx` is the child's own scope: what is called through it is waited for. */
export type FanOutProject<T, R> = (value: T, index: number, ctx: Scope) => ObservableInput<R>;

const WHO = 'fanOutScoped';

/**
 * Runs one child for every value, a limited number at once. The output ends only when every call started through it has
 * settled or is named as abandoned.
 *
 * ```
 * source    --a--b--c------------|        source    --a--b-----------
 * a           ---1|                       a           ------#
 * b              ----2|                   b              ---x~~|        told to stop, cleans up
 * c                 ---3|
 * output    -----1----2-3--------|        output    -----------#        ScopeError
 * ```
 *
 * Use it wherever `mergeMap`, `Promise.all` or a worker pool would start calls.
 *
 * ```ts
 * import { from } from 'rxjs';
 * import { fanOutScoped } from 'rxfleet';
 *
 * from(['a', 'b', 'c'])
 *   .pipe(fanOutScoped((key, _i, ctx) => ctx.call(async (signal) => (signal.throwIfAborted(), key.toUpperCase())), { concurrency: 2 }))
 *   .subscribe({ error: (error) => console.error(error) });
 * ```
 *
 * @param project - starts a child: `(value, index, ctx)` to any ObservableInput; `ctx` is the child's own scope
 * @param options - concurrency (default 16), order (default `completion`), policy (default `failFast`), graceMs (default
 * 5000 ms) and the rest of FanOutOptions; bad ones throw TypeError or RangeError here
 * @returns an operator that errors with ScopeError, ScopeCancelledError or DeadlineExceededError; unsubscribing cancels
 * every child, and `scope.closed` of `onScope` tells when they have stopped
 * @see takeWithin for partial results at a deadline, scoped for a scope without a source
 */
export function fanOutScoped<T, R>(
  project: FanOutProject<T, R>,
  options: FanOutOptions & { readonly policy: 'settle' },
): OperatorFunction<T, Outcome<R>>;
export function fanOutScoped<T, R>(
  project: FanOutProject<T, R>,
  options?: FanOutOptions & { readonly policy?: 'failFast' | 'collect' | 'race' | undefined },
): OperatorFunction<T, R>;
export function fanOutScoped<T, R>(project: FanOutProject<T, R>, options: FanOutOptions): OperatorFunction<T, R | Outcome<R>>;
export function fanOutScoped<T, R>(project: FanOutProject<T, R>, options: FanOutOptions = {}): OperatorFunction<T, R | Outcome<R>> {
  const { concurrency = 16, order = 'completion', policy = 'failFast', outcomes = 'unfulfilled' } = options;
  checkFunction(WHO, 'project', project);
  checkConcurrency(WHO, concurrency);
  checkChoice(WHO, 'order', order, ['completion', 'index']);
  checkChoice(WHO, 'policy', policy, ['failFast', 'collect', 'settle', 'race']);
  checkChoice(WHO, 'outcomes', outcomes, ['unfulfilled', 'all']);
  checkScopeOptions(WHO, options);
  const settings = { ...options, concurrency, order, policy, outcomes };
  return (source) => new DirectObservable((sink) => new FanOut(sink, project, settings).begin(() => source));
}
