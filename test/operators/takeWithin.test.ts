import { Observable, Subject, take } from 'rxjs';
import { takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { keepsTheContract } from '../support/contract.js';
import { handle } from '../support/scopes.js';
import { virtual } from '../support/virtual.js';

describe('takeWithin', () => {
  describe('with time to spare', () => keepsTheContract(() => takeWithin(1000), 'boom'));
  describe('without a deadline', () => keepsTheContract(() => takeWithin(null), 'boom'));

  it.each([
    ['never', '-------', '-----|', '^----!'],
    ['empty in time', '---|', '---|', '^--!'],
    ['one in time', '--a|', '--a|', '^--!'],
    ['cut between values', 'a--b--c--|', 'a--b-|', '^----!'],
    ['an end at the boundary frame', 'a----|', 'a----|', '^----!'],
    ['a value at the boundary frame', 'a----b--|', 'a----(b|)', '^----!'],
    ['an error at the boundary frame', 'a----#', 'a----#', '^----!'],
    ['an error later', 'a-----#', 'a----|', '^----!'],
  ])('%s', (_, diagram, expected, subscription) =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(diagram);
      expectObservable(source.pipe(takeWithin(5))).toBe(expected);
      expectSubscriptions(source.subscriptions).toBe(subscription);
    }),
  );

  it('each subscription has a deadline of its own', () =>
    virtual(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('a-b-c-d-e-f-g');
      const result = source.pipe(takeWithin(5));
      expectObservable(result).toBe('a-b-c|');
      expectObservable(result, '---^').toBe('----c-d-(e|)');
      expectSubscriptions(source.subscriptions).toBe(['^----!', '---^----!']);
    }));

  it('unsubscribed before the deadline, forgets it', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, scheduler, flush }) => {
      const source = cold('a-b-');
      expectObservable(source.pipe(takeWithin(500)), '^--!').toBe('a-b-');
      expectSubscriptions(source.subscriptions).toBe('^--!');
      flush();
      expect(scheduler.actions).toEqual([]);
    }));

  it('values that the source emits while it is being stopped are dropped', () =>
    virtual(({ watch, lines, flush }) => {
      const source = new Subject<string>();
      watch(source.pipe(takeWithin(5)));
      source.next('a');
      flush();
      source.next('b');
      expect(lines).toEqual(['0 next a', '5 complete']);
    }));

  it('a deadline that is reached while a consumer handles a value: no second end', () =>
    virtual(({ hot, watch, lines, flush }) => {
      const group = handle();
      watch(hot('--a').pipe(takeWithin(5, { onScope: group.take }), (source) => source.pipe(take(1))));
      flush();
      expect(lines).toEqual(['2 next a', '2 complete']);
      expect(group.scope.dump().state).toBe('closed');
    }));

  it.each([
    ['onEnd', 'x', TypeError],
    ['graceMs', -1, RangeError],
    ['label', 5, TypeError],
    ['signal', {}, TypeError],
    ['within', {}, TypeError],
    ['onScope', 1, TypeError],
    ['scheduler', {}, TypeError],
  ])('%s: %s is refused when the operator is called', (option, value, kind) => {
    expect(() => takeWithin(5, { [option]: value })).toThrow(kind);
    expect(() => takeWithin(5, { [option]: value })).toThrow(`takeWithin: ${option} must be`);
  });

  it('an onScope that throws errors the output, and nothing is left open', () =>
    virtual(({ watch, lines, flush, cold, expectSubscriptions }) => {
      const source = cold('a');
      const onScope = (): void => {
        throw 'from onScope';
      };
      watch(source.pipe(takeWithin(5, { onScope })));
      flush();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/^0 error .*from onScope/);
      expectSubscriptions(source.subscriptions).toBe([]);
    }));

  it('a source that throws in subscribe errors the output', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        new (class extends Observable<never> {
          override subscribe(): never {
            throw 'from subscribe';
          }
        })().pipe(takeWithin(5)),
      );
      flush();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/error .*from subscribe/);
    }));
});
