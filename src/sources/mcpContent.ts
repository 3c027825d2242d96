import { brandError, hasBrand } from '../core/errors.js';
import { isRecord, type ContentBlock, type ContentBlocks } from './contentBlocks.js';
import { toJson } from './json.js';
import { mcpPart } from './mcpPart.js';

/** What a call of an MCP tool puts out: text, or several content blocks as the Messages API takes them; undefined if there is nothing. */
export type McpOutput = string | ContentBlocks | undefined;

/** The server says that a call has failed. `content` is what it says about it, for the model. */
export class McpToolError extends Error {
  override readonly name = 'McpToolError';
  /** The server's name of the tool. */
  readonly tool: string;
  readonly content: string | ContentBlocks;

  constructor(tool: string, content: string | ContentBlocks) {
    super(
      typeof content === 'string' ? content : content.map((block) => (block.type === 'text' ? block.text : `[${block.type}]`)).join('\n'),
    );
    this.tool = tool;
    this.content = content;
    brandError(this, 'McpToolError');
  }
}

/** Whether `error` is an McpToolError of any copy of this package. */
export function isMcpToolError(error: unknown): error is McpToolError {
  return hasBrand(error, 'McpToolError');
}

/** Parts of one result; the API takes no more images. */
const MOST_PARTS = 100;

/** What a server answered to a call, as output. Throws an McpToolError if it says that the call failed. */
export function mcpOutput(tool: string, result: unknown, maxDataChars: number): McpOutput {
  const { content, structuredContent, isError, toolResult } = isRecord(result) ? result : {};
  const parts: readonly unknown[] = Array.isArray(content) ? content : [];
  const blocks = blocksOf(parts, maxDataChars);
  const data = structuredContent ?? toolResult;
  if (data !== undefined && !saysAlready(parts, data)) blocks.push({ type: 'text', text: toJson(data) });
  const [first, ...others] = blocks;
  const output = first?.type === 'text' && others.length === 0 ? first.text : first === undefined ? undefined : blocks;
  if (isError === true) throw new McpToolError(tool, output ?? 'The tool failed without giving a reason.');
  return output;
}

function blocksOf(parts: readonly unknown[], maxDataChars: number): ContentBlock[] {
  let left = maxDataChars;
  const blocks = parts.slice(0, MOST_PARTS).map((each) => {
    const { block, dataChars } = mcpPart(each, left);
    left -= dataChars;
    return block;
  });
  const more = parts.length - MOST_PARTS;
  if (more > 0) blocks.push({ type: 'text', text: `[${more} more parts were left out]` });
  return blocks.filter((block) => block.type !== 'text' || block.text.trim() !== '');
}

/** Servers put structured content into a text as well, for clients that do not know it. */
function saysAlready(parts: readonly unknown[], data: unknown): boolean {
  const json = toJson(data);
  return parts.some((part) => isRecord(part) && typeof part['text'] === 'string' && sameJson(part['text'], json));
}

function sameJson(text: string, json: string): boolean {
  try {
    return toJson(JSON.parse(text)) === json;
  } catch {
    return false;
  }
}
