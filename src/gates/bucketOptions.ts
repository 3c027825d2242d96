import { BucketLevel, type Refill } from './bucketLevel.js';
import type { LimitPlan } from './bucketLimits.js';
import { checkChoice } from '../core/options.js';
import { checkCount, checkMs, refuse, type GateOptions } from './checks.js';

/** One limit of a bucket. */
export interface BucketLimitOptions {
  /** The most that it holds, and so the largest burst: an integer of at least 1. */
  readonly capacity: number;
  /** How fast it fills: `tokens` in every `everyMs` milliseconds, evenly, both integers of at least 1. */
  readonly refill: Refill;
  /** What it holds at first. Default: the capacity. */
  readonly initial?: number | undefined;
}

interface BucketLineOptions extends GateOptions {
  /** How many calls may wait. Default Infinity. */
  readonly maxQueue?: number | undefined;
  /** How much cost may wait; with several limits an object, by their names. Default Infinity. */
  readonly maxQueueCost?: number | Readonly<Record<string, number>> | undefined;
  /**
   * What gives way when too much waits: `reject` (default) refuses the newcomer, `dropOldest` those who have waited longest,
   * the lowest priorities first and never a higher one than the newcomer's.
   */
  readonly overflow?: 'reject' | 'dropOldest' | undefined;
  /** How many milliseconds a call may wait. Default Infinity. */
  readonly maxWaitMs?: number | undefined;
  /** The longest pause, in milliseconds. Default 300,000. */
  readonly maxPauseMs?: number | undefined;
}

/** A bucket has one limit, or several by name; `cost` is then what a call costs that does not name the limit, by default 0. */
export type TokenBucketOptions = BucketLineOptions &
  (
    | (BucketLimitOptions & { readonly limits?: undefined })
    | { readonly limits: Readonly<Record<string, BucketLimitOptions & { readonly cost?: number | undefined }>> }
  );

/** The options, checked and filled in. */
export interface BucketPlan {
  readonly limits: readonly LimitPlan[];
  readonly costs: readonly number[];
  readonly maxQueue: number;
  readonly maxQueueCosts: readonly number[];
  readonly dropOldest: boolean;
  readonly maxWaitMs: number;
  readonly maxPauseMs: number;
}

const SINGLE = 'tokens';

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function limitPlan(who: string, name: string, limit: BucketLimitOptions, at: string): LimitPlan {
  if (!isObject(limit)) refuse(TypeError, who, at, 'an object with capacity and refill', limit);
  const prefix = at === '' ? '' : `${at}.`;
  const { capacity, refill, initial = capacity } = limit;
  checkCount(who, `${prefix}capacity`, capacity, 1);
  if (!isObject(refill)) refuse(TypeError, who, `${prefix}refill`, 'an object { tokens, everyMs }', refill);
  checkCount(who, `${prefix}refill.tokens`, refill.tokens, 1);
  checkCount(who, `${prefix}refill.everyMs`, refill.everyMs, 1);
  if (!BucketLevel.fits(capacity, refill))
    refuse(RangeError, who, `${prefix}capacity`, 'so small that twice its product with refill.everyMs is a safe integer', capacity);
  checkCount(who, `${prefix}initial`, initial, 0);
  if (initial > capacity) refuse(RangeError, who, `${prefix}initial`, `at most the capacity, ${capacity}`, initial);
  return { name, capacity, refill, initial };
}

/** The limits, and what a call costs in each that does not say. */
function limitPlans(who: string, options: TokenBucketOptions): Pick<BucketPlan, 'limits' | 'costs'> {
  if (options.limits === undefined) return { limits: [limitPlan(who, SINGLE, options, '')], costs: [1] };
  if (!isObject(options.limits)) refuse(TypeError, who, 'limits', 'an object of limits by name', options.limits);
  const entries = Object.entries(options.limits);
  if (entries.length === 0) refuse(RangeError, who, 'limits', 'an object with at least one limit', '{}');
  const limits = entries.map(([name, limit]) => limitPlan(who, name, limit, `limits.${name}`));
  const costs = entries.map(([name, { cost = 0 }], i) => {
    const { capacity } = limits[i] as LimitPlan;
    checkCount(who, `limits.${name}.cost`, cost, 0);
    if (cost > capacity) refuse(RangeError, who, `limits.${name}.cost`, `at most the capacity, ${capacity}`, cost);
    return cost;
  });
  return { limits, costs };
}

function queueCosts(who: string, limits: readonly LimitPlan[], most: TokenBucketOptions['maxQueueCost']): number[] {
  const all = limits.map(() => Infinity);
  if (most === undefined) return all;
  const named = isObject(most) ? most : { [(limits[0] as LimitPlan).name]: most };
  if (!isObject(most) && limits.length > 1) refuse(TypeError, who, 'maxQueueCost', 'an object of numbers by limit', most);
  for (const [name, each] of Object.entries(named)) {
    const limit = limits.findIndex((plan) => plan.name === name);
    if (limit < 0) refuse(RangeError, who, 'maxQueueCost', `named by ${limits.map((plan) => plan.name).join(', ')}`, name);
    checkCount(who, isObject(most) ? `maxQueueCost.${name}` : 'maxQueueCost', each, 0, true);
    all[limit] = each;
  }
  return all;
}

export function planBucket(who: string, options: TokenBucketOptions): BucketPlan {
  const { maxQueue = Infinity, maxQueueCost, overflow = 'reject', maxWaitMs = Infinity, maxPauseMs = 300_000 } = options;
  const { limits, costs } = limitPlans(who, options);
  checkCount(who, 'maxQueue', maxQueue, 0, true);
  checkChoice(who, 'overflow', overflow, ['reject', 'dropOldest']);
  checkMs(who, 'maxWaitMs', maxWaitMs, 0, true);
  checkMs(who, 'maxPauseMs', maxPauseMs, 1, true);
  const maxQueueCosts = queueCosts(who, limits, maxQueueCost);
  return { limits, costs, maxQueue, maxQueueCosts, dropOldest: overflow === 'dropOldest', maxWaitMs, maxPauseMs };
}
