import { asapScheduler, asyncScheduler, VirtualTimeScheduler, type SchedulerAction, type SchedulerLike, Subscription } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { GateTimer } from '../../src/gates/gateTimer.js';
import { virtual } from '../support/virtual.js';

/** A clock that is set by hand, and whose timers ring by hand. */
class Bench implements SchedulerLike {
  time = 0;
  readonly delays: number[] = [];
  private tasks: { readonly run: () => void; readonly sub: Subscription }[] = [];

  now(): number {
    return this.time;
  }

  schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay = 0): Subscription {
    this.delays.push(delay);
    const sub = new Subscription();
    const task = { run: () => work.call(undefined as never), sub };
    this.tasks.push(task);
    sub.add(() => (this.tasks = this.tasks.filter((each) => each !== task)));
    return sub;
  }

  get pending(): number {
    return this.tasks.length;
  }

  ring(at = this.time): void {
    this.time = at;
    const [task] = this.tasks;
    task?.sub.unsubscribe();
    task?.run();
  }
}

function timerOn(scheduler: SchedulerLike): { readonly timer: GateTimer; readonly woken: number[] } {
  const woken: number[] = [];
  const timer: GateTimer = new GateTimer(scheduler, () => woken.push(timer.now()));
  return { timer, woken };
}

