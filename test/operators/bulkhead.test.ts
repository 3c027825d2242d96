import { concat, defer, from, merge, NEVER, Observable, of, range, throwError, toArray, type Subscription } from 'rxjs';
import { fanOutScoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { later, virtual } from '../support/virtual.js';

describe('bulkhead', () => {
  it('holds the second call until the first has ended', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const one = cold('--a--|');
      const two = cold('--b--|');
      const three = cold('--c--#');
      expectObservable(merge(...[one, two, three].map((call) => call.pipe(bulkhead(semaphore))))).toBe('--a----b----c--#');
      expectSubscriptions(one.subscriptions).toBe('^----!');
      expectSubscriptions(two.subscriptions).toBe('-----^----!');
      expectSubscriptions(three.subscriptions).toBe('----------^----!');
    }));

  it('unsubscribing a fan-out of 5 over a bulkhead of 1 starts none of the waiting four', () =>
    virtual(({ at, flush, now }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const started: string[] = [];
      const call = (n: number): Observable<never> =>
        defer(() => {
          started.push(`${n}@${now()}`);
          return NEVER;
        });
      const sub = range(5).pipe(fanOutScoped((n) => call(n).pipe(bulkhead(semaphore)), { concurrency: 5 })).subscribe();
      at(5, () => sub.unsubscribe());
      flush();
      expect(started).toEqual(['0@0']);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }));

  it('100,000 synchronous calls behind one that takes a while use no stack', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 1 });
      let seen = 0;
      later(1, 'x').pipe(bulkhead(semaphore)).subscribe();
      for (let i = 0; i < 100_000; i++) of(i).pipe(bulkhead(semaphore)).subscribe(() => seen++);
      flush();
      expect(seen).toBe(100_000);
    }));

  it('tells downstream before it lets the next in', () =>
    virtual(({ flush, at }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const log: string[] = [];
      const call = (name: string): Observable<string> =>
        new Observable<string>((out) => {
          log.push(`${name} starts, ${semaphore.snapshot().inUse} in use`);
          at(2, () => out.complete());
          return () => log.push(`${name} torn down`);
        });
      for (const name of ['a', 'b'])
        call(name)
          .pipe(bulkhead(semaphore))
          .subscribe({ complete: () => log.push(`${name} told, ${semaphore.snapshot().inUse} in use`) });
      flush();
      expect(log).toEqual([
        'a starts, 1 in use',
        'a torn down',
        'a told, 0 in use',
        'b starts, 1 in use',
        'b torn down',
        'b told, 0 in use',
      ]);
    }));
  it('nested', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 3 });
      const errors: unknown[] = [];
      of(1).pipe(fanOutScoped(() => of(2).pipe(bulkhead(semaphore)), {label: 'inner'}), bulkhead(semaphore)).subscribe({ error: (e) => errors.push(e) });
      of(1).pipe(bulkhead(semaphore), bulkhead(semaphore)).subscribe({ error: (e) => errors.push(e) });
      flush();
      expect(errors.map(String)).toEqual([]);
    }));
});
