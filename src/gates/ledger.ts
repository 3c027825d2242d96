import { Account, type Amounts, type Limit, NOTHING, type Unit, UNITS } from './budgetAccount.js';

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

/** A node of the tree: the fleet, an agent, one of its tasks. What is reserved or spent at a node counts at all nodes above it. */
export class LedgerNode {
  readonly path: readonly string[];
  readonly accounts: Readonly<Record<Unit, Account>>;
  readonly children: Set<LedgerNode> = new Set();
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
    parent?.children.add(this);
  }

  /** Whether a limit of that unit lies on the way to the root. */
  bounds(unit: Unit): boolean {
    return this.accounts[unit].limit < Infinity || (this.parent?.bounds(unit) ?? false);
  }

  /** What does not allow the amounts, the innermost node first; with `ever`, what would not even if nothing were used. */
  shortage(amounts: Amounts, ever = false): Shortage | undefined {
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      for (const unit of UNITS) {
        const account = node.accounts[unit];
        const requested = amounts[unit];
        if (requested <= (ever ? account.limit : account.free)) continue;
        const { limit, spent, reserved } = account;
        return { node, unit, limit, spent, reserved, requested };
      }
    }
    return undefined;
  }

  /** Sets the amounts aside on the whole path, or nowhere. A call that was charged already, by its id, needs nothing. */
  reserve(amounts: Amounts, id?: string): Reservation | Shortage {
    const held = id !== undefined && this.charged.has(id) ? undefined : amounts;
    const shortage = held && this.shortage(held);
    if (shortage !== undefined) return shortage;
    if (held !== undefined) this.hold(held);
    return new Reservation(this, held ?? NOTHING, id);
  }

  hold(amounts: Amounts): void {
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent)
      for (const unit of UNITS) node.accounts[unit].reserved += amounts[unit];
  }

  /** Moves what was held to what was spent on the whole path, and then looks what that brought to light. */
  book(held: Amounts, spent: Amounts, uncertain: Amounts): readonly Finding[] {
    let overruns: Finding[] | undefined;
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      for (const unit of UNITS) {
        const amount = node.accounts[unit].settle(held[unit], spent[unit], uncertain[unit]);
        if (amount > 0) (overruns ??= []).push({ kind: 'overrun', node, unit, amount });
      }
    }
    return this.alerts(overruns);
  }

  private alerts(found: Finding[] | undefined): readonly Finding[] {
    for (let node: LedgerNode | undefined = this; node !== undefined; node = node.parent) {
      for (const unit of UNITS) {
        const account = node.accounts[unit];
        const { spent: used, limit } = account;
        for (const fraction of account.crossed()) (found ??= []).push({ kind: 'alert', node, unit, fraction, used, limit });
      }
    }
    return found ?? NONE;
  }

  /** What to say of a node that has room, but for others first. */
  books(amounts: Amounts): Shortage {
    const unit = UNITS.find((each) => this.accounts[each].limit < Infinity) ?? 'microUsd';
    const { limit, spent, reserved } = this.accounts[unit];
    return { node: this, unit, limit, spent, reserved, requested: amounts[unit] };
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
  readonly seen: Partial<Record<Unit, number>> = {};
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

  /** Notes a running total. One above the reservation extends it on the whole path; returns what does not allow that. */
  report(usage: Readonly<Partial<Record<Unit, number | undefined>>>): Shortage | undefined {
    if (!this.open) return undefined;
    const { node, held, seen } = this;
    const more = { microUsd: 0, tokens: 0, calls: 0 };
    for (const unit of UNITS) {
      const used = Math.max(seen[unit] ?? 0, usage[unit] ?? 0);
      if (usage[unit] !== undefined) seen[unit] = used;
      more[unit] = Math.max(0, used - held[unit]);
    }
    if (this.replayed || (more.microUsd === 0 && more.tokens === 0 && more.calls === 0)) return undefined;
    const shortage = node.shortage(more);
    if (shortage !== undefined) return shortage;
    node.hold(more);
    this.held = { microUsd: held.microUsd + more.microUsd, tokens: held.tokens + more.tokens, calls: held.calls + more.calls };
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
