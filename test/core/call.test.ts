import { merge, NEVER, of, repeat, Subject, switchMap, take, takeUntil, timer, toArray, type ObservableInput } from 'rxjs';
import { fanOutScoped, scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { later, virtual } from '../support/virtual.js';

describe('ctx.call', () => {
  it('runs nothing before it is subscribed, and once for each subscription', () =>
    virtual(({ flush }) => {
      let runs = 0;
      scoped((scope) => {
        const call = scope.call(() => of(runs++));
        expect(runs).toBe(0);
        return merge(call, call, call);
      }).subscribe();
      flush();
      expect(runs).toBe(3);
    }));

  const thenable = (settle: (resolve: (value: string) => void, reject: (error: unknown) => void) => void): PromiseLike<string> => ({
    then: (resolve, reject) => {
      settle(resolve as (value: string) => void, reject as (error: unknown) => void);
      return NEVER as never;
    },
  });

  it.each<[string, () => PromiseLike<unknown> | ObservableInput<unknown>, string[]]>([
    ['a promise', () => Promise.resolve('a'), ['next a', 'complete']],
    ['a rejected promise', () => Promise.reject(new Error('x')), ['error ScopeError[x]']],
    ['a promise of undefined', () => Promise.resolve(undefined), ['next undefined', 'complete']],
    ['a thenable', () => thenable((resolve) => resolve('a')), ['next a', 'complete']],
    [
      'a thenable that settles twice',
      () => thenable((resolve, reject) => (resolve('a'), resolve('b'), reject('c'))),
      ['next a', 'complete'],
    ],
    [
      'a thenable that throws',
      () =>
        thenable(() => {
          throw new Error('then');
        }),
      ['error ScopeError[then]'],
    ],
    ['an Observable', () => of('a', 'b'), ['next a', 'next b', 'complete']],
    ['an array', () => ['a', 'b'], ['next a', 'next b', 'complete']],
    ['an iterable', () => new Set(['a', 'b']), ['next a', 'next b', 'complete']],
    [
      'a generator',
      function* () {
        yield 'a';
        yield 'b';
      },
      ['next a', 'next b', 'complete'],
    ],
    [
      'an async generator',
      async function* () {
        yield 'a';
        await Promise.resolve();
        yield 'b';
      },
      ['next a', 'next b', 'complete'],
    ],
    [
      'an async generator that throws',
      async function* () {
        yield 'a';
        await Promise.resolve();
        throw new Error('x');
      },
      ['next a', 'error ScopeError[x]'],
    ],
  ])('takes %s', (_, fn, expected) =>
    fake(async ({ watch, lines, advance }) => {
      watch(scoped((scope) => scope.call(fn)));
      watch(of(1).pipe(fanOutScoped((__, ___, ctx) => ctx.call(fn))), 'fan');
      await advance(1);
      const of1 = (name: string): string[] =>
        lines.filter((line) => line.includes(' fan ') === (name === 'fan')).map((line) => line.replace(/^\d+ (fan )?/, ''));
      expect(of1('')).toEqual(expected);
      expect(of1('fan')).toEqual(expected);
    }),
  );

  it.each([[undefined], [null], [5], [{}], [() => {}]])('fails with a TypeError for %o', (value) =>
    fake(async ({ watch, lines, advance }) => {
      watch(scoped((scope) => scope.call(() => value as never)));
      watch(of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(() => value as never))));
      watch(of(1).pipe(fanOutScoped(() => value as never)));
      await advance(0);
      expect(lines).toHaveLength(3);
      for (const line of lines) expect(line).toMatch(/^0 error ScopeError\[.*where a stream was expected/);
    }),
  );

  it('is named by its option, else by its function, else `call`', () => {
    const group = handle();
    const subscription = scoped(
      (scope) => {
        function search(): typeof NEVER {
          return NEVER;
        }
        return merge(
          scope.call(search),
          scope.call(search, { label: 'named' }),
          scope.call(() => NEVER),
        );
      },
      { onScope: group.take },
    ).subscribe();
    expect(group.scope.dump().calls.map(({ label }) => label)).toEqual(['search', 'named', 'call']);
    subscription.unsubscribe();
  });

  it('left before it has settled is cancelled, and waited for by its scope', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(scoped((scope) => merge(scope.call(works.deaf('call', 20, 1)).pipe(takeUntil(timer(5))), later(8, 'value'))));
      await advance(30);
      expect(lines).toEqual(['8 next value', '20 call settled', '20 complete']);
    }));

  it('taken from in part: an endless iterable is returned', () =>
    fake(async ({ watch, lines, note, advance }) => {
      async function* endless(): AsyncGenerator<number> {
        try {
          for (let i = 0; ; i++) yield i;
        } finally {
          note('finally');
        }
      }
      watch(scoped((scope) => scope.call(endless).pipe(take(2), toArray())));
      await advance(1);
      expect(lines).toEqual(['0 next [0,1]', '0 finally', '0 complete']);
    }));
});

describe('the next attempt of the same call', () => {
  it('starts when the one that was left has settled', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(scoped((scope) => scope.call(works.deaf('call', 20, 'value')).pipe(takeUntil(timer(5)), repeat(2))));
      await advance(100);
      // The second waits from 5 on and is left at 10, before it could start.
      expect(works.started).toEqual(['call']);
      expect(lines).toEqual(['20 call settled', '20 complete']);
    }));

  it('starts when the grace of the one that was left is over, which is then abandoned', () =>
    fake(async ({ works, watch, lines, advance, note }) => {
      const group = handle();
      const again = new Subject<void>();
      let attempt = 0;
      watch(
        scoped(
          (scope) => {
            const call = scope.call(
              (signal) => (note('attempt'), attempt++ === 0 ? works.stuck('first')(signal) : works.deaf('second', 3, 'value')(signal)),
            );
            return merge(timer(0), again).pipe(
              switchMap(() => call),
              take(1),
            );
          },
          { graceMs: 10, onScope: group.take },
        ),
      );
      await advance(5);
      again.next();
      await advance(50);
      expect(lines[0]).toBe('0 attempt');
      expect(lines[1]).toMatch(/^1[56] attempt$/);
      expect(lines.slice(2).map((line) => line.replace(/^\d+ /, ''))).toEqual(['second settled', 'next value', 'complete']);
      expect(reportOf(group.scope).abandoned).toHaveLength(1);
    }));

  it('that still waits when the scope is cancelled never starts', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      const again = new Subject<void>();
      watch(
        scoped(
          (scope) => {
            const call = scope.call(works.deaf('call', 20, 'value'));
            return merge(timer(0), again).pipe(switchMap(() => call));
          },
          { onScope: group.take },
        ),
      );
      await advance(5);
      again.next();
      await advance(2);
      group.scope.cancel();
      await advance(50);
      expect(works.started).toEqual(['call']);
      expect(lines.at(-1)).toMatch(/^2\d complete$/);
    }));

  it('runs beside one that nobody left', () =>
    fake(async ({ works, watch, advance, lines }) => {
      watch(
        scoped((scope) => {
          const call = scope.call(works.deaf('call', 5, 'value'));
          return merge(call, call);
        }),
      );
      await advance(50);
      expect(works.peak).toBe(2);
      expect(lines.at(-1)).toBe('5 complete');
    }));
});
