import type { CallInfo, CancelReason, LateOutcome, Outcome, ScopeFailure, ScopeReport } from './types.js';

const BRAND: unique symbol = Symbol.for('rxfleet.error') as never;

/** Marks an error so that its guard knows it even when the package is loaded twice (ESM and CJS). */
export function brandError(error: Error, brand: string): void {
  Object.defineProperty(error, BRAND, { value: brand });
}

/** Whether `error` carries that brand. Anything can be thrown, also what throws when it is looked at. */
export function hasBrand(error: unknown, brand: string): boolean {
  try {
    return typeof error === 'object' && error !== null && (error as { [BRAND]?: unknown })[BRAND] === brand;
  } catch {
    return false;
  }
}

/** The cause behind any number of `parent-cancelled`. Takes a reason or a ScopeCancelledError. */
export function rootReason(reason: CancelReason | ScopeCancelledError): CancelReason {
  let root: CancelReason = isScopeCancelledError(reason) ? reason.reason : reason;
  while (root.kind === 'parent-cancelled') root = root.cause;
  return root;
}

/** One line of words for any thrown value. */
export function describeError(error: unknown): string {
  if (typeof error === 'string') return JSON.stringify(error);
  try {
    if (!(error instanceof Error)) return String(error);
    const { name, message } = error as { readonly name: unknown; readonly message: unknown };
    return String(message) || String(name);
  } catch {
    return 'an error that cannot be printed';
  }
}

function describeReason(reason: CancelReason): string {
  switch (reason.kind) {
    case 'sibling-failed':
      return `child ${reason.index} failed: ${describeError(reason.error)}`;
    case 'source-error':
      return `its body failed: ${describeError(reason.error)}`;
    case 'deadline':
      return `its deadline of ${reason.ms} ms${reason.label === undefined ? '' : ` (${reason.label})`} passed`;
    case 'race-lost':
      return `child ${reason.winner} won the race`;
    case 'tripped':
      return `gate ${reason.gate} tripped`;
    case 'unsubscribed':
      return 'its subscriber left';
    case 'explicit':
      return reason.reason === undefined ? 'its owner cancelled it' : `its owner cancelled it: ${describeError(reason.reason)}`;
    case 'signal':
      return `its signal was aborted: ${describeError(reason.reason)}`;
    case 'parent-cancelled':
      return `a scope above was cancelled because ${describeReason(reason.cause)}`;
  }
}

function describeAbandoned(abandoned: readonly CallInfo[]): string {
  if (abandoned.length === 0) return '';
  const names = abandoned.slice(0, 3).map((call) => `"${call.label}"`);
  const more = abandoned.length > 3 ? ` and ${abandoned.length - 3} more` : '';
  return `; abandoned after the grace, may still complete: ${names.join(', ')}${more}`;
}

/**
 * A scope was cancelled: what signals are aborted with, what a refused call errors with, and what the output of a scope
 * errors with when its parent or its `signal` option cancelled it.
 */
export class ScopeCancelledError extends Error {
  override readonly name = 'ScopeCancelledError';
  readonly reason: CancelReason;
  /** Failures that happened while the scope was being cancelled. */
  readonly suppressed: readonly unknown[];

  constructor(reason: CancelReason, suppressed: readonly unknown[] = []) {
    super(`The scope was cancelled: ${describeReason(reason)}.`);
    this.reason = reason;
    this.suppressed = suppressed;
    brandError(this, 'ScopeCancelledError');
  }

  /** The kind of the root cause, behind any `parent-cancelled`. */
  get kind(): CancelReason['kind'] {
    return rootReason(this.reason).kind;
  }
}

/** Whether `error` is a ScopeCancelledError of any copy of this package. */
export function isScopeCancelledError(error: unknown): error is ScopeCancelledError {
  return hasBrand(error, 'ScopeCancelledError');
}

/**
 * Children of a scope failed. Always this shape, for one failure as for many; `errors` holds them in order of occurrence,
 * never deduplicated, and `cause` is the first.
 */
export class ScopeError extends AggregateError {
  override readonly name = 'ScopeError';
  /** The same failures with index and phase. */
  readonly failures: readonly ScopeFailure[];
  readonly outcomes: readonly Outcome<unknown>[];
  readonly reason: CancelReason | undefined;
  readonly abandoned: readonly CallInfo[];
  readonly late: readonly LateOutcome[];

  constructor(report: ScopeReport, label: string) {
    const errors = report.errors.map((failure) => failure.error);
    const count = errors.length === 1 ? '1 failure' : `${errors.length} failures`;
    const words = errors.slice(0, 3).map(describeError).join('; ');
    super(errors, `${count} in scope "${label}": ${words}${errors.length > 3 ? '; …' : ''}${describeAbandoned(report.abandoned)}.`, {
      cause: errors[0],
    });
    this.failures = report.errors;
    this.outcomes = report.outcomes;
    this.reason = report.reason;
    this.abandoned = report.abandoned;
    this.late = report.late;
    brandError(this, 'ScopeError');
  }

  /** The failures of this scope and of the scopes nested in it, flattened. */
  leaves(): unknown[] {
    return this.errors.flatMap((error: unknown) => (isScopeError(error) ? error.leaves() : [error]));
  }
}

/** Whether `error` is a ScopeError of any copy of this package. */
export function isScopeError(error: unknown): error is ScopeError {
  return hasBrand(error, 'ScopeError');
}

/** A deadline passed and everything below it has been stopped. */
export class DeadlineExceededError extends Error {
  override readonly name = 'DeadlineExceededError';
  /** The deadline in milliseconds. */
  readonly ms: number;
  readonly label: string | undefined;
  /** Values that were forwarded before it. */
  readonly seen: number;
  /** Failures while stopping. */
  readonly suppressed: readonly unknown[];
  readonly abandoned: readonly CallInfo[];

  constructor(ms: number, label: string | undefined, seen: number, report: ScopeReport) {
    const what = label === undefined ? 'The deadline' : `The deadline "${label}"`;
    super(`${what} of ${ms} ms passed after ${seen} value${seen === 1 ? '' : 's'}${describeAbandoned(report.abandoned)}.`);
    this.ms = ms;
    this.label = label;
    this.seen = seen;
    this.suppressed = report.errors.map((failure) => failure.error);
    this.abandoned = report.abandoned;
    brandError(this, 'DeadlineExceededError');
  }
}

/** Whether `error` is a DeadlineExceededError of any copy of this package. */
export function isDeadlineExceededError(error: unknown): error is DeadlineExceededError {
  return hasBrand(error, 'DeadlineExceededError');
}

const ABORT_NAMES = new Set(['AbortError', 'APIUserAbortError', 'CanceledError', 'ScopeCancelledError']);
const ABORT_CODES = new Set<unknown>(['ABORT_ERR', 'ERR_CANCELED']);

/** Whether an error has the shape of an aborted call's. Only counts as a cancellation when we aborted that call. */
export function isAbortShaped(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  try {
    const { name, code } = error as { name?: unknown; code?: unknown };
    return (typeof name === 'string' && ABORT_NAMES.has(name)) || ABORT_CODES.has(code) || isScopeCancelledError(error);
  } catch {
    return false;
  }
}
