import { concat, defer, NEVER, Observable, of, Subject, throwError } from 'rxjs';
import { scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import {
  isBadAskError,
  isBulkheadFullError,
  isPermitsExceedLimitError,
  isReentrantAcquireError,
  isResourceDisposedError,
} from '../../src/gates/errors.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { failing, later, pause, virtual } from '../support/virtual.js';
import { armed, Ward } from './semaphoreHarness.js';

const free = { inUse: 0, waiting: 0 };

/** A semaphore, and calls behind it. */
function ward(test: Parameters<Parameters<typeof virtual>[0]>[0], options: ConstructorParameters<typeof Semaphore>[0]): Ward {
  return new Ward(new Semaphore(options), test);
}

describe('Semaphore', () => {
  it('#71 its picture is true at every step, and is plain JSON', () =>
    virtual((test) => {
      const calls = ward(test, { name: 'db', limit: 2, maxQueue: 1 });
      const { semaphore } = calls;
      const at = (inUse: number, waiting: number): object => ({ name: 'db', limit: 2, allowed: 2, inUse, free: 2 - inUse, waiting });
      expect(semaphore.snapshot()).toEqual(at(0, 0));
      calls.call('a', 3);
      expect(semaphore.snapshot()).toEqual(at(1, 0));
      calls.call('b', 8);
      expect(semaphore.snapshot()).toEqual(at(2, 0));
      calls.call('c', 1);
      expect(semaphore.snapshot()).toEqual(at(2, 1));
      calls.call('d', 1);
      expect(semaphore.snapshot()).toEqual(at(2, 1));
      expect(calls.ended).toEqual(['d Semaphore "db" is full: 2 of 2 permits are taken and 1 calls wait, which is as many as may.@0']);
      test.at(6, () => expect(semaphore.snapshot()).toEqual(at(1, 0)));
      test.at(9, () => expect(semaphore.snapshot()).toEqual(at(0, 0)));
      test.flush();
      expect(JSON.parse(JSON.stringify(semaphore.snapshot()))).toEqual(at(0, 0));
      expect(calls.started).toEqual(['a@0', 'b@0', 'c@3']);
    }));

  it('lets calls in first come first served, and at once while there is room', () =>
    virtual((test) => {
      const calls = ward(test, { limit: 2 });
      calls.calls('a b c d e', 3);
      test.flush();
      expect(calls.started).toEqual(['a@0', 'b@0', 'c@3', 'd@3', 'e@6']);
      expect([calls.peak, calls.semaphore.snapshot()]).toMatchObject([2, free]);
    }));

  it('with no limit lets everybody in', () =>
    virtual((test) => {
      const calls = ward(test, { limit: Infinity });
      for (let i = 0; i < 100; i++) calls.call(String(i), 1, { permits: 1 + i });
      expect(calls.started).toHaveLength(100);
      test.flush();
      expect(calls.semaphore.snapshot()).toMatchObject(free);
    }));

  describe('weights', () => {
    it('a call takes all of its permits or none', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 5 });
        calls.call('a', 4, { permits: 3 });
        calls.call('b', 2, { permits: 3 });
        calls.call('c', 2, { permits: 2 });
        test.at(1, () => expect(calls.semaphore.snapshot()).toMatchObject({ inUse: 3, free: 2, waiting: 2 }));
        test.flush();
        expect([calls.started, calls.peak]).toEqual([['a@0', 'b@4', 'c@4'], 5]);
      }));

    it('a big head blocks the small ones behind it, so that it is not starved', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 4 });
        calls.call('a', 5);
        calls.call('big', 5, { permits: 4 });
        for (let i = 1; i <= 4; i++) test.at(i, () => void calls.call(`small ${i}`, 5));
        test.flush();
        expect(calls.started).toEqual(['a@0', 'big@5', 'small 1@10', 'small 2@10', 'small 3@10', 'small 4@10']);
      }));

    it('#13 D12 when the big head leaves, those behind it go in the same frame', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 4 });
        calls.call('a', 9);
        calls.call('big', 5, { permits: 4 });
        calls.calls('b c', 5);
        test.at(3, () => {
          calls.leave('big');
          expect(calls.started).toEqual(['a@0']);
        });
        test.flush();
        expect(calls.started).toEqual(['a@0', 'b@3', 'c@3']);
      }));

    it('#18 cancelled part-way, every permit is back', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 6 });
        calls.call('a', Infinity, { permits: 4 });
        calls.call('b', Infinity, { permits: 3 });
        calls.call('c', Infinity, { permits: 2 });
        test.at(1, () => calls.leave('b'));
        test.at(2, () => expect(calls.semaphore.snapshot()).toMatchObject({ inUse: 6, free: 0, waiting: 0 }));
        test.at(3, () => calls.leave('c', 'a'));
        test.flush();
        expect([calls.started, calls.semaphore.snapshot()]).toMatchObject([['a@0', 'c@1'], free]);
      }));

    it('more than the limit can never be had: refused at once, though others wait', () =>
      virtual((test) => {
        const calls = ward(test, { name: 'db', limit: 2 });
        calls.calls('a b', 5);
        calls.call('c', 5, { permits: 3 });
        test.flush();
        expect(calls.ended).toEqual(['c Semaphore "db" can never admit 3 permits: its limit is 2.@0', 'a@5', 'b@5']);
      }));
  });

  describe('priorities and keys', () => {
    it('a higher priority goes first, within one the first that came', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.call('a', 1);
        calls.calls('low1 low2', 1, { priority: -1 });
        calls.call('b', 1);
        calls.calls('high1 high2', 1, { priority: 5 });
        test.flush();
        expect(calls.started).toEqual(['a@0', 'high1@1', 'high2@2', 'b@3', 'low1@4', 'low2@5']);
      }));

    it('a newcomer passes only those of a lower priority, and only if it fits', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 3 });
        calls.call('a', 9, { permits: 1 });
        calls.call('big', 9, { permits: 3 });
        calls.call('same', 1);
        calls.call('higher', 3, { priority: 1 });
        calls.call('higher too', 3, { priority: 1, permits: 2 });
        test.flush();
        expect(calls.started).toEqual(['a@0', 'higher@0', 'higher too@3', 'big@9', 'same@18']);
      }));

    it('#70 keys take turns: one key’s crowd does not hold the others up', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.calls('a1 a2 a3 a4', 1, { key: 'a' });
        calls.calls('b1 b2', 1, { key: 'b' });
        calls.call('c1', 1, { key: 'c' });
        test.flush();
        expect(calls.started.map((each) => each.slice(0, 2))).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
      }));

    it('a head that does not fit lets the others of its round pass, but not those of the next', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 3 });
        calls.call('x', 10, { permits: 2, key: 'x' });
        calls.call('y', 10, { permits: 1, key: 'y' });
        calls.call('A', 1, { permits: 3, key: 'a' });
        calls.calls('b1 b2', 1, { key: 'b' });
        calls.calls('c1 c2', 1, { key: 'c' });
        test.at(5, () => calls.leave('y'));
        test.flush();
        expect(calls.started).toEqual(['x@0', 'y@0', 'A@10', 'b1@11', 'c1@11', 'b2@11', 'c2@12']);
      }));

    it('100,000 that wait, of 10,000 keys, cost no more each than 1,000 of 100', () => {
      const run = (count: number, keys: number): number => {
        const semaphore = new Semaphore({ limit: 1 });
        const gate = new Subject<void>();
        gate.pipe(bulkhead(semaphore)).subscribe();
        let done = 0;
        for (let i = 0; i < count; i++)
          of(i)
            .pipe(bulkhead(semaphore, { key: String(i % keys) }))
            .subscribe(() => done++);
        const began = performance.now();
        gate.complete();
        expect(done).toBe(count);
        return (performance.now() - began) / count;
      };
      run(1000, 100);
      const [few, many] = [run(1000, 100), run(100_000, 10_000)];
      expect(many).toBeLessThan(few * 5 + 0.02);
    });

    it('holders of 10,000 keys that end one by one cost no more each than those of 100', () => {
      const run = (keys: number): number => {
        const semaphore = new Semaphore({ limit: 1 });
        const running: Subject<void>[] = [];
        for (let i = 0; i < keys; i++)
          defer(() => {
            const gate = new Subject<void>();
            running.push(gate);
            return gate;
          })
            .pipe(bulkhead(semaphore, { key: String(i) }))
            .subscribe();
        const began = performance.now();
        for (let i = 0; i < keys; i++) running[i]?.complete();
        expect([running.length, semaphore.snapshot()]).toMatchObject([keys, free]);
        return (performance.now() - began) / keys;
      };
      run(1000);
      const [few, many] = [run(500), run(10_000)];
      expect(many).toBeLessThan(few * 5 + 0.02);
    });
  });

  describe('leaving', () => {
    it('#4 in flight: its permit is back once, and the next comes in', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        const settled: string[] = [];
        calls.semaphore.events$.subscribe((event) => event.type === 'settled' && settled.push(`${event.end}@${event.at}`));
        calls.calls('a b');
        test.at(2, () => {
          calls.leave('a');
          expect(calls.semaphore.snapshot()).toMatchObject({ inUse: 0, free: 1, waiting: 1 });
          calls.leave('a');
        });
        test.at(3, () => calls.leave('b', 'a'));
        test.flush();
        expect([calls.started, settled, calls.semaphore.snapshot()]).toMatchObject([['a@0', 'b@2'], ['cancelled@2', 'cancelled@3'], free]);
      }));

    it('D4 #20 while it waits: its place in the queue is free at once, and it hears nothing more', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1, maxQueue: 1 });
        calls.calls('a b', 5);
        calls.leave('b');
        expect(calls.semaphore.snapshot().waiting).toBe(0);
        calls.call('c', 5);
        calls.call('d', 5);
        test.flush();
        expect(calls.started).toEqual(['a@0', 'c@5']);
        expect(calls.ended.map((each) => each.slice(0, 2))).toEqual(['d ', 'a@', 'c@']);
      }));

    it('#20 the head: the next in line comes in when there is room', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.calls('a b c', 5);
        test.at(2, () => calls.leave('b'));
        test.flush();
        expect(calls.started).toEqual(['a@0', 'c@5']);
      }));

    it('#17 leaves nothing in the line', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.call('a');
        for (let i = 0; i < 1000; i++) {
          calls.call(String(i), 1, { key: String(i % 3), priority: i % 2 });
          calls.leave(String(i));
        }
        expect(calls.semaphore.snapshot()).toMatchObject({ inUse: 1, waiting: 0 });
        expect(armed(calls.semaphore)).toBe(false);
        calls.leave('a');
        test.flush();
      }));

    it('#8 10,000 that wait under one subscription are gone with it: nobody waits, no timer runs, nothing was taken', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 3 });
        const names = Array.from({ length: 10_000 }, (_, i) => String(i));
        const all = scoped(() => new Observable((out) => names.forEach((name) => out.add(calls.guarded(name).subscribe()))));
        const sub = all.subscribe();
        test.at(4, () => {
          expect(calls.semaphore.snapshot()).toMatchObject({ inUse: 3, waiting: 9997 });
          sub.unsubscribe();
          expect(calls.semaphore.snapshot()).toMatchObject(free);
          expect(armed(calls.semaphore)).toBe(false);
        });
        test.flush();
        expect(calls.started).toEqual(['0@0', '1@0', '2@0']);
      }));

    it('#11 100,000 wait, leave, or are let in at once, without a deep stack', () =>
      virtual((test) => {
        const semaphore = new Semaphore({ limit: 1 });
        const gate = new Subject<void>();
        gate.pipe(bulkhead(semaphore)).subscribe();
        let done = 0;
        const subs = Array.from({ length: 100_000 }, (_, i) =>
          of(i)
            .pipe(bulkhead(semaphore))
            .subscribe(() => done++),
        );
        for (let i = 0; i < subs.length; i += 2) subs[i]?.unsubscribe();
        expect(semaphore.snapshot().waiting).toBe(50_000);
        gate.complete();
        test.flush();
        expect([done, semaphore.snapshot()]).toMatchObject([50_000, free]);
      }));

    it('a chain in which each call starts the next from its own end uses no stack', () =>
      virtual((test) => {
        const semaphore = new Semaphore({ limit: 1 });
        let left = 20_000;
        const next = (): void => {
          if (left-- > 0) later(0, 0).pipe(bulkhead(semaphore)).subscribe({ complete: next });
        };
        next();
        next();
        test.flush();
        expect(semaphore.snapshot()).toMatchObject(free);
      }));
  });

  describe('#16 nobody barges in', () => {
    it('between a release and the wake-up of the next', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.calls('a b', 5);
        test.at(2, () => {
          calls.leave('a');
          calls.call('newcomer', 5);
          expect(calls.started).toEqual(['a@0']);
        });
        test.flush();
        expect([calls.started, calls.peak]).toEqual([['a@0', 'b@2', 'newcomer@7'], 1]);
      }));

    it('from the handler of a call that has just ended, nor from its teardown', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls
          .guarded(
            'a',
            new Observable((out) => {
              const running = pause(2).subscribe(out);
              return () => {
                running.unsubscribe();
                calls.call('from the teardown', 5);
              };
            }),
          )
          .subscribe({ complete: () => calls.call('from the handler', 5) });
        calls.call('b', 5);
        test.flush();
        expect([calls.started, calls.peak]).toEqual([['a@0', 'b@2', 'from the teardown@7', 'from the handler@12'], 1]);
      }));

    it('from an event observer', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.semaphore.events$.subscribe(({ type }) => {
          if (type === 'settled' && calls.subs.size === 2) calls.call('newcomer', 5);
        });
        calls.calls('a b', 5);
        test.flush();
        expect([calls.started, calls.peak]).toEqual([['a@0', 'b@5', 'newcomer@10'], 1]);
      }));

    it('into the loop that lets several in', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 3 });
        calls.call('a', 2, { permits: 3 });
        calls.calls('b c d', 5);
        calls.semaphore.events$.subscribe(({ type }) => {
          if (type === 'admitted' && calls.subs.size === 4) calls.call('newcomer', 5);
        });
        test.flush();
        expect([calls.started, calls.peak]).toEqual([['a@0', 'b@2', 'c@2', 'd@2', 'newcomer@7'], 3]);
      }));
  });

  describe('at the end of a call', () => {
    it.each([
      ['completes', pause(2)],
      ['fails', failing(2, new Error('boom'))],
    ])('that %s the next comes in at once, after it was told', (_, source) =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.call('a', source);
        calls.call(
          'b',
          defer(() => (test.note(calls.ended.join()), NEVER)),
        );
        test.flush();
        expect(test.lines[0]).toMatch(/^2 a/);
        calls.leave('b');
      }),
    );

    it('#75 that throws in its factory, its permit is back', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        for (const source of [defer(() => { throw new Error('factory'); }), throwError(() => 'x'), of(1)]) calls.call('a', source); // prettier-ignore
        test.flush();
        expect(calls.ended).toEqual(['a factory@0', 'a x@0', 'a@0']);
        expect(calls.semaphore.snapshot()).toMatchObject(free);
      }));

    it('the loop goes on when a call that it lets in throws, leaves others, or asks again', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.call('a', 2);
        calls.call('b', defer(() => { throw new Error('b'); })); // prettier-ignore
        calls.call(
          'c',
          defer(() => (calls.leave('d', 'f'), of(1))),
        );
        calls.calls('d e f', 1);
        calls.semaphore.events$.subscribe(({ type }) => {
          if (type === 'settled' && test.now() === 2 && !calls.subs.has('g')) calls.call('g', 1);
        });
        test.flush();
        expect(calls.started).toEqual(['a@0', 'b@2', 'c@2', 'e@2', 'g@3']);
      }));
  });

  describe('#72 Q05 setLimit', () => {
    it('raised lets those in who fit now, lowered stops nobody and lets nobody in until enough are back, 0 holds', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        const { semaphore } = calls;
        calls.calls('a b c d e f', 10);
        test.at(2, () => {
          semaphore.setLimit(3);
          expect(calls.started).toEqual(['a@0', 'b@2', 'c@2']);
        });
        test.at(4, () => {
          semaphore.setLimit(0);
          expect(semaphore.snapshot()).toMatchObject({ limit: 0, inUse: 3, free: -3, waiting: 3 });
        });
        test.at(13, () => {
          expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 3 });
          semaphore.setLimit(1);
        });
        test.flush();
        expect([calls.started, semaphore.limit]).toEqual([['a@0', 'b@2', 'c@2', 'd@13', 'e@23', 'f@33'], 1]);
      }));

    it('lowered below what is in use, the next comes in only when it fits below the new limit', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 4 });
        calls.call('a', 2);
        calls.call('b', 4);
        calls.call('c', 6);
        calls.call('d', 8);
        calls.calls('e f', 1);
        test.at(1, () => calls.semaphore.setLimit(2));
        test.flush();
        expect(calls.started.slice(4)).toEqual(['e@6', 'f@7']);
      }));

    it('#73 0 holds everybody, whatever they ask for; raising lets them in first come first served', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 0 });
        calls.call('a', 2, { permits: 2 });
        calls.calls('b c', 2);
        test.at(3, () => calls.semaphore.setLimit(2));
        test.flush();
        expect(calls.started).toEqual(['a@3', 'b@5', 'c@5']);
      }));

    it('refuses those who wait for more than there are now, wherever they stand', () =>
      virtual((test) => {
        const calls = ward(test, { name: 'db', limit: 4 });
        calls.call('a', 5, { permits: 4 });
        calls.call('b', 5, { permits: 1 });
        calls.call('c', 5, { permits: 3 });
        calls.call('d', 5, { permits: 2 });
        test.at(1, () => calls.semaphore.setLimit(2));
        test.flush();
        expect(calls.ended[0]).toBe('c Semaphore "db" can never admit 3 permits: its limit is 2.@1');
        expect(calls.started).toEqual(['a@0', 'b@5', 'd@10']);
      }));

    it('may be called from anywhere: an event, a handler, a refusal', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 4 });
        const { semaphore } = calls;
        semaphore.events$.subscribe((event) => {
          if (event.type === 'limit' && event.limit === 2) semaphore.setLimit(0);
          if (event.type === 'refused') semaphore.setLimit(5);
        });
        calls.call('a', 5, { permits: 4 });
        calls.calls('b c', 5, { permits: 3 });
        test.at(1, () => {
          semaphore.setLimit(2);
          expect([semaphore.snapshot(), calls.ended]).toMatchObject([{ limit: 0, waiting: 2 }, []]);
        });
        test.at(2, () => {
          semaphore.setLimit(1);
          expect(semaphore.snapshot()).toMatchObject({ limit: 5, waiting: 1 });
        });
        test.flush();
        expect(calls.ended.map((each) => each.slice(0, 5))).toEqual(['b Sem', 'a@5', 'c@10']);
      }));

    it('to what it is already says nothing', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 2 });
        calls.semaphore.events$.subscribe(({ type }) => test.note(type));
        calls.semaphore.setLimit(2);
        calls.semaphore.setLimit(3);
        test.flush();
        expect(test.lines).toEqual(['0 limit']);
      }));

    it('C9 refuses what is no limit', () => {
      const semaphore = new Semaphore({ limit: 2 });
      for (const bad of [-1, 1.5, Number.NaN, -Infinity]) expect(() => semaphore.setLimit(bad)).toThrow(RangeError);
      for (const bad of ['2', undefined, null]) expect(() => semaphore.setLimit(bad as never)).toThrow(TypeError);
      semaphore.setLimit(Infinity);
      expect(semaphore.limit).toBe(Infinity);
    });
  });

  describe('maxQueue', () => {
    it('of 0 lets nobody wait', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1, maxQueue: 0 });
        calls.calls('a b', 3);
        test.at(4, () => void calls.call('c', 3));
        test.flush();
        expect([calls.started, calls.ended.length]).toEqual([['a@0', 'c@4'], 3]);
        expect(calls.ended[0]).toMatch(/^b .* is full: 1 of 1 permits are taken and 0 calls wait/);
      }));

    it('counts those who wait, not those who run', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 2, maxQueue: 2 });
        calls.calls('a b c d e', 3);
        test.at(3, () => void calls.calls('f g h', 3));
        test.flush();
        expect(calls.started).toEqual(['a@0', 'b@0', 'c@3', 'd@3', 'f@6', 'g@6']);
        expect(calls.ended.filter((each) => each.includes('full')).map((each) => each[0])).toEqual(['e', 'h']);
      }));
  });

  describe('the errors', () => {
    const errorsOf = (...guarded: Observable<unknown>[]): unknown[] => {
      const errors: unknown[] = [];
      for (const each of guarded) each.subscribe({ error: (error: unknown) => errors.push(error) });
      return errors;
    };

    it('name the gate, its limit and what is in use', () =>
      virtual(({ flush }) => {
        const semaphore = new Semaphore({ name: 'db', limit: 2, maxQueue: 0 });
        const sub = NEVER.pipe(bulkhead(semaphore, { permits: 2 })).subscribe();
        const [full, many] = errorsOf(of(1).pipe(bulkhead(semaphore)), of(1).pipe(bulkhead(semaphore, { permits: 5 })));
        expect(isBulkheadFullError(full) && full).toMatchObject({ code: 'BULKHEAD_FULL', gate: 'db', limit: 2, inUse: 2, maxQueue: 0 });
        expect(isPermitsExceedLimitError(many) && many).toMatchObject({ code: 'PERMITS_EXCEED_LIMIT', gate: 'db', limit: 2, permits: 5 });
        sub.unsubscribe();
        flush();
      }));

    it('C9 a bad ask fails its own call only', () =>
      virtual(({ flush }) => {
        const semaphore = new Semaphore({ limit: 2 });
        const ask = (value: unknown): Observable<number> => of(1).pipe(bulkhead(semaphore, () => value as never));
        const bad = [{ permits: 0 }, { permits: 1.5 }, { permits: Number.NaN }, { permits: '1' }, { permits: -1 }, { priority: Number.NaN }, { priority: '5' }, { key: 5 }, null, undefined, 5]; // prettier-ignore
        const errors = errorsOf(...bad.map(ask));
        expect(errors.map((error) => isBadAskError(error))).toEqual(bad.map(() => true));
        expect(errors.map(String)).toMatchObject([
          'BadAskError: Gate "semaphore": permits of this call must be an integer of at least 1, got 0.',
          expect.stringContaining('got 1.5'),
          expect.stringContaining('got NaN'),
          expect.stringContaining('got "1"'),
          expect.stringContaining('got -1'),
          'BadAskError: Gate "semaphore": priority of this call must be a number, got NaN.',
          expect.stringContaining('got "5"'),
          'BadAskError: Gate "semaphore": key of this call must be a string, got 5.',
          expect.stringContaining('got null'),
          expect.stringContaining('got undefined'),
          expect.stringContaining('got 5'),
        ]);
        expect(errorsOf(ask({ permits: undefined, key: undefined, priority: undefined }), ask({ priority: Infinity }))).toEqual([]);
        flush();
        expect(semaphore.snapshot()).toMatchObject(free);
      }));
  });

  describe('a call below a holder', () => {
    it('that asks again is refused with both paths, whatever is free', () =>
      virtual(({ flush }) => {
        const semaphore = new Semaphore({ name: 'model', limit: 5 });
        const errors: unknown[] = [];
        scoped(() => of(1).pipe(bulkhead(semaphore), bulkhead(semaphore)), { label: 'agent' }).subscribe({
          error: (error: AggregateError) => errors.push(error.errors[0]),
        });
        flush();
        const [error] = errors;
        expect(isReentrantAcquireError(error) && error).toMatchObject({
          code: 'REENTRANT_ACQUIRE',
          gate: 'model',
          holder: ['agent'],
          path: ['agent'],
        });
        expect(semaphore.snapshot()).toMatchObject(free);
      }));

    it('says so in words', () =>
      virtual(({ flush }) => {
        const semaphore = new Semaphore({ name: 'model', limit: 5 });
        const errors: unknown[] = [];
        const call = scoped(() => of(1).pipe(bulkhead(semaphore)), { label: 'sub-agent' }).pipe(bulkhead(semaphore));
        scoped(() => call, { label: 'agent' }).subscribe({ error: (error: AggregateError) => errors.push(error.errors[0]) });
        flush();
        expect(String((errors[0] as AggregateError).errors[0])).toBe(
          'ReentrantAcquireError: "model" is held at agent and asked for again below it, at agent > sub-agent: that would be a deadlock. ' +
            'Permits and locks are for leaf calls.',
        );
      }));

    it('may ask another semaphore, and the same one once the holder has ended', () =>
      virtual(({ flush, watch, lines }) => {
        const [one, two] = [new Semaphore({ limit: 1 }), new Semaphore({ limit: 1 })];
        watch(scoped(() => of('a').pipe(bulkhead(two))).pipe(bulkhead(one)));
        watch(concat(of('b').pipe(bulkhead(one)), of('c').pipe(bulkhead(one))));
        flush();
        expect(lines.map((line) => line.slice(2))).toEqual(['next a', 'complete', 'next b', 'next c', 'complete']);
      }));
  });

  describe('dispose', () => {
    it('refuses those who wait and those who come, and leaves those in flight alone', () =>
      virtual((test) => {
        const calls = ward(test, { name: 'db', limit: 1 });
        calls.calls('a b c', 5);
        test.at(1, () => {
          calls.semaphore.dispose();
          expect(calls.ended).toEqual(['b Gate "db" has been disposed.@1', 'c Gate "db" has been disposed.@1']);
        });
        test.at(2, () => void calls.call('d'));
        test.flush();
        expect(calls.ended.slice(2)).toEqual(['d Gate "db" has been disposed.@2', 'a@5']);
        expect([calls.started, calls.semaphore.snapshot()]).toMatchObject([['a@0'], free]);
      }));

    it('with cancelInFlight stops those as well, all of them before any hears', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 2 });
        calls.calls('a b c', new Observable(() => () => test.note('torn down')));
        test.at(1, () => calls.semaphore.dispose({ cancelInFlight: true }));
        test.flush();
        expect(calls.ended.map((each) => each[0])).toEqual(['c', 'a', 'b']);
        expect(test.lines).toEqual(['1 torn down', '1 torn down']);
        expect(calls.semaphore.snapshot()).toMatchObject(free);
      }));

    it('may be called again, first without and then with cancelInFlight, and from a handler', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        const types: string[] = [];
        calls.semaphore.events$.subscribe(({ type }) => types.push(type));
        calls.call('a');
        calls.guarded('b').subscribe({ error: () => (calls.semaphore.dispose(), calls.call('again')) });
        calls.semaphore.dispose();
        calls.semaphore.dispose();
        expect(calls.live).toBe(1);
        calls.semaphore.dispose({ cancelInFlight: true });
        calls.semaphore.dispose({ cancelInFlight: true });
        test.flush();
        expect([calls.live, calls.ended.map((each) => each.split(' ')[0])]).toEqual([0, ['again', 'a']]);
        expect(types.filter((type) => type === 'disposed')).toHaveLength(1);
      }));

    it('is what `using` calls', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.calls('a b', 5);
        calls.semaphore[Symbol.dispose]();
        test.flush();
        expect(calls.ended.map((each) => each[0])).toEqual(['b', 'a']);
      }));

    it('its error is a ResourceDisposedError with the name of the gate', () =>
      virtual(({ flush }) => {
        const semaphore = new Semaphore({ name: 'db', limit: 1 });
        semaphore.dispose();
        const errors: unknown[] = [];
        of(1)
          .pipe(bulkhead(semaphore))
          .subscribe({ error: (error: unknown) => errors.push(error) });
        flush();
        expect(errors.map((error) => isResourceDisposedError(error) && error.gate)).toEqual(['db']);
      }));

    it('in the frame of a release lets nobody in', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.calls('a b');
        test.at(2, () => {
          calls.leave('a');
          calls.semaphore.dispose();
        });
        test.flush();
        expect([calls.started, armed(calls.semaphore)]).toEqual([['a@0'], false]);
      }));

    it('from a call that is just let in stops the others', () =>
      virtual((test) => {
        const calls = ward(test, { limit: 1 });
        calls.call('a', 2);
        calls.call(
          'b',
          defer(() => (calls.semaphore.dispose(), of(1))),
        );
        calls.calls('c d');
        test.flush();
        expect(calls.ended.map((each) => each.split(' ')[0])).toEqual(['a@2', 'c', 'd', 'b@2']);
      }));
  });

  it('runs no timer while it is idle, nor while calls wait for a release', () =>
    virtual((test) => {
      const calls = ward(test, { limit: 1 });
      expect(armed(calls.semaphore)).toBe(false);
      calls.calls('a b', 5);
      expect(armed(calls.semaphore)).toBe(false);
      test.at(2, () => {
        calls.leave('a');
        expect(armed(calls.semaphore)).toBe(true);
      });
      test.at(3, () => expect(armed(calls.semaphore)).toBe(false));
      test.flush();
      expect(armed(calls.semaphore)).toBe(false);
    }));

  it('D14 100,000 that wait cost no more each than 1,000', () => {
    const run = (count: number): number => {
      const semaphore = new Semaphore({ limit: 1 });
      const gate = new Subject<void>();
      gate.pipe(bulkhead(semaphore)).subscribe();
      const began = performance.now();
      for (let i = 0; i < count; i++) of(i).pipe(bulkhead(semaphore)).subscribe();
      gate.complete();
      expect(semaphore.snapshot()).toMatchObject(free);
      return (performance.now() - began) / count;
    };
    run(5000);
    const [few, many] = [run(1000), run(100_000)];
    expect(many).toBeLessThan(few * 5 + 0.02);
  });

  it('D16 nobody is left pending for ever: not by a dispose, a lowered limit, nor a refused neighbour', () =>
    virtual((test) => {
      const calls = ward(test, { limit: 2, maxQueue: 3 });
      calls.call('a', 3, { permits: 2 });
      calls.calls('b c d e f', 1);
      calls.semaphore.setLimit(1);
      test.at(4, () => calls.semaphore.dispose());
      test.flush();
      expect(calls.ended).toHaveLength(6);
    }));

  describe('C9 bad options throw where it is made', () => {
    it.each([
      [undefined, TypeError, 'Semaphore: options must be an object, got undefined.'],
      [null, TypeError, 'options must be an object'],
      [{}, TypeError, 'Semaphore: limit must be an integer of at least 0, or Infinity, got undefined.'],
      [{ limit: '2' }, TypeError, 'got "2"'],
      [{ limit: -1 }, RangeError, 'got -1'],
      [{ limit: 1.5 }, RangeError, 'limit must be'],
      [{ limit: Number.NaN }, RangeError, 'limit must be'],
      [{ limit: 1, maxQueue: -1 }, RangeError, 'maxQueue must be'],
      [{ limit: 1, maxQueue: null }, TypeError, 'maxQueue must be'],
      [{ limit: 1, name: '' }, TypeError, 'name must be'],
      [{ limit: 1, name: 5 }, TypeError, 'name must be'],
      [{ limit: 1, scheduler: {} }, TypeError, 'scheduler must be'],
      [{ limit: 1, slowStart: null }, TypeError, 'Semaphore: slowStart must be an object, got null.'],
      [{ limit: 1, slowStart: 5 }, TypeError, 'slowStart must be an object'],
      [{ limit: 1, slowStart: {} }, TypeError, 'slowStart.initial must be'],
      [{ limit: 1, slowStart: { initial: 0, step: 1, everyMs: 1 } }, RangeError, 'slowStart.initial must be'],
      [{ limit: 1, slowStart: { initial: 1, step: 0, everyMs: 1 } }, RangeError, 'slowStart.step must be'],
      [{ limit: 1, slowStart: { initial: 1, step: 1, everyMs: 0 } }, RangeError, 'slowStart.everyMs must be'],
      [{ limit: 1, slowStart: { initial: 1, step: 1, everyMs: Infinity } }, RangeError, 'slowStart.everyMs must be'],
      [{ limit: 1, aimd: null }, TypeError, 'aimd must be an object'],
      [{ limit: 1, aimd: 'aimd' }, TypeError, 'aimd must be an object'],
      [{ limit: 1, aimd: { min: 0 } }, RangeError, 'aimd.min must be'],
      [{ limit: 3, aimd: { min: 3, max: 2 } }, RangeError, 'aimd.max must be an integer of at least 3'],
      [{ limit: 1, aimd: { backoff: 1 } }, RangeError, 'aimd.backoff must be'],
      [{ limit: 1, aimd: { backoff: 0 } }, RangeError, 'aimd.backoff must be'],
      [{ limit: 1, aimd: { min: 2 } }, RangeError, 'limit must be between aimd.min (2) and aimd.max (1000)'],
      [{ limit: 0, aimd: {} }, RangeError, 'limit must be between'],
      [{ limit: Infinity, aimd: {} }, RangeError, 'limit must be between'],
    ])('%o', (options, kind, words) => {
      expect(() => new Semaphore(options as never)).toThrow(kind);
      expect(() => new Semaphore(options as never)).toThrow(words);
    });

    it('and good ones do not', () => {
      const undef = { name: undefined, scheduler: undefined, maxQueue: undefined, slowStart: undefined, aimd: undefined };
      expect(new Semaphore({ limit: 0, ...undef }).name).toBe('semaphore');
      expect(new Semaphore({ limit: 5, aimd: { min: undefined, max: undefined, backoff: undefined } }).limit).toBe(5);
      expect(new Semaphore({ limit: Infinity, maxQueue: Infinity, name: 'x' }).name).toBe('x');
    });
  });
});
