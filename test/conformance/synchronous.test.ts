import { concat, defer, EMPTY, from, NEVER, Observable, of, range, Subject, Subscription, take, tap, throwError } from 'rxjs';
import { failWithin, fanOutScoped, scoped, takeWithin, type FanOutOptions, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { brief } from '../support/brief.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';

/** A synchronous source that counts how far it was pulled. */
function counting(limit = 100_000): { readonly pulled: number; readonly values: Observable<number> } {
  let pulled = 0;
  const values = new Observable<number>((out) => {
    for (let i = 0; i < limit && !out.closed; i++) {
      pulled++;
      out.next(i);
    }
    out.complete();
  });
  return {
    values,
    get pulled() {
      return pulled;
    },
  };
}

describe('synchronous and re-entrant', () => {
  it('R01 a value that makes take(1) unsubscribe: later children never start', () => {
    const started: number[] = [];
    const ends: string[] = [];
    from([1, 2, 3])
      .pipe(
        fanOutScoped((value) => (started.push(value), of(value))),
        take(1),
      )
      .subscribe({ complete: () => ends.push('complete') });
    expect(started).toEqual([1]);
    expect(ends).toEqual(['complete']);
  });

  it('R03 unsubscribing in a child’s complete callback: the next is not started', () => {
    const projected: number[] = [];
    const group = handle();
    const source = new Subject<number>();
    const subscription: Subscription = source
      .pipe(
        fanOutScoped((value) => (projected.push(value), later(0, value).pipe(tap({ complete: () => subscription.unsubscribe() }))), {
          concurrency: 1,
          onScope: group.take,
        }),
      )
      .subscribe();
    virtual(({ flush }) => {
      source.next(1);
      source.next(2);
      flush();
    });
    expect(projected).toEqual([1]);
    expect(group.scope.dump().state).toBe('closed');
  });

  it.each([1, 16, Infinity])('R05 100,000 synchronous children behind an asynchronous one, concurrency %s', (concurrency) =>
    virtual(({ flush }) => {
      const COUNT = 100_000;
      let received = 0;
      let ends = 0;
      concat(of(-1), range(0, COUNT))
        .pipe(fanOutScoped((value) => (value < 0 ? later(5, value) : of(value)), { concurrency }))
        .subscribe({ next: () => received++, complete: () => ends++ });
      flush();
      expect(received).toBe(COUNT + 1);
      expect(ends).toBe(1);
    }),
  );

  it.each([{ order: 'index' }, { policy: 'settle' }, { policy: 'settle', order: 'index' }, { policy: 'collect' }] as FanOutOptions[])(
    'R05 the same with %o',
    (options) =>
      virtual(({ flush }) => {
        let received = 0;
        let ends = 0;
        concat(of(-1), range(0, 100_000))
          .pipe(fanOutScoped((value) => (value < 0 ? later(5, value) : of(value)), { ...options, concurrency: 1 } as { policy: 'settle' }))
          .subscribe({ next: () => received++, complete: () => ends++ });
        flush();
        expect([received, ends]).toEqual([100_001, 1]);
      }),
  );

  it('R05 100,000 synchronous failures behind an asynchronous child are all told', () =>
    virtual(({ flush }) => {
      let failures = 0;
      concat(of(-1), range(0, 100_000))
        .pipe(fanOutScoped((value) => (value < 0 ? later(5, value) : throwError(() => value)), { concurrency: 1, policy: 'collect' }))
        .subscribe({ error: (error: AggregateError) => (failures = error.errors.length) });
      flush();
      expect(failures).toBe(100_000);
    }));

  it('R05 a source that answers each value with the next one, 100,000 times', () => {
    const source = new Subject<number>();
    let last = -1;
    let ends = 0;
    source.pipe(fanOutScoped((value) => of(value), { concurrency: 1 })).subscribe({
      next: (value) => {
        last = value;
        if (value < 100_000) source.next(value + 1);
        else source.complete();
      },
      complete: () => ends++,
    });
    source.next(0);
    expect([last, ends]).toEqual([100_000, 1]);
  });

  it('R06 all-synchronous success completes before subscribe returns, in order', () => {
    const seen: unknown[] = [];
    from([1, 2, 3])
      .pipe(fanOutScoped((value) => of(value)))
      .subscribe({ next: (value) => seen.push(value), complete: () => seen.push('c') });
    expect(seen).toEqual([1, 2, 3, 'c']);
  });

  it('R08 a value that the source emits from a sibling’s teardown is refused: project is not called', () =>
    virtual(({ watch, lines, flush }) => {
      const source = new Subject<number>();
      const projected: number[] = [];
      const group = handle();
      watch(
        source.pipe(
          fanOutScoped((value) => (projected.push(value), value === 1 ? failing(3, 'boom') : torn(() => source.next(99))), {
            onScope: group.take,
          }),
        ),
      );
      source.next(1);
      source.next(2);
      flush();
      expect(projected).toEqual([1, 2]);
      expect(lines).toEqual(['3 error ScopeError[boom]']);
      expect(reportOf(group.scope).outcomes).toHaveLength(2);
    }));

  it('R09 a call through a captured scope during the cancel is refused; track is still allowed', () =>
    virtual(({ watch, note, lines, flush }) => {
      const group = handle();
      let invoked = 0;
      const attempt = (scope: Scope, name: string): void =>
        void watch(
          scope.call(() => (invoked++, of(1))),
          name,
        );
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) =>
              index === 0
                ? failing(3, 'boom')
                : torn(() => {
                    attempt(ctx, 'ctx');
                    attempt(group.scope, 'group');
                    attempt(ctx.child('agent'), 'agent');
                    ctx.track(pause(5).pipe(tap({ complete: () => note('tracked') })));
                  }),
            { onScope: group.take },
          ),
        ),
      );
      flush();
      attempt(group.scope, 'closed');
      expect(invoked).toBe(0);
      expect(lines).toEqual([
        '3 ctx error Cancelled(sibling-failed)',
        '3 group error Cancelled(sibling-failed)',
        '3 agent error Cancelled(parent-cancelled < sibling-failed)',
        ...['8 tracked', '8 error ScopeError[boom]', '8 closed error Cancelled(sibling-failed)'],
      ]);
    }));

  it('R09 an operator that is subscribed within a cancelled or closed scope errors and never subscribes its source', () =>
    virtual(({ watch, lines, flush, cold, expectSubscriptions }) => {
      const group = handle();
      const source = cold('a');
      of(1)
        .pipe(fanOutScoped((value) => of(value), { onScope: group.take }))
        .subscribe();
      const within = group.scope;
      watch(source.pipe(fanOutScoped(() => NEVER, { within })), 'fanOutScoped');
      watch(source.pipe(takeWithin(5, { within })), 'takeWithin');
      watch(source.pipe(failWithin(5, { within })), 'failWithin');
      watch(
        scoped(() => source, { within }),
        'scoped',
      );
      flush();
      expect(lines).toEqual(
        ['fanOutScoped', 'takeWithin', 'failWithin', 'scoped'].map((name) => `0 ${name} error Cancelled(parent-cancelled < explicit)`),
      );
      expectSubscriptions(source.subscriptions).toBe([]);
    }));

  it('R11 an infinite synchronous source stops when a child fails synchronously', () => {
    let pulled = 0;
    function* endless(): Generator<number> {
      for (;;) yield pulled++;
    }
    const errors: string[] = [];
    from(endless())
      .pipe(fanOutScoped((value) => (value === 5 ? throwError(() => 'boom') : of(value))))
      .subscribe({ error: (error) => errors.push(brief(error)) });
    expect(pulled).toBe(6);
    expect(errors).toEqual(['ScopeError[boom]']);
  });

  it('R11 an infinite synchronous child stops when the output is unsubscribed', () => {
    for (const through of ['child', 'call'] as const) {
      const source = counting();
      of(1)
        .pipe(
          fanOutScoped((_, __, ctx) => (through === 'call' ? ctx.call(() => source.values) : source.values)),
          take(3),
        )
        .subscribe();
      expect(source.pulled).toBe(3);
    }
  });
});

