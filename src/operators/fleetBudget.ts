import type { MonoTypeOperatorFunction } from 'rxjs';
import { checkChoice, checkFunction } from '../core/options.js';
import type { Charged, ChargeRules, Usage } from '../gates/budgetCharge.js';
import type { BudgetAsk } from '../gates/budgetStake.js';
import { checkEstimate } from '../gates/budgetLimits.js';
import { refuse } from '../gates/checks.js';
import type { BudgetNode } from '../gates/fleetBudget.js';
import { gated } from './admit.js';

export interface FleetBudgetCallOptions<T> extends ChargeRules {
  /**
   * The most that the call can cost: micro-dollars (`usd('0.05')` makes them), or amounts `{ microUsd, tokens, calls }`, all integers;
   * `calls` is 1 where it is left out. A function is called once for each attempt.
   */
  readonly estimate: number | Usage | (() => number | Usage);
  /** What the call has used so far, read from a value: running totals, never added up; undefined if the value does not tell. */
  readonly actual?: ((value: T) => Charged | undefined) | undefined;
  /** What becomes of a call for which there is no room now: it errors, or waits until there is. Default 'error'. */
  readonly onExceed?: 'error' | 'wait' | undefined;
  /** A call that was completed with this id is not charged again. */
  readonly chargeId?: string | undefined;
}

const WHO = 'fleetBudget';

/**
 * Sets aside the most that a call can cost before it starts, and charges what it has used when it ends.
 *
 * ```
 * budget    $1.00 free                    $1.00 free
 * call      --a--b--|                     --a--             unsubscribed: nobody knows what it has cost,
 *           $0.05 set aside                                 so all that was set aside is spent
 * budget    $0.98 free at the end         $0.95 free
 * ```
 *
 * Use it on every call that costs: a model's, a paid API's. Checking what is spent before a call and adding up after it lets
 * as many calls pass the limit as run at once; setting aside lets none.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { FleetBudget, fleetBudget, usd } from 'rxfleet';
 *
 * const fleet = new FleetBudget({ name: 'fleet', usd: '0.10' });
 * const call = of({ cost: 12_500 }).pipe(fleetBudget(fleet, { estimate: usd('0.05'), actual: ({ cost }) => cost }));
 * call.subscribe();
 * if (fleet.snapshot().microUsd.spent !== 12_500) throw new Error('unexpected');
 * ```
 *
 * @param budget - the fleet's budget or a node of it
 * @param options - `estimate` is required; `actual`, `onExceed`, `onCancel` ('reserved', 'seen' or a function, default
 * 'reserved'), `chargeOnError` and `chargeId`
 * @returns an operator that errors with BudgetExceededError when a limit does not allow the estimate, or what the call uses
 * beyond it, and with BudgetTrippedError, BadAskError, ReentrantAcquireError or ResourceDisposedError. Unsubscribing leaves the
 * line or stops the call, which is then charged by `onCancel`
 * @see costOf for what a model call costs
 */
export function fleetBudget<T>(budget: BudgetNode, options: FleetBudgetCallOptions<T>): MonoTypeOperatorFunction<T> {
  if (typeof options !== 'object' || options === null) refuse(TypeError, WHO, 'options', 'an object', options);
  const { estimate, actual, onExceed, onCancel, chargeOnError, chargeId } = options;
  checkOptions(options);
  const ask = (now: number | Usage): BudgetAsk => ({ estimate: now, onExceed, onCancel, chargeOnError, chargeId });
  return gated<T, BudgetAsk, Charged>(WHO, budget, typeof estimate === 'function' ? () => ask(estimate()) : ask(estimate), actual);
}

function checkOptions({ estimate, actual, onExceed, onCancel, chargeOnError, chargeId }: FleetBudgetCallOptions<never>): void {
  if (typeof estimate !== 'function') checkEstimate(WHO, estimate);
  if (actual !== undefined) checkFunction(WHO, 'actual', actual);
  if (onExceed !== undefined) checkChoice(WHO, 'onExceed', onExceed, ['error', 'wait']);
  if (onCancel !== undefined && typeof onCancel !== 'function') checkChoice(WHO, 'onCancel', onCancel, ['reserved', 'seen']);
  if (chargeOnError !== undefined) checkFunction(WHO, 'chargeOnError', chargeOnError);
  if (chargeId !== undefined && typeof chargeId !== 'string') refuse(TypeError, WHO, 'chargeId', 'a string', chargeId);
}
