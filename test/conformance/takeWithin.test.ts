import {
  asyncScheduler,
  concat,
  concatMap,
  EMPTY,
  from,
  interval,
  map,
  merge,
  NEVER,
  Observable,
  of,
  take,
  timer,
  type SchedulerAction,
  type SchedulerLike,
  type Subscription,
} from 'rxjs';
import { failWithin, fanOutScoped, isDeadlineExceededError, isScopeError, scoped, takeWithin, type DeadlineEnd, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';

describe('takeWithin', () => {
  it('T01 partial results, then complete at the deadline, no error', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-----a----b 39ms c');
      expectObservable(source.pipe(takeWithin(20))).toBe('-----a----b---------|');
      expectSubscriptions(source.subscriptions).toBe('^-------------------!');
    }));

  it('T02 a source that finishes early: completes early, no timer is left', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, scheduler, flush }) => {
      const source = cold('-a-|');
      expectObservable(source.pipe(takeWithin(50))).toBe('-a-|');
      expectSubscriptions(source.subscriptions).toBe('^--!');
      flush();
      expect(scheduler.actions).toEqual([]);
    }));

  it('T03 at the deadline, complete waits until the children have acknowledged', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped((_, __, ctx) => cleaning(ctx, 25, () => note('cleaned'))),
          takeWithin(5),
        ),
      );
      flush();
      expect(lines).toEqual(['30 cleaned', '30 complete']);
    }));

  it('T05 a deadline of 0 with an asynchronous source: completes empty, the child is aborted', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-----a');
      expectObservable(source.pipe(takeWithin(0))).toBe('|');
      expectSubscriptions(source.subscriptions).toBe('(^!)');
    }));

  it('T05 a deadline of 0 lets everything synchronous through', () =>
    virtual(({ expectObservable }) => {
      expectObservable(of('a', 'b').pipe(takeWithin(0))).toBe('(ab|)');
      expectObservable(of('a', 'b').pipe(failWithin(0))).toBe('(ab|)');
    }));

  it.each([null, Infinity])('T06 %s means no deadline', (ms) =>
    virtual(({ expectObservable, scheduler, at }) => {
      expectObservable(later(20, 'a').pipe(takeWithin(ms))).toBe('20ms (a|)');
      expectObservable(later(20, 'a').pipe(failWithin(ms))).toBe('20ms (a|)');
      at(1, () => expect(scheduler.actions).toHaveLength(2));
    }),
  );

  it('T07 a deadline above 2^31-1 ms does not fire at once, but in its time', () =>
    virtual(({ watch, lines, flush }) => {
      watch(later(20, 'a').pipe(takeWithin(2 ** 31)), 'short');
      watch(NEVER.pipe(takeWithin(2 ** 33 + 7)), 'long');
      flush();
      expect(lines).toEqual(['20 short next a', '20 short complete', `${2 ** 33 + 7} long complete`]);
    }));

  it('T07 with the real scheduler', () =>
    fake(async ({ watch, lines, advance }) => {
      watch(NEVER.pipe(takeWithin(2 ** 31 + 5)));
      await advance(100);
      expect(lines).toEqual([]);
      await advance(2 ** 31);
      expect(lines).toEqual([`${2 ** 31 + 5 + TURN} complete`]);
    }));

  it.each([Number.NaN, -1, -0.5, -Infinity])('T08 a deadline of %s is refused when the operator is called', (ms) => {
    expect(() => takeWithin(ms)).toThrow(RangeError);
    expect(() => failWithin(ms)).toThrow(RangeError);
    expect(() => takeWithin(ms)).toThrow('takeWithin: ms must be null or a number of milliseconds, 0 or more, got');
  });

  it.each(['5', undefined, {}, 5n])('T08 a deadline that is not a number (%s) is a TypeError', (ms) => {
    expect(() => takeWithin(ms as never)).toThrow(TypeError);
    expect(() => failWithin(ms as never)).toThrow(TypeError);
  });

  it('T10 an error of the source before the deadline passes through', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('a-#', undefined, 'own error');
      expectObservable(source.pipe(takeWithin(5))).toBe('a-#', undefined, 'own error');
      expectSubscriptions(source.subscriptions).toBe('^-!');
    }));

  it('T11 an error raised during the cleanup is not swallowed by the quiet completion', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(scoped((scope) => scope.call(works.cleanup('A', 3, 'cleanup'))).pipe(takeWithin(5)));
      await advance(20);
      expect(lines.at(-1)).toBe(`${8 + TURN} error ScopeError[cleanup]`);
    }));

  it('T11 nor is a teardown that throws, nor a tracked cleanup that fails', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        torn(() => {
          throw 'teardown';
        }).pipe(takeWithin(5)),
        'teardown',
      );
      watch(scoped((scope) => new Observable(() => () => scope.track(failing(2, 'tracked')))).pipe(takeWithin(5)), 'track');
      flush();
      expect(lines).toEqual(['5 teardown error ScopeError[teardown]', '7 track error ScopeError[tracked]']);
    }));

  it('T12 nested: the earlier outer deadline ends both, the inner is not reported as fired', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const ends: [string, boolean][] = [];
      const end = (name: string) => (each: DeadlineEnd) => void ends.push([name, each.timedOut]);
      const source = cold('------');
      const result = source.pipe(takeWithin(20, { onEnd: end('inner') }), takeWithin(5, { onEnd: end('outer') }));
      expectObservable(result).toBe('-----|');
      expectSubscriptions(source.subscriptions).toBe('^----!');
      expectObservable(pause(6).pipe((after) => concat(after, of(ends).pipe(map((all) => JSON.stringify(all)))))).toBe('------(e|)', {
        e: '[["inner",false],["outer",true]]',
      });
    }));

  it('T13 the consumer can tell finished from cut off', () =>
    virtual(({ watch, lines, note, flush }) => {
      const onEnd = ({ timedOut, seen, report }: DeadlineEnd): void => note(`timedOut ${timedOut}, seen ${seen}, ${report.reason?.kind}`);
      watch(interval(2).pipe(take(2), takeWithin(5, { onEnd })));
      watch(interval(6).pipe(takeWithin(15, { onEnd })), 'cut');
      flush();
      expect(lines).toEqual([
        ...['2 next 0', '4 next 1', '4 timedOut false, seen 2, undefined', '4 complete'],
        ...['6 cut next 0', '12 cut next 1', '15 timedOut true, seen 2, deadline', '15 cut complete'],
      ]);
    }));

  it('T15 the deadline covers time spent waiting for capacity', () =>
    virtual(({ watch, lines, flush }) => {
      const started: number[] = [];
      watch(
        from([1, 2, 3]).pipe(
          fanOutScoped((i) => (started.push(i), later(10, i)), { concurrency: 1 }),
          takeWithin(15),
        ),
      );
      flush();
      expect(started).toEqual([1, 2]);
      expect(lines).toEqual(['10 next 1', '15 complete']);
    }));

  it('T16 the deadline can be moved while running', () =>
    virtual(({ cold, at, expectObservable, expectSubscriptions }) => {
      const group = handle();
      const source = cold('----------a---------b');
      expectObservable(source.pipe(takeWithin(5, { onScope: group.take }))).toBe('----------a-------|');
      at(3, () => group.scope.setDeadline(15));
      expectSubscriptions(source.subscriptions).toBe('^-----------------!');
    }));

  it('T17 a child can read the effective deadline', () =>
    virtual(({ at, flush }) => {
      const seen: number[] = [];
      of(1)
        .pipe(
          fanOutScoped((_, __, ctx) => {
            seen.push(ctx.remaining());
            at(20, () => seen.push(ctx.remaining()));
            return later(30, 1);
          }),
          takeWithin(200),
          takeWithin(50),
        )
        .subscribe();
      flush();
      expect(seen).toEqual([50, 30]);
    }));

  it('T18 virtual time: an hour passes at once', () =>
    virtual(({ expectObservable }) => expectObservable(NEVER.pipe(takeWithin(3_600_000))).toBe('3600s |')));
});

