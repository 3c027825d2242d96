import type Anthropic from '@anthropic-ai/sdk';
import { defer, finalize, NEVER, Observable, startWith, type Subscription } from 'rxjs';
import { Semaphore } from '../gates/semaphore.js';
import { bulkhead } from '../operators/bulkhead.js';
import { refuse } from './checks.js';
import { ConversationBusyError } from './errors.js';
import { blocksOf, callIdsOf, freshId, unpaused, type MessageParam } from './historyParts.js';
import { isBlank, sayable } from './inbox.js';
import type { FoldedCall } from './messageFold.js';
import { unfinished, type ToolResult } from './resultOf.js';
import { SeenVersions, type Chat } from './versions.js';

/** A history that turns and agents continue, and that can be looked at and sent at any moment. */
export interface Conversation {
  /**
   * The messages now, in an array of its own. Valid at every moment: every call has its result; a call without one yet says how far it got.
   * A reply is in it once it is complete.
   */
  readonly messages: MessageParam[];
  /** Whether a turn or an agent continues it now. */
  readonly busy: boolean;
  /** Appends messages, for instance the user's next. Throws ConversationBusyError while it is busy. */
  add(...messages: readonly MessageParam[]): void;
}

/** A call of the reply that is being answered. */
export class PendingCall {
  started = false;
  result: ToolResult | undefined = undefined;
  /** What it failed with. */
  error: unknown = undefined;

  constructor(
    /** Unique in the conversation. */
    readonly id: string,
    readonly call: FoldedCall,
    readonly effect: 'none' | 'unknown',
  ) {}

  /** Its result; without one, how far it got. */
  answer(stopped: boolean): ToolResult {
    const { id, call, started, effect } = this;
    return this.result ?? unfinished({ id, name: call.name, started, effect }, stopped);
  }
}

/** What a conversation is to the turn that continues it. */
export class Ledger implements Conversation, Chat {
  busy = false;
  /** What the model knows of versions. */
  readonly versions: SeenVersions = new SeenVersions();
  owner: object;
  trail: readonly string[] = [];
  private readonly settled: MessageParam[];
  /** Where the code that the model runs lives: it wants to go on there. */
  container: Anthropic.Messages.Container | undefined = undefined;
  private queue: Semaphore | undefined = undefined;
  private ids: Set<string> | undefined = undefined;
  private reply: MessageParam | undefined = undefined;
  private calls: readonly PendingCall[] = [];
  private expected: PendingCall[] = [];

  constructor(
    messages: readonly MessageParam[],
    /** Whether others can continue it as well. */
    private readonly shared = false,
  ) {
    this.settled = [...messages];
    this.owner = shared ? this : messages;
  }

  /** Is continued by an agent inside of another one: where it is nobody else's, it belongs to that one's. */
  below(around: Ledger | undefined, name: string): this {
    if (around === undefined || this.shared) return this;
    this.owner = around.owner;
    this.trail = [...around.trail, name];
    return this;
  }

  /** The id of the container, unless it has expired by `now`. */
  containerAt(now: number): string | undefined {
    const { id, expires_at } = this.container ?? {};
    return expires_at !== undefined && Date.parse(expires_at) <= now ? undefined : id;
  }

  private get line(): Semaphore {
    return (this.queue ??= new Semaphore({ name: 'conversation', limit: 1 }));
  }

  get messages(): MessageParam[] {
    return [...this.settled, ...this.unsettled(false)];
  }

  /** Whether there is nothing for the model to answer, or to go on with. */
  get isAnswered(): boolean {
    const last = this.settled.at(-1);
    return last === undefined || (last.role === 'assistant' && unpaused(last) === last);
  }

  add(...messages: readonly MessageParam[]): void {
    if (this.busy) throw new ConversationBusyError();
    if (messages.some(({ content }) => isBlank(content))) throw new TypeError('conversation: messages must have something in them.');
    for (const message of messages) this.say(message);
    this.ids = undefined;
  }

  /** Adds a message. What people say takes the place of the rest of a reply that was paused. */
  say(message: MessageParam): void {
    const { settled } = this;
    const n = settled.length - (isOnlyResults(settled.at(-1)) ? 2 : 1);
    const reply = message.role === 'user' ? settled[n] : undefined;
    if (reply !== undefined) settled.splice(n, 1, ...[unpaused(reply) ?? []].flat());
    settled.push(message);
  }

