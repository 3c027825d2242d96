import { Observable, type ObservableInput, type Subscriber, type Unsubscribable } from 'rxjs';
import { captureContext, type AsyncBinding } from '#context';
import { defer, enter, leave, tooDeep } from '../core/ambient.js';
import { CallObservable } from '../core/call.js';
import { DeadlineExceededError, isAbortShaped } from '../core/errors.js';
import { CANCELLING, type Cancellation, type Env } from '../core/node.js';
import { OutputScope } from '../core/output.js';
import { relay, tearDown, type RelayTarget } from '../core/relay.js';
import { Ring } from '../core/ring.js';
import { ScopeBase } from '../core/scope.js';
import type { CancelReason, LateOutcome, Outcome, ScopeFailure, ScopeReport } from '../core/types.js';
import type { FanOutOptions, FanOutProject } from './fanOutScoped.js';
import { Sequencer } from './sequencer.js';

type Settings = FanOutOptions & Required<Pick<FanOutOptions, 'concurrency' | 'order' | 'policy' | 'outcomes'>>;

/** The group: takes values from the source, starts children while slots are free, and applies the policy. */
export class FanOut<T, R> extends OutputScope<T, R | Outcome<R>> {
  private active = 0;
  private fulfilled = 0;
  private started = 0;
  private arrived = 0;
  private draining = false;
  private winner: Child<T, R> | undefined = undefined;
  private readonly queue: Ring<T> = new Ring();
  private readonly contexts: Ring<AsyncBinding | undefined> = new Ring();
  private readonly sequencer: Sequencer<R | Outcome<R>> | undefined;
  /** Whether the last value of a child is needed after it was emitted. */
  readonly holds: boolean;
  private readonly emitsValues: boolean;
  /** Outcomes of children that closed after the cancel. */
  private readonly untold: Outcome<R>[] = [];

  constructor(
    out: Subscriber<R | Outcome<R>>,
    readonly project: FanOutProject<T, R>,
    readonly settings: Settings,
  ) {
    super(out, settings);
    const { policy, order, outcomes } = settings;
    this.emitsValues = policy === 'failFast' || policy === 'collect';
    this.holds = !this.emitsValues || outcomes === 'all';
    if (order === 'index' && policy !== 'race') this.sequencer = new Sequencer((value) => this.deliver(value));
  }

  // Starting

  next(value: T): void {
    if (this.state >= CANCELLING) return;
    this.arrived++;
    if (this.active < this.settings.concurrency && this.queue.length === 0 && !this.draining && !tooDeep()) {
      this.draining = true;
      this.start(value);
      this.draining = false;
    } else {
      this.queue.push(value);
      this.contexts.push(this.opening ? this.binding : captureContext());
    }
    if (this.queue.length > 0) this.drain();
  }

  /** Starts what waits while slots are free: a loop, so that any number of synchronous children use one frame. */
  private drain(): void {
    if (this.draining) return;
    if (tooDeep()) return defer(() => this.drain());
    this.draining = true;
    while (this.queue.length > 0 && this.active < this.settings.concurrency) {
      const value = this.queue.shift() as T;
      const context = this.contexts.shift();
      if (context === undefined) this.start(value);
      else context.run(this.startOne, value);
    }
    this.draining = false;
    if (this.queue.length === 0) this.settle();
  }

  private start(value: T): void {
    this.active++;
    new Child(this, this.started++).begin(value);
  }

  private readonly startOne = (value: T): void => this.start(value);

  protected override get running(): boolean {
    return super.running || this.queue.length > 0;
  }

  protected override get waiting(): number {
    return this.queue.length;
  }

  protected override stopBody(): void {
    super.stopBody();
    for (let index = this.started; index < this.arrived; index++) (this.more.outcomes ??= []).push({ index, status: 'not-started' });
    this.queue.clear();
    this.contexts.clear();
  }

  // Children

