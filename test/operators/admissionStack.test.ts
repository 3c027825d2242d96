import { catchError, concat, concatMap, defer, EMPTY, map, merge, NEVER, Observable, of, Subject, switchMap, tap, throwError } from 'rxjs';
import { fanOutScoped, failWithin, scoped, takeWithin, type ScopeContext } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { admit } from '../../src/operators/admit.js';
import { later, pause, virtual } from '../support/virtual.js';
import { Desk } from './admitHarness.js';

/** Gates written one after the other join; an operator between them parts them. Both must behave alike. */
const parts: [string, <T>(source: Observable<T>) => Observable<T>][] = [
  ['joined', (source) => source],
  ['parted by map()', (source) => source.pipe(map((value) => value))],
  ['parted by a fan-out', (source) => of(source).pipe(fanOutScoped((each) => each))],
  ['parted by failWithin()', (source) => source.pipe(failWithin(1000))],
  ['parted by a scope', (source) => scoped(() => source)],
  ['parted by defer()', (source) => defer(() => source)],
];

describe.each(parts)('gates over one call, %s', (_, part) => {
  it('a call has not started before the innermost gate has granted: cancelled before, it is not started anywhere', () =>
    virtual(({ at, flush }) => {
      const [inner, outer] = [new Desk('inner').holding(), new Desk('outer')];
      const sub = part(of('a').pipe(admit(inner, undefined)))
        .pipe(admit(outer, undefined))
        .subscribe();
      expect(outer.last.call.started).toBe(false);
      at(3, () => sub.unsubscribe());
      flush();
      expect(outer.last.ends).toMatchObject([{ kind: 'cancelled', started: false, emitted: 0 }]);
      outer.expectSettledOnce();
    }));

  it('the clocks of all gates begin when it has started', () =>
    virtual(({ at, flush, now }) => {
      const began: string[] = [];
      const [inner, outer] = [new Desk('inner').holding(), new Desk('outer')];
      for (const desk of [inner, outer]) desk.on = (what) => void (what === 'begin' && began.push(`${desk.name} ${now()}`));
      part(later(1, 'a').pipe(admit(inner, undefined)))
        .pipe(admit(outer, undefined))
        .subscribe();
      at(4, () => inner.last.grant());
      flush();
      expect(began.slice(-2).sort()).toEqual(['inner 4', 'outer 4']);
      expect(outer.last.ends).toMatchObject([{ kind: 'completed', started: true, emitted: 1 }]);
    }));

  it('refused by the inner gate: a failure that has not started, with the error of the gate at its root', () =>
    virtual(({ flush, watch, at }) => {
      for (const late of [false, true]) {
        const [inner, outer] = [new Desk('inner'), new Desk('outer')];
        inner.answer = (visit) => void (late || visit.refuse('full'));
        watch(part(of('a').pipe(admit(inner, undefined))).pipe(admit(outer, undefined)));
        if (late) at(2, () => inner.last.refuse('full'));
        flush();
        expect(outer.last.ends).toMatchObject([{ kind: 'failed', started: false, emitted: 0 }]);
        const { error } = outer.last.ends[0] as { error: unknown };
        expect(error instanceof AggregateError ? error.errors[0] : error).toBe('full');
        outer.expectSettledOnce();
      }
    }));

  it('C4 tells the inner gate of the end before the outer one, both before downstream, and lets the next in after it', () =>
    virtual(({ flush, watch, lines, note }) => {
      const [inner, outer] = [new Desk('inner', note), new Desk('outer', note)];
      watch(part(later(2, 'a').pipe(admit(inner, undefined))).pipe(admit(outer, undefined)));
      flush();
      const order = lines.filter((line) => /settle|complete$/.test(line));
      expect(order).toEqual(['2 inner1 settle completed', '2 outer1 settle completed', '2 complete']);
      expect(lines.indexOf('2 inner1 pump')).toBeGreaterThan(lines.indexOf('2 complete'));
      expect(lines.indexOf('2 outer1 pump')).toBeGreaterThan(lines.indexOf('2 complete'));
    }));

  it('revoked by either gate, the other is settled as cancelled or failed, once', () =>
    virtual(({ flush, watch, lines, at }) => {
      for (const who of ['inner', 'outer'] as const) {
        const desks = { inner: new Desk('inner'), outer: new Desk('outer') };
        watch(part(NEVER.pipe(admit(desks.inner, undefined))).pipe(admit(desks.outer, undefined)));
        at(1, () => desks[who].last.revoke('tripped'));
        flush();
        expect(desks[who].last.ends).toMatchObject([{ kind: 'cancelled', started: true }]);
        desks.inner.expectSettledOnce();
        desks.outer.expectSettledOnce();
      }
      expect(lines.map((line) => line.slice(2))).toEqual([expect.stringContaining('tripped'), expect.stringContaining('tripped')]);
    }));

  it('the call knows who holds the gate above it', () =>
    virtual(({ flush }) => {
      const [inner, outer, other] = [new Desk('inner'), new Desk('outer'), new Desk('other')];
      const held: unknown[] = [];
      inner.answer = (visit) => {
        held.push(visit.call.heldAbove(outer), visit.call.heldAbove(inner), visit.call.heldAbove(other));
        visit.grant();
      };
      const call = part(of('a').pipe(admit(inner, undefined))).pipe(admit(outer, undefined));
      scoped(() => call, { label: 'agent' }).subscribe();
      flush();
      expect(held).toEqual([['agent'], undefined, undefined]);
    }));
});

