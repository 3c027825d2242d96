import { NOTHING, type Unit, UNITS } from './budgetAccount.js';
import { type Bill, billOf, type Charged } from './budgetCharge.js';
import { askAmounts, readAsk } from './budgetLimits.js';
import { BudgetLine } from './budgetLine.js';
import type { BudgetSnapshot } from './budgetPicture.js';
import { type BudgetAsk, type BudgetVisit, Stake } from './budgetStake.js';
import type { GateOptions } from './checks.js';
import { BudgetExceededError, BudgetTrippedError, ReentrantAcquireError, ResourceDisposedError } from './errors.js';
import type { GateEventBody } from './events.js';
import { type Call, type CallEnd, type Caller, type Gate, nothing, type Withdraw } from './gate.js';
import { GateBase, guarded, revokeAll } from './gateBase.js';
import type { Finding, LedgerNode, Shortage } from './ledger.js';
import { Visit } from './visit.js';

const NO_BILL: Bill = { spent: NOTHING, uncertain: NOTHING, missing: [] };

/** How calls pass a node of a budget: what is asked, who waits, what is told. One line, and one list of calls in flight, for the tree. */
export abstract class BudgetGate extends GateBase<BudgetSnapshot, BudgetVisit> implements Gate<BudgetAsk, void, Charged> {
  protected abstract readonly ledger: LedgerNode;
  protected readonly root: BudgetGate;
  /** Of the whole tree. */
  protected readonly line: BudgetLine<BudgetVisit>;
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
    if (above !== undefined) this.live = above.live;
  }

  /** Names from the root to this node. */
  get path(): readonly string[] {
    return this.ledger.path;
  }

  enter(ask: BudgetAsk, call: Call, caller: Caller<void, Charged>): Withdraw {
    const visit = new Visit(this, call, caller, new Stake(askAmounts(this.name, ask.estimate, this.ledger), ask));
    const refusal = this.closed() ?? this.admit(visit);
    if (refusal !== undefined) this.refuse(call, caller, refusal);
    return visit.hold.place === undefined ? nothing : () => this.withdraw(visit);
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
  private admit(visit: BudgetVisit): Error | undefined {
    const { ledger, line } = this;
    const { amounts, ask } = visit.hold;
    if (ask.chargeId !== undefined && ledger.charged.has(ask.chargeId)) return this.grant(visit);
    const obstacle = line.obstacle(ledger, amounts);
    if (obstacle === undefined) return this.grant(visit);
    const never = ledger.shortage(amounts, true);
    if (never !== undefined) return this.exceeded(never);
    if (ask.onExceed === 'wait') return this.queue(visit, obstacle);
    return this.exceeded(ledger.shortage(amounts) ?? obstacle.books(undefined, amounts), line.countAt(obstacle));
  }

  private queue(visit: BudgetVisit, obstacle: LedgerNode): Error | undefined {
    const { call, hold } = visit;
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) {
      const holder = call.heldAbove(node);
      if (holder !== undefined) return new ReentrantAcquireError(node.name, call.scope.path, holder);
    }
    visit.since = this.timer.now();
    hold.place = this.line.join(visit, this.ledger, hold.amounts, obstacle);
    this.count(0, 1);
    this.tellQueued(visit, this.line.length);
    return undefined;
  }

  private grant(visit: BudgetVisit): undefined {
    const { hold } = visit;
    hold.reservation = this.ledger.take(hold.amounts, hold.ask.chargeId);
    this.count(1, 0);
    this.pass(visit);
  }

  private exceeded(shortage: Shortage, waiting = 0): BudgetExceededError {
    return new BudgetExceededError(this.name, shortage.node.path, { ...shortage, waiting });
  }

  private withdraw(visit: BudgetVisit): void {
    if (!this.leave(visit)) return;
    const { timer } = this.root;
    if (this.line.length === 0) timer.stop();
    else this.pumpSoon();
    this.tellWithdrawn(visit);
  }

  private leave({ hold }: BudgetVisit): boolean {
    const { place } = hold;
    if (place === undefined) return false;
    this.line.leave(place);
    hold.place = undefined;
    this.count(0, -1);
    return true;
  }

  /** Takes whoever waits at this node or below it out of the line. */
  protected leaveAll(): BudgetVisit[] {
    const leaving = this.line.all().filter((visit) => this.has(visit));
    for (const visit of leaving) gateOf(visit).leave(visit);
    this.pumpSoon();
    return leaving;
  }

  protected override refuseWaiting(error: () => Error): void {
    for (const { call, caller } of this.leaveAll()) this.refuse(call, caller, error());
  }

  /** @internal Lets in whoever has room now. A loop: what a grant starts may end at once and call back in. */
  override pump(): void {
    const { root, line } = this;
    if (root.granting || line.length === 0) return;
    root.granting = true;
    try {
      for (let place = line.next(); place !== undefined; place = line.next()) {
        const { who } = place;
        guarded(this.scheduler, () => gateOf(who).enterFromLine(who));
      }
    } finally {
      root.granting = false;
    }
  }

  private enterFromLine(visit: BudgetVisit): void {
    visit.hold.place = undefined;
    this.count(0, -1);
    this.grant(visit);
  }

  /** The same in this frame, after whatever runs now: a sweep withdraws its own waiters first. */
  private pumpSoon(): void {
    const { root, line } = this;
    if (line.stirred && !root.granting && !root.disposed) root.timer.wakeSoon();
  }

  protected override onWake(): void {
    this.pump();
  }

  // What calls use

  /** @internal */
  override used({ hold, call, caller }: BudgetVisit, usage: Charged): void {
    const shortage = hold.reservation?.report(readAsk(this.name, 'usage', usage));
    if (shortage === undefined) return;
    const error = this.exceeded(shortage);
    this.tellRevoked(call, error);
    caller.revoked(error);
  }

  /** @internal */
  override ended(visit: BudgetVisit, end: CallEnd): void {
    const { reservation, ask } = visit.hold;
    if (reservation === undefined || !this.live.remove(visit)) return;
    const { held: reserved, seen, replayed } = reservation;
    const bill = billOf(end, { reserved, seen }, ask, this.uncaught);
    const findings = reservation.settle(bill.spent, bill.uncertain, end.kind === 'completed');
    this.count(-1, 0);
    this.line.freed(this.ledger);
    if (this.watched) this.tellEnd(visit, end, replayed ? NO_BILL : bill, findings);
    if (end.kind === 'cancelled') this.pumpSoon();
  }

  // Telling

  private tellEnd(visit: BudgetVisit, end: CallEnd, bill: Bill, findings: readonly Finding[]): void {
    const { path } = visit.call.scope;
    this.tellSettled(visit, end);
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
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) if (node.heard) return true;
    return false;
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
    const victims = this.live.all().filter((visit) => !visit.hold.stopped && this.has(visit));
    for (const { hold } of victims) hold.stopped = true;
    const errors = revokeAll(victims, error);
    victims.forEach(({ call }, i) => this.tellRevoked(call, errors[i] as Error));
    return victims.length;
  }

  private has(visit: BudgetVisit): boolean {
    for (let node: BudgetGate | undefined = gateOf(visit); node !== undefined; node = node.above) if (node === this) return true;
    return false;
  }

  private count(inFlight: number, waiting: number): void {
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) {
      node.inFlight += inFlight;
      node.waiting += waiting;
    }
  }
}

/** The node that it has entered. */
function gateOf({ keeper }: BudgetVisit): BudgetGate {
  return keeper as unknown as BudgetGate;
}
