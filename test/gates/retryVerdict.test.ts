import { describe, expect, it } from 'vitest';
import { RetryBudget } from '../../src/gates/retryBudget.js';
import { giveUp, type FailedAttempt } from '../../src/gates/retryVerdict.js';

const ATTEMPT: FailedAttempt = {
  retryable: true,
  throttled: false,
  partial: false,
  tooLong: false,
  failures: 1,
  maxAttempts: 4,
  nextAt: 100,
  giveUpAt: Infinity,
  deadlineAt: Infinity,
};

const of = (retries: number): RetryBudget => new RetryBudget({ ratio: 0, minPerSec: retries, ttlMs: 1_000 });

describe('why a failed attempt is not repeated', () => {
  it('the first reason in order is given, whatever else holds #81', () => {
    const worst = { ...ATTEMPT, partial: true, tooLong: true, failures: 4, giveUpAt: 0, deadlineAt: 0 };
    const empty = of(0);
    expect(giveUp({ ...worst, retryable: false }, empty, 0)).toBe('fatal');
    expect(giveUp(worst, empty, 0)).toBe('value');
    expect(giveUp({ ...worst, partial: false }, empty, 0)).toBe('retry-after');
    expect(giveUp({ ...worst, partial: false, tooLong: false }, empty, 0)).toBe('attempts');
    expect(giveUp({ ...ATTEMPT, giveUpAt: 0, deadlineAt: 0 }, empty, 0)).toBe('elapsed');
    expect(giveUp({ ...ATTEMPT, deadlineAt: 0 }, empty, 0)).toBe('deadline');
    expect(giveUp(ATTEMPT, empty, 0)).toBe('budget');
    expect(giveUp(ATTEMPT, of(1), 0)).toBeUndefined();
    expect(giveUp(ATTEMPT, undefined, 0)).toBeUndefined();
  });

  it('only a retry that is made takes one out of the budget', () => {
    const budget = of(1);
    for (const attempt of [
      { ...ATTEMPT, retryable: false },
      { ...ATTEMPT, partial: true },
      { ...ATTEMPT, tooLong: true },
      { ...ATTEMPT, failures: 4 },
      { ...ATTEMPT, giveUpAt: 100 },
      { ...ATTEMPT, deadlineAt: 100 },
      { ...ATTEMPT, throttled: true },
    ])
      giveUp(attempt, budget, 0);
    expect(budget.available(0)).toBe(1);
    expect(giveUp(ATTEMPT, budget, 0)).toBeUndefined();
    expect(giveUp(ATTEMPT, budget, 0)).toBe('budget');
  });

  it('throttles count neither against the attempts nor against the budget, but against time', () => {
    const throttled = { ...ATTEMPT, throttled: true, failures: 99 };
    expect(giveUp(throttled, of(0), 0)).toBeUndefined();
    expect(giveUp({ ...throttled, giveUpAt: 100 }, of(0), 0)).toBe('elapsed');
    expect(giveUp({ ...throttled, deadlineAt: 100 }, of(0), 0)).toBe('deadline');
  });

  it('a next attempt at the very moment of the deadline is too late', () => {
    expect(giveUp({ ...ATTEMPT, deadlineAt: 100 }, undefined, 0)).toBe('deadline');
    expect(giveUp({ ...ATTEMPT, deadlineAt: 101 }, undefined, 0)).toBeUndefined();
    expect(giveUp({ ...ATTEMPT, giveUpAt: 100 }, undefined, 0)).toBe('elapsed');
    expect(giveUp({ ...ATTEMPT, giveUpAt: 101 }, undefined, 0)).toBeUndefined();
  });
});
