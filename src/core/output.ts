import type { Observable, Unsubscribable } from 'rxjs';
import { captureContext, manyListeners, type AsyncBinding } from '#context';
import { ambient, defer, enter, leave, notify, tooDeep } from './ambient.js';
import { env, innermost } from './call.js';
import { hand, type RelayTarget, type Sink } from './direct.js';
import { DeadlineExceededError, isAbortShaped, ScopeCancelledError, ScopeError } from './errors.js';
import { type Env } from './member.js';
import { CANCELLING, OPEN, type ScopeNode } from './node.js';
import type { ScopeOptions } from './options.js';
import { relay, tearDown } from './relay.js';
import { ScopeBase } from './scope.js';
import type { CancelReason, ScopeFailure } from './types.js';

/**
 * The scope of one subscription to an operator: its body is a source, and what it tells goes to one subscriber. Nothing
 * reaches that subscriber between a cancel and the moment when everything below has acknowledged it.
 */
export abstract class OutputScope<T, R> extends ScopeBase implements RelayTarget<T> {
  /** Values that were emitted. */
  protected seen = 0;
  /** The subscriber has left. */
  protected silent = false;
  private sourceRuns = true;
  /** Whether `subscribe` of the source has not returned. */
  protected opening = true;
  private handle: Unsubscribable | undefined = undefined;
  protected readonly binding: AsyncBinding | undefined = captureContext();
  private readonly refused: ScopeNode | undefined;
  readonly env: Env;

  constructor(
    protected readonly out: Sink<R>,
    protected readonly options: ScopeOptions,
  ) {
    const parent = innermost(options.within as ScopeNode | undefined);
    const refused = parent?.refusal() === undefined ? undefined : parent;
    super(refused === undefined ? parent : undefined);
    this.env = env(parent, options);
    this.refused = refused;
    this.up?.enlist(this);
  }

  /** Subscribes to the source, unless the parent or the signal has already ended it. */
  begin(source: () => Observable<T>): void {
    const { signal, onScope } = this.options;
    hand(this.out, this);
    try {
      onScope?.(this);
      if (signal !== undefined) this.follow(signal);
    } catch (error) {
      this.error(error);
    }
    const refusal = this.refused?.refusal();
    if (refusal !== undefined) this.cancelWith({ kind: 'parent-cancelled', cause: refusal.reason });
    this.open(source);
  }

  private open(source: () => Observable<T>): void {
    if (tooDeep()) return defer(() => this.openNow(source));
    this.openNow(source);
  }

  private openNow(source: () => Observable<T>): void {
    if (this.state < CANCELLING) this.startBody(source);
    this.opening = false;
    this.settle();
  }

  /** Starts the body. What must wait for something first overrides it. */
  protected startBody(source: () => Observable<T>): void {
    this.subscribe(source);
  }

  protected subscribe(source: () => Observable<T>): void {
    const { base } = ambient;
    const outer = enter(this);
    ambient.base = -1;
    try {
      relay(source(), this);
    } catch (error) {
      this.error(error);
    } finally {
      ambient.base = base;
      leave(outer);
    }
  }

  private follow(signal: AbortSignal): void {
    const abort = (): void => this.cancelWith({ kind: 'signal', reason: signal.reason as unknown });
    if (signal.aborted) return abort();
    manyListeners(signal);
    signal.addEventListener('abort', abort);
    this.whenOver(() => signal.removeEventListener('abort', abort));
  }

  // Body

  attach(handle: Unsubscribable): void {
    this.handle = handle;
  }

  abstract next(value: T): void;

  error(error: unknown): void {
    if (!this.sourceRuns) return;
    if (this.state < CANCELLING) return this.sourceFailed(error);
    this.endSource();
    if (!isAbortShaped(error)) this.failed({ error, phase: 'cleanup' });
    this.settle();
  }

  complete(): void {
    if (this.endSource()) this.bodyEnded();
  }

