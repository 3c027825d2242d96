import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase, guarded } from './gateBase.js';
import { RetryJudge, type RetryVerdict } from './retryJudge.js';
import { RetryLine } from './retryLine.js';
import { checkRetryAsk, checkRetryOptions, makeRetryState, type RetryAsk, type RetryGateOptions } from './retryOptions.js';
import type { RetryPhase, RetryState } from './retryState.js';
import { RetryVisit } from './retryVisit.js';

export interface RetrySnapshot {
  readonly name: string;
  /** `closed` during a pause and until the first call after it, `reopening` during the slow start. */
  readonly state: RetryPhase;
  /** How many pauses there were. */
  readonly epoch: number;
  /** How many of them since the last success. */
  readonly level: number;
  /** What remains of the pause. */
  readonly retryAfterMs: number;
  /** How many calls of the slow start may be in flight; null while there is no limit. */
  readonly allowed: number | null;
  /** How many of them are. */
  readonly probing: number;
  readonly inFlight: number;
  /** Calls that stand in the line. */
  readonly waiting: number;
  /** Calls that wait for the time of their retry. */
  readonly backingOff: number;
  /** How many retries the budget allows now; null without a budget. */
  readonly retriesLeft: number | null;
}

const WHO = 'RetryGate';

/**
 * One place that knows when to try again, shared by everybody who calls the same thing. When the other side asks for less,
 * the gate closes for all: first attempts and retries wait in one line, and after the pause one call goes in, then more with
 * each success. Other failures are tried again by each call alone, after a chance time, within a budget.
 *
 * ```
 * open       a call is throttled .............> closed       for Retry-After or a chance time; all wait in line
 * closed     the pause is over ...............> reopening    one call in flight, one more for each success
 * reopening  throttled .......................> closed       for longer
 *            more room than calls in line ....> open
 * ```
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { RetryGate, retryThrough } from 'rxfleet';
 *
 * const provider = new RetryGate({ name: 'provider', maxAttempts: 3 });
 * of('hello').pipe(retryThrough(provider)).subscribe(() => console.log(provider.snapshot().state));
 * ```
 *
 * The pause lasts at least as long as the server asks; chance is only added. Calls in flight when it closes go on, and their
 * throttles may make the pause longer, but do not count as another one. Bad options throw TypeError or RangeError. One
 * timer, and none while nobody waits.
 */
export class RetryGate extends GateBase<RetrySnapshot, RetryVisit> implements Gate<RetryAsk> {
  private readonly maxElapsedMs: number;
  private readonly machine: RetryState;
  private readonly court: RetryJudge;
  private readonly line: RetryLine = new RetryLine();

  constructor(options: RetryGateOptions = {}) {
    super(WHO, 'retry', options);
    checkRetryOptions(options);
    this.maxElapsedMs = options.maxElapsedMs ?? Infinity;
    this.machine = makeRetryState(options);
    this.court = new RetryJudge(this.name, { ...options }, this.machine);
  }

  enter(ask: RetryAsk, call: Call, caller: Caller): Withdraw {
    this.advance();
    this.checkOpen();
    checkRetryAsk(this.name, ask);
    const visit = new RetryVisit(this, ask, call, caller);
    if (this.line.length > 0 || !this.machine.room) return this.park(visit);
    this.grant(visit);
    return nothing;
  }

  snapshot(): RetrySnapshot {
    const { name, machine, line } = this;
    const { phase: state, epoch, level, probing, allowance } = machine;
    const now = this.timer.now();
    const retryAfterMs = state === 'closed' ? Math.max(0, Math.ceil(machine.until - now)) : 0;
    const allowed = state === 'open' ? null : state === 'closed' ? 0 : allowance;
    const { length: waiting, alone: backingOff } = line;
    const retriesLeft = this.court.budget?.available(now) ?? null;
    return { name, state, epoch, level, retryAfterMs, allowed, probing, inFlight: this.live.length, waiting, backingOff, retriesLeft };
  }

  // For its turns

  /** @internal */
  override ended(visit: RetryVisit, end: CallEnd): (() => Withdraw) | void {
    if (!this.live.remove(visit)) return undefined;
    this.advance();
    if (end.kind === 'failed' && !this.disposed) return this.failed(visit, end);
    if (end.kind === 'completed' || end.emitted > visit.emitted) this.machine.succeeded(visit);
    else this.machine.left(visit);
    this.relax();
    this.tellSettled(visit, end);
    if (end.kind === 'cancelled') this.arm();
    return undefined;
  }

  /** @internal Who waits comes in at the end of this frame, so that a throttle in it counts first. */
  override pump(): void {
    this.arm();
  }

  // An attempt has failed

