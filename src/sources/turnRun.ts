import type Anthropic from '@anthropic-ai/sdk';
import { concat, defer, Observable, of, type Subscriber } from 'rxjs';
import type { Scope } from '../core/types.js';
import type { Ledger } from './conversation.js';
import { MessageFold } from './messageFold.js';
import { messageStream } from './messageStream.js';
import { textOf } from './textDeltas.js';
import { TurnCalls } from './turnCalls.js';
import type { TurnEvent } from './turnEvent.js';
import { ModelStreamError } from './errors.js';
import type { TurnPlan } from './turnPlan.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

/** One turn over a conversation that the caller has acquired. */
export class TurnRun {
  private readonly fold = new MessageFold();
  private requestId: string | null = null;
  private seen = 0;

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
    let text: string;
    this.seen++;
    try {
      this.fold.take(event);
      text = textOf(event);
    } catch (cause) {
      return out.error(this.malformed(cause));
    }
    out.next({ type: 'model', turn, event });
    if (text !== '') out.next({ type: 'text', turn, text });
  }

  private malformed(cause: unknown): ModelStreamError {
    return new ModelStreamError('malformed_stream', 'its events do not make a message', {
      requestId: this.requestId,
      events: this.seen,
      cause,
    });
  }

  private folded(): Pick<MessageFold, 'message' | 'calls'> {
    try {
      const { message, calls } = this.fold;
      return { message, calls };
    } catch (cause) {
      throw this.malformed(cause);
    }
  }

  /** The reply is complete: its calls run, in one scope, and are answered in one batch. */
  private answers(): Observable<TurnEvent> {
    const { message, calls } = this.folded();
    const stop = message.stop_reason ?? 'end_turn';
    const pending = stop === 'refusal' ? [] : this.ledger.take(message, calls, (name) => this.effectOf(name));
    const continues = stop === 'pause_turn' || (pending.length > 0 && this.runsOn(stop));
    const end = defer(() => of(this.end(message, stop, continues)));
    if (pending.length === 0) return end;
    const answering = new TurnCalls(this.plan, this.turn, pending, stop);
    return concat(continues ? answering.runAll(this.scope) : answering.refuseAll(), end);
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
}
