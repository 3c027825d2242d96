import type Anthropic from '@anthropic-ai/sdk';
import { isRecord } from './blockFields.js';

/** Characters of a tool's name that the API takes. */
export const MAX_NAME = 200;

export type MessageParam = Anthropic.Messages.MessageParam;
type Message = Anthropic.Messages.Message;
type Block = Anthropic.Messages.ContentBlock;
type BlockParam = Anthropic.Messages.ContentBlockParam;

const SERVER_CALLS: readonly string[] = ['server_tool_use', 'mcp_tool_use'];

/**
 * The blocks of a reply as they go back to the model: unchanged, but for what the API would refuse – blank texts, thinking that was cut off
 * before its signature or has nothing after it, the API's own calls that nothing goes on with, inputs that are no object, and ids that were
 * used before.
 */
export function blocksOf(message: Message, idOf: (index: number) => string | undefined): BlockParam[] {
  const { content } = message;
  const given = content.map((block, index) => ({ block, id: idOf(index) })).filter(({ block }) => isSendable(block));
  const sent = given.map(({ block, id }) => sendable(block, id));
  return goesOn(message) ? withoutLastThoughts(sent) : withoutOpenCalls(sent);
}

/** Whether the API goes on with its own calls: when the reply is sent again, or when our calls in it, which may be made by its own, are answered. */
function goesOn({ stop_reason, content }: Message): boolean {
  return stop_reason === 'pause_turn' || (stop_reason === 'tool_use' && content.some(({ type }) => type === 'tool_use'));
}

/** A reply that was paused and is not continued, for something else is said after it; undefined if nothing of it is left. */
export function unpaused(reply: MessageParam): MessageParam | undefined {
  if (reply.role !== 'assistant' || typeof reply.content === 'string') return reply;
  if (openCalls(reply.content).size === 0) return reply;
  const content = withoutOpenCalls(reply.content);
  return content.length === 0 ? undefined : { ...reply, content };
}

function withoutOpenCalls(blocks: readonly BlockParam[]): BlockParam[] {
  const open = openCalls(blocks);
  return withoutLastThoughts(
    blocks.filter((block) => !isServerCall(block) || !open.has(block.id)).map((block) => withoutCaller(block, open)),
  );
}

/** The ids of the API's own calls without a result. */
function openCalls(blocks: readonly BlockParam[]): Set<string> {
  const answered = new Set(blocks.flatMap((block) => ('tool_use_id' in block ? [block.tool_use_id] : [])));
  return new Set(blocks.flatMap((block) => (isServerCall(block) && !answered.has(block.id) ? [block.id] : [])));
}

function withoutLastThoughts(blocks: readonly BlockParam[]): BlockParam[] {
  return blocks.slice(0, blocks.findLastIndex((block) => !isThinking(block)) + 1);
}

/** What a call of the API's own calls is called by nobody once that call is gone. */
export function withoutCaller<T extends BlockParam>(block: T, gone: ReadonlySet<string>): T {
  const caller: unknown = 'caller' in block ? block.caller : undefined;
  if (!isRecord(caller) || !gone.has(caller['tool_id'] as string)) return block;
  return Object.fromEntries(Object.entries(block).filter(([name]) => name !== 'caller')) as unknown as T;
}

export function isServerCall(block: BlockParam): block is BlockParam & { readonly id: string } {
  return SERVER_CALLS.includes(block.type);
}

/** Whether the API would take it back. */
export function isSendable(block: Block | BlockParam): boolean {
  if (block.type === 'text') return block.text.trim() !== '';
  return block.type !== 'thinking' || Boolean(block.signature);
}

export function isThinking(block: Block | BlockParam | undefined): boolean {
  return block?.type === 'thinking' || block?.type === 'redacted_thinking';
}

function sendable(block: Block, id: string | undefined): BlockParam {
  if (!('input' in block)) return block;
  const input = isRecord(block.input) ? block.input : {};
  const newId = id ?? block.id;
  const name = block.name.slice(0, MAX_NAME) || 'unknown';
  if (input === block.input && newId === block.id && name === block.name) return block;
  return { ...block, id: newId, name, input } as BlockParam;
}

/** The ids of all calls in a history. */
export function callIdsOf(messages: readonly MessageParam[]): Set<string> {
  const ids = new Set<string>();
  for (const { content } of messages) {
    if (typeof content === 'string') continue;
    for (const block of content) if (block.type === 'tool_use') ids.add(block.id);
  }
  return ids;
}

/** The id itself, unless it is taken, or has characters that the API does not take. */
export function freshId(id: string, taken: ReadonlySet<string>): string {
  const good = id.replace(/[^a-zA-Z0-9_-]/g, '_') || 'call';
  let fresh = good;
  for (let n = 2; taken.has(fresh); n++) fresh = `${good}_${n}`;
  return fresh;
}
