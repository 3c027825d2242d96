import type Anthropic from '@anthropic-ai/sdk';
import type { ScriptedReply, ReplyBlock } from './reply.js';
import { isRecord } from './shape.js';
import { outputTokensOf, payloadOf } from './tokens.js';

type ContentBlock = Anthropic.Messages.ContentBlock;
type Message = Anthropic.Messages.Message;

/** Counts up, so that two runs of a test see the same ids. */
export interface Ids {
  next(prefix: string): string;
}

export function makeIds(): Ids {
  const last = new Map<string, number>();
  return {
    next: (prefix) => {
      const n = (last.get(prefix) ?? 0) + 1;
      last.set(prefix, n);
      return `${prefix}_${String(n).padStart(4, '0')}`;
    },
  };
}

export interface CompletedMessage {
  /** The message as it looks when it is not streamed. */
  readonly message: Message;
  /** What the model writes for each block. A cut-off input ends in the middle of its JSON here, which `message` cannot show. */
  readonly payloads: readonly string[];
}

/** Makes the message of the API from a scripted one: fills in ids, usage and stop reason, and cuts off what `max_tokens` cuts off. */
export function completeMessage(scripted: ScriptedReply, model: string, inputTokens: number, ids: Ids): CompletedMessage {
  const message = fillIn(scripted, model, inputTokens, ids);
  const payloads = message.content.map(payloadOf);
  const last = message.content.at(-1);
  const lastPayload = payloads.at(-1);
  if (scripted.fault?.kind !== 'max_tokens' || !last || lastPayload === undefined) return { message, payloads };
  const written = lastPayload.slice(0, scripted.fault.keep ?? Math.floor(lastPayload.length / 2));
  const cut = [...payloads.slice(0, -1), written];
  const content = [...message.content.slice(0, -1), cutBlock(last, written)];
  const usage = { ...message.usage, output_tokens: scripted.usage?.output_tokens ?? outputTokensOf(cut) };
  return { message: { ...message, content, stop_reason: 'max_tokens', usage }, payloads: cut };
}

function cutBlock(block: ContentBlock, written: string): ContentBlock {
  if (block.type === 'text') return { ...block, text: written };
  if (block.type === 'thinking') return { ...block, thinking: written, signature: '' };
  if (block.type === 'tool_use' || block.type === 'server_tool_use') return { ...block, input: cutInput(block.input, written.length) };
  return block;
}

/** The properties that were written in full. */
function cutInput(input: unknown, chars: number): unknown {
  if (!isRecord(input)) return {};
  const entries = Object.entries(input);
  while (entries.length > 0 && JSON.stringify(Object.fromEntries(entries)).length - 1 > chars) entries.pop();
  return Object.fromEntries(entries);
}

function fillIn(scripted: ScriptedReply, model: string, inputTokens: number, ids: Ids): Message {
  const content = scripted.content.map((block) => fillInBlock(block, ids));
  const calls = content.some((block) => block.type === 'tool_use');
  return {
    id: ids.next('msg'),
    type: 'message',
    role: 'assistant',
    model,
    content,
    container: scripted.container ?? null,
    diagnostics: null,
    stop_reason: scripted.stop_reason ?? (calls ? 'tool_use' : 'end_turn'),
    stop_sequence: scripted.stop_sequence ?? null,
    stop_details: scripted.stop_details ?? null,
    usage: { ...usageOf(inputTokens, outputTokensOf(content.map(payloadOf))), ...scripted.usage },
  };
}

function fillInBlock(block: ReplyBlock, ids: Ids): ContentBlock {
  if (block.type === 'text') return { citations: null, ...block };
  if (block.type === 'thinking') return { ...block, signature: block.signature ?? ids.next('sig') };
  if (block.type === 'tool_use')
    return { caller: { type: 'direct' }, ...block, input: block.input ?? {}, id: block.id ?? ids.next('toolu') };
  return block;
}

function usageOf(inputTokens: number, outputTokens: number): Anthropic.Messages.Usage {
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cache_creation: null,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: 0,
    inference_geo: null,
    output_tokens_details: null,
    server_tool_use: null,
    service_tier: 'standard',
    speed: null,
  };
}
