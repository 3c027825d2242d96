import type { Amounts } from './budgetAccount.js';
import type { Charged, ChargeRules, Usage } from './budgetCharge.js';
import type { Place } from './budgetLine.js';
import type { Call, CallEnd, Caller } from './gate.js';
import type { Reservation } from './ledger.js';
import { LiveLease } from './liveList.js';

/** What a call asks of a budget. */
export interface BudgetAsk extends ChargeRules {
  /** The most that it can cost: micro-dollars, or amounts of any of the units. */
  readonly estimate: number | Usage;
  /** What becomes of a call for which there is no room now. Default 'error'. */
  readonly onExceed?: 'error' | 'wait' | undefined;
  /** A call that was completed with this id is not charged again. */
  readonly chargeId?: string | undefined;
}

/** What a lease needs of the budget that gave it. */
export interface Teller {
  used(lease: BudgetLease, usage: Charged): void;
  ended(lease: BudgetLease, end: CallEnd): void;
  open(): void;
}

/** One call: in the line first, then with its reservation. */
export class BudgetLease extends LiveLease<void, Charged> {
  reservation: Reservation | undefined = undefined;
  place: Place<BudgetLease> | undefined = undefined;
  /** When it joined the line. */
  since: number | undefined = undefined;
  /** A trip, or the end of its node, stops it. */
  stopped = false;

  constructor(
    readonly teller: Teller,
    call: Call,
    caller: Caller<void, Charged>,
    readonly amounts: Amounts,
    readonly ask: BudgetAsk,
  ) {
    super(call, caller);
  }

  report(usage: Charged): void {
    this.teller.used(this, usage);
  }

  settle(end: CallEnd): void {
    this.teller.ended(this, end);
  }

  pump(): void {
    this.teller.open();
  }
}
