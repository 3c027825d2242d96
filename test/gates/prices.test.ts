import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { classifyError } from '../../src/gates/classifyError.js';
import {
  CLAUDE_PRICES,
  CLAUDE_PRICES_DATE,
  costOf,
  isUnknownPriceError,
  priceOf,
  tokenCounts,
  totalTokens,
  UnknownPriceError,
  type Price,
  type PriceTable,
  type Rates,
} from '../../src/gates/prices.js';

const KINDS = ['input', 'output', 'cacheRead', 'cacheWrite5m', 'cacheWrite1h'] as const;
const flat = (rate: number): Price => ({ input: rate, output: rate, cacheRead: rate, cacheWrite5m: rate, cacheWrite1h: rate });

describe('priceOf', () => {
  const prices: PriceTable = { 'm-5': flat(5), 'm-5-5': flat(55), 'm-*': flat(1), 'm-6-*': flat(6) };

  it.each([
    ['m-5', 5],
    ['m-5-5', 55],
    ['m-5-20260101', 5],
    ['m-5@20260101', 5],
    ['m-5-5-20260101', 55],
    ['m-5-6', 1],
    ['m-6-1', 6],
    ['m-', 1],
  ])('%s has the entry of rate %d', (model, rate) => expect(priceOf(prices, model).input).toBe(rate));

  it.each(['claude-opus-5-6', 'claude-haiku-4', 'claude-fable-5-2-preview', 'claude-fable-5-2026', 'gpt', '', 'constructor', '__proto__'])(
    'a model without an entry is an error, never free and never at the price of another version: %j',
    (model) => {
      expect(() => priceOf(CLAUDE_PRICES, model)).toThrow(UnknownPriceError);
      expect(() => costOf(CLAUDE_PRICES, model, {})).toThrow(UnknownPriceError);
    },
  );

  it('the error names the model and what is known, and is local to this side', () => {
    const error = new UnknownPriceError('m-9', Object.keys(prices));
    expect(error).toMatchObject({ code: 'UNKNOWN_PRICE', model: 'm-9', known: ['m-5', 'm-5-5', 'm-*', 'm-6-*'] });
    expect(error.message).toBe('The price table has no entry for model "m-9"; it knows m-5, m-5-5, m-*, m-6-*.');
    expect(isUnknownPriceError(error)).toBe(true);
    expect(isUnknownPriceError(new Error(error.message))).toBe(false);
    expect(classifyError(error)).toBe('local');
  });
});

describe('costOf', () => {
  const model = 'claude-sonnet-5-5';

  it('#2.3 adds all kinds of tokens and rounds up once', () => {
    expect(costOf(CLAUDE_PRICES, model, { input: 1000, output: 500, cacheRead: 10_000, cacheWrite5m: 400, cacheWrite1h: 100 })).toBe(9400);
    expect(costOf(CLAUDE_PRICES, model, {})).toBe(0);
    expect(costOf(CLAUDE_PRICES, model, { input: undefined, output: 1 })).toBe(10);
  });

  it('#2.3 prices below a micro-dollar a token work', () => {
    expect(CLAUDE_PRICES['claude-haiku-5-5']!.cacheRead).toBe(10_000);
    expect(costOf(CLAUDE_PRICES, 'claude-haiku-5-5', { cacheRead: 1 })).toBe(1);
    expect(costOf(CLAUDE_PRICES, 'claude-haiku-5-5', { cacheRead: 90_000 })).toBe(900);
    expect(costOf(CLAUDE_PRICES, 'claude-haiku-5-5', { cacheRead: 90_001 })).toBe(901);
  });

  it('a long prompt, cached parts included, has rates of its own for the whole request', () => {
    const at = { input: 40_000, cacheRead: 40_000, cacheWrite1h: 20_000, output: 1000 };
    expect(costOf(CLAUDE_PRICES, 'claude-haiku-5-5', at)).toBe(4000 + 400 + 4000 + 500);
    expect(costOf(CLAUDE_PRICES, 'claude-haiku-5-5', { ...at, input: 40_001 })).toBe(Math.ceil(20_000.5 + 2000 + 20_000 + 2500));
  });

  it('#2.3 is off by less than one micro-dollar a call, at any rate and count', () =>
    fc.assert(
      fc.property(
        fc.record(Object.fromEntries(KINDS.map((kind) => [kind, fc.nat({ max: 2 ** 31 })])) as Record<keyof Rates, fc.Arbitrary<number>>),
        fc.record(Object.fromEntries(KINDS.map((kind) => [kind, fc.nat({ max: 2_000_000 })])) as Record<keyof Rates, fc.Arbitrary<number>>),
        (rates, tokens) => {
          const exact = KINDS.reduce((sum, kind) => sum + BigInt(rates[kind]) * BigInt(tokens[kind]), 0n);
          const cost = BigInt(costOf({ m: rates }, 'm', tokens)) * 1_000_000n;
          expect(cost >= exact && cost - exact < 1_000_000n).toBe(true);
        },
      ),
    ));

  it.each([NaN, -1, 0.5, Infinity, '1'])('refuses counts that are none: %s', (count) =>
    expect(() => costOf(CLAUDE_PRICES, model, { output: count as number })).toThrow('output tokens must be an integer, 0 or more'),
  );

  it.each([NaN, -1, 0.5, undefined])('refuses rates that are none: %s', (rate) =>
    expect(() => costOf({ m: { ...flat(1), output: rate as number } }, 'm', {})).toThrow(
      'the output rate of m must be an integer, 0 or more',
    ),
  );

  it('refuses a cost that no budget can hold', () =>
    expect(() => costOf({ m: flat(2 ** 50) }, 'm', { input: 2 ** 50 })).toThrow(RangeError));
});

describe('tokenCounts', () => {
  it('reads the usage of a message', () =>
    expect(
      tokenCounts({
        input_tokens: 10,
        output_tokens: 20,
        cache_read_input_tokens: 30,
        cache_creation_input_tokens: 9,
        cache_creation: { ephemeral_5m_input_tokens: 4, ephemeral_1h_input_tokens: 5 },
      }),
    ).toEqual({ input: 10, output: 20, cacheRead: 30, cacheWrite5m: 4, cacheWrite1h: 5 }));

  it('what was written to the cache without saying for how long counts as five minutes', () => {
    expect(tokenCounts({ cache_creation_input_tokens: 7, cache_creation: null })).toMatchObject({ cacheWrite5m: 7, cacheWrite1h: 0 });
    expect(tokenCounts({ input_tokens: null })).toEqual({ input: 0, output: 0, cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 });
  });

  it('totalTokens adds them up', () =>
    expect(totalTokens({ input: 1, output: 2, cacheRead: 3, cacheWrite5m: 4, cacheWrite1h: undefined })).toBe(10));
});

describe('CLAUDE_PRICES', () => {
  it('says of which day it is', () => expect(CLAUDE_PRICES_DATE).toMatch(/^20\d\d-\d\d-\d\d$/));

  it.each(Object.entries(CLAUDE_PRICES))('%s has whole rates: writing to the cache costs 1.25 and 2 times the input', (_, price) => {
    for (const rates of [price, price.longPrompt].filter((each) => each !== undefined)) {
      for (const kind of KINDS) expect(Number.isSafeInteger(rates[kind]) && rates[kind] > 0).toBe(true);
      expect([rates.cacheWrite5m, rates.cacheWrite1h]).toEqual([rates.input * 1.25, rates.input * 2]);
      expect(rates.cacheRead).toBeLessThan(rates.input);
    }
  });
});
