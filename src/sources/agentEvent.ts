import type Anthropic from '@anthropic-ai/sdk';
import type { CancelReason } from '../core/types.js';
import type { MessageParam } from './historyParts.js';
import type { TurnEvent } from './turnEvent.js';

/** Tokens of all turns together, as the API counts them. */
export interface AgentUsage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_creation_input_tokens: number;
  readonly cache_read_input_tokens: number;
}

/** How an agent ended. */
export interface AgentDone<O = unknown> {
  readonly type: 'done';
  /** The stop reason of the last reply; `max_turns` if the model would have gone on. */
  readonly stop: Anthropic.Messages.StopReason | 'max_turns';
  readonly turns: number;
  /** The last reply. */
  readonly message: Anthropic.Messages.Message;
  /** The text of the last reply. */
  readonly text: string;
  /** What the last reply says in the form that was asked for. Absent without the option `output`, and unless the model has come to its end. */
  readonly output?: O | undefined;
  /** All messages, ready to be continued. */
  readonly history: MessageParam[];
  readonly usage: AgentUsage;
  /** What came in through `inbox$` too late, or after `maxTurns`. */
  readonly unread: readonly MessageParam['content'][];
}

/** Something that came in through `inbox$` has joined the conversation; the next turn answers it. */
export interface AgentMessage {
  readonly type: 'message';
  /** The turn after which it joined: 0 before the first. */
  readonly turn: number;
  readonly content: MessageParam['content'];
  /** There was nothing in it that could be sent: it has not joined. */
  readonly ignored?: true;
}

/** An agent has begun. */
export interface AgentStarted {
  readonly type: 'started';
  readonly name: string;
}

/** An agent is over, and so is everything that it had started. */
export type AgentEnded = { readonly type: 'ended' } & (
  | { readonly how: 'completed' }
  | { readonly how: 'failed'; readonly error: unknown }
  | { readonly how: 'cancelled'; readonly reason: CancelReason }
);

/** What the agents around an agent hear of it: everything but the pieces of its replies and the progress of its tools. */
export type AgentStep = AgentStarted | Extract<TurnEvent, { readonly type: 'tool' | 'turn' }> | AgentMessage | AgentDone | AgentEnded;

/** Something has happened in an agent that was started inside of this one, at any depth. */
export interface AgentBelow {
  readonly type: 'agent';
  /** Its number in the tree: 1 for the first that was started inside of the outermost one, and so on. */
  readonly agent: number;
  /** The number of the agent around it; 0 for the outermost. */
  readonly parent: number;
  /** Labels from the root scope down to it. */
  readonly path: readonly string[];
  /** Its level: one more than that of the agent around it. */
  readonly depth: number;
  readonly event: AgentStep;
}

/** What happens in an agent: the events of its turns and of the agents below it, and how it ended. */
export type AgentEvent<O = unknown> = TurnEvent<O> | AgentMessage | AgentBelow | AgentDone<O>;
