import { NOTHING, type Unit, UNITS } from './budgetAccount.js';
import { type Bill, billOf, type Charged } from './budgetCharge.js';
import { type BudgetAsk, BudgetLease, type Teller } from './budgetLease.js';
import { askAmounts, readAsk } from './budgetLimits.js';
import { BudgetLine } from './budgetLine.js';
import type { BudgetSnapshot } from './budgetPicture.js';
import type { GateOptions } from './checks.js';
import { BudgetExceededError, BudgetTrippedError, ReentrantAcquireError, ResourceDisposedError } from './errors.js';
import type { GateEventBody } from './events.js';
import { type Call, type CallEnd, type Caller, type Gate, nothing, type Withdraw } from './gate.js';
import { GateBase, guarded, revokeAll } from './gateBase.js';
import type { Finding, LedgerNode, Reservation, Shortage } from './ledger.js';

const NO_BILL: Bill = { spent: NOTHING, uncertain: NOTHING, missing: [] };

/** How calls pass a node of a budget: what is asked, who waits, what is told. One line, and one list of calls in flight, for the tree. */
export abstract class BudgetGate extends GateBase<BudgetSnapshot> implements Gate<BudgetAsk, void, Charged>, Teller {
  protected abstract readonly ledger: LedgerNode;
  protected readonly root: BudgetGate;
  /** Of the whole tree. */
  protected readonly line: BudgetLine<BudgetLease>;
  protected inFlight = 0;
  protected waiting = 0;
  protected stopped: { readonly reason: unknown } | undefined = undefined;
  private granting = false;
  /** A function of the user's has failed where nobody can be told. */
  private readonly uncaught = (error: unknown): void => {
    guarded(this.scheduler, () => {
      throw error;
    });
  };

  constructor(
    who: string,
    options: GateOptions,
    protected readonly above: BudgetGate | undefined,
  ) {
    super(who, 'budget', options);
    this.root = above?.root ?? this;
    this.line = above?.line ?? new BudgetLine();
  }

  /** Names from the root to this node. */
  get path(): readonly string[] {
    return this.ledger.path;
  }

  enter(ask: BudgetAsk, call: Call, caller: Caller<void, Charged>): Withdraw {
    const lease = new BudgetLease(this, call, caller, askAmounts(this.name, ask.estimate, this.ledger), ask);
    const refusal = this.closed() ?? this.admit(lease);
    if (refusal !== undefined) this.refuse(call, caller, refusal);
    return lease.place === undefined ? nothing : () => this.withdraw(lease);
  }

  // Getting in

