import { CLAUDE_PRICES, costOf, formatUsd, priceOf } from 'rxfleet';
import type { MessageParams } from 'rxfleet/agents';
import { count } from './text.js';

/** A prompt beyond so many bytes is not sent, so that the worst case of a run is known before it starts. */
export const MAX_PROMPT_BYTES = 90_000;
/** What the API adds to a prompt with tools. */
const TOOL_PROMPT_TOKENS = 1_000;

/** The most that a request can cost, in micro-dollars, whoever counts its tokens. Throws if its prompt is too long. */
export function ceilingOf({ model, max_tokens: maxTokens, ...prompt }: MessageParams): number {
  const bytes = Buffer.byteLength(JSON.stringify(prompt));
  if (bytes > MAX_PROMPT_BYTES)
    throw new RangeError(`The prompt has grown to ${count(bytes)} bytes, ${count(MAX_PROMPT_BYTES)} are allowed.`);
  return worstCase(model, bytes, maxTokens);
}

/** A token is at least one byte. */
const worstCase = (model: string, promptBytes: number, maxTokens: number): number =>
  costOf(CLAUDE_PRICES, model, { input: promptBytes + TOOL_PROMPT_TOKENS, output: maxTokens });

export interface SpendingPlan {
  readonly model: string;
  readonly max_tokens: number;
  /** What may be spent, in micro-dollars. */
  readonly limit: number;
  readonly agents: number;
  /** How many agents each of them may start, all levels together. */
  readonly below: number;
  readonly concurrency: number;
  readonly maxTurns: number;
}

/** What a run may cost, for whoever pays for it. */
export function describeSpending({ model, max_tokens: maxTokens, limit, agents, below, concurrency, maxTurns }: SpendingPlan): string {
  const { input, output } = priceOf(CLAUDE_PRICES, model);
  const requests = agents * (1 + below) * maxTurns;
  const others = below === 0 ? '' : `, each with at most ${below} below it`;
  const worst = requests * worstCase(model, MAX_PROMPT_BYTES, maxTokens);
  const stop = worst > limit ? `, but a request that could pass ${formatUsd(limit)} in all is not sent (--max-usd)` : '';
  return [
    'This run asks the real API, and costs money.',
    `  agents      ${agents}, ${concurrency} at a time${others}, at most ${maxTurns} turns each: at most ${requests} requests`,
    `  model       ${model}, at most ${maxTokens} tokens a reply`,
    `  prices      ${formatUsd(input)} for a million tokens in, ${formatUsd(output)} out`,
    `  worst case  ${formatUsd(worst)}${stop}`,
  ].join('\n');
}
