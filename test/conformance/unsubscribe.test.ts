import { finalize, from, interval, NEVER, Observable, of, Subject, switchMap, take, takeUntil, tap, timer, type Subscription } from 'rxjs';
import { failWithin, fanOutScoped, scoped, takeWithin, type Scope, type ScopeFailure } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, torn, virtual } from '../support/virtual.js';

describe('outer unsubscribe', () => {
  it('U01 tears down every child, with no notification afterwards', () =>
    virtual(({ cold, hot, expectObservable, expectSubscriptions }) => {
      const source = hot('(abc)--d');
      const children = { a: cold('-a----a'), b: cold('---b'), c: cold('----#') };
      const result = source.pipe(fanOutScoped((key) => children[key as 'a' | 'b' | 'c']));
      expectObservable(result, '^--!').toBe('-a--');
      for (const child of Object.values(children)) expectSubscriptions(child.subscriptions).toBe('^--!');
      expectSubscriptions(source.subscriptions).toBe('^--!');
    }));

  it('U02 each promise-returning child sees its signal abort', () =>
    fake(async ({ works, advance }) => {
      const signals: AbortSignal[] = [];
      const subscription = from([1, 2, 3])
        .pipe(
          fanOutScoped((index, _, ctx) =>
            ctx.call((signal) => {
              signals.push(signal);
              return works.coop(`${index}`, 50, index)(signal);
            }),
          ),
        )
        .subscribe();
      await advance(5);
      expect(signals.map(({ aborted }) => aborted)).toEqual([false, false, false]);
      subscription.unsubscribe();
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true]);
      expect(signals.map(({ reason }) => (reason as { reason: unknown }).reason)).toEqual(Array(3).fill({ kind: 'unsubscribed' }));
    }));

  it('U03 queued children never start after it', () =>
    virtual(({ hot, expectObservable }) => {
      const started: string[] = [];
      const group = handle();
      const result = hot('(abc)---d').pipe(
        fanOutScoped((key) => (started.push(key), later(10, key)), { concurrency: 1, onScope: group.take }),
        finalize(() => {
          expect(started).toEqual(['a']);
          expect(reportOf(group.scope).outcomes.map(({ status }) => status)).toEqual(['cancelled', 'not-started', 'not-started']);
        }),
      );
      expectObservable(result, '-----!').toBe('------');
    }));

  it('U05 a teardown that throws during unsubscribe goes to the report and to onUnhandled; unsubscribe() does not throw', () =>
    virtual(({ at, note, lines, flush }) => {
      const group = handle();
      const unhandled: ScopeFailure[][] = [];
      const rude = (name: string): Observable<never> =>
        torn(() => {
          note(`${name} torn down`);
          throw new Error(name);
        });
      const subscription = from(['one', 'two', 'three'])
        .pipe(
          fanOutScoped((name) => (name === 'two' ? rude(name) : torn(() => note(`${name} torn down`))), {
            onScope: group.take,
            onUnhandled: (failures) => unhandled.push([...failures]),
          }),
        )
        .subscribe();
      at(3, () => expect(() => subscription.unsubscribe()).not.toThrow());
      flush();
      expect(lines.sort()).toEqual(['3 one torn down', '3 three torn down', '3 two torn down']);
      const failure = { error: new Error('two'), phase: 'cleanup', index: 1 };
      expect(reportOf(group.scope).errors).toEqual([failure]);
      expect(unhandled).toEqual([[failure]]);
    }));

  it('U07 an async iterable whose next() is pending for ever is returned at once, and waited for', () =>
    fake(async ({ watch, note, lines, advance }) => {
      const stream: AsyncIterable<string> = {
        [Symbol.asyncIterator]: () => ({
          next: () => (note('next()'), lines.length > 1 ? new Promise(() => {}) : Promise.resolve({ done: false, value: 'token' })),
          return: () => (note('return()'), new Promise((resolve) => setTimeout(() => resolve({ done: true, value: undefined }), 20))),
        }),
      };
      for (const through of ['child', 'call'] as const) {
        lines.length = 0;
        const group = handle();
        const subscription = watch(
          of(1).pipe(fanOutScoped((_, __, ctx) => (through === 'call' ? ctx.call(() => stream) : stream), { onScope: group.take })),
        );
        await advance(5);
        subscription.unsubscribe();
        note('unsubscribed');
        group.scope.closed$.subscribe(() => note('closed'));
        await advance(30);
        expect(lines.map((line) => line.replace(/^\d+ /, ''))).toEqual([
          ...['next()', 'next token', 'next()', 'return()', 'unsubscribed', 'closed'],
        ]);
      }
    }));

  it('U07 an async iterator without return() is waited for until its pending next() settles', () =>
    fake(async ({ watch, note, lines, advance, works }) => {
      const group = handle();
      const slow = works.deaf('next', 30, { done: false, value: 1 });
      const stream: AsyncIterable<number> = { [Symbol.asyncIterator]: () => ({ next: () => slow(new AbortController().signal) }) };
      const subscription = watch(of(1).pipe(fanOutScoped(() => stream, { onScope: group.take })));
      await advance(5);
      subscription.unsubscribe();
      group.scope.closed$.subscribe(() => note('closed'));
      await advance(100);
      expect(lines).toEqual(['30 next settled', '30 closed']);
    }));

  it('U07 an async generator runs its finally block, and the scope waits for that', () =>
    fake(async ({ watch, note, lines, advance }) => {
      async function* tokens(): AsyncGenerator<number> {
        try {
          for (let i = 0; ; i++) {
            yield i;
            await new Promise((resolve) => setTimeout(resolve, 4));
          }
        } finally {
          await new Promise((resolve) => setTimeout(resolve, 10));
          note('finally');
        }
      }
      watch(
        of(1).pipe(
          fanOutScoped(() => tokens()),
          take(2),
        ),
      );
      watch(scoped(() => of(1).pipe(fanOutScoped(() => tokens()))).pipe(takeWithin(6)), 'within');
      await advance(50);
      expect(lines).toEqual([
        ...['0 next 0', '0 within next 0', '4 next 1', '4 complete', '4 within next 1'],
        ...['14 finally', '18 finally', '18 within complete'],
      ]);
    }));

  it.each([
    ['rejects', (): Promise<never> => Promise.reject(new Error('return'))],
    [
      'throws',
      (): never => {
        throw new Error('return');
      },
    ],
  ])('U07 return() that %s is a failure of the cleanup, and the end of the call', (_, answer) =>
    fake(async ({ advance }) => {
      const group = handle();
      const stream: AsyncIterable<number> = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: answer }) };
      const subscription = of(1)
        .pipe(fanOutScoped(() => stream, { onScope: group.take }))
        .subscribe();
      await advance(1);
      expect(() => subscription.unsubscribe()).not.toThrow();
      await advance(1);
      expect(reportOf(group.scope)).toMatchObject({ errors: [{ error: new Error('return'), phase: 'cleanup', index: 0 }], abandoned: [] });
    }),
  );
});

