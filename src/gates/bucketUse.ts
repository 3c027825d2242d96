import type { BucketCost, CostReader } from './bucketCost.js';
import { isGateError } from './errors.js';
import type { CallEnd } from './gate.js';

/**
 * What a call is charged that was cancelled after it had started: `keep` its cost, or more if it has used more; `refund` what it
 * has not reported as used; or what a function of its end gives.
 */
export type OnBucketCancel = 'keep' | 'refund' | ((end: CallEnd) => BucketCost);

/** Gates that stop a call, or cannot use what it tells, do so after it has started. */
const AFTER_THE_START = ['CIRCUIT_TRIPPED', 'BUDGET_TRIPPED', 'BAD_ASK'];

function turnedAway({ kind, emitted, error }: CallEnd): boolean {
  return kind === 'failed' && emitted === 0 && isGateError(error) && !AFTER_THE_START.includes(error.code);
}

/** Keeps the highest of running totals. */
export function mergeUse(
  before: readonly (number | undefined)[] | undefined,
  now: readonly (number | undefined)[],
): (number | undefined)[] {
  if (before === undefined) return [...now];
  return now.map((each, i) => (each === undefined || each < (before[i] ?? 0) ? before[i] : each));
}

/** What a call has used in the end, for each limit. */
export function finalUse(
  costs: readonly number[],
  reported: readonly (number | undefined)[] | undefined,
  end: CallEnd,
  onCancel: OnBucketCancel,
  reader: CostReader,
): readonly number[] {
  const { kind, started, done } = end;
  if (!started || turnedAway(end)) return costs.map(() => 0);
  if (kind !== 'cancelled' || done) return reported === undefined ? costs : costs.map((cost, i) => reported[i] ?? cost);
  if (onCancel === 'refund') return costs.map((_, i) => reported?.[i] ?? 0);
  const kept = costs.map((cost, i) => Math.max(cost, reported?.[i] ?? 0));
  return onCancel === 'keep' ? kept : reader.read('use after a cancel', onCancel(end), kept);
}
