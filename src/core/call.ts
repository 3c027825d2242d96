import { asyncScheduler, type SchedulerLike } from 'rxjs';
import { ambient } from './ambient.js';
import { Clock } from './clock.js';
import { DirectObservable, hand, type Sink } from './direct.js';
import { Lease, SHIELDED } from './lease.js';
import { type Env } from './member.js';
import { CLOSING, ScopeNode } from './node.js';
import type { CallFunction, CallOptions } from './types.js';

/** Default grace in milliseconds: how long a cancelled call may take to acknowledge. */
export const DEFAULT_GRACE_MS = 5000;

/** A cold Observable of one call. Every subscription is a lease in the enclosing scope. */
export class CallObservable<T> extends DirectObservable<T> {
  private latest: Lease<T> | undefined = undefined;

  constructor(
    readonly given: ScopeNode | undefined,
    readonly fn: CallFunction<T>,
    readonly options?: CallOptions | undefined,
  ) {
    super(openCall);
  }

  /** @internal */
  open(sink: Sink<T>): void {
    const home = enclosing(this.given);
    const refusal = home.refusal();
    if (refusal !== undefined) return sink.error(refusal.error);
    const { fn, options, latest } = this;
    const lease = new Lease<T>(home, labelOf(fn, options), sink, options?.shield ? SHIELDED : 0);
    hand(sink, lease);
    if (latest?.left) lease.startAfter(latest, () => this.run(lease));
    else this.run(lease);
  }

  private run(lease: Lease<T>): void {
    this.latest = lease;
    lease.run(this.fn);
  }
}

function openCall<T>(this: DirectObservable<T>, sink: Sink<T>): void {
  (this as CallObservable<T>).open(sink);
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
  const same = parent !== undefined && label === undefined && parent.env.clock === clock && parent.env.graceMs === graceMs;
  return same ? parent.env : { clock, graceMs, label };
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
