import type Anthropic from '@anthropic-ai/sdk';
import { concat, concatMap, defer, from, Observable, of, tap, type Subscriber } from 'rxjs';
import type { Outcome, Scope, ScopeContext } from '../core/types.js';
import { fanOutScoped } from '../operators/fanOutScoped.js';
import type { Ledger, PendingCall } from './conversation.js';
import { ToolInputCutOffError, ToolInputError } from './errors.js';
import { toolEvents, unknownTool, type ToolEvent } from './fromTool.js';
import type { MessageParam } from './historyParts.js';
import { MessageFold } from './messageFold.js';
import { messageStream } from './messageStream.js';
import { errorResult, failureText, resultOf, type ToolResult } from './resultOf.js';
import { textOf } from './textDeltas.js';
import type { TurnPlan } from './turnPlan.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

/** What happens in a turn. `turn` counts from 1. */
export type TurnEvent = { readonly turn: number } & (
  | { /** An event of the model's reply, as it came. */ readonly type: 'model'; readonly event: StreamEvent }
  | { /** A piece of the reply's text. */ readonly type: 'text'; readonly text: string }
  | { /** Something happened to a call. */ readonly type: 'tool'; readonly event: ToolEvent }
  | {
      /** The reply is complete and every call of it is answered. The last event of the turn. */
      readonly type: 'turn';
      readonly message: Anthropic.Messages.Message;
      readonly stop: Anthropic.Messages.StopReason;
      /** One block per call, in the model's order. */
      readonly results: readonly ToolResult[];
      /** The messages from the first to these results, ready to send. */
      readonly history: MessageParam[];
      /** Whether the model waits for another turn. */
      readonly continues: boolean;
      /** The `request-id` header. */
      readonly requestId: string | null;
    }
);

/** One turn over a conversation that the caller has acquired. */
export class TurnRun {
  private readonly fold = new MessageFold();
  private requestId: string | null = null;

  constructor(
    private readonly plan: TurnPlan,
    private readonly ledger: Ledger,
    private readonly scope: Scope,
    private readonly turn: number,
  ) {}

  events(): Observable<TurnEvent> {
    return concat(
      defer(() => this.reply()),
      defer(() => this.answers()),
    );
  }

  private reply(): Observable<TurnEvent> {
    const { client, params, request } = this.plan;
    const onResponse = ({ requestId }: { readonly requestId: string | null }): void => void (this.requestId = requestId);
    const sent = { ...params, messages: this.ledger.messages };
    const stream = messageStream(client, sent, { ...request, within: this.scope, onResponse });
    return new Observable((subscriber) =>
      stream.subscribe({
        next: (event) => this.onEvent(event, subscriber),
        error: (error: unknown) => subscriber.error(error),
        complete: () => subscriber.complete(),
      }),
    );
  }

  private onEvent(event: StreamEvent, out: Subscriber<TurnEvent>): void {
    const { turn } = this;
    this.fold.take(event);
    out.next({ type: 'model', turn, event });
    const text = textOf(event);
    if (text !== '') out.next({ type: 'text', turn, text });
  }

  /** The reply is complete: its calls run, in one scope, and are answered in one batch. */
  private answers(): Observable<TurnEvent> {
    const { message, calls } = this.fold;
    const stop = message.stop_reason ?? 'end_turn';
    const pending = stop === 'refusal' ? [] : this.ledger.take(message, calls, (name) => this.effectOf(name));
    const continues = stop === 'pause_turn' || (pending.length > 0 && this.runsOn(stop));
    const end = defer(() => of(this.end(message, stop, continues)));
    if (pending.length === 0) return end;
    return concat(continues ? this.runAll(pending, stop) : this.refuseAll(pending, stop), end);
  }

  private effectOf(name: string): 'none' | 'unknown' {
    return this.plan.tools.get(name)?.effect === 'none' ? 'none' : 'unknown';
  }

  private runsOn(stop: string): boolean {
    return stop === 'tool_use' || (stop === 'max_tokens' && this.plan.onMaxTokens === 'continue');
  }

  private end(message: Anthropic.Messages.Message, stop: Anthropic.Messages.StopReason, continues: boolean): TurnEvent {
    const { ledger, turn, requestId } = this;
    const results = ledger.settle(true);
    return { type: 'turn', turn, message, stop, results, history: ledger.messages, continues, requestId };
  }

  // Calls

  /** A child's last value is all that a settled fan-out tells, so the events go out beside it. */
  private runAll(pending: readonly PendingCall[], stop: string): Observable<TurnEvent> {
    const { concurrency, scope } = this.plan;
    const graceMs = scope.graceMs === undefined ? {} : { graceMs: scope.graceMs };
    return new Observable((subscriber) => {
      const tell = (event: TurnEvent): void => subscriber.next(event);
      const run = (call: PendingCall, _index: number, ctx: Scope): Observable<ToolEvent> =>
        this.follow(call, this.callOf(call, stop, ctx), tell);
      return from(pending)
        .pipe(fanOutScoped(run, { policy: 'settle', concurrency, within: this.scope, ...graceMs }))
        .subscribe({
          next: (outcome) => noteFailure(pending[outcome.index], outcome),
          error: (error: unknown) => subscriber.error(error),
          complete: () => subscriber.complete(),
        });
    });
  }

  /** Whoever leaves when it is told that a call starts keeps it from running. */
  private follow(call: PendingCall, events: Observable<ToolEvent>, tell: (event: TurnEvent) => void): Observable<ToolEvent> {
    const { turn, plan } = this;
    return events.pipe(
      tap((event) => {
        call.result = resultOf(event, plan.maxResultChars);
        tell({ type: 'tool', turn, event });
        if (event.type === 'started') call.started = true;
      }),
    );
  }

  private callOf({ id, call }: PendingCall, stop: string, ctx: ScopeContext): Observable<ToolEvent> {
    const { name, input } = call;
    const { tools } = this.plan;
    const definition = tools.get(name);
    if (definition === undefined) return unknownTool({ id, name, input }, tools.values());
    if (call.state === 'ready') return toolEvents(definition, { id, name, input }, ctx);
    return of({ id, name, type: 'failed', phase: 'input', error: inputError(call.state, name, stop, call.json), effect: 'none' });
  }

  /** The reply ended in a way after which nothing runs, but in the history every call needs its answer. */
  private refuseAll(pending: readonly PendingCall[], stop: string): Observable<TurnEvent> {
    const { turn } = this;
    return from(pending).pipe(
      concatMap((each) => {
        const { id, call } = each;
        const reason = { kind: 'explicit', reason: `the reply ended with ${stop}` } as const;
        const event: ToolEvent =
          call.state === 'ready'
            ? { id, name: call.name, type: 'cancelled', ran: false, effect: 'none', reason }
            : {
                id,
                name: call.name,
                type: 'failed',
                phase: 'input',
                error: inputError(call.state, call.name, stop, call.json),
                effect: 'none',
              };
        each.result = resultOf(event);
        return of<TurnEvent>({ type: 'tool', turn, event });
      }),
    );
  }
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
