import { concat, NEVER, of, Subject, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Caller, Lease } from '../../src/gates/gate.js';
import { admit } from '../../src/operators/admit.js';
import { later, virtual } from '../support/virtual.js';
import { Desk } from './admitHarness.js';

/** A lease that counts what is done with it. */
class Slip implements Lease<number> {
  settled = 0;
  released = 0;
  settle(): void {
    this.settled++;
  }
  release(): void {
    this.released++;
  }
}

describe('a gate that does not keep to the port harms nobody else', () => {
  it('granting twice: the call runs once, and the second lease is given back', () =>
    virtual(({ cold, flush, expectSubscriptions, at }) => {
      const desk = new Desk('g');
      const slips = [new Slip(), new Slip(), new Slip()] as const;
      const source = cold('--a--|');
      desk.answer = (visit) => {
        visit.caller.granted(slips[0], undefined);
        visit.caller.granted(slips[0], undefined);
        visit.caller.granted(slips[1], undefined);
      };
      source.pipe(admit(desk, undefined)).subscribe();
      at(3, () => desk.last.caller.granted(slips[2], undefined));
      at(4, () => expect(slips.map(({ settled, released }) => [settled, released])).toEqual([[0, 0], [1, 1], [1, 1]])); // prettier-ignore
      flush();
      expectSubscriptions(source.subscriptions).toBe('^----!');
      expect(slips.map(({ settled, released }) => [settled, released])).toEqual([[1, 1], [1, 1], [1, 1]]); // prettier-ignore
    }));

  it('granting again while or after it is settled: what it grants is given back', () =>
    virtual(({ flush }) => {
      for (const when of ['settle', 'release', 'pump', 'begin', 'report']) {
        const desk = new Desk('g');
        const slip = new Slip();
        desk.on = (what, { caller }) => {
          if (what.startsWith(when)) caller.granted(slip, undefined);
        };
        of(1)
          .pipe(admit(desk, undefined, { usage: (value) => value }))
          .subscribe();
        flush();
        desk.expectSettledOnce();
        expect([when, slip.settled, slip.released]).toEqual([when, 1, 1]);
      }
    }));

  it('granting and refusing: the first answer counts', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('g');
      desk.answer = (visit) => {
        if (desk.visits.length === 1) {
          visit.grant();
          visit.refuse();
        } else {
          visit.refuse('no');
          visit.grant();
        }
      };
      watch(of('a').pipe(admit(desk, undefined)), '1');
      watch(of('a').pipe(admit(desk, undefined)), '2');
      flush();
      expect(lines).toEqual(['0 1 next a', '0 1 complete', '0 2 error no']);
      desk.expectSettledOnce();
    }));

  it('refusing twice, or refusing what runs, or after the end', () =>
    virtual(({ flush, watch, lines, at }) => {
      const desk = new Desk('g');
      desk.answer = (visit) => {
        if (desk.visits.length > 1) return visit.grant();
        visit.refuse('one');
        visit.refuse('two');
      };
      watch(later(2, 'a').pipe(admit(desk, undefined)), '1');
      watch(later(2, 'a').pipe(admit(desk, undefined)), '2');
      at(1, () => desk.last.refuse('late'));
      at(3, () => desk.visits.forEach((visit) => (visit.refuse('later'), visit.revoke())));
      flush();
      expect(lines).toEqual(['0 1 error one', '2 2 next a', '2 2 complete']);
      desk.expectSettledOnce();
    }));

  it('revoking what it has not granted: refused', () =>
    virtual(({ flush, watch, lines, at }) => {
      const desk = new Desk('g');
      desk.answer = (visit) => {
        if (desk.visits.length > 1) return;
        visit.revoke('before');
        visit.grant();
      };
      watch(of('a').pipe(admit(desk, undefined)), '1');
      watch(of('a').pipe(admit(desk, undefined)), '2');
      at(1, () => {
        desk.last.revoke('while waiting');
        desk.last.grant();
      });
      flush();
      expect(lines).toEqual(['0 1 error before', '1 2 error while waiting']);
      desk.expectSettledOnce();
    }));

  it('revoking inside enter, right after the grant: the source is not subscribed', () =>
    virtual(({ flush, watch, lines, cold, expectSubscriptions }) => {
      const [desk, inner] = [new Desk('g'), new Desk('inner')];
      desk.answer = (visit) => {
        visit.grant();
        visit.revoke('second thoughts');
        visit.revoke('third thoughts');
      };
      const source = cold('a|');
      watch(source.pipe(admit(inner, undefined), admit(desk, undefined)));
      flush();
      expect(lines).toEqual(['0 error second thoughts']);
      expectSubscriptions(source.subscriptions).toBe([]);
      expect(inner.visits).toEqual([]);
      desk.expectSettledOnce();
    }));

  it('throwing from enter refuses the call, falsy things too', () =>
    virtual(({ flush, watch, lines }) => {
      for (const thrown of [new Error('enter'), 0, undefined]) {
        const [desk, outer] = [new Desk('g'), new Desk('outer')];
        desk.answer = () => {
          throw thrown;
        };
        watch(of('a').pipe(admit(desk, undefined), admit(outer, undefined)));
        flush();
        expect(outer.last.ends).toMatchObject([{ kind: 'failed', started: false, error: thrown }]);
        outer.expectSettledOnce();
      }
      expect(lines).toEqual(['0 error enter', '0 error 0', '0 error undefined']);
    }));

  it.each(['grant', 'refuse'] as const)(
    'throwing from enter after it has answered (%s): the answer stands, the error is reported',
    (answer) =>
      virtual(({ flush, watch, lines }) => {
        const desk = new Desk('g');
        desk.answer = (visit) => {
          visit[answer]();
          throw new Error('afterwards');
        };
        watch(of('a').pipe(admit(desk, undefined)));
        expect(() => flush()).toThrow('afterwards');
        expect(lines).toEqual(answer === 'grant' ? ['0 next a', '0 complete'] : ['0 error g refuses']);
        desk.expectSettledOnce();
      }),
  );

  it.each(['begin', 'settle', 'release', 'pump'])('throwing from %s: reported as uncaught, and the other gates hear of the end', (where) =>
    virtual(({ flush, watch, lines }) => {
      const [inner, middle, outer] = [new Desk('inner'), new Desk('middle'), new Desk('outer')];
      middle.on = (what) => {
        if (what.startsWith(where)) throw new Error(where);
      };
      watch(of('a').pipe(admit(inner, undefined), admit(middle, undefined), admit(outer, undefined)));
      expect(() => flush()).toThrow(where);
      expect(lines).toEqual(['0 next a', '0 complete']);
      for (const desk of [inner, middle, outer]) {
        desk.expectSettledOnce();
        expect(desk.last.history).toEqual(['granted', 'begin', 'settle completed', 'release', 'pump']);
      }
    }),
  );

  it.each(['settle', 'release', 'withdraw'])(
    'throwing from %s when the call is cancelled: nothing is thrown out of unsubscribe()',
    (where) =>
      virtual(({ flush }) => {
        const [inner, middle, outer] = [new Desk('inner'), new Desk('middle'), new Desk('outer')];
        if (where === 'withdraw') middle.holding();
        middle.on = (what) => {
          if (what.startsWith(where)) throw new Error(where);
        };
        const sub = NEVER.pipe(admit(inner, undefined), admit(middle, undefined), admit(outer, undefined)).subscribe();
        expect(() => sub.unsubscribe()).not.toThrow();
        expect(() => flush()).toThrow(where);
        for (const desk of [inner, middle, outer]) desk.expectSettledOnce();
      }),
  );

  it('throwing from report fails the call as a throwing usage does', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('g');
      desk.on = (what) => {
        if (what === 'report 2') throw new Error('report');
      };
      watch(of(1, 2, 3).pipe(admit(desk, undefined, { usage: (value) => value })));
      flush();
      expect(lines).toEqual(['0 next 1', '0 error report']);
      desk.expectSettledOnce();
      expect(desk.last.ends).toMatchObject([{ kind: 'failed', emitted: 1 }]);
    }));

  it('answering after the call was withdrawn: a late grant is given back, anything else is ignored', () =>
    virtual(({ flush, watch, lines, at }) => {
      const desk = new Desk('g').holding();
      const slip = new Slip();
      const sub = watch(of('a').pipe(admit(desk, undefined)));
      at(1, () => sub.unsubscribe());
      at(2, () => {
        const { caller } = desk.last;
        caller.refused(new Error('late'));
        caller.revoked(new Error('late'));
        caller.granted(slip, undefined);
        caller.granted(slip, undefined);
        caller.revoked(new Error('late'));
      });
      flush();
      expect(lines).toEqual([]);
      expect([slip.settled, slip.released]).toEqual([1, 1]);
    }));

  it('answering after the gate was left by a refusal of its own', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('g').holding();
      const slip = new Slip();
      watch(of('a').pipe(admit(desk, undefined)));
      desk.last.refuse('no');
      desk.last.caller.granted(slip, undefined);
      flush();
      expect(lines).toEqual(['0 error no']);
      expect([slip.settled, slip.released]).toEqual([1, 1]);
    }));

  it('returning nothing from enter', () =>
    virtual(({ flush, watch, lines }) => {
      let kept: Caller | undefined;
      const gate = { name: 'g', enter: (_ask: unknown, _call: unknown, caller: Caller) => void (kept = caller) };
      const sub = watch(of('a').pipe(admit(gate as never, undefined)));
      sub.unsubscribe();
      watch(of('a').pipe(admit(gate as never, undefined)));
      kept?.granted(new Slip());
      flush();
      expect(lines).toEqual(['0 next a', '0 complete']);
    }));

  it('answering in the middle of somebody else’s answer', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('g').holding();
      const source = new Subject<string>();
      watch(concat(of('first'), source).pipe(admit(desk, undefined)), '1');
      watch(of('second').pipe(admit(desk, undefined)), '2');
      watch(throwError(() => 'third').pipe(admit(desk, undefined)), '3');
      desk.on = (what, visit) => {
        if (what === 'begin' && visit.name === 'g1') desk.visits[1]?.grant();
        if (what === 'settle completed' && visit.name === 'g2') desk.visits[2]?.grant();
      };
      desk.visits[0]?.grant();
      source.complete();
      flush();
      expect(lines).toEqual(['0 2 next second', '0 3 error third', '0 2 complete', '0 1 next first', '0 1 complete']);
      desk.expectSettledOnce();
    }));
});
