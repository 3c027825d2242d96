import { Account, type Amounts, type Limit, NOTHING, type Unit, UNITS } from './budgetAccount.js';
import type { Usage } from './budgetCharge.js';

/** The node and unit that do not allow an amount. */
export interface Shortage {
  readonly node: LedgerNode;
  readonly unit: Unit;
  readonly limit: number;
  readonly spent: number;
  readonly reserved: number;
  readonly requested: number;
}

/** What a settlement brought to light, once the whole path is consistent: a fraction of a limit that was reached, or a limit passed. */
export type Finding = { readonly node: LedgerNode; readonly unit: Unit } & (
  | { readonly kind: 'alert'; readonly fraction: number; readonly used: number; readonly limit: number }
  | { readonly kind: 'overrun'; readonly amount: number }
);

const NONE: readonly Finding[] = [];
const NO_USAGE: Usage = { microUsd: undefined, tokens: undefined, calls: undefined };

/** A node of the tree: the fleet, an agent, one of its tasks. What is reserved or spent at a node counts at all nodes above it. */
export class LedgerNode {
  readonly path: readonly string[];
  readonly accounts: Readonly<Record<Unit, Account>>;
  readonly children: Set<LedgerNode> = new Set();
  /** Whether a limit of the unit lies on the way to the root. */
  readonly bounded: Readonly<Record<Unit, boolean>>;
  /** Ids of the calls that were charged for good, of the whole tree. */
  readonly charged: Set<string>;

  constructor(
    readonly name: string,
    readonly parent: LedgerNode | undefined,
    limits: Readonly<Record<Unit, Limit>>,
    fractions: readonly number[],
  ) {
    this.path = [...(parent?.path ?? []), name];
    this.charged = parent?.charged ?? new Set();
    const open = (unit: Unit): Account => new Account(limits[unit], parent?.accounts[unit], fractions);
    this.accounts = { microUsd: open('microUsd'), tokens: open('tokens'), calls: open('calls') };
    const bounds = (unit: Unit): boolean => this.accounts[unit].limit < Infinity || (parent?.bounded[unit] ?? false);
    this.bounded = { microUsd: bounds('microUsd'), tokens: bounds('tokens'), calls: bounds('calls') };
    parent?.children.add(this);
  }

