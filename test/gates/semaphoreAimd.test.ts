import { catchError, EMPTY, NEVER, Observable, of, Subject, throwError } from 'rxjs';
import { DeadlineExceededError, failWithin, fanOutScoped, takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { failing, later, pause, virtual } from '../support/virtual.js';
import { Ward } from './semaphoreHarness.js';

const throttled = Object.assign(new Error('slow down'), { status: 429 });

describe('Semaphore with aimd', () => {
  it('#76 increaseOnSuccess: one more for each success while half of the limit is used', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 4, aimd: {} }), test);
      calls.calls('a b c d', 1);
      test.at(2, () => expect(calls.semaphore.limit).toBe(6));
      test.at(3, () => calls.calls('e f', 1));
      test.at(5, () => expect(calls.semaphore.limit).toBe(6));
      test.at(6, () => calls.calls('g h i j', 1));
      test.at(8, () => expect(calls.semaphore.limit).toBe(7));
      test.flush();
    }));

  it.each([
    ['a throttle', throttled, 18],
    ['a server error', Object.assign(new Error('x'), { status: 500 }), 18],
    ['a timeout', Object.assign(new Error('x'), { name: 'TimeoutError' }), 18],
    ['a bad request', Object.assign(new Error('x'), { status: 400 }), 20],
    ['a tool’s own error', new Error('x'), 20],
    ['an abort', Object.assign(new Error('x'), { name: 'AbortError' }), 20],
  ])('#76 decreaseOnDrops: %s', (_, error, limit) =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 20, aimd: {} }), test);
      calls.call('a', failing(1, error));
      test.flush();
      expect(calls.semaphore.limit).toBe(limit);
    }),
  );

  it('a deadline below is a timeout, one above and any other cancel say nothing', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 20, aimd: {} }), test);
      const { semaphore } = calls;
      for (let i = 0; i < 15; i++) calls.call(String(i));
      calls.guarded('above').pipe(takeWithin(1)).subscribe();
      calls
        .guarded('above too')
        .pipe(failWithin(1))
        .subscribe({ error: () => {} });
      of(1).pipe(fanOutScoped(() => calls.guarded('child')), takeWithin(1)).subscribe(); // prettier-ignore
      calls.leaveAll();
      test.flush();
      expect(semaphore.limit).toBe(20);
      calls.call('below', NEVER.pipe(failWithin(1)));
      test.flush();
      expect(semaphore.limit).toBe(18);
      calls.call(
        'below too',
        throwError(() => new DeadlineExceededError(1, undefined, 0, { fulfilled: 0, outcomes: [], errors: [], late: [], abandoned: [] })),
      );
      expect(semaphore.limit).toBe(16);
    }));

  it('a call that was refused further in, and one revoked, say nothing', () =>
    virtual((test) => {
      const inner = new Semaphore({ limit: 1, maxQueue: 0 });
      const outer = new Semaphore({ limit: 10, aimd: {} });
      const hold = NEVER.pipe(bulkhead(inner)).subscribe();
      for (let i = 0; i < 8; i++)
        of(1)
          .pipe(bulkhead(inner), bulkhead(outer))
          .subscribe({ error: () => {} });
      const held = Array.from({ length: 10 }, () => NEVER.pipe(bulkhead(outer)).subscribe({ error: () => {} }));
      expect(outer.snapshot()).toMatchObject({ limit: 10, inUse: 10 });
      outer.dispose({ cancelInFlight: true });
      hold.unsubscribe();
      test.flush();
      expect([outer.limit, held.every(({ closed }) => closed)]).toEqual([10, true]);
    }));

  it('a call that ended without having started is no success', () =>
    virtual((test) => {
      const inner = new Semaphore({ limit: 1, maxQueue: 0 });
      const outer = new Semaphore({ limit: 1, aimd: {} });
      const hold = NEVER.pipe(bulkhead(inner)).subscribe();
      of(1).pipe(bulkhead(inner), catchError(() => EMPTY), bulkhead(outer)).subscribe(); // prettier-ignore
      test.flush();
      expect(outer.snapshot()).toMatchObject({ limit: 1, inUse: 0 });
      hold.unsubscribe();
      of(1).pipe(bulkhead(inner), catchError(() => EMPTY), bulkhead(outer)).subscribe(); // prettier-ignore
      test.flush();
      expect(outer.limit).toBe(2);
    }));

  it('#76 successOverflow: stays within its bounds', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 3, aimd: { min: 2, max: 4 } }), test);
      calls.calls('a b c', 1);
      test.at(2, () => expect(calls.semaphore.limit).toBe(4));
      test.at(3, () => calls.calls('d e f g', failing(1, throttled)));
      test.at(5, () => expect(calls.semaphore.limit).toBe(2));
      test.flush();
    }));

  it('a raised limit lets those in who wait, a lowered one lets nobody in until it recovers', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 2, aimd: { backoff: 0.5 } }), test);
      const gates = Array.from({ length: 6 }, () => new Subject<never>());
      gates.forEach((gate, i) => calls.call(String(i), gate));
      gates[0]?.complete();
      expect([calls.started.length, calls.semaphore.snapshot()]).toMatchObject([4, { limit: 3, inUse: 3, waiting: 2 }]);
      gates[1]?.error(throttled);
      expect([calls.started.length, calls.semaphore.snapshot()]).toMatchObject([4, { limit: 1, inUse: 2, waiting: 2 }]);
      gates[2]?.error(throttled);
      expect([calls.started.length, calls.semaphore.snapshot()]).toMatchObject([4, { limit: 1, inUse: 1 }]);
      gates[3]?.error(new Error('own'));
      expect([calls.started.length, calls.semaphore.snapshot()]).toMatchObject([5, { limit: 1, inUse: 1 }]);
      calls.leaveAll();
      test.flush();
    }));

  it('#76 adaptWhenLimitDecreases: a call that needs more than the limit has become goes alone rather than never', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 10, aimd: { backoff: 0.1 } }), test);
      calls.call('a', failing(5, throttled));
      calls.call('b', 10);
      calls.call('big', 2, { permits: 9 });
      calls.call('small', 2);
      test.flush();
      expect(calls.started).toEqual(['a@0', 'b@0', 'big@10', 'small@12']);
      expect(calls.ended).toHaveLength(4);
    }));

  it('refuses what is more than its bound', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 2, aimd: { max: 5 } }), test);
      calls.call('a', 1, { permits: 6 });
      calls.call('b', 1, { permits: 5 });
      test.flush();
      expect([calls.ended[0], calls.started]).toEqual(['a Semaphore "semaphore" can never admit 6 permits: its limit is 5.@0', ['b@0']]);
    }));

  it('setLimit moves it within its bounds; 0 holds until it is raised, whatever ends meanwhile', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 3, aimd: { min: 2, max: 9 } }), test);
      const { semaphore } = calls;
      calls.calls('a b', 5);
      calls.call('c', failing(6, throttled));
      calls.call('d', 5);
      semaphore.setLimit(0);
      test.at(20, () => {
        expect(semaphore.snapshot()).toMatchObject({ limit: 0, inUse: 0, waiting: 1 });
        semaphore.setLimit(4);
      });
      test.flush();
      expect(calls.started).toEqual(['a@0', 'b@0', 'c@0', 'd@20']);
      for (const bad of [1, 10, Infinity])
        expect(() => semaphore.setLimit(bad)).toThrow('Semaphore: limit must be between aimd.min (2) and aimd.max (9)');
    }));

  it('tells of every change once, with the limit as it is by then', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 2, aimd: {} });
      const seen: string[] = [];
      semaphore.events$.subscribe((event) => seen.push(event.type === 'limit' ? `limit ${event.limit} ${semaphore.limit}` : event.type));
      later(1, 'x').pipe(bulkhead(semaphore)).subscribe();
      throwError(() => throttled).pipe(bulkhead(semaphore)).subscribe({ error: () => {} }); // prettier-ignore
      test.flush();
      expect(seen).toEqual(['admitted', 'admitted', 'limit 1 1', 'settled', 'limit 2 2', 'settled']);
    }));

  it('spares the other side most of what it would turn away', () =>
    virtual((test) => {
      /** 50 agents that ask again at once; 12 requests of 10 ms fit, the others are turned away. */
      const run = (semaphore: Semaphore): { served: number; refused: number } => {
        const capacity = 12;
        const [end, counts] = [test.now() + 1000, { served: 0, refused: 0 }];
        let live = 0;
        const request = new Observable<never>((out) => {
          const full = ++live > capacity;
          counts[full ? 'refused' : 'served']++;
          const running = (full ? failing(1, throttled) : pause(10)).subscribe(out);
          return () => {
            live--;
            running.unsubscribe();
          };
        });
        const agent = (): void => {
          if (test.now() < end) request.pipe(bulkhead(semaphore)).subscribe({ error: agent, complete: agent });
        };
        for (let i = 0; i < 50; i++) agent();
        test.flush();
        return counts;
      };
      const [without, guarded] = [run(new Semaphore({ limit: Infinity })), run(new Semaphore({ limit: 1, aimd: { max: 100 } }))];
      expect(without.refused / without.served).toBeGreaterThan(20);
      expect(guarded.refused / guarded.served).toBeLessThan(1.5);
      expect(guarded.served).toBeGreaterThan(without.served * 0.7);
    }));
});
