import { Aimd, type AimdOptions } from './aimd.js';
import { askCount, askNumber, checkCount, checkMs, checkNumber, checkObject, refuse, type GateOptions } from './checks.js';
import { classifyError } from './classifyError.js';
import { BadAskError, BulkheadFullError, PermitsExceedLimitError, ReentrantAcquireError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { LineGate } from './gateBase.js';
import { Visit } from './visit.js';

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

/** One caller: it waits for so many permits, then holds them. */
type Permits = Visit<number>;

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
export class Semaphore extends LineGate<SemaphoreSnapshot, Permits> implements Gate<PermitAsk> {
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
   * have been given back. Waiting calls that ask for more than the new limit are refused; 0 holds everybody.
   */
  setLimit(limit: number): void {
    checkCount(WHO, 'limit', limit, 0, true);
    if (limit > 0) checkWithin(this.aimd, limit);
    this.resize(limit);
    for (const visit of this.line.all()) if (this.never(visit.hold)) this.expel(visit, this.tooMany(visit.hold));
    this.pump();
  }

  enter(ask: PermitAsk, call: Call, caller: Caller): Withdraw {
    let visit: Permits;
    try {
      visit = this.visit(ask, call, caller);
    } catch (error) {
      this.refuse(call, caller, error as Error);
      return nothing;
    }
    return this.admit(visit);
  }

  private visit(ask: PermitAsk, call: Call, caller: Caller): Permits {
    this.checkOpen();
    if (typeof ask !== 'object' || ask === null) throw new BadAskError(this.name, 'what is asked', 'an object', ask);
    const permits = askCount(this.name, 'permits', ask.permits ?? 1, 1);
    const priority = askNumber(this.name, 'priority', ask.priority ?? 0);
    if (ask.key !== undefined && typeof ask.key !== 'string') throw new BadAskError(this.name, 'key', 'a string', ask.key);
    const holder = call.heldAbove(this);
    if (holder !== undefined) throw new ReentrantAcquireError(this.name, call.scope.path, holder);
    if (this.never(permits)) throw this.tooMany(permits);
    return new Visit(this, call, caller, permits, priority, ask.key);
  }

  snapshot(): SemaphoreSnapshot {
    const { name, size: limit, allowed, taken: inUse } = this;
    return { name, limit, allowed, inUse, free: allowed - inUse, waiting: this.line.length };
  }

  protected override get full(): boolean {
    return this.taken >= this.allowed;
  }

  protected fits({ hold: permits }: Permits): boolean {
    // The first that could be let in begins the slow start, so that one which needs more than its first step waits for the next.
    if (this.slowStart !== undefined && this.size > 0) this.since ??= this.timer.now();
    return this.taken + permits <= this.allowed || (this.taken === 0 && this.aimd !== undefined && this.size > 0);
  }

  protected grant(visit: Permits): void {
    this.taken += visit.hold;
    this.pass(visit);
  }

  protected override refusal(): Error | undefined {
    return this.line.length >= this.maxQueue ? new BulkheadFullError(this.name, this.size, this.taken, this.maxQueue) : undefined;
  }

  /** The next step of the slow start. */
  protected override dueAt(): number {
    const { slowStart, since } = this;
    if (slowStart === undefined || since === undefined || this.allowed >= this.size) return Infinity;
    const now = this.timer.now();
    return Math.max(now + 1, since + (Math.floor((now - since) / slowStart.everyMs) + 1) * slowStart.everyMs);
  }

  /** @internal Takes permits back; whoever waits comes in after downstream was told, or in this frame if the call was cancelled. */
  override left(visit: Permits, end: CallEnd): void {
    const { aimd } = this;
    if (!this.live.remove(visit)) return;
    const inFlight = this.taken;
    this.taken -= visit.hold;
    if (aimd !== undefined && this.size > 0 && end.started && end.kind !== 'cancelled') {
      const kind = end.kind === 'failed' ? classifyError(end.error) : undefined;
      if (kind === undefined || kind === 'throttle' || kind === 'transient')
        this.resize(aimd.next(this.size, inFlight, kind !== undefined));
    }
    this.tellSettled(visit, end);
    if (end.kind === 'cancelled') this.pumpSoon();
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

  /** More than this is never granted, unless the limit is changed by hand. */
  private get most(): number {
    return this.aimd?.max ?? this.size;
  }

  /** Whether so many can never be had. A limit of 0 is a pause. */
  private never(permits: number): boolean {
    return this.size > 0 && permits > this.most;
  }

  private tooMany(permits: number): PermitsExceedLimitError {
    return new PermitsExceedLimitError(this.name, permits, this.most);
  }
}

function checkSlowStart(slowStart: SemaphoreOptions['slowStart']): void {
  if (slowStart === undefined) return;
  checkObject(WHO, 'slowStart', slowStart);
  checkCount(WHO, 'slowStart.initial', slowStart.initial, 1);
  checkCount(WHO, 'slowStart.step', slowStart.step, 1);
  checkMs(WHO, 'slowStart.everyMs', slowStart.everyMs, 1);
}

function makeAimd(options: AimdOptions | undefined, limit: number): Aimd | undefined {
  if (options === undefined) return undefined;
  checkObject(WHO, 'aimd', options);
  const { min = 1, max = 1000, backoff = 0.9 } = options;
  checkCount(WHO, 'aimd.min', min, 1);
  checkCount(WHO, 'aimd.max', max, min);
  checkNumber(WHO, 'aimd.backoff', backoff, 'a number above 0 and below 1', (n) => n > 0 && n < 1);
  const aimd = new Aimd({ min, max, backoff });
  checkWithin(aimd, limit);
  return aimd;
}

function checkWithin(aimd: Aimd | undefined, limit: number): void {
  if (aimd === undefined) return;
  const { min, max } = aimd;
  if (limit < min || limit > max) refuse(RangeError, WHO, 'limit', `between aimd.min (${min}) and aimd.max (${max})`, limit);
}