describe('unsubscribing from inside', () => {
  it.each(['failFast', 'collect', 'settle', 'race'] as const)('next, in policy %s: nothing follows, everything is stopped', (policy) =>
    virtual(({ note, lines, flush }) => {
      const group = handle();
      const children = [later(2, 'a'), torn<string>(() => note('b torn down'))];
      const subscription: Subscription = from(children)
        .pipe(fanOutScoped((child) => child, { policy: policy as 'failFast', onScope: group.take }))
        .subscribe({
          next: () => (note('next'), subscription.unsubscribe()),
          error: () => note('error'),
          complete: () => (note('complete'), subscription.unsubscribe()),
        });
      flush();
      expect(lines.filter((line) => line === '2 next')).toHaveLength(1);
      expect(lines).toContain('2 b torn down');
      expect(lines).not.toContain('2 error');
      expect(group.scope.dump().state).toBe('closed');
    }),
  );

  it('complete and error: the scope has closed already, nothing happens', () =>
    virtual(({ lines, note, flush }) => {
      for (const child of [later(2, 'a'), failing(3, 'boom')]) {
        const subscription: Subscription = from([child])
          .pipe(fanOutScoped((each) => each))
          .subscribe({
            complete: () => (subscription.unsubscribe(), note('complete')),
            error: () => (subscription.unsubscribe(), note('error')),
          });
      }
      flush();
      expect(lines).toEqual(['2 complete', '3 error']);
    }));

  it('a teardown of a child: counts once, the report keeps the first reason', () =>
    virtual(({ flush }) => {
      const group = handle();
      const subscription: Subscription = from([failing(2, 'boom'), torn(() => subscription.unsubscribe())])
        .pipe(fanOutScoped((child) => child, { onScope: group.take }))
        .subscribe({ error: () => expect.unreachable() });
      flush();
      expect(reportOf(group.scope)).toMatchObject({ reason: { kind: 'sibling-failed' }, errors: [{ error: 'boom' }] });
    }));

  it('an abort listener', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      const subscription: Subscription = watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) =>
              ctx.call((signal) => {
                signal.addEventListener('abort', () => subscription.unsubscribe());
                return index === 0 ? works.failing('A', 5, 'boom')(signal) : works.coop('B', 50, 1)(signal);
              }),
            { onScope: group.take },
          ),
        ),
      );
      await advance(10);
      expect(lines).toEqual(['5 A settled', '5 B settled']);
      expect(reportOf(group.scope).reason).toMatchObject({ kind: 'sibling-failed' });
    }));

  it('project: what it returns is not subscribed', () =>
    virtual(({ cold, hot, flush, expectSubscriptions }) => {
      const child = cold('a');
      const subscription: Subscription = hot('--a')
        .pipe(fanOutScoped(() => (subscription.unsubscribe(), child)))
        .subscribe();
      flush();
      expectSubscriptions(child.subscriptions).toBe([]);
    }));

  it('the subscribe call of a child, which then goes on to set itself up', () =>
    virtual(({ hot, note, lines, flush }) => {
      const child = new Observable<never>(() => {
        subscription.unsubscribe();
        note('still subscribing');
        return () => note('torn down');
      });
      const subscription: Subscription = hot('--a')
        .pipe(fanOutScoped(() => child))
        .subscribe();
      flush();
      expect(lines).toEqual(['2 still subscribing', '2 torn down']);
    }));

  it('a call’s function: its promise is waited for although nobody listens', () =>
    fake(async ({ works, advance, lines, note }) => {
      const group = handle();
      const source = new Subject<number>();
      let aborted: boolean | undefined;
      const subscription = source
        .pipe(
          fanOutScoped(
            (_, __, ctx) =>
              ctx.call((signal) => {
                subscription.unsubscribe();
                aborted = signal.aborted;
                return works.deaf('call', 20, 1)(signal);
              }),
            { onScope: group.take },
          ),
        )
        .subscribe();
      source.next(1);
      group.scope.closed$.subscribe(() => note('closed'));
      await advance(30);
      expect(aborted).toBe(true);
      expect(lines).toEqual(['20 call settled', '20 closed']);
    }));

  it('onScope: nothing starts', () =>
    virtual(({ cold, flush, expectSubscriptions }) => {
      const source = cold('a');
      const stop = new Subject<void>();
      source
        .pipe(
          fanOutScoped(() => NEVER, { onScope: () => stop.next() }),
          takeUntil(stop),
        )
        .subscribe();
      flush();
      expectSubscriptions(source.subscriptions).toBe([]);
    }));
});

