import { concat, defer, finalize, from, merge, NEVER, Observable, of, Subject, takeUntil, tap, timer } from 'rxjs';
import { failWithin, fanOutScoped, isScopeError, scoped, takeWithin, type Scope, type ScopeError } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';

/** An Observable whose teardown throws. */
function throwing(error: unknown, first: () => void = () => {}): Observable<never> {
  return new Observable<never>(() => () => {
    first();
    throw error;
  });
}

describe('cleanup and acknowledgement', () => {
  it('A01 a call that ignores its signal is still waited for', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 3, 'boom'), works.deaf('B', 40, 'b')];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call<unknown>(task))));
      await advance(100);
      expect(lines).toEqual(['3 A settled', '40 B settled', '40 error ScopeError[boom]']);
    }));

  it('A02 after the grace the scope ends and names what it abandoned', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      const tasks = [works.failing('A', 3, 'boom'), works.deaf('B', 200, 'b')];
      watch(
        from(tasks).pipe(
          fanOutScoped((task, index, ctx) => ctx.call<unknown>(task, { label: `call ${index}` }), { graceMs: 15, onScope: group.take }),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['3 A settled', `${18 + TURN} error ScopeError[boom]`]);
      const report = reportOf(group.scope);
      expect(report.abandoned).toEqual([{ label: 'call 1', path: [], index: 1, ageMs: 18 + TURN }]);
      expect(report.late).toEqual([]);
      await advance(200);
      expect(report.late).toEqual([{ label: 'call 1', path: [], index: 1, ageMs: 200, status: 'fulfilled', value: 'b' }]);
    }));

  it('A04 the late rejection of a cancelled call is never an unhandledRejection', () =>
    fake(async ({ works, advance }) => {
      const group = handle();
      const subscription = from([10, 30])
        .pipe(fanOutScoped((ms, _, ctx) => ctx.call(works.failing(`${ms}`, ms, `late ${ms}`)), { graceMs: 20, onScope: group.take }))
        .subscribe();
      await advance(5);
      subscription.unsubscribe();
      await advance(50);
      const report = reportOf(group.scope);
      expect(report.errors.map(({ error }) => error)).toEqual(['late 10']);
      expect(report.abandoned).toHaveLength(1);
      expect(report.late).toMatchObject([{ index: 1, status: 'failed', reason: 'late 30' }]);
    }));

  it('A05 a teardown that throws is in the aggregate, and the process survives', () =>
    virtual(({ watch, lines, flush }) => {
      const children = [failing(5, 'boom'), throwing('cleanup B')];
      watch(from(children).pipe(fanOutScoped((child) => child)));
      flush();
      expect(lines).toEqual(['5 error ScopeError[boom, cleanup B]']);
    }));

  it('A05 so is the teardown of a call, of the source and of the failing child itself', () =>
    virtual(({ watch, lines, flush }) => {
      const source = merge(
        from([0, 1]),
        NEVER.pipe(
          finalize(() => {
            throw 'source';
          }),
        ),
      );
      watch(
        source.pipe(
          fanOutScoped((index, _, ctx) => (index === 1 ? ctx.call(() => throwing('call')) : merge(failing(2, 'boom'), throwing('own')))),
        ),
      );
      flush();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/^2 error ScopeError\[boom, /);
      for (const error of ['own', 'call', 'source']) expect(lines[0]?.split(error)).toHaveLength(2);
    }));

  it('A07 all teardowns run even if one throws', () =>
    virtual(({ watch, note, lines, flush }) => {
      const children = [failing(5, 'boom'), torn(() => note('one')), throwing('two', () => note('two')), torn(() => note('three'))];
      watch(from(children).pipe(fanOutScoped((child) => child)));
      flush();
      expect(lines.slice(0, 3).sort()).toEqual(['5 one', '5 three', '5 two']);
      expect(lines[3]).toBe('5 error ScopeError[boom, two]');
    }));

  it('A09 the cleanups of siblings run concurrently', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        from([0, 1, 2, 3]).pipe(
          fanOutScoped((index, _, ctx) => (index === 0 ? failing(5, 'boom') : cleaning(ctx, 30, () => note(`${index} cleaned`)))),
        ),
      );
      flush();
      expect(lines.slice(0, 3).sort()).toEqual(['35 1 cleaned', '35 2 cleaned', '35 3 cleaned']);
      expect(lines[3]).toBe('35 error ScopeError[boom]');
    }));

  it('A11 a normal completion waits for registered cleanup too', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped((value, _, ctx) => {
            ctx.track(pause(20).pipe(tap({ complete: () => note('cleaned') })));
            return of(value);
          }),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next 1', '20 cleaned', '20 complete']);
    }));

  it('A13 after unsubscribe the owner can await that everything is acknowledged', () =>
    fake(async ({ works, note, watch, lines, advance }) => {
      const group = handle();
      const subscription = watch(of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(works.deaf('call', 20, 1)), { onScope: group.take })));
      await advance(5);
      subscription.unsubscribe();
      note('unsubscribed');
      void group.scope.closed.then(({ reason }) => note(`closed: ${reason?.kind}`));
      await advance(50);
      expect(lines).toEqual(['5 unsubscribed', '20 call settled', '20 closed: unsubscribed']);
    }));

  it('A14 a shielded call is not aborted, but waited for, and its value is on record', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      let signal: AbortSignal | undefined;
      const payment = works.deaf('payment', 40, 'paid');
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) =>
              index === 0
                ? ctx.call(works.failing('A', 5, 'boom'))
                : ctx.call((each) => ((signal = each), payment(each)), { label: 'payment', shield: true }),
            { graceMs: 10, onScope: group.take },
          ),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['5 A settled', '40 payment settled', '40 error ScopeError[boom]']);
      expect(signal?.aborted).toBe(false);
      const report = reportOf(group.scope);
      expect(report.abandoned).toEqual([]);
      expect(report.late).toMatchObject([{ label: 'payment', index: 1, status: 'fulfilled', value: 'paid' }]);
    }));
});

