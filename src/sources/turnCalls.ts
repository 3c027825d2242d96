import { EMPTY, Subject, type Observable, type Subscriber, type Subscription } from 'rxjs';
import type { ScopeNode } from '../core/node.js';
import type { CancelReason, Outcome, Scope, ScopeContext } from '../core/types.js';
import { fanOutScoped } from '../operators/fanOutScoped.js';
import { isApprovalDeniedError, isApprovalExpiredError, isDepthLimitError } from '../gates/errors.js';
import type { DeadlineEnd } from '../operators/deadline.js';
import { takeWithin } from '../operators/takeWithin.js';
import type { PendingCall } from './conversation.js';
import { graceWithin } from './grace.js';
import { isVersionConflictError, ToolInputCutOffError, ToolInputError } from './errors.js';
import { toolEvents, unknownTool, type ToolEvent } from './fromTool.js';
import { DependencyFailedError, isDependencyFailedError } from './graphErrors.js';
import { errorResult, failureText, resultOf } from './resultOf.js';
import { ToolOrder } from './toolOrder.js';
import type { TurnEvent } from './turnEvent.js';
import type { TurnPlan } from './turnPlan.js';
import type { Chat } from './versions.js';

/** The calls of one reply, in one fan-out: those that may start early while the reply is still written, the rest after it. */
export class TurnCalls {
  private feed: Subject<PendingCall> | undefined = undefined;
  private running: Subscription | undefined = undefined;
  private readonly known = new Set<PendingCall>();
  /** Those that were given to the fan-out, in that order. */
  private readonly fed: PendingCall[] = [];
  private readonly order: ToolOrder;
  /** Called when all have ended. */
  private done: (() => void) | undefined = undefined;
  /** The stop reason of the reply, once it is known. */
  private stop = 'tool_use';
  /** All calls of the reply are known. */
  private whole = false;
  /** The time of the group is up. */
  private late = false;
  /** The fan-out has ended. */
  private over = false;

  constructor(
    private readonly plan: TurnPlan,
    private readonly turn: number,
    private readonly scope: Scope,
    private readonly out: Subscriber<TurnEvent>,
    private readonly chat: Chat,
    private readonly owner: ScopeNode,
  ) {
    this.order = new ToolOrder(plan.tools);
  }

  /** Runs a call, as soon as there is a free slot. */
  start(call: PendingCall): void {
    this.expect(call);
    this.go(call);
  }

  /** Runs what has not been started, and calls `done` when all calls have ended. */
  runRest(calls: readonly PendingCall[], stop: string, done: () => void): void {
    this.stop = stop;
    this.done = done;
    const rest = calls.filter((call) => !this.known.has(call));
    for (const call of rest) this.expect(call);
    for (const call of rest) {
      const on = this.order.hold(call);
      if (on.length === 0) this.go(call);
      else this.hear(call, { id: call.id, name: call.call.name, type: 'waiting', for: 'calls', on });
    }
    this.whole = true;
    if (this.feed === undefined || this.over) done();
    else this.close();
  }

  private expect(call: PendingCall): void {
    this.known.add(call);
    this.order.expect(call);
  }

  private go(call: PendingCall): void {
    const failed = this.order.failedFor(call);
    if (call.result !== undefined) return;
    if (this.late) this.tellTimeUp(call);
    else if (failed !== undefined) this.hear(call, needless(call, failed));
    else this.give(call);
  }

  private give(call: PendingCall): void {
    const feed = this.feed ?? this.open();
    this.fed.push(call);
    feed.next(call);
  }

  /** Once nothing more will start. */
  private close(): void {
    if (this.whole && !this.order.holds) this.feed?.complete();
  }

  /** The reply ended in a way after which nothing runs, but in the history every call needs its answer. */
  refuse(calls: readonly PendingCall[], stop: string): void {
    this.unsubscribe();
    const early = [...this.known].filter((call) => call.result === undefined);
    const rest = calls.filter((call) => !this.known.has(call));
    for (const call of [...early, ...rest]) this.hear(call, call.call.state === 'ready' ? refused(call, stop) : badInput(call, stop));
  }

  /** Stops what runs. */
  unsubscribe(): void {
    this.done = undefined;
    this.running?.unsubscribe();
  }

