import type { Observable, Subscriber, Unsubscribable } from 'rxjs';
import { captureContext, manyListeners, type AsyncBinding } from '#context';
import { ambient, defer, notify, start, tooDeep } from './ambient.js';
import { env } from './call.js';
import { DeadlineExceededError, isAbortShaped, ScopeCancelledError, ScopeError } from './errors.js';
import { CANCELLING, type Env, type ScopeNode } from './node.js';
import type { ScopeOptions } from './options.js';
import { relay, tearDown, type RelayTarget } from './relay.js';
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
    protected readonly out: Subscriber<R>,
    protected readonly options: ScopeOptions,
  ) {
    const parent = (options.within as ScopeNode | undefined) ?? ambient.scope;
    const refused = parent?.refusal() === undefined ? undefined : parent;
    super(refused === undefined ? parent : undefined);
    this.env = env(parent, options);
    this.refused = refused;
    this.up?.enlist(this);
    out.add(this);
  }

  /** Subscribes to the source, unless the parent or the signal has already ended it. */
  begin(source: () => Observable<T>): void {
    const { signal, onScope } = this.options;
    try {
      onScope?.(this);
    } catch (error) {
      this.error(error);
    }
    if (signal !== undefined) this.follow(signal);
    const refusal = this.refused?.refusal();
    if (refusal !== undefined) this.cancelWith({ kind: 'parent-cancelled', cause: refusal.reason });
    this.open(source);
  }

  private open(source: () => Observable<T>): void {
    if (tooDeep()) return defer(() => this.openNow(source));
    this.openNow(source);
  }

  private openNow(source: () => Observable<T>): void {
    if (this.state < CANCELLING) start(this, () => this.subscribe(source));
    this.opening = false;
    this.settle();
  }

  private subscribe(source: () => Observable<T>): void {
    try {
      relay(source(), this);
    } catch (error) {
      this.error(error);
    }
  }

  private follow(signal: AbortSignal): void {
    if (signal.aborted) return this.onAbort();
    manyListeners(signal);
    signal.addEventListener('abort', this.onAbort);
  }

  private readonly onAbort = (): void => this.cancelWith({ kind: 'signal', reason: this.options.signal?.reason as unknown });

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

  private endSource(): boolean {
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

  protected stopBody(): void {
    this.endSource();
  }

  // Output

  protected emit(value: R): void {
    this.seen++;
    notify(this.up, this.deliver, value);
  }

  private readonly deliver = (value: R): void => this.out.next(value);

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
    this.options.signal?.removeEventListener('abort', this.onAbort);
    if (this.silent) this.handUp();
    else this.tell(() => this.conclude(this.cancellation?.reason));
  }

  /** How the output ends. */
  protected conclude(reason: CancelReason | undefined): void {
    const { out } = this;
    const report = this.report();
    const errors = report.errors.map((failure) => failure.error);
    if (reason?.kind === 'signal' || reason?.kind === 'parent-cancelled') out.error(new ScopeCancelledError(reason, errors));
    else if (reason?.kind === 'deadline') out.error(new DeadlineExceededError(reason.ms, reason.label, this.seen, report));
    else if (errors.length > 0) out.error(new ScopeError(report, this.name));
    else out.complete();
  }

  /** Notifies downstream in the async context and under the scope of whoever subscribed. */
  protected tell(task: () => void): void {
    const { binding } = this;
    if (binding === undefined) notify(this.up, task, undefined);
    else binding.run(() => notify(this.up, task, undefined), undefined);
  }

  /** Nobody listens any more: the parent hears of what went wrong, or else `onUnhandled` does. */
  private handUp(): void {
    const { errors = [], late = [] } = this.extra ?? {};
    const { up } = this;
    if (up !== undefined) {
      for (const failure of errors) up.failed({ error: failure.error, phase: 'cleanup' });
      for (const each of late) up.noteLate(each);
    } else if (errors.length > 0) this.tellUnhandled(errors);
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
