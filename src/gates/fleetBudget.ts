import { UNITS } from './budgetAccount.js';
import { BudgetGate } from './budgetGate.js';
import { type BudgetAmounts, type BudgetLimits, type ChildLimits, readFractions, readLimits, readRaise } from './budgetLimits.js';
import { booksOf, type BudgetSnapshot } from './budgetPicture.js';
import { type GateOptions, refuse } from './checks.js';
import { BudgetTrippedError, ResourceDisposedError } from './errors.js';
import type { DisposeOptions } from './gateBase.js';
import { LedgerNode } from './ledger.js';

interface AlertOptions {
  /** Fractions of each limit at which to tell, above 0 and up to 1. Default 0.8 and 1, or those of the parent. */
  readonly alerts?: readonly number[] | undefined;
}

export interface FleetBudgetOptions extends GateOptions, BudgetLimits, AlertOptions {}
export interface BudgetChildOptions extends ChildLimits, AlertOptions {}

interface NodeOptions extends GateOptions, BudgetChildOptions {
  readonly parent?: BudgetNode | undefined;
}

const DEFAULT_ALERTS: readonly number[] = [0.8, 1];

/** A node of a fleet's budget: the fleet itself, an agent, one of its tasks. Each is a gate of its own, under those above it. */
export class BudgetNode extends BudgetGate {
  protected readonly ledger: LedgerNode;
  private readonly fractions: readonly number[];
  private readonly nodes: Map<string, BudgetNode> = new Map();
  private readonly parent: BudgetNode | undefined;

  constructor(who: string, options: NodeOptions) {
    super(who, options, (options as NodeOptions | undefined)?.parent);
    const { parent, alerts } = options;
    this.parent = parent;
    this.fractions = alerts === undefined ? (parent?.fractions ?? DEFAULT_ALERTS) : readFractions(who, alerts);
    this.ledger = new LedgerNode(this.name, parent?.ledger, readLimits(who, options, parent?.ledger), this.fractions);
  }

  /** A node below this one, with limits of its own: what it uses counts here as well. */
  child(name: string, limits: BudgetChildOptions): BudgetNode {
    const who = 'FleetBudget.child';
    this.checkOpen();
    if (typeof name !== 'string' || name === '') refuse(TypeError, who, 'name', 'a string that is not empty', name);
    if (this.nodes.has(name)) refuse(RangeError, who, 'name', 'one that no other child has', name);
    const child = new BudgetNode(who, { ...limits, name, scheduler: this.scheduler, parent: this });
    this.nodes.set(name, child);
    return child;
  }

  /** Raises limits by these amounts: whoever waits may come in, and alerts that are above what is spent are armed again. */
  raise(by: BudgetAmounts): void {
    const amounts = readRaise('FleetBudget.raise', by, this.ledger);
    this.ledger.raise(amounts);
    this.line.opened(this.ledger);
    for (const unit of UNITS) if (amounts[unit] > 0) this.note(this.path, 'raised', amounts[unit], unit);
    this.pump();
  }

  /** Begins a new period: nothing is spent, here and below; alerts are armed again. What is reserved stays reserved. */
  reset(): void {
    this.ledger.reset();
    this.line.opened(this.ledger);
    this.note(this.path, 'reset', 0, 'microUsd');
    this.pump();
  }

  /** Stops every call of this node and of those below it, and lets nobody in before `resume()`. */
  trip(reason: unknown): void {
    this.stopped = { reason };
    const error = (): Error => new BudgetTrippedError(this.name, this.path, reason);
    const waiting = this.leaveAll();
    const cancelled = this.stop(error);
    for (const { call, caller } of waiting) this.refuse(call, caller, error());
    this.tell({ type: 'tripped', path: this.path, cancelled, cause: reason });
  }

  /** Lets calls in again after a trip. */
  resume(): void {
    if (this.stopped === undefined) return;
    this.stopped = undefined;
    this.tell({ type: 'resumed' });
  }

  /** Ends this node and those below it; its parent forgets it, and what was spent stays spent. */
  override dispose(options: DisposeOptions = {}): void {
    if (!this.disposed) {
      this.parent?.nodes.delete(this.name);
      this.ledger.detach();
    }
    super.dispose();
    if (options.cancelInFlight) this.stop(() => new ResourceDisposedError(this.name));
  }

  snapshot(): BudgetSnapshot {
    const { name, ledger, inFlight, waiting, stopped, nodes } = this;
    const children = [...nodes.values()].map((node) => node.snapshot());
    return { name, ...booksOf(ledger.accounts), inFlight, waiting, tripped: stopped !== undefined, children };
  }
}

/**
 * What a fleet of agents may spend, in money, tokens and calls: a tree of budgets in integers. A call sets aside the most that it can
 * cost before it starts, at its own node and at all above it, and pays what it has used when it ends; so no limit is passed.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { FleetBudget, fleetBudget, usd } from 'rxfleet';
 *
 * const fleet = new FleetBudget({ name: 'fleet', usd: '1.00' });
 * const agent = fleet.child('agent-7', { usd: '0.30', calls: 100 });
 * of('answer')
 *   .pipe(fleetBudget(agent, { estimate: usd('0.05'), actual: () => usd('0.02') }))
 *   .subscribe();
 * if (fleet.snapshot().microUsd.spent !== 20_000) throw new Error('unexpected');
 * ```
 *
 * Bad options throw TypeError or RangeError. Needs no timer.
 */
export class FleetBudget extends BudgetNode {
  constructor(options: FleetBudgetOptions) {
    super('FleetBudget', options);
  }
}