  /** A settled fan-out tells no more than how each child ended, so the events go out beside it. */
  private open(): Subject<PendingCall> {
    const { concurrency, groupMs, scope: own } = this.plan;
    const graceMs = graceWithin(this.scope, own.graceMs, groupMs);
    const feed = (this.feed = new Subject<PendingCall>());
    const run = (call: PendingCall, _index: number, ctx: Scope): Observable<ToolEvent> => this.run(call, ctx);
    const limits = { within: this.scope, graceMs };
    const calls = feed.pipe(fanOutScoped(run, { policy: 'settle', concurrency, ...limits }));
    this.running = (groupMs === undefined ? calls : calls.pipe(takeWithin(groupMs, { ...limits, onEnd: this.onGroupEnd }))).subscribe({
      next: (outcome) => noteFailure(this.fed[outcome.index], outcome),
      error: (error: unknown) => this.out.error(error),
      complete: () => this.ended(),
    });
    return feed;
  }

  /** The model is told of every call that was not finished in time. */
  private readonly onGroupEnd = ({ timedOut }: DeadlineEnd): void => {
    if (!timedOut) return;
    this.late = true;
    for (const call of this.known) if (call.result === undefined) this.tellTimeUp(call);
  };

  private tellTimeUp(call: PendingCall): void {
    const { groupMs: ms = 0 } = this.plan;
    this.hear(call, cancelled(call, { kind: 'deadline', ms }));
  }

  private ended(): void {
    this.over = true;
    this.done?.();
  }

  private run(pending: PendingCall, ctx: ScopeContext): Observable<ToolEvent> {
    const { id, call } = pending;
    const { name, input } = call;
    const { chat, owner, plan } = this;
    const { tools, rules } = plan;
    const definition = tools.get(name);
    const hear = (event: ToolEvent): void => this.hear(pending, event);
    if (definition !== undefined && call.state === 'ready')
      return toolEvents(definition, { id, name, input }, ctx, { hear, chat, owner, ...rules });
    hear(definition === undefined ? unknownTool({ id, name }, tools.values()) : badInput(pending, this.stop));
    return EMPTY;
  }

  /** Whoever leaves when it is told that a call starts keeps it from running. */
  private hear(pending: PendingCall, event: ToolEvent): void {
    const { turn, plan, out } = this;
    pending.result = resultOf(event, plan.maxResultChars);
    out.next({ type: 'tool', turn, event });
    if (event.type === 'started') pending.started = true;
    if (event.type === 'failed') pending.error = event.error;
    if (event.type === 'failed' && plan.onToolError === 'failFast' && !isAnswer(event)) return out.error(event.error);
    if (pending.result === undefined) return;
    for (const call of this.order.ended(pending)) this.go(call);
    this.close();
  }
}

/** What the model did wrong, what a person or a limit of the tree did not allow, and a conflict are answers, never the failure of a tool. */
function isAnswer({ phase, error }: ToolEvent & { readonly type: 'failed' }): boolean {
  return (
    phase === 'input' || [isApprovalDeniedError, isApprovalExpiredError, isDepthLimitError, isVersionConflictError].some((is) => is(error))
  );
}

function refused(call: PendingCall, stop: string): ToolEvent {
  return cancelled(call, { kind: 'explicit', reason: `the reply ended with ${stop}` });
}

function cancelled({ id, call, started: ran, effect }: PendingCall, reason: CancelReason): ToolEvent {
  return { id, name: call.name, type: 'cancelled', ran, effect: ran ? effect : 'none', reason };
}

/** A call that it depends on has failed. */
function needless({ id, call }: PendingCall, failed: { readonly name: string; readonly call: PendingCall }): ToolEvent {
  const { error: cause } = failed.call;
  const root = isDependencyFailedError(cause) ? cause.root : failed.name;
  const error = new DependencyFailedError(call.name, failed.name, root, cause);
  return { id, name: call.name, type: 'failed', phase: 'input', error, effect: 'none' };
}

function badInput({ id, call }: PendingCall, stop: string): ToolEvent {
  const { name, state, json } = call;
  return { id, name, type: 'failed', phase: 'input', error: inputError(state, name, stop, json), effect: 'none' };
}

function inputError(state: string, name: string, stop: string, json: string): Error {
  if (state === 'open') return new ToolInputCutOffError(name, stop, json);
  return new ToolInputError(name, [{ path: '', message: `it is not valid JSON: ${json.slice(0, 200)}` }]);
}

/** Something that the call left behind failed after its last event. */
function noteFailure(call: PendingCall | undefined, outcome: Outcome<ToolEvent>): void {
  if (call === undefined || call.result !== undefined || outcome.status !== 'failed') return;
  call.result = errorResult(call.id, failureText(call.call.name, outcome.reason));
}
