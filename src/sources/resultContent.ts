import type Anthropic from '@anthropic-ai/sdk';
import { toJson } from './json.js';

export type ResultContent = NonNullable<Anthropic.Messages.ToolResultBlockParam['content']>;

/** What a tool put out, as the content of a `tool_result`: text and content blocks as they are, all else as JSON. Never throws. */
export function contentOf(output: unknown, maxChars: number): ResultContent {
  if (output === undefined) return 'The call completed without output.';
  if (isBlocks(output)) return output;
  return cut(typeof output === 'string' ? output : toJson(output), maxChars);
}

/** Cuts between code points, and says so. */
export function cut(text: string, maxChars: number): string {
  if (text.length <= maxChars) return text;
  const kept = text.slice(0, maxChars).replace(/[\uD800-\uDBFF]$/, '');
  return `${kept}\n[cut off: these are the first ${kept.length} of ${text.length} characters]`;
}

const FIELDS: Readonly<Record<string, readonly string[]>> = {
  text: ['type', 'text', 'citations', 'cache_control'],
  image: ['type', 'source', 'cache_control'],
};

/** Whether it is a list of text and image blocks that the API takes as they are. */
function isBlocks(output: unknown): output is Exclude<ResultContent, string> {
  return Array.isArray(output) && output.length > 0 && output.every(isBlock);
}

function isBlock(block: unknown): boolean {
  if (typeof block !== 'object' || block === null) return false;
  const { type, text, source } = block as { type?: unknown; text?: unknown; source?: unknown };
  const fields = FIELDS[String(type)];
  if (fields === undefined || Object.keys(block).some((field) => !fields.includes(field))) return false;
  return type === 'text' ? typeof text === 'string' && text.trim() !== '' : isSource(source);
}

function isSource(source: unknown): boolean {
  if (typeof source !== 'object' || source === null) return false;
  const { type, url, data, media_type, file_id } = source as Record<string, unknown>;
  if (type === 'url') return typeof url === 'string';
  if (type === 'file') return typeof file_id === 'string';
  return type === 'base64' && typeof data === 'string' && typeof media_type === 'string';
}
