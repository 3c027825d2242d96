import fc from 'fast-check';
import { NEVER, of, VirtualTimeScheduler, type SchedulerAction, type SchedulerLike, type Subscription } from 'rxjs';
import { scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { ApprovalGate } from '../../src/gates/approvalGate.js';
import { approved, awaitApproval } from '../../src/operators/awaitApproval.js';
import { later, virtual } from '../support/virtual.js';

describe('ApprovalGate', () => {
  it.each([
    [{ expiresMs: -1 }, RangeError, 'ApprovalGate: expiresMs must be a number of milliseconds, 0 or more, or Infinity, got -1.'],
    [{ expiresMs: Number.NaN }, RangeError, 'ApprovalGate: expiresMs must be a number of milliseconds, 0 or more, or Infinity, got NaN.'],
    [{ keepMs: '1' }, TypeError, 'ApprovalGate: keepMs must be a number of milliseconds, 0 or more, or Infinity, got "1".'],
    [{ maxKept: 1.5 }, RangeError, 'ApprovalGate: maxKept must be an integer of at least 0, got 1.5.'],
    [{ name: '' }, TypeError, 'ApprovalGate: name must be a string that is not empty, got "".'],
    [{ scheduler: {} }, TypeError, 'ApprovalGate: scheduler must be a SchedulerLike, got [object Object].'],
  ])('refuses bad options by name: %j #47', (options, kind, message) => {
    expect(() => new ApprovalGate(options as never)).toThrow(new kind(message));
  });

  it('lists what waits as a person needs to see it, in plain JSON', () =>
    virtual(({ at, flush }) => {
      const gate = new ApprovalGate({ name: 'desk', expiresMs: 100 });
      const request = { id: 'toolu_1', title: 'Send?', payload: { why: 'asked' }, input: { to: 'all' }, validate: (x: unknown) => x };
      const sub = scoped(() => approved(gate, request, () => NEVER), { label: 'agent' }).subscribe();
      sub.add(NEVER.pipe(awaitApproval(gate, { expiresMs: Infinity })).subscribe());
      at(30, () => {
        const pending = [
          {
            id: 'toolu_1',
            title: 'Send?',
            payload: { why: 'asked' },
            input: { to: 'all' },
            path: ['agent'],
            ageMs: 30,
            expiresInMs: 70,
            editable: true,
            left: false,
          },
          { id: 'desk-1', path: [], ageMs: 30, editable: false, left: false },
        ];
        expect(gate.pending()).toEqual(pending);
        expect(JSON.parse(JSON.stringify(gate.snapshot()))).toEqual({ name: 'desk', pending, remembered: 0 });
        sub.unsubscribe();
      });
      flush();
    }));

  it('tells what happens, and state$ shows the list after each change', () =>
    virtual(({ at, flush }) => {
      const gate = new ApprovalGate({ name: 'desk', expiresMs: 5 });
      const events: string[] = [];
      const lists: string[] = [];
      gate.events$.subscribe((event) =>
        events.push(`${event.at} ${event.type === 'approval' ? `${event.id} ${event.outcome}` : event.type}`),
      );
      gate.state$.subscribe(({ pending }) => lists.push(pending.map(({ id }) => id).join(' ')));
      const error = (): void => undefined;
      const call = (id: string): Subscription => later(1, id).pipe(awaitApproval(gate, { id })).subscribe({ error });
      const sub = ['a', 'b', 'c', 'd'].map(call)[3];
      at(1, () => gate.approve('a'));
      at(2, () => gate.deny('b'));
      at(3, () => sub?.unsubscribe());
      flush();
      expect(events.slice(8)).toEqual([
        '1 a approved',
        '1 admitted',
        '2 b denied',
        '2 refused',
        '2 settled',
        '3 withdrawn',
        '5 c expired',
        '5 refused',
      ]);
      expect(events.slice(0, 2)).toEqual(['0 queued', '0 a asked']);
      expect([...new Set(lists)]).toEqual(['', 'a', 'a b', 'a b c', 'a b c d', 'b c d', 'c d', 'c']);
      expect(lists[lists.length - 1]).toBe('');
    }));

  it('decides nothing twice and nothing unknown, and a reason is a string', () => {
    const gate = new ApprovalGate();
    expect([gate.approve('x'), gate.deny('x', 'why')]).toEqual([false, false]);
    expect(() => gate.deny('x', 5 as never)).toThrow(new TypeError('ApprovalGate: reason must be a string, got 5.'));
    of(1)
      .pipe(awaitApproval(gate, { id: 'x' }))
      .subscribe();
    expect([gate.approve('x'), gate.approve('x'), gate.deny('x')]).toEqual([true, false, false]);
  });

  it('an approver is not hit by what downstream throws', () =>
    virtual(({ flush }) => {
      const gate = new ApprovalGate();
      of(1)
        .pipe(awaitApproval(gate, { id: 'x' }))
        .subscribe(() => {
          throw new Error('downstream');
        });
      expect(gate.approve('x')).toBe(true);
      expect(() => flush()).toThrow('downstream');
    }));

  it('drops the oldest of too many that are kept, and tells so', () => {
    const gate = new ApprovalGate({ name: 'desk', maxKept: 1 });
    const notes: string[] = [];
    gate.events$.subscribe((event) => event.type === 'note' && notes.push(event.note));
    const leave = (id: string): void =>
      NEVER.pipe(awaitApproval(gate, { id, keep: true }))
        .subscribe()
        .unsubscribe();
    leave('a');
    leave('b');
    expect(gate.pending().map(({ id }) => id)).toEqual(['b']);
    gate.approve('b');
    leave('c');
    gate.deny('c');
    expect(gate.snapshot().remembered).toBe(1);
    expect(notes).toEqual(['dropped request "a": too many are kept', 'dropped decision "b": too many are kept']);
  });

  describe('time', () => {
    /** Counts what is scheduled. */
    const counted = (): { scheduler: SchedulerLike; virtual: VirtualTimeScheduler; timers: () => number } => {
      const virtual = new VirtualTimeScheduler();
      return { scheduler: virtual, virtual, timers: () => virtual.actions.filter((action) => !action.closed).length };
    };

    it('one timer serves all due times, and there is none while nothing is due', () => {
      const { scheduler, timers } = counted();
      const gate = new ApprovalGate({ scheduler });
      expect(timers()).toBe(0);
      const ask = (expiresMs: number): Subscription => NEVER.pipe(awaitApproval(gate, { expiresMs })).subscribe({ error: () => undefined });
      const subs = [50, 20, Infinity, 70].map(ask);
      expect(timers()).toBe(1);
      for (const i of [0, 1, 3]) subs[i]?.unsubscribe();
      expect([timers(), gate.pending().length]).toEqual([0, 1]);
      subs[2]?.unsubscribe();
    });

    it('each expires at its own time, oldest due first', () =>
      virtual(({ watch, lines, flush }) => {
        const gate = new ApprovalGate();
        for (const [id, expiresMs] of Object.entries({ a: 30, b: 10, c: 20, d: 10, e: 0 }))
          watch(NEVER.pipe(awaitApproval(gate, { id, expiresMs })), id);
        flush();
        expect(lines.map((line) => line.split(' ').slice(0, 2).join(' '))).toEqual(['0 e', '10 b', '10 d', '20 c', '30 a']);
      }));

    it('a time beyond the longest timer is waited for in pieces', () =>
      virtual(({ watch, lines, flush }) => {
        const gate = new ApprovalGate({ name: 'desk' });
        const expiresMs = 2 ** 32;
        watch(NEVER.pipe(awaitApproval(gate, { expiresMs })));
        flush();
        expect(lines).toEqual([`${expiresMs} error Nobody decided on approval "desk-1" of "desk" within ${expiresMs} ms.`]);
      }));

    it('a clock that is set back postpones nothing, one that is set forward lets it expire when the timer rings', () => {
      const virtualTime = new VirtualTimeScheduler();
      let shift = 1_700_000_000_000;
      const scheduler: SchedulerLike = {
        now: () => virtualTime.now() + shift,
        schedule: <T>(work: (this: SchedulerAction<T>, state?: T) => void, delay?: number, state?: T) =>
          virtualTime.schedule(work, delay ?? 0, state),
      };
      const gate = new ApprovalGate({ scheduler });
      const ends: string[] = [];
      const ask = (id: string): void =>
        void NEVER.pipe(awaitApproval(gate, { id, expiresMs: 100 })).subscribe({ error: () => ends.push(`${id} ${virtualTime.frame}`) });
      ask('a');
      virtualTime.schedule(() => {
        shift = 0;
        ask('b');
        expect(gate.pending().map(({ expiresInMs }) => expiresInMs)).toEqual([100, 100]);
      }, 40);
      virtualTime.flush();
      expect(ends.length).toBe(2);
      expect(Number(ends[0]?.split(' ')[1])).toBeLessThanOrEqual(140);
      expect(Number(ends[1]?.split(' ')[1])).toBeLessThanOrEqual(140);
    });
  });

  it('disposed, refuses those who wait, in order, and forgets what was kept', () =>
    virtual(({ watch, lines, at, flush }) => {
      const gate = new ApprovalGate({ name: 'desk', expiresMs: 50 });
      watch(later(9, 'x').pipe(awaitApproval(gate, { id: 'runs' })), 'runs');
      gate.approve('runs');
      NEVER.pipe(awaitApproval(gate, { id: 'kept', keep: true }))
        .subscribe()
        .unsubscribe();
      for (const id of ['a', 'b']) watch(NEVER.pipe(awaitApproval(gate, { id })), id);
      at(2, () => (gate.dispose(), gate.dispose()));
      at(3, () => {
        watch(NEVER.pipe(awaitApproval(gate)), 'late');
        expect([gate.approve('a'), gate.approve('kept')]).toEqual([false, false]);
        expect(gate.snapshot()).toEqual({ name: 'desk', pending: [], remembered: 0 });
      });
      at(4, () => gate.dispose({ cancelInFlight: true }));
      flush();
      expect(lines).toEqual([
        '2 a error Gate "desk" has been disposed.',
        '2 b error Gate "desk" has been disposed.',
        '3 late error Gate "desk" has been disposed.',
        '4 runs error Gate "desk" has been disposed.',
      ]);
    }));

  it('an observer that decides at once, or asks again, finds the list consistent', () =>
    virtual(({ watch, lines }) => {
      const gate = new ApprovalGate();
      gate.events$.subscribe((event) => {
        if (event.type !== 'approval') return;
        if (event.outcome === 'asked') gate.approve(event.id);
        else if (event.id === 'x') watch(of('second').pipe(awaitApproval(gate, { id: 'y' })));
      });
      watch(of('first').pipe(awaitApproval(gate, { id: 'x' })));
      expect(lines).toEqual(['0 next second', '0 complete', '0 next first', '0 complete']);
      expect(gate.pending()).toEqual([]);
    }));
});

describe('ApprovalGate, whatever is asked and decided', () => {
  const step = fc.record({
    do: fc.constantFrom('ask', 'ask', 'ask', 'leave', 'approve', 'deny', 'wait'),
    id: fc.constantFrom('a', 'b', 'c', undefined),
    keep: fc.boolean(),
    pick: fc.nat(),
    ms: fc.integer({ min: 1, max: 15 }),
  });

  it('each caller ends once, nobody is forgotten, and no timer is left', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const scheduler = new VirtualTimeScheduler();
        const gate = new ApprovalGate({ scheduler, expiresMs: 20, keepMs: 30, maxKept: 2 });
        const callers: { ends: number; left: boolean; sub: Subscription | undefined }[] = [];
        const ask = (id: string | undefined, keep: boolean): void => {
          const caller: (typeof callers)[number] = { ends: 0, left: false, sub: undefined };
          const end = (): void => void caller.ends++;
          callers.push(caller);
          const request = id === undefined ? {} : { id, keep };
          caller.sub = of(1).pipe(awaitApproval(gate, request)).subscribe({ complete: end, error: end });
        };
        for (const { do: action, id, keep, pick, ms } of steps) {
          const waiting = gate.pending();
          const chosen = waiting[pick % waiting.length]?.id ?? 'nobody';
          const here = callers.filter(({ ends, left }) => ends === 0 && !left);
          const leaver = here[pick % here.length];
          if (action === 'ask') ask(id, keep);
          else if (action === 'leave' && leaver !== undefined) {
            leaver.left = true;
            leaver.sub?.unsubscribe();
          } else if (action === 'wait') {
            scheduler.maxFrames = scheduler.frame + ms;
            scheduler.schedule(() => undefined, ms);
            scheduler.flush();
          } else if (action === 'approve') expect(gate.approve(chosen)).toBe(waiting.length > 0);
          else if (action === 'deny') expect(gate.deny(chosen)).toBe(waiting.length > 0);
          const waits = callers.filter(({ ends, left }) => ends === 0 && !left).length;
          expect(gate.pending().filter(({ left }) => !left).length).toBe(waits);
          expect(gate.pending().filter(({ left }) => left).length).toBeLessThanOrEqual(2);
          expect(callers.every(({ ends, left }) => ends <= (left ? 0 : 1))).toBe(true);
        }
        scheduler.maxFrames = Infinity;
        scheduler.flush();
        expect(gate.pending()).toEqual([]);
        expect(callers.every(({ ends, left }) => ends === (left ? 0 : 1))).toBe(true);
        expect(scheduler.actions.length).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});
