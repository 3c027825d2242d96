import type Anthropic from '@anthropic-ai/sdk';
import { toJson } from './json.js';

type Blocks = Exclude<ResultContent, string>;
export type ResultContent = NonNullable<Anthropic.Messages.ToolResultBlockParam['content']>;

/** What a tool put out, as the content of a `tool_result`: text and content blocks as they are, all else as JSON. Never throws. */
export function contentOf(output: unknown, maxChars: number): ResultContent {
  if (output === undefined) return 'The call completed without output.';
  if (isBlocks(output)) return cutBlocks(output, maxChars);
  return cut(typeof output === 'string' ? output : toJson(output), maxChars);
}

/** The texts together are as long as one text may be. */
function cutBlocks(blocks: Blocks, maxChars: number): Blocks {
  let left = maxChars;
  const kept = blocks.map((block) => {
    if (block.type !== 'text') return block;
    const text = cut(block.text, left);
    left = Math.max(0, left - block.text.length);
    return text === block.text ? block : { ...block, text };
  });
  return kept.every((block, at) => block === blocks[at]) ? blocks : kept;
}

/** Cuts between code points, and says so. Halves of code points, which the API refuses, become the replacement character. */
export function cut(all: string, maxChars: number): string {
  const text = all.replace(/\p{Surrogate}/gu, '\uFFFD');
  if (text.length <= maxChars) return text;
  const kept = text.slice(0, maxChars).replace(/[\uD800-\uDBFF]$/, '');
  return `${kept}\n[cut off: these are the first ${kept.length} of ${text.length} characters]`;
}

const FIELDS: Readonly<Record<string, readonly string[]>> = {
  text: ['type', 'text', 'citations', 'cache_control'],
  image: ['type', 'source', 'cache_control'],
};

/** Whether it is a list of text and image blocks that the API takes as they are. */
function isBlocks(output: unknown): output is Blocks {
  return Array.isArray(output) && output.length > 0 && output.every(isBlock);
}

function isBlock(block: unknown): boolean {
  if (typeof block !== 'object' || block === null) return false;
  const { type, text, source } = block as { type?: unknown; text?: unknown; source?: unknown };
  const fields = typeof type === 'string' && Object.hasOwn(FIELDS, type) ? FIELDS[type] : undefined;
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
