import { concat, EMPTY, NEVER, Observable, of, Subject, take, throwError, type Subscription } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Gate } from '../../src/gates/gate.js';
import { admit, admitted } from '../../src/operators/admit.js';
import { briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { failing, later, torn, virtual } from '../support/virtual.js';
import { Desk } from './admitHarness.js';

const open: Gate<unknown> = {
  name: 'open',
  enter: (_ask, _call, caller) => {
    caller.granted({ settle: () => undefined }, undefined);
    return () => undefined;
  },
};

describe('admit', () => {
  describe('behind an open gate', () => keepsTheContract(() => admit(open, undefined), 'boom'));
  describe('behind three open gates', () =>
    keepsTheContract(
      () => (source) => source.pipe(admit(open, undefined), admit(open, undefined, { usage: () => undefined }), admit(open, undefined)),
      'boom',
    ));

  it.each([
    ['at once', '', '--a--|', '^----!', '--a--|'],
    ['later', '---g', '--a--|', '---^----!', '-----a--|'],
    ['later, and it fails', '---g', '--#', '---^-!', '-----#'],
    ['later, and it never ends', '---g', '------', '---^--', '------'],
  ])('#59 the source is subscribed when the gate grants: %s', (_, when, diagram, subscribed, expected) =>
    virtual(({ cold, at, expectObservable, expectSubscriptions }) => {
      const desk = new Desk('g');
      if (when !== '') desk.holding();
      const source = cold(diagram, undefined, 'boom');
      expectObservable(source.pipe(admit(desk, undefined), briefly()), diagram === '------' ? '-----!' : undefined).toBe(
        expected,
        undefined,
        'boom',
      );
      expectSubscriptions(source.subscriptions).toBe(diagram === '------' ? '---^-!' : subscribed);
      if (when !== '') at(when.indexOf('g'), () => desk.last.grant());
    }),
  );

  it('#6 a refused call ends with the error of the gate, and its source is never subscribed', () =>
    virtual(({ cold, at, expectObservable, expectSubscriptions }) => {
      const desk = new Desk('g');
      const source = cold('a|');
      desk.answer = (visit) => {
        if (desk.visits.length === 1) visit.refuse('at once');
      };
      expectObservable(source.pipe(admit(desk, undefined), briefly())).toBe('#', undefined, 'at once');
      expectObservable(source.pipe(admit(desk, undefined), briefly())).toBe('---#', undefined, 'later');
      at(3, () => desk.last.refuse('later'));
      expectSubscriptions(source.subscriptions).toBe([]);
    }));

  it('#7 also when the source throws in subscribe', () =>
    virtual(({ expectObservable }) => {
      const desk = new Desk('g');
      desk.answer = (visit) => visit.refuse('no');
      const source = new Observable<never>(() => {
        throw new Error('in subscribe');
      });
      expectObservable(source.pipe(admit(desk, undefined), briefly())).toBe('#', undefined, 'no');
    }));

  it('#75 a source that throws in subscribe gives its permission back', () =>
    virtual(({ flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      watch(
        new Observable<never>(() => {
          throw new Error('in subscribe');
        }).pipe(admit(desk, undefined)),
      );
      flush();
      expect(lines).toEqual(['0 g1 enter', '0 g1 begin', '0 g1 settle failed', '0 g1 release', '0 error in subscribe', '0 g1 pump']);
      expect(desk.last.ends[0]).toMatchObject({ started: true, emitted: 0, error: new Error('in subscribe') });
    }));

  it('C2 nothing happens before it is subscribed, and each subscription is one call', () =>
    virtual(({ cold, flush, expectObservable, expectSubscriptions }) => {
      const desk = new Desk('g');
      const source = cold('-a|');
      const asks: number[] = [];
      const guarded = source.pipe(admit(desk, () => asks.push(desk.visits.length)));
      expect([desk.visits.length, asks]).toEqual([0, []]);
      expectObservable(guarded).toBe('-a|');
      expectObservable(guarded, '--^').toBe('---a|');
      expectSubscriptions(source.subscriptions).toBe(['^-!', '--^-!']);
      flush();
      expect(asks).toEqual([0, 1]);
      desk.expectSettledOnce();
    }));

  describe('C4 the order at the end of a call is teardown, settle, release, downstream, next caller', () => {
    const ends: [string, Observable<string>, string, string][] = [
      ['completes', concat(later(2, 'a'), EMPTY), 'settle completed', 'complete'],
      ['fails', failing(2, new Error('boom')), 'settle failed', 'error boom'],
      ['completes at once', of('a'), 'settle completed', 'complete'],
      ['fails at once', throwError(() => new Error('boom')), 'settle failed', 'error boom'],
    ];

    it.each(ends)('when the source %s', (_, source, settle, end) =>
      virtual(({ flush, watch, lines, note }) => {
        const desk = new Desk('g', note);
        watch(torn(() => note('torn down'), source).pipe(admit(desk, undefined)));
        flush();
        expect(lines.map((line) => line.slice(2)).filter((line) => line !== 'next a')).toEqual([
          'g1 enter',
          'g1 begin',
          'torn down',
          `g1 ${settle}`,
          'g1 release',
          end,
          'g1 pump',
        ]);
      }),
    );

    it('gates of one call are settled from the inside out, all of them before downstream, and pumped after it', () =>
      virtual(({ flush, watch, lines, note }) => {
        const [inner, outer] = [new Desk('inner', note), new Desk('outer', note)];
        watch(torn(() => note('torn down'), later(2, 'a')).pipe(admit(inner, undefined), admit(outer, undefined)));
        flush();
        expect(lines).toEqual([
          '0 outer1 enter',
          '0 inner1 enter',
          '0 outer1 begin',
          '0 inner1 begin',
          '2 next a',
          '2 torn down',
          '2 inner1 settle completed',
          '2 inner1 release',
          '2 outer1 settle completed',
          '2 outer1 release',
          '2 complete',
          '2 inner1 pump',
          '2 outer1 pump',
        ]);
      }));

    it('when it is unsubscribed nothing is told and nobody is let in: teardown, settle, release', () =>
      virtual(({ flush, watch, lines, note, at }) => {
        const [inner, outer] = [new Desk('inner', note), new Desk('outer', note)];
        const sub = watch(torn(() => note('torn down')).pipe(admit(inner, undefined), admit(outer, undefined)));
        at(3, () => sub.unsubscribe());
        flush();
        expect(lines.filter((line) => line.startsWith('3'))).toEqual([
          '3 torn down',
          '3 inner1 settle cancelled',
          '3 outer1 settle cancelled',
          '3 inner1 release',
          '3 outer1 release',
        ]);
      }));

    it('when downstream throws the next caller comes in all the same', () =>
      virtual(({ flush, note, lines }) => {
        const desk = new Desk('g', note);
        later(1, 'a')
          .pipe(admit(desk, undefined))
          .subscribe({
            complete: () => {
              note('told');
              throw new Error('downstream');
            },
          });
        expect(() => flush()).toThrow('downstream');
        expect(lines.slice(-2)).toEqual(['1 told', '1 g1 pump']);
      }));

    it('what take(1) cuts off after a value is a cancel that has emitted', () =>
      virtual(({ flush, watch, lines, note }) => {
        const desk = new Desk('g', note);
        watch(concat(later(2, 'a'), NEVER).pipe(admit(desk, undefined), take(1)));
        flush();
        expect(lines).toContain('2 g1 settle cancelled');
        expect(desk.last.ends).toMatchObject([{ kind: 'cancelled', started: true, emitted: 1, last: 'a' }]);
        expect(lines.filter((line) => line.includes('pump'))).toEqual([]);
      }));
  });

  it('C3 a synchronous source is settled once, whatever it does in subscribe', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('g');
      const wild = new Observable<string>((out) => {
        out.next('a');
        out.complete();
        for (const late of [() => out.error(new Error('late')), () => out.next('late'), () => out.complete()]) late();
        throw new Error('later still');
      });
      watch(wild.pipe(admit(desk, undefined)));
      flush();
      expect(lines).toEqual(['0 next a', '0 complete']);
      desk.expectSettledOnce();
    }));

  it('the end of a source that ends inside subscribe is held until its teardown is known', () =>
    virtual(({ flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      const source = new Observable<string>((out) => {
        out.complete();
        note('subscribe returns');
        return () => note('torn down');
      });
      watch(source.pipe(admit(desk, undefined)));
      flush();
      expect(lines.map((line) => line.slice(2))).toEqual([
        'g1 enter',
        'g1 begin',
        'subscribe returns',
        'torn down',
        'g1 settle completed',
        'g1 release',
        'complete',
        'g1 pump',
      ]);
    }));

  it('tells the gate how the call ended', () =>
    virtual(({ flush, watch, at }) => {
      const desk = new Desk('g');
      const boom = new Error('boom');
      watch(of('a', 'b').pipe(admit(desk, undefined)));
      watch(EMPTY.pipe(admit(desk, undefined)));
      watch(
        concat(
          of('a'),
          throwError(() => boom),
        ).pipe(admit(desk, undefined)),
      );
      watch(throwError(() => undefined).pipe(admit(desk, undefined)));
      const sub = watch(NEVER.pipe(admit(desk, undefined)));
      at(1, () => sub.unsubscribe());
      flush();
      expect(desk.visits.map(({ ends }) => ends[0])).toMatchObject([
        { kind: 'completed', started: true, emitted: 2, last: 'b' },
        { kind: 'completed', started: true, emitted: 0 },
        { kind: 'failed', started: true, emitted: 1, last: 'a', error: boom },
        { kind: 'failed', started: true, emitted: 0, error: undefined },
        { kind: 'cancelled', started: true, emitted: 0 },
      ]);
      desk.expectSettledOnce();
    }));

  it('an error of the source reaches downstream as it is', () =>
    virtual(({ flush }) => {
      const seen: unknown[] = [];
      for (const error of [new Error('x'), undefined, 0, ''])
        throwError(() => error)
          .pipe(admit(new Desk('g'), undefined))
          .subscribe({ error: (each: unknown) => seen.push(each) });
      flush();
      expect(seen).toEqual([new Error('x'), undefined, 0, '']);
    }));

  it('a teardown that throws fails the call, and is settled as a failure', () =>
    virtual(({ flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      const rude = (source: Observable<string>): Observable<string> =>
        new Observable((out) => {
          source.subscribe(out);
          return () => {
            throw new Error('teardown');
          };
        });
      watch(rude(of('a')).pipe(admit(desk, undefined)), 'one');
      watch(rude(throwError(() => new Error('own'))).pipe(admit(desk, undefined)), 'two');
      flush();
      expect(lines.filter((line) => /settle|error/.test(line))).toEqual([
        '0 g1 settle failed',
        '0 one error ScopeError[teardown]',
        '0 g2 settle failed',
        '0 two error ScopeError[own, teardown]',
      ]);
      desk.expectSettledOnce();
    }));

  describe('what the call asks', () => {
    it('is given to the gate, and a function is called once for each subscription', () =>
      virtual(({ flush }) => {
        const desk = new Desk('g');
        let calls = 0;
        const counted = of(1).pipe(admit(desk, () => ++calls));
        counted.subscribe();
        counted.subscribe();
        of(1).pipe(admit(desk, 'static')).subscribe();
        flush();
        expect(desk.visits.map(({ ask }) => ask)).toEqual([1, 2, 'static']);
      }));

    it('a function that throws fails this call only; the gate never hears of it', () =>
      virtual(({ flush, watch, lines }) => {
        const [inner, outer] = [new Desk('inner'), new Desk('outer')];
        let calls = 0;
        const asking = of('a').pipe(
          admit(inner, () => {
            if (calls++ === 0) throw new Error('ask');
          }),
          admit(outer, undefined),
        );
        watch(asking, 'one');
        watch(asking, 'two');
        flush();
        expect(lines).toEqual(['0 one error ask', '0 two next a', '0 two complete']);
        expect([inner.visits.length, outer.visits.length]).toEqual([1, 2]);
        expect(outer.visits[0]?.ends).toMatchObject([{ kind: 'failed', started: false, error: new Error('ask') }]);
        outer.expectSettledOnce();
      }));

    it('a function that unsubscribes its own call starts nothing', () =>
      virtual(({ cold, at, flush, expectSubscriptions }) => {
        const desk = new Desk('g');
        const source = cold('a|');
        const hold = new Subject<void>();
        const sub: Subscription = concat(hold, source.pipe(admit(desk, () => sub.unsubscribe()))).subscribe();
        at(1, () => hold.complete());
        flush();
        expectSubscriptions(source.subscriptions).toBe([]);
        desk.expectSettledOnce();
      }));
  });

  describe('usage', () => {
    it('is read from every value and reported before the value goes on', () =>
      virtual(({ flush, watch, lines, note }) => {
        const desk = new Desk('g', note);
        const usage = (value: number): number | undefined => (value % 2 === 0 ? undefined : value * 10);
        watch(of(1, 2, 3).pipe(admit(desk, undefined, { usage })));
        flush();
        expect(lines.map((line) => line.slice(2)).slice(2, 7)).toEqual(['g1 report 10', 'next 1', 'next 2', 'g1 report 30', 'next 3']);
      }));

    it('that throws fails its own call only, and tears it down first', () =>
      virtual(({ flush, watch, lines, note, at }) => {
        const desk = new Desk('g', note);
        const usage = (value: string): number => {
          if (value === 'bad') throw new Error('usage');
          return 1;
        };
        const source = new Subject<string>();
        watch(torn(() => note('torn down'), source).pipe(admit(desk, undefined, { usage })), 'one');
        watch(later(2, 'good').pipe(admit(desk, undefined, { usage })), 'two');
        at(1, () => source.next('bad'));
        flush();
        expect(lines.filter((line) => line.startsWith('1'))).toEqual([
          '1 torn down',
          '1 g1 settle failed',
          '1 g1 release',
          '1 one error usage',
          '1 g1 pump',
        ]);
        expect(lines.filter((line) => line.includes('two'))).toEqual(['2 two next good', '2 two complete']);
        expect(desk.visits[0]?.ends).toMatchObject([{ kind: 'failed', emitted: 0, error: new Error('usage') }]);
      }));

    it('of several gates is read by each, outermost first, and the first that stops the call ends it', () =>
      virtual(({ flush, watch, lines, note }) => {
        const [inner, outer] = [new Desk('inner', note), new Desk('outer', note)];
        outer.on = (what, visit) => {
          if (what === 'report 2') visit.revoke(new Error('too much'));
        };
        const usage = (value: number): number => value;
        watch(of(1, 2, 3).pipe(admit(inner, undefined, { usage }), admit(outer, undefined, { usage })));
        flush();
        expect(lines.filter((line) => /report|next|error/.test(line)).map((line) => line.slice(2))).toEqual([
          'outer1 report 1',
          'inner1 report 1',
          'next 1',
          'outer1 report 2',
          'error too much',
        ]);
        for (const desk of [inner, outer]) {
          desk.expectSettledOnce();
          expect(desk.last.ends).toMatchObject([{ kind: 'cancelled', started: true, emitted: 1, last: 1 }]);
        }
      }));

    it('that unsubscribes its own call stops the value', () =>
      virtual(({ flush, watch, lines }) => {
        const desk = new Desk('g');
        const source = new Subject<number>();
        const sub = watch(source.pipe(admit(desk, undefined, { usage: () => (sub.unsubscribe(), 1) })));
        source.next(1);
        flush();
        expect(lines).toEqual([]);
        desk.expectSettledOnce();
      }));
  });

  it('C9 bad arguments throw where the operator is made', () => {
    for (const gate of [undefined, null, 5, {}, { enter: 1 }, 'gate'])
      expect(() => admit(gate as never, undefined)).toThrow(new TypeError(`admit: gate must be a gate, got ${show(gate)}.`));
    expect(() => admit(open, undefined, { usage: 5 as never })).toThrow(TypeError);
    expect(() => admitted(null as never, undefined, () => of(1))).toThrow('admitted: gate must be a gate, got null.');
    expect(() => admitted(open, undefined, undefined as never)).toThrow('admitted: run must be a function, got undefined.');
  });

  it('a gate needs no more than enter: begin, report, release and pump may be left out', () =>
    virtual(({ expectObservable }) => {
      expectObservable(of(1).pipe(admit(open, undefined, { usage: () => 1 as never }))).toBe('(a|)', { a: 1 });
    }));
});

describe('admitted', () => {
  const desk = (): Desk => {
    const made = new Desk('desk');
    made.answer = (visit) => visit.grant(`granted ${String(visit.ask)}`);
    return made;
  };

  it('starts the call with what was granted, whatever kind of input it is', () =>
    virtual(({ flush, watch, lines }) => {
      watch(admitted<string, string, unknown>(desk(), 'x', (grant) => [`${String(grant)}!`]));
      watch(
        admitted<string, string, unknown>(
          desk(),
          () => 'y',
          (grant) => of(String(grant)),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next granted x!', '0 complete', '0 next granted y', '0 complete']);
    }));

  it('is given the grant of its own gate, also behind others', () =>
    virtual(({ flush, watch, lines }) => {
      const late = new Desk('late').holding();
      watch(admitted<unknown, string, unknown>(late, 'x', (grant) => of(grant)).pipe(admit(desk(), 'other'), admit(desk(), 'third')));
      flush();
      late.last.grant('key');
      expect(lines).toEqual(['0 next key', '0 complete']);
    }));

  it('a run that throws, or returns nothing to subscribe to, fails the call', () =>
    virtual(({ flush, watch, lines }) => {
      const gate = desk();
      watch(
        admitted(gate, 'x', () => {
          throw new Error('run');
        }),
      );
      watch(admitted(gate, 'x', () => 5 as never));
      flush();
      expect(lines[0]).toBe('0 error run');
      expect(lines[1]).toContain('5');
      gate.expectSettledOnce();
      expect(gate.visits.map(({ ends }) => ends[0]?.kind)).toEqual(['failed', 'failed']);
    }));

  it('runs nothing for a call that is refused or unsubscribed while it waits', () =>
    virtual(({ flush }) => {
      const [gate, runs] = [new Desk('g').holding(), [] as unknown[]];
      const errors: unknown[] = [];
      const call = admitted(gate, 'x', (grant) => of(runs.push(grant)));
      call.subscribe({ error: (error: unknown) => errors.push(error) });
      const sub = call.subscribe();
      gate.visits[0]?.refuse('no');
      sub.unsubscribe();
      gate.visits[1]?.grant();
      flush();
      expect([runs, errors]).toEqual([[], ['no']]);
      gate.expectSettledOnce();
    }));
});

function show(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
