import type Anthropic from '@anthropic-ai/sdk';

export type MessageParam = Anthropic.Messages.MessageParam;
type Message = Anthropic.Messages.Message;
type Block = Anthropic.Messages.ContentBlock;
type BlockParam = Anthropic.Messages.ContentBlockParam;

/**
 * The blocks of a reply as they go back to the model: unchanged, but for what the API would refuse – blank texts, thinking that was cut off
 * before its signature or has nothing after it, the API's own calls that were cut off, inputs that are no object, and ids that were used before.
 */
export function blocksOf(message: Message, idOf: (index: number) => string | undefined): BlockParam[] {
  const { content } = message;
  const open = message.stop_reason === 'pause_turn' ? undefined : openCalls(content);
  const cutOff = (block: Block): boolean => open?.has(block) === true;
  const kept = content.map((block, index) => ({ block, id: idOf(index) })).filter(({ block }) => isSendable(block) && !cutOff(block));
  while (isThinking(kept.at(-1)?.block)) kept.pop();
  return kept.map(({ block, id }) => sendable(block, id));
}

/** Calls of the API's own without a result: it runs them when a reply that it has paused is continued. */
function openCalls(content: readonly (Block | BlockParam)[]): Set<Block | BlockParam> {
  const answered = new Set(content.flatMap((block) => ('tool_use_id' in block ? [block.tool_use_id] : [])));
  return new Set(content.filter((block) => block.type === 'server_tool_use' && !answered.has(block.id)));
}

/** A reply that was paused and is not continued, for something else is said after it; undefined if nothing of it is left. */
export function unpaused(reply: MessageParam): MessageParam | undefined {
  if (reply.role !== 'assistant' || typeof reply.content === 'string') return reply;
  const open = openCalls(reply.content);
  if (open.size === 0) return reply;
  const content = reply.content.filter((block) => !open.has(block));
  while (isThinking(content.at(-1))) content.pop();
  return content.length === 0 ? undefined : { ...reply, content };
}

/** Whether the API would take it back. */
export function isSendable(block: Block | BlockParam): boolean {
  if (block.type === 'text') return block.text.trim() !== '';
  return block.type !== 'thinking' || block.signature !== '';
}

export function isThinking(block: Block | BlockParam | undefined): boolean {
  return block?.type === 'thinking' || block?.type === 'redacted_thinking';
}

function sendable(block: Block, id: string | undefined): BlockParam {
  if (!('input' in block)) return block;
  const input = isObject(block.input) ? block.input : {};
  const newId = id ?? block.id;
  return input === block.input && newId === block.id ? block : { ...block, id: newId, input };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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

/** The id itself, unless it is taken. */
export function freshId(id: string, taken: ReadonlySet<string>): string {
  let fresh = id;
  for (let n = 2; taken.has(fresh); n++) fresh = `${id}_${n}`;
  return fresh;
}
