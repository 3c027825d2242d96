import type Anthropic from '@anthropic-ai/sdk';
import type { ToolEvent } from './fromTool.js';
import type { MessageParam } from './historyParts.js';
import type { ToolResult } from './resultOf.js';

/** What happens in a turn. `turn` counts from 1. `O` is the type of the output that was asked for. */
export type TurnEvent<O = unknown> = { readonly turn: number } & (
  | { /** An event of the model's reply, as it came. */ readonly type: 'model'; readonly event: Anthropic.Messages.RawMessageStreamEvent }
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
      /** What the reply says in the form that was asked for. Absent without the option `output`, and unless the model has come to its end. */
      readonly output?: O | undefined;
    }
);
