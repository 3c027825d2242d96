import { isRecord, isTyped, withKnownFields } from './blockFields.js';
import type { ResultContent } from './resultContent.js';

export { isRecord };

export type ContentBlocks = Exclude<ResultContent, string>;
export type ContentBlock = ContentBlocks[number];

type Fields = Readonly<Record<string, unknown>>;

/** What there is to say of the blocks that a tool may put out, besides which fields they have. */
const FITS: Readonly<Record<string, (block: Fields) => boolean>> = {
  text: ({ text }) => isText(text),
  image: ({ source }) => isSource(source),
  document: ({ source }) => isSource(source) || isTextSource(source),
  search_result: ({ content }) => isTexts(content),
  tool_reference: () => true,
};

/** Whether it is a list of content blocks that the API takes as they are. */
export function isBlocks(output: unknown): output is ContentBlocks {
  return Array.isArray(output) && output.length > 0 && output.every(isBlock);
}

function isBlock(block: unknown): boolean {
  if (!isTyped(block, 'result') || !Object.hasOwn(FITS, block.type)) return false;
  return withKnownFields(block) === block && FITS[block.type]?.(block) === true;
}

function isText(text: unknown): boolean {
  return typeof text === 'string' && text.trim() !== '';
}

function isTexts(content: unknown): boolean {
  return isBlocks(content) && content.every(({ type }) => type === 'text');
}

function isSource(source: unknown): boolean {
  if (!isRecord(source)) return false;
  const { type, url, data, media_type, file_id } = source;
  if (type === 'url') return typeof url === 'string';
  if (type === 'file') return typeof file_id === 'string';
  return type === 'base64' && typeof data === 'string' && typeof media_type === 'string';
}

function isTextSource(source: unknown): boolean {
  return isRecord(source) && source['type'] === 'text' && isText(source['data']) && source['media_type'] === 'text/plain';
}

/** Every text in the blocks put through `change`; blocks without text, and those whose text stays the same, as they are. */
export function changeTexts(blocks: ContentBlocks, change: (text: string) => string): ContentBlocks {
  const changed = blocks.map((block) => changeText(block, change));
  return changed.every((block, at) => block === blocks[at]) ? blocks : changed;
}

function changeText(block: ContentBlock, change: (text: string) => string): ContentBlock {
  if (block.type === 'text') {
    const text = change(block.text);
    return text === block.text ? block : { ...block, text };
  }
  if (block.type === 'search_result') {
    const content = changeTexts(block.content, change);
    return content === block.content ? block : { ...block, content: content as typeof block.content };
  }
  if (block.type !== 'document' || block.source.type !== 'text') return block;
  const data = change(block.source.data);
  return data === block.source.data ? block : { ...block, source: { ...block.source, data } };
}
