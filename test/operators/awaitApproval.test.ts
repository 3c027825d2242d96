import { AsyncLocalStorage } from 'node:async_hooks';
import { defer, from, map, merge, NEVER, Observable, of, range, throwError } from 'rxjs';
import { fanOutScoped, scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { ApprovalGate, type EditableRequest } from '../../src/gates/approvalGate.js';
import { isApprovalDeniedError, isApprovalExpiredError, isBadAskError } from '../../src/gates/errors.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { approved, awaitApproval } from '../../src/operators/awaitApproval.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { keepsTheContract } from '../support/contract.js';
import { later, virtual } from '../support/virtual.js';

/** A gate that approves whatever is asked, before the asker has returned. */
function yes(): ApprovalGate {
  const gate = new ApprovalGate();
  gate.events$.subscribe((event) => {
    if (event.type === 'approval' && event.outcome === 'asked') gate.approve(event.id);
  });
  return gate;
}

/** An input that must name a file. */
const mail = (id: string): EditableRequest<{ to: string }> => ({
  id,
  input: { to: 'all' },
  validate: (edited) => {
    const { to } = edited as { to?: unknown };
    if (typeof to !== 'string') throw new TypeError('to must be a string');
    return { to };
  },
});

describe('awaitApproval', () => {
  describe('approved at once', () => keepsTheContract(() => awaitApproval(yes()), 'boom'));

  it('holds the call until it is approved', () =>
    virtual(({ cold, at, expectObservable, expectSubscriptions }) => {
      const gate = new ApprovalGate();
      const source = cold('-a|');
      expectObservable(source.pipe(awaitApproval(gate, { id: 'x' }))).toBe('-----a|');
      expectSubscriptions(source.subscriptions).toBe('----^-!');
      at(4, () => expect(gate.approve('x')).toBe(true));
    }));

  it('denied, errors with the reason, and the source is never subscribed', () =>
    virtual(({ cold, at, watch, lines, expectSubscriptions, flush }) => {
      const gate = new ApprovalGate({ name: 'desk' });
      const source = cold('-a|');
      const errors: unknown[] = [];
      watch(source.pipe(awaitApproval(gate, { id: 'x' })));
      source.pipe(awaitApproval(gate, { id: 'y' })).subscribe({ error: (error) => errors.push(error) });
      at(2, () => expect(gate.deny('x', 'too risky')).toBe(true));
      at(3, () => expect(gate.deny('y')).toBe(true));
      flush();
      expectSubscriptions(source.subscriptions).toBe([]);
      expect(lines).toEqual(['2 error Approval "x" of "desk" was denied: too risky.']);
      expect(errors.map(isApprovalDeniedError)).toEqual([true]);
      expect(errors[0]).toMatchObject({ code: 'APPROVAL_DENIED', gate: 'desk', id: 'y', reason: undefined });
    }));

  it('nobody decides in time: it expires', () =>
    virtual(({ cold, at, expectObservable, expectSubscriptions, flush }) => {
      const gate = new ApprovalGate({ name: 'desk', expiresMs: 5 });
      const source = cold('-a|');
      const errors: unknown[] = [];
      expectObservable(source.pipe(awaitApproval(gate, { id: 'longer', expiresMs: 7 })).pipe(map(() => 1)), '---------!').toBe(
        '-------#',
        undefined,
        expect.objectContaining({ id: 'longer', expiresMs: 7, code: 'APPROVAL_EXPIRED' }),
      );
      source.pipe(awaitApproval(gate, { id: 'x' })).subscribe({ error: (error) => errors.push(error) });
      at(6, () => expect(gate.approve('x')).toBe(false));
      flush();
      expectSubscriptions(source.subscriptions).toBe([]);
      expect(errors.map(isApprovalExpiredError)).toEqual([true]);
      expect(errors.map(String)).toEqual(['ApprovalExpiredError: Nobody decided on approval "x" of "desk" within 5 ms.']);
    }));

  it('decisions come in any order, and nobody else’s request is touched', () =>
    virtual(({ at, watch, lines, flush }) => {
      const gate = new ApprovalGate();
      const ids = ['a', 'b', 'c', 'd'];
      for (const id of ids) watch(of(id).pipe(awaitApproval(gate, { id })), id);
      at(1, () => gate.approve('c'));
      at(2, () => gate.deny('a'));
      at(3, () => expect(gate.pending().map(({ id }) => id)).toEqual(['b', 'd']));
      at(4, () => gate.approve('b'));
      flush();
      expect(lines.filter((line) => !line.endsWith('complete'))).toEqual([
        '1 c next c',
        '2 a error Approval "a" of "approval" was denied.',
        '4 b next b',
      ]);
      gate.deny('d');
    }));

  it('several of a fan-out wait at once, each under its own id, also when they ask for the same thing', () =>
    virtual(({ at, watch, lines, flush }) => {
      const gate = new ApprovalGate({ name: 'desk' });
      watch(
        from(['same', 'same', 'same']).pipe(fanOutScoped((what, i) => of(`${what} ${i}`).pipe(awaitApproval(gate, { payload: what })))),
      );
      at(1, () => {
        expect(gate.pending().map(({ id, payload }) => [id, payload])).toEqual([
          ['desk-1', 'same'],
          ['desk-2', 'same'],
          ['desk-3', 'same'],
        ]);
        for (const id of ['desk-2', 'desk-3', 'desk-1']) gate.approve(id);
      });
      flush();
      expect(lines).toEqual(['1 next same 1', '1 next same 2', '1 next same 0', '1 complete']);
    }));

  it('an id that somebody waits under is refused, and the first is not touched', () =>
    virtual(({ at, watch, lines, flush }) => {
      const gate = new ApprovalGate({ name: 'desk' });
      const call = of('done').pipe(awaitApproval(gate, { id: 'x' }));
      const errors: unknown[] = [];
      watch(call, 'one');
      call.subscribe({ error: (error) => errors.push(error) });
      at(1, () => gate.approve('x'));
      at(2, () => watch(call, 'again'));
      at(3, () => gate.approve('x'));
      flush();
      expect(errors.map(isBadAskError)).toEqual([true]);
      expect(String(errors[0])).toContain('Gate "desk": id of this call must be one that nobody waits under, got "x".');
      expect(lines).toEqual(['1 one next done', '1 one complete', '3 again next done', '3 again complete']);
    }));

  it('takes no edits: the call has its input already', () =>
    virtual(({ watch, lines }) => {
      const gate = new ApprovalGate();
      watch(of('x').pipe(awaitApproval(gate, mail('a'))), 'one');
      watch(of('x').pipe(awaitApproval(gate, () => mail('b'))), 'two');
      expect(gate.pending().map(({ editable }) => editable)).toEqual([false, false]);
      for (const id of ['a', 'b']) expect(() => gate.approve(id, { input: { to: 'me' } })).toThrow('takes no edited input');
      expect(lines).toEqual([]);
      for (const id of ['a', 'b']) gate.approve(id);
      expect(lines.length).toBe(4);
    }));

  describe('unsubscribed', () => {
    it('while it waits, the request is withdrawn, and later decisions find nothing', () =>
      virtual(({ cold, at, expectSubscriptions, flush }) => {
        const gate = new ApprovalGate({ expiresMs: 9 });
        const source = cold('-a|');
        const sub = source.pipe(awaitApproval(gate, { id: 'x' })).subscribe();
        at(2, () => {
          sub.unsubscribe();
          expect(gate.pending()).toEqual([]);
          expect([gate.approve('x'), gate.deny('x')]).toEqual([false, false]);
        });
        flush();
        expectSubscriptions(source.subscriptions).toBe([]);
      }));

    it('in flight, stops the call', () =>
      virtual(({ cold, at, expectSubscriptions }) => {
        const gate = new ApprovalGate();
        const source = cold('-a---|');
        const sub = source.pipe(awaitApproval(gate, { id: 'x' })).subscribe();
        at(2, () => gate.approve('x'));
        at(4, () => sub.unsubscribe());
        expectSubscriptions(source.subscriptions).toBe('--^-!');
      }));

    it('by whoever hears of the approval, never starts', () => {
      const gate = new ApprovalGate();
      let subscriptions = 0;
      const sub = defer(() => (subscriptions++, NEVER))
        .pipe(awaitApproval(gate, { id: 'x' }))
        .subscribe();
      gate.events$.subscribe(() => sub.unsubscribe());
      expect(gate.approve('x')).toBe(true);
      expect(subscriptions).toBe(0);
      expect(gate.snapshot()).toMatchObject({ pending: [], remembered: 0 });
    });

    it('a fan-out withdraws all its requests at once', () =>
      virtual(({ at, flush }) => {
        const gate = new ApprovalGate();
        const sub = range(5)
          .pipe(fanOutScoped(() => NEVER.pipe(awaitApproval(gate))))
          .subscribe();
        at(1, () => {
          expect(gate.pending().length).toBe(5);
          sub.unsubscribe();
          expect(gate.pending()).toEqual([]);
        });
        flush();
      }));
  });

  describe('a request that is kept', () => {
    const setUp = (): { gate: ApprovalGate; call: Observable<string> } => {
      const gate = new ApprovalGate({ name: 'desk', keepMs: 10 });
      return { gate, call: of('done').pipe(awaitApproval(gate, { id: 'x', keep: true })) };
    };

    it('waits on when whoever asked leaves, and is joined by whoever asks again', () =>
      virtual(({ at, watch, lines, flush }) => {
        const { gate, call } = setUp();
        const sub = watch(call, 'one');
        at(1, () => {
          sub.unsubscribe();
          expect(gate.pending()).toMatchObject([{ id: 'x', left: true }]);
        });
        at(2, () => watch(call, 'two'));
        at(3, () => {
          expect(gate.pending()).toMatchObject([{ id: 'x', left: false }]);
          gate.approve('x');
        });
        flush();
        expect(lines).toEqual(['3 two next done', '3 two complete']);
      }));

    it.each<[string, (gate: ApprovalGate) => boolean, string]>([
      ['an approval', (gate) => gate.approve('x'), '5 two next done'],
      ['a denial', (gate) => gate.deny('x', 'no'), '5 two error Approval "x" of "desk" was denied: no.'],
    ])('%s that nobody waited for is picked up once, by whoever asks again', (_, decide, expected) =>
      virtual(({ at, watch, lines, flush }) => {
        const { gate, call } = setUp();
        const sub = watch(call, 'one');
        at(1, () => sub.unsubscribe());
        at(2, () => {
          expect(decide(gate)).toBe(true);
          expect(gate.snapshot()).toMatchObject({ pending: [], remembered: 1 });
        });
        at(5, () => watch(call, 'two'));
        at(6, () => {
          watch(call, 'three');
          expect(gate.pending().length).toBe(1);
        });
        at(7, () => gate.deny('x', 'at last'));
        flush();
        expect(lines.filter((line) => !line.endsWith('complete'))).toEqual([
          expected,
          '7 three error Approval "x" of "desk" was denied: at last.',
        ]);
      }),
    );

    it('the decision is forgotten after keepMs', () =>
      virtual(({ at, watch, lines, flush }) => {
        const { gate, call } = setUp();
        const sub = watch(call, 'one');
        at(1, () => sub.unsubscribe());
        at(2, () => gate.approve('x'));
        at(12, () => watch(call, 'two'));
        at(13, () => gate.deny('x'));
        flush();
        expect(lines).toEqual(['13 two error Approval "x" of "desk" was denied.']);
      }));

    it('an approved call that never started need not be decided again', () =>
      virtual(({ at, watch, lines, flush }) => {
        const { gate } = setUp();
        const semaphore = new Semaphore({ limit: 1 });
        const call = of('done').pipe(bulkhead(semaphore), awaitApproval(gate, { id: 'x', keep: true }));
        later(5, 1).pipe(bulkhead(semaphore)).subscribe();
        const sub = watch(call, 'one');
        at(1, () => gate.approve('x'));
        at(2, () => {
          sub.unsubscribe();
          expect(gate.snapshot()).toMatchObject({ pending: [], remembered: 1 });
        });
        at(3, () => watch(call, 'two'));
        flush();
        expect(lines).toEqual(['5 two next done', '5 two complete']);
        expect(gate.snapshot()).toMatchObject({ pending: [], remembered: 0 });
      }));

    it('still expires, and can be asked anew then', () =>
      virtual(({ at, watch, lines, flush }) => {
        const gate = new ApprovalGate({ name: 'desk', expiresMs: 4 });
        const call = of('done').pipe(awaitApproval(gate, { id: 'x', keep: true }));
        const sub = watch(call, 'one');
        at(1, () => sub.unsubscribe());
        at(5, () => {
          expect(gate.pending()).toEqual([]);
          watch(call, 'two');
        });
        at(6, () => gate.approve('x'));
        flush();
        expect(lines).toEqual(['6 two next done', '6 two complete']);
      }));
  });

  it('a function is asked for each subscription, and what it throws fails that call only', () =>
    virtual(({ watch, lines }) => {
      const gate = new ApprovalGate({ name: 'desk' });
      const answers: unknown[] = [{ id: 'x' }, { id: '' }, null, { keep: true }, { id: 'y', expiresMs: -1 }, { title: 5 }, new Error('no')];
      const call = of('done').pipe(
        awaitApproval(gate, () => {
          const answer = answers.shift();
          if (answer instanceof Error) throw answer;
          return answer as object;
        }),
      );
      for (let i = answers.length; i > 0; i--) watch(call);
      expect(lines).toEqual([
        '0 error Gate "desk": id of this call must be a string that is not empty, got "".',
        '0 error Gate "desk": request of this call must be an object, got null.',
        '0 error Gate "desk": id of this call must be given where `keep` is true, got undefined.',
        '0 error Gate "desk": expiresMs of this call must be a number of milliseconds, 0 or more, or Infinity, got -1.',
        '0 error Gate "desk": title of this call must be a string, got 5.',
        '0 error no',
      ]);
      expect(gate.pending().map(({ id }) => id)).toEqual(['x']);
      gate.approve('x');
    }));

  it('bad arguments throw where the operator is made', () => {
    const gate = new ApprovalGate();
    expect(() => awaitApproval(gate, { id: 5 } as never)).toThrow(
      new TypeError('awaitApproval: id must be a string that is not empty, got 5.'),
    );
    expect(() => awaitApproval(gate, { keep: true })).toThrow('awaitApproval: id must be given where `keep` is true');
    expect(() => awaitApproval({} as never)).toThrow('awaitApproval: gate must be a gate');
    expect(() => approved({} as never, mail('x'), () => NEVER)).toThrow('approved: gate must be a gate');
    expect(() => approved(gate, null as never, () => NEVER)).toThrow('approved: request must be an object, got null.');
    expect(() => approved(gate, mail('x'), 5 as never)).toThrow('approved: run must be a function');
    expect(() => approved(gate, { input: 1, validate: 5 as never }, () => NEVER)).toThrow('approved: validate must be a function');
  });

  it('100,000 requests wait, are decided from the last to the first, and use no stack #11', () =>
    virtual(({ flush }) => {
      const gate = new ApprovalGate({ expiresMs: 1_000 });
      const count = 100_000;
      let seen = 0;
      for (let i = 0; i < count; i++)
        of(i)
          .pipe(awaitApproval(gate, { id: `${i}` }))
          .subscribe(() => seen++);
      for (let i = count - 1; i >= 0; i--) gate.approve(`${i}`);
      expect(seen).toBe(count);
      flush();
      expect(gate.pending()).toEqual([]);
    }));

  it('each caller keeps its async context, whoever decides', () => {
    const user = new AsyncLocalStorage<string>();
    const gate = new ApprovalGate();
    const seen: string[] = [];
    for (const name of ['alice', 'bob'])
      user.run(name, () =>
        defer(() => of(user.getStore()))
          .pipe(awaitApproval(gate, { id: name }))
          .subscribe({
            next: (who) => seen.push(`${name} runs as ${who}`),
            complete: () => seen.push(`${name} ends as ${user.getStore()}`),
          }),
      );
    user.run('boss', () => ['bob', 'alice'].forEach((id) => gate.approve(id)));
    expect(seen).toEqual(['bob runs as bob', 'bob ends as bob', 'alice runs as alice', 'alice ends as alice']);
  });
});

describe('approved', () => {
  it('runs with the input that was asked for', () =>
    virtual(({ watch, lines, at, flush }) => {
      const gate = new ApprovalGate();
      watch(approved(gate, mail('x'), ({ to }) => of(to)));
      at(3, () => gate.approve('x'));
      flush();
      expect(lines).toEqual(['3 next all', '3 complete']);
    }));

  it('runs with the edited input, once that has passed the request’s own check', () =>
    virtual(({ watch, lines, at, flush }) => {
      const gate = new ApprovalGate();
      watch(approved(gate, mail('x'), ({ to }) => [to]));
      at(1, () => {
        expect(() => gate.approve('x', { input: { to: 5 } })).toThrow('to must be a string');
        expect(gate.pending()).toMatchObject([{ id: 'x', input: { to: 'all' }, editable: true }]);
      });
      at(2, () => expect(gate.approve('x', { input: { to: 'me', cc: 'all' } })).toBe(true));
      flush();
      expect(lines).toEqual(['2 next me', '2 complete']);
    }));

  it('an edit without a check, or with one that answers later, is told to whoever edited', () => {
    const gate = new ApprovalGate();
    const sub = merge(
      approved(gate, { id: 'a', input: 1 }, () => NEVER),
      approved(gate, { id: 'b', input: 1, validate: (async () => Promise.reject(new Error('later'))) as never }, () => NEVER),
    ).subscribe();
    expect(() => gate.approve('a', { input: 2 })).toThrow('ApprovalGate: this request takes no edited input, for it has no `validate`.');
    expect(() => gate.approve('b', { input: 2 })).toThrow('must return the input itself, not a promise of it');
    expect(gate.pending().length).toBe(2);
    sub.unsubscribe();
  });

  it('a check that decides the same request meanwhile is too late', () =>
    virtual(({ watch, lines }) => {
      const gate = new ApprovalGate();
      const validate = (edited: unknown): number => (gate.deny('x', 'changed my mind'), edited as number);
      watch(approved(gate, { id: 'x', input: 1, validate }, (n) => [n]));
      expect(gate.approve('x', { input: 2 })).toBe(false);
      expect(lines).toEqual(['0 error Approval "x" of "approval" was denied: changed my mind.']);
    }));

  it('what `run` throws, and what its source errors with, is the error of the call', () =>
    virtual(({ watch, lines }) => {
      const gate = yes();
      watch(approved(gate, { input: 1 }, () => throwError(() => 'boom')));
      watch(
        approved(gate, { input: 1 }, () => {
          throw new Error('cannot start');
        }),
      );
      expect(lines).toEqual(['0 error boom', '0 error cannot start']);
    }));

  it('joins other gates, and the edited input reaches the call through them', () =>
    virtual(({ watch, lines, at, flush }) => {
      const gate = new ApprovalGate();
      const semaphore = new Semaphore({ limit: 1 });
      watch(scoped(() => approved(gate, mail('x'), ({ to }) => later(1, to)).pipe(bulkhead(semaphore))));
      at(2, () => gate.approve('x', { input: { to: 'me' } }));
      flush();
      expect(lines).toEqual(['3 next me', '3 complete']);
      expect(semaphore.snapshot().inUse).toBe(0);
    }));

  it('is cold: each subscription asks anew', () =>
    virtual(({ watch, lines }) => {
      const gate = new ApprovalGate({ name: 'desk' });
      let asked = 0;
      const call = approved(
        gate,
        () => ({ input: ++asked }),
        (n) => [n],
      );
      expect(asked).toBe(0);
      watch(call, 'one');
      watch(call, 'two');
      gate.approve('desk-2');
      gate.approve('desk-1');
      expect(lines.filter((line) => line.includes('next'))).toEqual(['0 two next 2', '0 one next 1']);
    }));

  it('a remembered approval is for what was asked, and carries the input that was approved', () =>
    virtual(({ watch, lines }) => {
      const gate = new ApprovalGate();
      const ask = (to: string): Observable<string> => approved(gate, { ...mail('x'), input: { to }, keep: true }, (input) => [input.to]);
      ask('all').subscribe().unsubscribe();
      gate.approve('x', { input: { to: 'me' } });
      watch(ask('all'));
      expect(lines).toEqual(['0 next me', '0 complete']);
      ask('all').subscribe().unsubscribe();
      gate.approve('x', { input: { to: 'me' } });
      watch(ask('everybody'), 'other');
      expect(lines).toHaveLength(2);
      expect(gate.snapshot()).toMatchObject({ pending: [{ id: 'x', input: { to: 'everybody' }, left: false }], remembered: 0 });
      gate.deny('x');
    }));
});
