import { isGate } from '../operators/admit.js';
import { checkScopeOptions } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';

/** Throws what a wrong option throws: who was given it, its name, the allowed range, and what came instead. */
export function refuse(kind: typeof TypeError | typeof RangeError, who: string, option: string, range: string, got: unknown): never {
  throw new kind(`${who}: ${option} must be ${range}, got ${shown(got)}.`);
}

/** A wrong value, in a message. */
export function shown(got: unknown): string {
  return typeof got === 'string' ? JSON.stringify(got) : typeof got === 'object' && got !== null ? 'an object' : String(got);
}

/** Throws unless the value is a number of milliseconds from 0 to Infinity. */
export function checkMilliseconds(who: string, option: string, value: unknown): void {
  if (typeof value !== 'number') refuse(TypeError, who, option, 'a number of milliseconds, 0 or more', value);
  else if (!(value >= 0)) refuse(RangeError, who, option, 'a number of milliseconds, 0 or more', value);
}

/** Throws unless the value is an integer of at least 1, or Infinity. */
export function checkCount(who: string, option: string, value: unknown): void {
  if (typeof value !== 'number') refuse(TypeError, who, option, 'an integer of at least 1, or Infinity', value);
  else if (!(value === Infinity || (Number.isInteger(value) && value >= 1)))
    refuse(RangeError, who, option, 'an integer of at least 1, or Infinity', value);
}

export function checkOneOf(who: string, option: string, value: unknown, choices: readonly string[]): void {
  const range = `one of ${choices.map((choice) => JSON.stringify(choice)).join(', ')}`;
  if (typeof value !== 'string') refuse(TypeError, who, option, range, value);
  else if (!choices.includes(value)) refuse(RangeError, who, option, range, value);
}

/** Throws unless `ctx` is a scope, or left out. */
export function checkContext(who: string, ctx: ScopeContext | undefined): void {
  if (ctx !== undefined) checkScopeOptions(who, { within: ctx });
}

/** Throws unless it is what `guard` returns, or nothing. */
export function checkGuard(who: string, option: string, guard: unknown): void {
  if (guard !== undefined && typeof guard !== 'function') refuse(TypeError, who, option, 'what guard() returns', guard);
}

/** Throws unless it is a gate, or nothing. */
export function checkGate(who: string, option: string, gate: unknown): void {
  if (gate !== undefined && !isGate(gate)) refuse(TypeError, who, option, 'a gate', gate);
}
