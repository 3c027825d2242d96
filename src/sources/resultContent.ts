import type Anthropic from '@anthropic-ai/sdk';
import type { AgentDone } from './agentEvent.js';
import { changeTexts, isBlocks, type ContentBlocks } from './contentBlocks.js';
import { toJson } from './json.js';

export type ResultContent = NonNullable<Anthropic.Messages.ToolResultBlockParam['content']>;

/** What a tool put out, as the content of a `tool_result`: text and content blocks as they are, all else as JSON. Never throws. */
export function contentOf(output: unknown, maxChars: number): ResultContent {
  if (output === undefined) return 'The call completed without output.';
  if (isBlocks(output)) return cutBlocks(output, maxChars);
  if (isDone(output)) return cut(output.text, maxChars);
  return cut(typeof output === 'string' ? output : toJson(output), maxChars);
}

/** An agent that a tool returned as it is: what it said in the end, not how it came to it. */
function isDone(output: unknown): output is AgentDone {
  const { type, text, history } = (output ?? {}) as Partial<AgentDone>;
  return type === 'done' && typeof text === 'string' && Array.isArray(history);
}

/** The texts together are as long as one text may be. */
export function cutBlocks(blocks: ContentBlocks, maxChars: number): ContentBlocks {
  let left = maxChars;
  return changeTexts(blocks, (text) => {
    const kept = cut(text, left);
    left = Math.max(0, left - text.length);
    return kept;
  });
}

/** Cuts between code points, and says so. Halves of code points, which the API refuses, become the replacement character. */
export function cut(all: string, maxChars: number): string {
  const text = all.replace(/\p{Surrogate}/gu, '\uFFFD');
  if (text.length <= maxChars) return text;
  const kept = text.slice(0, maxChars).replace(/[\uD800-\uDBFF]$/, '');
  return `${kept}\n[cut off: these are the first ${kept.length} of ${text.length} characters]`;
}