  /** A teardown of the source threw, or a call made on this very scope failed in its cleanup. */
  override failed(failure: ScopeFailure): void {
    super.failed(failure);
    this.cancelWith({ kind: 'source-error', error: failure.error });
  }

  /** The source failed while the scope was open. */
  protected sourceFailed(error: unknown): void {
    this.failed({ error, phase: 'source' });
  }

  protected endSource(): boolean {
    if (!this.sourceRuns) return false;
    this.sourceRuns = false;
    const { handle } = this;
    this.handle = undefined;
    tearDown(handle, this);
    return true;
  }

  protected get running(): boolean {
    return this.sourceRuns || this.opening;
  }

  /** Another run of the body: nothing of the one before is left. */
  protected reopen(): void {
    this.state = OPEN;
    this.cancellation = undefined;
    this.sourceRuns = true;
    if (this.extra === undefined) return;
    this.extra.errors = this.extra.controller = undefined;
    if (this.extra.grace !== undefined) this.env.clock.clear(this.extra.grace);
    this.extra.grace = undefined;
  }

  protected stopBody(): void {
    this.endSource();
  }

  // Output

  protected emit(value: R): void {
    this.seen++;
    notify(this.up, next, this.out, value);
  }

  /** The subscriber left. */
  unsubscribe(): void {
    if (this.over) return;
    this.silent = true;
    const stopper = ambient.scope;
    this.tornDownBy(stopper);
    const cause = stopper?.cancelled ? stopper.cancellation?.reason : undefined;
    this.cancelWith(cause === undefined ? { kind: 'unsubscribed' } : { kind: 'parent-cancelled', cause });
  }

  protected onClosed(): void {
    if (this.binding === undefined) end(this);
    else this.binding.run(end, this);
  }

  /** Runs in the async context of whoever subscribed. */
  endNow(): void {
    if (this.silent) this.handUp();
    else notify(this.up, conclude, this, undefined);
  }

  /** How the output ends. */
  protected conclude(reason: CancelReason | undefined): void {
    const { out } = this;
    if (reason === undefined && !this.extra?.errors?.length) return out.complete();
    const report = this.report();
    const errors = report.errors.map((failure) => failure.error);
    if (reason?.kind === 'signal' || reason?.kind === 'parent-cancelled') out.error(new ScopeCancelledError(reason, errors));
    else if (reason?.kind === 'deadline') out.error(new DeadlineExceededError(reason.ms, reason.label, this.seen, report));
    else if (errors.length > 0) out.error(new ScopeError(report, this.name));
    else out.complete();
  }

  /** @internal */
  concludeNow(): void {
    this.conclude(this.cancellation?.reason);
  }

  /** Nobody listens any more: the parent hears of what went wrong, or else `onUnhandled` does. */
  private handUp(): void {
    const errors = this.untold();
    const { up } = this;
    if (up !== undefined) {
      for (const failure of errors) up.failed({ error: failure.error, phase: 'cleanup' });
      if (up.cancelled) for (const each of this.extra?.late ?? []) up.noteLate(each);
    } else if (errors.length > 0) this.tellUnhandled(errors);
  }

  /** The failures that nobody downstream has heard of. */
  protected untold(): readonly ScopeFailure[] {
    return this.extra?.errors ?? [];
  }

  /** A callback that throws here has nobody above it: it is reported as uncaught, as rxjs does with a throwing observer. */
  private tellUnhandled(errors: readonly ScopeFailure[]): void {
    try {
      this.options.onUnhandled?.(errors);
    } catch (error) {
      this.env.clock.scheduler.schedule(() => {
        throw error;
      });
    }
  }
}

function next<R>(out: Sink<R>, value: R): void {
  out.next(value);
}

function end(scope: { endNow(): void }): void {
  scope.endNow();
}

function conclude(scope: { concludeNow(): void }): void {
  scope.concludeNow();
}
