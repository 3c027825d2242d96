import { captureContext, type AsyncBinding } from '#context';
import { defer, tooDeep } from '../core/ambient.js';
import type { Sink } from '../core/direct.js';
import { CANCELLING } from '../core/node.js';
import { OutputScope } from '../core/output.js';
import { Ring } from '../core/ring.js';
import type { CancelReason, Outcome, ScopeFailure, ScopeReport } from '../core/types.js';
import { Child } from './fanOutChild.js';
import type { FanOutOptions, FanOutProject } from './fanOutScoped.js';
import { Sequencer } from './sequencer.js';

type Choice = 'concurrency' | 'order' | 'policy' | 'outcomes';
type Settings = Omit<FanOutOptions, Choice> & { readonly [K in Choice]: NonNullable<FanOutOptions[K]> };

/** The group: takes values from the source, starts children while slots are free, and applies the policy. */
export class FanOut<T, R> extends OutputScope<T, R | Outcome<R>> {
  private active = 0;
  private fulfilled = 0;
  private started = 0;
  private arrived = 0;
  private draining = false;
  private winner: Child<T, R> | undefined = undefined;
  private readonly queue: Ring<T> = new Ring();
  /** The async contexts of what waits, but for the first `unbound` values: they came while the source was being subscribed. */
  private readonly contexts: Ring<AsyncBinding | undefined> = new Ring();
  private unbound = 0;
  private readonly sequencer: Sequencer<R | Outcome<R>> | undefined;
  /** Whether the last value of a child is needed after it was emitted. */
  readonly holds: boolean;
  private readonly emitsValues: boolean;
  /** Outcomes of children that closed after the cancel. */
  private readonly leftover: Outcome<R>[] = [];
  /** How many failures had been told as outcomes, or tolerated by a race, when the cancel came. */
  private tolerated = 0;

  constructor(
    out: Sink<R | Outcome<R>>,
    readonly project: FanOutProject<T, R>,
    readonly settings: Settings,
  ) {
    super(out, settings);
    const { policy, order, outcomes } = settings;
    this.emitsValues = policy === 'failFast' || policy === 'collect';
    this.holds = !this.emitsValues || outcomes === 'all';
    if (order === 'index' && policy !== 'race') this.sequencer = new Sequencer((value) => this.put(value));
  }

  // Starting

  next(value: T): void {
    if (this.state >= CANCELLING) return;
    this.arrived++;
    if (this.active < this.settings.concurrency && this.queue.length === 0 && !this.draining && !tooDeep()) {
      this.draining = true;
      this.startOne(value);
      this.draining = false;
    } else {
      this.queue.push(value);
      if (this.opening) this.unbound++;
      else this.contexts.push(captureContext());
    }
    if (this.queue.length > 0) this.drain();
  }

  /** Starts what waits while slots are free: a loop, so that any number of synchronous children use one frame. */
  private drain(): void {
    if (this.draining) return;
    if (tooDeep()) defer(() => this.drainNow());
    else this.drainNow();
  }

  private drainNow(): void {
    if (this.draining) return;
    this.draining = true;
    while (this.queue.length > 0 && this.active < this.settings.concurrency) {
      const value = this.queue.shift() as T;
      const context = this.unbound > 0 ? this.binding : this.contexts.shift();
      if (this.unbound > 0) this.unbound--;
      if (context === undefined) this.startOne(value);
      else context.run(this.startOne, value);
    }
    this.draining = false;
    if (this.queue.length === 0) this.settle();
  }

  private readonly startOne = (value: T): void => {
    this.active++;
    new Child(this, this.started++).begin(value);
  };

  protected override get running(): boolean {
    return super.running || this.queue.length > 0;
  }

  protected override get waiting(): number {
    return this.queue.length;
  }

  protected override stopBody(): void {
    super.stopBody();
    this.tolerated = this.emitsValues ? 0 : (this.extra?.errors?.length ?? 0);
    for (let index = this.started; index < this.arrived; index++) (this.more.outcomes ??= []).push({ index, status: 'not-started' });
    this.queue.clear();
    this.contexts.clear();
    this.unbound = 0;
  }

  // Children

  childNext(child: Child<T, R>, value: R): void {
    if (this.holds) child.keep(value);
    if (!this.emitsValues) return;
    if (this.sequencer === undefined) this.emit(value);
    else this.sequencer.next(child.index, value);
  }

  childCompleted(child: Child<T, R>): void {
    const { policy } = this.settings;
    if (policy === 'race' && this.state < CANCELLING) {
      this.winner = child;
      this.cancelWith({ kind: 'race-lost', winner: child.index }, (scope) => scope === child.scope);
    } else if (this.emitsValues) this.sequencer?.done(child.index);
  }

  noteFailure(failure: ScopeFailure): void {
    (this.more.errors ??= []).push(failure);
  }

  childFailed(index: number, error: unknown): void {
    if (this.settings.policy === 'failFast') this.cancelWith({ kind: 'sibling-failed', index, error });
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
    if (this.sequencer === undefined) this.put(outcome);
    else this.sequencer.next(child.index, outcome);
  }

  private put(value: R | Outcome<R>): void {
    if (this.state < CANCELLING) this.emit(value);
    else if (!this.emitsValues) this.leftover.push(value as Outcome<R>);
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

  protected override untold(): readonly ScopeFailure[] {
    return super.untold().slice(this.tolerated);
  }

  /** The outcomes that were not told yet when the owner cancelled. */
  private untoldOutcomes(): Outcome<R>[] {
    const held = (this.sequencer?.drain() ?? []) as Outcome<R>[];
    const unstarted = (this.more.outcomes ?? []).filter((outcome) => outcome.status === 'not-started' && outcome.index >= this.started);
    const rest = [...held, ...this.leftover, ...(unstarted as Outcome<R>[])];
    return this.sequencer === undefined ? rest : rest.sort((a, b) => a.index - b.index);
  }
}
