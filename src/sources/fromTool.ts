import { defer, of, type Observable } from 'rxjs';
import { DirectObservable, type Sink } from '../core/direct.js';
import { DeadlineExceededError, isDeadlineExceededError, ScopeError } from '../core/errors.js';
import { CANCELLING, type ScopeNode } from '../core/node.js';
import type { CancelReason, ScopeContext, ScopeFailure } from '../core/types.js';
import { ownError } from './callScope.js';
import { checkContext, checkGuard, checkMilliseconds, refuse } from './checks.js';
import { UnknownToolError, type VersionConflictError } from './errors.js';
import { isSdkTool, sdkDefinition, type SdkTool } from './fromSdkTool.js';
import { rulesWithin } from './rulesWithin.js';
import type { AnyTool, Tool } from './tool.js';
import type { ToolDefinition } from './toolDefinition.js';
import type { ToolRules } from './toolGates.js';
import { Invocation, ToolRun, type ToolPhase } from './toolRun.js';
import type { Chat } from './versions.js';

/** What the model asks for. A `tool_use` block is one. */
export interface ToolUse {
  readonly id: string;
  readonly name: string;
  readonly input: unknown;
}

/**
 * What happened to a call. `id` is the id of the `tool_use` block, `name` the tool's; `edited`, in the last event, the input that a person had put in
 * the place of the model's.
 */
export type ToolEvent<O = unknown> = { readonly id: string; readonly name: string; readonly edited?: unknown } & (
  | {
      /** The input is fine and the tool is about to run. */
      readonly type: 'started';
      /** The parsed input. */
      readonly input: unknown;
      readonly attempt: number;
      /** Labels from the root scope down to the tool. */
      readonly path: readonly string[];
    }
  /**
   * A person is asked whether it may run. `request` names what is asked at the approval gate: the id of the call, unless another call has that there.
   * `input` is as the model wrote it.
   */
  | { readonly type: 'approval'; readonly request: string; readonly input: unknown; readonly path: readonly string[] }
  /**
   * It does not run yet: `calls` of this reply that it depends on have not ended, or other calls hold the `resources` that it reads or writes. `on` are
   * the ids of those calls, or the keys.
   */
  | { readonly type: 'waiting'; readonly for: 'calls' | 'resources'; readonly on: readonly string[] }
  /** Somebody else has written since the version that it is based on. `again`: it runs once more, with the version that is there. */
  | { readonly type: 'conflict'; readonly error: VersionConflictError; readonly again: boolean }
  /** What the tool told with `progress`, and every value but the last of an Observable or an async iterable. */
  | { readonly type: 'progress'; readonly value: unknown }
  /** It is over, and so is everything that it had started. */
  | { readonly type: 'result'; readonly output: O }
  | {
      readonly type: 'failed';
      /**
       * `input`: it never ran. `gate`: its guard refused it, and it never ran. `output`: it ran, and what it returned does not fit its
       * schema. `timeout`: it took too long.
       */
      readonly phase: ToolPhase;
      readonly error: unknown;
      /** Whether it changed something: `none` if it never ran or never changes anything. */
      readonly effect: 'none' | 'unknown';
    }
  | {
      readonly type: 'cancelled';
      /** Whether it had started. */
      readonly ran: boolean;
      /** `none` if it never ran or never changes anything; else it may have completed. */
      readonly effect: 'none' | 'unknown';
      readonly reason: CancelReason;
    }
);

export type FromToolOptions = ToolRules;

/** What a turn gives its calls. */
interface Turning {
  readonly hear?: ((event: ToolEvent) => void) | undefined;
  readonly chat?: Chat | undefined;
  readonly owner?: ScopeNode | undefined;
}

/** A call whose course comes out as events. It never errors. With `hear`, the events go there, and only the end comes out. */
class EventRun extends ToolRun<ToolEvent> {
  private readonly bornAt: number;
  private last: unknown = undefined;
  private values = 0;

  constructor(
    out: Sink<ToolEvent>,
    invocation: Invocation,
    private readonly use: { readonly id: string; readonly name: string },
    private readonly hear: ((event: ToolEvent) => void) | undefined,
    /** The scope of the turn that answers for the call. */
    private readonly owner: ScopeNode | undefined,
  ) {
    super(out, invocation);
    this.bornAt = this.env.clock.scheduler.now();
  }

  /**
   * What fails while it is being stopped is no failure of a turn that goes on, or has failed with something else: it is in the report of its scope,
   * as what came late.
   */
  protected override untold(): readonly ScopeFailure[] {
    const { owner } = this;
    const errors = super.untold();
    const reason = owner?.cancellation?.reason;
    if (owner === undefined || (owner.state >= CANCELLING && reason?.kind !== 'source-error')) return errors;
    const ageMs = this.env.clock.scheduler.now() - this.bornAt;
    for (const { error } of errors) owner.noteLate({ label: this.name, path: this.path, ageMs, status: 'failed', reason: error });
    return [];
  }

  protected override get rules(): ToolRules {
    return rulesWithin(this.up, super.rules);
  }

  next(value: unknown): void {
    if (this.state >= CANCELLING) return;
    if (this.values++ > 0) this.tellProgress(this.last);
    this.last = value;
  }

  protected override tellStarted(input: unknown): void {
    const { id, name } = this.use;
    this.last = undefined;
    this.values = 0;
    this.tell({ id, name, type: 'started', input, attempt: this.attempt, path: this.path });
  }

  protected override tellAsking(input: unknown, request: string): void {
    const { id, name } = this.use;
    this.tell({ id, name, type: 'approval', request, input, path: this.path });
  }