describe('onEnd', () => {
  it('is called once, when the scope has closed, before the output ends', () =>
    virtual(({ watch, note, lines, flush }) => {
      const onEnd = ({ report }: DeadlineEnd): void => note(`end with ${report.outcomes.length}`);
      watch(scoped((scope) => cleaning(scope, 10, () => note('cleaned'))).pipe(takeWithin(5, { onEnd })));
      flush();
      expect(lines).toEqual(['15 cleaned', '15 end with 0', '15 complete']);
    }));

  it('is called for an error and for an unsubscribe too', () =>
    virtual(({ watch, at, note, lines, flush }) => {
      const onEnd = ({ timedOut, report }: DeadlineEnd): void => note(`${timedOut} ${report.reason?.kind}`);
      watch(failing(2, 'boom').pipe(takeWithin(5, { onEnd })));
      const subscription = NEVER.pipe(takeWithin(9, { onEnd })).subscribe();
      at(4, () => subscription.unsubscribe());
      flush();
      expect(lines).toEqual(['2 false source-error', '2 error boom', '4 false unsubscribed']);
    }));

  it('that throws is a failure of the output, and the scope is closed all the same', () =>
    virtual(({ watch, lines, flush }) => {
      const onEnd = (): void => {
        throw 'from onEnd';
      };
      watch(NEVER.pipe(takeWithin(5, { onEnd })), 'cut');
      watch(of(1).pipe(takeWithin(5, { onEnd })), 'finished');
      flush();
      expect(lines).toEqual(['0 finished next 1', '0 finished error ScopeError[from onEnd]', '5 cut error ScopeError[from onEnd]']);
    }));
});

