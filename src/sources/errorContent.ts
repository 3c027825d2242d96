import { isRecord } from './contentBlocks.js';
import { cut, cutBlocks, type ResultContent } from './resultContent.js';

/**
 * What an error has to say in content of its own, as the SDK's `ToolError` does; undefined for other errors. The API takes nothing but text with
 * `is_error`, so other blocks are named.
 */
export function contentOfError(error: unknown, maxChars: number): ResultContent | undefined {
  if (!(error instanceof Error) || !('content' in error)) return undefined;
  const { content, message } = error;
  if (typeof content === 'string') return content === message && content.trim() !== '' ? cut(content, maxChars) : undefined;
  if (!Array.isArray(content) || !content.every((block) => isRecord(block) && typeof block['type'] === 'string')) return undefined;
  const texts = (content as readonly Block[]).map(({ type, text }) => ({
    type: 'text' as const,
    text: typeof text === 'string' ? text : `[${type}]`,
  }));
  const said = texts.filter(({ text }) => text.trim() !== '');
  return said.length === 0 ? undefined : cutBlocks(said, maxChars);
}

interface Block {
  readonly type: string;
  readonly text?: unknown;
}