describe('a synchronous firehose and take', () => {
  it.each([
    ['takeWithin', (source: Observable<number>) => source.pipe(takeWithin(10))],
    ['failWithin', (source: Observable<number>) => source.pipe(failWithin(10))],
    ['scoped', (source: Observable<number>) => scoped(() => source)],
    ['fanOutScoped', (source: Observable<number>) => source.pipe(fanOutScoped((value) => of(value)))],
    ['fanOutScoped by index', (source: Observable<number>) => source.pipe(fanOutScoped((value) => of(value), { order: 'index' }))],
    ['ctx.call', (source: Observable<number>) => scoped((scope) => scope.call(() => source))],
  ])('%s stops its source at once', (_, operate) => {
    const source = counting();
    const ends: string[] = [];
    operate(source.values)
      .pipe(take(3))
      .subscribe({ complete: () => ends.push('complete') });
    expect(source.pulled).toBe(3);
    expect(ends).toEqual(['complete']);
  });

  it.each([5, 10, 50])('through %s nested scopes still stops the source at once', (depth) => {
    const shapes: ((inner: Observable<number>) => Observable<number>)[] = [
      (inner) => scoped(() => inner),
      (inner) => inner.pipe(takeWithin(10)),
      (inner) => of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(() => inner))),
    ];
    for (const wrap of shapes) {
      const source = counting(10_000);
      let nested = source.values;
      for (let i = 0; i < depth; i++) nested = wrap(nested);
      const seen: number[] = [];
      nested.pipe(take(3)).subscribe((value) => seen.push(value));
      expect(seen).toEqual([0, 1, 2]);
      expect(source.pulled).toBe(3);
    }
  });
});