describe('grace', () => {
  const run = (graceMs: number | undefined, cleanupMs: number): string[] => {
    let result: string[] = [];
    virtual(({ watch, lines, flush }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) => (index === 0 ? failing(5, 'boom') : cleaning(ctx, cleanupMs)),
            graceMs === undefined ? {} : { graceMs },
          ),
        ),
      );
      flush();
      result = lines;
    });
    return result;
  };

  it('is 5000 ms by default', () => {
    expect(run(undefined, 4999)).toEqual(['5004 error ScopeError[boom]']);
    expect(run(undefined, 99_999)).toEqual(['5005 error ScopeError[boom]']);
  });

  it('0 waits for nothing that is not there in the same frame', () => {
    expect(run(0, 20)).toEqual(['5 error ScopeError[boom]']);
    expect(run(0, 0)).toEqual(['5 error ScopeError[boom]']);
  });

  it('Infinity waits for ever', () => expect(run(Infinity, 1e9)).toEqual([`${1e9 + 5} error ScopeError[boom]`]));

  it('a cleanup that ends in the grace’s own frame is acknowledged, not abandoned', () =>
    virtual(({ flush }) => {
      const errors: ScopeError[] = [];
      from([0, 1])
        .pipe(fanOutScoped((index, _, ctx) => (index === 0 ? failing(5, 'boom') : cleaning(ctx, 10)), { graceMs: 10 }))
        .subscribe({ error: (error: unknown) => isScopeError(error) && errors.push(error) });
      flush();
      expect(errors[0]?.abandoned).toEqual([]);
      expect(errors[0]?.outcomes).toMatchObject([{ status: 'failed' }, { status: 'cancelled' }]);
    }));

  /** What an inner scope and the outer one around it say when the outer is cancelled at 5 ms and a cleanup takes 1000. */
  const nested = (outer: number, inner: number, cancelInnerAt?: number): string[] => {
    let result: string[] = [];
    virtual(({ watch, note, at, lines, flush }) => {
      const scopes = { outer: handle(), inner: handle() };
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index) =>
              index === 0
                ? failing(5, 'boom')
                : of(1).pipe(fanOutScoped((_, __, ctx) => cleaning(ctx, 1000), { graceMs: inner, onScope: scopes.inner.take })),
            { graceMs: outer, onScope: scopes.outer.take },
          ),
        ),
      );
      if (cancelInnerAt !== undefined) at(cancelInnerAt, () => scopes.inner.scope.cancel());
      scopes.inner.scope.closed$.subscribe(({ abandoned }) => note(`inner closed, ${abandoned.length} abandoned`));
      scopes.outer.scope.closed$.subscribe(({ abandoned }) => note(`outer closed, ${abandoned.length} abandoned`));
      flush();
      result = lines;
    });
    return result;
  };

  it('an inner scope with a smaller grace ends first, and the outer one names the call as well', () =>
    expect(nested(100, 10)).toEqual(['15 inner closed, 1 abandoned', '15 outer closed, 1 abandoned', '15 error ScopeError[boom]']));

  it('a larger grace inside does not lengthen the outer one', () =>
    expect(nested(10, 100)).toEqual(['15 inner closed, 1 abandoned', '15 outer closed, 1 abandoned', '15 error ScopeError[boom]']));

  it('an inner grace of Infinity does not lengthen the outer one', () =>
    expect(nested(10, Infinity)).toEqual(['15 inner closed, 1 abandoned', '15 outer closed, 1 abandoned', '15 error ScopeError[boom]']));

  it('an ancestor’s cancel during the own grace shortens it', () =>
    expect(nested(10, 100, 2)).toEqual(['15 inner closed, 1 abandoned', '15 outer closed, 1 abandoned', '15 error ScopeError[boom]']));

  it('an ancestor’s cancel during the own grace never lengthens or restarts it', () =>
    expect(nested(100, 10, 2)).toEqual(['12 inner closed, 1 abandoned', '12 outer closed, 1 abandoned', '12 error ScopeError[boom]']));

  it('a call that its own subscriber left gets the grace when nothing else is left to wait for', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      watch(
        of(1).pipe(
          fanOutScoped(
            (value, _, ctx) => {
              ctx
                .call(() => new Promise<never>(() => {}))
                .pipe(takeUntil(timer(2)))
                .subscribe();
              return later(4, value);
            },
            { graceMs: 10, onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['4 next 1', '14 complete']);
      expect(reportOf(group.scope).abandoned).toMatchObject([{ label: 'call', index: 0 }]);
    }));

  it('takeWithin and failWithin have the same default', () =>
    virtual(({ watch, lines, flush }) => {
      const stuck = scoped((scope) => cleaning(scope, 99_999));
      watch(stuck.pipe(takeWithin(5)), 'take');
      watch(stuck.pipe(failWithin(5)), 'fail');
      flush();
      expect(lines).toEqual(['5005 take complete', '5005 fail error Deadline(5)']);
    }));
});

