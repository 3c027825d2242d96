import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../src/gates/tokenBucket.js';
import { finalUse, mergeUse } from '../../src/gates/bucketUse.js';
import { CostReader } from '../../src/gates/bucketCost.js';
import { BadAskError, BudgetTrippedError, CircuitTrippedError, CostExceedsCapacityError } from '../../src/gates/errors.js';

const refill = { tokens: 1, everyMs: 1 };
const make = (options: unknown): TokenBucket => new TokenBucket(options as never);

describe('TokenBucket options', () => {
  it.each([
    ['nothing', undefined, TypeError, 'TokenBucket: options must be an object'],
    ['no capacity', { refill }, TypeError, 'TokenBucket: capacity must be an integer of at least 1, got undefined'],
    ['capacity 0', { capacity: 0, refill }, RangeError, 'TokenBucket: capacity must be an integer of at least 1, got 0'],
    ['a negative capacity', { capacity: -1, refill }, RangeError, 'capacity'],
    ['a fractional capacity', { capacity: 1.5, refill }, RangeError, 'capacity'],
    ['capacity NaN', { capacity: NaN, refill }, RangeError, 'capacity'],
    ['capacity Infinity', { capacity: Infinity, refill }, RangeError, 'capacity'],
    ['capacity as a string', { capacity: '5', refill }, TypeError, 'capacity must be an integer of at least 1, got "5"'],
    ['a capacity whose products are inexact', { capacity: 2 ** 40, refill: { tokens: 1, everyMs: 2 ** 20 } }, RangeError, 'safe integer'],
    ['no refill', { capacity: 1 }, TypeError, 'refill must be an object'],
    ['refill 0', { capacity: 1, refill: { tokens: 0, everyMs: 1 } }, RangeError, 'refill.tokens'],
    ['a window below 1 ms', { capacity: 1, refill: { tokens: 1, everyMs: 0.5 } }, RangeError, 'refill.everyMs'],
    ['a window of NaN', { capacity: 1, refill: { tokens: 1, everyMs: NaN } }, RangeError, 'refill.everyMs'],
    ['an initial level above the capacity', { capacity: 1, refill, initial: 2 }, RangeError, 'initial must be at most the capacity, 1'],
    ['a negative initial level', { capacity: 1, refill, initial: -1 }, RangeError, 'initial'],
    ['a negative queue', { capacity: 1, refill, maxQueue: -1 }, RangeError, 'maxQueue'],
    ['a queue of NaN', { capacity: 1, refill, maxQueue: NaN }, RangeError, 'maxQueue'],
    ['a negative queue cost', { capacity: 1, refill, maxQueueCost: -1 }, RangeError, 'maxQueueCost'],
    ['a queue cost of an unknown limit', { capacity: 1, refill, maxQueueCost: { x: 1 } }, RangeError, 'named by tokens, got "x"'],
    ['an unknown overflow', { capacity: 1, refill, overflow: 'drop' }, RangeError, 'one of "reject", "dropOldest", got "drop"'],
    ['an overflow of another type', { capacity: 1, refill, overflow: 1 }, TypeError, 'overflow'],
    ['a negative wait', { capacity: 1, refill, maxWaitMs: -1 }, RangeError, 'maxWaitMs'],
    ['a pause below 1 ms', { capacity: 1, refill, maxPauseMs: 0 }, RangeError, 'maxPauseMs'],
    ['no limits', { limits: {} }, RangeError, 'at least one limit'],
    ['limits that are none', { limits: 5 }, TypeError, 'limits must be an object'],
    ['a limit that is none', { limits: { a: null } }, TypeError, 'limits.a must be an object'],
    ['a bad limit', { limits: { a: { capacity: 0, refill } } }, RangeError, 'limits.a.capacity'],
    [
      'a bad refill of a limit',
      { limits: { a: { capacity: 1, refill: { tokens: 1, everyMs: 0 } } } },
      RangeError,
      'limits.a.refill.everyMs',
    ],
    ['a cost of a limit above its capacity', { limits: { a: { capacity: 1, refill, cost: 2 } } }, RangeError, 'limits.a.cost'],
    ['a fractional cost of a limit', { limits: { a: { capacity: 1, refill, cost: 0.5 } } }, RangeError, 'limits.a.cost'],
    [
      'one queue cost for several limits',
      { limits: { a: { capacity: 1, refill }, b: { capacity: 1, refill } }, maxQueueCost: 5 },
      TypeError,
      'maxQueueCost must be an object of numbers by limit',
    ],
    ['an empty name', { capacity: 1, refill, name: '' }, TypeError, 'name'],
    ['a scheduler that is none', { capacity: 1, refill, scheduler: {} }, TypeError, 'scheduler'],
  ])('#C9 #2.2 refuses %s', (_, options, kind, message) => {
    expect(() => make(options)).toThrow(kind);
    expect(() => make(options)).toThrow(message);
  });

  it('#2.2 has defaults', () => {
    const snapshot = new TokenBucket({ capacity: 5, refill }).snapshot();
    expect(snapshot).toEqual({
      name: 'tokenBucket',
      limits: { tokens: { capacity: 5, tokens: 5, queued: 0, fullInMs: 0 } },
      waiting: 0,
      inFlight: 0,
      pausedMs: 0,
      nextInMs: null,
      seq: 0,
    });
    expect(JSON.parse(JSON.stringify(snapshot))).toEqual(snapshot);
  });

  it('#C9 methods name what was wrong, and change nothing then', () => {
    const bucket = new TokenBucket({ limits: { a: { capacity: 5, refill }, b: { capacity: 5, refill } } });
    expect(() => bucket.pause(NaN)).toThrow(RangeError);
    expect(() => bucket.pause('5' as never)).toThrow(TypeError);
    expect(() => bucket.pause(Infinity)).toThrow('TokenBucket: ms must be a finite number of milliseconds');
    expect(() => bucket.drain({ limit: 'c' })).toThrow('limit must be one of a, b, got "c"');
    expect(() => bucket.drain({ sentSeq: -1 })).toThrow('sentSeq');
    expect(() => bucket.sync({ remaining: 1 })).toThrow('limits must be an object by limit');
    expect(() => bucket.sync({ limits: { a: { remaining: 0 }, b: { remaining: NaN } } })).toThrow('remaining of b must be an integer');
    expect(() => bucket.sync({ limits: { a: { remaining: 0, resetMs: NaN } } })).toThrow('resetMs of a');
    expect(() => bucket.sync({ limits: { a: { remaining: 0 } }, sentSeq: 0.5 })).toThrow('sentSeq');
    expect(Object.values(bucket.snapshot().limits).map(({ tokens }) => tokens)).toEqual([5, 5]);
  });
});

