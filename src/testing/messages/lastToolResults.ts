import { isRecord } from './shape.js';
import type { Fields } from './shape.js';

/** A result that the client has sent back, next to the call it answers. */
export interface SeenToolResult {
  readonly id: string;
  /** The name and the input of the call. */
  readonly name: string;
  readonly input: unknown;
  /** The text of the result: its string, or its text blocks joined by newlines. */
  readonly text: string;
  readonly isError: boolean;
}

/**
 * The tool results that a request brings back, in the order the client gave them: what a script needs to answer as a model would.
 * Empty if the request does not end in tool results.
 *
 * @example
 * ```ts
 * import { lastToolResults, reply, type Script } from 'rxfleet/testing';
 *
 * export const script: Script = (request) => {
 *   const [found] = lastToolResults(request);
 *   return found ? reply.text(`It says: ${found.text}`) : reply.toolUse([{ name: 'search', input: { query: 'rxjs' } }]);
 * };
 * ```
 */
export function lastToolResults(request: { readonly messages: readonly unknown[] }): readonly SeenToolResult[] {
  const messages = request.messages.filter(isRecord);
  const lastReply = messages.map((message) => message['role']).lastIndexOf('assistant');
  const calls = new Map(messages.flatMap(blocksOf).map((block) => [block['id'], block] as const));
  return messages
    .slice(lastReply + 1)
    .flatMap(blocksOf)
    .filter((block) => block['type'] === 'tool_result')
    .map((block) => seen(block, calls.get(block['tool_use_id'])));
}

function seen(result: Fields, call: Fields | undefined): SeenToolResult {
  return {
    id: String(result['tool_use_id']),
    name: String(call?.['name']),
    input: call?.['input'],
    text: textOf(result['content']),
    isError: result['is_error'] === true,
  };
}

function blocksOf(message: Fields): readonly Fields[] {
  const { content } = message;
  return Array.isArray(content) ? content.filter(isRecord) : [];
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  const texts = content.filter(isRecord).filter((block) => block['type'] === 'text');
  return texts.map((block) => String(block['text'])).join('\n');
}
