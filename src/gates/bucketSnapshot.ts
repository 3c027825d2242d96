import type { BucketLimits } from './bucketLimits.js';

export interface BucketLimitSnapshot {
  readonly capacity: number;
  /** What it holds; negative for a debt. */
  readonly tokens: number;
  /** The cost that waits. */
  readonly queued: number;
  /** Milliseconds until it is full, if nobody takes anything. */
  readonly fullInMs: number;
}

export interface TokenBucketSnapshot {
  readonly name: string;
  /** By name; a single limit is called `tokens`. */
  readonly limits: Readonly<Record<string, BucketLimitSnapshot>>;
  readonly waiting: number;
  readonly inFlight: number;
  /** Milliseconds that a pause still lasts; 0 if there is none. */
  readonly pausedMs: number;
  /** Milliseconds until the next call may go; null if nobody waits. */
  readonly nextInMs: number | null;
  /** How many grants there were that cost something. */
  readonly seq: number;
}

/** Whole milliseconds from `now`. */
export function left(until: number, now: number): number {
  return Math.max(0, Math.ceil(until - now));
}

export function limitSnapshots(limits: BucketLimits, queued: readonly number[], now: number): Record<string, BucketLimitSnapshot> {
  const pictures = limits.names.map((name, i): [string, BucketLimitSnapshot] => {
    const level = limits.level(i);
    const { capacity, value: tokens } = level;
    return [name, { capacity, tokens, queued: queued[i] as number, fullInMs: left(level.dueAt(capacity), now) }];
  });
  return Object.fromEntries(pictures);
}
