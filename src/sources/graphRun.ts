import { EMPTY, Observable, type Subscriber, type Unsubscribable } from 'rxjs';
import { captureContext, type AsyncBinding } from '#context';
import type { Sink } from '../core/direct.js';
import { ScopeCancelledError } from '../core/errors.js';
import { CANCELLING } from '../core/node.js';
import type { ScopeOptions } from '../core/options.js';
import { OutputScope } from '../core/output.js';
import { relay, tearDown } from '../core/relay.js';
import type { CancelReason, Outcome, Scope } from '../core/types.js';
import { KeyedLock } from '../gates/keyedLock.js';
import { fanOutScoped } from '../operators/fanOutScoped.js';
import { UnknownToolError } from './errors.js';
import { toolEvents, type ToolEvent } from './fromTool.js';
import { GraphPlan, type PlannedCall, type PlanNode, type PlanStep } from './graphPlan.js';
import { rulesWithin } from './rulesWithin.js';
import type { ToolDefinition } from './toolDefinition.js';
import type { ToolRules } from './toolGates.js';

/** What happened to a call of a plan. `index` is its position in the plan. */
export type GraphEvent<O = unknown> = ToolEvent<O> & { readonly index: number };

/** Checked options. */
export interface GraphSettings {
  readonly tools: ReadonlyMap<string, ToolDefinition>;
  readonly concurrency: number;
  readonly policy: 'answer' | 'failFast';
  readonly rules: ToolRules;
  readonly scope: ScopeOptions;
}

/** A call that has not ended. */
interface Unanswered {
  /** Whether the fan-out has it. */
  fed: boolean;
  /** Whether it was told to run. */
  ran: boolean;
  /** The async context in which it came. */
  readonly binding: AsyncBinding | undefined;
}

/** One run of a plan: a scope around a fan-out, which is fed with the calls that can run. */
export class GraphRun extends OutputScope<Outcome<ToolEvent>, GraphEvent> {
  private readonly plan = new GraphPlan();
  /** In the order of the plan. */
  private readonly unanswered = new Map<PlanNode, Unanswered>();
  /** How many of those have not been given to the fan-out. */
  private unfed = 0;
  /** What the calls of each tool are referred to by. */
  private readonly byTool = new Map<string, string[]>();
  private readonly rules: ToolRules;
  private feed: Subscriber<PlanNode> | undefined = undefined;
  /** The source has completed. */
  private whole = false;
  /** What was found out while the graph was being stopped: nobody hears of it before everything has stopped. */
  private readonly held: GraphEvent[] = [];

  constructor(
    out: Sink<GraphEvent>,
    private readonly settings: GraphSettings,
  ) {
    super(out, settings.scope);
    const { lock = new KeyedLock({ name: 'resources' }), ...rules } = rulesWithin(this.up, settings.rules);
    this.rules = { ...rules, lock };
  }

  start(source: Observable<PlannedCall>): void {
    const { concurrency, scope } = this.settings;
    const run = (node: PlanNode, _index: number, ctx: Scope): Observable<ToolEvent> => this.run(node, ctx);
    const ready = new Observable<PlanNode>((feed) => this.read(source, feed));
    this.begin(() => ready.pipe(fanOutScoped(run, { policy: 'settle', concurrency, within: this, graceMs: scope.graceMs })));
  }

  /** A settled fan-out tells no more than how each child ended: the events go out beside it. */
  next(): void {}

  // The plan

  private read(source: Observable<PlannedCall>, feed: Subscriber<PlanNode>): void {
    let handle: Unsubscribable | undefined;
    this.feed = feed;
    feed.add(() => tearDown(handle, this));
    relay(source, {
      attach: (given) => void (handle = given),
      next: (call) => this.add(call),
      error: (error) => this.stopWith({ kind: 'source-error', error }, 'source'),
      complete: () => this.planned(),
      torn: (error) => this.torn(error),
    });
  }

  private add(value: PlannedCall): void {
    if (this.state >= CANCELLING) return;
    const { tools } = this.settings;
    const refuse = ({ name }: PlannedCall): unknown => (tools.has(name) ? undefined : new UnknownToolError(name, [...tools.keys()]));
    try {
      const { node, step } = this.plan.add(this.ordered(value), refuse);
      this.note(node);
      this.unanswered.set(node, { fed: false, ran: false, binding: captureContext() });
      this.unfed++;
      this.take(step);
    } catch (error) {
      this.stopWith({ kind: 'source-error', error }, 'source');
    }
  }

