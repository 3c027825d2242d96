import { describe, expect, it } from 'vitest';
import { classifyError } from '../../src/gates/classifyError.js';
import * as errors from '../../src/gates/errors.js';
import { isGateError, type GateError } from '../../src/gates/errors.js';

const boom = new Error('boom');
const books = { unit: 'microUsd', limit: 1_000_000, spent: 800_000, reserved: 150_000, requested: 70_000 } as const;

interface Case {
  readonly error: GateError;
  readonly code: string;
  readonly guard: (error: unknown) => boolean;
  /** The whole message. */
  readonly words: string;
  readonly fields: object;
  readonly cause?: unknown;
}

const cases: Record<string, Case> = {
  CircuitOpenError: {
    error: new errors.CircuitOpenError('api', 1234.2, 'open', boom),
    code: 'CIRCUIT_OPEN',
    guard: errors.isCircuitOpenError,
    words: 'Circuit breaker "api" is open; it lets a probe through in 1235 ms.',
    fields: { retryAfterMs: 1234.2 },
    cause: boom,
  },
  CircuitTrippedError: {
    error: new errors.CircuitTrippedError('api', boom),
    code: 'CIRCUIT_TRIPPED',
    guard: errors.isCircuitTrippedError,
    words: 'Circuit breaker "api" tripped while this call was in flight, so it was stopped: boom',
    fields: {},
    cause: boom,
  },
  CircuitIsolatedError: {
    error: new errors.CircuitIsolatedError('api', true),
    code: 'CIRCUIT_ISOLATED',
    guard: errors.isCircuitIsolatedError,
    words: 'Circuit breaker "api" is isolated by hand, so this call was stopped.',
    fields: {},
  },
  RateLimitQueueFullError: {
    error: new errors.RateLimitQueueFullError('tpm', 'calls', 5, 5, 900),
    code: 'RATE_LIMIT_QUEUE_FULL',
    guard: errors.isRateLimitQueueFullError,
    words: 'The queue of rate limit "tpm" is full: 5 calls wait of at most 5; it drains in about 900 ms.',
    fields: { limit: 5, waiting: 5, retryAfterMs: 900 },
  },
  RateLimitWaitError: {
    error: new errors.RateLimitWaitError('tpm', 100, 900),
    code: 'RATE_LIMIT_WAIT',
    guard: errors.isRateLimitWaitError,
    words: 'Rate limit "tpm" would admit this call in 900 ms; it may wait at most 100 ms.',
    fields: { maxWaitMs: 100, retryAfterMs: 900 },
  },
  CostExceedsCapacityError: {
    error: new errors.CostExceedsCapacityError('tpm', 'tokens', 50, 40),
    code: 'COST_EXCEEDS_CAPACITY',
    guard: errors.isCostExceedsCapacityError,
    words: 'Rate limit "tpm" can never admit a cost of 50 tokens: its capacity is 40.',
    fields: { limitName: 'tokens', cost: 50, capacity: 40 },
  },
  BulkheadFullError: {
    error: new errors.BulkheadFullError('db', 4, 3, 10),
    code: 'BULKHEAD_FULL',
    guard: errors.isBulkheadFullError,
    words: 'Semaphore "db" is full: 3 of 4 permits are taken and 10 calls wait, which is as many as may.',
    fields: { limit: 4, inUse: 3, maxQueue: 10 },
  },
  PermitsExceedLimitError: {
    error: new errors.PermitsExceedLimitError('db', 5, 4),
    code: 'PERMITS_EXCEED_LIMIT',
    guard: errors.isPermitsExceedLimitError,
    words: 'Semaphore "db" can never admit 5 permits: its limit is 4.',
    fields: { permits: 5, limit: 4 },
  },
  ReentrantAcquireError: {
    error: new errors.ReentrantAcquireError('db', ['agent', 'sub'], []),
    code: 'REENTRANT_ACQUIRE',
    guard: errors.isReentrantAcquireError,
    words:
      '"db" is held at the root and asked for again below it, at agent > sub: that would be a deadlock. Permits and locks are for leaf calls.',
    fields: { path: ['agent', 'sub'], holder: [] },
  },
  BudgetExceededError: {
    error: new errors.BudgetExceededError('fleet', ['fleet', 'agent-7'], books),
    code: 'BUDGET_EXCEEDED',
    guard: errors.isBudgetExceededError,
    words: 'Budget "fleet > agent-7" refuses $0.070000: $0.800000 spent and $0.150000 reserved of $1.000000.',
    fields: { path: ['fleet', 'agent-7'], ...books },
  },
  BudgetTrippedError: {
    error: new errors.BudgetTrippedError('fleet', [], 'stop'),
    code: 'BUDGET_TRIPPED',
    guard: errors.isBudgetTrippedError,
    words: 'Budget "fleet" was tripped, so this call was stopped: "stop"',
    fields: { path: [] },
    cause: 'stop',
  },
  DepthLimitError: {
    error: new errors.DepthLimitError('depth', 'maxDepth', 3, ['a', 'b', 'c', 'd']),
    code: 'DEPTH_LIMIT',
    guard: errors.isDepthLimitError,
    words: 'Depth limit "depth" refuses the call at a > b > c > d: it is deeper than 3.',
    fields: { limit: 'maxDepth', max: 3, path: ['a', 'b', 'c', 'd'] },
  },
  RetryAfterTooLongError: {
    error: new errors.RetryAfterTooLongError('model', 90_000, 60_000, boom),
    code: 'RETRY_AFTER_TOO_LONG',
    guard: errors.isRetryAfterTooLongError,
    words: 'The server asks to wait 90000 ms; retry gate "model" waits at most 60000 ms.',
    fields: { retryAfterMs: 90_000, maxRetryAfterMs: 60_000 },
    cause: boom,
  },
  ApprovalDeniedError: {
    error: new errors.ApprovalDeniedError('person', 'toolu_1', 'not today'),
    code: 'APPROVAL_DENIED',
    guard: errors.isApprovalDeniedError,
    words: 'Approval "toolu_1" of "person" was denied: not today.',
    fields: { id: 'toolu_1', reason: 'not today' },
  },
  ApprovalExpiredError: {
    error: new errors.ApprovalExpiredError('person', 'toolu_1', 5000),
    code: 'APPROVAL_EXPIRED',
    guard: errors.isApprovalExpiredError,
    words: 'Nobody decided on approval "toolu_1" of "person" within 5000 ms.',
    fields: { id: 'toolu_1', expiresMs: 5000 },
  },
  ResourceDisposedError: {
    error: new errors.ResourceDisposedError('db'),
    code: 'RESOURCE_DISPOSED',
    guard: errors.isResourceDisposedError,
    words: 'Gate "db" has been disposed.',
    fields: {},
  },
  BadAskError: {
    error: new errors.BadAskError('db', 'permits', 'an integer of at least 1', '2'),
    code: 'BAD_ASK',
    guard: errors.isBadAskError,
    words: 'Gate "db": permits of this call must be an integer of at least 1, got "2".',
    fields: {},
  },
};