  /** Lets one turn or agent at a time continue it; another one waits, or errors at once. */
  continued<T>(
    run: () => Observable<T>,
    whenBusy: 'error' | 'wait',
    unread: () => readonly MessageParam['content'][] = () => [],
  ): Observable<T> {
    return defer(() => {
      if (whenBusy === 'error' && (this.busy || (this.queue?.snapshot().waiting ?? 0) > 0)) throw new ConversationBusyError();
      const alone = defer(() => {
        this.busy = true;
        return run().pipe(finalize(() => this.release(unread())));
      });
      return this.shared ? this.inLine(alone) : alone;
    });
  }

  /** The next comes in when this one has ended for its listener: what is still being stopped then changes nothing in the history. */
  private inLine<T>(alone: Observable<T>): Observable<T> {
    return new Observable((out) => {
      let running: Subscription | undefined;
      const start = (): void =>
        void (running = alone.subscribe({
          next: (value) => out.next(value),
          error: (error: unknown) => out.error(error),
          complete: () => out.complete(),
        }));
      const place = NEVER.pipe(startWith(undefined), bulkhead(this.line)).subscribe({
        next: start,
        error: (error: unknown) => out.error(error),
      });
      out.add(() => {
        running?.unsubscribe();
        place.unsubscribe();
      });
    });
  }

  /** The turn or agent has ended or was stopped. */
  private release(unread: readonly MessageParam['content'][]): void {
    this.settle(true);
    for (const content of unread.map(sayable)) if (content !== undefined) this.say({ role: 'user', content });
    this.busy = false;
  }

  /** A call of a reply that is still written. Should the reply never be complete, nothing of it stays. */
  expect(call: FoldedCall, effect: 'none' | 'unknown'): PendingCall {
    const ids = (this.ids ??= callIdsOf(this.settled));
    const pending = new PendingCall(freshId(call.id, ids), call, effect);
    ids.add(pending.id);
    this.expected.push(pending);
    return pending;
  }

  /** Takes a reply. Its calls stay open until `settle`. */
  take(
    message: Anthropic.Messages.Message,
    calls: readonly FoldedCall[],
    effectOf: (name: string) => 'none' | 'unknown',
  ): readonly PendingCall[] {
    const pending = calls.map(
      (call) => this.expected.find((each) => each.call.index === call.index) ?? this.expect(call, effectOf(call.name)),
    );
    const content = blocksOf(message, (index) => pending.find(({ call }) => call.index === index)?.id);
    this.reply = content.length === 0 ? undefined : { role: 'assistant', content };
    this.calls = pending;
    return pending;
  }

  /** The calls are answered, or will not be any more. Returns their results. */
  settle(stopped: boolean): ToolResult[] {
    const results = this.calls.map((call) => call.answer(stopped));
    this.versions.settle(this.reply !== undefined);
    this.settled.push(...this.unsettled(stopped));
    this.reply = undefined;
    this.calls = this.expected = [];
    return results;
  }

  private unsettled(stopped: boolean): MessageParam[] {
    const { reply, calls } = this;
    if (reply === undefined) return [];
    if (calls.length === 0) return [reply];
    return [reply, { role: 'user', content: calls.map((call) => call.answer(stopped)) }];
  }
}

/** Whether a message is nothing but the answer to calls. */
function isOnlyResults(message: MessageParam | undefined): boolean {
  const { content } = message ?? {};
  return Array.isArray(content) && content.every(({ type }) => type === 'tool_result');
}

/**
 * Makes a history that several turns or agents continue one after the other, and that is valid whenever it is looked at: also in the middle of a
 * turn, and after an unsubscribe, an abort or a deadline.
 *
 * *When to use*: to keep a chat, and to save what there is when a run was stopped.
 *
 * @param messages - what was said before; copied. Default: nothing
 * @returns the conversation: pass it as `messages` to `turn` and `agent`
 */
export function conversation(messages: readonly MessageParam[] = []): Conversation {
  if (!Array.isArray(messages)) refuse(TypeError, 'conversation', 'messages', 'an array', messages);
  return new Ledger(messages, true);
}