  /** What a callback throws fails this call only. */
  private failed(visit: RetryVisit, end: CallEnd): (() => Withdraw) | void {
    const now = this.timer.now();
    let verdict: RetryVerdict;
    try {
      verdict = this.judge(visit, end, now);
    } catch (error) {
      this.machine.left(visit);
      this.tellSettled(visit, end);
      return () => this.fail(visit, error);
    }
    this.relax();
    this.tellVerdict(visit, end, verdict, now);
    const { refused, instead, parks, nextAt } = verdict;
    if (instead !== undefined) return () => this.fail(visit, instead);
    if (refused !== undefined) return undefined;
    return () => (parks ? this.park(visit) : this.backOff(visit, nextAt));
  }

  private judge(visit: RetryVisit, { error, emitted }: CallEnd, now: number): RetryVerdict {
    const deadlineAt = now + visit.call.scope.remaining();
    const verdict = this.court.judge(visit, { error, emitted, now, wallNow: this.scheduler.now(), deadlineAt });
    visit.error = error;
    visit.emitted = emitted;
    return verdict;
  }

  private tellVerdict(visit: RetryVisit, end: CallEnd, { refused, nextAt, paused }: RetryVerdict, now: number): void {
    if (!this.watched) return;
    const { attempts: attempt, error } = visit;
    const { path } = visit.call.scope;
    this.tellSettled(visit, end);
    if (paused) this.tell({ type: 'paused', ms: this.machine.until - now, waiting: this.line.length, cause: error });
    if (refused === undefined) this.tell({ type: 'retry', path, attempt, delayMs: nextAt - now, error });
    else this.tell({ type: 'retry', path, attempt, delayMs: 0, refused, error });
  }

  private fail({ caller }: RetryVisit, error: unknown): Withdraw {
    caller.refused(error as Error);
    return nothing;
  }

  // Waiting

  private park(visit: RetryVisit): Withdraw {
    this.checkOpen();
    visit.since ??= this.timer.now();
    this.line.stand(visit);
    this.arm();
    this.tellQueued(visit, this.line.length);
    return () => this.withdraw(visit);
  }

  private backOff(visit: RetryVisit, until: number): Withdraw {
    this.checkOpen();
    visit.since = this.timer.now();
    this.line.wait(visit, until);
    this.arm();
    return () => this.withdraw(visit);
  }

  private withdraw(visit: RetryVisit): void {
    if (!this.line.remove(visit)) return;
    this.arm();
    this.tellWithdrawn(visit);
  }

  protected override refuseWaiting(error: () => Error): void {
    for (let { first } = this.line; first !== undefined; { first } = this.line) {
      this.line.remove(first);
      this.refuse(first.call, first.caller, error());
    }
  }

  // Going on

  protected override onWake(): void {
    this.advance();
    this.takeDue();
    this.letIn();
  }

  private advance(): void {
    if (!this.disposed && this.machine.phase !== 'open' && this.machine.advance(this.timer.now())) this.tell({ type: 'resumed' });
  }

  /** Retries whose time has come stand in the line like everybody else. */
  private takeDue(): void {
    const now = this.timer.now();
    const due = this.line.takeDue(now);
    const inTime = due.filter(({ giveUpAt }) => giveUpAt > now);
    for (const visit of inTime) this.line.stand(visit);
    if (!this.machine.room) for (const visit of inTime) if (this.line.stands(visit)) this.tellQueued(visit, this.line.length);
    for (const visit of due) if (visit.giveUpAt <= now) this.giveUp(visit);
  }

  private giveUp({ attempts: attempt, error, call, caller }: RetryVisit): void {
    if (this.watched) this.tell({ type: 'retry', path: call.scope.path, attempt, delayMs: 0, refused: 'elapsed', error });
    guarded(this.scheduler, () => caller.refused(error as Error));
  }

  /** Lets in whoever may go, in turn. A loop: what a grant starts may end at once. */
  private letIn(): void {
    for (let visit = this.next(); visit !== undefined; visit = this.next()) {
      const granted = visit;
      this.line.remove(granted);
      guarded(this.scheduler, () => this.grant(granted));
    }
    this.arm();
  }

  private next(): RetryVisit | undefined {
    return this.machine.room ? this.line.head : undefined;
  }

  private grant(visit: RetryVisit): void {
    const now = this.timer.now();
    this.machine.take(visit, now);
    if (visit.attempts++ === 0) this.first(visit, now);
    this.pass(visit);
  }

  private first(visit: RetryVisit, now: number): void {
    visit.giveUpAt = now + (visit.ask.maxElapsedMs ?? this.maxElapsedMs);
    this.court.budget?.deposit(now);
  }

  private relax(): void {
    if (this.line.length === 0) this.machine.relax();
  }

  /** Sees to it that the timer rings when somebody can go on, in this frame if that is now; never if nobody waits. */
  private arm(): void {
    if (this.disposed) return;
    const visit = this.line.length === 0 ? Infinity : this.machine.room ? -Infinity : this.machine.nextAt;
    const at = Math.min(visit, this.line.dueAt);
    if (at === Infinity) this.timer.stop();
    else this.timer.wakeBy(at);
  }
}
