import { failWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { virtual } from '../support/virtual.js';

describe('failWithin', () => {
  describe('with time to spare', () => keepsTheContract(() => failWithin(1000), 'boom'));
  describe('without a deadline', () => keepsTheContract(() => failWithin(Infinity), 'boom'));

  it.each([
    ['never', '-------', '-----#', '^----!'],
    ['empty in time', '---|', '---|', '^--!'],
    ['cut between values', 'a--b--c--|', 'a--b-#', '^----!'],
    ['an end at the boundary frame', 'a----|', 'a----|', '^----!'],
    ['a value and the end at the boundary frame', 'a----(b|)', 'a----(b|)', '^----!'],
    ['a value at the boundary frame', 'a----b--|', 'a----(b#)', '^----!'],
    ['an end a frame later', 'a-----|', 'a----#', '^----!'],
  ])('%s', (_, diagram, expected, subscription) =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(diagram);
      expectObservable(source.pipe(failWithin(5), briefly())).toBe(expected, undefined, 'Deadline(5)');
      expectSubscriptions(source.subscriptions).toBe(subscription);
    }),
  );

  it('an error of the source at the boundary frame is the source’s', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('a----#', undefined, 'own');
      expectObservable(source.pipe(failWithin(5), briefly())).toBe('a----#', undefined, 'own');
      expectSubscriptions(source.subscriptions).toBe('^----!');
    }));

  it('each subscription has a deadline of its own', () =>
    virtual(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('a-b-c-d-e-f-g');
      const result = source.pipe(failWithin(5), briefly());
      expectObservable(result).toBe('a-b-c#', undefined, 'Deadline(5)');
      expectObservable(result, '---^').toBe('----c-d-(e#)', undefined, 'Deadline(5)');
      expectSubscriptions(source.subscriptions).toBe(['^----!', '---^----!']);
    }));

  it('options are checked by name when the operator is called', () => {
    expect(() => failWithin(5, { graceMs: Number.NaN })).toThrow('failWithin: graceMs must be');
    expect(() => failWithin(5, { label: 5 as never })).toThrow('failWithin: label must be');
  });
});
