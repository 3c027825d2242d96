import { describe, expect, it } from 'vitest';
import type { Amounts } from '../../src/gates/budgetAccount.js';
import { billOf, type ChargeRules, type Usage } from '../../src/gates/budgetCharge.js';
import { BadAskError, BudgetTrippedError, CircuitOpenError, CircuitTrippedError } from '../../src/gates/errors.js';
import type { CallEnd } from '../../src/gates/gate.js';
import { UnknownPriceError } from '../../src/gates/prices.js';

const problems: string[] = [];
const RESERVED: Amounts = { microUsd: 50, tokens: 400, calls: 1 };

function bill(kind: CallEnd['kind'], seen: Usage = {}, rules: ChargeRules = {}, error?: unknown, started = true): string {
  problems.length = 0;
  const { spent, uncertain, missing } = billOf({ kind, started, emitted: 0, error }, { reserved: RESERVED, seen }, rules, (problem) =>
    problems.push(String(problem)),
  );
  const maybe = uncertain.microUsd + uncertain.tokens > 0 ? `, ${uncertain.microUsd}/${uncertain.tokens} uncertain` : '';
  return `${spent.microUsd}/${spent.tokens}/${spent.calls}${maybe}${missing.length > 0 ? `, missing ${missing.join()}` : ''}`;
}

describe('what a call is charged', () => {
  it.each(['completed', 'failed', 'cancelled'] as const)('#2.3 %s before it started: nothing', (kind) => {
    const rules: ChargeRules = { onCancel: () => 7, chargeOnError: () => 7 };
    expect(bill(kind, {}, rules, new Error('x'), false)).toBe('0/0/0');
  });

  it('#2.3 completed: what it has told, and where it has not, all that was set aside, which is noted', () => {
    expect(bill('completed', { microUsd: 20, tokens: 100 })).toBe('20/100/1');
    expect(bill('completed', { microUsd: 20 })).toBe('20/400/1, missing tokens');
    expect(bill('completed')).toBe('50/400/1, missing microUsd,tokens');
    expect(bill('completed', { microUsd: 0, tokens: 900, calls: 3 })).toBe('0/900/3');
  });

  it('#2.3 cancelled: all that was set aside, of which what was not seen is uncertain', () => {
    expect(bill('cancelled')).toBe('50/400/1, 50/400 uncertain');
    expect(bill('cancelled', { microUsd: 1, tokens: 1 })).toBe('50/400/1, 49/399 uncertain');
    expect(bill('cancelled', { microUsd: 60 })).toBe('60/400/1, 0/400 uncertain');
  });

  it('#2.3 cancelled, on request: what was seen, or what a function says', () => {
    expect(bill('cancelled', { microUsd: 5 }, { onCancel: 'seen' })).toBe('5/0/1');
    expect(bill('cancelled', { microUsd: 5 }, { onCancel: 'reserved' })).toBe('50/400/1, 45/400 uncertain');
    expect(bill('cancelled', { microUsd: 5 }, { onCancel: ({ reserved, seen }) => reserved.microUsd - seen.microUsd! })).toBe(
      '45/400/1, 40/400 uncertain',
    );
    expect(bill('cancelled', {}, { onCancel: () => ({ microUsd: 0, tokens: 3, calls: 0 }) })).toBe('0/3/0, 0/3 uncertain');
  });

  it.each([
    ['a refusal of another gate', new CircuitOpenError('b', 5, 'open')],
    ['one down the causes', new Error('x', { cause: new CircuitOpenError('b', 5, 'open') })],
    ['429', { status: 429 }],
    ['400', { status: 400 }],
    ['529', { status: 529 }],
    ['a throttle without a status', { type: 'overloaded_error' }],
    ['no connection', new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } })],
    ['no such host', { code: 'ENOTFOUND' }],
  ])('#2.3 failed with %s: nothing but what was seen', (_, error) => {
    expect(bill('failed', {}, {}, error)).toBe('0/0/1');
    expect(bill('failed', { microUsd: 5 }, {}, error)).toBe('5/0/1');
  });

  it.each([
    ['500', { status: 500 }],
    ['a reset in the middle', { code: 'ECONNRESET' }],
    ['an error of its own', new Error('boom')],
    ['a string', 'boom'],
    ['nothing', undefined],
    [
      'something hostile',
      new Proxy(
        {},
        {
          get: () => {
            throw new Error('no');
          },
        },
      ),
    ],
    ['a breaker that stopped it', new CircuitTrippedError('b', 'x')],
    ['a budget that stopped it', new BudgetTrippedError('b', [], 'x')],
    ['a usage that cannot be used', new BadAskError('b', 'usage', 'an integer', NaN)],
    ['a usage without a price', new UnknownPriceError('m', [])],
  ])('#2.3 failed with %s: what was seen, or all that was set aside', (_, error) => {
    expect(bill('failed', {}, {}, error)).toBe('50/400/1, 50/400 uncertain');
    expect(bill('failed', { microUsd: 5, tokens: 6 }, {}, error)).toBe('5/6/1');
  });

  it('#2.3 failed: a function decides, also by the error', () => {
    const chargeOnError: ChargeRules['chargeOnError'] = (error, { reserved }) => (error === 'half' ? reserved.microUsd / 2 : { tokens: 1 });
    expect(bill('failed', {}, { chargeOnError }, 'half')).toBe('25/400/1, 25/400 uncertain');
    expect(bill('failed', {}, { chargeOnError }, { status: 429 })).toBe('0/1/1, 0/1 uncertain');
  });

  it('a function that leaves a unit out leaves it to the rules', () =>
    expect(bill('cancelled', {}, { onCancel: () => ({}) })).toBe('50/400/1, 50/400 uncertain'));

  it.each([NaN, -1, 0.5, Infinity, null, 'x', { microUsd: -3 }])(
    'a function that answers nonsense does not make a call free: %j',
    (answer) => {
      const rules = { onCancel: (): never => answer as never, chargeOnError: (): never => answer as never };
      expect(bill('cancelled', {}, rules)).toBe('50/400/1, 50/400 uncertain');
      expect(problems.join()).toContain('fleetBudget: what onCancel returns (microUsd) must be an integer, 0 or more');
      expect(bill('failed', {}, rules, 'boom')).toBe('50/400/1, 50/400 uncertain');
      expect(problems.join()).toContain('fleetBudget: what chargeOnError returns (microUsd) must be');
    },
  );

  it('neither does one that throws', () => {
    const fail = (): never => {
      throw new Error('bug');
    };
    expect(bill('cancelled', {}, { onCancel: fail })).toBe('50/400/1, 50/400 uncertain');
    expect(bill('failed', {}, { chargeOnError: fail }, 'boom')).toBe('50/400/1, 50/400 uncertain');
    expect(problems).toEqual(['Error: bug']);
  });
});
