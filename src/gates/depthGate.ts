import type { ScopeNode } from '../core/node.js';
import { checkChoice } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import { checkCount, checkGateOptions, type GateOptions } from './checks.js';
import { DepthNode, DepthTree, type DepthLimits } from './depthTree.js';
import { DepthLimitError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase } from './gateBase.js';
import { Visit } from './visit.js';

export interface DepthGateOptions extends GateOptions {
  /** How deep a call may be: an integer, 0 or more. 0 lets calls start at the root only. Default Infinity. */
  readonly maxDepth?: number | undefined;
  /** How many children of one node may run at once. Default Infinity. */
  readonly maxFanOut?: number | undefined;
  /** How many calls may run at once in all. Default Infinity. */
  readonly maxLive?: number | undefined;
  /** How many calls may ever start. Default Infinity. */
  readonly maxTotal?: number | undefined;
  /** What becomes of a call whose label is above it already. Default 'allow'. */
  readonly cycles?: 'allow' | 'refuse' | undefined;
}

/** What a call tells a depth gate. */
export interface DepthAsk {
  /** Where the call counts. Default: the scope around it. */
  readonly ctx?: ScopeContext | undefined;
  /** Name of the call, at the end of its path. Default: the path is that of where it counts. */
  readonly label?: string | undefined;
  /** Is told of the refusal before the call ends with it. */
  readonly onRefused?: ((refusal: DepthLimitError) => void) | undefined;
}

export interface DepthSnapshot {
  readonly name: string;
  /** Calls that run now. */
  readonly live: number;
  /** Calls that were ever started. */
  readonly total: number;
}

const WHO = 'DepthGate';

interface DepthHold {
  readonly node: DepthNode;
  /** Whether all gates in front of the call have let it go. */
  ran: boolean;
}

/**
 * Bounds a tree of calls that start calls: how deep, how wide, how many at once, how many ever.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { DepthGate, depthLimit } from 'rxfleet';
 *
 * const bounds = new DepthGate({ maxDepth: 2, maxFanOut: 5, maxLive: 20, maxTotal: 200 });
 * of('answer').pipe(depthLimit(bounds)).subscribe((word) => console.log(word, bounds.snapshot().live));
 * ```
 *
 * A call is one deeper than the guarded call around it, and at least as deep as its scope, where each agent and each
 * `child()` is one level. Those are also the nodes whose children are counted; an agent or a `child()` counts while a guarded
 * call runs in it. A call counts until nothing of it runs any more. Nobody waits here, so there is no timer. Bad options throw
 * TypeError or RangeError.
 */
export class DepthGate extends GateBase<DepthSnapshot, Visit<DepthHold>> implements Gate<DepthAsk> {
  private readonly tree: DepthTree;
  /** The guarded calls in flight, and the places in the tree that they were started from, by their scopes. */
  private readonly calls = new WeakMap<object, DepthNode>();
  private readonly places = new WeakMap<object, DepthNode>();

  constructor(options: DepthGateOptions) {
    checkGateOptions(WHO, options);
    super(WHO, 'depth', options);
    const { maxDepth = Infinity, maxFanOut = Infinity, maxLive = Infinity, maxTotal = Infinity, cycles = 'allow' } = options;
    const limits: DepthLimits = { maxDepth, maxFanOut, maxLive, maxTotal, cycles };
    for (const limit of ['maxDepth', 'maxFanOut', 'maxLive', 'maxTotal'] as const) checkCount(WHO, limit, limits[limit], 0, true);
    checkChoice(WHO, 'cycles', cycles, ['allow', 'refuse']);
    this.tree = new DepthTree(limits);
  }

  enter({ ctx, label, onRefused }: DepthAsk, call: Call, caller: Caller): Withdraw {
    this.checkOpen();
    const scope = call.scope as unknown as ScopeNode;
    const from = ctx === undefined ? scope.up : (ctx as unknown as ScopeNode);
    const over = ctx === undefined ? undefined : from?.refusal();
    if (over !== undefined) throw over.error;
    const parent = this.nodeAt(from);
    const depth = Math.max((ctx ?? scope).depth, 1 + (this.callAt(scope.up)?.depth ?? -1));
    const around = (ctx ?? scope).path;
    const path = label === undefined ? around : [...around, label];
    const refusal = this.tree.refusal(parent, depth, path);
    if (refusal !== undefined) {
      const error = new DepthLimitError(this.name, refusal.limit, refusal.max, path);
      onRefused?.(error);
      this.refuse(call, caller, error);
      return nothing;
    }
    const node = this.tree.add(parent, depth);
    this.calls.set(call.scope, node);
    this.pass(new Visit(this, call, caller, { node, ran: false }));
    return nothing;
  }

  snapshot(): DepthSnapshot {
    const { name, tree } = this;
    return { name, live: tree.live, total: tree.total };
  }

  /** @internal */
  override began({ hold }: Visit<DepthHold>): void {
    hold.ran = true;
  }

  /** @internal */
  override left(visit: Visit<DepthHold>, end: CallEnd): void {
    const { hold, call } = visit;
    const { node, ran } = hold;
    if (!this.live.remove(visit)) return;
    this.tree.remove(node, ran);
    if (this.calls.get(call.scope) === node) this.calls.delete(call.scope);
    this.tellSettled(visit, end);
  }

  /** The innermost guarded call at or above a scope. */
  private callAt(scope: ScopeNode | undefined): DepthNode | undefined {
    for (let at = scope; at !== undefined; at = at.up) {
      const call = this.calls.get(at);
      if (call !== undefined) return call;
    }
    return undefined;
  }

  /** The innermost node of the tree at or above a scope: a guarded call, an agent, a `child()`, or the root scope. */
  private nodeAt(scope: ScopeNode | undefined): DepthNode | undefined {
    for (let at = scope; at !== undefined; at = at.up) {
      const call = this.calls.get(at);
      if (call !== undefined) return call;
      if (at.up === undefined || at.depth > at.up.depth) return this.placeAt(at);
    }
    return undefined;
  }

  private placeAt(scope: ScopeNode): DepthNode {
    let place = this.places.get(scope);
    if (place === undefined) this.places.set(scope, (place = new DepthNode(this.nodeAt(scope.up), scope.depth, 'place')));
    return place;
  }
}