describe('a guarded call around others', () => {
  const started = (desk: Desk): unknown => desk.last.ends.map((end) => end.started);

  it('has started once any of them has, whatever else waits', () =>
    virtual(({ at, flush }) => {
      const [inner, outer] = [new Desk('inner'), new Desk('outer')];
      inner.answer = (visit) => void (inner.visits.length === 1 && visit.grant());
      const sub = of(1, 2, 3)
        .pipe(
          fanOutScoped(() => NEVER.pipe(admit(inner, undefined))),
          admit(outer, undefined),
        )
        .subscribe();
      expect(outer.last.call.started).toBe(true);
      at(1, () => sub.unsubscribe());
      flush();
      expect(started(outer)).toEqual([true]);
      inner.expectSettledOnce();
    }));

  it('has started once a value came, whatever waits after it', () =>
    virtual(({ at, flush }) => {
      const [inner, outer] = [new Desk('inner').holding(), new Desk('outer')];
      const sub = concat(of('a'), of('b').pipe(admit(inner, undefined)))
        .pipe(admit(outer, undefined))
        .subscribe();
      at(1, () => sub.unsubscribe());
      flush();
      expect(started(outer)).toEqual([true]);
    }));

  it('has not started while all of them wait, and starts with the first that is granted', () =>
    virtual(({ at, flush, now }) => {
      const [inner, outer] = [new Desk('inner').holding(), new Desk('outer')];
      const began: number[] = [];
      outer.on = (what) => void (what === 'begin' && began.push(now()));
      merge(...[1, 2].map((n) => later(2, n).pipe(admit(inner, undefined))))
        .pipe(admit(outer, undefined))
        .subscribe();
      at(1, () => expect(outer.last.call.started).toBe(false));
      at(5, () => inner.visits[1]?.grant());
      at(6, () => expect(outer.last.call.started).toBe(true));
      at(7, () => inner.visits[0]?.grant());
      flush();
      expect(began.at(-1)).toBe(5);
      expect(started(outer)).toEqual([true]);
    }));

  it('has started when it goes on without a call that was refused', () =>
    virtual(({ at, flush }) => {
      for (const late of [false, true]) {
        const [inner, outer] = [new Desk('inner'), new Desk('outer')];
        inner.answer = (visit) => void (late || visit.refuse('open'));
        const sub = of('a')
          .pipe(
            admit(inner, undefined),
            catchError(() => NEVER),
            admit(outer, undefined),
          )
          .subscribe();
        if (late) at(1, () => inner.last.refuse('open'));
        at(2, () => sub.unsubscribe());
        flush();
        expect([late, started(outer)]).toEqual([late, [true]]);
      }
    }));

  it('has not started when nothing came after the call that was refused', () =>
    virtual(({ flush }) => {
      const [inner, outer] = [new Desk('inner'), new Desk('outer')];
      inner.answer = (visit) => visit.refuse('open');
      const call = of('a').pipe(
        admit(inner, undefined),
        map((value) => value),
      );
      call.pipe(admit(outer, undefined)).subscribe({ error: () => {} });
      expect(outer.last.ends).toMatchObject([{ kind: 'failed', started: false }]);
      call
        .pipe(
          catchError(() => EMPTY),
          admit(outer, undefined),
        )
        .subscribe();
      flush();
      expect(outer.last.ends).toMatchObject([{ kind: 'completed', started: false }]);
    }));

  it('has started in one attempt, and not yet in the next', () =>
    virtual(({ at, flush }) => {
      const [inner, outer] = [new Desk('inner'), new Desk('outer')];
      inner.answer = (visit) => void (inner.visits.length === 1 && visit.grant());
      outer.verdict = (visit, { kind }) =>
        kind === 'failed' ? () => (pause(1).subscribe({ complete: () => visit.grant() }), () => {}) : undefined;
      const sub = throwError(() => 'x')
        .pipe(
          admit(inner, undefined),
          map((value) => value),
          admit(outer, undefined),
        )
        .subscribe();
      at(2, () => sub.unsubscribe());
      flush();
      expect(started(outer)).toEqual([true, false]);
      outer.expectSettledOnce();
    }));

  it('whose own work began before the others were asked has started', () =>
    virtual(({ at, flush }) => {
      const [inner, outer] = [new Desk('inner').holding(), new Desk('outer')];
      const sub = pause(1)
        .pipe((wait) => concat(wait, of('b').pipe(admit(inner, undefined))), admit(outer, undefined))
        .subscribe();
      at(3, () => sub.unsubscribe());
      flush();
      expect(started(outer)).toEqual([true]);
    }));

  it('three deep, all of them start together', () =>
    virtual(({ at, flush }) => {
      const desks = [new Desk('a').holding(), new Desk('b'), new Desk('c')] as const;
      const call = later(3, 'x').pipe(
        admit(desks[0], undefined),
        map((x) => x),
        admit(desks[1], undefined),
        map((x) => x),
        admit(desks[2], undefined),
      );
      const sub = call.subscribe();
      call.subscribe();
      at(1, () => desks[0].visits[1]?.grant());
      at(2, () => {
        expect(desks.map((desk) => desk.visits.map((visit) => visit.call.started))).toEqual([[false, true], [false, true], [false, true]]); // prettier-ignore
        sub.unsubscribe();
      });
      flush();
      for (const desk of desks) desk.expectSettledOnce();
      expect(desks[2].visits.map(({ ends }) => ends[0]?.started)).toEqual([false, true]);
    }));
});

