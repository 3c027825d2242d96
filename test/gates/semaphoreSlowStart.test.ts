import { asyncScheduler, defer, NEVER, of, VirtualTimeScheduler } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { later, virtual } from '../support/virtual.js';
import { armed, Ward } from './semaphoreHarness.js';

const slowStart = { initial: 2, step: 1, everyMs: 10 };
const names = (count: number): string => Array.from({ length: count }, (_, i) => String(i)).join(' ');

describe('Semaphore with slowStart', () => {
  afterEach(() => void vi.useRealTimers());

  it('thirty agents started in the same second do not meet the provider in the same 200 ms', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 30, slowStart: { initial: 3, step: 3, everyMs: 100 } }), test);
      calls.calls(names(30), 2000);
      test.flush();
      const starts = calls.started.map((each) => Number(each.split('@')[1]));
      expect([starts.filter((at) => at < 200).length, Math.max(...starts), calls.peak]).toEqual([6, 900, 30]);
    }));

  it('begins with the first call and adds a step each time, up to the limit; then no timer runs', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 5, slowStart }), test);
      const { semaphore } = calls;
      expect([semaphore.snapshot(), armed(semaphore)]).toMatchObject([{ limit: 5, allowed: 2, free: 2 }, false]);
      test.at(7, () => calls.calls(names(7), 100));
      test.at(8, () => expect([semaphore.snapshot(), armed(semaphore)]).toMatchObject([{ allowed: 2, inUse: 2, waiting: 5 }, true]));
      test.at(28, () => expect(semaphore.snapshot()).toMatchObject({ allowed: 4, inUse: 4, waiting: 3 }));
      test.at(38, () => expect([semaphore.snapshot(), armed(semaphore)]).toMatchObject([{ allowed: 5, inUse: 5, waiting: 2 }, false]));
      test.flush();
      expect(calls.started).toEqual(['0@7', '1@7', '2@17', '3@27', '4@37', '5@107', '6@107']);
    }));

  it('a permit that is given back may be taken again at once: only more at once has to wait', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 9, slowStart: { initial: 1, step: 1, everyMs: 100 } }), test);
      calls.calls(names(4), 3);
      test.flush();
      expect(calls.started).toEqual(['0@0', '1@3', '2@6', '3@9']);
    }));

  it('a first call that needs more than the first step waits for the step that is enough, and is not overtaken', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 5, slowStart }), test);
      calls.call('big', 5, { permits: 4 });
      calls.call('small', 5);
      expect(armed(calls.semaphore)).toBe(true);
      test.flush();
      expect(calls.started).toEqual(['big@20', 'small@25']);
    }));

  it('a fractional step ends, at the same millisecond', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 100, slowStart: { initial: 1, step: 1, everyMs: 1.1 } }), test);
      calls.calls(names(60), 1000);
      test.flush();
      const starts = calls.started.map((each) => Number(each.split('@')[1]));
      starts.forEach((at, i) => expect(Math.abs(at - i * 1.1)).toBeLessThan(2));
    }));

  it('no timer runs while nobody waits, whoever left', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 5, slowStart }), test);
      calls.calls('a b');
      expect(armed(calls.semaphore)).toBe(false);
      calls.calls('c d');
      expect(armed(calls.semaphore)).toBe(true);
      calls.leave('c');
      expect(armed(calls.semaphore)).toBe(true);
      calls.leave('d');
      expect(armed(calls.semaphore)).toBe(false);
      calls.call('e', 1, { permits: 3 });
      expect(armed(calls.semaphore)).toBe(true);
      calls.semaphore.setLimit(2);
      expect([armed(calls.semaphore), calls.ended.length]).toEqual([false, 1]);
      calls.call('f', 1);
      expect(armed(calls.semaphore)).toBe(false);
      calls.semaphore.setLimit(5);
      expect(armed(calls.semaphore)).toBe(true);
      calls.semaphore.dispose();
      expect(armed(calls.semaphore)).toBe(false);
      test.flush();
      calls.leaveAll();
      test.flush();
    }));

  it('with a limit of 0 begins when the limit is raised', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 0, slowStart: { initial: 1, step: 1, everyMs: 10 } }), test);
      calls.calls(names(4), 100);
      test.at(50, () => calls.semaphore.setLimit(3));
      test.flush();
      expect(calls.started).toEqual(['0@50', '1@60', '2@70', '3@150']);
    }));

  it('a limit that is raised later is there at once', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 2, slowStart: { initial: 1, step: 1, everyMs: 10 } }), test);
      calls.calls(names(6), 100);
      test.at(35, () => calls.semaphore.setLimit(10));
      test.flush();
      expect(calls.started).toEqual(['0@0', '1@10', '2@35', '3@35', '4@40', '5@50']);
    }));

  it('without a limit goes on step by step for as long as somebody waits', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: Infinity, slowStart: { initial: 1, step: 2, everyMs: 10 } }), test);
      calls.calls(names(6), 1000);
      test.flush();
      expect(calls.started).toEqual(['0@0', '1@10', '2@10', '3@20', '4@20', '5@30']);
    }));

  it('keeps to the scheduler that it was given', () => {
    const scheduler = new VirtualTimeScheduler();
    const semaphore = new Semaphore({ limit: 3, slowStart: { initial: 1, step: 1, everyMs: 10 }, scheduler });
    const started: number[] = [];
    const calls = [0, 1, 2].map(() =>
      defer(() => (started.push(scheduler.now()), NEVER))
        .pipe(bulkhead(semaphore))
        .subscribe(),
    );
    scheduler.flush();
    expect(started).toEqual([0, 10, 20]);
    for (const call of calls) call.unsubscribe();
    scheduler.flush();
    expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
  });

  it('made and used before virtual time, goes on inside it', () => {
    const semaphore = new Semaphore({ limit: 3, slowStart });
    of(1).pipe(bulkhead(semaphore)).subscribe();
    virtual((test) => {
      const calls = new Ward(semaphore, test);
      calls.calls(names(4), 100);
      test.flush();
      expect(calls.started.slice(0, 2)).toEqual(['0@0', '1@0']);
      expect(Number(calls.started[2]?.split('@')[1])).toBeLessThanOrEqual(10);
      expect(calls.started[3]).toBe('3@100');
    });
  });

  it('a clock that is set back delays a step by no more than its length', () => {
    vi.useFakeTimers({ now: 1_000_000 });
    const semaphore = new Semaphore({ limit: 3, slowStart: { initial: 1, step: 1, everyMs: 100 }, scheduler: asyncScheduler });
    const started: number[] = [];
    for (let i = 0; i < 3; i++)
      later(10_000, i)
        .pipe(bulkhead(semaphore))
        .subscribe({ complete: () => started.push(i) });
    vi.advanceTimersByTime(50);
    vi.setSystemTime(0);
    vi.advanceTimersByTime(250);
    expect(semaphore.snapshot().inUse).toBeGreaterThanOrEqual(2);
    vi.advanceTimersByTime(200);
    expect(semaphore.snapshot().inUse).toBe(3);
    vi.advanceTimersByTime(20_000);
    expect([started.length, vi.getTimerCount()]).toEqual([3, 0]);
  });

  it('steps of more than 2^31 ms do not come at once', () =>
    virtual((test) => {
      const calls = new Ward(new Semaphore({ limit: 2, slowStart: { initial: 1, step: 1, everyMs: 2 ** 31 + 5 } }), test);
      calls.call('a', 2 ** 33);
      calls.call('b', 1);
      test.flush();
      expect(calls.started).toEqual(['a@0', `b@${2 ** 31 + 5}`]);
    }));
});