  childNext(child: Child<T, R>, value: R): void {
    if (this.holds) child.hold(value);
    if (!this.emitsValues) return;
    if (this.sequencer === undefined) this.emit(value);
    else this.sequencer.next(child.index, value);
  }

  childCompleted(child: Child<T, R>): void {
    const { policy } = this.settings;
    if (policy === 'race' && this.state < CANCELLING) {
      this.winner = child;
      this.cancelWith({ kind: 'race-lost', winner: child.index }, child);
    } else if (this.emitsValues) this.sequencer?.done(child.index);
  }

  childFailed(child: Child<T, R>, failure: ScopeFailure): void {
    const { index } = child;
    (this.more.errors ??= []).push({ ...failure, index });
    if (this.settings.policy === 'failFast') this.cancelWith({ kind: 'sibling-failed', index, error: failure.error });
  }

  childClosed(child: Child<T, R>): void {
    this.active--;
    const fulfilled = child.status === 'fulfilled';
    if (fulfilled) this.fulfilled++;
    if (!fulfilled || this.holds) this.record(child, fulfilled);
    if (!fulfilled || !this.emitsValues) this.sequencer?.done(child.index);
    if (this.queue.length > 0) this.drain();
  }

  private record(child: Child<T, R>, fulfilled: boolean): void {
    const { policy, outcomes } = this.settings;
    const outcome = child.outcome();
    if (!fulfilled || outcomes === 'all') (this.more.outcomes ??= []).push(outcome);
    if (policy !== 'settle') return;
    if (this.sequencer === undefined) this.deliver(outcome);
    else this.sequencer.next(child.index, outcome);
  }

  private deliver(value: R | Outcome<R>): void {
    if (this.state < CANCELLING) this.emit(value);
    else if (!this.emitsValues) this.untold.push(value as Outcome<R>);
  }

  // Ending

  override report(): ScopeReport {
    return { ...super.report(), fulfilled: this.fulfilled };
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const { policy } = this.settings;
    const errors = this.more.errors ?? [];
    const quiet = reason === undefined || reason.kind === 'explicit';
    if (reason?.kind === 'race-lost') {
      this.out.next(this.winner?.last as R);
      this.out.complete();
    } else if (policy === 'settle' && quiet && errors.every((failure) => failure.index !== undefined)) {
      if (reason !== undefined) for (const outcome of this.untoldOutcomes()) this.out.next(outcome);
      this.out.complete();
    } else if (policy === 'race' && reason?.kind === 'explicit' && errors.every((failure) => failure.phase !== 'cleanup'))
      this.out.complete();
    else super.conclude(reason);
  }

  /** The outcomes that were not told yet when the owner cancelled. */
  private untoldOutcomes(): Outcome<R>[] {
    const held = (this.sequencer?.drain() ?? []) as Outcome<R>[];
    const unstarted = (this.more.outcomes ?? []).filter((outcome) => outcome.status === 'not-started' && outcome.index >= this.started);
    const rest = [...held, ...this.untold, ...(unstarted as Outcome<R>[])];
    return this.sequencer === undefined ? rest : rest.sort((a, b) => a.index - b.index);
  }
}

const SUBSCRIBING = 1;
const STARTED = 2;
const ENDED = 4;
const COMPLETED = 8;
const FAILED = 16;

/** One child: its body is what the project returned, and its scope is the `ctx` that the project was given. */
class Child<T, R> extends ScopeBase implements RelayTarget<R> {
  declare readonly up: FanOut<T, R>;
  /** The last value, or the failure. */
  private result: unknown = undefined;
  private handle: Unsubscribable | undefined = undefined;
  private flags = SUBSCRIBING;

  constructor(
    group: FanOut<T, R>,
    readonly index: number,
  ) {
    super(group);
    group.enlist(this);
  }

  get env(): Env {
    return this.up.env;
  }

  get last(): R {
    return this.result as R;
  }

  hold(value: R): void {
    if (!this.is(FAILED)) this.result = value;
  }

