import type Anthropic from '@anthropic-ai/sdk';
import { filter, map, pipe, type OperatorFunction } from 'rxjs';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

/** The text of an event; empty if it has none. */
export function textOf(event: StreamEvent): string {
  if (event.type === 'content_block_start') return event.content_block.type === 'text' ? event.content_block.text : '';
  return event.type === 'content_block_delta' && event.delta.type === 'text_delta' ? event.delta.text : '';
}

/**
 * The text of a reply, piece by piece.
 *
 * @returns an operator. Unsubscribing unsubscribes from the source
 */
export function textDeltas(): OperatorFunction<StreamEvent, string> {
  return pipe(
    map(textOf),
    filter((text) => text !== ''),
  );
}
