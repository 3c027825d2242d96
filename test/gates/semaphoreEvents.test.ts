import { config, EMPTY, map, NEVER, of, Subject, take, takeUntil, throwError } from 'rxjs';
import { scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import type { GateEvent } from '../../src/gates/events.js';
import type { Call, Lease } from '../../src/gates/gate.js';
import { Semaphore, type SemaphoreSnapshot } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { later, virtual } from '../support/virtual.js';
import { Ward } from './semaphoreHarness.js';

/** `2 admitted 2`: one line for an event. */
function line(event: GateEvent): string {
  const { at, type } = event;
  const rest = {
    admitted: () => (event.type === 'admitted' ? event.waitedMs : ''),
    queued: () => (event.type === 'queued' ? event.waiting : ''),
    settled: () => (event.type === 'settled' ? event.end : ''),
    refused: () => (event.type === 'refused' ? event.error.name : ''),
    limit: () => (event.type === 'limit' ? event.limit : ''),
  };
  return `${at} ${type} ${type in rest ? rest[type as keyof typeof rest]() : ''}`.trim();
}

describe('events$ of a semaphore', () => {
  it('tell all that happens, in order, with the time of the gate, its name and the path of the call', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ name: 'db', limit: 1, maxQueue: 2 });
      const calls = new Ward(semaphore, test);
      const events: GateEvent[] = [];
      semaphore.events$.subscribe((event) => events.push(event));
      scoped(() => calls.guarded('a', 4), { label: 'agent' }).subscribe();
      calls.call(
        'b',
        throwError(() => 'x'),
      );
      calls.call('c');
      calls.call('d');
      calls.call('e', 1, { permits: 2 });
      test.at(2, () => calls.leave('c'));
      test.at(3, () => semaphore.setLimit(2));
      test.at(5, () => void calls.call('f', 9));
      test.at(6, () => semaphore.dispose());
      test.at(7, () => void calls.call('g'));
      test.at(8, () => semaphore.dispose({ cancelInFlight: true }));
      test.flush();
      expect(events.map(line)).toEqual([
        '0 admitted 0',
        '0 queued 1',
        '0 queued 2',
        '0 refused BulkheadFullError',
        '0 refused PermitsExceedLimitError',
        '2 withdrawn',
        '3 limit 2',
        '3 admitted 3',
        '3 settled failed',
        '4 settled completed',
        '5 admitted 0',
        '6 disposed',
        '7 refused ResourceDisposedError',
        '8 settled cancelled',
        '8 revoked',
      ]);
      expect(events[0]).toEqual({ gate: 'db', at: 0, type: 'admitted', path: ['agent'], waitedMs: 0 });
    }));

  it('a refusal is told, whatever it is for', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 2, maxQueue: 0 });
      const refused: string[] = [];
      semaphore.events$.subscribe((event) => event.type === 'refused' && refused.push(event.error.name));
      const hold = NEVER.pipe(bulkhead(semaphore, { permits: 2 })).subscribe();
      const asks = [{ permits: 1 }, { permits: 3 }, { permits: 0.5 }, { priority: Number.NaN }];
      for (const ask of asks) of(1).pipe(bulkhead(semaphore, () => ask)).subscribe({ error: () => {} }); // prettier-ignore
      hold.unsubscribe();
      of(1).pipe(bulkhead(semaphore), bulkhead(semaphore)).subscribe({ error: () => {} }); // prettier-ignore
      semaphore.dispose();
      of(1).pipe(bulkhead(semaphore)).subscribe({ error: () => {} }); // prettier-ignore
      flush();
      expect(refused).toEqual([
        'BulkheadFullError',
        'PermitsExceedLimitError',
        'BadAskError',
        'BadAskError',
        'ReentrantAcquireError',
        'ResourceDisposedError',
      ]);
    }));

  it('are told when the state is consistent', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 2, maxQueue: 1 });
      const calls = new Ward(semaphore, test);
      const seen: string[] = [];
      semaphore.events$.subscribe((event) => {
        const { inUse, waiting, free, limit } = semaphore.snapshot();
        seen.push(`${line(event).slice(2)}: ${inUse} ${waiting}`);
        expect(inUse + free).toBe(limit);
      });
      calls.calls('a b c d', 2);
      test.at(1, () => calls.leave('c'));
      test.flush();
      expect(seen).toEqual([
        'admitted 0: 1 0',
        'admitted 0: 2 0',
        'queued 1: 2 1',
        'refused BulkheadFullError: 2 1',
        'withdrawn: 2 0',
        'settled completed: 1 0',
        'settled completed: 0 0',
      ]);
    }));

  it('cost nothing while nobody listens: not even the path is asked for', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 1, maxQueue: 1 });
      const leases: Lease[] = [];
      const call = {
        get scope(): never {
          throw new Error('asked for');
        },
        attempt: 1,
        started: true,
        heldAbove: () => undefined,
      } as Call;
      const caller = { granted: (lease: Lease) => void leases.push(lease), refused: () => {}, revoked: () => {} };
      const run = (): void => {
        semaphore.enter({}, call, caller);
        const withdraw = semaphore.enter({}, call, caller);
        semaphore.enter({}, call, caller);
        withdraw();
        const lease = leases.pop();
        lease?.settle({ kind: 'cancelled', started: true, emitted: 0 });
        lease?.release?.();
      };
      expect(run).not.toThrow();
      const sub = semaphore.events$.subscribe();
      expect(run).toThrow('asked for');
      sub.unsubscribe();
      semaphore.setLimit(9);
      expect(run).not.toThrow();
      flush();
    }));

  it('listeners may call back in: leave, ask again, change the limit, dispose', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const calls = new Ward(semaphore, test);
      const seen: string[] = [];
      semaphore.events$.subscribe((event) => {
        seen.push(line(event));
        if (event.type === 'queued' && event.waiting === 1) semaphore.setLimit(2);
        if (event.type === 'queued' && event.waiting === 2) calls.leave('d', 'c');
        if (event.type === 'settled' && calls.subs.size === 4) calls.call('e', 1);
      });
      calls.calls('a b c d', 2);
      test.flush();
      expect(calls.started).toEqual(['a@0', 'b@0', 'c@2', 'e@2'].filter((each) => calls.started.includes(each)));
      expect(calls.started).toContain('e@2');
      expect([calls.peak, semaphore.snapshot()]).toMatchObject([2, { inUse: 0, waiting: 0 }]);
    }));

  it('every listener hears them in the order in which they happened, whatever another one brings about', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const calls = new Ward(semaphore, test);
      const [first, second]: string[][] = [[], []];
      semaphore.events$.subscribe((event) => {
        first?.push(line(event));
        if (event.type === 'queued') semaphore.setLimit(2);
        if (event.type === 'limit' && event.limit === 2) semaphore.setLimit(3);
      });
      semaphore.events$.subscribe((event) => second?.push(line(event)));
      calls.calls('a b', 2);
      test.flush();
      expect(first).toEqual([
        '0 admitted 0',
        '0 queued 1',
        '0 limit 2',
        '0 admitted 0',
        '0 limit 3',
        '2 settled completed',
        '2 settled completed',
      ]);
      expect(second).toEqual(first);
    }));

  it.each(['queued', 'admitted'])('a call that is left in the event of its own %s never starts, and gives back what it has', (type) =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const calls = new Ward(semaphore, test);
      calls.call('a', 2);
      const stop = new Subject<void>();
      semaphore.events$.subscribe((event) => {
        if (event.type === type) stop.next();
      });
      calls.guarded('b').pipe(takeUntil(stop)).subscribe();
      test.flush();
      expect(calls.started).toEqual(['a@0']);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }),
  );

  it('a call whose gate is disposed in the event of its own admission is stopped', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const calls = new Ward(semaphore, test);
      calls.call('a', 2);
      calls.call('b');
      semaphore.events$.subscribe(({ type }) => {
        if (type === 'admitted') semaphore.dispose({ cancelInFlight: true });
      });
      test.flush();
      expect(calls.started).toEqual(['a@0']);
      expect([calls.ended.map((each) => each[0]), semaphore.snapshot()]).toMatchObject([['a', 'b'], { inUse: 0 }]);
    }));

  it('a listener that throws is reported as uncaught; nobody who waits notices', () =>
    virtual((test) => {
      const reported: unknown[] = [];
      config.onUnhandledError = (error: unknown) => void reported.push(error);
      const semaphore = new Semaphore({ limit: 1 });
      const calls = new Ward(semaphore, test);
      const types: string[] = [];
      semaphore.events$.subscribe(({ type }) => {
        if (type === 'admitted') throw new Error('listener');
      });
      semaphore.events$.subscribe(({ type }) => types.push(type));
      semaphore.events$.pipe(map(() => { throw new Error('operator'); })).subscribe(); // prettier-ignore
      calls.calls('a b c', 2);
      test.flush();
      config.onUnhandledError = null;
      expect([calls.started, calls.ended]).toEqual([
        ['a@0', 'b@2', 'c@4'],
        ['a@2', 'b@4', 'c@6'],
      ]);
      expect(types.filter((type) => type === 'admitted')).toHaveLength(3);
      expect(reported.map(String)).toEqual(['Error: listener', 'Error: operator', 'Error: listener', 'Error: listener']);
    }));

  it('one listener may leave while another stays', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const [one, two]: string[][] = [[], []];
      semaphore.events$.pipe(take(1)).subscribe((event) => one?.push(event.type));
      semaphore.events$.subscribe((event) => two?.push(event.type));
      of(1).pipe(bulkhead(semaphore)).subscribe();
      test.flush();
      expect([one, two]).toEqual([['admitted'], ['admitted', 'settled']]);
    }));
});