describe('failures that nobody hears', () => {
  it('go up to the parent scope, which fails with them', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        scoped((scope) =>
          from(['first', 'second']).pipe(
            switchMap((name) =>
              name === 'first'
                ? of(1).pipe(
                    fanOutScoped(
                      () =>
                        torn(() => {
                          throw 'unheard';
                        }),
                      { within: scope },
                    ),
                  )
                : later(10, name),
            ),
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['0 error ScopeError[unheard]']);
    }));

  it('without a parent go to onUnhandled, once, when the scope has closed', () =>
    fake(async ({ works, advance, note, lines }) => {
      const subscription = from([1, 2])
        .pipe(
          fanOutScoped((index, _, ctx) => ctx.call(works.cleanup(`${index}`, 10 * index, `late ${index}`)), {
            onUnhandled: (failures) => note(`unhandled ${failures.map(({ error }) => String(error)).join()}`),
          }),
        )
        .subscribe();
      await advance(5);
      subscription.unsubscribe();
      await advance(50);
      expect(lines).toEqual(['15 1 settled', '25 2 settled', '25 unhandled late 1,late 2']);
    }));

  it('without onUnhandled stay in the report: nothing is thrown, nothing is unhandled', () =>
    fake(async ({ works, advance }) => {
      const group = handle();
      const subscription = of(1)
        .pipe(fanOutScoped((_, __, ctx) => ctx.call(works.cleanup('A', 10, 'late')), { onScope: group.take }))
        .subscribe();
      await advance(5);
      expect(() => subscription.unsubscribe()).not.toThrow();
      await advance(50);
      expect(reportOf(group.scope).errors).toEqual([{ error: 'late', phase: 'cleanup', index: 0 }]);
    }));

  it('onUnhandled is not called for what the output told, nor when there was nothing', () =>
    virtual(({ flush }) => {
      const never = (): void => expect.unreachable();
      of(1)
        .pipe(fanOutScoped(() => failing(1, 'told'), { onUnhandled: never }))
        .subscribe({ error: () => {} });
      of(1)
        .pipe(
          fanOutScoped(() => NEVER, { onUnhandled: never }),
          takeUntil(timer(3)),
        )
        .subscribe();
      of(1)
        .pipe(fanOutScoped(() => later(1, 1), { onUnhandled: never }))
        .subscribe();
      flush();
    }));

  it('an onUnhandled that throws is reported as an uncaught error and breaks nothing', async () => {
    const caught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const listener = (error: unknown): void => void caught.push(error);
    process.on('uncaughtException', listener);
    try {
      const group = handle();
      const subscription = of(1)
        .pipe(
          fanOutScoped(
            () =>
              torn(() => {
                throw new Error('unheard');
              }),
            {
              onScope: group.take,
              onUnhandled: () => {
                throw new Error('from onUnhandled');
              },
            },
          ),
        )
        .subscribe();
      expect(() => subscription.unsubscribe()).not.toThrow();
      expect(group.scope.dump().state).toBe('closed');
      expect((await group.scope.closed).errors).toHaveLength(1);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(caught).toEqual([new Error('from onUnhandled')]);
    } finally {
      process.off('uncaughtException', listener);
      for (const each of listeners) process.on('uncaughtException', each);
    }
  });
});