describe('ties', () => {
  it.each([
    ['a value and the end in the deadline’s frame', '---(a|)', '---(a|)'],
    ['a value in the deadline’s frame', '---a---b', '---(a|)'],
    ['the end in the deadline’s frame', 'a--|', 'a--|'],
    ['a frame later', 'a---b', 'a--|'],
  ])('%s', (_, diagram, expected) =>
    virtual(({ cold, hot, expectObservable }) => {
      expectObservable(cold(diagram).pipe(takeWithin(3))).toBe(expected);
      expectObservable(hot(diagram).pipe(takeWithin(3))).toBe(expected);
    }),
  );

  it('chained timers of 1 + 2 ms come before a deadline of 3', () =>
    virtual(({ expectObservable }) => {
      const chained = timer(1).pipe(concatMap(() => timer(2)));
      expectObservable(chained.pipe(takeWithin(3))).toBe('---(a|)', { a: 0 });
      expectObservable(chained.pipe(failWithin(3))).toBe('---(a|)', { a: 0 });
    }));

  it('chained timers of 1 + 2 ms come before a deadline of 3 with the real scheduler too', () =>
    fake(async ({ watch, lines, advance }) => {
      const chained = timer(1).pipe(concatMap(() => timer(2)));
      watch(chained.pipe(takeWithin(3)), 'take');
      watch(chained.pipe(failWithin(3)), 'fail');
      await advance(10);
      expect(lines).toEqual(['3 take next 0', '3 take complete', '3 fail next 0', '3 fail complete']);
    }));

  it('a promise that resolves in the deadline’s frame comes first', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(scoped((scope) => scope.call(works.deaf('A', 5, 'in time'))).pipe(failWithin(5)));
      await advance(20);
      expect(lines).toEqual(['5 A settled', '5 next in time', '5 complete']);
    }));

  it('finished in the deadline’s frame is not timed out', () =>
    virtual(({ cold, flush }) => {
      const ends: boolean[] = [];
      cold('---|')
        .pipe(takeWithin(3, { onEnd: ({ timedOut }) => ends.push(timedOut) }))
        .subscribe();
      flush();
      expect(ends).toEqual([false]);
    }));

  it('two deadlines due in the same frame: the outermost reports', () =>
    virtual(({ watch, lines, flush }) => {
      const label = (name: string): { label: string } => ({ label: name });
      watch(NEVER.pipe(failWithin(5, label('inner')), failWithin(5, label('outer'))), 'equal');
      watch(NEVER.pipe(failWithin(5, label('inner')), failWithin(5, label('middle')), failWithin(5, label('outer'))), 'three');
      watch(
        NEVER.pipe(failWithin(5, label('inner')), (_) => _.pipe(failWithin(9, label('outer')))),
        'inner first',
      );
      watch(concat(pause(2), NEVER.pipe(failWithin(3, label('inner')))).pipe(failWithin(5, label('outer'))), 'later armed');
      flush();
      expect(lines.sort()).toEqual([
        '5 equal error Deadline(outer 5)',
        '5 inner first error Deadline(inner 5)',
        '5 later armed error Deadline(outer 5)',
        '5 three error Deadline(outer 5)',
      ]);
    }));

  it('two deadlines due in the same frame: a takeWithin outside a failWithin ends quietly, and the other way round fails', () =>
    virtual(({ watch, lines, flush }) => {
      watch(NEVER.pipe(failWithin(5), takeWithin(5)), 'quiet');
      watch(NEVER.pipe(takeWithin(5), failWithin(5)), 'loud');
      flush();
      expect(lines.sort()).toEqual(['5 loud error Deadline(5)', '5 quiet complete']);
    }));

  it('a child that fails in the deadline’s frame has failed', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped(() => failing(5, 'boom')),
          takeWithin(5),
        ),
      );
      flush();
      expect(lines).toEqual(['5 error ScopeError[boom]']);
    }));
});

