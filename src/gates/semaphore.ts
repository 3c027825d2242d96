import { Aimd, type AimdOptions } from './aimd.js';
import { askCount, checkCount, checkMs, checkNumber, refuse, type GateOptions } from './checks.js';
import { classifyError } from './classifyError.js';
import { BulkheadFullError, PermitsExceedLimitError, ReentrantAcquireError } from './errors.js';
import type { Call, CallEnd, Caller, Gate, Withdraw } from './gate.js';
import { LineGate } from './gateBase.js';
import { Waiter } from './waitingLine.js';

export interface SemaphoreOptions extends GateOptions {
  /** How many permits there are: an integer, 0 or more, or Infinity. 0 lets nobody in until it is raised. */
  readonly limit: number;
  /** How many calls may wait. Default Infinity. */
  readonly maxQueue?: number | undefined;
  /** Begins with `initial` permits and adds `step` every `everyMs` milliseconds until the limit is reached. */
  readonly slowStart?: { readonly initial: number; readonly step: number; readonly everyMs: number } | undefined;
  /** Moves the limit between `min` and `max`: up while calls succeed, down when one is throttled or times out. */
  readonly aimd?: AimdOptions | undefined;
}

/** What a call asks of a semaphore. */
export interface PermitAsk {
  /** Default 1. */
  readonly permits?: number | undefined;
  /** Callers of different keys take turns. */
  readonly key?: string | undefined;
  /** Higher goes first. Default 0. */
  readonly priority?: number | undefined;
}

export interface SemaphoreSnapshot {
  readonly name: string;
  readonly limit: number;
  /** What the slow start allows so far; the limit once it is over. */
  readonly allowed: number;
  readonly inUse: number;
  /** Negative while more is in use than a lowered limit allows. */
  readonly free: number;
  readonly waiting: number;
}

const WHO = 'Semaphore';

/** One caller: first in the line, then the holder of its permits. */
class Permit extends Waiter {
  private end: CallEnd | undefined = undefined;

  constructor(
    private readonly semaphore: Semaphore,
    readonly permits: number,
    call: Call,
    caller: Caller,
    ask: PermitAsk,
  ) {
    super(call, caller, ask.priority ?? 0, ask.key);
  }

  settle(end: CallEnd): void {
    this.end = end;
  }

  release(): void {
    this.semaphore.give(this, this.end as CallEnd);
  }

  pump(): void {
    this.semaphore.open();
  }
}

/**
 * A counting semaphore: so many calls at once, and no more. A call keeps its permits until nothing of it runs any more, so
 * one that ignores its signal still counts.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { bulkhead, Semaphore } from 'rxfleet';
 *
 * const connections = new Semaphore({ name: 'connections', limit: 4 });
 * of('page').pipe(bulkhead(connections)).subscribe((page) => console.log(page, connections.snapshot().inUse));
 * ```
 *
 * The line is first come first served; a call that needs many permits is not overtaken by small ones. Bad options throw
 * TypeError or RangeError. Needs no timer but for the slow start.
 */
export class Semaphore extends LineGate<Permit, SemaphoreSnapshot> implements Gate<PermitAsk> {
  private size: number;
  private taken = 0;
  private since: number | undefined = undefined;
  private readonly maxQueue: number;
  private readonly slowStart: SemaphoreOptions['slowStart'];
  private readonly aimd: Aimd | undefined;

  constructor(options: SemaphoreOptions) {
    super(WHO, 'semaphore', options);
    const { limit, maxQueue = Infinity, slowStart, aimd } = options;
    checkCount(WHO, 'limit', limit, 0, true);
    checkCount(WHO, 'maxQueue', maxQueue, 0, true);
    checkSlowStart(slowStart);
    this.aimd = makeAimd(aimd, limit);
    this.size = limit;
    this.maxQueue = maxQueue;
    this.slowStart = slowStart;
  }

  /** How many permits there are. */
  get limit(): number {
    return this.size;
  }

  /**
   * Changes the number of permits: more let waiting calls in at once; fewer stop nobody, and nobody comes in until enough
   * have been given back. 0 holds everybody; waiting calls that ask for more than a higher limit are refused.
   */
  setLimit(limit: number): void {
    checkCount(WHO, 'limit', limit, 0, true);
    this.resize(limit);
    if (limit > 0) for (const permit of this.line.all()) if (permit.permits > this.most) this.expel(permit, this.tooMany(permit.permits));
    this.pump();
  }

