import { GrantHistory } from './bucketHistory.js';
import { BucketLevel, type Refill } from './bucketLevel.js';

/** What a server says of one limit. */
export interface LimitFeedback {
  /** What is left of the limit, after everything that the server had seen when it answered. */
  readonly remaining: number;
  /** Milliseconds until the limit is full again: it is not taken for full before. Round it down, and take it by the server's clock. */
  readonly resetMs?: number | undefined;
}

export interface LimitPlan {
  readonly name: string;
  readonly capacity: number;
  readonly refill: Refill;
  readonly initial: number;
}

/** One limit, and what a server has said of it. */
interface Limit {
  readonly name: string;
  readonly level: BucketLevel;
  /** The newest grant that a feedback which was applied had seen. */
  synced: number;
  /** What was sent before this grant belongs to an earlier epoch. */
  epoch: number;
}

/** The limits of one bucket, taken from all at once or not at all. Call `refill` before anything else. */
export class BucketLimits {
  readonly names: readonly string[];
  private readonly limits: readonly Limit[];
  private readonly history: GrantHistory;

  constructor(plans: readonly LimitPlan[]) {
    this.names = plans.map(({ name }) => name);
    this.limits = plans.map(({ name, capacity, refill, initial }) => {
      return { name, level: new BucketLevel(capacity, refill, initial), synced: -1, epoch: -1 };
    });
    this.history = new GrantHistory(plans.length);
  }

  /** How many grants there were. */
  get seq(): number {
    return this.history.seq;
  }

  level(limit: number): BucketLevel {
    return (this.limits[limit] as Limit).level;
  }

  refill(now: number): void {
    for (const { level } of this.limits) level.refill(now);
  }

  /** A debt holds up only what costs something there. */
  fits(costs: readonly number[]): boolean {
    const { limits } = this;
    for (let i = 0; i < limits.length; i++) {
      const cost = costs[i] as number;
      if (cost > 0 && cost > (limits[i] as Limit).level.value) return false;
    }
    return true;
  }

  /** The first limit that can never hold so much. */
  tooSmall(costs: readonly number[]): number | undefined {
    const { limits } = this;
    for (let i = 0; i < limits.length; i++) if ((costs[i] as number) > (limits[i] as Limit).level.capacity) return i;
    return undefined;
  }

  take(costs: readonly number[]): void {
    const { limits } = this;
    for (let i = 0; i < limits.length; i++) (limits[i] as Limit).level.take(costs[i] as number);
    this.history.add(costs);
  }

  /** When `costs` fit, if nobody else takes anything. */
  dueAt(costs: readonly number[]): number {
    const { limits } = this;
    let due = -Infinity;
    for (let i = 0; i < limits.length; i++) {
      const cost = costs[i] as number;
      if (cost > 0) due = Math.max(due, (limits[i] as Limit).level.dueAt(cost));
    }
    return due;
  }

  /** Pays back what was not used, or charges what was used beyond; for each limit the debt that was dropped. */
  settle(costs: readonly number[], used: readonly number[]): number[] {
    return this.limits.map(({ level }, i) => {
      const refund = (costs[i] as number) - (used[i] as number);
      const dropped = refund === 0 ? 0 : level.adjust(refund);
      return refund < 0 ? dropped : 0;
    });
  }

  /** Empties a limit and begins an epoch there; not for what was sent before the present one. */
  drain(limit: number, sentSeq: number | undefined): boolean {
    const each = this.limits[limit] as Limit;
    if (sentSeq !== undefined && sentSeq <= each.epoch) return false;
    each.level.drain();
    each.epoch = this.seq;
    return true;
  }

  /**
   * Lowers the level to what the server says; raises it only if the server had seen more than the last time, less what it
   * cannot have seen, and less what is `unanswered`: that may still be on its way. What was sent before the present epoch is
   * ignored. Whether anything changed.
   */
  sync(limit: number, { remaining, resetMs }: LimitFeedback, sentSeq: number | undefined, now: number, unanswered = 0): boolean {
    const each = this.limits[limit] as Limit;
    const { level } = each;
    if (sentSeq !== undefined && sentSeq <= each.epoch) return false;
    const unseen = sentSeq === undefined ? undefined : this.history.since(sentSeq, limit);
    const newer = unseen !== undefined && (sentSeq as number) > each.synced;
    const known = remaining - (unseen ?? 0);
    const before = level.value;
    if (known < before) level.set(known);
    else if (newer) level.set(Math.max(before, Math.min(known, remaining - unanswered)));
    if (!newer) return level.value !== before;
    each.synced = sentSeq as number;
    if (resetMs !== undefined) level.notFullBefore(resetMs, now);
    return level.value !== before;
  }
}
