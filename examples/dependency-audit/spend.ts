import { isRecord } from './json.js';
import { dollars } from './text.js';

/** Micro-dollars for a million tokens. `longPrompt` applies to a whole request whose prompt is longer than that many tokens. */
interface Price {
  readonly input: number;
  readonly output: number;
  readonly longPrompt?: { readonly above: number; readonly input: number; readonly output: number };
}

/** List prices of October 2026; see https://platform.claude.com/docs/en/about-claude/pricing before you rely on them. */
export const PRICES: Readonly<Record<string, Price>> = {
  'claude-haiku-5-5': { input: 100_000, output: 500_000, longPrompt: { above: 100_000, input: 500_000, output: 2_500_000 } },
  'claude-haiku-4-5': { input: 1_000_000, output: 5_000_000 },
  'claude-sonnet-5-5': { input: 2_000_000, output: 10_000_000 },
  'claude-opus-5-5': { input: 4_000_000, output: 20_000_000 },
};

export const DEFAULT_MODEL = 'claude-haiku-5-5';

/** A prompt beyond so many bytes is not sent, so that the worst case of a request is known before the run. */
export const MAX_PROMPT_BYTES = 100_000;
/** What the API adds to a prompt with tools. */
const TOOL_PROMPT_TOKENS = 1_000;

/** What a request may cost at most, in micro-dollars. */
export function ceilingOf(model: string, promptBytes: number, maxTokens: number): number {
  // A token is at least one byte.
  return costOf(model, promptBytes + TOOL_PROMPT_TOKENS, maxTokens);
}

/** What a request cost, in micro-dollars, rounded up. */
export function costOf(model: string, inputTokens: number, outputTokens: number): number {
  const price = PRICES[model];
  if (price === undefined) throw new RangeError(`There is no price for ${model}.`);
  const long = price.longPrompt !== undefined && inputTokens > price.longPrompt.above;
  const { input, output } = long ? price.longPrompt : price;
  return Math.ceil((inputTokens * input + outputTokens * output) / 1e6);
}

/** A request was not sent because it could have passed the limit. */
export class SpendLimitError extends Error {
  override readonly name = 'SpendLimitError';
}

/**
 * What may be spent, in whole micro-dollars. A request reserves the most it can cost before it is sent, and gives back what it did not use
 * once its usage is known; so what is spent and what may still be spent never exceed the limit together.
 */
export class Ledger {
  /** For good. */
  spent = 0;
  private readonly held = new Map<number, number>();

  constructor(
    readonly model: string,
    readonly limit: number,
  ) {}

  get reserved(): number {
    return [...this.held.values()].reduce((sum, each) => sum + each, 0);
  }

  /** Reserves the most that the next request of an agent can cost, or throws. */
  reserve(agent: number, params: unknown): void {
    const { max_tokens: maxTokens, ...prompt } = isRecord(params) ? params : {};
    const promptBytes = Buffer.byteLength(JSON.stringify(prompt));
    if (promptBytes > MAX_PROMPT_BYTES)
      throw new SpendLimitError(`The prompt has grown to ${promptBytes} bytes, ${MAX_PROMPT_BYTES} are allowed.`);
    const ceiling = ceilingOf(this.model, promptBytes, Number(maxTokens));
    const { spent, reserved, limit } = this;
    if (spent + reserved + ceiling > limit) {
      const rest = `${dollars(spent)} is spent and ${dollars(reserved)} is reserved by others`;
      throw new SpendLimitError(`The next request may cost ${dollars(ceiling)}, which could pass the limit of ${dollars(limit)}: ${rest}.`);
    }
    this.held.set(agent, ceiling);
  }

  /** The usage of an agent's request is known. */
  settle(agent: number, inputTokens: number, outputTokens: number): void {
    this.spend(agent, costOf(this.model, inputTokens, outputTokens));
  }

  /** A request was broken off: nobody knows what it cost, so all that it reserved is spent. */
  forfeit(agent: number): void {
    this.spend(agent, this.held.get(agent) ?? 0);
  }

  /** A request was refused by the API. */
  release(agent: number): void {
    this.spend(agent, 0);
  }

  private spend(agent: number, microDollars: number): void {
    if (this.held.delete(agent)) this.spent += microDollars;
  }
}

export interface SpendingPlan {
  readonly ledger: Ledger;
  readonly maxTokens: number;
  readonly agents: number;
  readonly concurrency: number;
  readonly maxTurns: number;
}

/** What a run may cost, for whoever pays for it. */
export function describeSpending({ ledger: { model, limit }, maxTokens, agents, concurrency, maxTurns }: SpendingPlan): string {
  const { input = 0, output = 0 } = PRICES[model] ?? {};
  const requests = agents * maxTurns;
  const worst = requests * ceilingOf(model, MAX_PROMPT_BYTES, maxTokens);
  const stop = worst > limit ? `, but a request that could pass ${dollars(limit)} in all is not sent (--max-usd)` : '';
  return [
    'This run asks the real API, and costs money.',
    `  agents      ${agents}, ${concurrency} at a time, at most ${maxTurns} turns each: at most ${requests} requests`,
    `  model       ${model}, at most ${maxTokens} tokens a reply`,
    `  prices      ${dollars(input)} for a million tokens in, ${dollars(output)} out`,
    `  worst case  ${dollars(worst)}${stop}`,
  ].join('\n');
}
