import type { SchedulerLike } from 'rxjs';
import { describeError } from '../core/errors.js';
import { BadAskError } from './errors.js';

/** Throws a TypeError or RangeError that names who was given which option, and what it may be. */
export function refuse(kind: typeof TypeError | typeof RangeError, who: string, option: string, range: string, got: unknown): never {
  throw new kind(`${who}: ${option} must be ${range}, got ${describeError(got)}.`);
}

/** Throws unless `value` is a number that fits. */
export function checkNumber(who: string, option: string, value: unknown, range: string, fits: (n: number) => boolean): void {
  if (typeof value !== 'number') refuse(TypeError, who, option, range, value);
  if (!fits(value)) refuse(RangeError, who, option, range, value);
}

/** Throws unless `value` is an integer of at least `least`; `orInfinity` allows that too. */
export function checkCount(who: string, option: string, value: unknown, least: number, orInfinity = false): void {
  const range = `an integer of at least ${least}${orInfinity ? ', or Infinity' : ''}`;
  checkNumber(who, option, value, range, (n) => n >= least && (Number.isSafeInteger(n) || (orInfinity && n === Infinity)));
}

/** Throws unless `value` is a number of milliseconds of at least `least`. */
export function checkMs(who: string, option: string, value: unknown, least = 0, orInfinity = false): void {
  const range = `a number of milliseconds, ${least} or more${orInfinity ? ', or Infinity' : ''}`;
  checkNumber(who, option, value, range, (n) => n >= least && (Number.isFinite(n) || (orInfinity && n === Infinity)));
}

/** Throws unless `value` is a fraction above 0 and up to 1. */
export function checkRate(who: string, option: string, value: unknown): void {
  checkNumber(who, option, value, 'a number above 0 and up to 1', (n) => n > 0 && n <= 1);
}

export function checkBoolean(who: string, option: string, value: unknown): void {
  if (typeof value !== 'boolean') refuse(TypeError, who, option, 'true or false', value);
}

export function checkObject(who: string, option: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) refuse(TypeError, who, option, 'an object', value);
}

/** What a gate of any kind may be given. */
export interface GateOptions {
  /** Name in errors, events and cancel reasons. */
  readonly name?: string | undefined;
  /** What tells the time. Default asyncScheduler. */
  readonly scheduler?: SchedulerLike | undefined;
}

export function checkGateOptions(who: string, options: GateOptions): void {
  checkObject(who, 'options', options);
  const { name, scheduler } = options;
  if (name !== undefined && (typeof name !== 'string' || name === '')) refuse(TypeError, who, 'name', 'a string that is not empty', name);
  if (scheduler !== undefined && typeof (scheduler as Partial<SchedulerLike> | null)?.schedule !== 'function')
    refuse(TypeError, who, 'scheduler', 'a SchedulerLike', scheduler);
}

/** A per-call value that must be a number: a bad one fails that call only. */
export function askNumber(gate: string, what: string, value: unknown): number {
  if (typeof value === 'number' && !Number.isNaN(value)) return value;
  throw new BadAskError(gate, what, 'a number', value);
}

/** A per-call value that must be an integer of at least `least`: a bad one fails that call only. */
export function askCount(gate: string, what: string, value: unknown, least: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  throw new BadAskError(gate, what, `an integer of at least ${least}`, value);
}
