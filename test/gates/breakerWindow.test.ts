import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConsecutiveWindow, CountWindow, TimeWindow, type BreakerWindow, type Thresholds } from '../../src/gates/breakerWindow.js';

const half: Thresholds = { min: 4, rate: 0.5, slowMs: Infinity, slowRate: 1 };
const T0 = 1_700_000_000_000;

/** Records `FSf`… one after the other: F failed, f failed and slow, s slow, S fine; the answers as + (trips) and -. */
function feed(window: BreakerWindow, outcomes: string, now = T0): string {
  return Array.from(outcomes, (each) => (window.record('Ff'.includes(each), 'fs'.includes(each), now) ? '+' : '-')).join('');
}

describe('consecutive window', () => {
  it('#27 trips on so many failures in a row; a success begins again', () => {
    const window = new ConsecutiveWindow(3);
    expect(feed(window, 'FFSFFSSFFF')).toBe('---------+');
    expect(window.counts()).toEqual({ total: 3, failed: 3, slow: 0 });
    window.clear();
    expect(feed(window, 'FFF')).toBe('--+');
  });

  it('a sample of probes is bad as soon as one has failed', () => {
    const window = new ConsecutiveWindow(3);
    expect(window.condemns({ total: 10, failed: 0, slow: 10 })).toBe(false);
    expect(window.condemns({ total: 10, failed: 1, slow: 0 })).toBe(true);
  });
});

describe('count window', () => {
  it('#28 trips when there are enough outcomes and the share of failures has reached the rate', () => {
    expect(feed(new CountWindow(10, half), 'FFF')).toBe('---');
    expect(feed(new CountWindow(10, half), 'FFFF')).toBe('---+');
    expect(feed(new CountWindow(10, half), 'SSSF')).toBe('----');
    expect(feed(new CountWindow(10, half), 'SSFF')).toBe('---+');
  });

  it('#2.1 the rate is reached, not passed: 3 of 30 are 0.1, whatever floating point makes of it', () => {
    const tenth: Thresholds = { ...half, min: 30, rate: 0.1 };
    expect(feed(new CountWindow(30, tenth), `${'S'.repeat(27)}FFF`)).toBe(`${'-'.repeat(29)}+`);
    expect(feed(new CountWindow(30, tenth), `${'S'.repeat(28)}FF`)).not.toContain('+');
    for (let size = 1; size <= 200; size++)
      for (let failed = 1; failed <= size; failed++) {
        const window = new CountWindow(size, { min: size, rate: failed / size, slowMs: Infinity, slowRate: 1 });
        expect(window.condemns({ total: size, failed, slow: 0 })).toBe(true);
        expect(window.condemns({ total: size, failed: failed - 1, slow: 0 })).toBe(false);
      }
  });

  it('forgets what is older than its size', () => {
    const window = new CountWindow(4, half);
    expect(feed(window, 'FSSSSS')).toBe('------');
    expect(window.counts(0)).toEqual({ total: 4, failed: 0, slow: 0 });
    expect(feed(window, 'FF')).toBe('-+');
  });

  it('a success may be the one that completes the number of outcomes', () => {
    expect(feed(new CountWindow(4, half), 'FFFS')).toBe('---+');
  });

  it('#45 trips on a share of slow calls, which may be successes', () => {
    const window = new CountWindow(10, { ...half, slowMs: 100, slowRate: 0.75 });
    expect(feed(window, 'sSss')).toBe('---+');
    expect(window.counts(0)).toEqual({ total: 4, failed: 0, slow: 3 });
    expect(feed(new CountWindow(10, { ...half, rate: 1, slowMs: 100, slowRate: 1 }), 'fsss')).toBe('---+');
  });

  it('a large size costs memory only as it is used', () => {
    const window = new CountWindow(1_000_000_000, half);
    expect(feed(window, 'SSSF')).toBe('----');
  });

  it('counts what a list of the last outcomes holds', () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.tuple(fc.boolean(), fc.boolean()), { maxLength: 40, size: 'max' }),
        (size, outcomes) => {
          const window = new CountWindow(size, { min: 1, rate: 1, slowMs: 1, slowRate: 1 });
          outcomes.forEach(([failed, slow], at) => {
            window.record(failed, slow, 0);
            const kept = outcomes.slice(Math.max(0, at + 1 - size), at + 1);
            const [fails, slows] = [kept.filter(([f]) => f).length, kept.filter(([, s]) => s).length];
            expect(window.counts(0)).toEqual({ total: kept.length, failed: fails, slow: slows });
          });
        },
      ),
    ));
});

describe('time window', () => {
  const make = (size = 1000): TimeWindow => new TimeWindow(size, half);

  it('#29 #D1 after an idle hour a single failure is the only one', () => {
    const window = make(5000);
    expect(feed(window, 'F'.repeat(21))).toContain('+');
    expect(feed(window, 'F', T0 + 3_600_000)).toBe('-');
    expect(window.counts(T0 + 3_600_000)).toEqual({ total: 1, failed: 1, slow: 0 });
  });

  it('#D1 drops every part of the window whose time is over, not only the next', () => {
    const window = make(1000);
    for (const at of [0, 100, 200, 300, 900]) feed(window, 'F', T0 + at);
    expect(window.counts(T0 + 900).total).toBe(5);
    expect(window.counts(T0 + 1000).total).toBe(4);
    expect(window.counts(T0 + 1300).total).toBe(1);
    expect(window.counts(T0 + 1899).total).toBe(1);
    expect(window.counts(T0 + 1900).total).toBe(0);
    expect(window.counts(T0 + 1901)).toEqual({ total: 0, failed: 0, slow: 0 });
  });

  it('is as exact with fewer milliseconds than parts, and with odd sizes', () => {
    for (const size of [1, 2, 3, 7, 9, 11, 15, 1001]) {
      const window = make(size);
      feed(window, 'F', T0);
      expect(window.counts(T0 + size).total).toBe(0);
      feed(window, 'F', T0 + 10 * size);
      expect(window.counts(T0 + 10 * size).total).toBe(1);
    }
  });

  it('a pause does not cost a look at every part that it skipped', () => {
    const window = make(1);
    feed(window, 'F', 0);
    expect(window.counts(Number.MAX_SAFE_INTEGER / 10).total).toBe(0);
  });

  it('holds nothing that is a window old, and everything that is younger than nine tenths of it', () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.array(fc.tuple(fc.boolean(), fc.boolean(), fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 400 }))), {
          maxLength: 60,
        }),
        (size, steps) => {
          const window = new TimeWindow(size, { min: 1, rate: 1, slowMs: 1, slowRate: 1 });
          const seen: { at: number; failed: boolean; slow: boolean }[] = [];
          let now = T0;
          for (const [failed, slow, pause] of steps) {
            now += pause;
            seen.push({ at: now, failed, slow });
            window.record(failed, slow, now);
            const within = (ms: number): typeof seen => seen.filter(({ at }) => now - at < ms);
            const [most, least] = [within(size), within(0.9 * size)];
            const counts = window.counts(now);
            for (const [key, of] of [
              ['total', () => true],
              ['failed', (each: { failed: boolean }) => each.failed],
              ['slow', (each: { slow: boolean }) => each.slow],
            ] as [keyof typeof counts, (each: (typeof seen)[number]) => boolean][]) {
              expect(counts[key]).toBeLessThanOrEqual(most.filter(of).length);
              expect(counts[key]).toBeGreaterThanOrEqual(least.filter(of).length);
            }
          }
        },
      ),
    ));
});
