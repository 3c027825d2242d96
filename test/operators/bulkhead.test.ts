import {
  concat,
  defer,
  finalize,
  merge,
  mergeMap,
  NEVER,
  Observable,
  of,
  range,
  Subject,
  tap,
  timer,
  type MonoTypeOperatorFunction,
} from 'rxjs';
import { fanOutScoped, scoped, takeWithin } from 'rxfleet';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { later, virtual } from '../support/virtual.js';

describe('bulkhead', () => {
  afterEach(() => void vi.useRealTimers());

  describe('with room', () => keepsTheContract(() => bulkhead(new Semaphore({ limit: 3 })), 'boom'));
  describe('with room for what it asks', () => {
    const semaphore = new Semaphore({ limit: 9 });
    keepsTheContract(() => bulkhead(semaphore, () => ({ permits: 3, key: 'a', priority: 1 })), 'boom');
  });

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

  it.each([
    ['ends', '--a--|', undefined, '-----^----!', '-------b--|'],
    ['fails', '--a--#', undefined, '-----^----!', '-------b--|'],
    ['is unsubscribed', '--a----------', '----!', '----^----!', '------b--|'],
  ])('lets the next in, in the same frame, when the first %s', (_, diagram, unsubscribe, subscribed, expected) =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const [one, two] = [cold(diagram), cold('--b--|')];
      expectObservable(one.pipe(bulkhead(semaphore)), unsubscribe).toBe(unsubscribe === undefined ? diagram : '--a--');
      expectObservable(two.pipe(bulkhead(semaphore))).toBe(expected);
      expectSubscriptions(two.subscriptions).toBe(subscribed);
    }),
  );

  it('a call that leaves the line is never subscribed', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const [one, two, three] = [cold('-----|'), cold('b|'), cold('c|')];
      expectObservable(one.pipe(bulkhead(semaphore))).toBe('-----|');
      expectObservable(two.pipe(bulkhead(semaphore)), '--!').toBe('---');
      expectObservable(three.pipe(bulkhead(semaphore))).toBe('-----c|');
      expectSubscriptions(two.subscriptions).toBe([]);
      expectSubscriptions(three.subscriptions).toBe('-----^!');
    }));

  it('one operator function and one guarded Observable serve any number of calls', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const operate = bulkhead<string>(new Semaphore({ limit: 1 }));
      const [one, two] = [cold('--a|'), cold('--b|')];
      const guarded = one.pipe(operate);
      expectObservable(guarded).toBe('--a|');
      expectObservable(two.pipe(operate)).toBe('-----b|');
      expectObservable(guarded).toBe('--------a|');
      expectSubscriptions(one.subscriptions).toBe(['^--!', '------^--!']);
      expectSubscriptions(two.subscriptions).toBe('---^--!');
    }));

  it('tells downstream before it lets the next in, and the next starts in the same frame', () =>
    virtual(({ flush, at, now }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const log: string[] = [];
      const call = (name: string): Observable<string> =>
        new Observable<string>((out) => {
          log.push(`${now()} ${name} starts, ${semaphore.snapshot().inUse} in use`);
          at(2, () => out.complete());
          return () => log.push(`${now()} ${name} torn down`);
        });
      for (const name of ['a', 'b'])
        call(name)
          .pipe(bulkhead(semaphore))
          .subscribe({ complete: () => log.push(`${now()} ${name} told, ${semaphore.snapshot().inUse} in use`) });
      flush();
      expect(log).toEqual([
        '0 a starts, 1 in use',
        '2 a torn down',
        '2 a told, 0 in use',
        '2 b starts, 1 in use',
        '4 b torn down',
        '4 b told, 0 in use',
      ]);
    }));

  describe('of 1 never has 2 live', () => {
    /** As it is often written: count in subscribe, let the next in when the source completes. */
    function naive(): MonoTypeOperatorFunction<string> {
      let free = true;
      const line: (() => void)[] = [];
      return (source) =>
        new Observable((out) => {
          const start = (): void => {
            free = false;
            source
              .pipe(
                tap({
                  complete: () => {
                    free = true;
                    line.shift()?.();
                  },
                }),
              )
              .subscribe(out);
          };
          if (free) start();
          else line.push(start);
        });
    }

    /** How many were live at once, of calls that run until their teardown. */
    function peak(operate: MonoTypeOperatorFunction<string>): number {
      let [live, most] = [0, 0];
      virtual(({ flush }) => {
        const call = (name: string): Observable<string> =>
          defer(() => {
            most = Math.max(most, ++live);
            return later(3, name).pipe(finalize(() => live--));
          });
        merge(...['a', 'b', 'c', 'd'].map((name) => call(name).pipe(operate))).subscribe();
        flush();
      });
      return most;
    }

    it('though one that releases in complete has', () => {
      expect(peak(naive())).toBe(2);
      expect(peak(bulkhead(new Semaphore({ limit: 1 })))).toBe(1);
    });

    it.each(['inside', 'outside'])('nor with a deadline %s of it', (where) =>
      virtual(({ flush }) => {
        const semaphore = new Semaphore({ limit: 1 });
        let [live, most] = [0, 0];
        const call = scoped(
          (ctx) =>
            new Observable<never>(() => {
              most = Math.max(most, ++live);
              return () => ctx.track(timer(7).pipe(finalize(() => live--)));
            }),
        );
        const guarded = where === 'inside' ? call.pipe(takeWithin(2), bulkhead(semaphore)) : call.pipe(bulkhead(semaphore), takeWithin(2));
        for (let i = 0; i < 4; i++) guarded.subscribe();
        flush();
        expect([live, most, semaphore.snapshot().inUse]).toEqual([0, 1, 0]);
      }),
    );
  });

  it('shares its limit between fan-outs, mergeMap and single calls', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 2 });
      let [live, most, ended] = [0, 0, 0];
      const call = defer(() => {
        most = Math.max(most, ++live);
        return concat(
          later(2, 'x'),
          defer(() => (live--, [])),
        );
      }).pipe(bulkhead(semaphore));
      range(4).pipe(fanOutScoped(() => call)).subscribe(() => ended++); // prettier-ignore
      range(4).pipe(mergeMap(() => call)).subscribe(() => ended++); // prettier-ignore
      call.subscribe(() => ended++);
      flush();
      expect([most, ended]).toEqual([2, 9]);
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
      const sub = range(5)
        .pipe(fanOutScoped((n) => call(n).pipe(bulkhead(semaphore)), { concurrency: 5 }))
        .subscribe();
      at(5, () => sub.unsubscribe());
      flush();
      expect(started).toEqual(['0@0']);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }));

  it('asks for what the function says, once for each subscription', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 5 });
      let asked = 0;
      const guarded = NEVER.pipe(bulkhead(semaphore, () => ({ permits: ++asked })));
      const subs = [guarded.subscribe(), guarded.subscribe(), guarded.subscribe()];
      expect([asked, semaphore.snapshot()]).toMatchObject([3, { inUse: 3, waiting: 1 }]);
      for (const sub of subs) sub.unsubscribe();
      flush();
    }));

  it('a function that throws fails its own call', () =>
    virtual(({ expectObservable }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const guarded = of('a').pipe(
        bulkhead(semaphore, () => {
          throw new Error('ask');
        }),
        briefly(),
      );
      expectObservable(guarded).toBe('#', undefined, 'ask');
      expectObservable(of('a').pipe(bulkhead(semaphore))).toBe('(a|)');
    }));

  it('a call below a holder is refused, with the path of both', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ name: 'model', limit: 3 });
      const errors: string[] = [];
      const subAgent = of(1).pipe(fanOutScoped(() => of(2).pipe(bulkhead(semaphore)), { label: 'sub-agent' }));
      scoped(() => subAgent.pipe(bulkhead(semaphore)), { label: 'agent' }).subscribe({
        error: (error: AggregateError) => errors.push(...(error.errors[0] as AggregateError).errors.map(String)),
      });
      of(1).pipe(bulkhead(semaphore), bulkhead(semaphore)).subscribe({ error: (error) => errors.push(String(error)) }); // prettier-ignore
      flush();
      const advice = 'that would be a deadlock. Permits and locks are for leaf calls.';
      expect(errors).toEqual([
        `ReentrantAcquireError: "model" is held at agent and asked for again below it, at agent > sub-agent: ${advice}`,
        `ReentrantAcquireError: "model" is held at the root and asked for again below it, at the root: ${advice}`,
      ]);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }));

  it('100,000 synchronous calls behind one that takes a while use no stack', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 1 });
      let seen = 0;
      later(1, 'x').pipe(bulkhead(semaphore)).subscribe();
      for (let i = 0; i < 100_000; i++)
        of(i)
          .pipe(bulkhead(semaphore))
          .subscribe(() => seen++);
      flush();
      expect(seen).toBe(100_000);
    }));

  it('made outside of virtual time works inside it, and again outside', async () => {
    const semaphore = new Semaphore({ limit: 1 });
    of(1).pipe(bulkhead(semaphore)).subscribe();
    virtual(({ cold, expectObservable }) => {
      expectObservable(merge(cold('--a|').pipe(bulkhead(semaphore)), cold('--b|').pipe(bulkhead(semaphore)))).toBe('--a--b|');
    });
    const hold = NEVER.pipe(bulkhead(semaphore)).subscribe();
    const next = new Promise((resolve) => of('next').pipe(bulkhead(semaphore)).subscribe(resolve));
    hold.unsubscribe();
    expect(await next).toBe('next');
  });

  it('works on fake timers, whose clock may be set back', () => {
    vi.useFakeTimers({ now: 5_000_000 });
    const semaphore = new Semaphore({ limit: 1 });
    const seen: string[] = [];
    const hold = NEVER.pipe(bulkhead(semaphore)).subscribe();
    for (const name of ['a', 'b']) later(10, name).pipe(bulkhead(semaphore)).subscribe((each) => seen.push(each)); // prettier-ignore
    vi.advanceTimersByTime(5);
    vi.setSystemTime(0);
    hold.unsubscribe();
    vi.advanceTimersByTime(25);
    expect([seen, vi.getTimerCount()]).toEqual([['a', 'b'], 0]);
  });

  it('with a scheduler of the user’s, lets in on that scheduler', () =>
    virtual(({ scheduler, at, flush }) => {
      const mine = {
        now: () => scheduler.now(),
        schedule: vi.fn((...args: Parameters<typeof scheduler.schedule>) => scheduler.schedule(...args)),
      };
      const semaphore = new Semaphore({ limit: 1, scheduler: mine });
      const hold = NEVER.pipe(bulkhead(semaphore)).subscribe();
      const seen: string[] = [];
      of('a').pipe(bulkhead(semaphore)).subscribe((each) => seen.push(each)); // prettier-ignore
      at(1, () => hold.unsubscribe());
      flush();
      expect([seen, mine.schedule.mock.calls.length]).toEqual([['a'], 1]);
    }));

  it('C9 bad arguments throw where it is called', () => {
    const semaphore = new Semaphore({ limit: 1 });
    expect(() => bulkhead(undefined as never)).toThrow(new TypeError('bulkhead: gate must be a gate, got undefined.'));
    expect(() => bulkhead({} as never)).toThrow(TypeError);
    expect(() => bulkhead(semaphore, { permits: 0 })).toThrow(new RangeError('bulkhead: permits must be an integer of at least 1, got 0.'));
    expect(() => bulkhead(semaphore, { permits: 1.5 })).toThrow(RangeError);
    expect(() => bulkhead(semaphore, { permits: Infinity })).toThrow(RangeError);
    expect(() => bulkhead(semaphore, { permits: '1' as never })).toThrow(TypeError);
    expect(() => bulkhead(semaphore, { priority: Number.NaN })).toThrow(new RangeError('bulkhead: priority must be a number, got NaN.'));
    expect(() => bulkhead(semaphore, { priority: '1' as never })).toThrow(TypeError);
    expect(() => bulkhead(semaphore, { key: 5 as never })).toThrow(new TypeError('bulkhead: key must be a string, got 5.'));
    expect(() => bulkhead(semaphore, null as never)).toThrow(new TypeError('bulkhead: ask must be an object or a function, got null.'));
    expect(() => bulkhead(semaphore, 3 as never)).toThrow(TypeError);
    expect(() => bulkhead(semaphore, { permits: 5, key: undefined, priority: undefined })).not.toThrow();
  });

  it('a call that feeds the next from its own value waits for itself no longer than it runs', () =>
    virtual(({ flush, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const source = new Subject<string>();
      watch(
        source.pipe(
          bulkhead(semaphore),
          mergeMap((value) => of(`${value}!`).pipe(bulkhead(semaphore))),
        ),
      );
      source.next('a');
      source.complete();
      flush();
      expect(lines).toEqual(['0 next a!', '0 complete']);
    }));
});