  protected override tellWaiting(reason: 'resources', on: readonly string[]): void {
    const { id, name } = this.use;
    this.tell({ id, name, type: 'waiting', for: reason, on });
  }

  protected override tellConflict(error: VersionConflictError, again: boolean): void {
    const { id, name } = this.use;
    if (this.state < CANCELLING) this.tell({ id, name, type: 'conflict', error, again });
  }

  override tellProgress(value: unknown): void {
    const { id, name } = this.use;
    if (this.state < CANCELLING) this.tell({ id, name, type: 'progress', value });
  }

  private tell(event: ToolEvent): void {
    if (this.hear === undefined) this.emit(event);
    else this.hear(event);
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const { out, hear } = this;
    const event = { ...this.end(reason), ...this.edited };
    if (hear === undefined) out.next(event);
    else hear(event);
    out.complete();
  }

  private end(reason: CancelReason | undefined): ToolEvent {
    const { id, name } = this.use;
    if (reason === undefined && !this.extra?.errors?.length) {
      this.keepVersion();
      return { id, name, type: 'result', output: this.last };
    }
    const report = this.report();
    const effect = this.ran && this.invocation.definition.effect !== 'none' ? 'unknown' : 'none';
    if (reason?.kind === 'deadline') {
      const error = new DeadlineExceededError(reason.ms, reason.label, this.values, report);
      return { id, name, type: 'failed', phase: 'timeout', error, effect };
    }
    if (reason !== undefined && reason.kind !== 'source-error') return { id, name, type: 'cancelled', ran: this.ran, effect, reason };
    const own = ownError(report, reason);
    const error = own === undefined ? new ScopeError(report, this.name) : own.error;
    return { id, name, type: 'failed', phase: this.timedOut(error) ? 'timeout' : this.phase, error, effect };
  }

  /** Behind a guard the time limit of the tool is an error of its call. */
  private timedOut(error: unknown): boolean {
    const { timeoutMs } = this.invocation;
    return this.gated && this.phase === 'run' && isDeadlineExceededError(error) && error.ms === timeoutMs;
  }
}

/**
 * Runs what a model asked for and tells what happened, as events: `started`, `progress`, and then one of `result`, `failed` and `cancelled`.
 *
 * *When to use*: in a loop of your own around the model. `turn` and `agent` do it for you.
 *
 * @param tools - one tool, or several of which the call names one: made with `tool()`, `fromMcp`, or by the SDK's own helpers
 * @param toolUse - a `tool_use` block of the model: `id`, `name` and `input`
 * @param ctx - the scope of the call. Default: the one in whose synchronous subscribe chain it is subscribed, if any
 * @param options - `guard`, what {@link guard} returns: gates that the call passes once its input is fine; `timeoutMs`, for tools without one;
 * `approvals` and `lock`. Default of these two: those of the turn or agent around
 * @returns a cold Observable that never errors: a tool that is unknown, refuses its input, is refused by its guard, throws or takes too long has
 * `failed`. Unsubscribing cancels the call
 * @see {@link toToolResult} for the answer to the model
 */
export function fromTool<O>(
  tool: Tool<never, O>,
  toolUse: ToolUse,
  ctx?: ScopeContext,
  options?: FromToolOptions,
): Observable<ToolEvent<O>>;
export function fromTool(
  tools: SdkTool | readonly (AnyTool | SdkTool)[],
  toolUse: ToolUse,
  ctx?: ScopeContext,
  options?: FromToolOptions,
): Observable<ToolEvent>;
export function fromTool(
  tools: AnyTool | SdkTool | readonly (AnyTool | SdkTool)[],
  toolUse: ToolUse,
  ctx?: ScopeContext,
  options: FromToolOptions = {},
): Observable<ToolEvent> {
  checkContext('fromTool', ctx);
  checkGuard('fromTool', 'guard', options.guard);
  if (options.timeoutMs !== undefined) checkMilliseconds('fromTool', 'timeoutMs', options.timeoutMs);
  const definitions = (isList(tools) ? tools : [tools]).map((each) => definitionOf('fromTool', each));
  const definition = definitions.find(({ name }) => name === toolUse.name);
  return definition === undefined ? defer(() => of(unknownTool(toolUse, definitions))) : toolEvents(definition, toolUse, ctx, options);
}

/** The events of one call of a tool that is known. With `hear`, they go there, and only the end comes out. */
export function toolEvents(
  definition: ToolDefinition,
  { id, name, input }: ToolUse,
  ctx: ScopeContext | undefined,
  { hear, chat, owner, ...options }: FromToolOptions & Turning,
): Observable<ToolEvent> {
  const invocation = new Invocation(definition, input, ctx, id, options, chat);
  return new DirectObservable((sink) => new EventRun(sink, invocation, { id, name }, hear, owner).start());
}

/** What is answered to a call of a tool that is not there. */
export function unknownTool({ id, name }: { readonly id: string; readonly name: string }, known: Iterable<ToolDefinition>): ToolEvent {
  const names = [...known].map((each) => each.name);
  return { id, name, type: 'failed', phase: 'input', error: new UnknownToolError(name, names), effect: 'none' };
}

function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value);
}

/** Throws unless it was made with `tool()`, or by the SDK. */
export function definitionOf(who: string, each: unknown): ToolDefinition {
  if (isSdkTool(each)) return sdkDefinition(who, each);
  const definition = typeof each === 'function' ? (each as Partial<AnyTool>).definition : undefined;
  if (definition === undefined) refuse(TypeError, who, 'tools', 'made with tool()', each);
  return definition;
}
