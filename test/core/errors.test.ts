import {
  DeadlineExceededError,
  isDeadlineExceededError,
  isScopeCancelledError,
  isScopeError,
  ScopeCancelledError,
  ScopeError,
  type CancelReason,
} from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { describeError, isAbortShaped } from '../../src/core/errors.js';

const report = { fulfilled: 0, outcomes: [], errors: [], late: [], abandoned: [] };
const call = (label: string) => ({ label, path: [], ageMs: 5 });

describe('errors', () => {
  it.each<[CancelReason, string]>([
    [{ kind: 'sibling-failed', index: 3, error: new Error('boom') }, 'child 3 failed: boom'],
    [{ kind: 'source-error', error: 'src' }, 'its body failed: "src"'],
    [{ kind: 'deadline', ms: 5 }, 'its deadline of 5 ms passed'],
    [{ kind: 'deadline', ms: 5, label: 'turn' }, 'its deadline of 5 ms (turn) passed'],
    [{ kind: 'race-lost', winner: 2 }, 'child 2 won the race'],
    [{ kind: 'tripped', gate: 'model' }, 'gate model tripped'],
    [{ kind: 'unsubscribed' }, 'its subscriber left'],
    [{ kind: 'explicit' }, 'its owner cancelled it'],
    [{ kind: 'explicit', reason: 'enough' }, 'its owner cancelled it: "enough"'],
    [{ kind: 'signal', reason: 0 }, 'its signal was aborted: 0'],
    [{ kind: 'parent-cancelled', cause: { kind: 'unsubscribed' } }, 'a scope above was cancelled because its subscriber left'],
  ])('ScopeCancelledError says why: %o', (reason, words) => {
    const error = new ScopeCancelledError(reason);
    expect(error.message).toBe(`The scope was cancelled: ${words}.`);
    expect(error.reason).toBe(reason);
    expect(error.name).toBe('ScopeCancelledError');
  });

  it('are Errors with a stack and a name of their own, and each guard knows its own only', () => {
    const errors = [
      new ScopeError(report, 'x'),
      new DeadlineExceededError(5, undefined, 0, report),
      new ScopeCancelledError({ kind: 'unsubscribed' }),
    ];
    const guards = [isScopeError, isDeadlineExceededError, isScopeCancelledError];
    errors.forEach((error, i) => {
      expect(error).toBeInstanceOf(Error);
      expect(error.stack).toContain(error.name);
      expect(guards.map((guard) => guard(error))).toEqual([0, 1, 2].map((k) => k === i));
    });
  });

  it('do not show their brand when they are listed or serialised', () => {
    const error = new ScopeCancelledError({ kind: 'unsubscribed' });
    expect(JSON.parse(JSON.stringify(error))).toEqual({ name: 'ScopeCancelledError', reason: { kind: 'unsubscribed' }, suppressed: [] });
    expect(Object.keys(error)).not.toContain('Symbol(rxfleet.error)');
  });

  it('ScopeError names the first three failures and the first three abandoned calls', () => {
    const many = {
      ...report,
      errors: [1, 2, 3, 4].map((error) => ({ error, phase: 'run' as const })),
      abandoned: ['a', 'b', 'c', 'd', 'e'].map(call),
    };
    expect(new ScopeError(many, 'fleet').message).toBe(
      '4 failures in scope "fleet": 1; 2; 3; …; abandoned after the grace, may still complete: "a", "b", "c" and 2 more.',
    );
    expect(new ScopeError({ ...report, errors: [{ error: new Error('x'), phase: 'run' }] }, 'fleet').message).toBe(
      '1 failure in scope "fleet": x.',
    );
  });

  it('DeadlineExceededError counts what was seen', () => {
    expect(new DeadlineExceededError(5, undefined, 1, report).message).toBe('The deadline of 5 ms passed after 1 value.');
    expect(new DeadlineExceededError(5, 'turn', 0, { ...report, abandoned: [call('x')] }).message).toBe(
      'The deadline "turn" of 5 ms passed after 0 values; abandoned after the grace, may still complete: "x".',
    );
  });

  it('describeError has words for anything that is thrown', () => {
    const rude = {
      toString() {
        throw new Error('no');
      },
    };
    const values = [new TypeError('x'), new Error(''), 'text', undefined, null, 0, Symbol('s'), {}, rude, Object.create(null)];
    expect(values.map(describeError)).toEqual([
      ...['x', 'Error', '"text"', 'undefined', 'null', '0', 'Symbol(s)', '[object Object]'],
      ...['an error that cannot be printed', 'an error that cannot be printed'],
    ]);
  });

  it.each([
    [new DOMException('x', 'AbortError'), true],
    [Object.assign(new Error('x'), { name: 'APIUserAbortError' }), true],
    [Object.assign(new Error('x'), { name: 'CanceledError' }), true],
    [Object.assign(new Error('x'), { code: 'ABORT_ERR' }), true],
    [Object.assign(new Error('x'), { code: 'ERR_CANCELED' }), true],
    [new ScopeCancelledError({ kind: 'unsubscribed' }), true],
    [new DOMException('x', 'TimeoutError'), false],
    [new Error('AbortError'), false],
    ['AbortError', false],
    [undefined, false],
    [{ name: 5 }, false],
  ])('isAbortShaped(%o) is %s', (error, expected) => expect(isAbortShaped(error)).toBe(expected));
});
