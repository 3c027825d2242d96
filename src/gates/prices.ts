import { refuse } from './checks.js';
import { GateError, isGateError } from './errors.js';

/** Micro-dollars for a million tokens, integers: $3 for a million is 3_000_000. */
export interface Rates {
  readonly input: number;
  readonly output: number;
  /** Input that was read from the prompt cache. */
  readonly cacheRead: number;
  /** Input that was written to it for five minutes. */
  readonly cacheWrite5m: number;
  /** Input that was written to it for an hour. */
  readonly cacheWrite1h: number;
}

/** What a model costs. */
export interface Price extends Rates {
  /** Rates of a whole request whose prompt, cached parts included, is longer than `above` tokens. */
  readonly longPrompt?: (Rates & { readonly above: number }) | undefined;
}

/** Prices by model id; how an id finds its entry is told at `priceOf`. */
export type PriceTable = Readonly<Record<string, Price>>;

/** The tokens of one call, integers. What is left out is 0. */
export type TokenCounts = Readonly<Partial<Record<keyof Rates, number | undefined>>>;

/** The usage of a message as the Messages API reports it. */
export interface MessageUsage {
  readonly input_tokens?: number | null | undefined;
  readonly output_tokens?: number | null | undefined;
  readonly cache_read_input_tokens?: number | null | undefined;
  readonly cache_creation_input_tokens?: number | null | undefined;
  readonly cache_creation?: { readonly ephemeral_5m_input_tokens: number; readonly ephemeral_1h_input_tokens: number } | null | undefined;
}

/** The price table has no entry for the model: what the call costs is not known, and it is not taken for free. */
export class UnknownPriceError extends GateError {
  override readonly name = 'UnknownPriceError';
  readonly code = 'UNKNOWN_PRICE';
  readonly model: string;
  /** The entries that there are. */
  readonly known: readonly string[];

  constructor(model: string, known: readonly string[]) {
    super('prices', `The price table has no entry for model ${JSON.stringify(model)}; it knows ${known.join(', ') || 'none'}.`);
    this.model = model;
    this.known = known;
  }
}

/** Whether `error` is an UnknownPriceError of any copy of this package. */
export function isUnknownPriceError(error: unknown): error is UnknownPriceError {
  return isGateError(error) && error.code === 'UNKNOWN_PRICE';
}

/** The day of `CLAUDE_PRICES`. */
export const CLAUDE_PRICES_DATE: string = '2026-11-10';

/**
 * List prices of the Claude API as published on `CLAUDE_PRICES_DATE`, for standard speed and global routing. They change: compare
 * https://platform.claude.com/docs/en/about-claude/pricing before you rely on them, and pass a table of your own where you pay other rates.
 */
export const CLAUDE_PRICES: PriceTable = {
  'claude-fable-5-2': { input: 8_000_000, output: 40_000_000, cacheRead: 200_000, cacheWrite5m: 10_000_000, cacheWrite1h: 16_000_000 },
  'claude-fable-5-1': { input: 10_000_000, output: 50_000_000, cacheRead: 250_000, cacheWrite5m: 12_500_000, cacheWrite1h: 20_000_000 },
  'claude-fable-5': { input: 10_000_000, output: 50_000_000, cacheRead: 1_000_000, cacheWrite5m: 12_500_000, cacheWrite1h: 20_000_000 },
  'claude-mythos-5-1': { input: 10_000_000, output: 50_000_000, cacheRead: 250_000, cacheWrite5m: 12_500_000, cacheWrite1h: 20_000_000 },
  'claude-mythos-5': { input: 10_000_000, output: 50_000_000, cacheRead: 1_000_000, cacheWrite5m: 12_500_000, cacheWrite1h: 20_000_000 },
  'claude-opus-5-5': { input: 4_000_000, output: 20_000_000, cacheRead: 200_000, cacheWrite5m: 5_000_000, cacheWrite1h: 8_000_000 },
  'claude-opus-5': { input: 5_000_000, output: 25_000_000, cacheRead: 500_000, cacheWrite5m: 6_250_000, cacheWrite1h: 10_000_000 },
  'claude-opus-4-8': { input: 5_000_000, output: 25_000_000, cacheRead: 500_000, cacheWrite5m: 6_250_000, cacheWrite1h: 10_000_000 },
  'claude-opus-4-7': { input: 5_000_000, output: 25_000_000, cacheRead: 500_000, cacheWrite5m: 6_250_000, cacheWrite1h: 10_000_000 },
  'claude-opus-4-6': { input: 5_000_000, output: 25_000_000, cacheRead: 500_000, cacheWrite5m: 6_250_000, cacheWrite1h: 10_000_000 },
  'claude-opus-4-5': { input: 5_000_000, output: 25_000_000, cacheRead: 500_000, cacheWrite5m: 6_250_000, cacheWrite1h: 10_000_000 },
  'claude-sonnet-5-5': { input: 2_000_000, output: 10_000_000, cacheRead: 100_000, cacheWrite5m: 2_500_000, cacheWrite1h: 4_000_000 },
  'claude-sonnet-5': { input: 2_000_000, output: 10_000_000, cacheRead: 200_000, cacheWrite5m: 2_500_000, cacheWrite1h: 4_000_000 },
  'claude-sonnet-4-6': { input: 3_000_000, output: 15_000_000, cacheRead: 300_000, cacheWrite5m: 3_750_000, cacheWrite1h: 6_000_000 },
  'claude-sonnet-4-5': {
    input: 3_000_000,
    output: 15_000_000,
    cacheRead: 300_000,
    cacheWrite5m: 3_750_000,
    cacheWrite1h: 6_000_000,
    longPrompt: {
      above: 200_000,
      input: 6_000_000,
      output: 22_500_000,
      cacheRead: 600_000,
      cacheWrite5m: 7_500_000,
      cacheWrite1h: 12_000_000,
    },
  },
  'claude-haiku-5-5': {
    input: 100_000,
    output: 500_000,
    cacheRead: 10_000,
    cacheWrite5m: 125_000,
    cacheWrite1h: 200_000,
    longPrompt: { above: 100_000, input: 500_000, output: 2_500_000, cacheRead: 50_000, cacheWrite5m: 625_000, cacheWrite1h: 1_000_000 },
  },
  'claude-haiku-4-5': { input: 1_000_000, output: 5_000_000, cacheRead: 100_000, cacheWrite5m: 1_250_000, cacheWrite1h: 2_000_000 },
};

