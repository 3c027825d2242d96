import {
  catchError,
  concat,
  defer,
  EMPTY,
  finalize,
  from,
  merge,
  NEVER,
  Observable,
  of,
  range,
  retry,
  Subject,
  take,
  timeout,
  timer,
} from 'rxjs';
import { fanOutScoped, takeWithin, type FanOutOptions } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, virtual } from '../support/virtual.js';

/** Counts children that are alive. */
function gauge(): { readonly peak: number; readonly live: number; around<T>(child: Observable<T>): Observable<T> } {
  let [live, peak] = [0, 0];
  return {
    get live() {
      return live;
    },
    get peak() {
      return peak;
    },
    around: (child) =>
      defer(() => {
        peak = Math.max(peak, ++live);
        return child.pipe(finalize(() => live--));
      }),
  };
}

describe('capacity', () => {
  it('Q01 the limit holds at all times, and the slots are used', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('(abcdef|)');
      // ---a          a 3, then c 5, then e 4
      // ----b         b 4, then d 3, then f 5
      const children = Object.fromEntries('abcdef'.split('').map((key, i) => [key, cold(`${'-'.repeat(3 + (i % 3))}(${key}|)`)]));
      const result = source.pipe(fanOutScoped((key) => children[key] as Observable<string>, { concurrency: 2 }));
      expectObservable(result).toBe('---ab--dc--e-(f|)');
      expectSubscriptions(source.subscriptions).toBe('(^!)');
      const spans = { a: '^--!', b: '^---!', c: '---^----!', d: '----^--!', e: '-------^---!', f: '--------^----!' };
      for (const [key, span] of Object.entries(spans)) expectSubscriptions(children[key]?.subscriptions ?? []).toBe(span);
    }));

  it.each([1, 2, 5, 16])('Q01 with limit %s never more are alive, whatever way they end', (concurrency) =>
    virtual(({ flush }) => {
      const count = gauge();
      range(0, 60)
        .pipe(
          fanOutScoped(
            (i, _, ctx) => {
              const kinds = [of(i), later(i % 7, i), failing(i % 5, 'boom'), EMPTY, cleaning(ctx, 2).pipe(take(0)), later(i % 3, i)];
              return count.around(kinds[i % kinds.length] as Observable<number>);
            },
            { concurrency, policy: 'settle' },
          ),
        )
        .subscribe();
      flush();
      expect(count.peak).toBeLessThanOrEqual(concurrency);
      expect(count.live).toBe(0);
    }),
  );

  it('Q02 a timed-out call keeps its slot until it has really settled', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = ['A', 'B', 'C'].map((name) => works.deaf(name, 30, name));
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task).pipe(timeout(5)), { concurrency: 1, policy: 'settle' })));
      await advance(200);
      expect(works.peak).toBe(1);
      expect(lines.filter((line) => line.endsWith('settled'))).toEqual(['30 A settled', '60 B settled', '90 C settled']);
      expect(lines.at(-1)).toBe('90 complete');
    }));

  it('Q02 an attempt that was given up keeps the slot too: retry starts the next one when it has settled', () =>
    fake(async ({ works, watch, lines, advance }) => {
      let attempt = 0;
      const attempts = (value: string) => (signal: AbortSignal) =>
        (attempt++ % 2 === 0 ? works.deaf(`slow ${value}`, 30, value) : works.deaf(`quick ${value}`, 2, value))(signal);
      watch(
        from(['a', 'b']).pipe(fanOutScoped((value, _, ctx) => ctx.call(attempts(value)).pipe(timeout(20), retry(1)), { concurrency: 1 })),
      );
      await advance(300);
      expect(works.peak).toBe(1);
      expect(lines).toEqual([
        ...['30 slow a settled', '32 quick a settled', '32 next a'],
        ...['62 slow b settled', '64 quick b settled', '64 next b', '64 complete'],
      ]);
    }));

  it('Q02 a limit of n means n calls, under timeout, retry and takeUntil alike', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const shapes = [
        <T>(call: Observable<T>) => call.pipe(timeout(3), retry(1)),
        <T>(call: Observable<T>) => call.pipe(take(1)),
        <T>(call: Observable<T>) =>
          call.pipe(
            timeout(4),
            catchError(() => call),
          ),
        <T>(call: Observable<T>) => call,
      ];
      watch(
        range(0, 24).pipe(
          fanOutScoped(
            (i, _, ctx) =>
              (shapes[i % 4] as (call: Observable<number>) => Observable<number>)(ctx.call(works.deaf(`${i}`, 2 + (i % 5) * 3, i))),
            { concurrency: 3, policy: 'settle' },
          ),
        ),
      );
      await advance(2000);
      expect(works.peak).toBe(3);
      expect(lines.at(-1)).toMatch(/complete$/);
    }));

  it('Q04 waiters are served in the order of their arrival', () =>
    virtual(({ hot, flush }) => {
      const started: string[] = [];
      hot('(ab)c---(de)f---|')
        .pipe(fanOutScoped((key) => (started.push(key), later(2, key)), { concurrency: 1 }))
        .subscribe();
      flush();
      expect(started.join('')).toBe('abcdef');
    }));

  it('Q04 index is the position in the source', () =>
    virtual(({ hot, watch, lines, flush }) => {
      watch(hot('(abc)d|').pipe(fanOutScoped((key, index) => later(3, `${key}${index}`), { concurrency: 2 })));
      flush();
      expect(lines.map((line) => line.split(' ').at(-1))).toEqual(['a0', 'b1', 'c2', 'd3', 'complete']);
    }));

  it.each([
    ['zero', 0, RangeError],
    ['negative', -1, RangeError],
    ['NaN', Number.NaN, RangeError],
    ['a fraction', 1.5, RangeError],
    ['minus Infinity', -Infinity, RangeError],
    ['a string', '4', TypeError],
    ['null', null, TypeError],
    ['a bigint', 4n, TypeError],
  ])('Q07 concurrency that is %s is refused when the operator is called', (_, concurrency, kind) => {
    expect(() => fanOutScoped(() => NEVER, { concurrency } as FanOutOptions as { policy: 'settle' })).toThrow(kind);
    expect(() => fanOutScoped(() => NEVER, { concurrency } as FanOutOptions as { policy: 'settle' })).toThrow(
      /^fanOutScoped: concurrency must be an integer of at least 1, or Infinity, got/,
    );
  });

  it('is 16 by default, and unbounded only when asked for', () =>
    virtual(({ flush }) => {
      for (const [options, expected] of [
        [{}, 16],
        [{ concurrency: undefined }, 16],
        [{ concurrency: Infinity }, 100],
      ] as const) {
        const count = gauge();
        range(0, 100)
          .pipe(fanOutScoped(() => count.around(pause(1)), options as FanOutOptions as { policy: 'settle' }))
          .subscribe();
        expect(count.live).toBe(expected);
        flush();
        expect(count.peak).toBe(expected);
      }
    }));

  it('a slot is free only when the child has been torn down', () =>
    virtual(({ hot, note, lines, flush }) => {
      const child = (name: string): Observable<string> =>
        new Observable<string>((out) => {
          note(`start ${name}`);
          const subscription = later(2, name).subscribe(out);
          return () => {
            subscription.unsubscribe();
            note(`torn down ${name}`);
          };
        });
      hot('(ab|)')
        .pipe(fanOutScoped(child, { concurrency: 1 }))
        .subscribe();
      flush();
      expect(lines).toEqual(['0 start a', '2 torn down a', '2 start b', '4 torn down b']);
    }));

  it('a slot is free only when subscribe() has returned', () => {
    const events: string[] = [];
    from(['a', 'b'])
      .pipe(
        fanOutScoped(
          (name) =>
            new Observable<string>((out) => {
              events.push(`in ${name}`);
              out.next(name);
              out.complete();
              events.push(`out ${name}`);
            }),
          { concurrency: 1 },
        ),
      )
      .subscribe();
    expect(events).toEqual(['in a', 'out a', 'in b', 'out b']);
  });

  it('a slot is free only when tracked cleanup and calls on the side are done', () =>
    virtual(({ hot, note, lines, flush }) => {
      hot('(ab|)')
        .pipe(
          fanOutScoped(
            (name, _, ctx) => {
              note(`start ${name}`);
              ctx.track(pause(4));
              ctx.call(() => pause(6)).subscribe();
              return of(name);
            },
            { concurrency: 1 },
          ),
        )
        .subscribe();
      flush();
      expect(lines).toEqual(['0 start a', '6 start b']);
    }));

  it('a child cancelled by hand keeps its slot until its call has settled', () =>
    fake(async ({ works, advance, lines }) => {
      const tasks = [works.deaf('A', 20, 'A'), works.deaf('B', 5, 'B')];
      from(tasks)
        .pipe(
          fanOutScoped(
            (task, index, ctx) => {
              if (index === 0) timer(5).subscribe(() => ctx.cancel());
              return ctx.call(task);
            },
            { concurrency: 1 },
          ),
        )
        .subscribe();
      await advance(50);
      expect(lines).toEqual(['20 A settled', '25 B settled']);
    }));

  it('the source is not held back: what waits is queued, and dump() says how much', () =>
    virtual(({ hot, at, flush }) => {
      const group = handle();
      const source = hot('(abcde)|');
      source.pipe(fanOutScoped(() => later(3, 0), { concurrency: 2, onScope: group.take })).subscribe();
      const running = (): number => group.scope.dump().calls.length + group.scope.dump().scopes.length;
      at(1, () => expect([group.scope.dump().waiting, running()]).toEqual([3, 2]));
      at(4, () => expect([group.scope.dump().waiting, running()]).toEqual([1, 2]));
      flush();
    }));

  it('a thousand waiters are dropped at once by a cancel, each with its outcome', () =>
    virtual(({ flush, at }) => {
      const group = handle();
      range(0, 1000)
        .pipe(fanOutScoped(() => NEVER, { concurrency: 3, onScope: group.take }))
        .subscribe();
      at(2, () => group.scope.cancel());
      flush();
      const { outcomes } = reportOf(group.scope);
      expect(outcomes).toHaveLength(1000);
      expect(outcomes.map(({ index }) => index)).toEqual([...Array(1000).keys()]);
      expect(outcomes.filter(({ status }) => status === 'not-started')).toHaveLength(997);
    }));

  it('values that arrive after the source was asked to stop do not count', () =>
    virtual(({ flush }) => {
      const group = handle();
      const source = new Subject<number>();
      source.pipe(fanOutScoped(() => NEVER, { onScope: group.take })).subscribe();
      source.next(1);
      group.scope.cancel();
      source.next(2);
      flush();
      expect(reportOf(group.scope).outcomes).toHaveLength(1);
    }));

  it('two fan-outs in a row hold their own limits', () =>
    virtual(({ flush, watch, lines }) => {
      const [first, second] = [gauge(), gauge()];
      watch(
        range(0, 12).pipe(
          fanOutScoped((i) => first.around(later(2, i)), { concurrency: 3 }),
          fanOutScoped((i) => second.around(later(3, i)), { concurrency: 2 }),
        ),
      );
      flush();
      expect([first.peak, second.peak]).toEqual([3, 2]);
      expect(lines).toHaveLength(13);
    }));

  it('time in the queue counts against a deadline', () =>
    virtual(({ watch, lines, flush }) => {
      const started: number[] = [];
      watch(
        merge(of(0, 1, 2), concat(pause(1), of(3))).pipe(
          fanOutScoped((i) => (started.push(i), later(10, i)), { concurrency: 1 }),
          takeWithin(15),
        ),
      );
      flush();
      expect(started).toEqual([0, 1]);
      expect(lines).toEqual(['10 next 0', '15 complete']);
    }));
});