describe('abandoned calls', () => {
  it('never surface as a value, an error or an end, however they settle', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 1, 'boom'), works.deaf('B', 50, 'late'), works.failing('C', 60, 'late error'), works.stuck('D')];
      const group = handle();
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call<unknown>(task), { graceMs: 10, onScope: group.take })));
      await advance(20);
      const report = reportOf(group.scope);
      expect(report.abandoned.map(({ index }) => index)).toEqual([1, 2, 3]);
      expect(report.outcomes.map(({ status }) => status)).toEqual(['failed', 'unknown', 'unknown', 'unknown']);
      await advance(100);
      expect(lines).toEqual(['1 A settled', `${11 + TURN} error ScopeError[boom]`, '50 B settled', '60 C settled']);
      expect(report.late).toMatchObject([
        { index: 1, status: 'fulfilled', value: 'late' },
        { index: 2, status: 'failed', reason: 'late error' },
      ]);
    }));

  it('are named by every scope around them', () =>
    fake(async ({ works, watch, advance }) => {
      const [outer, inner] = [handle(), handle()];
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) =>
              index === 0
                ? ctx.call(works.failing('A', 1, 'boom'))
                : of(1).pipe(
                    fanOutScoped((__, ___, own) => own.call(works.deaf('B', 50, 'late'), { label: 'deep' }), {
                      label: 'inner',
                      onScope: inner.take,
                    }),
                  ),
            { graceMs: 10, label: 'outer', onScope: outer.take },
          ),
        ),
      );
      await advance(100);
      for (const { scope } of [outer, inner]) {
        const report = reportOf(scope);
        expect(report.abandoned).toMatchObject([{ label: 'deep', path: ['outer', 'inner'] }]);
        expect(report.late).toMatchObject([{ label: 'deep', status: 'fulfilled', value: 'late' }]);
      }
    }));

  it('a call that was told to stop and succeeded within the grace is late, not abandoned', () =>
    fake(async ({ works, watch, advance }) => {
      const group = handle();
      const tasks = [works.failing('A', 1, 'boom'), works.deaf('B', 5, 'after all')];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call<unknown>(task), { onScope: group.take })));
      await advance(10);
      const report = reportOf(group.scope);
      expect(report.abandoned).toEqual([]);
      expect(report.outcomes).toMatchObject([{ status: 'failed' }, { status: 'cancelled' }]);
      expect(report.late).toMatchObject([{ index: 1, status: 'fulfilled', value: 'after all' }]);
    }));
});

