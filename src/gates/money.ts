import { refuse } from './checks.js';

const MICRO = 1_000_000;
const RANGE = 'an amount in dollars such as "0.30", 0 or more, with at most six decimals';

/**
 * Dollars as an integer number of micro-dollars, the unit of every budget: `usd('0.30')` is 300000.
 *
 * @param dollars - a decimal string, which is exact, or a number where it can only mean one amount; 0 or more, at most six decimals
 * @returns micro-dollars; throws RangeError for what is no amount, and TypeError for anything else
 * @see formatUsd for the other way
 */
export function usd(dollars: string | number): number {
  return microUsd('usd', 'dollars', dollars);
}

/** The same for an option, which errors name. */
export function microUsd(who: string, option: string, dollars: unknown): number {
  if (typeof dollars !== 'string' && typeof dollars !== 'number') refuse(TypeError, who, option, RANGE, dollars);
  const micro = typeof dollars === 'string' ? ofDecimal(dollars) : ofNumber(dollars);
  if (!Number.isSafeInteger(micro) || micro < 0) refuse(RangeError, who, option, RANGE, dollars);
  return micro;
}

function ofDecimal(text: string): number {
  const [, whole, decimals = ''] = /^(\d+)(?:\.(\d{1,6})0*)?$/.exec(text) ?? [];
  return whole === undefined ? NaN : Number(whole + decimals.padEnd(6, '0'));
}

function ofNumber(dollars: number): number {
  const micro = Math.round(dollars * MICRO);
  return Math.abs(dollars * MICRO - micro) < 1e-3 ? micro : NaN;
}

/** Micro-dollars for people: at least two decimals and no more than it takes, such as "$0.30" or "$0.000125". */
export function formatUsd(micro: number): string {
  if (!Number.isSafeInteger(micro)) refuse(RangeError, 'formatUsd', 'micro', 'an integer of micro-dollars', micro);
  const digits = String(Math.abs(micro)).padStart(7, '0');
  const decimals = digits.slice(-6).replace(/0{1,4}$/, '');
  return `${micro < 0 ? '-' : ''}$${digits.slice(0, -6)}.${decimals}`;
}
