import fc from 'fast-check';
import { VirtualTimeScheduler, type SchedulerAction, type SchedulerLike } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Clock, type Alarm, type AlarmTarget } from '../../src/core/clock.js';

interface Target extends AlarmTarget {
  deadline: Alarm | undefined;
}

/** A target that notes when it is woken. */
function target(note: (alarm: Alarm) => void, up?: Target): Target {
  const self: Target = {
    up,
    deadline: undefined,
    onAlarm: (alarm) => {
      if (alarm === self.deadline) self.deadline = undefined;
      note(alarm);
    },
  };
  return self;
}

describe('Clock', () => {
  type Command = { readonly set: number } | { readonly clear: number } | { readonly wait: number };
  const commands: fc.Arbitrary<Command[]> = fc.array(
    fc.oneof(
      fc.record({ set: fc.nat(50) }),
      fc.record({ set: fc.nat(50) }),
      fc.record({ clear: fc.nat(30) }),
      fc.record({ wait: fc.nat(20) }),
    ),
    { maxLength: 80 },
  );

  it('wakes every alarm that was not cleared once, in its time, whatever is set and cleared', () => {
    fc.assert(
      fc.property(commands, (script) => {
        const scheduler = new VirtualTimeScheduler();
        const clock = new Clock(scheduler);
        const woken: [id: number, at: number][] = [];
        const expected = new Map<number, number>();
        const alarms: Alarm[] = [];
        let at = 0;
        let ids = 0;
        for (const command of script) {
          if ('wait' in command) at += command.wait;
          else {
            const id = ids++;
            scheduler.schedule(() => {
              const now = scheduler.now();
              if ('set' in command) {
                expected.set(id, now + command.set);
                alarms[id] = clock.set(
                  target(() => woken.push([id, scheduler.now()])),
                  command.set,
                );
                return;
              }
              const alarm = alarms[command.clear];
              if (alarm === undefined || (expected.get(command.clear) ?? -1) <= now) return;
              clock.clear(alarm);
              expected.delete(command.clear);
            }, at);
          }
        }
        scheduler.flush();
        expect(woken.map(([id]) => id).sort((a, b) => a - b)).toEqual([...expected.keys()].sort((a, b) => a - b));
        for (const [id, when] of woken) expect(when).toBe(expected.get(id));
        expect(woken.map(([, when]) => when)).toEqual(woken.map(([, when]) => when).sort((a, b) => a - b));
        expect(scheduler.actions).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('has one timer, and none while there is nothing to wait for', () => {
    const scheduler = new VirtualTimeScheduler();
    const clock = new Clock(scheduler);
    expect(scheduler.actions).toHaveLength(0);
    const alarms = Array.from({ length: 100 }, (_, i) =>
      clock.set(
        target(() => {}),
        1000 + i,
      ),
    );
    expect(scheduler.actions).toHaveLength(1);
    alarms.forEach((alarm) => clock.clear(alarm));
    expect(scheduler.actions).toHaveLength(0);
  });

  it('clearing twice, or after it rang, is nothing', () => {
    const scheduler = new VirtualTimeScheduler();
    const clock = new Clock(scheduler);
    let rang = 0;
    const first = clock.set(
      target(() => rang++),
      5,
    );
    const second = clock.set(
      target(() => rang++),
      6,
    );
    clock.clear(first);
    clock.clear(first);
    scheduler.flush();
    clock.clear(second);
    clock.clear(first);
    expect(rang).toBe(1);
  });

  it('an alarm that is set or cleared by another that rings', () => {
    const scheduler = new VirtualTimeScheduler();
    const clock = new Clock(scheduler);
    const rang: string[] = [];
    const doomed = clock.set(
      target(() => rang.push('doomed')),
      5,
    );
    clock.set(
      target(() => {
        rang.push(`first at ${scheduler.now()}`);
        clock.clear(doomed);
        clock.set(
          target(() => rang.push(`second at ${scheduler.now()}`)),
          0,
        );
        clock.set(
          target(() => rang.push(`third at ${scheduler.now()}`)),
          2,
        );
      }),
      4,
    );
    scheduler.flush();
    expect(rang).toEqual(['first at 4', 'second at 4', 'third at 6']);
  });

  it('of those above that are due as well, the outermost goes first', () => {
    const scheduler = new VirtualTimeScheduler();
    const clock = new Clock(scheduler);
    const rang: string[] = [];
    const outer = target(() => rang.push('outer'));
    const middle = target(() => rang.push('middle'), outer);
    const inner = target(() => rang.push('inner'), middle);
    inner.deadline = clock.set(inner, 5);
    middle.deadline = clock.set(middle, 9);
    outer.deadline = clock.set(outer, 5);
    scheduler.flush();
    expect(rang).toEqual(['outer', 'inner', 'middle']);
  });

  it('what is due in the same frame comes before an alarm', () => {
    const scheduler = new VirtualTimeScheduler();
    const clock = new Clock(scheduler);
    const order: string[] = [];
    clock.set(
      target(() => order.push('alarm')),
      3,
    );
    scheduler.schedule(() => void scheduler.schedule(() => order.push('work'), 2), 1);
    scheduler.flush();
    expect(order).toEqual(['work', 'alarm']);
  });

  it('splits a wait that a timer cannot hold', () => {
    const scheduler = new VirtualTimeScheduler();
    const delays: number[] = [];
    const spying: SchedulerLike = {
      now: () => scheduler.now(),
      schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay = 0, state?: T) {
        delays.push(delay);
        return scheduler.schedule(work, delay, state);
      },
    };
    const clock = new Clock(spying);
    let rangAt = 0;
    clock.set(
      target(() => (rangAt = scheduler.now())),
      5 * 2 ** 31,
    );
    scheduler.flush();
    expect(rangAt).toBe(5 * 2 ** 31);
    expect(Math.max(...delays)).toBeLessThan(2 ** 31);
  });

  it('never runs backwards', () => {
    let raw = 1000;
    const clock = new Clock({ now: () => raw, schedule: () => new VirtualTimeScheduler().schedule(() => {}) });
    const seen: number[] = [];
    for (const step of [5, -500, 10, -1, 0, 7]) {
      raw += step;
      seen.push(clock.now());
    }
    expect(seen).toEqual([1005, 1005, 1015, 1015, 1015, 1022]);
  });
});