describe('shield', () => {
  it('outlives any grace, and unsubscribing from it', () =>
    fake(async ({ works, advance, lines, note }) => {
      const group = handle();
      const subscription = of(1)
        .pipe(
          fanOutScoped((_, __, ctx) => ctx.call(works.deaf('payment', 60, 'paid'), { shield: true }), { graceMs: 0, onScope: group.take }),
        )
        .subscribe();
      await advance(5);
      subscription.unsubscribe();
      void group.scope.closed.then((report) => note(`closed ${report.late.length} ${report.abandoned.length}`));
      await advance(100);
      expect(lines).toEqual(['60 payment settled', '60 closed 1 0']);
    }));

  it('others beside it are abandoned at the end of the grace; it alone is waited for', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      watch(
        from([0, 1, 2]).pipe(
          fanOutScoped(
            (index, _, ctx) =>
              index === 0
                ? ctx.call(works.failing('A', 1, 'boom'))
                : index === 1
                  ? ctx.call(works.deaf('payment', 60, 'paid'), { shield: true })
                  : ctx.call(works.stuck('stuck')),
            { graceMs: 10, onScope: group.take },
          ),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['1 A settled', '60 payment settled', '60 error ScopeError[boom]']);
      expect(reportOf(group.scope).outcomes.map(({ status }) => status)).toEqual(['failed', 'cancelled', 'unknown']);
    }));

  it('a shielded Observable is not torn down; its last value is on record', () =>
    virtual(({ cold, watch, lines, flush, at, expectSubscriptions }) => {
      const group = handle();
      const payment = cold('--a---b---(c|)');
      const subscription = watch(
        of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(() => payment, { shield: true }), { onScope: group.take })),
      );
      at(4, () => subscription.unsubscribe());
      flush();
      expect(lines).toEqual(['2 next a']);
      expectSubscriptions(payment.subscriptions).toBe('^---------!');
      expect(reportOf(group.scope).late).toMatchObject([{ status: 'fulfilled', value: 'c' }]);
    }));

  it('a shielded call that fails after the cancel is a failure', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped((index, _, ctx) =>
            index === 0 ? ctx.call(works.failing('A', 1, 'boom')) : ctx.call(works.failing('B', 9, 'declined'), { shield: true }),
          ),
        ),
      );
      await advance(20);
      expect(lines.at(-1)).toBe('9 error ScopeError[boom, declined]');
    }));
});