  enter(ask: PermitAsk, call: Call, caller: Caller): Withdraw {
    this.checkOpen();
    const permits = askCount(this.name, 'permits', ask.permits ?? 1, 1);
    const holder = call.heldAbove(this);
    if (holder !== undefined) throw new ReentrantAcquireError(this.name, call.scope.path, holder);
    if (permits > this.most && this.size > 0) throw this.tooMany(permits);
    return this.admit(new Permit(this, permits, call, caller, ask));
  }

  snapshot(): SemaphoreSnapshot {
    const { name, size: limit, allowed, taken: inUse } = this;
    return { name, limit, allowed, inUse, free: allowed - inUse, waiting: this.line.length };
  }

  protected fits(permit: Permit): boolean {
    return this.taken + permit.permits <= this.allowed || (this.taken === 0 && this.aimd !== undefined && this.size > 0);
  }

  protected grant(permit: Permit): void {
    if (this.slowStart !== undefined) this.since ??= this.timer.now();
    this.taken += permit.permits;
    this.live.add(permit);
    this.tellAdmitted(permit);
    permit.caller.granted(permit);
  }

  protected override refusal(): Error | undefined {
    return this.line.length >= this.maxQueue ? new BulkheadFullError(this.name, this.size, this.taken, this.maxQueue) : undefined;
  }

  /** The next step of the slow start. */
  protected override dueAt(): number {
    const { slowStart, since } = this;
    if (slowStart === undefined || since === undefined || this.allowed >= this.size) return Infinity;
    return since + (Math.floor((this.timer.now() - since) / slowStart.everyMs) + 1) * slowStart.everyMs;
  }

  /** Takes permits back; whoever waits comes in after downstream was told, or in this frame if the call was cancelled. */
  give(permit: Permit, end: CallEnd): void {
    const { aimd } = this;
    if (!this.live.remove(permit)) return;
    const inFlight = this.taken;
    this.taken -= permit.permits;
    if (aimd !== undefined && end.started && end.kind !== 'cancelled') {
      const kind = end.kind === 'failed' ? classifyError(end.error) : undefined;
      if (kind === undefined || kind === 'throttle' || kind === 'transient')
        this.resize(aimd.next(this.size, inFlight, kind !== undefined));
    }
    this.tellSettled(permit, end);
    if (end.kind === 'cancelled') this.pumpSoon();
  }

  open(): void {
    this.pump();
  }

  private resize(limit: number): void {
    if (limit === this.size) return;
    this.size = limit;
    this.tell({ type: 'limit', limit });
  }

  /** What the slow start allows, up to the limit. */
  private get allowed(): number {
    const { slowStart, since, size } = this;
    if (slowStart === undefined) return size;
    if (since === undefined) return Math.min(size, slowStart.initial);
    const steps = Math.floor((this.timer.now() - since) / slowStart.everyMs);
    return Math.min(size, slowStart.initial + steps * slowStart.step);
  }

  /** More than this can never be granted. */
  private get most(): number {
    return this.aimd?.max ?? this.size;
  }

  private tooMany(permits: number): PermitsExceedLimitError {
    return new PermitsExceedLimitError(this.name, permits, this.most);
  }
}

function checkSlowStart(slowStart: SemaphoreOptions['slowStart']): void {
  if (slowStart === undefined) return;
  checkCount(WHO, 'slowStart.initial', slowStart.initial, 1);
  checkCount(WHO, 'slowStart.step', slowStart.step, 1);
  checkMs(WHO, 'slowStart.everyMs', slowStart.everyMs, 1);
}

function makeAimd(options: AimdOptions | undefined, limit: number): Aimd | undefined {
  if (options === undefined) return undefined;
  const { min = 1, max = 1000, backoff = 0.9 } = options;
  checkCount(WHO, 'aimd.min', min, 1);
  checkCount(WHO, 'aimd.max', max, min);
  checkNumber(WHO, 'aimd.backoff', backoff, 'a number above 0 and below 1', (n) => n > 0 && n < 1);
  if (limit < min || limit > max) refuse(RangeError, WHO, 'limit', `between aimd.min (${min}) and aimd.max (${max})`, limit);
  return new Aimd({ min, max, backoff });
}
