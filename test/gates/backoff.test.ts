import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Backoff } from '../../src/gates/backoff.js';

const full = (random: () => number, baseMs = 500, capMs = 30_000): Backoff => new Backoff({ baseMs, capMs, jitter: 'full', random });

describe('Backoff', () => {
  it('3,000 retries wait a finite time between 0 and the cap #77', () => {
    for (const random of [0, 0.5, 1 - Number.EPSILON]) {
      const backoff = full(() => random);
      for (let retry = 1; retry <= 3_000; retry++) {
        const ms = backoff.delayMs(retry);
        expect(Number.isFinite(ms) && ms >= 0 && ms <= 30_000).toBe(true);
      }
    }
  });

  it('without a cap in reach the wait is still finite #77', () => {
    const backoff = full(() => 1 - Number.EPSILON, 500, Number.MAX_VALUE);
    for (const retry of [1, 60, 1_000, 1_020, 3_000, 1e9]) expect(Number.isFinite(backoff.delayMs(retry))).toBe(true);
  });

  it('the ceiling doubles from the base to the cap', () => {
    const backoff = full(() => 0, 500, 3_000);
    expect([1, 2, 3, 4, 5].map((retry) => backoff.ceilingMs(retry))).toEqual([500, 1_000, 2_000, 3_000, 3_000]);
    expect(full(() => 0, 500, 100).ceilingMs(1)).toBe(100);
    expect(full(() => 0, 0, 100).ceilingMs(3_000)).toBe(0);
  });

  it.each([
    [0, [0, 0, 0]],
    [0.5, [250, 500, 15_000]],
    [1 - Number.EPSILON, [500, 1_000, 30_000]],
  ])('full jitter with chance %d #78', (random, expected) => {
    const backoff = full(() => random);
    expect([1, 2, 20].map((retry) => backoff.delayMs(retry))).toEqual(expected);
  });

  it('full jitter spreads evenly over everything up to the ceiling #78', () => {
    let step = 0;
    const backoff = full(() => step++ / 1_000);
    const waits = Array.from({ length: 1_000 }, () => backoff.delayMs(1));
    expect(new Set(waits).size).toBe(501);
    expect(waits.reduce((sum, ms) => sum + ms, 0) / 1_000).toBeCloseTo(250, 0);
  });

  it('a function draws instead, from the ceiling and the number of the retry, up to the cap', () => {
    const seen: number[][] = [];
    const backoff = new Backoff({
      baseMs: 100,
      capMs: 300,
      random: () => 0,
      jitter: (ceilingMs, retry) => {
        seen.push([ceilingMs, retry]);
        return ceilingMs * 2 - 0.5;
      },
    });
    expect([1, 2, 3].map((retry) => backoff.delayMs(retry))).toEqual([200, 300, 300]);
    expect(seen).toEqual([
      [100, 1],
      [200, 2],
      [300, 3],
    ]);
  });

  it('whatever the rules, the wait is a whole number of milliseconds within them #77', () => {
    const ms = fc.integer({ min: 0, max: 1e9 });
    fc.assert(
      fc.property(ms, ms, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.nat(5_000), (base, cap, random, retry) => {
        const wait = full(() => random, base, cap).delayMs(retry + 1);
        expect(Number.isSafeInteger(wait)).toBe(true);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(cap);
      }),
    );
  });
});
