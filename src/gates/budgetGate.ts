import { NOTHING, type Unit, UNITS } from './budgetAccount.js';
import { type Bill, billOf, type Charged } from './budgetCharge.js';
import { askAmounts, readAsk } from './budgetLimits.js';
import { BudgetLine } from './budgetLine.js';
import type { BudgetSnapshot } from './budgetPicture.js';
import { type BudgetAsk, type BudgetTurn, Stake } from './budgetStake.js';
import type { GateOptions } from './checks.js';
import { BudgetExceededError, BudgetTrippedError, ReentrantAcquireError, ResourceDisposedError } from './errors.js';
import type { GateEventBody } from './events.js';
import { type Call, type CallEnd, type Caller, type Gate, nothing, type Withdraw } from './gate.js';
import { GateBase, guarded, revokeAll } from './gateBase.js';
import type { Finding, LedgerNode, Shortage } from './ledger.js';
import { Turn } from './turn.js';

const NO_BILL: Bill = { spent: NOTHING, uncertain: NOTHING, missing: [] };

/** How calls pass a node of a budget: what is asked, who waits, what is told. One line, and one list of calls in flight, for the tree. */
export abstract class BudgetGate extends GateBase<BudgetSnapshot, Stake, Charged> implements Gate<BudgetAsk, void, Charged> {
  protected abstract readonly ledger: LedgerNode;
  protected readonly root: BudgetGate;
  /** Of the whole tree. */
  protected readonly line: BudgetLine<BudgetTurn>;
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
    const turn = new Turn(this, call, caller, new Stake(askAmounts(this.name, ask.estimate, this.ledger), ask));
    const refusal = this.closed() ?? this.admit(turn);
    if (refusal !== undefined) this.refuse(call, caller, refusal);
    return turn.hold.place === undefined ? nothing : () => this.withdraw(turn);
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
  private admit(turn: BudgetTurn): Error | undefined {
    const { ledger, line } = this;
    const { amounts, ask } = turn.hold;
    if (ask.chargeId !== undefined && ledger.charged.has(ask.chargeId)) return this.grant(turn);
    const obstacle = line.obstacle(ledger, amounts);
    if (obstacle === undefined) return this.grant(turn);
    const never = ledger.shortage(amounts, true);
    if (never !== undefined) return this.exceeded(never);
    if (ask.onExceed === 'wait') return this.queue(turn, obstacle);
    return this.exceeded(ledger.shortage(amounts) ?? obstacle.books(undefined, amounts), line.countAt(obstacle));
  }

  private queue(turn: BudgetTurn, obstacle: LedgerNode): Error | undefined {
    const { call, hold } = turn;
    for (let node: BudgetGate | undefined = this; node !== undefined; node = node.above) {
      const holder = call.heldAbove(node);
      if (holder !== undefined) return new ReentrantAcquireError(node.name, call.scope.path, holder);
    }
    turn.since = this.timer.now();
    hold.place = this.line.join(turn, this.ledger, hold.amounts, obstacle);
    this.count(0, 1);
    this.tellQueued(turn, this.line.length);
    return undefined;
  }

  private grant(turn: BudgetTurn): undefined {
    const { hold } = turn;
    hold.reservation = this.ledger.take(hold.amounts, hold.ask.chargeId);
    this.count(1, 0);
    this.pass(turn);
  }

  private exceeded(shortage: Shortage, waiting = 0): BudgetExceededError {
    return new BudgetExceededError(this.name, shortage.node.path, { ...shortage, waiting });
  }

  private withdraw(turn: BudgetTurn): void {
    if (!this.leave(turn)) return;
    const { timer } = this.root;
    if (this.line.length === 0) timer.stop();
    else this.pumpSoon();
    this.tellWithdrawn(turn);
  }

  private leave({ hold }: BudgetTurn): boolean {
    const { place } = hold;
    if (place === undefined) return false;
    this.line.leave(place);
    hold.place = undefined;
    this.count(0, -1);
    return true;
  }

  /** Takes whoever waits at this node or below it out of the line. */
  protected leaveAll(): BudgetTurn[] {
    const leaving = this.line.all().filter((turn) => this.has(turn));
    for (const turn of leaving) gateOf(turn).leave(turn);
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

  private enterFromLine(turn: BudgetTurn): void {
    turn.hold.place = undefined;
    this.count(0, -1);
    this.grant(turn);
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
  override used({ hold, call, caller }: BudgetTurn, usage: Charged): void {
    const shortage = hold.reservation?.report(readAsk(this.name, 'usage', usage));
    if (shortage === undefined) return;
    const error = this.exceeded(shortage);
    this.tellRevoked(call, error);
    caller.revoked(error);
  }

  /** @internal */
  override ended(turn: BudgetTurn, end: CallEnd): void {
    const { reservation, ask } = turn.hold;
    if (reservation === undefined || !this.live.remove(turn)) return;
    const { held: reserved, seen, replayed } = reservation;
    const bill = billOf(end, { reserved, seen }, ask, this.uncaught);
    const findings = reservation.settle(bill.spent, bill.uncertain, end.kind === 'completed');
    this.count(-1, 0);
    this.line.freed(this.ledger);
    if (this.watched) this.tellEnd(turn, end, replayed ? NO_BILL : bill, findings);
    if (end.kind === 'cancelled') this.pumpSoon();
  }

  // Telling

  private tellEnd(turn: BudgetTurn, end: CallEnd, bill: Bill, findings: readonly Finding[]): void {
    const { path } = turn.call.scope;
    this.tellSettled(turn, end);
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
    const victims = this.live.all().filter((turn) => !turn.hold.stopped && this.has(turn));
    for (const { hold } of victims) hold.stopped = true;
    const errors = revokeAll(victims, error);
    victims.forEach(({ call }, i) => this.tellRevoked(call, errors[i] as Error));
    return victims.length;
  }

  private has(turn: BudgetTurn): boolean {
    for (let node: BudgetGate | undefined = gateOf(turn); node !== undefined; node = node.above) if (node === this) return true;
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
function gateOf({ keeper }: BudgetTurn): BudgetGate {
  return keeper as unknown as BudgetGate;
}
