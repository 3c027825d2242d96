import type { SchedulerLike } from 'rxjs';
import type { ScopeFailure, Scope, ScopeContext } from './types.js';
import { ScopeNode } from './node.js';

/** Options of every operator that opens a scope. */
export interface ScopeOptions {
  /** Milliseconds that a cancelled call may take to acknowledge before it is abandoned. Default 5000; Infinity waits for ever. */
  readonly graceMs?: number | undefined;
  /** Name in paths, reports and errors. */
  readonly label?: string | undefined;
  /** Cancels the scope when it is aborted; the output then errors with ScopeCancelledError. */
  readonly signal?: AbortSignal | undefined;
  /** The enclosing scope. Default: the one in whose synchronous subscribe chain the operator is subscribed, if any. */
  readonly within?: ScopeContext | undefined;
  /** Hands out the scope of each subscription, before the source is subscribed. */
  readonly onScope?: ((scope: Scope) => void) | undefined;
  /** Told once of failures that happened after an unsubscribe, when there is no enclosing scope to tell. */
  readonly onUnhandled?: ((failures: readonly ScopeFailure[]) => void) | undefined;
  /** What tells the time. Default: the enclosing scope's, else asyncScheduler. */
  readonly scheduler?: SchedulerLike | undefined;
}

function fail(kind: typeof TypeError | typeof RangeError, who: string, option: string, range: string, got: unknown): never {
  throw new kind(`${who}: ${option} must be ${range}, got ${typeof got === 'string' ? JSON.stringify(got) : String(got)}.`);
}

function checkNumber(who: string, option: string, value: unknown, range: string, fits: (n: number) => boolean): void {
  if (typeof value !== 'number') fail(TypeError, who, option, range, value);
  else if (!fits(value)) fail(RangeError, who, option, range, value);
}

/** Throws unless `ms` is null or a number of milliseconds from 0 to Infinity. */
export function checkDeadline(who: string, ms: unknown): void {
  if (ms !== null) checkNumber(who, 'ms', ms, 'null or a number of milliseconds, 0 or more', (n) => n >= 0);
}

export function checkConcurrency(who: string, value: unknown): void {
  checkNumber(who, 'concurrency', value, 'an integer of at least 1, or Infinity', (n) => n >= 1 && (n === Infinity || Number.isInteger(n)));
}

export function checkChoice(who: string, option: string, value: unknown, choices: readonly string[]): void {
  const range = `one of ${choices.map((choice) => JSON.stringify(choice)).join(', ')}`;
  if (typeof value !== 'string') fail(TypeError, who, option, range, value);
  else if (!choices.includes(value)) fail(RangeError, who, option, range, value);
}

export function checkFunction(who: string, option: string, value: unknown): void {
  if (typeof value !== 'function') fail(TypeError, who, option, 'a function', value);
}

export function checkScopeOptions(who: string, options: ScopeOptions): void {
  const { graceMs, label, signal, within, onScope, onUnhandled, scheduler } = options;
  if (graceMs !== undefined) checkNumber(who, 'graceMs', graceMs, 'a number of milliseconds, 0 or more', (n) => n >= 0);
  if (label !== undefined && typeof label !== 'string') fail(TypeError, who, 'label', 'a string', label);
  if (signal !== undefined && typeof (signal as Partial<AbortSignal>).addEventListener !== 'function')
    fail(TypeError, who, 'signal', 'an AbortSignal', signal);
  if (within !== undefined && !(within instanceof ScopeNode)) fail(TypeError, who, 'within', 'a scope of this package', within);
  if (onScope !== undefined) checkFunction(who, 'onScope', onScope);
  if (onUnhandled !== undefined) checkFunction(who, 'onUnhandled', onUnhandled);
  if (scheduler !== undefined && typeof (scheduler as Partial<SchedulerLike>).schedule !== 'function')
    fail(TypeError, who, 'scheduler', 'a SchedulerLike', scheduler);
}