  /** Calls of tools that the tool of this one depends on come first, as far as they are in the plan already. */
  private ordered(call: PlannedCall): PlannedCall {
    const { name, dependsOn = [] } = (call ?? {}) as Partial<PlannedCall>;
    const before = this.needs(name).flatMap((each) => this.byTool.get(each) ?? []);
    if (before.length === 0 || !Array.isArray(dependsOn)) return call;
    return { ...call, dependsOn: [...(dependsOn as string[]), ...before] };
  }

  private note({ call, key }: PlanNode): void {
    if (key === '') return;
    const { name = '' } = call ?? {};
    const same = this.byTool.get(name);
    if (same === undefined) this.byTool.set(name, [key]);
    else same.push(key);
  }

  private needs(name: string | undefined): readonly string[] {
    return this.settings.tools.get(name as string)?.dependsOn ?? [];
  }

  private planned(): void {
    this.whole = true;
    this.take(this.plan.close());
  }

  private take({ failed, ready }: PlanStep): void {
    for (const node of failed) if (this.unanswered.has(node)) this.tell(node, failure(node));
    for (const node of ready) this.release(node);
    if (this.whole && this.unfed === 0) this.feed?.complete();
  }

  private release(node: PlanNode): void {
    const open = this.unanswered.get(node);
    if (open === undefined) return;
    open.fed = true;
    this.unfed--;
    const give = (): void => this.feed?.next(node);
    if (open.binding === undefined) give();
    else open.binding.run(give, undefined);
  }

  // The calls

  private run(node: PlanNode, ctx: Scope): Observable<ToolEvent> {
    const { rules, settings } = this;
    const { id, name } = node.call as PlannedCall;
    let input: unknown;
    try {
      input = this.plan.inputOf(node);
    } catch (error) {
      this.take(this.plan.fail(node, error));
      return EMPTY;
    }
    const hear = (event: ToolEvent): void => this.hear(node, event);
    return toolEvents(settings.tools.get(name) as ToolDefinition, { id, name, input }, ctx, { hear, ...rules });
  }

  private hear(node: PlanNode, event: ToolEvent): void {
    this.tell(node, event);
    if (this.state >= CANCELLING) return;
    if (event.type === 'result') this.take(this.plan.resolve(node, event.output));
    else if (event.type === 'failed') this.take(this.plan.fail(node, event.error));
    else if (event.type === 'cancelled') this.take(this.plan.fail(node, new ScopeCancelledError(event.reason)));
  }

  private tell(node: PlanNode, event: ToolEvent): void {
    const { index } = node;
    const open = this.unanswered.get(node);
    if (event.type === 'result' || event.type === 'failed' || event.type === 'cancelled') {
      if (open?.fed === false) this.unfed--;
      this.unanswered.delete(node);
    }
    if (this.state >= CANCELLING) return void this.held.push({ ...event, index });
    this.emit({ ...event, index });
    // Whoever stops the graph when it is told that a call starts keeps it from running.
    if (event.type === 'started' && open !== undefined) open.ran = this.state < CANCELLING;
    if (event.type === 'failed' && this.settings.policy === 'failFast')
      this.stopWith({ kind: 'sibling-failed', index, error: event.error }, 'run');
  }

  // Ending

  private stopWith(reason: CancelReason & { readonly error: unknown }, phase: 'source' | 'run'): void {
    if (this.state >= CANCELLING) return;
    (this.more.errors ??= []).push({ error: reason.error, phase, ...(reason.kind === 'sibling-failed' && { index: reason.index }) });
    this.cancelWith(reason);
  }

  protected override get waiting(): number {
    return this.unfed;
  }

  /** Everything has stopped: now every call that was not answered is. A fan-out's children are silent once they are cancelled. */
  protected override conclude(reason: CancelReason | undefined): void {
    for (const event of this.held) this.out.next(event);
    for (const [node, { ran }] of this.unanswered) this.out.next(this.stopped(node, ran, reason ?? { kind: 'explicit' }));
    const [first, ...others] = this.more.errors ?? [];
    if (first !== undefined && others.length === 0 && first.phase !== 'cleanup') this.out.error(first.error);
    else super.conclude(reason);
  }

  private stopped({ call, index }: PlanNode, ran: boolean, cause: CancelReason): GraphEvent {
    const { id, name } = call as PlannedCall;
    const effect = ran && this.settings.tools.get(name)?.effect !== 'none' ? 'unknown' : 'none';
    return { id, name, index, type: 'cancelled', ran, effect, reason: { kind: 'parent-cancelled', cause } };
  }
}

function failure({ call, failure: problem }: PlanNode): ToolEvent {
  const { id, name } = call as PlannedCall;
  return { id, name, type: 'failed', phase: 'input', error: problem?.error, effect: 'none' };
}