  private closed(): Error | undefined {
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) {
      if (node.disposed) return new ResourceDisposedError(node.name);
      if (node.stopped !== undefined) return new BudgetTrippedError(node.name, node.path, node.stopped.reason);
    }
    return undefined;
  }

  /** Grants it or puts it in the line; returns why neither is possible. */
  private admit(lease: BudgetLease): Error | undefined {
    const { ledger, line } = this;
    const { amounts, ask } = lease;
    if (ask.chargeId !== undefined && ledger.charged.has(ask.chargeId)) return this.grant(lease);
    const never = ledger.shortage(amounts, true);
    if (never !== undefined) return this.exceeded(never);
    const obstacle = line.obstacle(ledger, amounts);
    if (obstacle === undefined) return this.grant(lease);
    if (ask.onExceed === 'wait') return this.queue(lease, obstacle);
    return this.exceeded(ledger.shortage(amounts) ?? obstacle.books(undefined, amounts), line.countAt(obstacle));
  }

  private queue(lease: BudgetLease, obstacle: LedgerNode): Error | undefined {
    const { call, amounts } = lease;
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) {
      const holder = call.heldAbove(node);
      if (holder !== undefined) return new ReentrantAcquireError(node.name, call.scope.path, holder);
    }
    lease.since = this.root.timer.now();
    lease.place = this.line.join(lease, this.ledger, amounts, obstacle);
    this.count(0, 1);
    if (this.watched) this.tell({ type: 'queued', path: call.scope.path, waiting: this.line.length });
    return undefined;
  }

  private grant(lease: BudgetLease): undefined {
    const { call, since, amounts, ask } = lease;
    lease.reservation = this.ledger.reserve(amounts, ask.chargeId) as Reservation;
    this.root.live.add(lease);
    this.count(1, 0);
    if (this.watched) {
      const waitedMs = since === undefined ? 0 : this.root.timer.now() - since;
      this.tell({ type: 'admitted', path: call.scope.path, waitedMs });
    }
    lease.caller.granted(lease);
  }

  private exceeded(shortage: Shortage, waiting = 0): BudgetExceededError {
    return new BudgetExceededError(this.name, shortage.node.path, { ...shortage, waiting });
  }

  private withdraw(lease: BudgetLease): void {
    if (!this.leave(lease)) return;
    const { timer } = this.root;
    if (this.line.length === 0) timer.stop();
    else this.openSoon();
    if (this.watched) this.tell({ type: 'withdrawn', path: lease.call.scope.path });
  }

  private leave(lease: BudgetLease): boolean {
    const { place } = lease;
    if (place === undefined) return false;
    this.line.leave(place);
    lease.place = undefined;
    this.count(0, -1);
    return true;
  }

  /** Takes whoever waits at this node or below it out of the line. */
  protected leaveAll(): BudgetLease[] {
    const leaving = this.line.all().filter((lease) => this.has(lease));
    for (const lease of leaving) (lease.teller as BudgetGate).leave(lease);
    this.openSoon();
    return leaving;
  }

  protected override refuseWaiting(error: () => Error): void {
    for (const { call, caller } of this.leaveAll()) this.refuse(call, caller, error());
  }

  /** Lets in whoever has room now. A loop: what a grant starts may end at once and call back in. */
  open(): void {
    const { root, line } = this;
    if (root.granting || line.length === 0) return;
    root.granting = true;
    try {
      for (let place = line.next(); place !== undefined; place = line.next()) {
        const { who } = place;
        guarded(this.scheduler, () => (who.teller as BudgetGate).enterFromLine(who));
      }
    } finally {
      root.granting = false;
    }
  }

  private enterFromLine(lease: BudgetLease): void {
    lease.place = undefined;
    this.count(0, -1);
    this.grant(lease);
  }

  /** The same in this frame, after whatever runs now: a sweep withdraws its own waiters first. */
  private openSoon(): void {
    const { root, line } = this;
    if (line.stirred && !root.granting && !root.disposed) root.timer.wakeSoon();
  }

  protected override onWake(): void {
    this.open();
  }

  // What calls use

  used(lease: BudgetLease, usage: Charged): void {
    const shortage = lease.reservation?.report(readAsk(this.name, 'usage', usage));
    if (shortage === undefined) return;
    const error = this.exceeded(shortage);
    if (this.watched) this.tell({ type: 'revoked', path: lease.call.scope.path, error });
    lease.caller.revoked(error);
  }

  ended(lease: BudgetLease, end: CallEnd): void {
    const { reservation, ask } = lease;
    if (reservation === undefined || !this.root.live.remove(lease)) return;
    const { held: reserved, seen, replayed } = reservation;
    const bill = billOf(end, { reserved, seen }, ask, this.uncaught);
    const findings = reservation.settle(bill.spent, bill.uncertain, end.kind === 'completed');
    this.count(-1, 0);
    this.line.freed(this.ledger);
    if (this.watched) this.tellEnd(lease, end, replayed ? NO_BILL : bill, findings);
    if (end.kind === 'cancelled') this.openSoon();
  }

  // Telling

  private tellEnd(lease: BudgetLease, end: CallEnd, bill: Bill, findings: readonly Finding[]): void {
    const { path } = lease.call.scope;
    this.tell({ type: 'settled', path, end: end.kind });
    for (const unit of bill.missing) this.note(path, 'missingUsage', bill.spent[unit], unit);
    for (const unit of UNITS) if (bill.uncertain[unit] > 0) this.note(path, 'uncertain', bill.uncertain[unit], unit);
    for (const finding of findings) this.tellFinding(finding);
  }

  /** To whoever listens at the node that it is about, or above. */
  private tellFinding(finding: Finding): void {
    const { node: of, unit } = finding;
    if (of !== this.ledger) this.above?.tellFinding(finding);
    else if (finding.kind === 'overrun') this.note(of.path, 'overrun', finding.amount, unit);
    else this.tell({ type: 'alert', path: of.path, fraction: finding.fraction, unit, used: finding.used, limit: finding.limit });
  }

  protected note(path: readonly string[], note: string, amount: number, unit: Unit): void {
    if (this.watched) this.tell({ type: 'note', path, note, amount, unit });
  }

  protected override get watched(): boolean {
    return super.watched || (this.above?.watched ?? false);
  }

  protected override tell(event: GateEventBody): void {
    super.tell(event);
    this.above?.tell(event);
  }

  // The tree

  /**
   * Stops what is in flight here and below: all of it, before any is told. Returns how many calls that were; those that are being stopped
   * already are not among them.
   */
  protected stop(error: () => Error): number {
    const victims = (this.root.live.all() as BudgetLease[]).filter((lease) => !lease.stopped && this.has(lease));
    for (const lease of victims) lease.stopped = true;
    const errors = victims.map(error);
    let next = 0;
    revokeAll(victims, () => errors[next++]!);
    if (this.watched)
      for (const [i, { call }] of victims.entries()) this.tell({ type: 'revoked', path: call.scope.path, error: errors[i]! });
    return victims.length;
  }

  private has(lease: BudgetLease): boolean {
    for (let node = lease.teller as BudgetGate | undefined; node !== undefined; node = node.above) if (node === this) return true;
    return false;
  }

  private count(inFlight: number, waiting: number): void {
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) {
      node.inFlight += inFlight;
      node.waiting += waiting;
    }
  }
}