describe('re-entrancy', () => {
  it('a consumer that feeds the source from next keeps order and limit', () => {
    const source = new Subject<number>();
    const events: string[] = [];
    source
      .pipe(
        fanOutScoped(
          (value) =>
            defer(() => {
              events.push(`start ${value}`);
              return of(value);
            }),
          { concurrency: 1 },
        ),
      )
      .subscribe((value) => {
        events.push(`got ${value}`);
        if (value === 1) {
          source.next(2);
          source.next(3);
        }
      });
    source.next(1);
    expect(events).toEqual(['start 1', 'got 1', 'start 2', 'got 2', 'start 3', 'got 3']);
    source.complete();
  });

  it('project may feed the source: the new value waits its turn', () => {
    const source = new Subject<number>();
    const order: number[] = [];
    const indexes: number[] = [];
    source
      .pipe(
        fanOutScoped((value, index) => {
          indexes.push(index);
          if (value === 1) source.next(2);
          order.push(value);
          return of(value);
        }),
      )
      .subscribe();
    source.next(1);
    source.complete();
    expect(order).toEqual([1, 2]);
    expect(indexes).toEqual([0, 1]);
  });

  it('cancelling in a child, in next, in a teardown and in the source ends once and quietly', () => {
    const ends: string[] = [];
    const run = (name: string, build: (group: { readonly scope: Scope }) => Observable<unknown>, group = handle()): void => {
      build(group)
        .pipe(fanOutScoped((child) => child as Observable<unknown>, { onScope: group.take }))
        .subscribe({
          next: () => {},
          error: (error) => ends.push(`${name} ${brief(error)}`),
          complete: () => ends.push(`${name} complete`),
        });
    };
    run('child', (group) =>
      of(
        defer(() => (group.scope.cancel(), NEVER)),
        NEVER,
      ),
    );
    run('value', (group) => of(of(1).pipe(tap(() => group.scope.cancel())), NEVER));
    run('teardown', (group) =>
      of(
        torn(() => group.scope.cancel()),
        defer(() => (group.scope.cancel(), EMPTY)),
      ),
    );
    run(
      'source',
      (group) =>
        new Observable((out) => {
          out.next(NEVER);
          group.scope.cancel();
          out.next(NEVER);
          out.error('too late');
        }),
    );
    expect(ends).toEqual(['child complete', 'value complete', 'teardown complete', 'source complete']);
  });

  it('cancelling the group from a sibling’s teardown while another cancel is under way changes nothing', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      const contexts: Scope[] = [];
      watch(
        from([0, 1, 2]).pipe(
          fanOutScoped(
            (index, _, ctx) => {
              contexts.push(ctx);
              if (index === 0) return failing(2, 'boom');
              return torn(() => {
                group.scope.cancel('again');
                for (const each of contexts) each.cancel('and again');
              });
            },
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['2 error ScopeError[boom]']);
      expect(reportOf(group.scope).reason).toMatchObject({ kind: 'sibling-failed' });
    }));

  it('a child that cancels its neighbour while it is being subscribed', () =>
    virtual(({ watch, lines, flush }) => {
      const contexts: Scope[] = [];
      const group = handle();
      watch(
        from([0, 1, 2]).pipe(
          fanOutScoped(
            (index, _, ctx) => {
              contexts.push(ctx);
              if (index === 1) contexts[0]?.cancel();
              return index === 0 ? NEVER : later(3, index);
            },
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['3 next 1', '3 next 2', '3 complete']);
      expect(reportOf(group.scope).outcomes).toEqual([{ index: 0, status: 'cancelled' }]);
    }));

  it('a child that cancels itself in project is cancelled, and what it returns is not run', () =>
    virtual(({ watch, lines, flush, cold, expectSubscriptions }) => {
      const child = cold<number>('a|');
      const group = handle();
      watch(from([0, 1]).pipe(fanOutScoped((index, _, ctx) => (index === 0 ? (ctx.cancel(), child) : of(index)), { onScope: group.take })));
      flush();
      expect(lines).toEqual(['0 next 1', '0 complete']);
      expectSubscriptions(child.subscriptions).toBe([]);
      expect(reportOf(group.scope).outcomes).toEqual([{ index: 0, status: 'cancelled' }]);
    }));

  it('a cleanup that starts during the cancel and tracks more cleanup is waited for to its end', () =>
    virtual(({ watch, note, lines, flush }) => {
      const group = handle();
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) =>
              index === 0
                ? failing(1, 'boom')
                : cleaning(ctx, 5, () => ctx.track(pause(5).pipe(tap({ complete: () => (note('second'), group.scope.track(pause(5))) })))),
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['11 second', '16 error ScopeError[boom]']);
    }));
});

