import type { LimitFeedback } from './bucketLimits.js';
import { checkCount, checkNumber, refuse } from './checks.js';

/** What a server says of a bucket's limits. */
export type BucketFeedback = {
  /** The `seq` of the bucket when the request was sent. Without it the levels are only lowered. */
  readonly sentSeq?: number | undefined;
} & (
  | (LimitFeedback & { readonly limits?: undefined })
  /** By name; names that the bucket does not have are ignored. */
  | { readonly limits: Readonly<Record<string, LimitFeedback | undefined>> }
);

export interface DrainOptions {
  /** Only this limit. Default: all. */
  readonly limit?: string | undefined;
  /** The `seq` of the bucket when the request was sent that led to this; one from before the last `drain` does nothing. */
  readonly sentSeq?: number | undefined;
}

/** The limits to drain, by their position. */
export function readDrain(who: string, names: readonly string[], { limit, sentSeq }: DrainOptions): number[] {
  if (limit !== undefined && !names.includes(limit)) refuse(RangeError, who, 'limit', `one of ${names.join(', ')}`, limit);
  if (sentSeq !== undefined) checkCount(who, 'sentSeq', sentSeq, 0);
  return names.map((_, i) => i).filter((i) => limit === undefined || names[i] === limit);
}

/** What is said of each limit, in the order of the names; checked whole, so that a bad feedback changes nothing. */
export function readFeedback(who: string, names: readonly string[], feedback: BucketFeedback): (LimitFeedback | undefined)[] {
  const { sentSeq, limits } = feedback;
  if (sentSeq !== undefined) checkCount(who, 'sentSeq', sentSeq, 0);
  if (limits === undefined && names.length > 1) refuse(TypeError, who, 'limits', 'an object by limit', limits);
  return names.map((name) => {
    if (limits !== undefined && !Object.hasOwn(limits, name)) return undefined;
    const said = limits === undefined ? (feedback as LimitFeedback) : limits[name];
    if (said === undefined) return undefined;
    const { remaining, resetMs } = said;
    checkNumber(who, `remaining of ${name}`, remaining, 'an integer', Number.isSafeInteger);
    if (resetMs !== undefined) checkNumber(who, `resetMs of ${name}`, resetMs, 'a finite number of milliseconds', Number.isFinite);
    return { remaining, resetMs };
  });
}
