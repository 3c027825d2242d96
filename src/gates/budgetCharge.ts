import { type Amounts, NOTHING, type Unit, UNITS } from './budgetAccount.js';
import { refuse } from './checks.js';
import { classifyError } from './classifyError.js';
import { causesOf, read, statusOf } from './errorShape.js';
import { isGateError } from './errors.js';
import type { CallEnd } from './gate.js';

/** Amounts of some units; what is left out is not known. */
export type Usage = { readonly [U in Unit]?: number | undefined };

function fits(value: unknown): boolean {
  return value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0);
}

/** The unit whose amount is none: it has to be an integer, 0 or more, where it is given. */
export function misfit({ microUsd, tokens, calls }: Usage): Unit | undefined {
  if (fits(microUsd) && fits(tokens) && fits(calls)) return undefined;
  return fits(microUsd) ? (fits(tokens) ? 'calls' : 'tokens') : 'microUsd';
}

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
  /**
   * What a call that failed is charged. Default: what was seen; where nothing was, nothing if the error says that the call has cost nothing,
   * otherwise all that was set aside.
   */
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

const NO_UNITS: readonly Unit[] = [];
const NOT_STARTED: Bill = { spent: NOTHING, uncertain: NOTHING, missing: NO_UNITS };
const NOT_CONNECTED = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT)$/;
/** The other side's certificate was refused: nothing was said to it. */
const NOT_TRUSTED = /^(CERT_\w+|\w*SELF_SIGNED_CERT\w*|UNABLE_TO_(GET|VERIFY)_\w+|ERR_TLS_CERT_\w+)$/;
/** What `fetch` says of addresses to which it does not connect. */
const NO_ADDRESS = /^(bad port|unknown scheme)$/;
/** Errors of ours that stop a call at work, or arise from its values; the others come before it. */
const AT_WORK = /_TRIPPED$|^BAD_ASK$|^UNKNOWN_PRICE$/;

/**
 * What a call is charged, by how it ended. A call that was made counts as one, however it ended. A function of the user's that throws or
 * answers nonsense does not make it free: `report` hears of it.
 */
export function billOf(end: CallEnd, usage: UsageSoFar, rules: ChargeRules, report: (error: unknown) => void): Bill {
  if (!end.started) return NOT_STARTED;
  const { reserved, seen } = usage;
  if (end.kind === 'completed' || end.done)
    return { spent: seenOr(reserved, seen, reserved), uncertain: NOTHING, missing: missing(reserved, seen) };
  const spent = seenOr(reserved, told(end, usage, rules, report), otherwise(end, usage, rules));
  const uncertain = { microUsd: beyond(spent.microUsd, seen.microUsd), tokens: beyond(spent.tokens, seen.tokens), calls: 0 };
  return { spent, uncertain, missing: NO_UNITS };
}

function seenOr({ calls }: Amounts, seen: Usage, rest: Usage): Amounts {
  return {
    microUsd: seen.microUsd ?? rest.microUsd ?? 0,
    tokens: seen.tokens ?? rest.tokens ?? 0,
    calls: seen.calls ?? Math.max(calls, rest.calls ?? 0),
  };
}

function missing(reserved: Amounts, seen: Usage): readonly Unit[] {
  if (seen.microUsd !== undefined && (seen.tokens !== undefined || reserved.tokens === 0)) return NO_UNITS;
  return UNITS.filter((unit) => unit !== 'calls' && seen[unit] === undefined && reserved[unit] > 0);
}

function beyond(spent: number, seen: number | undefined): number {
  return Math.max(0, spent - (seen ?? 0));
}

/** What the user's own function says. */
function told({ kind, error }: CallEnd, usage: UsageSoFar, rules: ChargeRules, report: (error: unknown) => void): Usage {
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
  const unit = misfit(amounts);
  if (unit !== undefined) refuse(RangeError, 'fleetBudget', `what ${option} returns (${unit})`, 'an integer, 0 or more', amounts[unit]);
  return amounts;
}

/** What is charged where the user does not say. */
function otherwise({ kind, error }: CallEnd, { reserved, seen }: UsageSoFar, { onCancel }: ChargeRules): Usage {
  if (kind === 'failed') return costsNothing(error) ? seen : seenOr(reserved, seen, reserved);
  if (onCancel === 'seen') return seen;
  const most = (unit: Unit): number => Math.max(reserved[unit], seen[unit] ?? 0);
  return { microUsd: most('microUsd'), tokens: most('tokens'), calls: most('calls') };
}

/** Whether an error says that the other side was not reached, or refused the call before it did any work. */
export function costsNothing(error: unknown): boolean {
  try {
    for (const each of causesOf(error)) {
      if (isGateError(each)) return !AT_WORK.test(each.code);
      const status = statusOf(each);
      if (status !== undefined) return status < 500 || classifyError(each) === 'throttle';
      const code = read(each, 'code');
      if (typeof code === 'string' && (NOT_CONNECTED.test(code) || NOT_TRUSTED.test(code))) return true;
      if (NO_ADDRESS.test(String(read(each, 'message')))) return true;
    }
  } catch {
    return false;
  }
  return classifyError(error) === 'throttle';
}
