import { AsyncSubject, firstValueFrom, isObservable, Observable } from 'rxjs';
import { captureContext, manyListeners } from '#context';
import { CallObservable } from './call.js';
import { acquire } from './acquire.js';
import { rootReason } from './errors.js';
import { CLEANUP, ignoreRejection, isPromiseLike, Lease } from './lease.js';
import { type Cancellation, type Env } from './member.js';
import { CLOSED, OPEN, ScopeNode } from './node.js';
import { checkDeadline } from './options.js';
import type { CallFunction, CallOptions, Scope, ScopeFailure, ScopeReport } from './types.js';

/** The public face of a node: what applications hold as `ctx` and `scope`. */
export abstract class ScopeBase extends ScopeNode implements Scope {
  get signal(): AbortSignal {
    this.keep();
    const { more } = this;
    if (more.controller === undefined) {
      more.controller = new AbortController();
      manyListeners(more.controller.signal);
      const refusal = this.cancellation;
      if (refusal !== undefined) more.controller.abort(refusal.error);
    }
    return more.controller.signal;
  }

  call<T>(fn: CallFunction<T>, options?: CallOptions): Observable<T> {
    return new CallObservable(this, fn, options);
  }

  track(cleanup: PromiseLike<unknown> | Observable<unknown>, label = 'cleanup'): void {
    if (!isPromiseLike(cleanup) && !isObservable(cleanup)) throw new TypeError('track() takes a promise or an Observable.');
    if (this.over) {
      ignoreRejection(cleanup);
      throw (this.refusal() as Cancellation).error;
    }
    new Lease<unknown>(this, label, undefined, CLEANUP).follow(cleanup);
  }

  acquire<R>(open: () => PromiseLike<R>, close: (resource: R) => unknown): Observable<R> {
    return acquire(this, open, close);
  }

  remaining(): number {
    let least = Infinity;
    for (let scope: ScopeNode | undefined = this; scope !== undefined; scope = scope.up) {
      const { deadline, cancellation } = scope;
      if (cancellation !== undefined && rootReason(cancellation.reason).kind === 'deadline') return 0;
      if (deadline !== undefined) least = Math.min(least, Math.max(0, deadline.at - scope.env.clock.now()));
    }
    return least;
  }

  cancel(reason?: unknown): void {
    this.cancelWith(reason === undefined ? { kind: 'explicit' } : { kind: 'explicit', reason });
  }

  child(label: string): Scope {
    return new ChildScope(this, { ...this.env, label });
  }

  setDeadline(ms: number | null): void {
    checkDeadline('setDeadline', ms);
    this.keep();
    const { clock } = this.env;
    if (this.deadline !== undefined) clock.clear(this.deadline);
    const finite = ms !== null && ms !== Infinity && this.refusal() === undefined;
    this.deadline = finite ? clock.set(this, ms) : undefined;
  }

  get closed$(): Observable<ScopeReport> {
    return new Observable((subscriber) => {
      this.keep();
      const binding = captureContext();
      const tell = (report: ScopeReport): void => {
        subscriber.next(report);
        subscriber.complete();
      };
      if (this.over) return tell(this.report());
      const report$ = (this.more.report$ ??= new AsyncSubject());
      return report$.subscribe((report) => (binding === undefined ? tell(report) : binding.run(tell, report)));
    });
  }

  get closed(): Promise<ScopeReport> {
    // eslint-disable-next-line no-restricted-syntax
    return (this.more.promise ??= firstValueFrom(this.closed$));
  }

  /** Puts a child on the list without counting it as alive. */
  linkIdle(child: ScopeNode): void {
    this.keep();
    this.link(child);
  }

  /** Something outside now looks at this scope, so it must hear of its parent's end even while nothing runs in it. */
  protected keep(): void {}
}

/** A scope without a body: it is open as long as its parent, and holds nobody up while nothing runs in it. */
class ChildScope extends ScopeBase {
  private idle = true;

  constructor(
    readonly parent: ScopeBase,
    readonly env: Env,
  ) {
    super(parent);
  }

  protected get running(): boolean {
    return false;
  }
  protected stopBody(): void {}
  protected onClosed(): void {}

  /** It has no output of its own to tell, so its parent hears of a cleanup that failed. */
  override failed(failure: ScopeFailure): void {
    super.failed(failure);
    this.parent.failed(failure);
  }

  override get depth(): number {
    return this.parent.depth + 1;
  }

  override get over(): boolean {
    this.followParent();
    return this.state === CLOSED;
  }

  override refusal(): Cancellation | undefined {
    this.followParent();
    return super.refusal();
  }

  override wake(): void {
    if (!this.idle || this.state === CLOSED) return;
    this.idle = false;
    if (this.before === undefined) this.parent.enlist(this);
    else {
      this.parent.wake();
      this.parent.live++;
    }
  }

  protected override rest(): boolean {
    if (this.idle || this.state !== OPEN) return false;
    this.idle = true;
    this.parent.live--;
    const { extra } = this;
    const kept = extra !== undefined && (extra.controller !== undefined || extra.report$ !== undefined || (extra.closers?.length ?? 0) > 0);
    if (!kept && this.deadline === undefined) this.parent.unlink(this);
    return true;
  }

  protected override keep(): void {
    this.followParent();
    if (this.idle && this.before === undefined && this.state === OPEN) this.parent.linkIdle(this);
  }

  /** While it is idle and off its parent's list, nobody tells it of the parent's end. */
  private followParent(): void {
    if (!this.idle || this.before !== undefined || this.state !== OPEN) return;
    const refusal = this.parent.refusal();
    if (refusal === undefined) return;
    this.state = CLOSED;
    if (this.parent.cancellation !== undefined) this.cancellation = this.inherit(refusal);
  }
}