describe('the enclosing holder', () => {
  it('is found through fan-outs, deadlines and agents, and its path is told', () =>
    virtual(({ flush }) => {
      const [gate, probe] = [new Desk('g'), new Desk('probe')];
      const held: unknown[] = [];
      probe.answer = (visit) => {
        held.push(visit.call.heldAbove(gate));
        visit.grant();
      };
      const leaf = (): Observable<string> => of('leaf').pipe(admit(probe, undefined));
      scoped(
        () => scoped(() => of(1).pipe(fanOutScoped(() => leaf().pipe(takeWithin(5)), { label: 'inner' }))).pipe(admit(gate, undefined)),
        { label: 'agent' },
      ).subscribe();
      flush();
      expect(held).toEqual([['agent']]);
    }));

  it('no longer holds once it has ended, nor for what its subscriber starts', () =>
    virtual(({ flush }) => {
      const [gate, probe] = [new Desk('g'), new Desk('probe')];
      const held: unknown[] = [];
      probe.answer = (visit) => {
        held.push(visit.call.heldAbove(gate));
        visit.grant();
      };
      const leaf = (): Observable<string> => of('leaf').pipe(admit(probe, undefined));
      scoped(() =>
        merge(
          of('a').pipe(admit(gate, undefined), concatMap(leaf)),
          concat(of('b').pipe(admit(gate, undefined)), defer(leaf)),
          of('c').pipe(admit(gate, undefined), tap({ complete: () => void leaf().subscribe() })),
          throwError(() => 'd').pipe(admit(gate, undefined), catchError(leaf)),
        ),
      ).subscribe();
      flush();
      expect(held).toEqual([undefined, undefined, undefined, undefined]);
    }));

  it('still holds while a call of its own has not stopped', () =>
    virtual(({ flush, at }) => {
      const [gate, probe] = [new Desk('g'), new Desk('probe')];
      const held: unknown[] = [];
      probe.answer = (visit) => {
        held.push(visit.call.heldAbove(gate));
        visit.grant();
      };
      let inside: ScopeContext | undefined;
      const go = new Subject<void>();
      const sub = scoped((ctx) => {
        inside = ctx;
        ctx.track(go.pipe(switchMap(() => scoped(() => of('x').pipe(admit(probe, undefined)), { within: inside }))));
        return NEVER;
      })
        .pipe(admit(gate, undefined))
        .subscribe();
      at(1, () => sub.unsubscribe());
      at(2, () => go.next());
      at(3, () => go.complete());
      flush();
      expect(held).toEqual([]);
      gate.expectSettledOnce();
    }));
});

