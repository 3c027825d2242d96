import { EMPTY, map, merge, NEVER, Observable, of, Subject, take, throwError, type Subscription } from 'rxjs';
import { fanOutScoped, isScopeCancelledError, scoped, type ScopeContext } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { revokeAll } from '../../src/gates/gateBase.js';
import { admit } from '../../src/operators/admit.js';
import { cleaning, later, pause, torn, virtual } from '../support/virtual.js';
import { Desk } from './admitHarness.js';

/** A call that takes `ms` to stop. */
function slow(ms: number, done?: () => void): Observable<never> {
  return scoped((ctx: ScopeContext) => cleaning(ctx, ms, done));
}

describe('revoked', () => {
  it('while it runs: torn down, settled as cancelled, and told with the error of the gate', () =>
    virtual(({ cold, at, flush, watch, lines, note, expectSubscriptions }) => {
      const desk = new Desk('g', note);
      const source = cold('a---b');
      watch(source.pipe(admit(desk, undefined)));
      at(3, () => desk.last.revoke('tripped'));
      flush();
      expectSubscriptions(source.subscriptions).toBe('^--!');
      expect(lines.slice(2)).toEqual(['0 next a', '3 g1 settle cancelled', '3 g1 release', '3 error tripped']);
      expect(desk.last.ends).toMatchObject([{ kind: 'cancelled', started: true, emitted: 1, last: 'a' }]);
    }));

  it('told only once everything below has stopped; its signal names the gate', () =>
    virtual(({ at, flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      let signal: AbortSignal | undefined;
      watch(scoped((ctx) => ((signal = ctx.signal), cleaning(ctx, 7, () => note('cleaned')))).pipe(admit(desk, undefined)));
      at(3, () => desk.last.revoke('tripped'));
      at(5, () => note('meanwhile'));
      flush();
      expect(lines.slice(2)).toEqual(['3 g1 settle cancelled', '5 meanwhile', '10 cleaned', '10 g1 release', '10 error tripped']);
      const reason: unknown = signal?.reason;
      expect(isScopeCancelledError(reason) && [reason.kind, reason.message]).toEqual([
        'tripped',
        'The scope was cancelled: a scope above was cancelled because gate g tripped.',
      ]);
    }));

  it('while it waits in an inner gate: leaves that line, never started', () =>
    virtual(({ at, flush, watch, lines, note, cold, expectSubscriptions }) => {
      const [inner, outer] = [new Desk('inner', note).holding(), new Desk('outer', note)];
      const source = cold('a|');
      for (const guarded of [
        source.pipe(admit(inner, undefined), admit(outer, undefined)),
        source.pipe(
          admit(inner, undefined),
          map((value) => value),
          admit(outer, undefined),
        ),
      ]) {
        watch(guarded);
        const visit = outer.last;
        at(2, () => visit.revoke('tripped'));
        flush();
        expect(visit.ends).toMatchObject([{ kind: 'cancelled', started: false, emitted: 0 }]);
        expect(inner.last.history).toEqual(['withdraw']);
      }
      expectSubscriptions(source.subscriptions).toBe([]);
      expect(lines.filter((line) => line.includes('error'))).toEqual(['2 error tripped', '4 error tripped']);
    }));

  it('while its source is being subscribed: told after subscribe has returned', () =>
    virtual(({ flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      const source = new Observable<string>((out) => {
        desk.last.revoke('tripped');
        out.next('late');
        note('subscribe returns');
        return () => note('torn down');
      });
      watch(source.pipe(admit(desk, undefined)));
      flush();
      expect(lines.slice(2)).toEqual(['0 g1 settle cancelled', '0 subscribe returns', '0 torn down', '0 g1 release', '0 error tripped']);
    }));

  it('while it only waits for calls that it left running', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      watch(scoped((ctx) => (ctx.call(() => pause(30)).subscribe({ error: () => {} }), of('a'))).pipe(admit(desk, undefined)));
      at(3, () => desk.last.revoke('tripped'));
      flush();
      expect(lines).toEqual(['0 next a', '3 error tripped']);
      desk.expectSettledOnce();
    }));

  it('while it is settled by the gate itself: its own end stands', () =>
    virtual(({ flush, watch, lines }) => {
      for (const source of [of('a'), throwError(() => 'own')]) {
        const [inner, outer] = [new Desk('inner'), new Desk('outer')];
        inner.on = (what, visit) => {
          if (/settle|release|pump/.test(what)) visit.revoke('tripped');
          if (/settle|release/.test(what)) outer.last.revoke('tripped');
        };
        watch(source.pipe(admit(inner, undefined), admit(outer, undefined)));
        flush();
        for (const desk of [inner, outer]) desk.expectSettledOnce();
      }
      expect(lines).toEqual(['0 next a', '0 complete', '0 error own']);
    }));

  it('twice, or by two gates, or after it was unsubscribed: the first counts', () =>
    virtual(({ at, flush, watch, lines }) => {
      const [inner, outer] = [new Desk('inner'), new Desk('outer')];
      const call = (): Observable<never> => slow(4).pipe(admit(inner, undefined), admit(outer, undefined));
      watch(call());
      const sub = watch(call());
      at(1, () => {
        for (const desk of [inner, outer]) for (const error of ['one', 'two']) desk.visits[0]?.revoke(`${desk.name} ${error}`);
        sub.unsubscribe();
        inner.visits[1]?.revoke('late');
      });
      at(2, () => outer.visits.forEach((visit) => visit.revoke('later')));
      flush();
      expect(lines).toEqual(['5 error inner one']);
      for (const desk of [inner, outer]) desk.expectSettledOnce();
    }));

  it('after its scope was cancelled: the reason of the scope stands', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      const abort = new AbortController();
      watch(of(1).pipe(fanOutScoped(() => slow(4).pipe(admit(desk, undefined)), { signal: abort.signal })));
      at(1, () => {
        abort.abort();
        desk.last.revoke('late');
      });
      flush();
      expect(lines).toEqual(['5 error Cancelled(signal)']);
      desk.expectSettledOnce();
    }));

  it('what fails while it is stopped travels with the error as `suppressed`', () =>
    virtual(({ at, flush }) => {
      const desk = new Desk('g');
      const errors: unknown[] = [];
      const rude = new Observable<never>(() => () => {
        throw new Error('teardown');
      });
      const frozen = Object.freeze(new Error('frozen'));
      const shared = new Error('shared');
      for (const error of [new Error('own'), frozen, shared, shared, 'no object']) {
        rude.pipe(admit(desk, undefined)).subscribe({ error: (each: unknown) => errors.push(each) });
        const visit = desk.last;
        at(1, () => visit.revoke(error));
      }
      NEVER.pipe(admit(desk, undefined)).subscribe({ error: (each: unknown) => errors.push(each) });
      const visit = desk.last;
      at(1, () => visit.revoke(new Error('polite')));
      flush();
      expect(errors.map((error) => [String(error), (error as { suppressed?: unknown } | undefined)?.suppressed])).toEqual([
        ['Error: own', [new Error('teardown')]],
        ['Error: frozen', undefined],
        ['Error: shared', [new Error('teardown')]],
        ['Error: shared', [new Error('teardown')]],
        ['no object', undefined],
        ['Error: polite', undefined],
      ]);
      expect(Object.keys(errors[0] as object)).toEqual([]);
    }));

  it('in a fan-out it is a failure of that child, as any error of a call is', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      watch(of(1, 2).pipe(fanOutScoped((n) => later(5, n).pipe(admit(desk, undefined)), { policy: 'settle' })));
      at(1, () => desk.visits[0]?.revoke(new Error('tripped')));
      flush();
      expect(lines).toEqual([
        '1 next {"index":0,"status":"failed","reason":{}}',
        '5 next {"index":1,"status":"fulfilled","value":2}',
        '5 complete',
      ]);
    }));
});

