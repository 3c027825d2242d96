import type Anthropic from '@anthropic-ai/sdk';

/** The estimate of the whole server: 4 characters are a token. Deterministic and explainable, not exact. */
const CHARS_PER_TOKEN = 4;

export function estimateTokens(chars: number): number {
  return Math.ceil(chars / CHARS_PER_TOKEN);
}

/** Input tokens of a request: the JSON text of `system`, `tools` and `messages`, at 4 characters a token. */
export function inputTokensOf(body: { readonly system?: unknown; readonly tools?: unknown; readonly messages?: unknown }): number {
  return estimateTokens(JSON.stringify([body.system, body.tools, body.messages]).length);
}

/** What the model has to write for a block: its text, its thinking, its input as JSON; for other blocks the block as JSON. */
export function payloadOf(block: Anthropic.Messages.ContentBlock): string {
  if (block.type === 'text') return block.text;
  if (block.type === 'thinking') return block.thinking;
  if (block.type === 'tool_use' || block.type === 'server_tool_use') return JSON.stringify(block.input ?? {});
  return JSON.stringify(block);
}

export function outputTokensOf(payloads: readonly string[]): number {
  return estimateTokens(payloads.reduce((chars, payload) => chars + payload.length, 0));
}
