import type Anthropic from '@anthropic-ai/sdk';
import { Observable, type Subscriber } from 'rxjs';
import type { Scope } from '../core/types.js';
import { failWithin } from '../operators/failWithin.js';
import type { Ledger } from './conversation.js';
import { MessageFold, type FoldedCall } from './messageFold.js';
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
    const { turnMs } = this.plan;
    const all = new Observable<TurnEvent>((out) => {
      const calls = new TurnCalls(this.plan, this.turn, this.scope, out, this.ledger.versions);
      out.add(calls);
      out.add(
        this.reply().subscribe({
          next: (event) => this.onEvent(event, calls, out),
          error: (error: unknown) => out.error(error),
          complete: () => this.onReply(calls, out),
        }),
      );
    });
    return turnMs === undefined ? all : all.pipe(failWithin(turnMs, { within: this.scope, label: `turn ${this.turn}` }));
  }

  private reply(): Observable<StreamEvent> {
    const { client, params, request } = this.plan;
    const onResponse = ({ requestId }: { readonly requestId: string | null }): void => void (this.requestId = requestId);
    const sent = { ...params, messages: this.ledger.messages };
    return messageStream(client, sent, { ...request, within: this.scope, onResponse });
  }

  private onEvent(event: StreamEvent, calls: TurnCalls, out: Subscriber<TurnEvent>): void {
    const { turn } = this;
    let text: string;
    let released: FoldedCall | undefined;
    this.seen++;
    try {
      released = this.fold.take(event);
      text = textOf(event);
    } catch (cause) {
      return out.error(this.malformed(cause));
    }
    out.next({ type: 'model', turn, event });
    if (text !== '') out.next({ type: 'text', turn, text });
    if (released !== undefined && this.startsEarly(released)) calls.start(this.ledger.expect(released, this.effectOf(released.name)));
  }

  /** Only a tool that may run for a reply which never becomes complete, and so may be asked for again. */
  private startsEarly({ name }: FoldedCall): boolean {
    const tool = this.plan.tools.get(name);
    return this.plan.eager && tool !== undefined && tool.effect !== 'unsafe' && tool.dependsOn.length === 0;
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
  private onReply(calls: TurnCalls, out: Subscriber<TurnEvent>): void {
    let folded: Pick<MessageFold, 'message' | 'calls'>;
    try {
      folded = this.folded();
    } catch (error) {
      return out.error(error);
    }
    const { message } = folded;
    const stop = message.stop_reason ?? 'end_turn';
    const pending = stop === 'refusal' ? [] : this.ledger.take(message, folded.calls, (name) => this.effectOf(name));
    const continues = stop === 'pause_turn' || (pending.length > 0 && this.runsOn(stop));
    const end = (): void => {
      out.next(this.end(message, stop, continues));
      out.complete();
    };
    if (continues) return calls.runRest(pending, stop, end);
    calls.refuse(pending, stop);
    end();
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
