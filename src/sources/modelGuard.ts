import type { Middleware } from '@anthropic-ai/sdk';
import type { BucketCost } from '../gates/bucketCost.js';
import type { Charged, Usage } from '../gates/budgetCharge.js';
import { CLAUDE_PRICES, costOf, tokenCounts, totalTokens, type MessageUsage, type PriceTable } from '../gates/prices.js';
import type { TokenBucket } from '../gates/tokenBucket.js';
import { guard, pick, type Chosen, type Guard, type GuardAsk, type GuardOptions } from '../operators/guard.js';
import { ModelUsage } from './modelUsage.js';
import { rateLimitMiddleware } from './rateLimits.js';
import type { MessageParams } from './request.js';

export interface ModelGuardOptions extends GuardOptions<MessageParams> {
  /** What tokens cost, for the budget. Default CLAUDE_PRICES. A model without a price is refused. */
  readonly prices?: PriceTable | undefined;
  /**
   * How many tokens the input of a request may have, at the most; an integer. Default: a third of the characters of its system prompt, tools and
   * messages. A request that turns out larger extends its reservation or is stopped.
   */
  readonly inputTokens?: ((params: MessageParams) => number) | undefined;
  /** What else a request asks for, or instead of what is worked out here. */
  readonly ask?: ((params: MessageParams) => GuardAsk) | undefined;
}

/** A guard for requests to the model. `middleware` runs in every HTTP attempt: `message`, `turn` and `agent` see to that. */
export type ModelGuard = Guard<MessageParams> & { readonly middleware: Middleware };

const CHARS_PER_TOKEN = 3;

/**
 * Gates in front of requests to the model that know what a request costs: the bucket is asked for its tokens and pays back what was not used,
 * the budget reserves the most that it can cost and settles with its usage, and the rate-limit headers of every HTTP attempt correct the bucket.
 *
 * *When to use*: as the `modelGuard` of `agent` and `turn`, and the `guard` of `message` and `messageStream`; one for everything that shares a key.
 *
 * ```ts
 * import { FleetBudget, RetryGate, TokenBucket } from 'rxfleet';
 * import { modelGuard } from 'rxfleet/agents';
 *
 * const perMinute = (tokens: number) => ({ capacity: tokens, refill: { tokens, everyMs: 60_000 } });
 * const limits = { requests: { ...perMinute(50), cost: 1 }, inputTokens: perMinute(30_000), outputTokens: perMinute(8_000) };
 * const polite = modelGuard({
 *   retry: new RetryGate({ name: 'claude' }),
 *   budget: new FleetBudget({ name: 'fleet', usd: '5' }),
 *   bucket: new TokenBucket({ name: 'claude', limits }),
 * });
 * if (typeof polite !== 'function') throw new Error('unexpected');
 * ```
 *
 * @param options - the gates of `guard`; `prices`; `inputTokens`, an estimate; `ask` for what else a request asks for
 * @returns a guard; requests behind it error with the errors of the gates, or as they would without it
 * @see {@link guard} for the order of the gates
 */
export function modelGuard(options: ModelGuardOptions): ModelGuard {
  const { prices = CLAUDE_PRICES, inputTokens = estimateInput, ask, ...gates } = options;
  const asked = (params: MessageParams): GuardAsk => {
    const input = inputTokens(params);
    const names = limitsOf(gates.bucket, params);
    const priced = pick(gates.budget, params) !== undefined;
    return {
      cost: costIn(names, input, params.max_tokens),
      estimate: priced ? ceiling(prices, params, input) : undefined,
      used: meter(names, priced ? prices : undefined, params.model),
      ...ask?.(params),
    };
  };
  const made = guard<MessageParams>({ ...gates, ask: asked });
  return Object.assign(made, { middleware: rateLimitMiddleware(gates.bucket ?? (() => undefined)) });
}

function estimateInput({ system, tools, messages }: MessageParams): number {
  return Math.ceil(JSON.stringify([system, tools, messages]).length / CHARS_PER_TOKEN);
}

/** The names of a bucket with several limits; a single one counts requests. */
function limitsOf(chosen: Chosen<TokenBucket, MessageParams> | undefined, params: MessageParams): readonly string[] {
  const bucket = pick(chosen, params);
  const names = bucket === undefined ? [] : Object.keys(bucket.snapshot().limits);
  return names.length > 1 ? names : [];
}

function costIn(names: readonly string[], inputTokens: number, outputTokens: number): BucketCost | undefined {
  if (names.length === 0) return undefined;
  const all: Record<string, number> = { inputTokens, outputTokens, tokens: inputTokens + outputTokens };
  return Object.fromEntries(Object.entries(all).filter(([name]) => names.includes(name)));
}

/** The most that a request can cost: every token of the input at its dearest, and all of `max_tokens`. */
function ceiling(prices: PriceTable, params: MessageParams, input: number): Usage {
  const caches = JSON.stringify([params.cache_control, params.system, params.tools, params.messages]).includes('"cache_control"');
  const counts = caches ? { cacheWrite1h: input, output: params.max_tokens } : { input, output: params.max_tokens };
  return { microUsd: costOf(prices, params.model, counts), tokens: input + params.max_tokens, calls: 1 };
}

/** What a request has used, after each of its values. Reads from the cache do not count against rate limits. */
function meter(names: readonly string[], prices: PriceTable | undefined, model: string): NonNullable<GuardAsk['used']> {
  const usage = new ModelUsage();
  return (value) => {
    const known = usage.read(value);
    return known === undefined ? undefined : { cost: used(names, known), charged: prices && charged(prices, model, known) };
  };
}

function used(names: readonly string[], usage: MessageUsage): BucketCost | undefined {
  return costIn(names, (usage.input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0), usage.output_tokens ?? 0);
}

function charged(prices: PriceTable, model: string, usage: MessageUsage): Charged {
  const tokens = tokenCounts(usage);
  return { microUsd: costOf(prices, model, tokens), tokens: totalTokens(tokens), calls: 1 };
}