describe('setDeadline', () => {
  it('null removes it, a number sets one where there was none', () =>
    virtual(({ watch, at, lines, flush }) => {
      const [removed, set] = [handle(), handle()];
      watch(later(20, 'a').pipe(takeWithin(5, { onScope: removed.take })), 'removed');
      watch(later(20, 'a').pipe(takeWithin(null, { onScope: set.take })), 'set');
      at(3, () => removed.scope.setDeadline(null));
      at(3, () => set.scope.setDeadline(4));
      flush();
      expect(lines).toEqual(['7 set complete', '20 removed next a', '20 removed complete']);
    }));

  it('Infinity removes it; remaining() says so', () =>
    virtual(({ at, flush }) => {
      const group = handle();
      const seen: number[] = [];
      later(9, 1)
        .pipe(takeWithin(5, { onScope: group.take }))
        .subscribe();
      at(2, () => (seen.push(group.scope.remaining()), group.scope.setDeadline(Infinity), seen.push(group.scope.remaining())));
      flush();
      expect(seen).toEqual([3, Infinity]);
    }));

  it('0 ends it in this frame', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(NEVER.pipe(takeWithin(50, { onScope: group.take })));
      at(3, () => group.scope.setDeadline(0));
      flush();
      expect(lines).toEqual(['3 complete']);
    }));

  it.each([Number.NaN, -1, '5', undefined])('%s is refused', (ms) => {
    const group = handle();
    const subscription = NEVER.pipe(takeWithin(50, { onScope: group.take })).subscribe();
    expect(() => group.scope.setDeadline(ms as number)).toThrow(/setDeadline: ms must be/);
    subscription.unsubscribe();
  });

  it('on the context of a child: that child fails with the deadline, the group by its policy', () =>
    virtual(({ watch, lines, flush }) => {
      const run = (policy: 'failFast' | 'settle'): Observable<unknown> =>
        from([0, 1]).pipe(
          fanOutScoped(
            (i, _, ctx) => {
              if (i === 0) ctx.setDeadline(5);
              return i === 0 ? NEVER : later(9, i);
            },
            { policy: policy as 'failFast' },
          ),
        );
      watch(run('failFast'), 'failFast');
      watch(run('settle').pipe(map((outcome) => (outcome as { status: string }).status)), 'settle');
      flush();
      expect(lines).toEqual([
        '5 failFast error ScopeError[Deadline(5)]',
        '5 settle next failed',
        '9 settle next fulfilled',
        '9 settle complete',
      ]);
    }));

  it('on the context of a child whose call acknowledges late: the slot and the outcome wait', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped((i, _, ctx) => (i === 0 ? (ctx.setDeadline(5), cleaning(ctx, 10)) : of(i)), { concurrency: 1, policy: 'collect' }),
        ),
      );
      flush();
      expect(lines).toEqual(['15 next 1', '15 error ScopeError[Deadline(5)]']);
    }));

  it('on the context of a child: the error tells of that child alone', () =>
    fake(async ({ works, advance }) => {
      let caught: unknown;
      from([0, 1])
        .pipe(
          fanOutScoped(
            (i, _, ctx) => {
              ctx.setDeadline(5 + i);
              return ctx.call(works.stuck(`${i}`), { label: `call ${i}` });
            },
            { policy: 'collect', graceMs: 10 },
          ),
        )
        .subscribe({ error: (error: unknown) => (caught = error) });
      await advance(50);
      const errors = isScopeError(caught) ? caught.errors : [];
      expect(errors.map((error) => isDeadlineExceededError(error) && error.abandoned.map(({ label }) => label))).toEqual([
        ['call 0'],
        ['call 1'],
      ]);
    }));

  it('on the group of a fan-out: DeadlineExceededError', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        from([0, 1]).pipe(fanOutScoped((i) => (i === 0 ? of('a') : NEVER), { label: 'group', onScope: (scope) => scope.setDeadline(5) })),
      );
      watch(
        scoped((scope) => (scope.setDeadline(7), NEVER)),
        'scoped',
      );
      flush();
      expect(lines).toEqual(['0 next a', '5 error Deadline(group 5)', '7 scoped error Deadline(7)']);
    }));

  it('in a cancelled or closed scope does nothing', () =>
    virtual(({ watch, at, lines, flush, scheduler }) => {
      const group = handle();
      watch(scoped((scope) => cleaning(scope, 5), { onScope: group.take }));
      at(2, () => (group.scope.cancel(), group.scope.setDeadline(1)));
      at(9, () => (group.scope.setDeadline(1), expect(scheduler.actions).toEqual([])));
      flush();
      expect(lines).toEqual(['7 complete']);
    }));

  it('moved again and again arms one timer', () =>
    virtual(({ at, scheduler, flush, watch, lines }) => {
      const group = handle();
      watch(NEVER.pipe(takeWithin(50, { onScope: group.take })));
      at(1, () => {
        for (let i = 0; i < 1000; i++) group.scope.setDeadline(10 + (i % 7));
        group.scope.setDeadline(4);
        expect(scheduler.actions.length).toBeLessThan(10);
      });
      flush();
      expect(lines).toEqual(['5 complete']);
    }));
});

