import { type BucketCost, CostReader } from './bucketCost.js';
import { type BucketFeedback, type DrainOptions, readDrain, readFeedback } from './bucketFeedback.js';
import type { LimitFeedback } from './bucketLimits.js';
import { BucketLine, BucketVisit } from './bucketLine.js';
import type { TokenBucketOptions } from './bucketOptions.js';
import { left, limitSnapshots, type TokenBucketSnapshot } from './bucketSnapshot.js';
import { finalUse, mergeUse, type OnBucketCancel } from './bucketUse.js';
import { BadAskError, CostExceedsCapacityError } from './errors.js';
import { type Call, type CallEnd, type Caller, type Gate, nothing, type Withdraw } from './gate.js';

/** What a call asks of a bucket. */
export interface BucketAsk {
  /** Default: 1 for a single limit; with several the `cost` of each. 0 passes at once. */
  readonly cost?: BucketCost | undefined;
  /** Higher goes first. Default 0. */
  readonly priority?: number | undefined;
  /** Callers of different keys take turns. */
  readonly key?: string | undefined;
  /** What a call is charged that was cancelled after it had started. Default `keep`. */
  readonly onCancel?: OnBucketCancel | undefined;
}

const WHO = 'TokenBucket';

/**
 * A token bucket: a call pays its cost before it starts, and waits in line until the bucket has refilled that much. With
 * several limits a call pays all of them at once, or waits and pays none.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { TokenBucket, tokenBucket } from 'rxfleet';
 *
 * const bucket = new TokenBucket({
 *   name: 'model',
 *   limits: {
 *     requests: { capacity: 50, refill: { tokens: 50, everyMs: 60_000 }, cost: 1 },
 *     inputTokens: { capacity: 30_000, refill: { tokens: 30_000, everyMs: 60_000 } },
 *   },
 * });
 * of('answer').pipe(tokenBucket(bucket, { cost: { inputTokens: 1_200 } })).subscribe();
 * console.log(bucket.snapshot().limits['requests']?.tokens);
 * ```
 *
 * The line is first come first served within a priority and a key; a call with a large cost is not overtaken by small ones.
 * Levels are exact integers. Bad options throw TypeError or RangeError. One timer, and none while nobody waits.
 */
export class TokenBucket extends BucketLine<TokenBucketSnapshot> implements Gate<BucketAsk, void, BucketCost> {
  private readonly reader: CostReader;
  private readonly unknown: readonly undefined[];

  constructor(options: TokenBucketOptions) {
    super(WHO, options);
    this.reader = new CostReader(this.name, this.limits.names);
    this.unknown = this.plan.limits.map(() => undefined);
  }

  /** How many grants there were that cost something. Read it when a request is sent, and hand it to `sync` with the answer. */
  get seq(): number {
    return this.limits.seq;
  }

  enter(ask: BucketAsk, call: Call, caller: Caller<void, BucketCost>): Withdraw {
    this.checkOpen();
    this.now();
    let visit: BucketVisit;
    try {
      visit = this.visit(ask, call, caller);
    } catch (error) {
      this.refuse(call, caller, error as Error);
      return nothing;
    }
    if (!free(visit.costs)) return this.lineUp(visit);
    this.grant(visit);
    return nothing;
  }

  /** Empties the bucket, as when the server says that a limit is reached: what it said to earlier requests counts no more. */
  drain(options: DrainOptions = {}): void {
    const limits = readDrain(WHO, this.limits.names, options);
    this.now();
    this.tellLevels(
      'drained',
      limits.filter((limit) => this.limits.drain(limit, options.sentSeq)),
    );
  }

  /**
   * Takes over what the server says is left: downward always; upward only from the answer to a later request than any before,
   * less what was granted after that was sent, and less what calls cost of which nothing has come back. What the server has counted is not paid back once more. It is for a bucket that has the server's own limits: one that is meant to
   * stay below them is lifted to them, unless `sentSeq` is left out.
   */
  sync(feedback: BucketFeedback): void {
    const said = readFeedback(WHO, this.limits.names, feedback);
    const now = this.now();
    const changed: number[] = [];
    const open = this.live.all().filter(({ reported }) => reported === undefined);
    said.forEach((each, i) => {
      if (each !== undefined && this.follow(i, each, feedback.sentSeq, now, open)) changed.push(i);
    });
    this.tellLevels('synced', changed);
    this.pump();
  }

