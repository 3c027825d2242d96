import { CANCELLING, type ScopeNode } from '../core/node.js';
import type { Sink } from '../core/direct.js';
import type { ScopeOptions } from '../core/options.js';
import type { CancelReason } from '../core/types.js';
import type { DepthGate } from '../gates/depthGate.js';
import type { AgentBelow, AgentEvent, AgentStep } from './agentEvent.js';
import type { TurnPlan } from './turnPlan.js';
import { TurnScope } from './turnScope.js';

/** The scope of one run of an agent: one level deeper than what started it, and heard by every agent around it. */
export class AgentScope extends TurnScope<AgentEvent> {
  private readonly above: AgentScope | undefined;
  /** Numbers the agents of a whole tree: only the outermost one counts. */
  private count = 0;
  private readonly number: number;
  /** Those around it have heard of its beginning, and not of its end. */
  private begun = false;

  constructor(
    out: Sink<AgentEvent>,
    options: ScopeOptions,
    plan: TurnPlan,
    /** What bounds them, the outermost first. */
    readonly trees: readonly DepthGate[],
  ) {
    super(out, options, plan);
    this.above = agentAround(this.up);
    this.number = this.above === undefined ? 0 : ++this.outermost.count;
  }

  override get depth(): number {
    return super.depth + 1;
  }

  private get outermost(): AgentScope {
    return this.above?.outermost ?? this;
  }

  override next(event: AgentEvent): void {
    super.next(event);
    if (isStep(event)) this.tell(event);
    else if (event.type === 'agent') this.above?.next(event);
  }

  /** Tells the agents around this one that it has begun. */
  tellStarted(): void {
    this.begun = true;
    this.tell({ type: 'started', name: this.name });
  }

  protected override conclude(reason: CancelReason | undefined): void {
    this.tellEnded(reason);
    super.conclude(reason);
  }

  /** Also where nobody listens to this agent any more, the agents around it hear of its end. */
  override endNow(): void {
    if (this.silent) this.tellEnded(this.cancellation?.reason);
    super.endNow();
  }

  private tellEnded(reason: CancelReason | undefined): void {
    if (!this.begun || this.above === undefined) return;
    this.begun = false;
    if (reason !== undefined && reason.kind !== 'source-error') return this.tell({ type: 'ended', how: 'cancelled', reason });
    const [failure] = this.report().errors;
    this.tell({ type: 'ended', ...(failure === undefined ? { how: 'completed' } : { how: 'failed', error: failure.error }) });
  }

  private tell(event: AgentStep): void {
    const { above, number, path, depth } = this;
    if (above === undefined || above.state >= CANCELLING) return;
    above.next({ type: 'agent', agent: number, parent: above.number, path, depth, event } satisfies AgentBelow);
  }
}

/** The innermost agent that a scope is in. */
export function agentAround(scope: ScopeNode | undefined): AgentScope | undefined {
  for (let node = scope; node !== undefined; node = node.up) if (node instanceof AgentScope) return node;
  return undefined;
}

/** All but what comes many times a second. */
function isStep(event: AgentEvent): event is AgentEvent & AgentStep {
  return event.type === 'tool'
    ? event.event.type !== 'progress'
    : event.type === 'turn' || event.type === 'message' || event.type === 'done';
}
