import { asyncScheduler, Observable, type SchedulerLike, type Unsubscribable } from 'rxjs';
import { ambient } from './ambient.js';
import { Clock } from './clock.js';
import { Lease, SHIELDED, type Sink } from './lease.js';
import { CLOSING, ScopeNode, type Env } from './node.js';
import type { CallFunction, CallOptions } from './types.js';

/** Default grace in milliseconds: how long a cancelled call may take to acknowledge. */
export const DEFAULT_GRACE_MS = 5000;

/** A cold Observable of one call. Every subscription is a lease in the enclosing scope. */
export class CallObservable<T> extends Observable<T> {
  private latest: Lease<T> | undefined = undefined;

  constructor(
    readonly given: ScopeNode | undefined,
    readonly fn: CallFunction<T>,
    readonly options?: CallOptions,
  ) {
    super((subscriber) => this.begin(subscriber));
  }

  /** Subscribes without a Subscriber in between. */
  begin(sink: Sink<T>): Unsubscribable | undefined {
    const home = enclosing(this.given);
    const refusal = home.refusal();
    if (refusal !== undefined) {
      sink.error(refusal.error);
      return undefined;
    }
    const { fn, options, latest } = this;
    const lease = new Lease<T>(home, labelOf(fn, options), sink, options?.shield ? SHIELDED : 0);
    const start = (): void => {
      this.latest = lease;
      lease.run(fn);
    };
    if (latest !== undefined && latest.cancelled && !latest.over) lease.startAfter(latest, start);
    else start();
    return lease;
  }
}

export function labelOf(fn: { readonly name: string }, options: CallOptions | undefined): string {
  return options?.label ?? (fn.name || 'call');
}

/** The scope of a call that was given `given`: without one, the enclosing scope or a scope of the call's own. */
function enclosing(given: ScopeNode | undefined): ScopeNode {
  return innermost(given) ?? new LooseScope(env(undefined, {}));
}

/** The innermost scope at or below the given one; without one, the enclosing scope if there is one. */
export function innermost(given: ScopeNode | undefined): ScopeNode | undefined {
  const current = ambient.scope;
  if (given === undefined || current === given) return current;
  if (current === undefined || current.refusal() !== undefined) return given;
  for (let scope = current.up; scope !== undefined; scope = scope.up) if (scope === given) return current;
  return given;
}

/** The settings of a new scope under `parent`: one clock for the whole tree unless another scheduler is asked for. */
export function env(
  parent: ScopeNode | undefined,
  options: { scheduler?: SchedulerLike | undefined; graceMs?: number | undefined; label?: string | undefined },
): Env {
  const { scheduler, graceMs = DEFAULT_GRACE_MS, label } = options;
  const shared = parent?.env.clock;
  const clock =
    shared !== undefined && (scheduler ?? shared.scheduler) === shared.scheduler ? shared : new Clock(scheduler ?? asyncScheduler);
  return { clock, graceMs, label };
}

/** The scope of a call that was made outside of any. It ends with the call. */
class LooseScope extends ScopeNode {
  override state = CLOSING;

  constructor(readonly env: Env) {
    super(undefined);
  }

  protected get running(): boolean {
    return false;
  }
  protected stopBody(): void {}
  protected onClosed(): void {}
}