describe('costs', () => {
  const one = new CostReader('g', ['tokens']);
  const two = new CostReader('g', ['requests', 'tokens']);

  it('are a number for a single limit, by name for several', () => {
    expect(one.read('cost', 5, [1])).toEqual([5]);
    expect(one.read('cost', { tokens: 5 }, [1])).toEqual([5]);
    expect(two.read('cost', { tokens: 5 }, [1, 0])).toEqual([1, 5]);
    expect(two.read('cost', { requests: 0, tokens: undefined }, [1, 3])).toEqual([0, 3]);
  });

  it.each([
    ['a number for several limits', two, 5, 'cost of this call must be an object with integers for requests, tokens, got 5'],
    ['an unknown name', two, { tokns: 5 }, 'must be one of requests, tokens, got "tokns"'],
    ['a name of Object.prototype', two, { constructor: 5 }, 'must be one of requests, tokens'],
    ['#D11 a fraction', one, 0.5, 'an integer of at least 0, got 0.5'],
    ['a fraction by name', two, { tokens: 0.5 }, 'tokens of this call must be an integer of at least 0, got 0.5'],
    ['#53 a negative number', one, -1, 'got -1'],
    ['NaN', one, NaN, 'got NaN'],
    ['Infinity', one, Infinity, 'got Infinity'],
    ['a string', one, '5', 'got "5"'],
    ['null', one, null, 'got null'],
  ])('#2.2 #C9 %s is a BadAskError', (_, reader, cost, message) => {
    expect(() => reader.read('cost', cost, [0, 0])).toThrow(BadAskError);
    expect(() => reader.read('cost', cost, [0, 0])).toThrow(message);
  });
});