describe('track', () => {
  it('is waited for while open, while closing, while cancelling', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      const during = (state: string, when: number, run: () => void): void =>
        at(when, () => (expect(group.scope.dump().state).toBe(state), run()));
      const source = new Subject<number>();
      watch(source.pipe(fanOutScoped((value) => of(value), { onScope: group.take })));
      during('open', 1, () => group.scope.track(pause(5)));
      at(2, () => source.complete());
      during('closing', 4, () => group.scope.track(pause(5)));
      at(8, () => group.scope.cancel());
      during('cancelling', 8, () => group.scope.track(pause(5)));
      flush();
      expect(lines).toEqual(['13 complete']);
    }));

  it('in a closed scope throws ScopeCancelledError, and a rejection of the promise is not unhandled', () =>
    fake(async ({ advance }) => {
      const group = handle();
      of(1)
        .pipe(fanOutScoped((value) => of(value), { onScope: group.take }))
        .subscribe();
      expect(() => group.scope.track(Promise.reject(new Error('late cleanup')))).toThrow('The scope was cancelled');
      await advance(0);
    }));

  it('a cleanup that fails is a failure of its scope, with the phase cleanup', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      watch(
        of(1).pipe(
          fanOutScoped(
            (value, _, ctx) => {
              ctx.track(failing(3, 'flush failed'));
              return of(value);
            },
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next 1', '3 error ScopeError[flush failed]']);
      expect(reportOf(group.scope).errors).toEqual([{ error: 'flush failed', phase: 'cleanup', index: 0 }]);
    }));

  it('is not aborted by a cancel, but abandoned by its grace', () =>
    virtual(({ watch, lines, flush, at, cold, expectSubscriptions }) => {
      const group = handle();
      const cleanup = cold('------|');
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take, graceMs: 20 })));
      group.scope.track(cleanup, 'quick');
      group.scope.track(NEVER, 'endless');
      at(3, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['23 complete']);
      expectSubscriptions(cleanup.subscriptions).toBe('^-----!');
      expect(reportOf(group.scope).abandoned.map(({ label }) => label)).toEqual(['endless']);
    }));

  it('takes only promises and Observables', () => {
    const group = handle();
    const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })).subscribe();
    for (const wrong of [undefined, 1, () => {}]) expect(() => group.scope.track(wrong as never)).toThrow(TypeError);
    subscription.unsubscribe();
  });
});