  /** Of the `open` calls nothing has come back. But for the first, which is answered, the server may not have counted them: they do not lift it. */
  private follow(limit: number, said: LimitFeedback, sentSeq: number | undefined, now: number, open: readonly BucketVisit[]): boolean {
    const level = this.limits.level(limit);
    const before = level.value;
    const unanswered = open.slice(1).reduce((sum, { costs }) => sum + (costs[limit] as number), 0);
    if (!this.limits.sync(limit, said, sentSeq, now, unanswered)) return false;
    if (sentSeq !== undefined) for (const visit of level.value < before ? open : open.slice(0, 1)) (visit.counted ??= new Set()).add(limit);
    return true;
  }

  snapshot(): TokenBucketSnapshot {
    const { name, line, backlog, seq } = this;
    const now = this.refilled();
    return {
      name,
      limits: limitSnapshots(this.limits, backlog.total.costs, now),
      waiting: line.length,
      inFlight: this.live.length,
      pausedMs: left(this.pausedUntil, now),
      nextInMs: line.length === 0 ? null : left(this.headDueAt(), now),
      seq,
    };
  }

  /** @internal */
  override used(visit: BucketVisit, use: BucketCost): void {
    visit.reported = mergeUse(visit.reported, this.reader.read('use', use, this.unknown));
  }

  /** @internal Pays back or charges what the call has used in the end. */
  override ended(visit: BucketVisit, end: CallEnd): void {
    if (!this.live.remove(visit)) return;
    const { costs, reported, counted, onCancel } = visit;
    let used = costs;
    try {
      used = finalUse(costs, reported, end, onCancel, this.reader);
      if (counted !== undefined) used = used.map((each, i) => (counted.has(i) ? Math.max(each, costs[i] as number) : each));
    } finally {
      this.account(visit, end, used);
    }
  }

  protected grant(visit: BucketVisit): void {
    if (!free(visit.costs)) this.limits.take(visit.costs);
    this.pass(visit);
  }

  private visit(ask: BucketAsk, call: Call, caller: Caller<void, BucketCost>): BucketVisit {
    const { cost, priority = 0, key, onCancel = 'keep' } = ask;
    const { name, limits, plan } = this;
    const costs = cost === undefined ? plan.costs : this.reader.read('cost', cost, plan.costs);
    if (typeof priority !== 'number' || Number.isNaN(priority)) throw new BadAskError(name, 'priority', 'a number', priority);
    if (key !== undefined && typeof key !== 'string') throw new BadAskError(name, 'key', 'a string', key);
    const small = limits.tooSmall(costs);
    if (small === undefined) return new BucketVisit(this, call, caller, costs, onCancel, priority, key);
    throw new CostExceedsCapacityError(name, limits.names[small] as string, costs[small] as number, limits.level(small).capacity);
  }

  private account(visit: BucketVisit, end: CallEnd, used: readonly number[]): void {
    const { costs, call } = visit;
    if (used === costs) return this.tellSettled(visit, end);
    this.refilled();
    const dropped = this.limits.settle(costs, used);
    this.tellSettled(visit, end);
    dropped.forEach((amount, i) => {
      if (amount > 0)
        this.tell({ type: 'note', path: call.scope.path, note: 'debt dropped', amount, unit: this.limits.names[i] as string });
    });
    if (end.kind === 'cancelled' && costs.some((cost, i) => cost > (used[i] as number))) this.pumpSoon();
  }

  private tellLevels(note: string, limits: readonly number[]): void {
    if (!this.watched) return;
    for (const limit of limits)
      this.tell({ type: 'note', path: [], note, amount: this.limits.level(limit).value, unit: this.limits.names[limit] as string });
  }
}

function free(costs: readonly number[]): boolean {
  return costs.every((cost) => cost === 0);
}
