import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BucketLevel } from '../../src/gates/bucketLevel.js';

function level(capacity: number, tokens: number, everyMs: number, initial = capacity): BucketLevel {
  const made = new BucketLevel(capacity, { tokens, everyMs }, initial);
  made.refill(0);
  return made;
}

const rates = fc.record({
  capacity: fc.integer({ min: 1, max: 5000 }),
  tokens: fc.integer({ min: 1, max: 5000 }),
  everyMs: fc.integer({ min: 1, max: 5000 }),
});

describe('BucketLevel', () => {
  it('#2.2 is min(capacity, anchor + floor(dt * tokens / everyMs)), the remainder kept', () => {
    const bucket = level(10, 1, 3, 0);
    const seen = [1, 2, 3, 4, 5, 6, 29, 30, 31].map((t) => (bucket.refill(t), bucket.value));
    expect(seen).toEqual([0, 0, 1, 1, 1, 2, 9, 10, 10]);
  });

  it('#2.2 is exact for any split of time: no drift', () =>
    fc.assert(
      fc.property(rates, fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 50 }), ({ capacity, tokens, everyMs }, steps) => {
        // So large that it is never full: what came in is then floor(t * tokens / everyMs), whatever was read in between.
        const wide = level(capacity + 1_000_000 * tokens, tokens, everyMs, 0);
        let at = 0;
        for (const step of steps) {
          at += step;
          wide.refill(at);
          expect(wide.value).toBe(Number((BigInt(at) * BigInt(tokens)) / BigInt(everyMs)));
        }
      }),
    ));

  it('#2.2 stays exact for an hour of single milliseconds at a third of a token', () => {
    const bucket = level(10_000_000, 1, 3, 0);
    for (let t = 1; t <= 3_600_000; t++) bucket.refill(t);
    expect(bucket.value).toBe(1_200_000);
  });

  it('#2.2 the wait is exact: a millisecond before it there is not enough', () =>
    fc.assert(
      fc.property(rates, fc.nat(), fc.nat(), fc.nat(), ({ capacity, tokens, everyMs }, spent, later, wanted) => {
        const bucket = level(capacity, tokens, everyMs);
        bucket.take(spent % (capacity + 1));
        const now = later % 10_000;
        bucket.refill(now);
        const cost = (wanted % capacity) + 1;
        const due = bucket.dueAt(cost);
        if (due === -Infinity) {
          expect(bucket.value).toBeGreaterThanOrEqual(cost);
          return;
        }
        expect(due).toBeGreaterThan(now);
        bucket.refill(due - 1);
        expect(bucket.value).toBeLessThan(cost);
        bucket.refill(due);
        expect(bucket.value).toBeGreaterThanOrEqual(cost);
      }),
    ));

  it('#57 never holds more than its capacity, however long it was idle', () => {
    const bucket = level(5, 1, 100, 2);
    bucket.refill(1e12);
    expect(bucket.value).toBe(5);
    bucket.take(5);
    bucket.refill(1e12 + 99);
    expect(bucket.value).toBe(0);
    bucket.refill(1e12 + 100);
    expect(bucket.value).toBe(1);
  });

  it('#2.2 keeps products exact: the largest bucket that is allowed refills to the token', () => {
    const refill = { tokens: 999_999_937, everyMs: 86_400_000 };
    const capacity = Math.floor(Number.MAX_SAFE_INTEGER / 2 / refill.everyMs);
    expect(BucketLevel.fits(capacity, refill)).toBe(true);
    expect(BucketLevel.fits(capacity + 1, refill)).toBe(false);
    const bucket = new BucketLevel(capacity, refill, 0);
    bucket.refill(1_700_000_000_000);
    bucket.adjust(-capacity);
    let at = 1_700_000_000_000;
    for (const step of [1, 4, 1, 7, 1]) {
      at += step;
      bucket.refill(at);
      const since = BigInt(at - 1_700_000_000_000);
      const came = (since * BigInt(refill.tokens)) / BigInt(refill.everyMs);
      expect(bucket.value).toBe(Math.min(capacity, Number(came) - capacity));
    }
  });

  it('#2.2 takes a common divisor out of the refill, so that a day of a billion tokens is allowed', () => {
    expect(BucketLevel.fits(1_000_000_000, { tokens: 1_000_000_000, everyMs: 86_400_000 })).toBe(true);
    expect(BucketLevel.fits(1_000_000_000, { tokens: 999_999_937, everyMs: 86_400_000 })).toBe(false);
  });

  it('#54 goes on beyond 2^32 milliseconds', () => {
    const bucket = new BucketLevel(10, { tokens: 1, everyMs: 1000 }, 0);
    bucket.refill(2 ** 32 - 1);
    bucket.refill(2 ** 32 + 999);
    expect(bucket.value).toBe(1);
    expect(bucket.dueAt(2)).toBe(2 ** 32 + 1999);
    bucket.refill(2 ** 45);
    expect(bucket.value).toBe(10);
  });

  it('#C7 starts to count at its first use, not when it is made', () => {
    const bucket = new BucketLevel(10, { tokens: 1, everyMs: 1 }, 0);
    bucket.refill(1_700_000_000_000);
    expect(bucket.value).toBe(0);
  });

  it('#54 a time that does not go on gives nothing and loses nothing', () => {
    const bucket = level(10, 1, 10, 3);
    bucket.refill(7);
    bucket.refill(7);
    bucket.refill(2);
    expect(bucket.value).toBe(3);
    bucket.refill(10);
    expect(bucket.value).toBe(4);
  });

  it('counts whole milliseconds of a clock that has fractions', () => {
    const bucket = new BucketLevel(10, { tokens: 1, everyMs: 1 }, 0);
    bucket.refill(0.9);
    bucket.refill(1.1);
    expect(bucket.value).toBe(1);
    bucket.refill(1.9);
    expect(bucket.value).toBe(1);
  });

  it('#2.2 a refund is clamped to the capacity, a debt to minus the capacity; what is dropped is told', () => {
    const bucket = level(10, 1, 1, 8);
    expect(bucket.adjust(1)).toBe(0);
    expect(bucket.adjust(5)).toBe(4);
    expect(bucket.value).toBe(10);
    expect(bucket.adjust(-15)).toBe(0);
    expect(bucket.value).toBe(-5);
    expect(bucket.adjust(-8)).toBe(3);
    expect(bucket.value).toBe(-10);
  });

  it('#57 once it is full, nothing of a next token is kept', () => {
    const bucket = level(10, 1, 10);
    bucket.take(5);
    bucket.refill(9);
    bucket.adjust(5);
    bucket.take(1);
    expect(bucket.dueAt(10)).toBe(19);
  });

  it('#2.2 a debt is refilled like everything else', () => {
    const bucket = level(10, 1, 10, 0);
    bucket.adjust(-4);
    expect(bucket.dueAt(1)).toBe(50);
    bucket.refill(50);
    expect(bucket.value).toBe(1);
  });

  it('stays within its bounds, whatever is done to it', () =>
    fc.assert(
      fc.property(
        rates,
        fc.array(fc.tuple(fc.constantFrom('refill', 'take', 'adjust', 'drain', 'set', 'hold'), fc.integer({ min: -9000, max: 9000 }))),
        ({ capacity, tokens, everyMs }, steps) => {
          const bucket = level(capacity, tokens, everyMs);
          let at = 0;
          for (const [what, n] of steps) {
            if (what === 'refill') bucket.refill((at += Math.abs(n)));
            else if (what === 'take') bucket.take(Math.max(0, Math.min(bucket.value, n)));
            else if (what === 'adjust') bucket.adjust(n);
            else if (what === 'set') bucket.set(n);
            else if (what === 'drain') bucket.drain();
            else bucket.notFullBefore(n, at);
            expect(Number.isSafeInteger(bucket.value)).toBe(true);
            expect(bucket.value).toBeLessThanOrEqual(capacity);
            expect(bucket.value).toBeGreaterThanOrEqual(-capacity);
          }
        },
      ),
    ));

  it('drained it is empty, and what was refilled of the next token is gone; a debt stays', () => {
    const bucket = level(10, 1, 10, 7);
    bucket.refill(9);
    bucket.drain();
    expect(bucket.value).toBe(0);
    expect(bucket.dueAt(1)).toBe(19);
    bucket.adjust(-3);
    bucket.drain();
    expect(bucket.value).toBe(-3);
  });

  it('#2.2 is not full before the server says so: the refill is held back', () => {
    const bucket = level(10, 1, 10, 4);
    bucket.notFullBefore(100, 0);
    expect(bucket.dueAt(10)).toBe(100);
    expect(bucket.dueAt(4)).toBe(-Infinity);
    bucket.refill(49);
    expect(bucket.value).toBe(4);
    bucket.refill(50);
    expect(bucket.value).toBe(5);
    bucket.refill(100);
    expect(bucket.value).toBe(10);
  });

  it('#2.2 is held back for no longer than it takes to fill, and not at all if it takes longer anyway or is full', () => {
    const bucket = level(10, 1, 10, 4);
    bucket.notFullBefore(1e12, 0);
    expect(bucket.dueAt(5)).toBe(110);
    bucket.notFullBefore(30, 0);
    expect(bucket.dueAt(5)).toBe(10);
    const full = level(10, 1, 10);
    full.notFullBefore(1e6, 0);
    full.take(1);
    expect(full.dueAt(10)).toBe(10);
  });

  it('#67 a wait that was told is looked at again when the level falls meanwhile, and nothing goes below what is allowed', () => {
    const bucket = level(10, 1, 10, 0);
    expect(bucket.dueAt(2)).toBe(20);
    bucket.refill(15);
    bucket.set(0);
    bucket.refill(20);
    expect(bucket.value).toBe(0);
    expect(bucket.dueAt(2)).toBe(35);
  });
});
