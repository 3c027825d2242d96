import { type Amounts, inMillionths, type Limit, type Unit, UNITS } from './budgetAccount.js';
import { type Charged, misfit, type Usage } from './budgetCharge.js';
import { checkCount, checkRate, refuse } from './checks.js';
import { BadAskError } from './errors.js';
import type { LedgerNode } from './ledger.js';
import { microUsd } from './money.js';

/** Amounts of what a budget counts. What is left out is 0. */
export interface BudgetAmounts {
  /** Dollars, as a decimal string such as '0.30' or a number. */
  readonly usd?: string | number | undefined;
  /** The same as an integer of micro-dollars. */
  readonly microUsd?: number | undefined;
  readonly tokens?: number | undefined;
  readonly calls?: number | undefined;
}

/** Limits of a budget; at least one. What is left out has no limit of its own. */
export interface BudgetLimits {
  /** Dollars, as a decimal string such as '0.30' or a number; or 'unbounded', which has to be said where there is no limit at all. */
  readonly usd?: string | number | undefined;
  /** The same as an integer of micro-dollars. */
  readonly microUsd?: number | 'unbounded' | undefined;
  readonly tokens?: number | 'unbounded' | undefined;
  readonly calls?: number | 'unbounded' | undefined;
}

export interface ChildLimits extends BudgetLimits {
  /** Limits of this part of each of the parent's, which they follow; a number above 0 and up to 1 with at most six decimals. */
  readonly share?: number | undefined;
}

const GIVEN = ['usd', 'microUsd', 'tokens', 'calls', 'share'] as const;

function checkGiven(who: string, given: ChildLimits): void {
  if (typeof given !== 'object' || given === null) refuse(TypeError, who, 'the limits', 'an object', given);
  const names = GIVEN.filter((name) => given[name] !== undefined);
  if (names.length === 0) refuse(TypeError, who, 'the limits', `some of ${GIVEN.join(', ')}; "unbounded" where there is none`, 'none');
  if (names.includes('usd') && names.includes('microUsd'))
    refuse(TypeError, who, 'microUsd', 'left out where usd is given', given.microUsd);
}

/** The limits of a new node. */
export function readLimits(who: string, given: ChildLimits, parent: LedgerNode | undefined): Record<Unit, Limit> {
  checkGiven(who, given);
  const share = readShare(who, given.share, parent);
  const limitOf = (unit: Unit): Limit => {
    const value = unit === 'microUsd' && given.usd !== undefined ? given.usd : given[unit];
    if (value === 'unbounded') return value;
    if (value !== undefined) return amountOf(who, given, unit);
    return share !== undefined && parent !== undefined && parent.accounts[unit].limit < Infinity ? { share } : 'unbounded';
  };
  return { microUsd: limitOf('microUsd'), tokens: limitOf('tokens'), calls: limitOf('calls') };
}

function readShare(who: string, share: unknown, parent: LedgerNode | undefined): number | undefined {
  if (share === undefined) return undefined;
  if (parent === undefined) refuse(TypeError, who, 'share', 'left out: a root has no parent', share);
  checkRate(who, 'share', share);
  const millionths = (share as number) * 1e6;
  if (millionths < 0.5 || Math.abs(millionths - inMillionths(share as number)) >= 1e-3)
    refuse(RangeError, who, 'share', 'a number with at most six decimals', share);
  if (UNITS.every((unit) => parent.accounts[unit].limit === Infinity))
    refuse(RangeError, who, 'share', 'left out: the parent has no limit', share);
  return inMillionths(share as number);
}

function amountOf(who: string, given: Readonly<Record<string, unknown>> | BudgetAmounts | BudgetLimits, unit: Unit): number {
  const { usd } = given as BudgetAmounts;
  if (unit === 'microUsd' && usd !== undefined) return microUsd(who, 'usd', usd);
  const amount = (given as BudgetAmounts)[unit] ?? 0;
  checkCount(who, unit, amount, 0);
  return amount;
}

/** By how much limits are raised. */
export function readRaise(who: string, given: BudgetAmounts, node: LedgerNode): Amounts {
  checkGiven(who, given);
  const amounts = {
    microUsd: amountOf(who, given, 'microUsd'),
    tokens: amountOf(who, given, 'tokens'),
    calls: amountOf(who, given, 'calls'),
  };
  for (const unit of UNITS)
    if (amounts[unit] > 0 && node.accounts[unit].limit === Infinity)
      refuse(RangeError, who, unit, 'left out: it has no limit', amounts[unit]);
  return amounts;
}

/** Fractions of a limit, lowest first. */
export function readFractions(who: string, fractions: readonly number[]): readonly number[] {
  if (!(fractions instanceof Array)) refuse(TypeError, who, 'alerts', 'an array of fractions', fractions);
  for (const fraction of fractions) checkRate(who, 'alerts', fraction);
  return [...new Set(fractions)].sort((one, other) => one - other);
}

function fieldsOf(amounts: unknown): Usage {
  return typeof amounts === 'object' && amounts !== null ? amounts : { microUsd: amounts as number };
}

function isEmpty({ microUsd, tokens, calls }: Usage): boolean {
  return microUsd === undefined && tokens === undefined && calls === undefined;
}

const AMOUNT = 'an integer, 0 or more';

/** Throws unless an estimate that is known when the operator is made can be used. */
export function checkEstimate(who: string, estimate: number | Usage): void {
  const given = fieldsOf(estimate);
  if (isEmpty(given)) refuse(TypeError, who, 'estimate', 'micro-dollars, or some of microUsd, tokens, calls', estimate);
  const unit = misfit(given);
  if (unit === undefined) return;
  const amount = given[unit];
  refuse(typeof amount === 'number' ? RangeError : TypeError, who, `estimate (${unit})`, AMOUNT, amount);
}

/** What a call asks to be set aside. A unit that somebody limits has to be estimated, or the limit could not be kept. */
export function askAmounts(gate: string, estimate: number | Usage, { bounded }: LedgerNode): Amounts {
  const given = readAsk(gate, 'estimate', estimate);
  const { microUsd, tokens, calls = 1 } = given;
  const unit = microUsd === undefined && bounded.microUsd ? 'microUsd' : tokens === undefined && bounded.tokens ? 'tokens' : undefined;
  if (unit !== undefined) throw new BadAskError(gate, `estimate (${unit})`, `${AMOUNT}, for it is limited`, undefined);
  return { microUsd: microUsd ?? 0, tokens: tokens ?? 0, calls };
}

/** Amounts of one call: micro-dollars alone, or some of the units. Anything else fails that call. */
export function readAsk(gate: string, what: string, amounts: Charged): Usage {
  const given = fieldsOf(amounts);
  const unit = misfit(given);
  if (unit !== undefined || isEmpty(given))
    throw new BadAskError(gate, unit === undefined ? what : `${what} (${unit})`, AMOUNT, given[unit ?? 'microUsd']);
  return given;
}
