import { EMPTY, from, Observable, type Subscriber } from 'rxjs';
import type { Outcome, Scope, ScopeContext } from '../core/types.js';
import { fanOutScoped } from '../operators/fanOutScoped.js';
import type { PendingCall } from './conversation.js';
import { ToolInputCutOffError, ToolInputError } from './errors.js';
import { toolEvents, unknownTool, type ToolEvent } from './fromTool.js';
import { errorResult, failureText, resultOf } from './resultOf.js';
import type { TurnEvent } from './turnEvent.js';
import type { TurnPlan } from './turnPlan.js';

/** The calls of one complete reply, and their answers. */
export class TurnCalls {
  constructor(
    private readonly plan: TurnPlan,
    private readonly turn: number,
    private readonly pending: readonly PendingCall[],
    /** The stop reason of the reply. */
    private readonly stop: string,
  ) {}

  /** A settled fan-out tells no more than how each child ended, so the events go out beside it. */
  runAll(scope: Scope): Observable<TurnEvent> {
    const { pending } = this;
    const { concurrency, scope: own } = this.plan;
    const graceMs = own.graceMs === undefined ? {} : { graceMs: own.graceMs };
    return new Observable((subscriber) => {
      const run = (call: PendingCall, _index: number, ctx: Scope): Observable<ToolEvent> => this.run(call, ctx, subscriber);
      return from(pending)
        .pipe(fanOutScoped(run, { policy: 'settle', concurrency, within: scope, ...graceMs }))
        .subscribe({
          next: (outcome) => noteFailure(pending[outcome.index], outcome),
          error: (error: unknown) => subscriber.error(error),
          complete: () => subscriber.complete(),
        });
    });
  }

  private run(pending: PendingCall, ctx: ScopeContext, out: Subscriber<TurnEvent>): Observable<ToolEvent> {
    const { id, call } = pending;
    const { name, input } = call;
    const { tools, toolGuard } = this.plan;
    const definition = tools.get(name);
    const hear = (event: ToolEvent): void => this.hear(pending, event, out);
    if (definition !== undefined && call.state === 'ready')
      return toolEvents(definition, { id, name, input }, ctx, { hear, guard: toolGuard });
    hear(definition === undefined ? unknownTool({ id, name }, tools.values()) : badInput(pending, this.stop));
    return EMPTY;
  }

  /** Whoever leaves when it is told that a call starts keeps it from running. */
  private hear(pending: PendingCall, event: ToolEvent, out: Subscriber<TurnEvent>): void {
    const { turn, plan } = this;
    pending.result = resultOf(event, plan.maxResultChars);
    out.next({ type: 'tool', turn, event });
    if (event.type === 'started') pending.started = true;
  }

  /** The reply ended in a way after which nothing runs, but in the history every call needs its answer. */
  refuseAll(): Observable<TurnEvent> {
    const { pending, stop } = this;
    return new Observable((subscriber) => {
      for (const each of pending) this.hear(each, each.call.state === 'ready' ? refused(each, stop) : badInput(each, stop), subscriber);
      subscriber.complete();
    });
  }
}

function refused({ id, call }: PendingCall, stop: string): ToolEvent {
  const reason = { kind: 'explicit', reason: `the reply ended with ${stop}` } as const;
  return { id, name: call.name, type: 'cancelled', ran: false, effect: 'none', reason };
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
