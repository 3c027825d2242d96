import { isObservable, type ObservableInput } from 'rxjs';
import { ambient, enter, leave } from '../core/ambient.js';
import { CallObservable, labelOf } from '../core/call.js';
import { DeadlineExceededError, isAbortShaped, isScopeCancelledError } from '../core/errors.js';
import { ABANDONED, FREE_FLAG, Lease, SHIELDED } from '../core/lease.js';
import { Cancellation, type Env } from '../core/member.js';
import { CANCELLING, CLOSED, OPEN } from '../core/node.js';
import { ScopeBase } from '../core/scope.js';
import type { LateOutcome, Outcome, ScopeFailure } from '../core/types.js';
import type { FanOut } from './fanOut.js';

const SUBSCRIBING = FREE_FLAG;
const COMPLETED = FREE_FLAG << 1;
const FAILED = FREE_FLAG << 2;
/** Told to stop: nothing it says is heard any more. */
const MUTED = FREE_FLAG << 3;
const OVER = FREE_FLAG << 4;
const FAILING = FREE_FLAG << 5;

/**
 * One child: a lease whose work is what the project returned. Its `ctx` is a scope of its own, which joins the tree only
 * when something is done with it; the child is over when both are.
 */
export class Child<T, R> extends Lease<R> {
  declare readonly up: FanOut<T, R>;
  /** The last value, or the failure. */
  private result: unknown = undefined;
  /** Its scope, once something runs in it. */
  scope: ChildContext<T, R> | undefined = undefined;

  constructor(
    group: FanOut<T, R>,
    readonly index: number,
  ) {
    super(group, '', undefined, SUBSCRIBING);
  }

  begin(value: T): void {
    const ctx = new ChildContext(this);
    const { base } = ambient;
    const outer = enter(ctx);
    ambient.base = -1;
    try {
      this.start(this.up.project(value, this.index, ctx), ctx);
    } catch (error) {
      this.projectThrew(error);
    } finally {
      ambient.base = base;
      leave(outer);
    }
    this.flags &= ~SUBSCRIBING;
    this.release();
  }

  /** A call of the child's own scope is run right here; anything else is followed. */
  private start(input: ObservableInput<R>, ctx: ChildContext<T, R>): void {
    if (this.is(MUTED) && isObservable(input)) return this.ended();
    if (!(input instanceof CallObservable) || input.given !== ctx) return this.follow(input);
    const { fn, options } = input as CallObservable<R>;
    this.label = labelOf(fn, options);
    if (options?.shield) this.flags |= SHIELDED;
    this.invoke(fn);
  }

  private projectThrew(error: unknown): void {
    if (!this.is(MUTED)) this.fail(error, 'project');
    else {
      this.end();
      if (!isAbortShaped(error)) this.torn(error);
    }
  }

  /** The body failed. That is noted first, then its teardown runs, then the group reacts and what it left running stops. */
  private fail(error: unknown, phase: ScopeFailure['phase']): void {
    this.flags |= FAILING;
    this.failed({ error, phase });
    if (!this.over) this.end();
    this.flags &= ~FAILING;
    this.up.childFailed(this.index, error);
    if (this.scope !== undefined && this.scope.live > 0) this.scope.cancelWith({ kind: 'source-error', error });
  }

  failed(failure: ScopeFailure): void {
    if (!this.is(FAILED)) this.result = failure.error;
    this.flags |= FAILED;
    this.up.noteFailure({ ...failure, index: this.index });
    if (!this.is(FAILING)) this.up.childFailed(this.index, failure.error);
  }

  override torn(error: unknown): void {
    this.failed({ error, phase: 'cleanup' });
  }

  // What the group hears

  protected override get heard(): boolean {
    return !this.is(MUTED);
  }

  protected override tellResult(value: R): void {
    this.up.childNext(this, value);
    this.tellComplete();
  }

  protected override tellValue(value: R): void {
    this.up.childNext(this, value);
  }

  protected override tellComplete(): void {
    this.flags |= COMPLETED;
    this.up.childCompleted(this);
  }

  /** Being cancelled through a scope of its own is no failure of a child; running out of time there is. */
  override error(error: unknown): void {
    if (this.over || this.is(MUTED)) return super.error(error);
    if (this.hold(() => this.error(error))) return;
    if (isScopeCancelledError(error) && error.kind !== 'deadline') {
      this.abort(new Cancellation(error.reason));
      this.end();
    } else this.fail(error, 'run');
    this.release();
  }