describe('remaining', () => {
  it('is Infinity without a deadline, never negative, and the least of all ancestors', () =>
    virtual(({ at, flush }) => {
      const seen: [number, number][] = [];
      let inner: Scope | undefined;
      let agent: Scope | undefined;
      scoped((scope) => {
        inner = scope;
        agent = scope.child('agent');
        return cleaning(scope, 10);
      })
        .pipe(takeWithin(9), takeWithin(6))
        .subscribe();
      const look = (when: number): void => at(when, () => seen.push([when, inner?.remaining() ?? -1]));
      for (const when of [0, 4, 6]) look(when);
      at(2, () => agent?.setDeadline(1));
      at(2, () => seen.push([2, agent?.remaining() ?? -1]));
      expect(scoped(() => EMPTY).subscribe().closed).toBe(true);
      flush();
      expect(seen).toEqual([
        [0, 6],
        [2, 1],
        [4, 2],
        [6, 0],
      ]);
    }));

  it('counts for the scopes that calls are made in, without a timer of its own', () =>
    virtual(({ flush }) => {
      const seen: number[] = [];
      const free = handle();
      const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: free.take })).subscribe();
      seen.push(free.scope.remaining());
      subscription.unsubscribe();
      flush();
      expect(seen).toEqual([Infinity]);
    }));
});

/** A wall clock that a test can set, over timers that run by themselves: what NTP or a suspended laptop does. */
class WallClock implements SchedulerLike {
  offset = 0;
  constructor(private readonly base: SchedulerLike) {}
  now(): number {
    return this.base.now() + this.offset;
  }
  schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay?: number, state?: T): Subscription {
    return this.base.schedule(work, delay, state as T);
  }
}

