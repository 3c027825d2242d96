import { BucketBacklog } from './bucketBacklog.js';
import { BucketBounds } from './bucketBounds.js';
import type { BucketCost } from './bucketCost.js';
import { BucketLimits } from './bucketLimits.js';
import { type BucketPlan, planBucket, type TokenBucketOptions } from './bucketOptions.js';
import { left } from './bucketSnapshot.js';
import { checkNumber } from './checks.js';
import { RateLimitQueueFullError, RateLimitWaitError } from './errors.js';
import type { OnBucketCancel } from './bucketUse.js';
import type { Call, Caller, Withdraw } from './gate.js';
import { LineGate } from './gateBase.js';
import { type Keeper, Visit } from './visit.js';

/** A call that pays: what it costs, and what it has used so far. */
export class BucketVisit extends Visit<undefined, BucketCost> {
  reported: readonly (number | undefined)[] | undefined = undefined;
  /** Limits whose level was taken over from a server that had counted this call: nothing is paid back there. */
  counted: Set<number> | undefined = undefined;

  constructor(
    bucket: Keeper<never>,
    call: Call,
    caller: Caller<void, BucketCost>,
    readonly costs: readonly number[],
    readonly onCancel: OnBucketCancel,
    priority: number,
    key: string | undefined,
  ) {
    super(bucket, call, caller, undefined, priority, key);
  }
}

/** The line in front of a bucket: how many may wait, for how long, and until when nobody is let in. */
export abstract class BucketLine<Snapshot> extends LineGate<Snapshot, BucketVisit> {
  protected readonly plan: BucketPlan;
  protected readonly limits: BucketLimits;
  protected readonly backlog: BucketBacklog;
  protected pausedUntil: number = -Infinity;
  private readonly bounds: BucketBounds;
  /** Those who had to give way, until they are told. */
  private dropped: { readonly waiter: BucketVisit; readonly error: Error }[] = [];

  constructor(
    private readonly who: string,
    options: TokenBucketOptions,
  ) {
    super(who, 'tokenBucket', options);
    this.plan = planBucket(who, options);
    this.limits = new BucketLimits(this.plan.limits);
    this.backlog = new BucketBacklog(this.plan.limits.length);
    this.bounds = new BucketBounds(this.plan, this.backlog);
  }

  /** Lets nobody in for `ms` milliseconds, from 1 up to `maxPauseMs`; a pause that lasts longer already stays as it is. */
  pause(ms: number, cause?: unknown): void {
    checkNumber(this.who, 'ms', ms, 'a finite number of milliseconds', Number.isFinite);
    const now = this.now();
    const until = now + Math.max(1, Math.min(Math.ceil(ms), this.plan.maxPauseMs));
    if (until <= this.pausedUntil) return;
    this.pausedUntil = until;
    this.tell({ type: 'paused', ms: until - now, waiting: this.line.length, ...(cause !== undefined && { cause }) });
  }

  /** After `now`. */
  protected fits(waiter: BucketVisit): boolean {
    return this.pausedUntil === -Infinity && this.limits.fits(waiter.costs);
  }

  /** @internal */
  override pump(): void {
    if (this.line.length > 0) this.now();
    super.pump();
  }

  /** Lets a newcomer in, or has it wait. */
  protected lineUp(waiter: BucketVisit): Withdraw {
    const withdraw = this.admit(waiter);
    this.tellDropped();
    return withdraw;
  }

  protected override dueAt(): number {
    return Math.min(this.headDueAt(), this.expiresAt());
  }

  protected override refusal(waiter: BucketVisit): Error | undefined {
    const { name, plan } = this;
    const { excess, victims } = this.bounds.room(waiter, this.line);
    const full = (): Error => {
      const { what, limit, waiting } = excess as NonNullable<typeof excess>;
      return new RateLimitQueueFullError(name, what, limit, waiting, this.projectedMs(waiter, []));
    };
    if (victims === undefined) return full();
    const waitMs = plan.maxWaitMs === Infinity ? 0 : this.projectedMs(waiter, victims);
    if (waitMs > plan.maxWaitMs) return new RateLimitWaitError(name, plan.maxWaitMs, waitMs);
    const errors = victims.map(full);
    victims.forEach((waiter, i) => {
      this.remove(waiter);
      this.dropped.push({ waiter, error: errors[i] as Error });
    });
    return undefined;
  }

  protected override joined(waiter: BucketVisit): void {
    this.backlog.add(waiter);
  }

  protected override gone(waiter: BucketVisit): void {
    this.backlog.remove(waiter);
  }

  /** Who fits now goes in; who has still waited too long is refused. */
  protected override onWake(): void {
    this.pump();
    if (this.expiresAt() > this.timer.now()) return;
    for (let { oldest } = this.line; oldest !== undefined && this.expiresAt() <= this.timer.now(); { oldest } = this.line) {
      const dueAt = Math.max(this.pausedUntil, this.limits.dueAt(oldest.costs));
      this.expel(oldest, new RateLimitWaitError(this.name, this.plan.maxWaitMs, left(dueAt, this.now())));
      // Whom it held up may go in now, even at the last moment.
      this.pump();
    }
    this.timer.stop();
    this.pump();
  }

  protected refilled(): number {
    const now = this.timer.now();
    this.limits.refill(now);
    return now;
  }

  /** The time, with everything brought up to it. */
  protected now(): number {
    const now = this.refilled();
    if (this.pausedUntil > -Infinity && now >= this.pausedUntil) {
      this.pausedUntil = -Infinity;
      this.tell({ type: 'resumed' });
    }
    return now;
  }

  /** When the next call may go. */
  protected headDueAt(): number {
    let due = Infinity;
    for (const { costs } of this.line.heads()) due = Math.min(due, this.limits.dueAt(costs));
    return Math.max(due, this.pausedUntil);
  }

  /** When the next one has waited too long. */
  private expiresAt(): number {
    const { maxWaitMs } = this.plan;
    return maxWaitMs === Infinity ? Infinity : (this.line.oldest?.since ?? Infinity) + maxWaitMs;
  }

  /** How long a newcomer would wait for what waits now, but for those who give way. */
  private projectedMs(waiter: BucketVisit, without: readonly BucketVisit[]): number {
    const costs = this.backlog.upTo(waiter);
    for (const each of without) for (let i = 0; i < costs.length; i++) costs[i] = (costs[i] as number) - (each.costs[i] as number);
    return left(Math.max(this.pausedUntil, this.limits.dueAt(costs)), this.now());
  }

  /** After the newcomer has its place: whoever is told may call back in. */
  private tellDropped(): void {
    const { dropped } = this;
    if (dropped.length === 0) return;
    this.dropped = [];
    for (const { waiter, error } of dropped) this.refuse(waiter.call, waiter.caller, error);
  }
}
