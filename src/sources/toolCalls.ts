import type Anthropic from '@anthropic-ai/sdk';
import { defer, filter, map, type OperatorFunction } from 'rxjs';
import type { ToolUse } from './fromTool.js';
import { MessageFold } from './messageFold.js';

/**
 * The calls of one reply, each as soon as the model has moved on from it (to the next block, or to a stop for `tool_use`) and its input is whole
 * JSON. A call that `max_tokens` has cut off is never among them, however complete it looks.
 *
 * @returns an operator; what it emits can go into `fromTool`. Unsubscribing unsubscribes from the source
 */
export function toolCalls(): OperatorFunction<Anthropic.Messages.RawMessageStreamEvent, ToolUse> {
  return (source) =>
    defer(() => {
      const fold = new MessageFold();
      return source.pipe(
        map((event) => fold.take(event)),
        filter((call) => call !== undefined),
        map(({ id, name, input }): ToolUse => ({ id, name, input })),
      );
    });
}
