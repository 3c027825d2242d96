import { AsyncLocalStorage } from 'node:async_hooks';
import { concat, defer, EMPTY, from, merge, NEVER, Observable, of, range, throwError, timer, type Subscription } from 'rxjs';
import { fanOutScoped, scoped, type ScopeContext } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { isReentrantAcquireError, type ReentrantAcquireError } from '../../src/gates/errors.js';
import { KeyedLock, type LockKeys } from '../../src/gates/keyedLock.js';
import { serializeBy } from '../../src/operators/serializeBy.js';
import { keepsTheContract } from '../support/contract.js';
import { cleaning, later, pause, torn, virtual } from '../support/virtual.js';

const IDLE = { held: 0, waiting: 0, keys: [] };

describe('serializeBy', () => {
  describe('free keys', () => keepsTheContract(() => serializeBy(new KeyedLock(), { reads: ['a', 'b'] }), 'boom'));
  describe('no keys', () => keepsTheContract(() => serializeBy(new KeyedLock(), {}), 'boom'));

  it.each<[string, LockKeys, LockKeys, boolean]>([
    ['two writers wait', { writes: ['a'] }, { writes: ['a'] }, true],
    ['a writer waits for a reader', { reads: ['a'] }, { writes: ['a'] }, true],
    ['a reader waits for a writer', { writes: ['a'] }, { reads: ['a'] }, true],
    ['two readers share', { reads: ['a'] }, { reads: ['a'] }, false],
    ['writers of different keys do not meet', { writes: ['a'] }, { writes: ['b'] }, false],
    ['one common key of several is enough', { writes: ['a', 'b'], reads: ['x'] }, { writes: ['c', 'b'] }, true],
    ['a key that is read and written is written', { reads: ['a'], writes: ['a'] }, { reads: ['a'] }, true],
    ['the same reads with different writes share', { reads: ['a'], writes: ['b'] }, { reads: ['a'], writes: ['c'] }, false],
  ])('%s', (_, first, second, conflict) =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const lock = new KeyedLock();
      const [one, two] = [cold('--a--|'), cold('-b---|')];
      const output = merge(one.pipe(serializeBy(lock, first)), two.pipe(serializeBy(lock, second)));
      expectObservable(output).toBe(conflict ? '--a---b---|' : '-ba--|');
      expectSubscriptions(one.subscriptions).toBe('^----!');
      expectSubscriptions(two.subscriptions).toBe(conflict ? '-----^----!' : '^----!');
      flush();
      expect(lock.snapshot()).toMatchObject(IDLE);
    }),
  );

  it('conflicting calls go in order of arrival, readers do not overtake a waiting writer, other keys pass', () =>
    virtual(({ cold, expectSubscriptions, flush }) => {
      const lock = new KeyedLock();
      const keys: LockKeys[] = [{ reads: ['k'] }, { writes: ['k'] }, { reads: ['k'] }, { reads: ['k', 'l'] }, { writes: ['m'] }];
      const calls = keys.map(() => cold('---|'));
      for (const [i, call] of calls.entries()) call.pipe(serializeBy(lock, keys[i] as LockKeys)).subscribe();
      const spans = ['^--!', '---^--!', '------^--!', '------^--!', '^--!'];
      for (const [i, span] of spans.entries()) expectSubscriptions(calls[i]?.subscriptions ?? []).toBe(span);
      flush();
      expect(lock.snapshot()).toMatchObject(IDLE);
    }));

  it('a call takes all of its keys or none: what it waits for holds back whoever comes after it', () =>
    virtual(({ cold, expectSubscriptions }) => {
      const lock = new KeyedLock();
      const keys: LockKeys[] = [{ writes: ['a'] }, { writes: ['a', 'b'] }, { writes: ['b'] }, { writes: ['c'] }];
      const calls = keys.map(() => cold('--|'));
      for (const [i, call] of calls.entries()) call.pipe(serializeBy(lock, keys[i] as LockKeys)).subscribe();
      for (const [i, span] of ['^-!', '--^-!', '----^-!', '^-!'].entries()) expectSubscriptions(calls[i]?.subscriptions ?? []).toBe(span);
    }));

  it('an error frees the keys as well', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const lock = new KeyedLock();
      const [one, two] = [cold('--#', undefined, 'boom'), cold('--b|')];
      expectObservable(one.pipe(serializeBy(lock, { writes: ['a'] }))).toBe('--#', undefined, 'boom');
      expectObservable(two.pipe(serializeBy(lock, { writes: ['a'] }))).toBe('----b|');
      expectSubscriptions(two.subscriptions).toBe('--^--!');
    }));

  it('a source that throws while it is subscribed frees the keys #75', () =>
    virtual(({ watch, lines, flush }) => {
      const lock = new KeyedLock();
      const throwing = defer(() => {
        throw new Error('boom');
      });
      watch(throwing.pipe(serializeBy(lock, { writes: ['a'] })), 'one');
      watch(of('x').pipe(serializeBy(lock, { writes: ['a'] })), 'two');
      flush();
      expect(lines).toEqual(['0 one error boom', '0 two next x', '0 two complete']);
    }));

  it('tears down, settles, tells downstream, and then lets the next in', () =>
    virtual(({ note, lines, flush, at }) => {
      const lock = new KeyedLock();
      lock.events$.subscribe(({ type }) => note(type));
      const call = (name: string): Observable<never> =>
        new Observable((out) => {
          note(`${name} starts`);
          at(2, () => out.complete());
          return () => note(`${name} torn down`);
        });
      for (const name of ['a', 'b'])
        call(name)
          .pipe(serializeBy(lock, { writes: ['k'] }))
          .subscribe({ complete: () => note(`${name} told`) });
      flush();
      expect(lines).toEqual([
        ...['0 admitted', '0 a starts', '0 queued'],
        ...['2 a torn down', '2 settled', '2 a told', '2 admitted', '2 b starts'],
        ...['4 b torn down', '4 settled', '4 b told'],
      ]);
    }));

  describe('unsubscribed', () => {
    it('while it waits, leaves the lines and lets those behind it pass in the same frame #13 #20', () =>
      virtual(({ cold, expectSubscriptions, at, flush }) => {
        const lock = new KeyedLock();
        const keys: LockKeys[] = [{ writes: ['a'] }, { writes: ['a', 'b'] }, { writes: ['b'] }];
        const calls = keys.map(() => cold('-----|'));
        const subs = calls.map((call, i) => call.pipe(serializeBy(lock, keys[i] as LockKeys)).subscribe());
        at(2, () => subs[1]?.unsubscribe());
        for (const [i, span] of ['^----!', [], '--^----!'].entries()) expectSubscriptions(calls[i]?.subscriptions ?? []).toBe(span);
        flush();
        expect(lock.snapshot()).toMatchObject(IDLE);
      }));

    it('in flight, stops and lets the next in, once #4', () =>
      virtual(({ cold, expectSubscriptions, at }) => {
        const lock = new KeyedLock();
        const [one, two, three] = [cold('-----|'), cold('--|'), cold('--|')];
        const sub = one.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
        merge(two.pipe(serializeBy(lock, { writes: ['a'] })), three.pipe(serializeBy(lock, { writes: ['a'] }))).subscribe();
        at(3, () => (sub.unsubscribe(), sub.unsubscribe()));
        expectSubscriptions(one.subscriptions).toBe('^--!');
        expectSubscriptions(two.subscriptions).toBe('---^-!');
        expectSubscriptions(three.subscriptions).toBe('-----^-!');
      }));

    it('from outside, a fan-out of 5 starts none of the waiting four', () =>
      virtual(({ at, flush, now }) => {
        const lock = new KeyedLock();
        const started: string[] = [];
        const call = (n: number): Observable<never> => defer(() => (started.push(`${n}@${now()}`), NEVER));
        const sub = range(5)
          .pipe(fanOutScoped((n) => call(n).pipe(serializeBy(lock, { writes: ['a'] })), { concurrency: 5 }))
          .subscribe();
        at(5, () => sub.unsubscribe());
        flush();
        expect(started).toEqual(['0@0']);
        expect(lock.snapshot()).toMatchObject(IDLE);
      }));

    it('by whoever hears of the admission, never starts and gives the keys back #24', () =>
      virtual(({ watch, lines, flush }) => {
        const lock = new KeyedLock();
        let subscriptions = 0;
        const source = defer(() => (subscriptions++, NEVER));
        watch(later(3, 'x').pipe(serializeBy(lock, { writes: ['a'] })), 'one');
        const sub: Subscription = source.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
        watch(of('y').pipe(serializeBy(lock, { writes: ['a'] })), 'three');
        const listener = lock.events$.subscribe((event) => {
          if (event.type !== 'admitted') return;
          listener.unsubscribe();
          sub.unsubscribe();
        });
        flush();
        expect(subscriptions).toBe(0);
        expect(lines).toEqual(['3 one next x', '3 one complete', '3 three next y', '3 three complete']);
        expect(lock.snapshot()).toMatchObject(IDLE);
      }));
  });

  describe('what a stopped call still runs', () => {
    it('holds its keys until it has really ended #D10', () =>
      virtual(({ at, cold, expectSubscriptions }) => {
        const lock = new KeyedLock();
        const next = cold('-|');
        const slow = scoped((scope) => cleaning(scope, 4));
        const sub = slow.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
        next.pipe(serializeBy(lock, { reads: ['a'] })).subscribe();
        at(2, () => sub.unsubscribe());
        expectSubscriptions(next.subscriptions).toBe('------^!');
      }));

    it('holds them no longer than until it is abandoned', () =>
      virtual(({ at, cold, expectSubscriptions }) => {
        const lock = new KeyedLock();
        const next = cold('-|');
        const deaf = scoped((scope) => cleaning(scope, 100));
        const sub = scoped(() => deaf.pipe(serializeBy(lock, { writes: ['a'] })), { graceMs: 5 }).subscribe();
        next.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
        at(2, () => sub.unsubscribe());
        expectSubscriptions(next.subscriptions).toBe('-------^!');
      }));
  });

  describe('below a holder', () => {
    const inner = (lock: KeyedLock, keys: LockKeys, within: ScopeContext): Observable<string> =>
      scoped(() => of('inner').pipe(serializeBy(lock, keys)), { label: 'inner', within });

    it.each<[string, LockKeys, LockKeys]>([
      ['a read under a read', { reads: ['a'] }, { reads: ['a'] }],
      ['a read under a write', { writes: ['a'] }, { reads: ['a'] }],
      ['a write under a write', { writes: ['a'] }, { writes: ['a'] }],
      ['a key that is free', { writes: ['a'] }, { writes: ['b'] }],
    ])('%s is granted at once, although others wait for what is held', (_, outer, keys) =>
      virtual(({ watch, lines, flush }) => {
        const lock = new KeyedLock();
        watch(scoped((scope) => concat(pause(2), inner(lock, keys, scope))).pipe(serializeBy(lock, outer)), 'outer');
        watch(of('outside').pipe(serializeBy(lock, { writes: ['a'] })), 'other');
        flush();
        expect(lines).toEqual(['2 outer next inner', '2 outer complete', '2 other next outside', '2 other complete']);
        expect(lock.snapshot()).toMatchObject(IDLE);
      }),
    );

    it.each<[string, LockKeys]>([
      ['a key that somebody else holds', { writes: ['b'] }],
      ['a key that somebody waits for', { reads: ['b'] }],
      ['a write under a read', { writes: ['a'] }],
    ])('%s is refused, with both paths', (_, keys) =>
      virtual(({ flush }) => {
        const lock = new KeyedLock({ name: 'files' });
        const errors: unknown[] = [];
        pause(9)
          .pipe(serializeBy(lock, { reads: ['b'] }))
          .subscribe();
        pause(9)
          .pipe(serializeBy(lock, { writes: ['b'] }))
          .subscribe();
        scoped(() => scoped((below) => concat(pause(2), inner(lock, keys, below))).pipe(serializeBy(lock, { reads: ['a'] })), {
          label: 'outer',
        }).subscribe({ error: (error) => errors.push(error) });
        flush();
        const error = leaf(errors[0]);
        expect(isReentrantAcquireError(error)).toBe(true);
        expect(error).toMatchObject({ gate: 'files', path: ['outer', 'inner'], holder: ['outer'] });
        expect(lock.snapshot()).toMatchObject(IDLE);
      }),
    );

    it('the same lock twice in one pipe counts as nested', () =>
      virtual(({ watch, lines, flush }) => {
        const lock = new KeyedLock();
        watch(later(1, 'x').pipe(serializeBy(lock, { writes: ['a'] }), serializeBy(lock, { writes: ['a', 'b'] })), 'both');
        watch(of('y').pipe(serializeBy(lock, { writes: ['c'] }), serializeBy(lock, { reads: ['c'] })), 'upgrade');
        flush();
        expect(lines).toEqual([
          '0 upgrade error "lock" is held at the root and asked for again below it, at the root: that would be a deadlock. ' +
            'Permits and locks are for leaf calls.',
          '1 both next x',
          '1 both complete',
        ]);
      }));

    it('what an inner call took is free again when it has ended, what the outer holds is not', () =>
      virtual(({ cold, expectSubscriptions }) => {
        const lock = new KeyedLock();
        const [a, b] = [cold('-|'), cold('-|')];
        const deep = pause(2).pipe(serializeBy(lock, { writes: ['a', 'b'] }));
        concat(deep, pause(3))
          .pipe(serializeBy(lock, { writes: ['a'] }))
          .subscribe();
        b.pipe(serializeBy(lock, { writes: ['b'] })).subscribe();
        a.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
        expectSubscriptions(b.subscriptions).toBe('--^!');
        expectSubscriptions(a.subscriptions).toBe('-----^!');
      }));

    it('calls that take locks in any order below each other end, with a value or a typed error: nothing stands still', () => {
      const names = ['a', 'b', 'c'];
      const orders = names.flatMap((one) => names.filter((two) => two !== one).map((two) => [one, two] as const));
      virtual(({ flush }) => {
        const lock = new KeyedLock();
        const ends: string[] = [];
        for (let round = 0; round < 10; round++)
          for (const [one, two] of orders)
            scoped((within) =>
              concat(
                pause(1 + (round % 3)),
                scoped(() => later(1, 'done').pipe(serializeBy(lock, { writes: [two] })), { within }),
              ),
            )
              .pipe(serializeBy(lock, { writes: [one] }))
              .subscribe({
                next: (value) => ends.push(value),
                error: (error: unknown) => ends.push(leaf(error).name),
              });
        flush();
        expect(ends.length).toBe(60);
        expect(new Set(ends)).toEqual(new Set(['done', 'ReentrantAcquireError']));
        expect(lock.snapshot()).toMatchObject(IDLE);
      });
    });

    it('two calls that take the same two locks in opposite order, each in one step, both get through', () =>
      virtual(({ watch, lines, flush }) => {
        const lock = new KeyedLock();
        watch(later(1, 1).pipe(serializeBy(lock, { writes: ['a', 'b'] })));
        watch(later(1, 2).pipe(serializeBy(lock, { writes: ['b', 'a'] })));
        flush();
        expect(lines).toEqual(['1 next 1', '1 complete', '2 next 2', '2 complete']);
      }));
  });

  describe('keys', () => {
    it('a function is asked for each subscription, and what it throws fails that call only', () =>
      virtual(({ watch, lines, flush }) => {
        const lock = new KeyedLock({ name: 'files' });
        const answers: unknown[] = [{ writes: ['a'] }, { writes: ['a', 5] }, null, new Error('no keys today')];
        const call = of('x').pipe(
          serializeBy(lock, () => {
            const answer = answers.shift();
            if (answer instanceof Error) throw answer;
            return answer as LockKeys;
          }),
        );
        for (let i = 0; i < 4; i++) watch(call, `${i}`);
        flush();
        expect(lines).toEqual([
          '0 0 next x',
          '0 0 complete',
          '0 1 error Gate "files": writes of this call must be an array of strings, got a,5.',
          '0 2 error Gate "files": keys of this call must be an object, got null.',
          '0 3 error no keys today',
        ]);
        expect(lock.snapshot()).toMatchObject(IDLE);
      }));

    it('bad ones throw where the operator is made', () => {
      const lock = new KeyedLock();
      expect(() => serializeBy(lock, { reads: 'a' } as never)).toThrow(
        new TypeError('serializeBy: reads must be an array of strings, got "a".'),
      );
      expect(() => serializeBy(lock, { writes: [1] } as never)).toThrow(TypeError);
      expect(() => serializeBy(lock, undefined as never)).toThrow(TypeError);
      expect(() => serializeBy({} as never, {})).toThrow('serializeBy: gate must be a gate');
    });
  });

  it('100,000 synchronous calls behind one that takes a while use no stack #11', () =>
    virtual(({ flush }) => {
      const lock = new KeyedLock();
      let seen = 0;
      later(1, 'x')
        .pipe(serializeBy(lock, { writes: ['a'] }))
        .subscribe();
      for (let i = 0; i < 100_000; i++)
        of(i)
          .pipe(serializeBy(lock, { writes: ['a'], reads: ['b'] }))
          .subscribe(() => seen++);
      flush();
      expect(seen).toBe(100_000);
      expect(lock.snapshot()).toMatchObject(IDLE);
    }));

  it('100,000 waiting calls are withdrawn at once #8 #11', () =>
    virtual(({ at, flush }) => {
      const lock = new KeyedLock();
      const holder = NEVER.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
      const subs = Array.from({ length: 100_000 }, () => EMPTY.pipe(serializeBy(lock, { writes: ['a'] })).subscribe());
      at(1, () => {
        for (const sub of subs) sub.unsubscribe();
        expect(lock.snapshot()).toMatchObject({ held: 1, waiting: 0 });
        holder.unsubscribe();
      });
      flush();
      expect(lock.snapshot()).toMatchObject(IDLE);
    }));

  it('each caller keeps its async context through the line', async () => {
    const user = new AsyncLocalStorage<string>();
    const lock = new KeyedLock();
    const seen: string[] = [];
    const done = ['alice', 'bob', 'carol'].map((name) =>
      user.run(
        name,
        () =>
          new Promise<void>((resolve) => {
            defer(() => (seen.push(`${name} starts as ${user.getStore()}`), timer(2)))
              .pipe(serializeBy(lock, { writes: ['a'] }))
              .subscribe({
                next: () => seen.push(`${name} next as ${user.getStore()}`),
                complete: () => (seen.push(`${name} ends as ${user.getStore()}`), resolve()),
              });
          }),
      ),
    );
    await Promise.all(done);
    expect(seen).toEqual(
      ['alice', 'bob', 'carol'].flatMap((name) => ['starts', 'next', 'ends'].map((what) => `${name} ${what} as ${name}`)),
    );
  });

  it('a fan-out over resources needs no order made by hand', () =>
    virtual(({ watch, lines, flush }) => {
      const lock = new KeyedLock();
      const save = (file: string): Observable<string> => later(2, file).pipe(serializeBy(lock, { writes: [file] }));
      watch(from(['a', 'b', 'a', 'a', 'c']).pipe(fanOutScoped(save)));
      flush();
      expect(lines).toEqual(['2 next a', '2 next b', '2 next c', '4 next a', '6 next a', '6 complete']);
    }));

  it('an error of a call that waits below an unsubscribed one is nobody’s', () =>
    virtual(({ watch, lines, flush, at }) => {
      const lock = new KeyedLock();
      const sub = watch(torn(() => {}).pipe(serializeBy(lock, { writes: ['a'] })), 'one');
      watch(throwError(() => 'boom').pipe(serializeBy(lock, { writes: ['a'] })), 'two');
      at(2, () => sub.unsubscribe());
      flush();
      expect(lines).toEqual(['2 two error boom']);
    }));
});

function leaf(error: unknown): Error | ReentrantAcquireError {
  return error instanceof AggregateError ? leaf(error.errors[0]) : (error as Error);
}