describe('state$ of a semaphore', () => {
  it('is the picture of now, and again after each change', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const seen: string[] = [];
      const state = ({ limit, inUse, waiting }: SemaphoreSnapshot): string => `${test.now()} ${limit} ${inUse} ${waiting}`;
      later(3, 'x').pipe(bulkhead(semaphore)).subscribe();
      semaphore.state$.subscribe((each) => seen.push(state(each)));
      const sub = NEVER.pipe(bulkhead(semaphore)).subscribe();
      test.at(1, () => semaphore.setLimit(2));
      test.at(4, () => sub.unsubscribe());
      test.flush();
      expect(seen).toEqual(['0 1 1 0', '0 1 1 1', '1 2 1 1', '1 2 2 0', '3 2 1 0', '4 2 0 0']);
    }));

  it('misses nothing that its own first value brings about', () =>
    virtual((test) => {
      const semaphore = new Semaphore({ limit: 1 });
      const seen: number[] = [];
      semaphore.state$.subscribe(({ limit }) => {
        seen.push(limit);
        if (limit < 4) semaphore.setLimit(limit + 1);
      });
      test.flush();
      expect([seen, semaphore.limit]).toEqual([[1, 2, 3, 4], 4]);
    }));

  it('stops listening when nobody wants it', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 1 });
      semaphore.state$.pipe(take(1)).subscribe();
      const watched = (): boolean => (semaphore as unknown as { watched: boolean }).watched;
      expect(watched()).toBe(false);
      const sub = semaphore.state$.subscribe();
      expect(watched()).toBe(true);
      sub.unsubscribe();
      expect(watched()).toBe(false);
      EMPTY.pipe(bulkhead(semaphore)).subscribe();
      flush();
    }));
});
