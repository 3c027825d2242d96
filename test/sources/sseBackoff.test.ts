import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SseBackoff } from '../../src/sources/sseBackoff.js';

describe('SseBackoff', () => {
  it('waits twice as long after every failure in a row, up to the longest wait', () => {
    const backoff = new SseBackoff({ maxRetries: 6, minMs: 100, maxMs: 1000 });
    expect(Array.from({ length: 7 }, () => backoff.next(undefined, 0))).toEqual([100, 200, 400, 800, 1000, 1000, undefined]);
  });

  it('starts again after a success', () => {
    const backoff = new SseBackoff({ maxRetries: 2, minMs: 100 });
    expect([backoff.next(undefined, 0), backoff.next(undefined, 0), backoff.next(undefined, 0)]).toEqual([100, 200, undefined]);
    backoff.succeeded();
    expect(backoff.next(undefined, 0)).toBe(100);
  });

  it('the first wait is what the server asked for, and no less than ours', () => {
    const backoff = new SseBackoff({ maxRetries: 9, minMs: 100, maxMs: 5000 });
    expect([backoff.next(10, 0), backoff.next(10, 0), backoff.next(700, 0), backoff.next(700, 0)]).toEqual([100, 200, 2800, 5000]);
    backoff.succeeded();
    expect([backoff.next(0, 0), backoff.next(0, 0)]).toEqual([100, 200]);
    backoff.succeeded();
    expect(backoff.next(1e15, 0)).toBe(5000);
  });

  it('is spread by up to half of itself', () => {
    const backoff = new SseBackoff({ maxRetries: Infinity, minMs: 100, maxMs: 100 });
    expect([0, 0.5, 0.999].map((chance) => backoff.next(undefined, chance))).toEqual([100, 125, 150]);
  });

  it('is never shorter than ours and than what was asked for, never longer than one and a half of the longest, and always a number', () => {
    const ms = fc.nat({ max: 2 ** 30 });
    fc.assert(
      fc.property(
        ms,
        ms,
        fc.option(fc.maxSafeNat(), { nil: undefined }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (minMs, maxMs, asked, chance) => {
          const backoff = new SseBackoff({ maxRetries: Infinity, minMs, maxMs });
          let last = 0;
          for (let i = 0; i < 1100; i++) {
            const wait = backoff.next(asked, chance)!;
            expect(wait).toBeGreaterThanOrEqual(Math.min(Math.max(asked ?? 0, minMs), maxMs));
            expect(wait).toBeLessThanOrEqual(Math.ceil(maxMs * 1.5));
            expect(wait).toBeGreaterThanOrEqual(last);
            last = wait;
          }
        },
      ),
      { numRuns: 20 },
    );
  });
});
