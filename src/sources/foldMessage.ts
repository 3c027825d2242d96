import type Anthropic from '@anthropic-ai/sdk';
import { defer, filter, map, type OperatorFunction } from 'rxjs';
import { MessageFold } from './messageFold.js';

/** One Message at `message_stop`, put together from the events of one reply. */
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