describe('a wall clock that is set', () => {
  it.each([-3_600_000, -7, 0])('by %s ms: deadlines neither fire early nor get lost', (jump) =>
    virtual(({ watch, at, lines, flush, scheduler }) => {
      const clock = new WallClock(scheduler);
      watch(NEVER.pipe(takeWithin(20, { scheduler: clock })));
      at(10, () => (clock.offset += jump));
      flush();
      expect(lines).toEqual(['20 complete']);
    }),
  );

  it.each([-3_600_000, -5])('back by %s ms: the deadlines behind the next one are in time as well', (jump) =>
    virtual(({ watch, at, lines, flush, scheduler }) => {
      const clock = new WallClock(scheduler);
      const group = handle();
      watch(scoped(() => NEVER, { scheduler: clock, onScope: group.take }));
      for (const ms of [20, 30, 45]) watch(NEVER.pipe(takeWithin(ms, { within: group.scope })), `${ms}`);
      at(10, () => (clock.offset += jump));
      at(50, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['20 20 complete', '30 30 complete', '45 45 complete', '50 complete']);
    }),
  );

  it('back: later deadlines and graces in the same tree count on from there', () =>
    virtual(({ watch, at, lines, flush, scheduler }) => {
      const clock = new WallClock(scheduler);
      const group = handle();
      watch(scoped((scope) => cleaning(scope, 99), { scheduler: clock, graceMs: 10, onScope: group.take }));
      at(5, () => (group.scope.setDeadline(20), (clock.offset -= 1e6)));
      at(10, () => expect(group.scope.remaining()).toBeGreaterThan(0));
      flush();
      expect(lines).toEqual(['35 error Deadline(20)']);
    }));

  it('forward: a deadline fires at the latest when its timer does, once', () =>
    virtual(({ watch, at, lines, flush, scheduler }) => {
      const clock = new WallClock(scheduler);
      watch(NEVER.pipe(takeWithin(20, { scheduler: clock })));
      at(10, () => (clock.offset += 3_600_000));
      flush();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/^(1\d|20) complete$/);
    }));
});

describe('the scheduler', () => {
  it('may be given; inner scopes share it', () =>
    virtual(({ watch, lines, flush, scheduler }) => {
      const clock = new WallClock(scheduler);
      const group = handle();
      watch(
        of(1).pipe(
          fanOutScoped((_, __, ctx) => (ctx.setDeadline(5), NEVER)),
          takeWithin(50, { scheduler: clock, onScope: group.take }),
        ),
      );
      flush();
      expect(lines).toEqual(['5 error ScopeError[Deadline(5)]']);
    }));

  it('of an inner scope may be another one; both deadlines hold', () =>
    virtual(({ watch, lines, flush, scheduler }) => {
      const clock = new WallClock(scheduler);
      clock.offset = 1e9;
      watch(NEVER.pipe(takeWithin(5, { scheduler: clock }), takeWithin(9)), 'inner');
      watch(NEVER.pipe(takeWithin(9, { scheduler: clock }), takeWithin(5)), 'outer');
      flush();
      expect(lines.sort()).toEqual(['5 inner complete', '5 outer complete']);
    }));

  it('asyncScheduler by default, read when the operator is subscribed', () =>
    virtual(({ expectObservable }) => {
      expectObservable(NEVER.pipe(takeWithin(5, { scheduler: asyncScheduler }))).toBe('-----|');
    }));
});

describe('many deadlines', () => {
  it('1000 in one tree share one timer and each fires in its time', () =>
    virtual(({ flush, at, scheduler }) => {
      const fired: [number, number][] = [];
      from(Array.from({ length: 1000 }, (_, i) => (i * 37) % 500))
        .pipe(
          fanOutScoped((ms) => NEVER.pipe(takeWithin(ms, { onEnd: () => fired.push([ms, scheduler.now()]) })), { concurrency: Infinity }),
        )
        .subscribe();
      at(0, () => expect(scheduler.actions.length).toBeLessThan(5));
      flush();
      expect(fired).toHaveLength(1000);
      for (const [ms, at] of fired) expect(at).toBe(ms);
    }));

  it('merge of cut streams: each cut ends only its own', () =>
    virtual(({ watch, lines, flush }) => {
      watch(merge(interval(3).pipe(takeWithin(7)), interval(4).pipe(takeWithin(13))));
      flush();
      expect(lines).toEqual(['3 next 0', '4 next 0', '6 next 1', '8 next 1', '12 next 2', '13 complete']);
    }));

  it('reports name the deadline that fired', () =>
    virtual(({ flush }) => {
      const group = handle();
      NEVER.pipe(takeWithin(5, { label: 'turn', onScope: group.take })).subscribe();
      flush();
      expect(reportOf(group.scope).reason).toEqual({ kind: 'deadline', ms: 5, label: 'turn' });
    }));
});