describe('what a call has used in the end', () => {
  const reader = new CostReader('g', ['requests', 'tokens']);
  const costs = [1, 100];
  const end = { kind: 'completed', started: true, emitted: 1 } as const;
  const cancelled = { ...end, kind: 'cancelled' } as const;

  it('#2.2 is what was reported, and its cost where nothing was', () => {
    expect(finalUse(costs, undefined, end, 'keep', reader)).toEqual([1, 100]);
    expect(finalUse(costs, [undefined, 30], end, 'keep', reader)).toEqual([1, 30]);
    expect(finalUse(costs, [undefined, 130], { ...end, kind: 'failed', error: new Error('x') }, 'keep', reader)).toEqual([1, 130]);
  });

  it('#2.2 is nothing if the call never started, or was refused further in before any value', () => {
    const local = new CostExceedsCapacityError('g', 'tokens', 2, 1);
    expect(finalUse(costs, undefined, { kind: 'failed', started: false, emitted: 0, error: local }, 'keep', reader)).toEqual([0, 0]);
    expect(finalUse(costs, undefined, { ...cancelled, started: false, emitted: 0 }, 'keep', reader)).toEqual([0, 0]);
    expect(finalUse(costs, undefined, { kind: 'failed', started: true, emitted: 0, error: local }, 'keep', reader)).toEqual([0, 0]);
    expect(finalUse(costs, undefined, { kind: 'failed', started: true, emitted: 1, error: local }, 'keep', reader)).toEqual([1, 100]);
    expect(finalUse(costs, undefined, { kind: 'failed', started: true, emitted: 0, error: new Error() }, 'keep', reader)).toEqual([1, 100]);
  });

  it('is its cost if it was stopped after the start, or told nonsense', () => {
    for (const error of [new CircuitTrippedError('c', 'x'), new BudgetTrippedError('b', [], 'x'), new BadAskError('g', 'use', 'x', 1)])
      expect(finalUse(costs, undefined, { kind: 'failed', started: true, emitted: 0, error }, 'keep', reader)).toEqual([1, 100]);
  });

  it('#2.2 after a cancel is kept, refunded, or what a function says', () => {
    expect(finalUse(costs, [undefined, 30], cancelled, 'keep', reader)).toEqual([1, 100]);
    expect(finalUse(costs, [undefined, 130], cancelled, 'keep', reader)).toEqual([1, 130]);
    expect(finalUse(costs, [undefined, 30], cancelled, 'refund', reader)).toEqual([0, 30]);
    expect(finalUse(costs, undefined, cancelled, 'refund', reader)).toEqual([0, 0]);
    expect(finalUse(costs, undefined, cancelled, ({ emitted }) => ({ tokens: emitted * 7 }), reader)).toEqual([1, 7]);
  });

  it('#2.2 reports are running totals: the highest counts, nothing is added up', () => {
    const seen = [
      [undefined, 5],
      [3, undefined],
      [2, 9],
      [undefined, 4],
    ].reduce<(number | undefined)[] | undefined>(mergeUse, undefined);
    expect(seen).toEqual([3, 9]);
    expect(mergeUse(undefined, [0, undefined])).toEqual([0, undefined]);
    expect(mergeUse([undefined, 2], [0, 0])).toEqual([0, 2]);
  });
});
