import fc from 'fast-check';
import { concat, defer, finalize, NEVER, of, throwError, VirtualTimeScheduler, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { KeyedLock, type LockKeys } from '../../src/gates/keyedLock.js';
import { serializeBy } from '../../src/operators/serializeBy.js';
import { later, pause, virtual } from '../support/virtual.js';

const IDLE = { held: 0, waiting: 0, keys: [] };

describe('KeyedLock', () => {
  it('refuses bad options by name #47', () => {
    expect(() => new KeyedLock({ name: '' })).toThrow(new TypeError('KeyedLock: name must be a string that is not empty, got "".'));
    expect(() => new KeyedLock({ name: 5 as never })).toThrow(TypeError);
    expect(() => new KeyedLock({ scheduler: {} as never })).toThrow('KeyedLock: scheduler must be a SchedulerLike');
    expect(() => new KeyedLock(null as never)).toThrow('KeyedLock: options must be an object');
  });

  it('shows who holds and who waits, at every step #71', () =>
    virtual(({ at, flush }) => {
      const lock = new KeyedLock({ name: 'files' });
      const pictures: string[] = [];
      lock.state$.subscribe(({ held, waiting, keys }) =>
        pictures.push(`${held}/${waiting} ${keys.map((use) => `${use.key}:${use.mode[0]}${use.holders}+${use.waiting}`).join(' ')}`),
      );
      later(2, 1)
        .pipe(serializeBy(lock, { writes: ['a'] }))
        .subscribe();
      const sub = NEVER.pipe(serializeBy(lock, { reads: ['a', 'b'] })).subscribe();
      NEVER.pipe(serializeBy(lock, { writes: ['b'] })).subscribe({ error: (error: Error) => pictures.push(error.message) });
      at(5, () => sub.unsubscribe());
      at(9, () => lock.dispose({ cancelInFlight: true }));
      flush();
      expect(pictures).toEqual([
        '0/0 ',
        '1/0 a:w1+0',
        '1/1 a:w1+1 b:r1+0',
        '1/2 a:w1+1 b:r1+1',
        '0/2 a:w0+1 b:r1+1',
        '1/1 a:r1+0 b:r1+1',
        '0/1 b:r0+1',
        '1/0 b:w1+0',
        '1/0 b:w1+0',
        '0/0 ',
        'Gate "files" has been disposed.',
        '0/0 ',
      ]);
    }));

  it('a picture is plain JSON', () => {
    const lock = new KeyedLock({ name: 'files' });
    const sub = NEVER.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
    expect(JSON.parse(JSON.stringify(lock.snapshot()))).toEqual({
      name: 'files',
      held: 1,
      waiting: 0,
      keys: [{ key: 'a', mode: 'write', holders: 1, waiting: 0 }],
    });
    sub.unsubscribe();
  });

  it('tells what happens, with the path and the time it waited', () =>
    virtual(({ at, flush }) => {
      const lock = new KeyedLock({ name: 'files' });
      const events: unknown[] = [];
      lock.events$.subscribe((event) => events.push(event));
      const call = (ms: number): Observable<number> => later(ms, 1).pipe(serializeBy(lock, { writes: ['a'] }));
      call(3).subscribe();
      call(1).subscribe();
      const sub = call(1).subscribe();
      at(2, () => sub.unsubscribe());
      flush();
      const path: string[] = [];
      expect(events).toEqual([
        { gate: 'files', at: 0, type: 'admitted', path, waitedMs: 0 },
        { gate: 'files', at: 0, type: 'queued', path, waiting: 1 },
        { gate: 'files', at: 0, type: 'queued', path, waiting: 2 },
        { gate: 'files', at: 2, type: 'withdrawn', path },
        { gate: 'files', at: 3, type: 'settled', path, end: 'completed' },
        { gate: 'files', at: 3, type: 'admitted', path, waitedMs: 3 },
        { gate: 'files', at: 4, type: 'settled', path, end: 'completed' },
      ]);
    }));

  it('between a release and the next admission a newcomer stands in line #16', () =>
    virtual(({ watch, lines, flush }) => {
      const lock = new KeyedLock();
      const call = (name: string): Observable<string> => later(1, name).pipe(serializeBy(lock, { writes: ['a'] }));
      // The newcomer comes while downstream is being told.
      call('one').subscribe({ complete: () => watch(call('late')) });
      watch(call('two'));
      flush();
      expect(lines).toEqual(['2 next two', '2 complete', '3 next late', '3 complete']);
    }));

  it('after an unsubscribe the next comes in within the frame, and a newcomer behind it', () =>
    virtual(({ watch, lines, at, flush }) => {
      const lock = new KeyedLock();
      const call = (name: string): Observable<string> => later(1, name).pipe(serializeBy(lock, { writes: ['a'] }));
      const sub = NEVER.pipe(serializeBy(lock, { writes: ['a'] })).subscribe();
      watch(call('two'));
      at(3, () => {
        sub.unsubscribe();
        watch(call('late'));
      });
      flush();
      expect(lines).toEqual(['4 next two', '4 complete', '5 next late', '5 complete']);
    }));

  it('whoever listens may call back in: ask, leave, throw', () =>
    virtual(({ watch, lines, flush }) => {
      const lock = new KeyedLock();
      let asked = 0;
      lock.events$.subscribe(({ type }) => {
        if (type === 'admitted' && asked++ === 0) watch(of('from an observer').pipe(serializeBy(lock, { writes: ['a'] })), 'inner');
      });
      watch(later(1, 'x').pipe(serializeBy(lock, { writes: ['a'] })), 'outer');
      flush();
      expect(lines).toEqual(['1 outer next x', '1 outer complete', '1 inner next from an observer', '1 inner complete']);
      expect(lock.snapshot()).toMatchObject(IDLE);
    }));

  it('needs no timer but the one turn after a cancel', () => {
    const scheduler = new VirtualTimeScheduler();
    const lock = new KeyedLock({ scheduler });
    const subs = [1, 2, 3].map(() => NEVER.pipe(serializeBy(lock, { writes: ['a'] })).subscribe());
    expect(scheduler.actions.length).toBe(0);
    subs[0]?.unsubscribe();
    expect(scheduler.actions.length).toBe(1);
    subs[1]?.unsubscribe();
    subs[2]?.unsubscribe();
    expect(scheduler.actions.filter((action) => !action.closed).length).toBe(0);
    expect(lock.snapshot()).toMatchObject(IDLE);
  });

  describe('dispose', () => {
    const open = (): { lock: KeyedLock; call: (ms: number) => Observable<string> } => {
      const lock = new KeyedLock({ name: 'files' });
      return { lock, call: (ms) => later(ms, 'x').pipe(serializeBy(lock, { writes: ['a'] })) };
    };

    it('refuses those who wait and those who come later, and lets those in flight end', () =>
      virtual(({ watch, lines, at, flush }) => {
        const { lock, call } = open();
        watch(call(5), 'one');
        watch(call(5), 'two');
        at(2, () => (lock.dispose(), lock.dispose(), lock[Symbol.dispose]()));
        at(3, () => watch(call(5), 'late'));
        flush();
        expect(lines).toEqual([
          '2 two error Gate "files" has been disposed.',
          '3 late error Gate "files" has been disposed.',
          '5 one next x',
          '5 one complete',
        ]);
        expect(lock.snapshot()).toMatchObject(IDLE);
      }));

    it('stops those in flight if it is told to, also later', () =>
      virtual(({ watch, lines, at, flush }) => {
        const { lock, call } = open();
        watch(call(5), 'one');
        watch(call(5), 'two');
        at(2, () => lock.dispose());
        at(3, () => lock.dispose({ cancelInFlight: true }));
        flush();
        expect(lines).toEqual(['2 two error Gate "files" has been disposed.', '3 one error Gate "files" has been disposed.']);
        expect(lock.snapshot()).toMatchObject(IDLE);
      }));

    it('from whoever is told of an admission or an end', () =>
      virtual(({ watch, lines, flush }) => {
        const { lock, call } = open();
        watch(call(1), 'one');
        watch(call(1), 'two');
        watch(call(1), 'three');
        lock.events$.subscribe(({ type }) => type === 'settled' && lock.dispose());
        flush();
        expect(lines).toEqual([
          '1 one next x',
          '1 two error Gate "files" has been disposed.',
          '1 three error Gate "files" has been disposed.',
          '1 one complete',
        ]);
      }));
  });
});

interface Plan {
  readonly at: number;
  readonly ms: number;
  readonly how: 'completes' | 'fails' | 'leaves';
  readonly leavesAfter: number;
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

const key = fc.constantFrom('a', 'b', 'c', 'd');
const plan: fc.Arbitrary<Plan> = fc.record({
  at: fc.nat(12),
  ms: fc.nat(6),
  how: fc.constantFrom('completes', 'fails', 'leaves'),
  leavesAfter: fc.nat(10),
  reads: fc.array(key, { maxLength: 3 }),
  writes: fc.array(key, { maxLength: 2 }),
});

function conflict(a: LockKeys, b: LockKeys): boolean {
  const meets = (some: readonly string[] = [], others: readonly string[] = []): boolean => some.some((each) => others.includes(each));
  return meets(a.writes, b.writes) || meets(a.writes, b.reads) || meets(a.reads, b.writes);
}

describe('KeyedLock, whatever calls come and go', () => {
  it('no two holders conflict, conflicting calls start in order of arrival, whoever could run does, and all end', () => {
    fc.assert(
      fc.property(fc.array(plan, { maxLength: 14 }), (plans) =>
        virtual(({ at, flush }) => {
          const lock = new KeyedLock();
          const calls = plans.map((each) => ({ ...each, state: 'new', order: 0 }));
          let arrivals = 0;
          const check = (): void => {
            const here = calls.filter(({ state }) => state === 'waits' || state === 'runs');
            for (const call of here) {
              const inFront = here.filter((other) => other.order < call.order && conflict(call, other));
              // A call that runs has nobody in front; a call that waits has a reason to.
              expect(inFront.length > 0).toBe(call.state === 'waits');
            }
            const { held, waiting } = lock.snapshot();
            expect([held, waiting]).toEqual([
              here.filter(({ state }) => state === 'runs').length,
              here.filter(({ state }) => state === 'waits').length,
            ]);
          };
          for (const call of calls)
            at(call.at, () => {
              call.state = 'waits';
              call.order = ++arrivals;
              const end = (): void => void (call.state = 'over');
              const source = defer(() => {
                call.state = 'runs';
                return concat(pause(call.ms), call.how === 'fails' ? throwError(() => 'boom') : of(1));
              });
              const sub = source.pipe(serializeBy(lock, call), finalize(end)).subscribe({ error: end, complete: end });
              if (call.how === 'leaves') at(call.leavesAfter, () => sub.unsubscribe());
            });
          for (let frame = 0; frame < 40; frame++) at(frame, () => at(0, () => at(0, () => at(0, check))));
          flush();
          expect(calls.every(({ state }) => state === 'over')).toBe(true);
          expect(lock.snapshot()).toMatchObject(IDLE);
        }),
      ),
      { numRuns: 150 },
    );
  });
});
