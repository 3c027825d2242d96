import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase, guarded } from './gateBase.js';
import { RetryJudge, type RetryVerdict } from './retryJudge.js';
import { RetryCase, type RetryTurn } from './retryCase.js';
import { RetryLine } from './retryLine.js';
import { checkRetryAsk, checkRetryOptions, makeRetryState, type RetryAsk, type RetryGateOptions } from './retryOptions.js';
import type { RetryPhase, RetryState } from './retryState.js';
import { Turn } from './turn.js';

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
export class RetryGate extends GateBase<RetrySnapshot, RetryCase> implements Gate<RetryAsk> {
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
    const turn: RetryTurn = new Turn(this, call, caller, new RetryCase(ask));
    turn.hold.of = turn;
    if (this.line.length > 0 || !this.machine.room) return this.park(turn);
    this.grant(turn);
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
  override ended(turn: RetryTurn, end: CallEnd): (() => Withdraw) | void {
    if (!this.live.remove(turn)) return undefined;
    const { hold } = turn;
    this.advance();
    if (end.kind === 'failed' && !this.disposed) return this.failed(turn, end);
    if (end.kind === 'completed' || end.emitted > hold.emitted) this.machine.succeeded(hold);
    else this.machine.left(hold);
    this.relax();
    this.tellSettled(turn, end);
    if (end.kind === 'cancelled') this.arm();
    return undefined;
  }

  /** @internal Who waits comes in at the end of this frame, so that a throttle in it counts first. */
  override pump(): void {
    this.arm();
  }

  // An attempt has failed

  /** What a callback throws fails this call only. */
  private failed(turn: RetryTurn, end: CallEnd): (() => Withdraw) | void {
    const now = this.timer.now();
    let verdict: RetryVerdict;
    try {
      verdict = this.judge(turn, end, now);
    } catch (error) {
      this.machine.left(turn.hold);
      this.tellSettled(turn, end);
      return () => this.fail(turn, error);
    }
    this.relax();
    this.tellVerdict(turn, end, verdict, now);
    const { refused, instead, parks, nextAt } = verdict;
    if (instead !== undefined) return () => this.fail(turn, instead);
    if (refused !== undefined) return undefined;
    return () => (parks ? this.park(turn) : this.backOff(turn, nextAt));
  }

  private judge({ call, hold }: RetryTurn, { error, emitted }: CallEnd, now: number): RetryVerdict {
    const deadlineAt = now + call.scope.remaining();
    const verdict = this.court.judge(hold, { error, emitted, now, wallNow: this.scheduler.now(), deadlineAt });
    hold.error = error;
    hold.emitted = emitted;
    return verdict;
  }

  private tellVerdict(turn: RetryTurn, end: CallEnd, { refused, nextAt, paused }: RetryVerdict, now: number): void {
    if (!this.watched) return;
    const { attempts: attempt, error } = turn.hold;
    const { path } = turn.call.scope;
    this.tellSettled(turn, end);
    if (paused) this.tell({ type: 'paused', ms: this.machine.until - now, waiting: this.line.length, cause: error });
    if (refused === undefined) this.tell({ type: 'retry', path, attempt, delayMs: nextAt - now, error });
    else this.tell({ type: 'retry', path, attempt, delayMs: 0, refused, error });
  }

  private fail({ caller }: RetryTurn, error: unknown): Withdraw {
    caller.refused(error as Error);
    return nothing;
  }

  // Waiting

  private park(turn: RetryTurn): Withdraw {
    this.checkOpen();
    turn.since ??= this.timer.now();
    this.line.stand(turn);
    this.arm();
    this.tellQueued(turn, this.line.length);
    return () => this.withdraw(turn);
  }

  private backOff(turn: RetryTurn, until: number): Withdraw {
    this.checkOpen();
    turn.since = this.timer.now();
    this.line.wait(turn, until);
    this.arm();
    return () => this.withdraw(turn);
  }

  private withdraw(turn: RetryTurn): void {
    if (!this.line.remove(turn)) return;
    this.arm();
    this.tellWithdrawn(turn);
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
    const inTime = due.filter(({ hold }) => hold.giveUpAt > now);
    for (const turn of inTime) this.line.stand(turn);
    if (!this.machine.room) for (const turn of inTime) if (this.line.stands(turn)) this.tellQueued(turn, this.line.length);
    for (const turn of due) if (turn.hold.giveUpAt <= now) this.giveUp(turn);
  }

  private giveUp({ hold, call, caller }: RetryTurn): void {
    const { attempts: attempt, error } = hold;
    if (this.watched) this.tell({ type: 'retry', path: call.scope.path, attempt, delayMs: 0, refused: 'elapsed', error });
    guarded(this.scheduler, () => caller.refused(error as Error));
  }

  /** Lets in whoever may go, in turn. A loop: what a grant starts may end at once. */
  private letIn(): void {
    for (let turn = this.next(); turn !== undefined; turn = this.next()) {
      const granted = turn;
      this.line.remove(granted);
      guarded(this.scheduler, () => this.grant(granted));
    }
    this.arm();
  }

  private next(): RetryTurn | undefined {
    return this.machine.room ? this.line.head : undefined;
  }

  private grant(turn: RetryTurn): void {
    const { hold } = turn;
    const now = this.timer.now();
    this.machine.take(hold, now);
    if (hold.attempts++ === 0) this.first(hold, now);
    this.pass(turn);
  }

  private first(hold: RetryCase, now: number): void {
    hold.giveUpAt = now + (hold.ask.maxElapsedMs ?? this.maxElapsedMs);
    this.court.budget?.deposit(now);
  }

  private relax(): void {
    if (this.line.length === 0) this.machine.relax();
  }

  /** Sees to it that the timer rings when somebody can go on, in this frame if that is now; never if nobody waits. */
  private arm(): void {
    if (this.disposed) return;
    const turn = this.line.length === 0 ? Infinity : this.machine.room ? -Infinity : this.machine.nextAt;
    const at = Math.min(turn, this.line.dueAt);
    if (at === Infinity) this.timer.stop();
    else this.timer.wakeBy(at);
  }
}
