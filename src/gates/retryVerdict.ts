import type { GateEvent } from './events.js';
import type { RetryBudget } from './retryBudget.js';

/** Why a failed attempt is not repeated. */
export type RetryRefusal = NonNullable<Extract<GateEvent, { type: 'retry' }>['refused']>;

/** What is known when an attempt has failed. */
export interface FailedAttempt {
  /** Whether its kind of error is tried again at all. */
  readonly retryable: boolean;
  readonly throttled: boolean;
  /** Whether a value has reached downstream and that matters. */
  readonly partial: boolean;
  /** Whether the server asks to wait longer than is allowed. */
  readonly tooLong: boolean;
  /** How many attempts have failed, without those that were throttled. */
  readonly failures: number;
  readonly maxAttempts: number;
  /** When the next attempt would begin. */
  readonly nextAt: number;
  /** From when on it may not begin. */
  readonly giveUpAt: number;
  /** When the call's scope will be over. */
  readonly deadlineAt: number;
}

/**
 * Whether to give up, and why: what cannot be helped comes first, and only what passes everything else takes a retry out of
 * the budget. Being throttled is no fault of the call, so it costs neither an attempt nor a retry.
 */
export function giveUp(attempt: FailedAttempt, budget: RetryBudget | undefined, now: number): RetryRefusal | undefined {
  if (!attempt.retryable) return 'fatal';
  if (attempt.partial) return 'value';
  if (attempt.tooLong) return 'retry-after';
  if (!attempt.throttled && attempt.failures >= attempt.maxAttempts) return 'attempts';
  if (attempt.nextAt >= attempt.giveUpAt) return 'elapsed';
  if (attempt.nextAt >= attempt.deadlineAt) return 'deadline';
  return attempt.throttled || budget === undefined || budget.withdraw(now) ? undefined : 'budget';
}
