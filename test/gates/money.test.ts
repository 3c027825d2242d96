import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatUsd, microUsd, usd } from '../../src/gates/money.js';

describe('usd', () => {
  it.each([
    ['0.30', 300_000],
    ['1', 1_000_000],
    ['0', 0],
    ['0.000001', 1],
    ['1.005', 1_005_000],
    ['007.50', 7_500_000],
    ['0.3000000000', 300_000],
    ['9007199254.740991', Number.MAX_SAFE_INTEGER],
  ])('#2.3 a decimal string is exact: %s', (text, micro) => expect(usd(text)).toBe(micro));

  it.each([
    [0.3, 300_000],
    [0.1 + 0.2, 300_000],
    [1.005, 1_005_000],
    [0, 0],
    [1e-6, 1],
    [4_500_000, 4_500_000_000_000],
  ])('#2.3 a number is taken where it can only mean one amount: %d', (dollars, micro) => expect(usd(dollars)).toBe(micro));

  it.each([
    '',
    ' 1',
    '1 ',
    '$1',
    '-1',
    '+1',
    '1e3',
    '.5',
    '1.',
    '1,000',
    '0x10',
    '0.0000001',
    '1.2.3',
    'NaN',
    '٣',
    '9007199254.740992',
    '1'.repeat(400),
  ])('#2.3 a string that is no amount is refused: %j', (text) => expect(() => usd(text)).toThrow(RangeError));

  it.each([NaN, Infinity, -0.01, 0.0000001, 1.0000005, 1 / 3, 1e10])('#2.3 a number that is no amount is refused: %d', (dollars) =>
    expect(() => usd(dollars)).toThrow(RangeError),
  );

  it.each([null, undefined, 1n, true, {}, [], ['1']])('anything else is a TypeError that names the option: %o', (dollars) => {
    expect(() => usd(dollars as never)).toThrow(TypeError);
    expect(() => microUsd('FleetBudget', 'usd', dollars)).toThrow('FleetBudget: usd must be an amount in dollars such as "0.30"');
  });

  it('every amount survives being printed and read, as a string and as a number', () =>
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 31 }), fc.nat({ max: 999_999 }), (whole, micro) => {
        const text = `${whole}.${String(micro).padStart(6, '0')}`;
        const amount = whole * 1_000_000 + micro;
        expect(usd(text)).toBe(amount);
        expect(usd(formatUsd(amount).slice(1))).toBe(amount);
        if (whole < 1_000_000) expect(usd(Number(text))).toBe(amount);
      }),
    ));
});

describe('formatUsd', () => {
  it.each([
    [300_000, '$0.30'],
    [1_000_000, '$1.00'],
    [125, '$0.000125'],
    [1_234_500, '$1.2345'],
    [0, '$0.00'],
    [-50_000, '-$0.05'],
    [Number.MAX_SAFE_INTEGER, '$9007199254.740991'],
  ])('%d is %s', (micro, text) => expect(formatUsd(micro)).toBe(text));

  it('refuses what is no amount', () =>
    expect(() => formatUsd(0.5)).toThrow('formatUsd: micro must be an integer of micro-dollars, got 0.5.'));
});
