import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Aimd } from '../../src/gates/aimd.js';

describe('Aimd', () => {
  it('#76 increaseOnSuccess: one more while at least half of the limit is used', () => {
    const aimd = new Aimd({});
    expect(aimd.next(10, 10, false)).toBe(11);
    expect(aimd.next(10, 5, false)).toBe(11);
    expect(aimd.next(10, 4, false)).toBe(10);
    expect(aimd.next(11, 5, false)).toBe(11);
    expect(aimd.next(11, 6, false)).toBe(12);
  });

  it('#76 decreaseOnDrops: a tenth less, in whole permits and at least one', () => {
    const aimd = new Aimd({});
    expect([100, 30, 11, 10, 5, 2, 1].map((limit) => aimd.next(limit, limit, true))).toEqual([90, 27, 9, 9, 4, 1, 1]);
    expect(aimd.next(100, 1, true)).toBe(90);
    expect(new Aimd({ backoff: 0.5 }).next(100, 1, true)).toBe(50);
    expect(new Aimd({ backoff: 0.999 }).next(100, 1, true)).toBe(99);
  });

  it('#76 successOverflow: stays within min and max', () => {
    const aimd = new Aimd({ min: 5, max: 20 });
    expect(aimd.next(20, 20, false)).toBe(20);
    expect(aimd.next(5, 5, true)).toBe(5);
    expect(new Aimd({}).next(1000, 1000, false)).toBe(1000);
  });

  it('has bounds of 1 and 1000 unless told otherwise', () => {
    const { min, max } = new Aimd({});
    expect([min, max]).toEqual([1, 1000]);
  });

  it('stays an integer within its bounds, moves up by one and down by a tenth, whatever happens', () => {
    const samples = fc.array(fc.record({ dropped: fc.boolean(), load: fc.double({ min: 0, max: 1, noNaN: true }) }));
    const bounds = fc.tuple(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 50, max: 200 }),
      fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    );
    fc.assert(
      fc.property(samples, bounds, (list, [min, max, backoff]) => {
        const aimd = new Aimd({ min, max, backoff });
        let limit = 50;
        for (const { dropped, load } of list) {
          const before = limit;
          limit = aimd.next(limit, Math.ceil(load * limit), dropped);
          expect(Number.isInteger(limit)).toBe(true);
          expect(limit).toBeGreaterThanOrEqual(min);
          expect(limit).toBeLessThanOrEqual(max);
          if (dropped) expect(limit).toBeLessThanOrEqual(Math.max(min, before * Math.max(backoff, 1 - 1 / before)));
          else expect(limit - before).toBeLessThanOrEqual(1);
        }
      }),
    );
  });
});
