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
  tap,
  throwError,
} from 'rxjs';
import { fanOutScoped } from 'rxfleet';
import { describe, expect, it, vi } from 'vitest';
import { BadAskError, CostExceedsCapacityError, isRateLimitQueueFullError } from '../../src/gates/errors.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { TokenBucket } from '../../src/gates/tokenBucket.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { tokenBucket } from '../../src/operators/tokenBucket.js';
import { keepsTheContract } from '../support/contract.js';
import { later, virtual } from '../support/virtual.js';

/** One token in every `everyMs`. */
function bucketOf(capacity: number, everyMs: number, initial = capacity): TokenBucket {
  return new TokenBucket({ capacity, refill: { tokens: 1, everyMs }, initial });
}

function tokens(bucket: TokenBucket): number | undefined {
  return bucket.snapshot().limits['tokens']?.tokens;
}

function nameOf(error: unknown): string {
  return (error as Error).name;
}

describe('tokenBucket', () => {
  describe('with tokens to spare', () => keepsTheContract(() => tokenBucket(bucketOf(1000, 1)), 'boom'));
  describe('at no cost', () => keepsTheContract(() => tokenBucket(bucketOf(1, 1000, 0), { cost: 0 }), 'boom'));

  it('#2.2 #50 #61 calls start one by one, in the order of their arrival, as the bucket refills', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const bucket = bucketOf(1, 3);
      const calls = [cold('--a--|'), cold('--b--|'), cold('--c--|')];
      expectObservable(merge(...calls.map((call) => call.pipe(tokenBucket(bucket))))).toBe('--a--b--c--|');
      expectSubscriptions((calls[0] as (typeof calls)[0]).subscriptions).toBe('^----!');
      expectSubscriptions((calls[1] as (typeof calls)[0]).subscriptions).toBe('---^----!');
      expectSubscriptions((calls[2] as (typeof calls)[0]).subscriptions).toBe('------^----!');
    }));

  it('#2.2 #63 a call pays its cost, and a big one waits for all of it', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const bucket = bucketOf(5, 2);
      const [small, big] = [cold('a|'), cold('b|')];
      expectObservable(small.pipe(tokenBucket(bucket, { cost: 3 }))).toBe('a|');
      expectObservable(big.pipe(tokenBucket(bucket, { cost: 5 }))).toBe('------b|');
      expectSubscriptions(small.subscriptions).toBe('^!');
      expectSubscriptions(big.subscriptions).toBe('------^!');
    }));

  it('#59 unsubscribed while it waits, it never starts, its tokens are intact, and the next one has its place', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, at }) => {
      const bucket = bucketOf(2, 3, 1);
      const [waiting, next] = [cold('a|'), cold('b|')];
      expectObservable(waiting.pipe(tokenBucket(bucket, { cost: 2 })), '^-!').toBe('---');
      expectObservable(next.pipe(tokenBucket(bucket))).toBe('--b|');
      expectSubscriptions(waiting.subscriptions).toBe([]);
      expectSubscriptions(next.subscriptions).toBe('--^!');
      at(2, () => expect(tokens(bucket)).toBe(1));
    }));

  it('#13 when a big head leaves, the small one behind it goes in that frame, with the tokens that are there', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const bucket = bucketOf(10, 1000, 4);
      const [big, small, third] = [cold('a|'), cold('b|'), cold('c|')];
      expectObservable(big.pipe(tokenBucket(bucket, { cost: 9 })), '^----!').toBe('------');
      expectObservable(small.pipe(tokenBucket(bucket, { cost: 3 }))).toBe('-----b|');
      expectObservable(third.pipe(tokenBucket(bucket))).toBe('-----c|');
      expectSubscriptions(small.subscriptions).toBe('-----^!');
      expectSubscriptions(third.subscriptions).toBe('-----^!');
      flush();
      expect(tokens(bucket)).toBe(0);
    }));

  it('#50 a small call does not overtake a big one, although its tokens are there (#D12: only its line waits, and not for ever)', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const bucket = bucketOf(5, 2, 2);
      const [big, small] = [cold('a|'), cold('b|')];
      expectObservable(big.pipe(tokenBucket(bucket, { cost: 5 }))).toBe('------a|');
      expectObservable(small.pipe(tokenBucket(bucket))).toBe('--------b|');
      expectSubscriptions(big.subscriptions).toBe('------^!');
      expectSubscriptions(small.subscriptions).toBe('--------^!');
    }));

  it('#2.2 a cost of 0 starts at once, past the line and a pause', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, at }) => {
      const bucket = bucketOf(1, 5, 0);
      bucket.pause(100);
      const free = cold('a|');
      expectObservable(NEVER.pipe(tokenBucket(bucket)), '^---!').toBe('-----');
      expectObservable(defer(() => free.pipe(tokenBucket(bucket, { cost: 0 })))).toBe('a|');
      expectSubscriptions(free.subscriptions).toBe('^!');
      at(1, () => expect(bucket.snapshot()).toMatchObject({ waiting: 1, seq: 0 }));
    }));

  it('#2.2 #53 #61 a cost above the capacity fails at once, never a silent wait; a cost of the capacity does not', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const bucket = bucketOf(5, 1);
      const [over, equal] = [cold('a|'), cold('b|')];
      const error = new CostExceedsCapacityError('tokenBucket', 'tokens', 6, 5);
      expectObservable(over.pipe(tokenBucket(bucket, { cost: 6 }))).toBe('#', undefined, error);
      expectObservable(equal.pipe(tokenBucket(bucket, { cost: 5 }))).toBe('b|');
      expectSubscriptions(over.subscriptions).toBe([]);
      expectSubscriptions(equal.subscriptions).toBe('^!');
    }));

  it('#2.2 a cost function is called once for each subscription, and not before', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const cost = vi.fn(() => 2);
      const bucket = bucketOf(2, 2);
      const source = cold('a|');
      const guarded = source.pipe(tokenBucket(bucket, { cost }));
      expect(cost).not.toHaveBeenCalled();
      expectObservable(guarded).toBe('a|');
      expectObservable(guarded).toBe('----a|');
      expectSubscriptions(source.subscriptions).toBe(['^!', '----^!']);
      flush();
      expect(cost).toHaveBeenCalledTimes(2);
    }));

  it.each([
    ['#D11 a fraction', () => 0.5],
    ['NaN', () => NaN],
    ['a negative number', () => -1],
    ['an unknown limit', () => ({ tokns: 1 })],
    ['nothing', () => undefined as never],
  ])('#C9 %s from a cost function fails that call alone', (_, cost) => {
    const bucket = bucketOf(5, 1000);
    const seen: unknown[] = [];
    const start = vi.fn(() => of('a'));
    const observer = { next: (value: unknown) => seen.push(value), error: (error: unknown) => seen.push(error) };
    defer(start)
      .pipe(tokenBucket(bucket, { cost: cost as () => number }))
      .subscribe(observer);
    if (cost() === undefined) {
      expect(seen).toEqual(['a']);
      return;
    }
    expect(seen).toEqual([expect.any(BadAskError)]);
    expect(start).not.toHaveBeenCalled();
    expect(tokens(bucket)).toBe(5);
    of('b').pipe(tokenBucket(bucket)).subscribe(observer);
    expect(seen[1]).toBe('b');
  });

  it('#C6 a cost function that throws fails its own call, and takes nothing', () => {
    const bucket = bucketOf(1, 1000);
    const errors: unknown[] = [];
    const fault = new Error('cost');
    const cost = (): number => {
      throw fault;
    };
    of('a')
      .pipe(tokenBucket(bucket, { cost }))
      .subscribe({ error: (error: unknown) => errors.push(error) });
    expect(errors).toEqual([fault]);
    expect(bucket.snapshot()).toMatchObject({ waiting: 0, inFlight: 0, seq: 0 });
  });

  it('#C6 a cost function may call back in', () => {
    const bucket = bucketOf(5, 1000);
    const order: string[] = [];
    const cost = (): number => {
      of('inner')
        .pipe(tokenBucket(bucket))
        .subscribe((value) => order.push(value));
      return 2;
    };
    of('outer')
      .pipe(tokenBucket(bucket, { cost }))
      .subscribe((value) => order.push(value));
    expect(order).toEqual(['inner', 'outer']);
    expect(tokens(bucket)).toBe(2);
  });

  describe('settle', () => {
    it('#2.2 #62 pays back what was not used, and the next one goes as soon as downstream was told', () =>
      virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
        const bucket = bucketOf(10, 1000);
        const [one, two] = [cold('--a--|', { a: 4 }), cold('b|')];
        expectObservable(one.pipe(tokenBucket(bucket, { cost: 10, settle: (used) => used }))).toBe('--a--|', { a: 4 });
        expectObservable(two.pipe(tokenBucket(bucket, { cost: 6 }))).toBe('-----b|');
        expectSubscriptions(one.subscriptions).toBe('^----!');
        expectSubscriptions(two.subscriptions).toBe('-----^!');
        flush();
        expect(tokens(bucket)).toBe(0);
      }));

    it('#2.2 #62 owes what was used beyond, down to minus the capacity; what is dropped is told', () =>
      virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
        const bucket = bucketOf(10, 2);
        const notes: unknown[] = [];
        bucket.events$.subscribe((event) => event.type === 'note' && notes.push([event.note, event.amount, event.unit]));
        const [one, two] = [cold('(a|)', { a: 25 }), cold('b|')];
        expectObservable(one.pipe(tokenBucket(bucket, { cost: 2, settle: (used) => used }))).toBe('(a|)', { a: 25 });
        expectObservable(two.pipe(tokenBucket(bucket)), '-^').toBe('22ms b|');
        expectSubscriptions(one.subscriptions).toBe('(^!)');
        expectSubscriptions(two.subscriptions).toBe('22ms ^!');
        flush();
        expect(notes).toEqual([['debt dropped', 5, 'tokens']]);
      }));

    it('#2.2 running totals are not added up, and a value that tells nothing changes nothing', () =>
      virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
        const bucket = bucketOf(100, 10_000);
        const source = cold('abcd|', { a: 10, b: undefined, c: 25, d: 20 });
        expectObservable(source.pipe(tokenBucket(bucket, { cost: 60, settle: (used) => used }))).toBe('abcd|', {
          a: 10,
          b: undefined,
          c: 25,
          d: 20,
        });
        expectSubscriptions(source.subscriptions).toBe('^---!');
        flush();
        expect(tokens(bucket)).toBe(75);
      }));

    it('#C6 one that throws, or tells nonsense, fails its own call; what it has paid stays paid', () => {
      const bucket = bucketOf(10, 1e6);
      const errors: unknown[] = [];
      const settles = [
        (): number => {
          throw new Error('settle');
        },
        (): number => -1,
        (): { tokns: number } => ({ tokns: 1 }),
      ];
      for (const settle of settles)
        concat(of('a'), NEVER)
          .pipe(tokenBucket(bucket, { cost: 2, settle }))
          .subscribe({ error: (error: unknown) => errors.push(nameOf(error)) });
      expect(errors).toEqual(['Error', 'BadAskError', 'BadAskError']);
      expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 4 } } });
    });
  });

  describe('unsubscribed in flight', () => {
    it.each([
      ['keeps its cost', undefined, 6, 4],
      ['owes what it has used beyond its cost', undefined, 8, 2],
      ['refunds what it has not used', 'refund' as const, 2, 8],
      ['is charged what a function says', () => 1, 2, 9],
      ['is charged what a function says, by name', () => ({ tokens: 3 }), 2, 7],
    ])('#2.2 %s', (_, onCancel, used, left) =>
      virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
        const bucket = bucketOf(10, 1000);
        const source = cold('--a', { a: used });
        expectObservable(source.pipe(tokenBucket(bucket, { cost: 6, settle: (n) => n, onCancel })), '^---!').toBe('--a', { a: used });
        expectSubscriptions(source.subscriptions).toBe('^---!');
        flush();
        expect(tokens(bucket)).toBe(left);
      }),
    );

    it('#2.2 lets the next one in, in the same frame, if it is refunded', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const bucket = bucketOf(5, 1000);
        const next = cold('b|');
        expectObservable(NEVER.pipe(tokenBucket(bucket, { cost: 5, onCancel: 'refund' })), '^--!').toBe('----');
        expectObservable(next.pipe(tokenBucket(bucket))).toBe('---b|');
        expectSubscriptions(next.subscriptions).toBe('---^!');
      }));

    it('after its end it does nothing more', () => {
      const bucket = bucketOf(5, 1e6);
      const subscription = of('a')
        .pipe(tokenBucket(bucket, { cost: 2, onCancel: 'refund' }))
        .subscribe();
      subscription.unsubscribe();
      expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 3 } } });
    });

    it('#C6 a function of its end that throws is reported, and what was paid stays paid', () =>
      virtual(({ scheduler, flush }) => {
        const bucket = new TokenBucket({ capacity: 5, refill: { tokens: 1, everyMs: 1e6 }, scheduler });
        const onCancel = (): number => {
          throw new Error('onCancel');
        };
        NEVER.pipe(tokenBucket(bucket, { cost: 2, onCancel }))
          .subscribe()
          .unsubscribe();
        expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 3 } } });
        expect(flush).toThrow('onCancel');
      }));
  });

  it('#2.2 full refund if it was granted, but never started: an inner gate refused it', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const bucket = bucketOf(5, 1000);
      const closed = new Semaphore({ limit: 0, maxQueue: 0 });
      const source = cold('a|');
      expectObservable(source.pipe(bulkhead(closed), tokenBucket(bucket, { cost: 4 }), catchError(nameOf1))).toBe('(n|)', {
        n: 'BulkheadFullError',
      });
      expectSubscriptions(source.subscriptions).toBe([]);
      flush();
      expect(tokens(bucket)).toBe(5);
    }));

  it('#2.2 full refund if it was unsubscribed while it waited for an inner gate', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const bucket = bucketOf(5, 1000);
      const closed = new Semaphore({ limit: 0 });
      const source = cold('a|');
      expectObservable(source.pipe(bulkhead(closed), tokenBucket(bucket, { cost: 4 })), '^--!').toBe('----');
      expectSubscriptions(source.subscriptions).toBe([]);
      flush();
      expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 5 } } });
    }));

  it('#2.2 full refund if a gate further in, behind an operator of its own, refused it before any value', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const bucket = bucketOf(5, 1000);
      const full = bucketOf(1, 1000);
      const source = cold('a|');
      const inner = source.pipe(
        tokenBucket(full, { cost: 2 }),
        finalize(() => {}),
      );
      expectObservable(inner.pipe(tokenBucket(bucket, { cost: 4 }), catchError(nameOf1))).toBe('(n|)', { n: 'CostExceedsCapacityError' });
      expectSubscriptions(source.subscriptions).toBe([]);
      flush();
      expect(tokens(bucket)).toBe(5);
    }));

  it('#C3 a source that ends while it is being subscribed settles once', () => {
    const bucket = bucketOf(10, 1e6);
    const settled: string[] = [];
    bucket.events$.subscribe((event) => event.type === 'settled' && settled.push(event.end));
    of('a').pipe(tokenBucket(bucket)).subscribe();
    EMPTY.pipe(tokenBucket(bucket)).subscribe();
    throwError(() => 'x')
      .pipe(tokenBucket(bucket))
      .subscribe({ error: () => {} });
    concat(of('a'), NEVER).pipe(tokenBucket(bucket), take(1)).subscribe();
    expect(settled).toEqual(['completed', 'completed', 'failed', 'cancelled']);
    expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 6 } } });
  });

  it('#C4 the end of a call: torn down, settled, told, and then the next one', () =>
    virtual(({ at, flush }) => {
      const bucket = bucketOf(2, 1000);
      const log: string[] = [];
      const call = (name: string): Observable<number> =>
        new Observable<number>((out) => {
          log.push(`${name} starts at ${tokens(bucket)}`);
          at(2, () => (out.next(0), out.complete()));
          return () => log.push(`${name} torn down at ${tokens(bucket)}`);
        });
      for (const name of ['a', 'b'])
        call(name)
          .pipe(tokenBucket(bucket, { cost: 2, settle: (used) => used }))
          .subscribe({ complete: () => log.push(`${name} told at ${tokens(bucket)}`) });
      flush();
      expect(log).toEqual(['a starts at 0', 'a torn down at 0', 'a told at 2', 'b starts at 0', 'b torn down at 0', 'b told at 2']);
    }));

  it('#C4 a subscriber that throws does not stop the next one', () =>
    virtual(({ flush }) => {
      const bucket = bucketOf(1, 1000);
      const seen: string[] = [];
      later(1, 0)
        .pipe(tokenBucket(bucket, { settle: (used) => used }))
        .subscribe({
          complete: () => {
            throw new Error('observer');
          },
        });
      of('b')
        .pipe(tokenBucket(bucket))
        .subscribe((value) => seen.push(value));
      expect(flush).toThrow('observer');
      expect(seen).toEqual(['b']);
    }));

  it('#64 #D12 a repeated call pays again', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const bucket = bucketOf(3, 1000);
      const source = cold('-#', undefined, 'boom');
      expectObservable(source.pipe(tokenBucket(bucket), retry(2))).toBe('---#', undefined, 'boom');
      expectSubscriptions(source.subscriptions).toBe(['^!', '-^!', '--^!']);
      flush();
      expect(tokens(bucket)).toBe(0);
    }));

  it('#60 a 429 drains the bucket: who waits goes on waiting', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const bucket = bucketOf(5, 2);
      const [refused, next] = [cold('-#', undefined, { status: 429 }), cold('b|')];
      const drained = refused.pipe(
        tokenBucket(bucket),
        tap({ error: () => bucket.drain() }),
        catchError(() => EMPTY),
      );
      expectObservable(concat(drained, next.pipe(tokenBucket(bucket)))).toBe('---b|');
      expectSubscriptions(next.subscriptions).toBe('---^!');
    }));

  it('#8 10,000 waiting calls leave with their parent: no queue, no timer, no tokens taken', () =>
    virtual(({ scheduler, at, flush }) => {
      const bucket = new TokenBucket({ capacity: 10, refill: { tokens: 1, everyMs: 1000 }, initial: 0, scheduler });
      const start = vi.fn(() => NEVER);
      const fleet = range(10_000).pipe(fanOutScoped(() => defer(start).pipe(tokenBucket(bucket)), { concurrency: Infinity }));
      const subscription = fleet.subscribe();
      at(500, () => {
        expect(bucket.snapshot().waiting).toBe(10_000);
        subscription.unsubscribe();
        expect(bucket.snapshot()).toMatchObject({ waiting: 0, limits: { tokens: { tokens: 0, queued: 0 } } });
        expect(scheduler.actions.filter((action) => action.delay > 0 && !action.closed)).toEqual([]);
      });
      flush();
      expect(start).not.toHaveBeenCalled();
      expect(scheduler.now()).toBeLessThanOrEqual(1000);
    }));

  it('#C4 a sweep starts none of those that it takes along', () =>
    virtual(({ at, flush }) => {
      const bucket = bucketOf(5, 1000);
      const started: number[] = [];
      const fleet = range(5).pipe(
        fanOutScoped(
          (n) =>
            defer(() => {
              started.push(n);
              return NEVER;
            }).pipe(tokenBucket(bucket, { cost: 5, onCancel: 'refund' })),
          { concurrency: 5 },
        ),
      );
      const subscription = fleet.subscribe();
      at(5, () => subscription.unsubscribe());
      flush();
      expect(started).toEqual([0]);
      expect(tokens(bucket)).toBe(5);
    }));

  it('#10 10,000 calls one after the other leave nothing behind', () => {
    const bucket = bucketOf(10_000, 1e6);
    const parent = new Subject<number>();
    let seen = 0;
    const subscription = parent.pipe(fanOutScoped((n) => of(n).pipe(tokenBucket(bucket)))).subscribe(() => seen++);
    for (let i = 0; i < 10_000; i++) parent.next(i);
    expect(seen).toBe(10_000);
    expect(bucket.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, seq: 10_000, limits: { tokens: { tokens: 0 } } });
    subscription.unsubscribe();
    expect((subscription as unknown as { _finalizers: unknown })._finalizers ?? []).toHaveLength(0);
  });

  it('#11 #D13 100,000 synchronous calls in a row, and 100,000 that leave, use no stack', () =>
    virtual(({ flush }) => {
      const bucket = bucketOf(200_000, 1e9);
      let seen = 0;
      for (let i = 0; i < 100_000; i++)
        of(i)
          .pipe(tokenBucket(bucket))
          .subscribe(() => seen++);
      expect(seen).toBe(100_000);
      bucket.drain();
      const waiting = Array.from({ length: 100_000 }, (_, i) => of(i).pipe(tokenBucket(bucket)).subscribe());
      for (const each of waiting) each.unsubscribe();
      expect(bucket.snapshot()).toMatchObject({ waiting: 0 });
      for (let i = 0; i < 100_000; i++)
        of(i)
          .pipe(tokenBucket(bucket, { settle: () => 0 }))
          .subscribe(() => seen++);
      expect(bucket.snapshot().waiting).toBe(100_000);
      bucket.sync({ remaining: 1, sentSeq: bucket.seq + 1 });
      flush();
      expect(seen).toBe(200_000);
    }));

  it('#D13 is not passed by calls that call it again', () => {
    const bucket = bucketOf(1, 1e6);
    let runs = 0;
    const again = (): Observable<unknown> =>
      defer(() => {
        runs++;
        again().subscribe({ error: () => {} });
        return of(runs);
      }).pipe(tokenBucket(bucket));
    const subscription = again().subscribe();
    expect(runs).toBe(1);
    expect(bucket.snapshot().waiting).toBe(1);
    subscription.unsubscribe();
    bucket.dispose();
  });

  it('#16 #C5 a newcomer does not take what was released for those who wait', () =>
    virtual(({ at, flush }) => {
      const bucket = bucketOf(5, 1000);
      const order: string[] = [];
      const call = (name: string, cost: number): Observable<string> =>
        defer(() => {
          order.push(name);
          return of(name);
        }).pipe(tokenBucket(bucket, { cost }));
      const held = NEVER.pipe(tokenBucket(bucket, { cost: 5, onCancel: 'refund' })).subscribe();
      call('first', 4).subscribe();
      at(2, () => {
        held.unsubscribe();
        call('newcomer', 3).subscribe();
        expect(order).toEqual([]);
      });
      at(3, () => expect(order).toEqual(['first']));
      flush();
      expect(order).toEqual(['first', 'newcomer']);
    }));

  it('#2.2 #63 higher priorities go first, a level is first come first served', () =>
    virtual(({ now, flush }) => {
      const bucket = bucketOf(1, 1, 0);
      const order: string[] = [];
      const call = (name: string, priority: number): void => {
        of(name)
          .pipe(tokenBucket(bucket, { priority }))
          .subscribe((value) => order.push(`${now()} ${value}`));
      };
      call('low', -1);
      call('a', 0);
      call('high', 3);
      call('b', 0);
      call('higher', 4);
      flush();
      expect(order).toEqual(['1 higher', '2 high', '3 a', '4 b', '5 low']);
    }));

  it('#2.2 #70 callers of different keys take turns', () =>
    virtual(({ flush }) => {
      const bucket = bucketOf(1, 1, 0);
      const order: string[] = [];
      for (const [name, key] of [
        ['a1', 'a'],
        ['a2', 'a'],
        ['a3', 'a'],
        ['b1', 'b'],
        ['c1', 'c'],
        ['b2', 'b'],
      ] as const)
        of(name)
          .pipe(tokenBucket(bucket, { key }))
          .subscribe((value) => order.push(value));
      flush();
      expect(order).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
    }));

  it('#70 a big call of one key does not hold up another key in its round', () =>
    virtual(({ now, flush }) => {
      const bucket = bucketOf(10, 1, 0);
      const order: string[] = [];
      const call = (name: string, key: string, cost: number): void => {
        of(name)
          .pipe(tokenBucket(bucket, { key, cost }))
          .subscribe((value) => order.push(`${now()} ${value}`));
      };
      call('a', 'a', 1);
      call('a-big', 'a', 10);
      call('b', 'b', 1);
      call('c', 'c', 2);
      flush();
      expect(order).toEqual(['1 a', '2 b', '4 c', '14 a-big']);
    }));

  it('#C8 #52 #61 a full queue refuses with how long it takes to drain', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const bucket = new TokenBucket({ capacity: 2, refill: { tokens: 1, everyMs: 10 }, initial: 0, maxQueue: 1 });
      const source = cold('a|');
      expectObservable(of('w').pipe(tokenBucket(bucket))).toBe('10ms (w|)');
      expectObservable(
        source.pipe(
          tokenBucket(bucket, { cost: 2 }),
          catchError((error: unknown) => of(isRateLimitQueueFullError(error) && [error.limit, error.waiting, error.retryAfterMs])),
        ),
      ).toBe('(e|)', { e: [1, 1, 30] });
      expectSubscriptions(source.subscriptions).toBe([]);
    }));

  it('#C2 nothing happens before it is subscribed', () => {
    const bucket = bucketOf(1, 1000);
    of(1).pipe(tokenBucket(bucket));
    expect(bucket.snapshot()).toMatchObject({ seq: 0, limits: { tokens: { tokens: 1 } } });
  });

  it('#C12 waits within an outer semaphore share what is known of the call', () =>
    virtual(({ now, flush }) => {
      const [semaphore, bucket] = [new Semaphore({ limit: 1 }), bucketOf(1, 4)];
      const order: string[] = [];
      for (const name of ['a', 'b', 'c'])
        later(1, name)
          .pipe(tokenBucket(bucket), bulkhead(semaphore))
          .subscribe((value) => order.push(`${now()} ${value}`));
      flush();
      expect(order).toEqual(['1 a', '5 b', '9 c']);
    }));

  it.each([
    ['a bucket that is none', () => tokenBucket({} as never), TypeError, 'tokenBucket: gate must be a gate'],
    ['a negative cost', () => tokenBucket(bucketOf(1, 1), { cost: -1 }), RangeError, 'tokenBucket: cost must be an integer of at least 0'],
    ['a fractional cost', () => tokenBucket(bucketOf(1, 1), { cost: 0.5 }), RangeError, 'got 0.5'],
    ['a cost of NaN', () => tokenBucket(bucketOf(1, 1), { cost: NaN }), RangeError, 'cost'],
    ['a cost of another type', () => tokenBucket(bucketOf(1, 1), { cost: '1' as never }), TypeError, 'cost'],
    ['a bad cost in a limit', () => tokenBucket(bucketOf(1, 1), { cost: { tokens: -1 } }), RangeError, 'cost.tokens'],
    ['a settle that is no function', () => tokenBucket(bucketOf(1, 1), { settle: 5 as never }), TypeError, 'settle'],
    ['a priority of NaN', () => tokenBucket(bucketOf(1, 1), { priority: NaN }), RangeError, 'priority'],
    ['a key that is no string', () => tokenBucket(bucketOf(1, 1), { key: 5 as never }), TypeError, 'key'],
    ['an unknown onCancel', () => tokenBucket(bucketOf(1, 1), { onCancel: 'charge' as never }), RangeError, 'onCancel'],
  ])('#C9 refuses %s where the operator is made', (_, make, kind, message) => {
    expect(make).toThrow(kind);
    expect(make).toThrow(message);
  });

  it('#D16 a disposed bucket ends those who wait, and those who come later', () => {
    const bucket = bucketOf(1, 1e6, 0);
    const errors: string[] = [];
    const call = from([1]).pipe(tokenBucket(bucket));
    call.subscribe({ error: (error: unknown) => errors.push(nameOf(error)) });
    bucket.dispose();
    call.subscribe({ error: (error: unknown) => errors.push(nameOf(error)) });
    expect(errors).toEqual(['ResourceDisposedError', 'ResourceDisposedError']);
  });
});

function nameOf1(error: unknown): Observable<string> {
  return of(nameOf(error));
}