describe('GateTimer', () => {
  afterEach(() => void vi.useRealTimers());

  it('wakes when it is time', () =>
    virtual(({ scheduler, at, flush, now }) => {
      const { timer, woken } = timerOn(scheduler);
      timer.wakeBy(5);
      at(4, () => expect([woken, timer.armed]).toEqual([[], true]));
      flush();
      expect([woken, timer.armed, now()]).toEqual([[5], false, 5]);
    }));

  it('keeps an earlier timer and replaces a later one: there is never more than one', () => {
    const bench = new Bench();
    const { timer } = timerOn(bench);
    timer.wakeBy(10);
    timer.wakeBy(20);
    timer.wakeBy(10);
    expect(bench.delays).toEqual([10]);
    timer.wakeBy(5);
    timer.wakeSoon();
    timer.wakeSoon();
    timer.wakeBy(1);
    expect([bench.delays, bench.pending]).toEqual([[10, 5, 0], 1]);
    timer.stop();
    expect([bench.pending, timer.armed]).toEqual([0, false]);
    timer.wakeBy(20);
    expect([bench.delays, bench.pending]).toEqual([[10, 5, 0, 20], 1]);
    timer.stop();
    timer.stop();
  });

  it('wakes in this frame, after whatever runs now', () =>
    virtual(({ scheduler, at, flush, note, lines }) => {
      const timer = new GateTimer(scheduler, () => note('woken'));
      at(3, () => {
        timer.wakeSoon();
        note('runs');
      });
      flush();
      expect(lines).toEqual(['3 runs', '3 woken']);
    }));

  it('may be armed again from what it wakes', () =>
    virtual(({ scheduler, flush, now }) => {
      const woken: number[] = [];
      const timer: GateTimer = new GateTimer(scheduler, () => {
        woken.push(now());
        if (woken.length < 3) timer.wakeBy(timer.now() + 2);
      });
      timer.wakeBy(1);
      flush();
      expect([woken, timer.armed]).toEqual([[1, 3, 5], false]);
    }));

  it('reads no clock before it is used', () => {
    const now = vi.fn(() => 0);
    const scheduler = { now, schedule: vi.fn() };
    new GateTimer(scheduler, () => {});
    expect(now).not.toHaveBeenCalled();
    expect(scheduler.schedule).not.toHaveBeenCalled();
  });

  it('waits in whole milliseconds, rounded up', () => {
    const bench = new Bench();
    const { timer, woken } = timerOn(bench);
    timer.wakeBy(1.2);
    expect(bench.delays).toEqual([2]);
    bench.ring(2);
    expect(woken).toEqual([2]);
    timer.wakeBy(1);
    expect(bench.delays).toEqual([2, 0]);
    timer.stop();
  });

  it('a timer that comes early is armed for the rest', () => {
    const bench = new Bench();
    const { timer, woken } = timerOn(bench);
    timer.wakeBy(10);
    bench.ring(9.4);
    expect([woken, bench.delays, timer.armed]).toEqual([[], [10, 1], true]);
    bench.ring(9.9);
    expect([woken, bench.delays]).toEqual([[], [10, 1, 1]]);
    bench.ring(11);
    expect([woken, bench.pending]).toEqual([[11], 0]);
  });

  it('#54 a wait beyond 2^31 ms comes in pieces, and never at once', () => {
    const bench = new Bench();
    const { timer, woken } = timerOn(bench);
    const piece = 2 ** 31 - 1;
    timer.wakeBy(2 * piece + 10);
    bench.ring(piece);
    bench.ring(2 * piece);
    expect([woken, bench.delays]).toEqual([[], [piece, piece, 10]]);
    bench.ring(2 * piece + 10);
    expect(woken).toEqual([2 * piece + 10]);
  });

  it('#54 passes 2^32 ms in virtual time to the millisecond', () => {
    const scheduler = new VirtualTimeScheduler();
    scheduler.maxFrames = Infinity;
    const { timer, woken } = timerOn(scheduler);
    timer.wakeBy(2 ** 32 + 5);
    scheduler.flush();
    expect(woken).toEqual([2 ** 32 + 5]);
  });

  it('#54 a clock that is set back loses nothing and postpones nothing: the timer knows better', () => {
    const bench = new Bench();
    bench.time = 1000;
    const { timer, woken } = timerOn(bench);
    timer.wakeBy(timer.now() + 10);
    bench.ring(-5000);
    expect([woken, bench.delays, timer.now()]).toEqual([[1010], [10], 1010]);
    bench.time = -4990;
    expect(timer.now()).toBe(1020);
  });

  it('#54 nor when the clock was read in between', () => {
    const bench = new Bench();
    bench.time = 1000;
    const { timer, woken } = timerOn(bench);
    timer.wakeBy(timer.now() + 10);
    bench.time = -5000;
    expect(timer.now()).toBe(1000);
    bench.time = -4998;
    expect(timer.now()).toBe(1002);
    bench.ring(-4990);
    expect([woken, bench.delays]).toEqual([[1010], [10]]);
  });

  it('a timer that comes early while the clock is right is armed again', () => {
    const bench = new Bench();
    bench.time = 1000;
    const { timer, woken } = timerOn(bench);
    timer.wakeBy(timer.now() + 10);
    bench.ring(1007);
    expect([woken, bench.delays]).toEqual([[], [10, 3]]);
  });

  it('never runs backwards, and goes on from where it was', () => {
    const bench = new Bench();
    const { timer } = timerOn(bench);
    const seen = [5, 7, 3, 4, 4, -10, -9, 100].map((time) => {
      bench.time = time;
      return timer.now();
    });
    expect(seen).toEqual([5, 7, 7, 8, 8, 8, 9, 118]);
  });

  it('made and used outside of virtual time, goes on inside it', () => {
    const { timer, woken } = timerOn(asyncScheduler);
    const before = timer.now();
    expect(before).toBeGreaterThan(1e12);
    virtual(({ flush, now }) => {
      timer.wakeBy(timer.now() + 30);
      flush();
      expect(now()).toBe(30);
    });
    expect(woken).toHaveLength(1);
    expect((woken[0] as number) - before).toBeLessThan(40);
  });

  it('works on fake timers', () => {
    vi.useFakeTimers({ now: 1000 });
    const { timer, woken } = timerOn(asyncScheduler);
    timer.wakeBy(timer.now() + 20);
    vi.advanceTimersByTime(19);
    expect(woken).toEqual([]);
    vi.advanceTimersByTime(1);
    expect([woken, vi.getTimerCount()]).toEqual([[1020], 0]);
    timer.wakeSoon();
    vi.advanceTimersByTime(0);
    expect([woken.length, vi.getTimerCount()]).toEqual([2, 0]);
    timer.wakeBy(timer.now() + 20);
    vi.setSystemTime(0);
    vi.advanceTimersByTime(41);
    expect([woken.length, vi.getTimerCount()]).toEqual([3, 0]);
  });

  it('works on any scheduler', async () => {
    const woken = await new Promise<boolean>((resolve) => {
      const timer: GateTimer = new GateTimer(asapScheduler, () => resolve(timer.armed));
      timer.wakeSoon();
    });
    expect(woken).toBe(false);
  });
});
