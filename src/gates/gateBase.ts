import { asyncScheduler, defer, map, merge, Observable, of, Subject } from 'rxjs';
import { checkGateOptions, type GateOptions } from './checks.js';
import { Disposing } from './disposing.js';
import { ResourceDisposedError } from './errors.js';
import type { GateEvent, GateEventBody } from './events.js';
import { nothing, type Call, type CallEnd, type Caller, type Withdraw } from './gate.js';
import { GateTimer } from './gateTimer.js';
import { LiveList } from './liveList.js';
import type { AnyVisit } from './visit.js';
import { WaitingLine } from './waitingLine.js';

export interface DisposeOptions {
  /** Stop the calls in flight as well. Default false: they run to their end. */
  readonly cancelInFlight?: boolean | undefined;
}

/** What every gate of ours has: a name, a clock, calls in flight, events, a picture of itself, an end. */
export abstract class GateBase<Snapshot, T extends AnyVisit> extends Disposing {
  readonly name: string;
  protected readonly timer: GateTimer;
  protected disposed = false;
  /** Calls in flight, in the order in which they were granted. */
  protected live: LiveList<T> = new LiveList();
  private events: Subject<GateEvent> | undefined = undefined;
  /** Events that an observer of another event has caused: everybody hears of that one first. */
  private telling: GateEvent[] | undefined = undefined;

  constructor(who: string, defaultName: string, options: GateOptions) {
    super();
    checkGateOptions(who, options);
    this.name = options.name ?? defaultName;
    this.timer = new GateTimer(options.scheduler ?? asyncScheduler, () => this.onWake());
  }

  /** A picture of now as plain JSON; durations are what remains. */
  abstract snapshot(): Snapshot;

  /** What happens here. Nothing is made while nobody listens. */
  get events$(): Observable<GateEvent> {
    return defer(() => (this.events ??= new Subject()));
  }

  /** The picture of now, and again after each event. */
  get state$(): Observable<Snapshot> {
    return merge(this.events$, of(undefined)).pipe(map(() => this.snapshot()));
  }

  /**
   * Ends the gate: whoever waits, and whoever comes later, errors with ResourceDisposedError. Calls in flight go on unless
   * they are to be cancelled. May be called again.
   */
  dispose(options: DisposeOptions = {}): void {
    if (!this.disposed) {
      this.disposed = true;
      this.timer.stop();
      this.refuseWaiting(() => new ResourceDisposedError(this.name));
      this.tell({ type: 'disposed' });
    }
    if (options.cancelInFlight) this.revokeLive();
  }

  private revokeLive(): void {
    const victims = this.live.all();
    const errors = revokeAll(victims, () => new ResourceDisposedError(this.name));
    victims.forEach(({ call }, i) => this.tellRevoked(call, errors[i] as Error));
  }

  protected get scheduler(): GateTimer['scheduler'] {
    return this.timer.scheduler;
  }

  /** The timer rang. */
  protected onWake(): void {}
  protected refuseWaiting(_error: () => Error): void {}

  /** Whether anybody listens here. */
  protected get heard(): boolean {
    return this.events !== undefined && this.events.observed;
  }

  /** Whether anybody is told of what happens: an event costs nothing otherwise. */
  protected get watched(): boolean {
    return this.heard;
  }

  /** Call it when the state is consistent: a listener may call back in. */
  protected tell(event: GateEventBody): void {
    const { events, telling } = this;
    if (events === undefined || !events.observed) return;
    const told: GateEvent = { gate: this.name, at: this.scheduler.now(), ...event };
    if (telling !== undefined) return void telling.push(told);
    const queue = (this.telling = [told]);
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) events.next(next);
    this.telling = undefined;
  }

  /** The call may go. */
  protected pass(visit: T, grant?: unknown): void {
    this.live.add(visit);
    const { since } = visit;
    visit.since = undefined;
    if (this.watched) {
      const waitedMs = since === undefined ? 0 : this.timer.now() - since;
      this.tell({ type: 'admitted', path: visit.call.scope.path, waitedMs });
    }
    visit.caller.granted(visit, grant as never);
  }

  protected tellQueued({ call }: T, waiting: number): void {
    if (this.watched) this.tell({ type: 'queued', path: call.scope.path, waiting });
  }

  protected tellWithdrawn({ call }: T): void {
    if (this.watched) this.tell({ type: 'withdrawn', path: call.scope.path });
  }

  protected tellRevoked(call: Call, error: Error): void {
    if (this.watched) this.tell({ type: 'revoked', path: call.scope.path, error });
  }

  protected tellSettled({ call }: T, { kind }: CallEnd): void {
    if (this.watched) this.tell({ type: 'settled', path: call.scope.path, end: kind });
  }

  // For its visits; a gate overrides those that it cares about

  /** @internal */
  began(_visit: T): void {}
  /** @internal */
  used(_visit: T, _usage: never): void {}
  /** @internal */
  ended(_visit: T, _end: CallEnd): (() => Withdraw) | void {}
  /** @internal */
  left(_visit: T, _end: CallEnd): void {}
  /** @internal */
  pump(): void {}

  /** What a newcomer hears once the gate is disposed. */
  protected checkOpen(): void {
    if (this.disposed) throw new ResourceDisposedError(this.name);
  }

  /** @internal */
  threw(error: Error, call: Call): void {
    if (this.watched) this.tell({ type: 'refused', path: call.scope.path, error });
  }

  /** Refuses a caller: its call ends with the error. */
  protected refuse(call: Call, caller: Caller<never>, error: Error): void {
    this.threw(error, call);
    guarded(this.scheduler, () => caller.refused(error));
  }
}