  override abort(cancellation: Cancellation): boolean {
    this.flags |= MUTED;
    return super.abort(cancellation);
  }

  // Ending

  /** The body has ended; the child has not, so it stays on the group's list. */
  protected override detach(): void {}

  protected override release(): void {
    if (!this.over || this.is(SUBSCRIBING | OVER)) return;
    if (this.scope !== undefined && !this.scope.over) return this.scope.bodyEnded();
    this.finish();
    this.up.settle();
  }

  /** Body and scope have both ended: the slot is free. */
  finish(): void {
    const { scope, up } = this;
    this.flags |= OVER;
    const own = scope !== undefined && scope.cancellation !== up.cancellation ? scope.cancellation?.reason : undefined;
    if (own?.kind === 'deadline' && !this.is(FAILED)) this.failed({ error: this.tooLate(own.ms, own.label), phase: 'run' });
    up.childClosed(this);
    up.delist(this);
    this.runAfterwards();
  }

  private tooLate(ms: number, label: string | undefined): DeadlineExceededError {
    const below = (this.scope as ChildContext<T, R>).report();
    const abandoned = this.is(ABANDONED) ? [this.info(), ...below.abandoned] : below.abandoned;
    return new DeadlineExceededError(ms, label, 0, { ...below, abandoned });
  }

  get finished(): boolean {
    return this.is(OVER);
  }

  get subscribing(): boolean {
    return this.is(SUBSCRIBING);
  }

  keep(value: R): void {
    if (!this.is(FAILED)) this.result = value;
  }

  get last(): R {
    return this.result as R;
  }

  get status(): Outcome<R>['status'] {
    if (this.is(FAILED)) return 'failed';
    if (this.is(COMPLETED)) return 'fulfilled';
    return this.is(ABANDONED) || this.scope?.hasOrphans ? 'unknown' : 'cancelled';
  }

  outcome(): Outcome<R> {
    const { index, status } = this;
    if (status === 'failed') return { index, status, reason: this.result };
    return status === 'fulfilled' ? { index, status, value: this.last } : { index, status };
  }

  protected override get childIndex(): number {
    return this.index;
  }

  protected override get name(): string {
    return this.label || `${this.up.env.label ?? ''}#${this.index}`;
  }

  private is(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }
}

/** The `ctx` of a child. While nothing is done with it, it is on nobody's list and costs nothing to end. */
class ChildContext<T, R> extends ScopeBase {
  declare readonly up: FanOut<T, R>;

  constructor(private readonly owner: Child<T, R>) {
    super(owner.up);
  }

  get env(): Env {
    return this.up.env;
  }

  protected get running(): boolean {
    return !this.owner.over || this.owner.subscribing;
  }

  protected stopBody(): void {
    this.owner.abort(this.cancellation as Cancellation);
    this.owner.stop();
  }

  protected override abandonCalls(whole: boolean): void {
    super.abandonCalls(whole);
    if (whole && !this.owner.shielded) this.owner.abandon();
  }

  protected onClosed(): void {
    this.owner.finish();
  }

  protected override inherit(above: Cancellation): Cancellation {
    return above;
  }

  override failed(failure: ScopeFailure): void {
    this.owner.failed(failure);
  }

  override noteLate(late: LateOutcome): void {
    this.up.noteLate(late);
  }

  get hasOrphans(): boolean {
    return (this.extra?.orphans?.size ?? 0) > 0;
  }

  // Joining the tree

  override get over(): boolean {
    this.follow();
    return this.state === CLOSED;
  }

  override refusal(): Cancellation | undefined {
    this.follow();
    return super.refusal();
  }

  override wake(): void {
    this.keep();
  }

  protected override keep(): void {
    this.follow();
    if (this.owner.scope !== undefined || this.state === CLOSED) return;
    this.owner.scope = this;
    this.up.enlist(this);
  }

  /** While it is off the list nobody tells it what became of its child and its group. */
  private follow(): void {
    const { owner, up } = this;
    if (owner.scope === this || this.state === CLOSED) return;
    if (this.state === OPEN && up.state >= CANCELLING) {
      this.state = CANCELLING;
      this.cancellation = up.cancellation;
    }
    if (owner.finished) this.state = CLOSED;
  }

  override get childIndex(): number {
    return this.owner.index;
  }

  override get path(): readonly string[] {
    return this.up.path;
  }

  protected override get name(): string {
    return `${this.env.label ?? ''}#${this.owner.index}`;
  }
}
