import type Anthropic from '@anthropic-ai/sdk';
import { defer, filter, map, type OperatorFunction } from 'rxjs';
import { MessageFold } from './messageFold.js';

/**
 * Puts the events of one reply together: one Message, at `message_stop`.
 *
 * @returns an operator; what it emits is what the API would have answered without a stream. A source that completes before `message_stop` gives
 * nothing. Unsubscribing unsubscribes from the source
 */
export function foldMessage(): OperatorFunction<Anthropic.Messages.RawMessageStreamEvent, Anthropic.Messages.Message> {
  return (source) =>
    defer(() => {
      const fold = new MessageFold();
      return source.pipe(
        filter((event) => {
          fold.take(event);
          return event.type === 'message_stop';
        }),
        map(() => fold.message),
      );
    });
}
