import { type Account, type Unit, UNITS } from './budgetAccount.js';

/** One unit of a budget's node. */
export interface BudgetBooks {
  readonly limit: number | 'unbounded';
  readonly spent: number;
  /** Set aside for calls in flight. */
  readonly reserved: number;
  /** The part of `spent` that nobody saw being used: calls that were stopped may have cost it. */
  readonly uncertain: number;
  /** What calls took beyond their reservation when the limit did not allow it. */
  readonly overrun: number;
}

export interface BudgetSnapshot {
  readonly name: string;
  readonly microUsd: BudgetBooks;
  readonly tokens: BudgetBooks;
  readonly calls: BudgetBooks;
  /** Calls of this node and those below it. */
  readonly inFlight: number;
  readonly waiting: number;
  readonly tripped: boolean;
  readonly children: readonly BudgetSnapshot[];
}

/** The books of a node as plain JSON. */
export function booksOf(accounts: Readonly<Record<Unit, Account>>): Record<Unit, BudgetBooks> {
  const books = UNITS.map((unit) => {
    const { limit, spent, reserved, uncertain, overrun } = accounts[unit];
    return [unit, { limit: limit === Infinity ? ('unbounded' as const) : limit, spent, reserved, uncertain, overrun }];
  });
  return Object.fromEntries(books) as Record<Unit, BudgetBooks>;
}
