import { scoped } from 'rxfleet';
import { openScopes } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';

type Step = () => Promise<IteratorResult<string>>;

/** An async iterable from bare functions. */
function iterable(next: Step, stop?: Step): AsyncIterable<string> {
  return { [Symbol.asyncIterator]: () => ({ next, ...(stop === undefined ? {} : { return: stop }) }) };
}

describe('async iterables as calls', () => {
  it('a ReadableStream that is stuck is cancelled at once, which is waited for', () =>
    fake(async ({ watch, lines, advance }) => {
      const cancel = (): Promise<void> => new Promise((resolve) => setTimeout(() => (lines.push('cancelled'), resolve()), 3));
      const stream = new ReadableStream<string>({ pull: () => new Promise<never>(() => {}), cancel });
      const subscription = watch(scoped((scope) => scope.call(() => stream as unknown as AsyncIterable<string>)));
      await advance(1);
      subscription.unsubscribe();
      expect([stream.locked, openScopes().length]).toEqual([false, 1]);
      await advance(5);
      expect([lines, openScopes().length]).toEqual([['cancelled'], 0]);
    }));

  it('pull one value after the other, and complete with the iterator', () =>
    fake(async ({ watch, lines, advance }) => {
      let pulls = 0;
      const source = iterable(
        () =>
          new Promise((resolve) =>
            setTimeout(() => resolve(pulls < 3 ? { done: false, value: `${pulls++}` } : { done: true, value: 'ignored' }), 2),
          ),
      );
      watch(scoped((scope) => scope.call(() => source)));
      await advance(20);
      expect(lines).toEqual(['2 next 0', '4 next 1', '6 next 2', '8 complete']);
    }));

  it.each([
    ['rejects', (): Promise<never> => Promise.reject(new Error('next'))],
    [
      'throws',
      (): never => {
        throw new Error('next');
      },
    ],
  ])('a next() that %s fails the call, and return() is not called', (_, next) =>
    fake(async ({ watch, lines, advance }) => {
      let returned = 0;
      watch(scoped((scope) => scope.call(() => iterable(next, async () => (returned++, { done: true, value: undefined })))));
      await advance(0);
      expect(lines).toEqual(['0 error ScopeError[next]']);
      expect(returned).toBe(0);
    }),
  );

  it('a second next() that throws synchronously fails the call', () =>
    fake(async ({ watch, lines, advance }) => {
      let pulls = 0;
      const next = (): Promise<IteratorResult<string>> => {
        if (pulls++ === 0) return Promise.resolve({ done: false, value: 'a' });
        throw new Error('next');
      };
      watch(scoped((scope) => scope.call(() => iterable(next))));
      await advance(0);
      expect(lines).toEqual(['0 next a', '0 error ScopeError[next]']);
    }));

  it('a [Symbol.asyncIterator]() that throws fails the call', () =>
    fake(async ({ watch, lines, advance }) => {
      const source: AsyncIterable<string> = {
        [Symbol.asyncIterator]() {
          throw new Error('iterator');
        },
      };
      watch(scoped((scope) => scope.call(() => source)));
      await advance(0);
      expect(lines).toEqual(['0 error ScopeError[iterator]']);
    }));

  it('return() is called once, also when it is told to stop in next', () =>
    fake(async ({ note, lines, advance }) => {
      const group = handle();
      const source = iterable(
        async () => ({ done: false, value: 'a' }),
        async () => (note('return'), { done: true, value: undefined }),
      );
      const subscription = scoped((scope) => scope.call(() => source), { onScope: group.take }).subscribe(() => {
        note('next');
        subscription.unsubscribe();
        group.scope.cancel();
      });
      await advance(10);
      expect(lines).toEqual(['0 next', '0 return']);
      expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [] });
    }));

  it('a value that arrives after the stop is dropped; an error is a failure of the cleanup', () =>
    fake(async ({ advance, lines, note }) => {
      const group = handle();
      const pending = iterable(
        () => new Promise((_, reject) => setTimeout(() => reject(new Error('late next')), 5)),
        () => new Promise((resolve) => setTimeout(() => resolve({ done: true, value: undefined }), 10)),
      );
      const subscription = scoped((scope) => scope.call(() => pending), { onScope: group.take }).subscribe(() => note('next'));
      await advance(1);
      subscription.unsubscribe();
      await advance(20);
      expect(lines).toEqual([]);
      expect(reportOf(group.scope).errors.map(({ error, phase }) => [String(error), phase])).toEqual([['Error: late next', 'cleanup']]);
    }));

  it('an AbortError of the pending next() is the acknowledgement, not a failure', () =>
    fake(async ({ advance }) => {
      const group = handle();
      const aborting = (signal: AbortSignal): AsyncIterable<string> =>
        iterable(
          () => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
          async () => ({ done: true, value: undefined }),
        );
      const subscription = scoped((scope) => scope.call(aborting), { onScope: group.take }).subscribe();
      await advance(1);
      subscription.unsubscribe();
      await advance(5);
      expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [] });
    }));

  it('a return() that never settles is abandoned at the end of the grace', () =>
    fake(async ({ advance }) => {
      const group = handle();
      const stuck = iterable(
        () => new Promise(() => {}),
        () => new Promise(() => {}),
      );
      const subscription = scoped((scope) => scope.call(() => stuck, { label: 'stream' }), { graceMs: 5, onScope: group.take }).subscribe();
      await advance(1);
      subscription.unsubscribe();
      await advance(20);
      expect(reportOf(group.scope).abandoned).toMatchObject([{ label: 'stream' }]);
    }));
});
