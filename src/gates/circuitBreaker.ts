import { checkBreakerOptions, makeWindow, openTime, type CircuitAsk, type CircuitBreakerOptions } from './breakerOptions.js';
import { BreakerState, type BreakerPhase, type Ticket, type Verdict } from './breakerState.js';
import { checkBoolean } from './checks.js';
import { classifyError, ERROR_KINDS } from './classifyError.js';
import { disposing, type SelfDisposing } from './disposing.js';
import { BadAskError, CircuitIsolatedError, CircuitOpenError, CircuitTrippedError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { guarded, LineGate, revokeAll, withoutStack } from './gateBase.js';
import { Visit } from './visit.js';

export interface CircuitSnapshot {
  readonly name: string;
  readonly state: BreakerPhase;
  /** How often the state has changed. */
  readonly generation: number;
  /** How often it has tripped since it was closed. */
  readonly attempt: number;
  /** Milliseconds until it lets a call in; 0 if it does now, or is isolated. */
  readonly retryAfterMs: number;
  readonly inFlight: number;
  readonly waiting: number;
  /** Probes whose end is awaited. */
  readonly probing: number;
  /** Outcomes in the window, or of the probes while it is half-open. */
  readonly total: number;
  readonly failed: number;
  readonly slow: number;
  /** Outcomes that came after the state had changed, and did not count. */
  readonly lateResults: number;
}

/** Undoes one `isolate()`. */
export interface Isolation extends SelfDisposing {
  dispose(): void;
}

const NEUTRAL: Verdict = { outcome: 'neutral', cancelled: false, cause: undefined };

/** What becomes of a call that the breaker stops. */
interface Victim {
  readonly error: Error;
  end: CallEnd | undefined;
  /** Whether listeners know of it. */
  told: boolean;
}

/** What the breaker knows of a call that was let in, or waits for the verdict of the probes. */
class Patient implements Ticket {
  generation = 0;
  grantedAt = 0;
  begunAt: number | undefined = undefined;
  victim: Victim | undefined = undefined;

  constructor(readonly ask: CircuitAsk) {}
}

type CircuitVisit = Visit<Patient>;

/**
 * A circuit breaker: lets calls through while the other side answers, stops all of them when it does not, and finds out with
 * a few probes when it does again.
 *
 * ```
 * closed    failures in a row, or a share of them ........> open       calls in flight are stopped, new ones refused
 * open      the next call after openMs ...................> halfOpen   so many probes go in, others are refused or wait
 * halfOpen  the probes succeed ...........................> closed     one fails: open again
 * ```
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { circuitBreak, CircuitBreaker } from 'rxfleet';
 *
 * const search = new CircuitBreaker({ name: 'search', failures: 3, openMs: 10_000 });
 * of('found').pipe(circuitBreak(search)).subscribe(() => console.log(search.state));
 * ```
 *
 * An outcome counts only if the state has not changed since the call was let in; cancelled calls, refusals of other gates,
 * and errors that tell nothing of the other side's health count for nothing. Bad options throw TypeError or RangeError.
 * Needs no timer, unless calls wait for probes.
 */
export class CircuitBreaker extends LineGate<CircuitSnapshot, CircuitVisit> implements Gate<CircuitAsk> {
  private readonly machine: BreakerState;
  private readonly options: CircuitBreakerOptions;
  /** The state that listeners know of. */
  private told: { phase: BreakerPhase; generation: number } = { phase: 'closed', generation: 0 };

  constructor(options: CircuitBreakerOptions = {}) {
    super('CircuitBreaker', 'circuit', options);
    checkBreakerOptions(options);
    const { probes = 1, probeMaxMs } = options;
    this.options = { ...options };
    this.machine = new BreakerState({ window: makeWindow(options), probes, probeMaxMs });
  }

  /** `open` until the first call after its time, which makes it `halfOpen`. */
  get state(): BreakerPhase {
    return this.machine.phase;
  }

  /** Opens it now, as if a call had failed: calls in flight are stopped. Does nothing while it is isolated. */
  trip(reason: unknown = 'tripped by hand'): void {
    this.moved(this.machine.trip(reason, this.timer.now()));
  }

  /** Closes it now, with nothing counted. Does nothing while it is isolated. */
  reset(): void {
    this.moved(this.machine.reset());
    this.pump();
  }

  /**
   * Refuses every call until the handle is disposed; with several handles, until all are. Then it is closed, with nothing
   * counted. Calls in flight are stopped as by a trip.
   */
  isolate(options: { readonly cancelInFlight?: boolean | undefined } = {}): Isolation {
    const { cancelInFlight = this.options.cancelInFlight ?? true } = options;
    checkBoolean('isolate', 'cancelInFlight', cancelInFlight);
    this.machine.isolate();
    this.tellStopped(cancelInFlight ? this.stopVictims(() => new CircuitIsolatedError(this.name, true)) : [], 'isolated by hand', false);
    let held = true;
    const dispose = (): void => {
      if (!held) return;
      held = false;
      this.moved(this.machine.restore());
    };
    return disposing({ dispose });
  }

  enter(ask: CircuitAsk, call: Call, caller: Caller): Withdraw {
    this.checkOpen();
    this.advance();
    return this.admit(new Visit(this, call, caller, new Patient(ask)));
  }

  snapshot(): CircuitSnapshot {
    const { name, machine } = this;
    const { phase: state, generation, attempt, probesOut: probing, lateResults } = machine;
    const now = this.timer.now();
    const retryAfterMs = Math.ceil(machine.retryAfterMs(now));
    const { total, failed, slow } = machine.counts(now);
    const [inFlight, waiting] = [this.live.length, this.line.length];
    return { name, state, generation, attempt, retryAfterMs, inFlight, waiting, probing, total, failed, slow, lateResults };
  }

  protected fits(): boolean {
    return this.machine.room;
  }

  protected grant(visit: CircuitVisit): void {
    this.machine.take(visit.hold, this.machine.timed ? this.timer.now() : 0);
    this.pass(visit);
  }

  protected override refusal(): Error | undefined {
    const { machine, name } = this;
    if (machine.phase === 'isolated') return new CircuitIsolatedError(name, false);
    if (machine.phase === 'open') return this.openError('open');
    return this.options.whileProbing === 'queue' ? undefined : this.openError('half-open and its probes are out');
  }

  /** Whoever waits for a probe does not wait longer than a probe may take. */
  protected override dueAt(): number {
    return this.machine.reclaimAt;
  }

  protected override onWake(): void {
    this.advance();
    this.pump();
  }

  // For its turns

  /** @internal */
  override began({ hold }: CircuitVisit): void {
    if (this.machine.timed) hold.begunAt = this.timer.now();
  }

  /** @internal What a callback throws fails this call; its end counts for nothing then. */
  override ended(visit: CircuitVisit, end: CallEnd): (() => Withdraw) | void {
    if (!this.live.remove(visit)) return undefined;
    const { hold, caller } = visit;
    let verdict = NEUTRAL;
    let bad: { readonly error: unknown } | undefined;
    try {
      verdict = this.verdict(hold, end);
    } catch (error) {
      bad = { error };
    }
    const timed = verdict.outcome === 'failure' || this.machine.timed;
    if (!this.disposed) this.moved(this.machine.end(hold, verdict, timed ? this.timer.now() : 0));
    if (hold.victim === undefined || hold.victim.told) this.tellSettled(visit, end);
    else hold.victim.end = end;
    if (end.kind === 'cancelled') this.pumpSoon();
    if (bad === undefined) return undefined;
    const { error } = bad;
    if (end.kind === 'cancelled') throw error;
    return () => (caller.refused(error as Error), nothing);
  }

  // What it makes of things

  private verdict({ ask, victim }: Patient, end: CallEnd): Verdict {
    if (victim !== undefined || !end.started) return NEUTRAL;
    const { options } = this;
    const cancelled = end.kind === 'cancelled';
    if (end.kind === 'failed') {
      const kind = (ask.classify ?? options.classify ?? classifyError)(end.error);
      if (!ERROR_KINDS.includes(kind)) throw new BadAskError(this.name, 'what classify returned', `one of ${ERROR_KINDS.join(', ')}`, kind);
      return { outcome: kind === 'transient' || kind === 'unknown' ? 'failure' : 'neutral', cancelled, cause: end.error };
    }
    const silent = end.emitted === 0 || (ask.cancelAfterValue ?? options.cancelAfterValue) === 'neutral';
    if (cancelled && silent) return { outcome: 'neutral', cancelled, cause: undefined };
    const failed = end.emitted > 0 && (ask.isFailureResult ?? options.isFailureResult)?.(end.last) === true;
    return { outcome: failed ? 'failure' : 'success', cancelled, cause: end.last };
  }

  private advance(): void {
    const { phase } = this.machine;
    if (phase !== 'open' && phase !== 'halfOpen') return;
    this.moved(this.machine.advance(this.timer.now()));
    if (this.machine.phase === 'closed') this.pumpSoon();
  }

  private moved(phase: BreakerPhase | undefined): void {
    if (phase === 'open') this.tripped();
    else if (phase !== undefined) this.tellState();
  }

  /** It is open already: stop what is in flight, tell those calls, then tell everybody. The guilty call hears of it last. */
  private tripped(): void {
    const { attempt, cause, generation } = this.machine;
    guarded(this.scheduler, () => {
      const ms = openTime(this.name, this.options, { attempt, cause });
      if (this.machine.generation === generation) this.machine.openFor(ms);
    });
    const stopped = this.options.cancelInFlight === false ? [] : this.stopVictims(() => new CircuitTrippedError(this.name, cause));
    this.tellStopped(stopped, cause, true);
  }

  /** What a trip in the middle of another one finds is stopped by that one already. */
  private stopVictims(error: () => Error): readonly CircuitVisit[] {
    const stopped = this.live.all().filter(({ hold }) => hold.victim === undefined);
    revokeAll(stopped, ({ hold }) => {
      this.machine.dismiss(hold);
      hold.victim = { error: withoutStack(error), end: undefined, told: false };
      return hold.victim.error;
    });
    return stopped;
  }

  private tellStopped(stopped: readonly CircuitVisit[], cause: unknown, tripped: boolean): void {
    this.tellState();
    if (tripped || stopped.length > 0) this.tell({ type: 'tripped', path: [], cancelled: stopped.length, cause });
    for (const visit of stopped) this.tellVictim(visit, visit.hold.victim as Victim);
    if (this.machine.phase === 'halfOpen' || this.machine.room) return;
    this.refuseWaiting(() => this.refusal() ?? this.openError('open'));
    if (this.line.length === 0) this.timer.stop();
  }

  /** One that another victim's teardown ended has an end of its own. */
  private tellVictim(visit: CircuitVisit, victim: Victim): void {
    const { error, end } = victim;
    victim.told = true;
    if (end === undefined || end.kind === 'cancelled') this.tellRevoked(visit.call, error);
    if (end !== undefined) this.tellSettled(visit, end);
  }

  private tellState(): void {
    const { phase, generation } = this.machine;
    const { told } = this;
    if (told.generation === generation) return;
    this.told = { phase, generation };
    this.tell({ type: 'state', from: told.phase, to: phase });
  }

  private openError(why: string): CircuitOpenError {
    const { machine, name } = this;
    return new CircuitOpenError(name, Math.ceil(machine.retryAfterMs(this.timer.now())), why, machine.cause);
  }
}