const guards = Object.values(cases).map(({ guard }) => guard);

describe.each(Object.entries(cases))('C8 %s', (name, { error, code, guard, words, fields, cause }) => {
  it('is an Error with its own name and code, and the name of its gate', () => {
    expect(error).toBeInstanceOf(Error);
    expect(error).toBeInstanceOf(errors.GateError);
    expect([error.name, error.code, typeof error.gate]).toEqual([name, code, 'string']);
    expect(String(error)).toBe(`${name}: ${words}`);
    expect(error.stack).toContain('gateErrors.test');
  });

  it('carries its numbers and its cause', () => {
    expect(error).toMatchObject(fields);
    expect(error.cause).toBe(cause);
  });

  it('is known by its guard and by no other, also where it comes from another copy of the package', () => {
    const copy = Object.defineProperty(new Error(words), Symbol.for('rxfleet.error'), { value: 'GateError' });
    for (const each of [error, Object.assign(copy, { code })]) {
      expect(guards.filter((other) => other(each))).toEqual([guard]);
      expect(isGateError(each)).toBe(true);
    }
    expect(guard(Object.assign(new Error(words), { code, name }))).toBe(false);
    for (const nothing of [undefined, null, 5, code, {}, boom]) expect(guard(nothing)).toBe(false);
  });

  it('is local: no failure for a breaker, nothing for a retry gate, whatever its cause', () => {
    expect(classifyError(error)).toBe('local');
    expect(classifyError(Object.assign(new Error('outer'), { cause: error }))).toBe('local');
  });

  it('shows no brand, and its data survives JSON', () => {
    expect(Object.keys(error)).not.toContain('suppressed');
    expect(JSON.parse(JSON.stringify(Object.assign({}, error)))).toMatchObject(
      JSON.parse(JSON.stringify({ ...fields, code, gate: error.gate })) as object,
    );
  });
});

