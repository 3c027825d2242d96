import type { ObservableInput, OperatorFunction } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { checkChoice, checkConcurrency, checkFunction, checkScopeOptions, type ScopeOptions } from '../core/options.js';
import type { Outcome, Scope } from '../core/types.js';
import { FanOut } from './fanOut.js';

export interface FanOutOptions extends ScopeOptions {
  /** How many children may be alive at once. Default 16; Infinity may be asked for. */
  readonly concurrency?: number;
  /** `completion` emits values as they come; `index` in the order of the source. Default `completion`. */
  readonly order?: 'completion' | 'index';
  /**
   * `failFast`: the first failure cancels the rest. `collect`: all run to their end, then every failure in one error.
   * `settle`: one Outcome per child, never an error for a child. `race`: the first child to complete wins. Default `failFast`.
   */
  readonly policy?: 'failFast' | 'collect' | 'settle' | 'race';
  /** What the report keeps of each child: those that were not fulfilled, or all. Default `unfulfilled`. */
  readonly outcomes?: 'unfulfilled' | 'all';
}

/** Starts a child for a value. `ctx` is the child's own scope: what is called through it is waited for. */
export type FanOutProject<T, R> = (value: T, index: number, ctx: Scope) => ObservableInput<R>;

const WHO = 'fanOutScoped';

export function fanOutScoped<T, R>(
  project: FanOutProject<T, R>,
  options: FanOutOptions & { readonly policy: 'settle' },
): OperatorFunction<T, Outcome<R>>;
export function fanOutScoped<T, R>(
  project: FanOutProject<T, R>,
  options?: FanOutOptions & { readonly policy?: 'failFast' | 'collect' | 'race' },
): OperatorFunction<T, R>;
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
