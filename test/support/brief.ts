import { catchError, throwError, type MonoTypeOperatorFunction } from 'rxjs';
import { isDeadlineExceededError, isScopeCancelledError, isScopeError, type CancelReason, type Outcome } from 'rxfleet';

/** One short line for an error, so that a test can compare a whole aggregate at a glance. */
export function brief(error: unknown): string {
  if (isScopeError(error)) return `ScopeError[${error.errors.map(brief).join(', ')}]`;
  if (isDeadlineExceededError(error)) return `Deadline(${error.label === undefined ? '' : `${error.label} `}${error.ms})`;
  if (isScopeCancelledError(error)) return `Cancelled(${kinds(error.reason)})`;
  return error instanceof Error ? error.message : String(error);
}

/** The kinds of a reason, from the scope itself to the root cause. */
export function kinds(reason: CancelReason): string {
  return reason.kind === 'parent-cancelled' ? `parent-cancelled < ${kinds(reason.cause)}` : reason.kind;
}

/** Turns the error of a stream into its `brief` line, for marble tests. */
export function briefly<T>(): MonoTypeOperatorFunction<T> {
  return catchError((error: unknown) => throwError(() => brief(error)));
}

/** `2 failed boom`: one line for an outcome. */
export function outcomeLine(outcome: Outcome<unknown>): string {
  const { index, status } = outcome;
  if (status === 'fulfilled') return `${index} fulfilled ${String(outcome.value)}`;
  if (status === 'failed') return `${index} failed ${brief(outcome.reason)}`;
  return `${index} ${status}`;
}
