import type { Amounts } from './budgetAccount.js';
import type { Charged, ChargeRules, Usage } from './budgetCharge.js';
import type { Place } from './budgetLine.js';
import type { Reservation } from './ledger.js';
import type { Visit } from './visit.js';

/** What a call asks of a budget. */
export interface BudgetAsk extends ChargeRules {
  /** The most that it can cost: micro-dollars, or amounts of any of the units. */
  readonly estimate: number | Usage;
  /** What becomes of a call for which there is no room now. Default 'error'. */
  readonly onExceed?: 'error' | 'wait' | undefined;
  /** A call that was completed with this id is not charged again. */
  readonly chargeId?: string | undefined;
}

/** One call: in the line first, then with its reservation. */
export type BudgetVisit = Visit<Stake, Charged>;

/** What the budget knows of it. */
export class Stake {
  reservation: Reservation | undefined = undefined;
  place: Place<BudgetVisit> | undefined = undefined;
  /** A trip, or the end of its node, stops it. */
  stopped = false;

  constructor(
    readonly amounts: Amounts,
    readonly ask: BudgetAsk,
  ) {}
}