describe.each([10, 60, 300])('%d gates around one call, parted by operators', (depth) => {
  /** The stack with its desks from the inside out. */
  function stack(source: Observable<unknown>): { desks: Desk[]; guarded: Observable<unknown> } {
    const desks = Array.from({ length: depth }, (_, i) => new Desk(`${i}:`));
    const guarded = desks.reduce(
      (inner, desk) =>
        inner.pipe(
          admit(desk, undefined),
          map((value) => value),
        ),
      source,
    );
    return { desks, guarded };
  }
  const ways: [string, Observable<unknown>, (desks: Desk[], source: Subject<unknown>) => void, string[]][] = [
    ['completes at once', of('a'), () => {}, ['next a', 'complete']],
    ['completes later', NEVER, (_, source) => source.complete(), ['complete']],
    ['fails at once', throwError(() => 'boom'), () => {}, ['error boom']],
    ['fails later', NEVER, (_, source) => source.error('boom'), ['error boom']],
    ['is revoked by the innermost', NEVER, ([inner]) => inner?.last.revoke('revoked'), ['error revoked']],
    ['is revoked by the outermost', NEVER, (desks) => desks.at(-1)?.last.revoke('revoked'), ['error revoked']],
  ];

  it.each(ways)('a call that %s is settled once in each, from the inside out', (_w, first, then, expected) =>
    virtual(({ watch, flush, lines }) => {
      const source = new Subject<unknown>();
      const { desks, guarded } = stack(first === NEVER ? source : first);
      const order: string[] = [];
      for (const desk of desks) desk.on = (what) => void (what.startsWith('settle') && order.push(desk.name));
      watch(guarded);
      then(desks, source);
      flush();
      expect(lines.map((line) => line.slice(2))).toEqual(expected);
      expect(order).toEqual(desks.map(({ name }) => name));
      for (const desk of desks) desk.expectSettledOnce();
    }),
  );

  it('unsubscribed while the innermost holds it, or in flight: every gate is let go', () =>
    virtual(({ flush }) => {
      for (const waits of [true, false]) {
        const { desks, guarded } = stack(NEVER);
        if (waits) desks[0]?.holding();
        guarded.subscribe().unsubscribe();
        flush();
        for (const desk of desks) desk.expectSettledOnce();
        expect(desks.at(-1)?.last.ends).toMatchObject([{ kind: 'cancelled', started: !waits }]);
      }
    }));
});