describe('revokeAll', () => {
  /** Starts calls behind one desk and gives what revokes them all. */
  function fleet(desk: Desk, subscribe: (index: number) => void, count: number): () => void {
    for (let i = 0; i < count; i++) subscribe(i);
    const victims = desk.visits.slice(-count);
    return () => revokeAll(victims, () => new Error('tripped'));
  }

  it('#49 tears all of them down before any is told, each in the order given, in one frame', () =>
    virtual(({ at, flush, watch, lines, note }) => {
      const desk = new Desk('g');
      const trip = fleet(desk, (i) => watch(torn(() => note(`${i} torn down`)).pipe(admit(desk, undefined)), String(i)), 3);
      at(4, trip);
      flush();
      expect(lines).toEqual([
        '4 0 torn down',
        '4 1 torn down',
        '4 2 torn down',
        '4 0 error tripped',
        '4 1 error tripped',
        '4 2 error tripped',
      ]);
      desk.expectSettledOnce();
    }));

  it('tells at once who has nothing to wait for, and the others as they acknowledge', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      const trip = fleet(desk, (i) => watch((i === 1 ? NEVER : slow(10 - i)).pipe(admit(desk, undefined)), String(i)), 3);
      at(1, trip);
      flush();
      expect(lines).toEqual(['1 1 error tripped', '9 2 error tripped', '11 0 error tripped']);
    }));

  it('a victim that was unsubscribed by an earlier victim’s handler or teardown is not told', () =>
    virtual(({ at, flush, watch, lines, note }) => {
      const desk = new Desk('g');
      const subs: Subscription[] = [];
      const trip = fleet(
        desk,
        (i) => {
          const call = torn(() => {
            note(`${i} torn down`);
            if (i === 0) subs[1]?.unsubscribe();
          }).pipe(admit(desk, undefined));
          subs.push(
            i === 2
              ? call.subscribe({
                  error: () => {
                    note('2 told');
                    subs[3]?.unsubscribe();
                  },
                })
              : watch(call, String(i)),
          );
        },
        5,
      );
      at(1, trip);
      flush();
      expect(lines).toEqual([
        '1 0 torn down',
        '1 1 torn down',
        '1 2 torn down',
        '1 3 torn down',
        '1 4 torn down',
        '1 0 error tripped',
        '1 2 told',
        '1 4 error tripped',
      ]);
      desk.expectSettledOnce();
    }));

  it('a victim that is below another victim is stopped with it and told by nobody', () =>
    virtual(({ at, flush, watch, lines }) => {
      for (const order of [1, -1]) {
        const desk = new Desk('g');
        watch(
          NEVER.pipe(
            admit(desk, undefined),
            map((value) => value),
            admit(desk, undefined),
          ),
        );
        at(1, () =>
          revokeAll(
            [...desk.visits].sort((a, b) => order * a.name.localeCompare(b.name)),
            () => new Error('tripped'),
          ),
        );
        flush();
        desk.expectSettledOnce();
      }
      expect(lines).toEqual(['1 error tripped', '2 error tripped']);
    }));

  it('a victim to whose scope a later victim’s teardown adds a cleanup that never ends is told after its grace', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      let first: ScopeContext | undefined;
      const trip = fleet(
        desk,
        (i) =>
          watch(
            scoped((ctx) => {
              first ??= ctx;
              return torn(() => void (i === 1 && desk.visits[0]?.call.scope.track(NEVER, 'late')));
            }).pipe(admit(desk, undefined)),
            String(i),
          ),
        2,
      );
      at(1, trip);
      flush();
      expect(lines).toEqual(['1 1 error tripped', '5001 0 error tripped']);
      desk.expectSettledOnce();
    }));

  it('a victim that calls again from its handler meets the gate as it is by then', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      const trip = fleet(
        desk,
        (i) =>
          NEVER.pipe(admit(desk, undefined)).subscribe({
            error: () => {
              desk.answer = (visit) => visit.refuse('open');
              watch(of('again').pipe(admit(desk, undefined)), String(i));
            },
          }),
        2,
      );
      at(1, trip);
      flush();
      expect(lines).toEqual(['1 0 error open', '1 1 error open']);
      desk.expectSettledOnce();
    }));

  it('in the settle of the guilty call: victims are told first, the guilty error last', () =>
    virtual(({ flush, watch, lines, note, at }) => {
      const [desk, inner] = [new Desk('g'), new Desk('inner')];
      const source = new Subject<never>();
      desk.on = (what) => {
        if (what === 'settle failed') revokeAll(desk.visits, () => new Error('tripped'));
      };
      for (const name of ['a', 'b'])
        watch(torn(() => note(`${name} torn down`)).pipe(admit(inner, undefined), admit(desk, undefined)), name);
      watch(torn(() => note('guilty torn down'), source).pipe(admit(inner, undefined), admit(desk, undefined)), 'guilty');
      at(2, () => source.error(new Error('boom')));
      flush();
      expect(lines).toEqual([
        '2 guilty torn down',
        '2 a torn down',
        '2 b torn down',
        '2 a error tripped',
        '2 b error tripped',
        '2 guilty error boom',
      ]);
    }));

  it('in a begin, a report, a grant or a withdrawal', () =>
    virtual(({ flush, watch, lines, at }) => {
      for (const when of ['begin', 'report 1', 'pump', 'withdraw']) {
        const desk = new Desk('g');
        const source = new Subject<number>();
        watch(NEVER.pipe(admit(desk, undefined)), 'victim');
        const victims = [...desk.visits];
        if (when === 'withdraw') desk.holding();
        desk.on = (what) => {
          if (what === when) revokeAll(victims, () => new Error(when));
        };
        const sub = merge(source.pipe(take(1)), EMPTY)
          .pipe(admit(desk, undefined, { usage: (value) => value }))
          .subscribe();
        at(1, () => source.next(1));
        at(2, () => sub.unsubscribe());
        flush();
        desk.expectSettledOnce();
      }
      expect(lines.map((line) => line.replace(/^\d+ /, ''))).toEqual(
        ['begin', 'report 1', 'pump', 'withdraw'].map((when) => `victim error ${when}`),
      );
    }));

  it('15 calls in flight are cancelled in the frame of the trip, and 100,000 use no stack', () =>
    virtual(({ at, flush, now }) => {
      const desk = new Desk('g');
      const told: number[] = [];
      const count = 100_000;
      const trip = fleet(desk, () => NEVER.pipe(admit(desk, undefined)).subscribe({ error: () => told.push(now()) }), count);
      at(9, trip);
      flush();
      expect([told.length, new Set(told)]).toEqual([count, new Set([9])]);
      desk.expectSettledOnce();
    }));
});
