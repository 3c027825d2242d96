import { concat, defer, merge, NEVER, Observable, of, Subject, throwError } from 'rxjs';
import { fanOutScoped, scoped, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import type { CallEnd, Withdraw } from '../../src/gates/gate.js';
import { admit } from '../../src/operators/admit.js';
import { failing, later, pause, torn, virtual } from '../support/virtual.js';
import { Desk, type Visit } from './admitHarness.js';

const settledKinds = (desk: Desk): string[] => desk.visits.flatMap(({ ends }) => ends.map(({ kind }) => kind));

/** A desk that lets a failed call enter again, `times` times; it waits for the test to grant each of them. */
function retrying(note: (what: string) => void, times: number, answer: (visit: Visit) => void = () => {}): Desk {
  const desk = new Desk('retry', note);
  let left = times;
  desk.verdict = (visit: Visit, { kind }: CallEnd): (() => Withdraw) | void => {
    if (kind !== 'failed' || left-- <= 0) return;
    return () => {
      note(`${visit.name} enters again`);
      answer(visit);
      return () => visit.withdraw();
    };
  };
  return desk;
}

/** Fails `times` times, then emits. */
function flaky(times: number, wait = 0): Observable<string> {
  let left = times;
  const attempt = defer(() => (left-- > 0 ? throwError(() => new Error(`failure ${times - left}`)) : of('done')));
  return wait === 0 ? attempt : concat(pause(wait), attempt);
}

describe('a gate that wants another attempt', () => {
  it('tells nobody downstream: the source is subscribed again once the gate grants', () =>
    virtual(({ cold, at, expectObservable, expectSubscriptions }) => {
      const desk = retrying(() => {}, 1);
      const attempts = [cold('-#'), cold('--b|')];
      const source = defer(() => attempts.shift() as Observable<string>);
      const [one, two] = attempts as [(typeof attempts)[0], (typeof attempts)[0]];
      expectObservable(source.pipe(admit(desk, undefined))).toBe('-------b|');
      at(5, () => desk.last.grant());
      expectSubscriptions(one.subscriptions).toBe('^!');
      expectSubscriptions(two.subscriptions).toBe('-----^--!');
    }));

  it('lets the inner gates go and enters them anew, and leaves the outer ones alone', () =>
    virtual(({ at, flush, watch, lines, note }) => {
      const [inner, outer] = [new Desk('inner', note), new Desk('outer', note)];
      const retry = retrying(note, 1);
      watch(torn(() => note('torn down'), flaky(1, 2)).pipe(admit(inner, undefined), admit(retry, undefined), admit(outer, undefined)));
      at(5, () => retry.last.grant());
      flush();
      expect(lines).toEqual([
        '0 outer1 enter',
        '0 retry1 enter',
        '0 inner1 enter',
        '0 outer1 begin',
        '0 retry1 begin',
        '0 inner1 begin',
        '2 torn down',
        '2 inner1 settle failed',
        '2 inner1 release',
        '2 retry1 settle failed',
        '2 retry1 release',
        '2 inner1 pump',
        '2 retry1 pump',
        '2 retry1 enters again',
        '5 inner2 enter',
        '5 outer1 begin',
        '5 retry1 begin',
        '5 inner2 begin',
        '7 next done',
        '7 torn down',
        '7 inner2 settle completed',
        '7 inner2 release',
        '7 retry1 settle completed',
        '7 retry1 release',
        '7 outer1 settle completed',
        '7 outer1 release',
        '7 complete',
        '7 inner2 pump',
        '7 retry1 pump',
        '7 outer1 pump',
      ]);
      for (const desk of [inner, outer]) desk.expectSettledOnce();
      expect(retry.last.history.filter((what) => /granted|settle|release/.test(what))).toEqual([
        'granted',
        'settle failed',
        'release',
        'granted',
        'settle completed',
        'release', // prettier-ignore
      ]);
    }));

  it('the call knows its attempt, and whether this attempt has started', () =>
    virtual(({ at, flush, watch }) => {
      const seen: string[] = [];
      const retry = retrying(() => {}, 2);
      const inner = new Desk('inner');
      const look = (when: string): void => {
        const { attempt, started } = retry.last.call;
        seen.push(`${when} ${attempt} ${started}`);
      };
      inner.answer = (visit) => (look('inner'), visit.grant());
      retry.on = look;
      watch(flaky(2, 1).pipe(admit(inner, undefined), admit(retry, undefined)));
      at(3, () => retry.last.grant());
      at(6, () => retry.last.grant());
      flush();
      expect(seen).toEqual([
        'inner 1 false',
        'begin 1 true',
        'settle failed 1 true',
        'release 1 true',
        'pump 2 false',
        'inner 2 false',
        'begin 2 true',
        'settle failed 2 true',
        'release 2 true',
        'pump 3 false',
        'inner 3 false',
        'begin 3 true',
        'settle completed 3 true',
        'release 3 true',
        'pump 3 true', // prettier-ignore
      ]);
    }));

  it('asks anew in each attempt, of the inner gates only', () =>
    virtual(({ flush, watch, lines }) => {
      let calls = 0;
      const [inner, outer] = [new Desk('inner'), new Desk('outer')];
      const retry = retrying(
        () => {},
        2,
        (visit) => void pause(0).subscribe({ complete: () => visit.grant() }),
      );
      watch(
        flaky(2, 1).pipe(
          admit(inner, () => calls++),
          admit(retry, () => 'retry'),
          admit(outer, () => 'outer'),
        ),
      );
      flush();
      expect([calls, inner.visits.map(({ ask }) => ask), outer.visits.length, retry.visits.length]).toEqual([3, [0, 1, 2], 1, 1]);
      expect(lines.at(-1)).toContain('complete');
    }));

  it('settles each attempt on its own, but counts what was forwarded in all', () =>
    virtual(({ at, flush, watch, lines }) => {
      const retry = retrying(() => {}, 1);
      let attempt = 0;
      const source = defer(() => (attempt++ === 0 ? concat(of('a'), failing(1, new Error('half'))) : of('b')));
      watch(source.pipe(admit(retry, undefined)));
      at(3, () => retry.last.grant());
      flush();
      expect(lines).toEqual(['0 next a', '3 next b', '3 complete']);
      expect(retry.last.ends).toMatchObject([
        { kind: 'failed', started: true, emitted: 1, last: 'a', error: new Error('half') },
        { kind: 'completed', started: true, emitted: 2, last: 'b', error: undefined },
      ]);
    }));

  it('a call that was refused by an inner gate may come again as well', () =>
    virtual(({ at, flush, watch, lines }) => {
      const [inner, retry] = [new Desk('inner'), retrying(() => {}, 1)];
      inner.answer = (visit) => (inner.visits.length === 1 ? visit.refuse('full') : visit.grant());
      watch(of('a').pipe(admit(inner, undefined), admit(retry, undefined)));
      at(2, () => retry.last.grant());
      flush();
      expect(lines).toEqual(['2 next a', '2 complete']);
      expect(retry.last.ends[0]).toMatchObject({ kind: 'failed', started: false, error: 'full' });
      inner.expectSettledOnce();
    }));

  it('gives up: the last error goes out as it is', () =>
    virtual(({ flush, watch, lines, at }) => {
      const retry = retrying(() => {}, 1);
      watch(flaky(5).pipe(admit(retry, undefined)));
      at(1, () => retry.last.grant());
      flush();
      expect(lines).toEqual(['1 error failure 2']);
    }));

  it.each([
    ['refuses', (visit: Visit) => visit.refuse('later no')],
    [
      'throws',
      () => {
        throw new Error('later no'); // prettier-ignore
      },
    ],
    ['refuses later', () => {}],
  ])('and then %s: that is the end', (_, answer) =>
    virtual(({ flush, watch, lines, at }) => {
      const outer = new Desk('outer');
      const retry = retrying(() => {}, 1, answer);
      watch(flaky(5).pipe(admit(retry, undefined), admit(outer, undefined)));
      at(1, () => retry.last.refuse('later no'));
      flush();
      expect(lines.map((line) => line.slice(2))).toEqual(['error later no']);
      expect(settledKinds(outer)).toEqual(['failed']);
      expect(outer.last.ends).toMatchObject([{ started: false }]);
      outer.expectSettledOnce();
    }),
  );

  describe('a call that is no longer wanted', () => {
    it('#22 while it waits for its next attempt: withdrawn in that frame, and never subscribed again', () =>
      virtual(({ cold, at, expectSubscriptions, note, lines, flush, watch }) => {
        const outer = new Desk('outer', note);
        const retry = retrying(note, 1);
        const source = cold('-#');
        const sub = watch(source.pipe(admit(retry, undefined), admit(outer, undefined)));
        at(3, () => sub.unsubscribe());
        at(4, () => retry.last.grant());
        flush();
        expectSubscriptions(source.subscriptions).toBe('^!');
        expect(lines.slice(-6)).toEqual([
          '1 retry1 enters again',
          '3 retry1 withdraw',
          '3 outer1 settle cancelled',
          '3 outer1 release',
          '4 retry1 settle cancelled',
          '4 retry1 release',
        ]);
        expect(outer.last.ends).toMatchObject([{ kind: 'cancelled', started: false }]);
      }));

    it.each(['settle failed', 'release', 'pump'])('left while that gate hears of %s: it does not enter again', (when) =>
      virtual(({ flush, watch, lines, note }) => {
        const [inner, outer] = [new Desk('inner'), new Desk('outer')];
        for (const desk of ['retry', 'inner']) {
          const retry = retrying(note, 1);
          const sub = watch(flaky(1, 1).pipe(admit(inner, undefined), admit(retry, undefined), admit(outer, undefined)));
          (desk === 'retry' ? retry : inner).on = (what) => void (what === when && sub.unsubscribe());
          flush();
          for (const each of [inner, retry, outer]) each.expectSettledOnce();
        }
        expect(lines.filter((line) => /again|error|complete$/.test(line))).toEqual([]);
      }),
    );

    it.each(['settle failed', 'release', 'pump'])('its scope cancelled while that gate hears of %s: every gate is let go', (when) =>
      virtual(({ flush, watch, lines, note }) => {
        const [inner, outer] = [new Desk('inner'), new Desk('outer')];
        const retry = retrying(note, 1);
        let scope: Scope | undefined;
        watch(
          scoped((each) => {
            scope = each;
            return flaky(1, 1).pipe(admit(inner, undefined), admit(retry, undefined), admit(outer, undefined));
          }),
        );
        retry.on = (what) => void (what === when && scope?.cancel());
        flush();
        for (const each of [inner, retry, outer]) each.expectSettledOnce();
        expect(lines.filter((line) => /again/.test(line))).toEqual([]);
        expect(lines.filter((line) => /^1 (complete|error)/.test(line))).toHaveLength(1);
      }),
    );

    it.each(['settle completed', 'release'])('its scope cancelled while a gate that polls hears of %s: every gate is let go', (when) =>
      virtual(({ flush, watch, lines }) => {
        const [poll, outer] = [new Desk('poll'), new Desk('outer')];
        const again: string[] = [];
        poll.verdict = () => () => (again.push('entered'), () => {});
        let scope: Scope | undefined;
        watch(
          scoped((each) => {
            scope = each;
            return later(1, 'a').pipe(admit(poll, undefined), admit(outer, undefined));
          }),
        );
        poll.on = (what) => void (what === when && scope?.cancel());
        flush();
        for (const desk of [poll, outer]) desk.expectSettledOnce();
        expect([again, lines]).toEqual([[], ['1 next a', '1 complete']]);
      }),
    );

    it('left between two attempts after it had waited: its first withdrawal is not repeated', () =>
      virtual(({ flush, watch, at, lines }) => {
        const retry = retrying(() => {}, 1).holding();
        const sub = watch(flaky(1, 1).pipe(admit(retry, undefined)));
        retry.on = (what) => void (what === 'pump' && sub.unsubscribe());
        at(2, () => retry.last.grant());
        flush();
        expect(lines).toEqual([]);
        expect(retry.last.history).toEqual(['granted', 'begin', 'settle failed', 'release', 'pump']);
      }));

    it('left inside the re-entry: what is answered is given back', () =>
      virtual(({ flush, watch, lines }) => {
        const outer = new Desk('outer');
        const retry = retrying(
          () => {},
          1,
          (visit) => {
            sub.unsubscribe();
            visit.grant();
          },
        );
        const sub = watch(flaky(1, 1).pipe(admit(retry, undefined), admit(outer, undefined)));
        flush();
        expect(lines).toEqual([]);
        expect(settledKinds(outer)).toEqual(['cancelled']);
        expect(retry.last.history.slice(-3)).toEqual(['granted', 'settle cancelled', 'release']);
        outer.expectSettledOnce();
      }));

    it('revoked by an outer gate while it waits for its next attempt', () =>
      virtual(({ flush, watch, lines, at }) => {
        const outer = new Desk('outer');
        const retry = retrying(() => {}, 1);
        watch(flaky(1, 1).pipe(admit(retry, undefined), admit(outer, undefined)));
        at(3, () => outer.last.revoke('tripped'));
        flush();
        expect(lines).toEqual(['3 error tripped']);
        expect(retry.last.history.at(-1)).toBe('withdraw');
        outer.expectSettledOnce();
      }));
  });

  it('is not asked after a cancel, and what it returns for one is ignored', () =>
    virtual(({ flush, watch, lines, at }) => {
      const desk = new Desk('g');
      const entered: string[] = [];
      desk.verdict =
        (_, { kind }) =>
        () => (entered.push(kind), () => {});
      const sub = watch(NEVER.pipe(admit(desk, undefined)));
      at(1, () => sub.unsubscribe());
      watch(NEVER.pipe(admit(desk, undefined)));
      at(2, () => desk.last.revoke('revoked'));
      flush();
      expect([entered, lines]).toEqual([[], ['2 error revoked']]);
      desk.expectSettledOnce();
    }));

  it('may also follow a success, as polling does', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('poll');
      desk.verdict = (visit, { emitted }) => (emitted >= 3 ? undefined : () => (timerGrant(visit), () => {}));
      const timerGrant = (visit: Visit): void => void pause(1).subscribe({ complete: () => visit.grant() });
      watch(of('x').pipe(admit(desk, undefined)));
      flush();
      expect(lines).toEqual(['0 next x', '1 next x', '2 next x', '2 complete']);
    }));

  it('#2 nothing of the attempt before runs when the next begins: it waits for calls that do not stop, at most the grace', () =>
    virtual(({ flush, watch, lines, note }) => {
      const retry = retrying(note, 1, (visit) => visit.grant());
      let attempt = 0;
      const deaf = (ctx: Scope): Observable<never> => new Observable<never>(() => () => ctx.track(pause(20), 'deaf'));
      const source = defer(() =>
        of(1, 2).pipe(fanOutScoped((n, _i, ctx) => (++attempt > 2 ? of(n) : n === 1 ? deaf(ctx) : failing(1, new Error('boom'))))),
      );
      watch(source.pipe(admit(retry, undefined)));
      flush();
      expect(lines.filter((line) => /again|next|complete$/.test(line))).toEqual([
        '21 retry1 enters again',
        '21 next 1',
        '21 next 2',
        '21 complete',
      ]);
    }));

  it('a signal taken in one attempt is not that of the next', () =>
    virtual(({ flush, watch, at }) => {
      const signals: AbortSignal[] = [];
      const inner = new Desk('inner');
      const retry = retrying(() => {}, 1);
      inner.answer = (visit) => (signals.push(visit.call.scope.signal), visit.grant());
      watch(flaky(1, 1).pipe(admit(inner, undefined), admit(retry, undefined)));
      at(2, () => retry.last.grant());
      flush();
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
    }));

  it('calls behind one another are retried each on their own', () =>
    virtual(({ flush, watch, lines }) => {
      const note = (): void => {};
      const [one, two] = [retrying(note, 1), retrying(note, 1)];
      const soon = (desk: Desk): void => {
        const verdict = desk.verdict;
        desk.verdict = (visit, end) => {
          const again = verdict(visit, end);
          return again && (() => (pause(1).subscribe({ complete: () => visit.grant() }), again()));
        };
      };
      soon(one);
      soon(two);
      watch(flaky(3).pipe(admit(one, undefined), admit(two, undefined)));
      flush();
      expect(lines).toEqual(['2 error failure 3']);
      const [inner1, inner2] = one.visits;
      expect([inner1?.ends.length, inner2?.ends.length, two.last.ends.length]).toEqual([2, 1, 2]);
    }));

  it('1,000 attempts through a scheduler use no stack', () =>
    virtual(({ flush, watch, lines }) => {
      const retry = new Desk('retry');
      retry.verdict = (visit, { kind }) =>
        kind === 'failed' ? () => (pause(0).subscribe({ complete: () => visit.grant() }), () => {}) : undefined;
      watch(flaky(1000).pipe(admit(retry, undefined)));
      flush();
      expect(lines).toEqual(['0 next done', '0 complete']);
      expect(retry.last.ends).toHaveLength(1001);
    }));

  it('in several calls at once, each keeps its own count', () =>
    virtual(({ flush, watch, lines }) => {
      const retry = new Desk('retry');
      retry.verdict = (visit, { kind }) =>
        kind === 'failed' ? () => (pause(1).subscribe({ complete: () => visit.grant() }), () => {}) : undefined;
      const attempts = (): readonly number[] => retry.visits.map(({ call }) => call.attempt);
      watch(merge(...[0, 1, 2].map((times) => flaky(times).pipe(admit(retry, undefined)))));
      flush();
      expect(attempts()).toEqual([1, 2, 3]);
      expect(lines).toEqual(['0 next done', '1 next done', '2 next done', '2 complete']);
    }));

  it('that was left by a source which ends in its own teardown is not confused', () =>
    virtual(({ flush, watch, lines, at }) => {
      const retry = retrying(() => {}, 1);
      const subject = new Subject<string>();
      const source = new Observable<string>((out) => {
        subject.subscribe(out);
        return () => subject.next('in teardown');
      });
      watch(source.pipe(admit(retry, undefined)));
      at(1, () => subject.error(new Error('boom')));
      at(2, () => retry.last.refuse('enough'));
      flush();
      expect(lines).toEqual(['2 error enough']);
    }));
});