/** Runs what belongs to somebody else: what it throws is reported as uncaught, and whoever comes next is not held up. */
export function guarded(scheduler: { schedule(work: () => void): unknown }, task: () => void): void {
  try {
    task();
  } catch (error) {
    scheduler.schedule(() => {
      throw error;
    });
  }
}

/** The stack of an error that many calls get says nothing about any of them, and is most of what it costs. */
export function withoutStack<T>(make: () => T): T {
  const engine = Error as { stackTraceLimit?: number };
  const { stackTraceLimit } = engine;
  if (stackTraceLimit === undefined || !Object.isExtensible(Error)) return make();
  engine.stackTraceLimit = 0;
  try {
    return make();
  } finally {
    engine.stackTraceLimit = stackTraceLimit;
  }
}

/**
 * Stops calls in flight, with an error each: all of them are torn down first, in the order given, and only then is each
 * told, as soon as it has acknowledged. Returns the errors.
 */
export function revokeAll<V extends { readonly caller: Pick<Caller<never>, 'revoked'> }>(
  victims: readonly V[],
  error: (victim: V) => Error,
): readonly Error[] {
  const tell: (() => void)[] = [];
  const errors = victims.length > 1 ? withoutStack(() => victims.map(error)) : victims.map(error);
  victims.forEach(({ caller }, i) => caller.revoked(errors[i] as Error, tell));
  for (const each of tell) each();
  return errors;
}

/** A gate at which calls wait in a line until there is room for the one whose turn it is. */
export abstract class LineGate<Snapshot, W extends AnyVisit> extends GateBase<Snapshot, W> {
  protected readonly line: WaitingLine<W> = new WaitingLine();
  private granting = false;

  /** Whether there is room for it now. */
  protected abstract fits(waiter: W): boolean;
  /** Whether there is room for nobody at all, so that nobody needs to be looked at. */
  protected get full(): boolean {
    return false;
  }
  /** Takes what it needs and lets it pass. */
  protected abstract grant(waiter: W): void;
  /** When somebody may fit although nobody leaves; Infinity if only a release helps. */
  protected dueAt(): number {
    return Infinity;
  }
  /** Why it may not wait; called before it is added. */
  protected refusal(_waiter: W): Error | undefined {
    return undefined;
  }
  /** It has been added to the line. */
  protected joined(_waiter: W): void {}
  /** It has been taken out of the line. */
  protected gone(_waiter: W): void {}

  /** Lets a newcomer in if there is room and nobody waits whom it would pass; else it waits. */
  protected admit(waiter: W): Withdraw {
    this.checkOpen();
    if (!this.line.blocks(waiter.priority) && this.fits(waiter)) {
      this.grant(waiter);
      return nothing;
    }
    const refusal = this.refusal(waiter);
    if (refusal !== undefined) {
      this.refuse(waiter.call, waiter.caller, refusal);
      return nothing;
    }
    waiter.since = this.timer.now();
    this.line.add(waiter);
    this.joined(waiter);
    this.arm();
    this.tellQueued(waiter, this.line.length);
    return () => this.withdraw(waiter);
  }

  /** @internal Lets in whoever fits, in turn. A loop: what a grant starts may end at once and call back in. */
  override pump(): void {
    if (this.granting || this.disposed || this.line.length === 0) return;
    this.granting = true;
    try {
      for (let waiter = this.next(); waiter !== undefined; waiter = this.next()) {
        const granted = waiter;
        this.line.serve(granted);
        this.gone(granted);
        guarded(this.scheduler, () => this.grant(granted));
      }
    } finally {
      this.granting = false;
    }
    this.arm();
  }

  /** The same in this frame, after whatever runs now: a sweep withdraws its own waiters first. */
  protected pumpSoon(): void {
    if (this.line.length > 0 && !this.granting) this.timer.wakeSoon();
  }

  protected override onWake(): void {
    this.pump();
  }

  /** Takes a waiter out of the line and refuses it. */
  protected expel(waiter: W, error: Error): void {
    if (!this.remove(waiter)) return;
    if (this.line.length === 0) this.timer.stop();
    this.refuse(waiter.call, waiter.caller, error);
  }

  /** Takes a waiter out of the line; whether it was there. */
  protected remove(waiter: W): boolean {
    if (!this.line.remove(waiter)) return false;
    this.gone(waiter);
    return true;
  }

  protected override refuseWaiting(error: () => Error): void {
    for (const waiter of this.line.all()) this.expel(waiter, error());
  }

  private next(): W | undefined {
    return this.disposed || this.full ? undefined : this.line.next(this.fit);
  }

  private readonly fit = (waiter: W): boolean => this.fits(waiter);

  private arm(): void {
    if (this.line.length === 0) return this.timer.stop();
    const due = this.dueAt();
    if (due < Infinity) this.timer.wakeBy(due);
  }

  private withdraw(waiter: W): void {
    const head = this.line.isHead(waiter);
    if (!this.remove(waiter)) return;
    if (this.line.length === 0) this.timer.stop();
    else if (head) this.pumpSoon();
    this.tellWithdrawn(waiter);
  }
}
