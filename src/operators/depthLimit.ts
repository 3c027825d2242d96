import { catchError, defer, throwError, type Observable, type ObservableInput, type OperatorFunction } from 'rxjs';
import { ScopeNode } from '../core/node.js';
import { checkFunction } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import { refuse } from '../gates/checks.js';
import type { DepthAsk, DepthGate } from '../gates/depthGate.js';
import type { DepthLimitError } from '../gates/errors.js';
import { behind, GuardedObservable } from './admit.js';

export interface DepthLimitOptions<R> {
  /** Name of the call: the end of its path in errors, and what `cycles` looks for. Default: none of its own. */
  readonly label?: string | undefined;
  /** What becomes of a call that is refused: it errors, or this goes out in its place. Default 'error'. */
  readonly onExceed?: 'error' | ((refusal: DepthLimitError) => ObservableInput<R>) | undefined;
}

const WHO = 'depthLimit';

/**
 * Refuses a call that would make the tree of calls too deep, too wide or too large, before it starts.
 *
 * ```
 * depth 0   --a-----|                     depth 0   --a---          unsubscribed: all below is stopped,
 * depth 1      --b--|                     depth 1      ---          children first
 * depth 2        #                                     maxDepth 1
 * ```
 *
 * Use it where calls start calls: agents with sub-agents, tools that search on, recursion. One gate bounds the whole tree.
 * With `onExceed` a model can be told, instead of the call failing.
 *
 * ```ts
 * import { of, type Observable } from 'rxjs';
 * import { DepthGate, depthLimit, fanOutScoped } from 'rxfleet';
 *
 * const bounds = new DepthGate({ maxDepth: 2 });
 * const explore = (page: number): Observable<number> =>
 *   of(page * 2, page * 2 + 1).pipe(fanOutScoped(explore), depthLimit(bounds, undefined, { onExceed: () => [page] }));
 * explore(1).subscribe((page) => console.log(page));
 * ```
 *
 * @param gate - shared by the whole tree
 * @param ctx - where the call counts and runs, such as a scope's `child(label)`; default: the scope around it
 * @param options - `label`: name of the call; `onExceed`: 'error' (default), or a function of the DepthLimitError that returns what goes out instead
 * @returns an operator that errors with DepthLimitError, which names the limit and the path, with ScopeCancelledError where
 * `ctx` has ended, or with ResourceDisposedError; the source is not subscribed then. Unsubscribing stops the call and
 * everything below it; each of them counts until nothing of it runs any more
 * @see bulkhead to let calls wait for each other instead
 */
export function depthLimit<T, R = never>(
  gate: DepthGate,
  ctx?: ScopeContext,
  options: DepthLimitOptions<R> = {},
): OperatorFunction<T, T | R> {
  const { onExceed = 'error', label } = options;
  if (typeof (gate as Partial<DepthGate> | null | undefined)?.enter !== 'function') refuse(TypeError, WHO, 'gate', 'a gate', gate);
  if (ctx !== undefined && !(ctx instanceof ScopeNode)) refuse(TypeError, WHO, 'ctx', 'a scope of this package', ctx);
  if (onExceed === 'error') return (source) => inFront(source, gate, { ctx, label });
  checkFunction(WHO, 'onExceed', onExceed);
  return (source) =>
    defer(() => {
      let own: DepthLimitError | undefined;
      const call = inFront(source, gate, { ctx, label, onRefused: (refusal) => (own = refusal) });
      return call.pipe(catchError((error: unknown) => (error === own && own !== undefined ? onExceed(own) : throwError(() => error))));
    });
}

function inFront<T>(source: Observable<T>, gate: DepthGate, ask: DepthAsk): Observable<T> {
  const plan = { gate, ask } as never;
  const within = ask.ctx;
  if (within === undefined) return behind(source, plan);
  const joins = source instanceof GuardedObservable && (source.options.within ?? within) === within;
  if (!joins) return behind(source, plan, { within });
  return new GuardedObservable<T>(source.launch, { ...source.options, within }, plan, source);
}
