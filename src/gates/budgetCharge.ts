import { type Amounts, NOTHING, type Unit, UNITS } from './budgetAccount.js';
import { checkCount } from './checks.js';
import { classifyError } from './classifyError.js';
import { causesOf, read, statusOf } from './errorShape.js';
import { isGateError } from './errors.js';
import type { CallEnd } from './gate.js';

/** Some of the units; what is left out is not known. */
export type Usage = { readonly [U in Unit]?: number | undefined };

/** What is known of a call when it ends. */
export interface UsageSoFar {
  /** Set aside for it. */
  readonly reserved: Amounts;
  /** The largest running totals that were reported. */
  readonly seen: Usage;
}

/** What to charge: micro-dollars, or amounts. A unit that is left out is charged as it would be without the function. */
export type Charged = number | Usage;

export interface ChargeRules {
  /** What a call that was stopped is charged. Default 'reserved': all that was set aside, for nobody knows what it cost. */
  readonly onCancel?: 'reserved' | 'seen' | ((usage: UsageSoFar) => Charged) | undefined;
  /** What a call that failed is charged. Default: nothing but what was seen, if the error says that it cost nothing; otherwise as `seen` or, unseen, all. */
  readonly chargeOnError?: ((error: unknown, usage: UsageSoFar) => Charged) | undefined;
}

/** What a call that has ended is charged. */
export interface Bill {
  readonly spent: Amounts;
  /** The part of it that was charged without having been seen. */
  readonly uncertain: Amounts;
  /** Units for which a completed call has not told its usage. */
  readonly missing: readonly Unit[];
}

const NOT_STARTED: Bill = { spent: NOTHING, uncertain: NOTHING, missing: [] };
const CONNECT_CODES: readonly unknown[] = [
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
];

/** Errors of ours that stop a call at work, or arise from its values; the others come before it. */
const AT_WORK = /_TRIPPED$|^BAD_ASK$|^UNKNOWN_PRICE$/;

/**
 * What a call is charged, by how it ended. A call that was made counts as one, however it ended. A function of the user's that throws or
 * answers nonsense does not make it free: `report` hears of it.
 */
export function billOf(end: CallEnd, usage: UsageSoFar, rules: ChargeRules, report: (error: unknown) => void): Bill {
  if (!end.started) return NOT_STARTED;
  const { reserved, seen } = usage;
  const known = knownCharge(end, usage, rules, report);
  const rest = restCharge(end, usage, rules);
  const charge = (unit: Unit): number => known[unit] ?? (unit === 'calls' ? Math.max(reserved.calls, seen.calls ?? 0) : rest(unit));
  const spent = { microUsd: charge('microUsd'), tokens: charge('tokens'), calls: charge('calls') };
  if (end.kind !== 'completed') return { spent, uncertain: guessed(spent, seen), missing: [] };
  return { spent, uncertain: NOTHING, missing: UNITS.filter((unit) => unit !== 'calls' && seen[unit] === undefined && reserved[unit] > 0) };
}

/** What the user's own function says. */
function knownCharge({ kind, error }: CallEnd, usage: UsageSoFar, rules: ChargeRules, report: (error: unknown) => void): Usage {
  const { onCancel, chargeOnError } = rules;
  try {
    if (kind === 'failed' && chargeOnError !== undefined) return readCharge('chargeOnError', chargeOnError(error, usage));
    if (kind === 'cancelled' && typeof onCancel === 'function') return readCharge('onCancel', onCancel(usage));
  } catch (problem) {
    report(problem);
  }
  return {};
}

function readCharge(option: string, charged: Charged): Usage {
  const amounts = typeof charged === 'object' && charged !== null ? charged : { microUsd: charged };
  for (const unit of UNITS)
    if (amounts[unit] !== undefined) checkCount('fleetBudget', `what ${option} returns (${unit})`, amounts[unit], 0);
  return amounts;
}

function restCharge({ kind, error }: CallEnd, { reserved, seen }: UsageSoFar, { onCancel }: ChargeRules): (unit: Unit) => number {
  if (kind === 'cancelled' && onCancel !== 'seen') return (unit) => Math.max(reserved[unit], seen[unit] ?? 0);
  const free = kind === 'cancelled' || (kind === 'failed' && costsNothing(error));
  return (unit) => seen[unit] ?? (free ? 0 : reserved[unit]);
}

/** What was charged beyond what was seen. */
function guessed(spent: Amounts, seen: Usage): Amounts {
  const beyond = (unit: Unit): number => (unit === 'calls' ? 0 : Math.max(0, spent[unit] - (seen[unit] ?? 0)));
  return { microUsd: beyond('microUsd'), tokens: beyond('tokens'), calls: 0 };
}

/** Whether the other side was not reached, or refused the call before it did any work. */
function costsNothing(error: unknown): boolean {
  for (const each of causesOf(error)) {
    if (isGateError(each)) return !AT_WORK.test(each.code);
    const status = statusOf(each);
    if (status !== undefined) return status < 500 || classifyError(each) === 'throttle';
    if (CONNECT_CODES.includes(read(each, 'code'))) return true;
  }
  return classifyError(error) === 'throttle';
}