describe('after unsubscribe', () => {
  it('closed resolves when the last cleanup is done, and closed$ tells it synchronously', () =>
    virtual(({ note, at, lines, flush }) => {
      const group = handle();
      const subscription = of(1)
        .pipe(fanOutScoped((_, __, ctx) => cleaning(ctx, 10, () => note('cleaned')), { onScope: group.take }))
        .subscribe();
      group.scope.closed$.subscribe(({ reason }) => note(`closed ${reason?.kind}`));
      at(4, () => (subscription.unsubscribe(), note('unsubscribed')));
      flush();
      expect(lines).toEqual(['4 unsubscribed', '14 cleaned', '14 closed unsubscribed']);
    }));

  it('finalize around the operator runs at once; only `closed` waits', () =>
    fake(async ({ works, note, lines, advance }) => {
      const group = handle();
      const subscription = of(1)
        .pipe(
          fanOutScoped((_, __, ctx) => ctx.call(works.deaf('call', 20, 1)), { onScope: group.take }),
          finalize(() => note('finalize')),
        )
        .subscribe();
      await advance(5);
      subscription.unsubscribe();
      await advance(50);
      expect(lines).toEqual(['5 finalize', '20 call settled']);
    }));

  it('a child context kept after the scope has closed refuses calls and tracks', () =>
    virtual(({ watch, lines, flush }) => {
      let kept: Scope | undefined;
      let invoked = 0;
      const subscription = of(1)
        .pipe(fanOutScoped((_, __, ctx) => ((kept = ctx), NEVER)))
        .subscribe();
      subscription.unsubscribe();
      const ctx = kept as Scope;
      watch(ctx.call(() => (invoked++, of(1))));
      expect(() => ctx.track(of(1))).toThrow('The scope was cancelled');
      expect(ctx.signal.aborted).toBe(true);
      expect(ctx.remaining()).toBe(Infinity);
      ctx.cancel();
      ctx.setDeadline(5);
      flush();
      expect(invoked).toBe(0);
      expect(lines).toEqual(['0 error Cancelled(unsubscribed)']);
    }));

  it('unsubscribing twice, or after the end, is nothing', () =>
    virtual(({ at, flush }) => {
      const group = handle();
      const subscription = of(1)
        .pipe(fanOutScoped(() => NEVER, { onScope: group.take }))
        .subscribe();
      at(1, () => (subscription.unsubscribe(), subscription.unsubscribe()));
      flush();
      expect(reportOf(group.scope)).toMatchObject({ reason: { kind: 'unsubscribed' } });
    }));

  it.each([
    ['takeWithin', takeWithin(100)],
    ['failWithin', failWithin(100)],
    ['fanOutScoped', fanOutScoped((value: number) => later(1, value))],
  ])('%s clears its timers', (_, operator) =>
    fake(async ({ advance }) => {
      const subscription = interval(10).pipe(operator, tap()).subscribe();
      await advance(15);
      subscription.unsubscribe();
      await advance(TURN);
    }),
  );
});
