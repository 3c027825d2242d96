import { concat, EMPTY, NEVER, Observable, of, Subject, throwError, type Subscription } from 'rxjs';
import { scoped, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { admit } from '../../src/operators/admit.js';
import { failing, later, torn, virtual, type Virtual } from '../support/virtual.js';
import { Desk } from './admitHarness.js';

/** A call behind three desks of which the middle one is the one to look at, and a way to leave it. */
function stack({ note, watch }: Virtual, source: Observable<unknown>) {
  const [inner, middle, outer] = [new Desk('inner', note), new Desk('middle', note), new Desk('outer', note)];
  let sub: Subscription | undefined;
  let left = false;
  const guarded = torn(() => note('torn down'), source).pipe(admit(inner, 'i'), admit(middle, 'm'), admit(outer, 'o'));
  return {
    inner,
    middle,
    outer,
    start: () => {
      sub = new Observable((out) => {
        sub ??= out as unknown as Subscription;
        return guarded.subscribe(out);
      }).subscribe({
        next: (value) => note(`next ${String(value)}`),
        error: (error: unknown) => note(`error ${String(error)}`),
        complete: () => note('complete'),
      });
      if (left) sub.unsubscribe();
    },
    leave: () => {
      left = true;
      note('leaves');
      sub?.unsubscribe();
    },
    check: () => {
      for (const desk of [inner, middle, outer]) desk.expectSettledOnce();
    },
    watch,
  };
}

const histories = (...desks: Desk[]): Record<string, string[]> =>
  Object.fromEntries(desks.flatMap((desk) => desk.visits.map((visit) => [visit.name, visit.history])));

describe('a call that is no longer wanted', () => {
  it('while it waits leaves the line at once, and gives back what the gates further out have granted', () =>
    virtual((test) => {
      const call = stack(test, of('a'));
      call.middle.holding();
      call.start();
      test.at(3, call.leave);
      test.flush();
      expect(test.lines).toEqual([
        '0 outer1 enter',
        '0 middle1 enter',
        '3 leaves',
        '3 middle1 withdraw',
        '3 outer1 settle cancelled',
        '3 outer1 release',
      ]);
      expect(call.outer.last.ends).toMatchObject([{ kind: 'cancelled', started: false, emitted: 0 }]);
      expect(call.inner.visits).toEqual([]);
      call.check();
    }));

  it('inside enter, before the gate answers: what it answers then is taken back', () =>
    virtual((test) => {
      for (const answer of ['grant', 'wait', 'refuse', 'throw'] as const) {
        const call = stack(test, of('a'));
        call.middle.answer = (visit) => {
          call.leave();
          if (answer === 'grant') visit.grant();
          if (answer === 'refuse') visit.refuse();
          if (answer === 'throw') throw new Error('middle throws');
        };
        call.start();
        expect(histories(call.outer, call.middle, call.inner)).toEqual({
          outer1: ['granted', 'settle cancelled', 'release'],
          middle1: { grant: ['granted', 'settle cancelled', 'release'], wait: ['withdraw'], refuse: [], throw: [] }[answer],
        });
        call.check();
      }
      expect(test.lines.filter((line) => /next|error|complete/.test(line))).toEqual([]);
    }));

  it('inside enter, after the gate has granted', () =>
    virtual((test) => {
      const call = stack(test, of('a'));
      call.middle.answer = (visit) => {
        visit.grant();
        call.leave();
      };
      call.start();
      expect(histories(call.outer, call.middle, call.inner)).toEqual({
        outer1: ['granted', 'settle cancelled', 'release'],
        middle1: ['granted', 'settle cancelled', 'release'],
      });
      call.check();
    }));

  it('while it waits, by what the gate does in its withdrawal: nothing more is called', () =>
    virtual((test) => {
      const call = stack(test, of('a'));
      call.middle.holding();
      call.middle.on = (what, visit) => {
        if (what === 'withdraw') {
          visit.grant();
          visit.refuse();
          visit.revoke();
        }
      };
      call.start();
      test.at(1, call.leave);
      test.flush();
      expect(histories(call.middle)).toEqual({ middle1: ['withdraw', 'granted', 'settle cancelled', 'release'] });
      expect(test.lines.filter((line) => /torn|error/.test(line))).toEqual([]);
      call.check();
    }));

  it.each([
    ['a later gate is entered', (call: ReturnType<typeof stack>) => (call.inner.answer = (visit) => (call.leave(), visit.grant()))],
    ['the clocks begin', (call: ReturnType<typeof stack>) => (call.outer.on = (what) => what === 'begin' && call.leave())],
    ['the innermost clock begins', (call: ReturnType<typeof stack>) => (call.inner.on = (what) => what === 'begin' && call.leave())],
  ])('when it was granted late, while %s', (_, arrange) =>
    virtual((test) => {
      const call = stack(test, of('a'));
      call.middle.holding();
      arrange(call);
      call.start();
      test.at(2, () => call.middle.last.grant());
      test.flush();
      const { outer1, middle1 } = histories(call.outer, call.middle);
      expect(test.lines.filter((line) => /torn down/.test(line)).length).toBeLessThanOrEqual(1);
      for (const history of [outer1, middle1])
        expect(history?.filter((what) => what !== 'begin')).toEqual(['granted', 'settle cancelled', 'release']);
      expect(call.outer.last.ends[0]).toMatchObject({ kind: 'cancelled', emitted: 0 });
      expect(test.lines.filter((line) => /next|error|complete/.test(line))).toEqual([]);
      call.check();
    }),
  );

  it('while its source is being subscribed: nothing more is heard of it, and it is released once it was torn down', () =>
    virtual((test) => {
      const call = stack(
        test,
        new Observable((out) => {
          call.leave();
          out.next('a');
          out.complete();
          test.note('subscribe returns');
        }),
      );
      call.start();
      expect(test.lines.map((line) => line.slice(2)).filter((line) => !/enter|begin/.test(line))).toEqual([
        'leaves',
        'inner1 settle cancelled',
        'middle1 settle cancelled',
        'outer1 settle cancelled',
        'subscribe returns',
        'torn down',
        'inner1 release',
        'middle1 release',
        'outer1 release',
      ]);
      expect(call.inner.last.ends).toMatchObject([{ kind: 'cancelled', started: true }]);
      call.check();
    }));

  it('in flight', () =>
    virtual((test) => {
      const call = stack(test, concat(of('a'), NEVER));
      call.start();
      test.at(4, call.leave);
      test.flush();
      expect(test.lines.filter((line) => line.startsWith('4'))).toEqual([
        '4 leaves',
        '4 torn down',
        '4 inner1 settle cancelled',
        '4 middle1 settle cancelled',
        '4 outer1 settle cancelled',
        '4 inner1 release',
        '4 middle1 release',
        '4 outer1 release',
      ]);
      expect(call.outer.last.ends).toMatchObject([{ kind: 'cancelled', started: true, emitted: 1, last: 'a' }]);
    }));

  const ends: [string, () => Observable<string>, string][] = [
    ['completes at once', () => of('a'), 'completed'],
    ['completes without a value', () => EMPTY, 'completed'],
    ['fails at once', () => throwError(() => 'x'), 'failed'],
    ['completes later', () => later(1, 'b'), 'completed'],
  ];
  it.each(ends)('while the gates are told that it %s: each gate hears of one end, downstream of none', (_, source, kind) =>
    virtual((test) => {
      for (const phase of ['settle', 'release']) {
        for (const desk of ['inner', 'middle', 'outer'] as const) {
          const call = stack(test, source());
          call[desk].on = (what) => void (what.startsWith(phase) && call.leave());
          call.start();
          test.flush();
          call.check();
          expect(call.inner.last.ends[0]?.kind).toBe(kind);
          expect(call.outer.last.ends[0]?.kind).toBe(kind);
        }
      }
      expect(test.lines.filter((line) => /^\d+ (error|complete)/.test(line))).toEqual([]);
    }),
  );

  it('while it is told of its end, or afterwards: nothing more happens', () =>
    virtual((test) => {
      const desk = new Desk('g', test.note);
      let sub: Subscription | undefined;
      sub = later(1, 'a')
        .pipe(admit(desk, undefined))
        .subscribe({ complete: () => sub?.unsubscribe() });
      test.at(2, () => sub?.unsubscribe());
      test.flush();
      desk.expectSettledOnce();
      expect(test.lines.at(-1)).toBe('1 g1 pump');
      sub = undefined;
    }));

  it('#24 before it was subscribed enters no gate', () =>
    virtual(({ cold, expectSubscriptions, flush }) => {
      const desk = new Desk('g');
      const source = cold('a|');
      const guarded = source.pipe(admit(desk, undefined));
      new Observable((out) => {
        out.complete();
        guarded.subscribe(out);
      }).subscribe();
      flush();
      expectSubscriptions(source.subscriptions).toBe([]);
      expect(desk.visits).toEqual([]);
    }));

  it('between two gates that both waited', () =>
    virtual((test) => {
      const call = stack(test, of('a'));
      call.middle.holding();
      call.inner.holding();
      call.start();
      test.at(1, () => call.middle.last.grant());
      test.at(2, call.leave);
      test.at(3, () => {
        call.inner.last.grant();
        call.middle.last.refuse();
        call.middle.last.revoke();
      });
      test.flush();
      expect(test.lines.slice(2)).toEqual([
        '1 inner1 enter',
        '2 leaves',
        '2 inner1 withdraw',
        '2 middle1 settle cancelled',
        '2 outer1 settle cancelled',
        '2 middle1 release',
        '2 outer1 release',
        '3 inner1 settle cancelled',
        '3 inner1 release',
      ]);
      call.check();
    }));

  it('because the scope around it is cancelled, leaves the line as well', () =>
    virtual((test) => {
      for (const phase of ['waits', 'runs'] as const) {
        const desk = new Desk('g', test.note);
        if (phase === 'waits') desk.holding();
        let scope: Scope | undefined;
        test.watch(
          scoped((each) => {
            scope = each;
            return NEVER.pipe(admit(desk, undefined));
          }),
        );
        test.at(2, () => scope?.cancel());
        test.flush();
        desk.expectSettledOnce();
        expect(desk.last.history).toEqual(phase === 'waits' ? ['withdraw'] : ['granted', 'begin', 'settle cancelled', 'release']);
      }
      expect(test.lines.filter((line) => /complete/.test(line))).toEqual(['2 complete', '4 complete'].slice(0, 2));
    }));

  it('because a cleanup in its scope failed while it waited, leaves the line and ends with that failure', () =>
    virtual((test) => {
      const desk = new Desk('g', test.note);
      const cleanups = [throwError(() => new Error('at once')), failing(2, new Error('later'))];
      desk.answer = (visit) => visit.call.scope.track(cleanups.shift() as Observable<never>);
      test.watch(of('a').pipe(admit(desk, undefined)));
      test.watch(of('a').pipe(admit(desk, undefined)));
      test.flush();
      expect(test.lines).toEqual([
        '0 g1 enter',
        '0 g1 withdraw',
        '0 error ScopeError[at once]',
        '0 g2 enter',
        '2 g2 withdraw',
        '2 error ScopeError[later]',
      ]);
    }));

  it('#11 100,000 that wait are all withdrawn, without a deep stack', () =>
    virtual(({ flush }) => {
      const desk = new Desk('g').holding();
      const calls = Array.from({ length: 100_000 }, () => NEVER.pipe(admit(desk, undefined)).subscribe());
      for (const sub of calls) sub.unsubscribe();
      flush();
      expect(desk.visits.filter(({ history }) => history[0] === 'withdraw' && history.length === 1)).toHaveLength(100_000);
    }));

  it('from a handler of its own value', () =>
    virtual((test) => {
      const desk = new Desk('g', test.note);
      const source = new Subject<number>();
      const sub = source.pipe(admit(desk, undefined)).subscribe(() => {
        sub.unsubscribe();
        source.next(2);
      });
      source.next(1);
      test.flush();
      desk.expectSettledOnce();
      expect(desk.last.ends).toMatchObject([{ kind: 'cancelled', emitted: 1, last: 1 }]);
    }));
});