describe('1000 nested scopes', () => {
  const nest = (build: () => Observable<unknown>, wrap: (inner: () => Observable<unknown>) => Observable<unknown>): Observable<unknown> => {
    let nested = build;
    for (let i = 0; i < 1000; i++) {
      const inner = nested;
      nested = () => wrap(inner);
    }
    return nested();
  };
  const shapes: [string, (inner: () => Observable<unknown>) => Observable<unknown>][] = [
    ['fanOutScoped', (inner) => of(1).pipe(fanOutScoped(inner))],
    ['fanOutScoped, one by one', (inner) => of(1).pipe(fanOutScoped(inner, { concurrency: 1, order: 'index' }))],
    ['scoped', (inner) => scoped(inner)],
    ['takeWithin', (inner) => defer(inner).pipe(takeWithin(1e6))],
    ['failWithin', (inner) => defer(inner).pipe(failWithin(1e6))],
  ];

  it.each(shapes)('N08 %s: unsubscribing tears the innermost down, or an error was delivered', (_, wrap) => {
    let [tornDown, started] = [0, 0];
    const errors: unknown[] = [];
    const subscription = nest(() => (started++, torn(() => tornDown++)), wrap).subscribe({ error: (error) => errors.push(error) });
    subscription.unsubscribe();
    expect(tornDown).toBe(started);
    expect(started + errors.length).toBeGreaterThan(0);
  });

  it.each(shapes)('%s: a value and the end come through', (_, wrap) =>
    virtual(({ watch, lines, flush }) => {
      watch(
        nest(() => later(5, 'value'), wrap),
        'timed',
      );
      watch(
        nest(() => of('value'), wrap),
        'instant',
      );
      flush();
      // Where the stack does not allow so many operators, a RangeError may take the place of the value; silence may not.
      const story = (name: string): string => {
        const mine = lines.filter((line) => line.includes(` ${name} `)).map((line) => line.replace(/^\d+ \S+ /, ''));
        return mine.map((line) => line.replace(/^error .*(Maximum call stack).*/, 'error $1')).join();
      };
      expect(story('timed')).toMatch(/^(next value,complete|error Maximum call stack)$/);
      expect(story('instant')).toMatch(/^(next value,complete|error Maximum call stack)$/);
    }),
  );

  it.each(shapes)('%s: an error comes through', (_, wrap) =>
    virtual(({ flush }) => {
      const errors: unknown[] = [];
      nest(() => failing(5, 'deep'), wrap).subscribe({ error: (error) => errors.push(error) });
      nest(() => throwError(() => 'deep'), wrap).subscribe({ error: (error) => errors.push(error) });
      flush();
      expect(errors).toHaveLength(2);
    }),
  );
});
