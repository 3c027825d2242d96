import type Anthropic from '@anthropic-ai/sdk';
import type { CompletedMessage } from './complete.js';

type ContentBlock = Anthropic.Messages.ContentBlock;
type Delta = Anthropic.Messages.RawContentBlockDelta;
type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

/** An event of a stream, with the output tokens that have been generated once it is out, and whether the model writes something in it. */
export interface PlannedEvent {
  readonly event: StreamEvent;
  readonly tokens: number;
  readonly writes?: boolean;
}

/** One event on the wire. */
export function frame(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

export const PING: string = frame('ping', { type: 'ping' });

/**
 * The events that stream a message, of which `payloads` is what the model writes for each block. Text, thinking and tool inputs go out in deltas,
 * every other block whole in its `content_block_start`.
 */
export function planEvents({ message, payloads }: CompletedMessage, chunkChars: number): readonly PlannedEvent[] {
  const count = tokenCounter(message.usage.output_tokens, payloads);
  return [
    { event: startOf(message), tokens: count('') },
    ...message.content.flatMap((block, index) => planBlock(block, index, payloads[index] ?? '', chunkChars, count)),
    { event: deltaOf(message), tokens: message.usage.output_tokens },
    { event: { type: 'message_stop' }, tokens: message.usage.output_tokens },
  ];
}

/** Spreads the tokens of a message over its characters; the first event has one. */
function tokenCounter(total: number, payloads: readonly string[]): (written: string) => number {
  const chars = payloads.reduce((sum, payload) => sum + payload.length, 0);
  let seen = 0;
  return (written) => {
    seen += written.length;
    return Math.min(total, Math.max(1, Math.round((total * seen) / Math.max(1, chars))));
  };
}

function planBlock(
  block: ContentBlock,
  index: number,
  payload: string,
  chunkChars: number,
  count: (written: string) => number,
): readonly PlannedEvent[] {
  const deltas = deltasOf(block, payload, chunkChars);
  const whole = isWritten(block) ? '' : payload;
  return [
    { event: { type: 'content_block_start', index, content_block: emptyOf(block) }, tokens: count(whole) },
    ...deltas.map(({ delta, written }): PlannedEvent => {
      const event: StreamEvent = { type: 'content_block_delta', index, delta };
      return { event, tokens: count(written), writes: written !== '' };
    }),
    { event: { type: 'content_block_stop', index }, tokens: count('') },
  ];
}

const isWritten = (block: ContentBlock): boolean => ['text', 'thinking', 'tool_use', 'server_tool_use'].includes(block.type);

function emptyOf(block: ContentBlock): ContentBlock {
  if (block.type === 'text') return { ...block, text: '', citations: null };
  if (block.type === 'thinking') return { ...block, thinking: '', signature: '' };
  if (block.type === 'tool_use' || block.type === 'server_tool_use') return { ...block, input: {} };
  return block;
}

interface WrittenDelta {
  readonly delta: Delta;
  readonly written: string;
}

function deltasOf(block: ContentBlock, payload: string, chunkChars: number): readonly WrittenDelta[] {
  const chunks = chunksOf(payload, chunkChars);
  const silent = (delta: Delta): WrittenDelta => ({ delta, written: '' });
  if (block.type === 'text') {
    const texts = chunks.map((written): WrittenDelta => ({ delta: { type: 'text_delta', text: written }, written }));
    return [...texts, ...(block.citations ?? []).map((citation) => silent({ type: 'citations_delta', citation }))];
  }
  if (block.type === 'thinking') {
    const thoughts = chunks.map((written): WrittenDelta => ({ delta: { type: 'thinking_delta', thinking: written }, written }));
    return block.signature === '' ? thoughts : [...thoughts, silent({ type: 'signature_delta', signature: block.signature })];
  }
  if (!isWritten(block)) return [];
  const parts = chunks.map((written): WrittenDelta => ({ delta: { type: 'input_json_delta', partial_json: written }, written }));
  return [silent({ type: 'input_json_delta', partial_json: '' }), ...parts];
}

/** Cuts at code points, so that no chunk ends inside a surrogate pair. */
function chunksOf(payload: string, size: number): readonly string[] {
  return payload.match(new RegExp(`[^]{1,${size}}`, 'gu')) ?? [];
}

function startOf(message: Anthropic.Messages.Message): StreamEvent {
  const usage = { ...message.usage, output_tokens: Math.min(1, message.usage.output_tokens) };
  return {
    type: 'message_start',
    message: { ...message, content: [], stop_reason: null, stop_sequence: null, stop_details: null, usage },
  };
}

function deltaOf(message: Anthropic.Messages.Message): StreamEvent {
  const { container, stop_reason, stop_sequence, stop_details, usage } = message;
  const { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens_details, server_tool_use } =
    usage;
  return {
    type: 'message_delta',
    delta: { container, stop_reason, stop_sequence, stop_details },
    usage: { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens, output_tokens_details, server_tool_use },
  };
}