describe('acquire', () => {
  const open = (scope: Scope, name: string, note: (what: string) => void, ms = 0, closeMs = 2): Observable<string> =>
    scope.acquire(
      () => new Promise<string>((resolve) => setTimeout(() => (note(`${name} open`), resolve(name)), ms)),
      (resource) => {
        note(`closing ${resource}`);
        return new Promise<void>((resolve) => setTimeout(() => (note(`${resource} closed`), resolve()), closeMs));
      },
    );

  it('emits the resource and completes; it closes when the scope ends, last opened first', () =>
    fake(async ({ note, watch, lines, advance }) => {
      watch(scoped((scope) => concat(open(scope, 'a', note, 1), open(scope, 'b', note, 1), later(5, 'work'))));
      await advance(50);
      expect(lines).toEqual([
        ...['1 a open', '1 next a', '2 b open', '2 next b', '7 next work'],
        ...['7 closing b', '9 b closed', '9 closing a', '11 a closed', '11 complete'],
      ]);
    }));

  it('closes after the calls that used it have acknowledged the cancel', () =>
    fake(async ({ note, works, watch, lines, advance }) => {
      const group = handle();
      watch(scoped((scope) => concat(open(scope, 'a', note, 1), scope.call(works.deaf('user of a', 20, 1))), { onScope: group.take }));
      await advance(5);
      group.scope.cancel();
      await advance(50);
      expect(lines.slice(2)).toEqual(['21 user of a settled', '21 closing a', '23 a closed', '23 complete']);
    }));

  it('is closed again if the scope was cancelled while it was opening', () =>
    fake(async ({ note, watch, lines, advance }) => {
      const group = handle();
      watch(scoped((scope) => open(scope, 'a', note, 10), { onScope: group.take }));
      await advance(5);
      group.scope.cancel();
      await advance(50);
      expect(lines).toEqual(['10 a open', '10 closing a', '12 a closed', '12 complete']);
      expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [] });
    }));

  it('is closed again if it opens after it was abandoned', () =>
    fake(async ({ note, watch, lines, advance }) => {
      const group = handle();
      watch(scoped((scope) => open(scope, 'a', note, 30), { onScope: group.take, graceMs: 10 }));
      await advance(5);
      group.scope.cancel();
      await advance(50);
      expect(lines).toEqual([`${15 + TURN} complete`, '30 a open', '30 closing a', '32 a closed']);
    }));

  it('is closed at the end of the scope, not when its subscriber leaves', () =>
    fake(async ({ note, watch, lines, advance }) => {
      watch(
        scoped((scope) =>
          merge(
            open(scope, 'a', note, 1).pipe(takeUntil(timer(3))),
            open(scope, 'never used', note, 5).pipe(takeUntil(timer(3))),
            later(10, 'work'),
          ),
        ),
      );
      await advance(50);
      expect(lines).toEqual([
        ...['1 a open', '1 next a', '5 never used open', '5 closing never used', '7 never used closed'],
        ...['10 next work', '10 closing a', '12 a closed', '12 complete'],
      ]);
    }));

  it('a close that rejects or throws is a failure; the other resources are closed all the same', () =>
    fake(async ({ note, watch, lines, advance }) => {
      watch(
        scoped((scope) =>
          concat(
            open(scope, 'a', note),
            scope.acquire(
              () => Promise.resolve('b'),
              () => Promise.reject(new Error('close b')),
            ),
            scope.acquire(
              () => Promise.resolve('c'),
              () => {
                throw new Error('close c');
              },
            ),
          ),
        ),
      );
      await advance(50);
      expect(lines.at(-2)).toMatch(/a closed$/);
      expect(lines.at(-1)).toMatch(/error ScopeError\[close c, close b\]$/);
    }));

  it('a close that hangs after a cancel is abandoned at the end of the grace, and the rest is closed', () =>
    fake(async ({ note, watch, lines, advance }) => {
      const group = handle();
      watch(
        scoped(
          (scope) =>
            concat(
              open(scope, 'a', note),
              scope.acquire(
                async function database() {
                  return 'b';
                },
                () => new Promise(() => {}),
              ),
              NEVER,
            ),
          { graceMs: 10, onScope: group.take },
        ),
      );
      await advance(5);
      group.scope.cancel();
      await advance(50);
      expect(lines.slice(0, 3)).toEqual(['0 a open', '0 next a', '0 next b']);
      expect(lines).toContain(`${15 + TURN} complete`);
      expect(lines.some((line) => line.endsWith('closing a'))).toBe(true);
      expect(reportOf(group.scope).abandoned.map(({ label }) => label)).toContain('close database');
    }));

  it('a failed open is a failure of the call and leaves nothing to close', () =>
    fake(async ({ watch, lines, advance }) => {
      watch(
        scoped((scope) =>
          scope.acquire(
            () => Promise.reject(new Error('no socket')),
            () => expect.unreachable(),
          ),
        ),
      );
      watch(
        scoped((scope) =>
          scope.acquire(
            () => {
              throw new Error('no call');
            },
            () => expect.unreachable(),
          ),
        ),
      );
      await advance(0);
      expect(lines.sort()).toEqual(['0 error ScopeError[no call]', '0 error ScopeError[no socket]']);
    }));

  it('a close may answer with an Observable', () =>
    fake(async ({ watch, lines, advance, note }) => {
      watch(
        scoped((scope) =>
          scope.acquire(
            () => Promise.resolve('a'),
            () => pause(7).pipe(tap({ complete: () => note('closed') })),
          ),
        ),
      );
      await advance(20);
      expect(lines).toEqual(['0 next a', '7 closed', '7 complete']);
    }));

  it('on a scope that refuses calls opens nothing', () =>
    fake(async ({ watch, lines, note, advance }) => {
      const group = handle();
      of(1)
        .pipe(fanOutScoped((value) => of(value), { onScope: group.take }))
        .subscribe();
      watch(open(group.scope, 'a', note));
      await advance(10);
      expect(lines).toEqual(['0 error Cancelled(explicit)']);
    }));
});