  private is(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  begin(value: T): void {
    if (this.state < CANCELLING) this.run(value);
    if (!this.is(STARTED)) this.flags |= ENDED;
    this.flags &= ~SUBSCRIBING;
    this.settle();
  }

  private run(value: T): void {
    this.flags |= STARTED;
    const outer = enter(this);
    try {
      this.follow(this.up.project(value, this.index, this));
    } catch (error) {
      this.fail(error, 'project');
    } finally {
      leave(outer);
    }
  }

  private follow(input: ObservableInput<R>): void {
    if (input instanceof Observable && !(input instanceof CallObservable)) return relay(input, this);
    const call =
      input instanceof CallObservable ? (input as CallObservable<R>) : new CallObservable<R>(this, () => input, { label: this.name });
    const handle = call.begin(this);
    if (handle !== undefined) this.attach(handle);
  }

  attach(handle: Unsubscribable): void {
    this.handle = handle;
    if (this.is(ENDED)) this.tearDown();
  }

  next(value: R): void {
    if (!this.is(ENDED) && this.state < CANCELLING) this.up.childNext(this, value);
  }

  error(error: unknown): void {
    if (this.is(ENDED)) return;
    this.flags |= ENDED;
    this.tearDown();
    if (this.state < CANCELLING) this.fail(error, 'run');
    else if (!isAbortShaped(error)) this.failed({ error, phase: 'cleanup' });
    this.settle();
  }

  complete(): void {
    if (this.is(ENDED)) return;
    this.flags |= ENDED;
    this.tearDown();
    if (this.state < CANCELLING) {
      this.flags |= COMPLETED;
      this.up.childCompleted(this);
    }
    this.bodyEnded();
  }

  /** The body failed: what it left running has no reason to go on. */
  private fail(error: unknown, phase: ScopeFailure['phase']): void {
    this.flags |= ENDED;
    this.tearDown();
    this.failed({ error, phase });
    if (this.live > 0) this.cancelWith({ kind: 'source-error', error });
    else this.bodyEnded();
  }

  private tearDown(): void {
    const { handle } = this;
    this.handle = undefined;
    if (handle !== undefined) tearDown(handle, this);
  }

  protected get running(): boolean {
    return this.is(SUBSCRIBING) || !this.is(ENDED);
  }

  protected stopBody(): void {
    this.flags |= ENDED;
    this.tearDown();
  }

  override failed(failure: ScopeFailure): void {
    if (!this.is(FAILED)) this.result = failure.error;
    this.flags |= FAILED;
    this.up.childFailed(this, failure);
  }

  override noteLate(late: LateOutcome): void {
    this.up.noteLate(late);
  }

  protected override inherit(above: Cancellation): Cancellation {
    return above;
  }

  protected onClosed(): void {
    const { cancellation, up } = this;
    if (cancellation?.reason.kind === 'deadline' && cancellation !== up.cancellation && !this.is(FAILED)) {
      this.failed({ error: new DeadlineExceededError(cancellation.reason.ms, cancellation.reason.label, 0, this.report()), phase: 'run' });
    }
    up.childClosed(this);
  }

  get status(): Outcome<R>['status'] {
    if (this.is(FAILED)) return 'failed';
    if (this.is(COMPLETED)) return 'fulfilled';
    if (!this.is(STARTED)) return 'not-started';
    return (this.extra?.orphans?.size ?? 0) > 0 ? 'unknown' : 'cancelled';
  }

  outcome(): Outcome<R> {
    const { index, status } = this;
    if (status === 'failed') return { index, status, reason: this.result };
    return status === 'fulfilled' ? { index, status, value: this.last } : { index, status };
  }

  override get childIndex(): number {
    return this.index;
  }

  override get path(): readonly string[] {
    return this.up.path;
  }

  protected override get name(): string {
    return `${this.env.label ?? ''}#${this.index}`;
  }
}
