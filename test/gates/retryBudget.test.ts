import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RetryBudget } from '../../src/gates/retryBudget.js';

const drain = (budget: RetryBudget, now: number): number => {
  let taken = 0;
  while (budget.withdraw(now)) taken++;
  return taken;
};

describe('RetryBudget', () => {
  it('ten deposits at 0.2 pay for two retries #80', () => {
    const budget = new RetryBudget({ ratio: 0.2, minPerSec: 0, ttlMs: 10_000 });
    expect(budget.withdraw(0)).toBe(false);
    for (let i = 0; i < 10; i++) budget.deposit(0);
    expect(budget.available(0)).toBe(2);
    expect(drain(budget, 0)).toBe(2);
    expect(budget.available(0)).toBe(0);
  });

  it.each([
    [0.1, 10, 1],
    [0.3, 10, 3],
    [1, 10, 10],
    [1 / 3, 3_000_000, 999_999],
    [0, 1_000, 0],
  ])('a ratio of %d: %d deposits pay for %d retries #80', (ratio, deposits, retries) => {
    const budget = new RetryBudget({ ratio, minPerSec: 0, ttlMs: 10_000 });
    for (let i = 0; i < deposits; i++) budget.deposit(0);
    expect(budget.available(0)).toBe(retries);
  });

  it('the reserve allows minPerSec times ttl without any deposit, and comes back #80', () => {
    const budget = new RetryBudget({ ratio: 0, minPerSec: 2, ttlMs: 5_000 });
    expect(drain(budget, 0)).toBe(10);
    expect(drain(budget, 4_999)).toBe(0);
    expect(drain(budget, 5_000)).toBe(10);
  });

  it('deposits come on top of the reserve #80', () => {
    const budget = new RetryBudget({ ratio: 0.5, minPerSec: 1, ttlMs: 2_000 });
    for (let i = 0; i < 4; i++) budget.deposit(0);
    expect(drain(budget, 0)).toBe(4);
  });

  it('deposits expire after ttl #80', () => {
    const budget = new RetryBudget({ ratio: 1, minPerSec: 0, ttlMs: 10_000 });
    budget.deposit(0);
    budget.deposit(5_000);
    expect(budget.available(9_999)).toBe(2);
    expect(budget.available(10_000)).toBe(1);
    expect(budget.available(14_999)).toBe(1);
    expect(budget.available(15_000)).toBe(0);
  });

  it('a long time without calls forgets everything', () => {
    const budget = new RetryBudget({ ratio: 1, minPerSec: 1, ttlMs: 1_000 });
    for (let i = 0; i < 100; i++) budget.deposit(i);
    expect(budget.available(1e15)).toBe(1);
    expect(budget.withdraw(1e15)).toBe(true);
    expect(budget.withdraw(1e15)).toBe(false);
  });

  it('a clock that goes backwards changes nothing', () => {
    const budget = new RetryBudget({ ratio: 1, minPerSec: 0, ttlMs: 1_000 });
    budget.deposit(5_000);
    budget.deposit(5_500);
    expect(budget.available(1_000)).toBe(2);
    budget.deposit(1_000);
    expect(budget.available(5_500)).toBe(3);
  });

  it('a ttl that does not divide evenly still expires', () => {
    const budget = new RetryBudget({ ratio: 1, minPerSec: 0, ttlMs: 7 });
    budget.deposit(0);
    expect(budget.available(6)).toBe(1);
    expect(budget.available(8)).toBe(0);
  });

  it('keeps the books of a ledger that remembers every entry', () => {
    const step = fc.record({ do: fc.constantFrom('deposit', 'withdraw'), ms: fc.nat(700) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), fc.constantFrom(0, 0.1, 0.25, 1), fc.nat(3), (steps, ratio, minPerSec) => {
        const ttlMs = 2_000;
        const budget = new RetryBudget({ ratio, minPerSec, ttlMs });
        const entries: { slice: number; amount: number }[] = [];
        let now = 0;
        for (const { do: action, ms } of steps) {
          now += ms;
          const slice = Math.floor((now - (steps[0]?.ms ?? 0)) / (ttlMs / 10));
          const balance = entries.filter((entry) => entry.slice > slice - 10).reduce((sum, { amount }) => sum + amount, 0);
          const left = Math.max(0, Math.floor(Math.round((minPerSec * 2 + balance) * 1e6) / 1e6));
          expect(budget.available(now)).toBe(left);
          if (action === 'deposit') {
            budget.deposit(now);
            entries.push({ slice, amount: ratio });
          } else {
            expect(budget.withdraw(now)).toBe(left > 0);
            if (left > 0) entries.push({ slice, amount: -1 });
          }
        }
      }),
    );
  });
});
