import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GrantHistory } from '../../src/gates/bucketHistory.js';
import { BucketLimits } from '../../src/gates/bucketLimits.js';

function limits(...capacities: number[]): BucketLimits {
  const made = new BucketLimits(
    capacities.map((capacity, i) => ({ name: `l${i}`, capacity, refill: { tokens: 1, everyMs: 10 }, initial: capacity })),
  );
  made.refill(0);
  return made;
}

const values = (of: BucketLimits): number[] => of.names.map((_, i) => of.level(i).value);

describe('BucketLimits', () => {
  it('#2.2 #18 #56 takes from all limits or from none', () => {
    const two = limits(5, 3);
    expect(two.fits([5, 4])).toBe(false);
    expect(values(two)).toEqual([5, 3]);
    expect(two.fits([5, 3])).toBe(true);
    two.take([5, 3]);
    expect(values(two)).toEqual([0, 0]);
  });

  it('is due when the slowest limit is', () => {
    const two = limits(10, 10);
    two.take([10, 10]);
    two.level(0).adjust(2);
    expect(two.dueAt([3, 2])).toBe(20);
    expect(two.dueAt([5, 1])).toBe(30);
    expect(two.dueAt([2, 0])).toBe(-Infinity);
  });

  it('a debt holds up only what costs something there', () => {
    const two = limits(10, 10);
    two.level(1).adjust(-15);
    expect(two.fits([1, 0])).toBe(true);
    expect(two.dueAt([1, 0])).toBe(-Infinity);
    expect(two.fits([1, 1])).toBe(false);
  });

  it('#2.2 names the first limit that can never hold a cost', () => {
    expect(limits(5, 3).tooSmall([5, 3])).toBeUndefined();
    expect(limits(5, 3).tooSmall([5, 4])).toBe(1);
    expect(limits(5, 3).tooSmall([6, 4])).toBe(0);
  });

  it('#62 settles up and down, and tells the debt that was dropped', () => {
    const two = limits(10, 10);
    two.take([6, 6]);
    expect(two.settle([6, 6], [2, 9])).toEqual([0, 0]);
    expect(values(two)).toEqual([8, 1]);
    expect(two.settle([0, 0], [0, 30])).toEqual([0, 19]);
    expect(values(two)).toEqual([8, -10]);
    expect(two.settle([10, 0], [0, 0])).toEqual([0, 0]);
    expect(values(two)).toEqual([10, -10]);
  });

  it('#18 #56 takes all parts or none, and what was taken is what was charged and what was paid back', () =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.tuple(fc.nat(30), fc.nat(30), fc.nat(30)), fc.tuple(fc.nat(30), fc.nat(30), fc.nat(30)))),
        (calls) => {
          const three = limits(100, 60, 1000);
          const charged = [0, 0, 0];
          for (const [costs, used] of calls) {
            const before = values(three);
            const fits = costs.every((cost, i) => cost === 0 || cost <= (before[i] as number));
            expect(three.fits(costs)).toBe(fits);
            if (!fits) continue;
            three.take(costs);
            expect(values(three)).toEqual(before.map((value, i) => value - (costs[i] as number)));
            const dropped = three.settle(costs, used);
            used.forEach((each, i) => (charged[i] = (charged[i] as number) + each - (dropped[i] as number)));
            expect(values(three)).toEqual([100, 60, 1000].map((capacity, i) => capacity - (charged[i] as number)));
          }
        },
      ),
    ));

  describe('sync', () => {
    it('#2.2 lowers the level always, raises it only for a later request than the last time', () => {
      const one = limits(100);
      one.take([10]);
      const first = one.seq;
      one.take([10]);
      const second = one.seq;
      expect(one.sync(0, { remaining: 50 }, second, 0)).toBe(true);
      expect(values(one)).toEqual([50]);
      one.sync(0, { remaining: 95 }, first, 0);
      expect(values(one)).toEqual([50]);
      one.sync(0, { remaining: 40 }, first, 0);
      expect(values(one)).toEqual([30]);
      one.sync(0, { remaining: 90 }, second, 0);
      expect(values(one)).toEqual([30]);
      one.take([5]);
      one.sync(0, { remaining: 90 }, one.seq, 0);
      expect(values(one)).toEqual([90]);
    });

    it('#2.2 takes off what was granted after the request was sent', () => {
      const one = limits(100);
      one.take([10]);
      const sent = one.seq;
      one.take([7]);
      one.take([5]);
      one.sync(0, { remaining: 80 }, sent, 0);
      expect(values(one)).toEqual([68]);
    });

    it('#2.2 agrees with itself: answers to a burst leave the level as it is', () => {
      const one = limits(100);
      const sent: number[] = [];
      for (let i = 0; i < 10; i++) {
        one.take([3]);
        sent.push(one.seq);
      }
      for (const i of [4, 0, 9, 2, 7, 1, 3, 5, 6, 8]) {
        expect(one.sync(0, { remaining: 100 - 3 * (i + 1) }, sent[i], 0)).toBe(false);
        expect(values(one)).toEqual([70]);
      }
    });

    it('#68 ignores what was sent before the present epoch', () => {
      const one = limits(100);
      one.take([10]);
      const before = one.seq;
      expect(one.drain(0, undefined)).toBe(true);
      expect(one.sync(0, { remaining: 90 }, before, 0)).toBe(false);
      expect(one.sync(0, { remaining: -50 }, before, 0)).toBe(false);
      expect(values(one)).toEqual([0]);
      one.level(0).adjust(20);
      one.take([10]);
      expect(one.sync(0, { remaining: 60 }, one.seq, 0)).toBe(true);
      expect(values(one)).toEqual([60]);
    });

    it('#68 a drain for a request from before the present epoch does nothing', () => {
      const one = limits(100);
      one.take([10]);
      const before = one.seq;
      expect(one.drain(0, before)).toBe(true);
      one.level(0).adjust(40);
      expect(one.drain(0, before)).toBe(false);
      expect(values(one)).toEqual([40]);
      one.take([1]);
      expect(one.drain(0, one.seq)).toBe(true);
      expect(values(one)).toEqual([0]);
    });

    it('without a number only lowers, and counts no grants', () => {
      const one = limits(100);
      one.take([10]);
      expect(one.sync(0, { remaining: 95 }, undefined, 0)).toBe(false);
      expect(one.sync(0, { remaining: 20 }, undefined, 0)).toBe(true);
      expect(values(one)).toEqual([20]);
    });

    it('keeps within the bounds of the bucket', () => {
      const one = limits(100);
      one.take([10]);
      one.sync(0, { remaining: 5000 }, one.seq, 0);
      expect(values(one)).toEqual([100]);
      one.sync(0, { remaining: -5000 }, one.seq, 0);
      expect(values(one)).toEqual([-100]);
    });

    it('holds the refill back until the server is full, only for the newest answer', () => {
      const one = limits(100);
      one.take([50]);
      const first = one.seq;
      one.take([10]);
      one.sync(0, { remaining: 90, resetMs: 300 }, one.seq, 0);
      expect(one.dueAt([91])).toBe(210);
      one.sync(0, { remaining: 100, resetMs: 900 }, first, 0);
      expect(one.dueAt([91])).toBe(210);
    });

    it('an answer to a request of long ago only lowers', () => {
      const one = limits(10_000);
      one.take([1]);
      const old = one.seq;
      for (let i = 0; i < 1024; i++) one.take([1]);
      one.sync(0, { remaining: 9_999 }, old, 0);
      expect(values(one)).toEqual([8_975]);
      one.sync(0, { remaining: 8_000 }, old, 0);
      expect(values(one)).toEqual([8_000]);
    });
  });

  it('each limit has an epoch and an order of its own', () => {
    const two = limits(100, 100);
    two.take([10, 10]);
    const sent = two.seq;
    two.drain(0, undefined);
    two.sync(0, { remaining: 80 }, sent, 0);
    two.sync(1, { remaining: 80 }, sent, 0);
    expect(values(two)).toEqual([0, 80]);
  });
});

describe('GrantHistory', () => {
  it('knows what was granted since, for the last 1,023 grants and exactly', () =>
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 2500 }), fc.nat(), (costs, pick) => {
        const history = new GrantHistory(1);
        for (const cost of costs) history.add([cost]);
        const seq = costs.length === 0 ? 0 : pick % (costs.length + 1);
        const sum = costs.slice(seq).reduce((a, b) => a + b, 0);
        expect(history.since(seq, 0)).toBe(costs.length - seq >= 1024 ? undefined : sum);
      }),
      { numRuns: 50 },
    ));

  it('knows nothing of grants to come', () => {
    const history = new GrantHistory(1);
    history.add([5]);
    expect(history.since(99, 0)).toBe(0);
  });
});
