import type Anthropic from '@anthropic-ai/sdk';
import { Observable, type Subscriber } from 'rxjs';
import { CallObservable, innermost } from '../core/call.js';
import type { ScopeNode } from '../core/node.js';
import type { Scope } from '../core/types.js';
import { failWithin } from '../operators/failWithin.js';
import type { Ledger, PendingCall } from './conversation.js';
import { MessageFold, type FoldedCall } from './messageFold.js';
import { messageStream } from './messageStream.js';
import type { ReadOutput } from './structuredOutput.js';
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
  /** A call with resources waits for the end of the reply: no later one may overtake it. */
  private keepsOrder = false;

  constructor(
    private readonly plan: TurnPlan,
    private readonly ledger: Ledger,
    private readonly scope: Scope,
    private readonly turn: number,
  ) {}

  events(): Observable<TurnEvent> {
    const { turnMs } = this.plan;
    const all = new Observable<TurnEvent>((out) => {
      const owner = this.scope as unknown as ScopeNode;
      const scope = innermost(owner) as unknown as Scope;
      const calls = new TurnCalls(this.plan, this.turn, scope, out, this.ledger, owner);
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
    const { messages } = this.ledger;
    const container = params.container === undefined ? this.ledger.containerAt(this.now) : undefined;
    const sent = { ...params, messages, ...(container !== undefined && { container }) };
    return messageStream(client, sent, { ...request, within: this.scope, onResponse });
  }

  private get now(): number {
    return (this.scope as unknown as ScopeNode).env.clock.scheduler.now();
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

  /** Only a tool that may run for a reply which never becomes complete, and so may be asked for again; a person is not asked about such a call. */
  private startsEarly({ name }: FoldedCall): boolean {
    const { eager, tools } = this.plan;
    const tool = tools.get(name);
    if (!eager || tool === undefined) return false;
    const orders = tool.resources !== undefined;
    const starts = tool.effect !== 'unsafe' && !tool.mayAsk && tool.dependsOn.length === 0 && !(orders && this.keepsOrder);
    if (!starts && orders) this.keepsOrder = true;
    return starts;
  }

  private malformed(cause: unknown): ModelStreamError {
    return new ModelStreamError('malformed_stream', 'its events do not make a message', {
      requestId: this.requestId,
      events: this.seen,
      cause,
    });
  }

  /** The reply is complete: its calls run, in one scope, and are answered in one batch. */
  private onReply(calls: TurnCalls, out: Subscriber<TurnEvent>): void {
    let message: Anthropic.Messages.Message;
    let pending: readonly PendingCall[];
    try {
      ({ message } = this.fold);
      pending = message.stop_reason === 'refusal' ? [] : this.ledger.take(message, this.fold.calls, (name) => this.effectOf(name));
    } catch (cause) {
      return out.error(this.malformed(cause));
    }
    this.ledger.container = message.container ?? this.ledger.container;
    const stop = message.stop_reason ?? 'end_turn';
    const continues = stop === 'pause_turn' || (pending.length > 0 && this.runsOn(stop));
    const end = (): void => this.tell(this.end(message, stop, continues), out);
    if (continues) return calls.runRest(pending, stop, end);
    calls.refuse(pending, stop);
    end();
  }

  /** The last event, with the output in it. The history has the reply by now, also if that does not fit. */
  private tell(event: TurnEvent & { readonly type: 'turn' }, out: Subscriber<TurnEvent>): void {
    const read = event.continues ? {} : (this.plan.output?.read(event.message) ?? {});
    const finish = (result: ReadOutput): void => {
      if ('error' in result) return out.error(result.error);
      out.next(result.output === undefined ? event : { ...event, output: result.output });
      out.complete();
    };
    if (!(read instanceof Promise)) return finish(read);
    const check = new CallObservable(this.scope as unknown as ScopeNode, () => read, { label: 'output' });
    out.add(check.subscribe({ next: finish, error: (error: unknown) => out.error(error) }));
  }

  private effectOf(name: string): 'none' | 'unknown' {
    return this.plan.tools.get(name)?.effect === 'none' ? 'none' : 'unknown';
  }

  private runsOn(stop: string): boolean {
    return stop === 'tool_use' || (stop === 'max_tokens' && this.plan.onMaxTokens === 'continue');
  }

  private end(
    message: Anthropic.Messages.Message,
    stop: Anthropic.Messages.StopReason,
    continues: boolean,
  ): TurnEvent & { readonly type: 'turn' } {
    const { ledger, turn, requestId } = this;
    const results = ledger.settle(true);
    return { type: 'turn', turn, message, stop, results, history: ledger.messages, continues, requestId };
  }
}
