import { createRequire } from 'node:module';
import { Observable, of, take } from 'rxjs';
import type * as Rxjs from 'rxjs';
import { fanOutScoped, scoped, takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake } from '../support/promises.js';
import { virtual } from '../support/virtual.js';

/** A second copy of rxjs, as an application has it whose bundler took the other module format. */
function otherRxjs(): typeof Rxjs {
  const require = createRequire(import.meta.url);
  const kept = new Map(Object.entries(require.cache).filter(([path]) => path.includes('/rxjs/')));
  for (const path of kept.keys()) Reflect.deleteProperty(require.cache, path);
  const copy = require('rxjs') as typeof Rxjs;
  for (const [path, module] of kept) require.cache[path] = module;
  return copy;
}

describe('an application with a second copy of rxjs', () => {
  const other = otherRxjs();

  it('is really another one', () => expect(other.Observable).not.toBe(Observable));

  it('may put its operators around ours', () => {
    const seen: unknown[] = [];
    const foreign = other.map((value: number) => value + 1);
    of(1, 2)
      .pipe(
        fanOutScoped((value) => of(value)),
        foreign,
        takeWithin(5),
        foreign,
      )
      .subscribe({ next: (value) => seen.push(value), complete: () => seen.push('end') });
    expect(seen).toEqual([3, 4, 'end']);
  });

  it('may put its operators around our calls, inside of our operators', () => {
    const seen: unknown[] = [];
    const stop = other.take(1) as unknown as Rxjs.OperatorFunction<number, number>;
    of(1)
      .pipe(fanOutScoped((_, __, ctx) => ctx.call(() => of(1, 2, 3)).pipe(stop)))
      .subscribe({ next: (value) => seen.push(value), error: (error) => seen.push(error), complete: () => seen.push('end') });
    expect(seen).toEqual([1, 'end']);
  });

  it('may give us its sources, children and calls', () => {
    const seen: unknown[] = [];
    const theirs = <T>(...values: T[]): Rxjs.Observable<T> => other.of(...values);
    const ours = fanOutScoped((value: number, index, ctx) => (index === 0 ? theirs(value) : ctx.call(() => theirs(value))));
    (theirs(1, 2) as unknown as { pipe(operator: unknown): Rxjs.Observable<number> })
      .pipe(ours)
      .subscribe({ next: (value) => seen.push(value), complete: () => seen.push('end') });
    expect(seen).toEqual([1, 2, 'end']);
  });
});

describe('other Observables', () => {
  it('that have Symbol.observable are sources like any other', () => {
    const seen: unknown[] = [];
    const symbol = (typeof Symbol === 'function' && (Symbol as { observable?: symbol }).observable) || '@@observable';
    const foreign = {
      [symbol]: () => ({
        subscribe: (observer: Rxjs.Observer<number>) => {
          observer.next(1);
          observer.complete();
          return { unsubscribe: () => {} };
        },
      }),
    } as unknown as Rxjs.ObservableInput<number>;
    scoped(() => foreign).subscribe((value) => seen.push(value));
    of(1)
      .pipe(fanOutScoped(() => foreign))
      .subscribe((value) => seen.push(value));
    expect(seen).toEqual([1, 1]);
  });

  it('a web ReadableStream is an async iterable: it is cancelled when the call is', () =>
    fake(async ({ watch, lines, note, advance }) => {
      const stream = (): ReadableStream<string> => {
        let sent = 0;
        return new ReadableStream(
          { pull: (controller) => controller.enqueue(`${sent++}`), cancel: () => note('cancelled') },
          { highWaterMark: 0 },
        );
      };
      watch(scoped((scope) => scope.call(() => stream() as unknown as AsyncIterable<string>)).pipe(take(2)));
      await advance(5);
      expect(lines).toEqual(['0 next 0', '0 next 1', '0 complete', '0 cancelled']);
    }));

  it('a subclass of Observable that overrides subscribe', () =>
    virtual(({ watch, lines, flush }) => {
      class Loud extends Observable<string> {
        constructor() {
          super((out) => (out.next('a'), out.complete()));
        }
      }
      watch(of(1).pipe(fanOutScoped(() => new Loud())));
      flush();
      expect(lines).toEqual(['0 next a', '0 complete']);
    }));
});