const KINDS = ['input', 'output', 'cacheRead', 'cacheWrite5m', 'cacheWrite1h'] as const satisfies readonly (keyof Rates)[];
/** What may follow an entry's name in a model id: the date of a snapshot. Another version is another model. */
const SNAPSHOT = /^[-@]\d{8}$/;

/**
 * The entry for a model: the one of its very name, or of its name before the date of a snapshot ("claude-haiku-4-5-20251001"), or the
 * longest that ends in `*` and that the name begins with. Throws UnknownPriceError where there is none.
 */
export function priceOf(prices: PriceTable, model: string): Price {
  if (Object.hasOwn(prices, model)) return prices[model] as Price;
  const known = Object.keys(prices);
  const fits = (entry: string): boolean =>
    entry.endsWith('*') ? model.startsWith(entry.slice(0, -1)) : model.startsWith(entry) && SNAPSHOT.test(model.slice(entry.length));
  const found = known.filter(fits).sort((one, other) => other.length - one.length)[0];
  if (found === undefined) throw new UnknownPriceError(model, known);
  return prices[found] as Price;
}

/**
 * What a call costs: computed exactly, and rounded up once.
 *
 * ```ts
 * import { CLAUDE_PRICES, costOf } from 'rxfleet';
 *
 * if (costOf(CLAUDE_PRICES, 'claude-haiku-4-5', { input: 1_000, output: 200 }) !== 2_000) throw new Error('unexpected');
 * ```
 *
 * @param prices - by model; `CLAUDE_PRICES` or your own
 * @param model - its id, which finds its entry as `priceOf` tells
 * @param tokens - integers, 0 where left out; `tokenCounts` reads them from a message's usage
 * @returns integer micro-dollars; throws UnknownPriceError for a model without an entry, and RangeError for counts that are none
 */
export function costOf(prices: PriceTable, model: string, tokens: TokenCounts): number {
  const price = priceOf(prices, model);
  const counts = KINDS.map((kind) => whole(`${kind} tokens`, tokens[kind] ?? 0));
  const prompt = counts.reduce((sum, count) => sum + count, 0n) - counts[1]!;
  const { longPrompt } = price;
  const rates = longPrompt !== undefined && prompt > longPrompt.above ? longPrompt : price;
  const sum = KINDS.reduce((total, kind, at) => total + counts[at]! * whole(`the ${kind} rate of ${model}`, rates[kind]), 0n);
  const cost = Number((sum + 999_999n) / 1_000_000n);
  if (!Number.isSafeInteger(cost)) refuse(RangeError, 'costOf', 'the cost', 'at most 9007199254740991 micro-dollars', cost);
  return cost;
}

function whole(what: string, value: number): bigint {
  if (!Number.isSafeInteger(value) || value < 0) refuse(RangeError, 'costOf', what, 'an integer, 0 or more', value);
  return BigInt(value);
}

/** The counts in a message's usage. What was written to the cache without saying for how long counts as five minutes, the API's default. */
export function tokenCounts(usage: MessageUsage): TokenCounts {
  const { cache_creation: written } = usage;
  const cacheWrite1h = written?.ephemeral_1h_input_tokens ?? 0;
  return {
    input: usage.input_tokens ?? 0,
    output: usage.output_tokens ?? 0,
    cacheRead: usage.cache_read_input_tokens ?? 0,
    cacheWrite5m: Math.max(written?.ephemeral_5m_input_tokens ?? 0, (usage.cache_creation_input_tokens ?? 0) - cacheWrite1h),
    cacheWrite1h,
  };
}

/** All tokens of a call, for a budget that counts them. */
export function totalTokens(tokens: TokenCounts): number {
  return KINDS.reduce((sum, kind) => sum + (tokens[kind] ?? 0), 0);
}