  /** What does not allow the amounts, the innermost node first; with `ever`, what would not even if nothing were used. */
  shortage(amounts: Amounts, ever = false): Shortage | undefined {
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      const { microUsd, tokens, calls } = node.accounts;
      if (amounts.microUsd > (ever ? microUsd.limit : microUsd.free)) return node.books('microUsd', amounts);
      if (amounts.tokens > (ever ? tokens.limit : tokens.free)) return node.books('tokens', amounts);
      if (amounts.calls > (ever ? calls.limit : calls.free)) return node.books('calls', amounts);
    }
    return undefined;
  }

  /** How a unit stands here when amounts are asked for; by default one that is limited. */
  books(unit: Unit | undefined, amounts: Amounts): Shortage {
    unit ??= UNITS.find((each) => this.accounts[each].limit < Infinity) ?? 'microUsd';
    const { limit, spent, reserved } = this.accounts[unit];
    return { node: this, unit, limit, spent, reserved, requested: amounts[unit] };
  }

  /** Sets the amounts aside on the whole path, or nowhere. A call that was charged already, by its id, needs nothing. */
  reserve(amounts: Amounts, id?: string): Reservation | Shortage {
    const charged = id !== undefined && this.charged.has(id);
    return (charged ? undefined : this.shortage(amounts)) ?? this.take(amounts, id);
  }

  /** The same where there is room. */
  take(amounts: Amounts, id?: string): Reservation {
    const held = id !== undefined && this.charged.has(id) ? NOTHING : amounts;
    if (held !== NOTHING) this.hold(held);
    return new Reservation(this, held, id);
  }

  hold(amounts: Amounts): void {
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      const { microUsd, tokens, calls } = node.accounts;
      microUsd.reserved += amounts.microUsd;
      tokens.reserved += amounts.tokens;
      calls.reserved += amounts.calls;
    }
  }

  /** Moves what was held to what was spent on the whole path, and then looks what that brought to light. */
  book(held: Amounts, spent: Amounts, uncertain: Amounts): readonly Finding[] {
    let found: Finding[] | undefined;
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      const { microUsd, tokens, calls } = node.accounts;
      const over = {
        microUsd: microUsd.settle(held.microUsd, spent.microUsd, uncertain.microUsd),
        tokens: tokens.settle(held.tokens, spent.tokens, uncertain.tokens),
        calls: calls.settle(held.calls, spent.calls, uncertain.calls),
      };
      if (over.microUsd + over.tokens + over.calls > 0) node.tellOverruns(over, (found ??= []));
    }
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      const { microUsd, tokens, calls } = node.accounts;
      if (microUsd.due || tokens.due || calls.due) node.tellAlerts((found ??= []));
    }
    return found ?? NONE;
  }

  private tellOverruns(over: Amounts, found: Finding[]): void {
    for (const unit of UNITS) if (over[unit] > 0) found.push({ kind: 'overrun', node: this, unit, amount: over[unit] });
  }

  private tellAlerts(found: Finding[]): void {
    for (const unit of UNITS) {
      const account = this.accounts[unit];
      const { spent: used, limit } = account;
      for (const fraction of account.crossed()) found.push({ kind: 'alert', node: this, unit, fraction, used, limit });
    }
  }

  /** The parent no longer knows it; what it has spent still counts there. */
  detach(): void {
    this.parent?.children.delete(this);
  }

  raise(amounts: Amounts): void {
    for (const unit of UNITS) if (amounts[unit] > 0) this.accounts[unit].raise(amounts[unit]);
    for (const child of this.children) child.follow();
  }

  /** Begins anew with nothing spent, here and below. Reservations stay, and the nodes above keep what they have counted. */
  reset(): void {
    for (const unit of UNITS) this.accounts[unit].reset();
    if (this.parent === undefined) this.charged.clear();
    for (const child of this.children) child.reset();
  }

  private follow(): void {
    for (const unit of UNITS) this.accounts[unit].update();
    for (const child of this.children) child.follow();
  }
}

/** What one call has set aside, and what it was seen to use. */
export class Reservation {
  /** Running totals, the largest of each unit; undefined where none was reported. */
  seen: Usage = NO_USAGE;
  private open = true;

  constructor(
    readonly node: LedgerNode,
    public held: Amounts,
    private readonly id: string | undefined,
  ) {}

  /** Whether a call with the same id was charged before this one. */
  get replayed(): boolean {
    return this.id !== undefined && this.node.charged.has(this.id);
  }

  /** Notes running totals. One above the reservation extends it on the whole path; returns what does not allow that. */
  report(usage: Usage): Shortage | undefined {
    if (!this.open) return undefined;
    const { seen } = this;
    const { microUsd, tokens, calls } = (this.seen = {
      microUsd: larger(seen.microUsd, usage.microUsd),
      tokens: larger(seen.tokens, usage.tokens),
      calls: larger(seen.calls, usage.calls),
    });
    const { held } = this;
    return this.extend({
      microUsd: Math.max(held.microUsd, microUsd ?? 0),
      tokens: Math.max(held.tokens, tokens ?? 0),
      calls: Math.max(held.calls, calls ?? 0),
    });
  }

  private extend(to: Amounts): Shortage | undefined {
    const { node, held } = this;
    const more = { microUsd: to.microUsd - held.microUsd, tokens: to.tokens - held.tokens, calls: to.calls - held.calls };
    if (more.microUsd + more.tokens + more.calls === 0 || this.replayed) return undefined;
    const shortage = node.shortage(more);
    if (shortage !== undefined) return shortage;
    node.hold(more);
    this.held = to;
    return undefined;
  }

  /** Turns the reservation into what was spent; once. `final` says that a call with the same id is not to be charged again. */
  settle(spent: Amounts, uncertain: Amounts = NOTHING, final = true): readonly Finding[] {
    if (!this.open) return NONE;
    this.open = false;
    const { node, held, id } = this;
    if (this.replayed) return node.book(held, NOTHING, NOTHING);
    if (id !== undefined && final) node.charged.add(id);
    return node.book(held, spent, uncertain);
  }
}

function larger(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || (other !== undefined && other > one) ? other : one;
}