describe('the errors of gates', () => {
  it('are all here', () => {
    const classes = Object.keys(errors).filter((each) => each.endsWith('Error') && !each.startsWith('is') && each !== 'GateError');
    expect(Object.keys(cases).sort()).toEqual(classes.sort());
    for (const each of classes) expect(errors).toHaveProperty(`is${each}`);
  });

  it('have codes of their own', () => {
    expect(new Set(Object.values(cases).map(({ code }) => code)).size).toBe(Object.keys(cases).length);
  });

  it('a throttle that a gate names as its cause is still local', () => {
    const throttle = Object.assign(new Error('slow down'), { status: 429 });
    expect(classifyError(new errors.CircuitOpenError('api', 1, 'open', throttle))).toBe('local');
    expect(classifyError(new errors.RetryAfterTooLongError('api', 2, 1, throttle))).toBe('local');
  });

  it('say what there is to say in the other cases', () => {
    expect(new errors.CircuitIsolatedError('api', false).message).toBe('Circuit breaker "api" is isolated by hand.');
    expect(new errors.RateLimitQueueFullError('tpm', 'cost', 50, 45, 0.2).message).toContain(
      'a cost of 45 waits of at most 50; it drains in about 1 ms',
    );
    expect(new errors.BudgetExceededError('fleet', ['fleet'], { ...books, unit: 'tokens' }).message).toContain(
      'refuses 70000 tokens: 800000 tokens spent',
    );
    expect(new errors.ApprovalDeniedError('person', 'x', undefined).message).toBe('Approval "x" of "person" was denied.');
    const limits = ['maxFanOut', 'maxLive', 'maxTotal', 'cycle'] as const;
    expect(limits.map((limit) => new errors.DepthLimitError('depth', limit, 2, ['a']).message.split(': ')[1])).toEqual([
      '2 calls run under the same parent already.',
      '2 calls run in the tree already.',
      '2 calls were started in the tree already.',
      'its label is above it already.',
    ]);
  });

  it('can be made from values that cannot be printed', () => {
    const hostile = Object.create(null) as unknown;
    expect(() => new errors.CircuitTrippedError('db', hostile)).not.toThrow();
    expect(() => new errors.BadAskError('db', 'permits', 'a number', Symbol('x'))).not.toThrow();
  });

  it('#35 100,000 of them stay small: a refusal keeps nothing of the one before', () => {
    const sizes = new Set<number>();
    let last: unknown;
    for (let i = 0; i < 100_000; i++) {
      const error = new errors.CircuitOpenError('api', 5, 'open', boom);
      if (i % 10_000 === 0) sizes.add(`${error.message}${String(error.stack).length}`.length);
      last = error;
    }
    expect([sizes.size, (last as Error).cause]).toEqual([1, boom]);
  });
});