describe('teardown', () => {
  it('of a synchronous child that throws on completion is a failure of that child', () =>
    virtual(({ watch, lines, flush }) => {
      const rude = new Observable<number>((out) => {
        out.next(1);
        out.complete();
        return () => {
          throw 'rude';
        };
      });
      watch(of(1).pipe(fanOutScoped(() => rude)));
      watch(of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(() => rude))), 'call');
      watch(rude.pipe(takeWithin(10)), 'takeWithin');
      watch(
        scoped(() => rude),
        'scoped',
      );
      flush();
      expect(lines).toEqual([
        ...['0 next 1', '0 error ScopeError[rude]'],
        ...['0 call next 1', '0 call error ScopeError[rude]'],
        ...['0 takeWithin next 1', '0 takeWithin error ScopeError[rude]'],
        ...['0 scoped next 1', '0 scoped error ScopeError[rude]'],
      ]);
    }));

  it.each(['completes', 'fails'] as const)(
    'a call whose Observable %s synchronously is over when subscribe() has returned and its teardown has run',
    (end) =>
      virtual(({ watch, note, lines, flush }) => {
        const instant = new Observable<never>((out) => {
          if (end === 'completes') out.complete();
          else out.error('boom');
          note('subscribed');
          return () => note('torn down');
        });
        watch(
          scoped((scope) =>
            concat(
              pause(5),
              scope.call(() => instant),
            ),
          ),
        );
        flush();
        expect(lines).toEqual(['5 subscribed', '5 torn down', end === 'completes' ? '5 complete' : '5 error ScopeError[boom]']);
      }),
  );

  it('of an asynchronous child that throws on completion is a failure too', () =>
    virtual(({ watch, lines, flush }) => {
      const rude = defer(() =>
        later(3, 1).pipe(
          finalize(() => {
            throw 'rude';
          }),
        ),
      );
      for (const policy of ['failFast', 'collect'] as const) watch(of(1).pipe(fanOutScoped(() => rude, { policy })), policy);
      watch(of(1).pipe(fanOutScoped(() => rude, { policy: 'settle' })), 'settle');
      flush();
      expect(lines).toContain('3 failFast error ScopeError[rude]');
      expect(lines).toContain('3 collect error ScopeError[rude]');
      expect(lines).toContain('3 settle next {"index":0,"status":"failed","reason":"rude"}');
      expect(lines).toContain('3 settle complete');
    }));

  it('a child that fails and whose teardown throws has both errors', () =>
    virtual(({ watch, lines, flush }) => {
      const rude = failing(3, 'boom').pipe(
        finalize(() => {
          throw 'teardown';
        }),
      );
      watch(of(1).pipe(fanOutScoped(() => rude)), 'failFast');
      watch(of(1).pipe(fanOutScoped(() => rude, { policy: 'collect' })), 'collect');
      watch(of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(() => rude))), 'call');
      watch(
        scoped(() => rude),
        'scoped',
      );
      watch(rude.pipe(takeWithin(10)), 'takeWithin');
      flush();
      expect(lines).toEqual(
        ['failFast', 'collect', 'call', 'scoped', 'takeWithin'].map((name) => `3 ${name} error ScopeError[boom, teardown]`),
      );
    }));
});
