import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Visit } from '../../src/gates/visit.js';
import { WaitingLine } from '../../src/gates/waitingLine.js';

class Named extends Visit<undefined> {
  constructor(
    readonly name: string,
    priority = 0,
    key?: string,
    readonly size = 1,
  ) {
    super(undefined as never, undefined as never, undefined as never, undefined, priority, key);
  }
}

/** A line of named waiters: `a`, or `a/key`, `a*size`, `a^priority`. */
function lineOf(...waiters: Named[]): WaitingLine<Named> {
  const line = new WaitingLine<Named>();
  for (const waiter of waiters) line.add(waiter);
  return line;
}

const keyed = (names: string): Named[] => names.split(' ').map((name) => new Named(name, 0, name[0]));
const order = (line: WaitingLine<Named>): string =>
  line
    .all()
    .map(({ name }) => name)
    .join(' ');

/** Serves until nobody fits any more. */
function serveAll(line: WaitingLine<Named>, fits: (waiter: Named) => boolean = () => true): string {
  const served: string[] = [];
  for (let waiter = line.next(fits); waiter !== undefined; waiter = line.next(fits)) {
    line.serve(waiter);
    served.push(waiter.name);
  }
  return served.join(' ');
}

describe('WaitingLine', () => {
  it('serves first come first served', () => {
    const line = lineOf(new Named('a'), new Named('b'), new Named('c'));
    expect([line.length, line.oldest?.name, order(line)]).toEqual([3, 'a', 'a b c']);
    expect(serveAll(line)).toBe('a b c');
    expect([line.length, line.oldest, line.next(() => true)]).toEqual([0, undefined, undefined]);
  });

  it('a head that does not fit blocks those behind it', () => {
    const line = lineOf(new Named('big', 0, undefined, 5), new Named('small'));
    expect(serveAll(line, ({ size }) => size < 5)).toBe('');
    expect(serveAll(line)).toBe('big small');
  });

  it('higher priorities go first, each in its own order, and a blocked one blocks the lower', () => {
    const line = lineOf(new Named('low', -1), new Named('a'), new Named('high', 5), new Named('b'), new Named('HIGH', Infinity));
    expect(order(line)).toBe('low a high b HIGH');
    expect(serveAll(line, ({ name }) => name !== 'high')).toBe('HIGH');
    expect(serveAll(line)).toBe('high a b low');
  });

  it('says whom a newcomer of a priority must not pass', () => {
    const line = lineOf(new Named('a', 1));
    expect([0, 1, 2].map((priority) => line.blocks(priority))).toEqual([true, true, false]);
    line.remove(line.oldest as Named);
    expect(line.blocks(-Infinity)).toBe(false);
  });

  it('#70 keys take turns within a priority, first come first served within a key', () => {
    expect(serveAll(lineOf(...keyed('a1 a2 a3 b1 b2 c1')))).toBe('a1 b1 c1 a2 b2 a3');
    expect(serveAll(lineOf(...keyed('a1 b1 a2 c1 a3 b2')))).toBe('a1 b1 c1 a2 b2 a3');
  });

  it('#70 a key that comes back does not get two turns in a round', () => {
    const line = lineOf(...keyed('a1 b1'));
    const [a1] = line.all() as [Named];
    line.serve(a1);
    for (const name of ['a2', 'c1']) line.add(new Named(name, 0, name[0]));
    expect(serveAll(line)).toBe('b1 a2 c1');
  });

  it('a head that does not fit lets the others of its round pass once, and nobody of the next round', () => {
    const line = lineOf(new Named('A', 0, 'a', 9), ...keyed('b1 b2 c1 c2 d1'));
    const small = ({ size }: Named): boolean => size < 9;
    expect(serveAll(line, small)).toBe('');
    line.serve(line.oldest as Named);
    line.add(new Named('A', 0, 'a', 9));
    expect(serveAll(line, small)).toBe('b1 c1 d1 b2 c2');
    line.add(new Named('b3', 0, 'b'));
    expect(serveAll(line, small)).toBe('');
    expect(serveAll(line)).toBe('A b3');
  });

  it('a key that was waited for alone leaves nothing behind', () => {
    const line = new WaitingLine<Named>();
    for (let i = 0; i < 1000; i++) {
      const waiter = new Named('x', i % 7, `key ${i}`);
      line.add(waiter);
      if (i % 2 === 0) line.remove(waiter);
      else line.serve(waiter);
    }
    expect([line.length, line.oldest, line.heads()]).toEqual([0, undefined, []]);
  });

  it('whoever leaves does so once', () => {
    const line = lineOf(...keyed('a1 a2 b1'));
    const [a1] = line.all() as [Named];
    expect([line.remove(a1), line.remove(a1), line.length]).toEqual([true, false, 2]);
    line.serve(a1);
    expect([line.length, serveAll(line)]).toEqual([2, 'a2 b1']);
  });

  it('only the head of a lane of the top priority holds others up', () => {
    const [a, b, c, low] = [new Named('a1', 1, 'a'), new Named('a2', 1, 'a'), new Named('b1', 1, 'b'), new Named('low')] as const;
    const line = lineOf(a, b, c, low);
    expect([a, b, c, low].map((waiter) => line.isHead(waiter))).toEqual([true, false, true, false]);
    for (const waiter of [a, b, c]) line.remove(waiter);
    expect([a, low].map((waiter) => line.isHead(waiter))).toEqual([false, true]);
  });

  it('names the heads that could be next', () => {
    const line = lineOf(...keyed('a1 a2'), new Named('high', 1), new Named('high 2', 1));
    expect(line.heads().map(({ name }) => name)).toEqual(['high']);
    line.serve(line.heads()[0] as Named);
    line.serve(line.heads()[0] as Named);
    expect(line.heads().map(({ name }) => name)).toEqual(['a1']);
  });

  it.each([
    ['arrivals that are served', (line: WaitingLine<Named>) => void serveAll(line)],
    ['withdrawals from the front', (line: WaitingLine<Named>) => line.all().forEach((waiter) => line.remove(waiter))],
    [
      'withdrawals from the back',
      (line: WaitingLine<Named>) =>
        line
          .all()
          .reverse()
          .forEach((waiter) => line.remove(waiter)),
    ],
  ])('%s cost the same each at any length', (_, empty) => {
    const run = (count: number): number => {
      const line = new WaitingLine<Named>();
      for (let i = 0; i < count; i++) line.add(new Named('x', i % 3, String(i % 100)));
      const began = performance.now();
      empty(line);
      expect(line.length).toBe(0);
      return (performance.now() - began) / count;
    };
    run(10_000);
    const [few, many] = [run(10_000), run(200_000)];
    expect(many).toBeLessThan(few * 5 + 0.005);
  });

  describe('against a plain model', () => {
    interface Model {
      /** One lane per key, in order of arrival. */
      readonly lanes: Map<string, Named[]>;
      round: string[];
      next: string[];
    }
    const pick = (levels: Map<number, Model>, fits: (waiter: Named) => boolean): Named | undefined => {
      const top = Math.max(...levels.keys());
      const level = levels.get(top);
      const key = level?.round.find((each) => fits(level.lanes.get(each)?.[0] as Named));
      return key === undefined ? undefined : level?.lanes.get(key)?.[0];
    };
    const drop = (levels: Map<number, Model>, waiter: Named, served: boolean): void => {
      const level = levels.get(waiter.priority) as Model;
      const key = String(waiter.key);
      const lane = (level.lanes.get(key) as Named[]).filter((each) => each !== waiter);
      level.lanes.set(key, lane);
      if (lane.length === 0) level.lanes.delete(key);
      if (lane.length === 0 || (served && level.lanes.size > 1)) {
        level.round = level.round.filter((each) => each !== key);
        level.next = level.next.filter((each) => each !== key);
        if (lane.length > 0) level.next.push(key);
      }
      if (level.round.length === 0) [level.round, level.next] = [level.next, []];
      if (level.lanes.size === 0) levels.delete(waiter.priority);
    };
    const add = (levels: Map<number, Model>, waiter: Named): void => {
      const key = String(waiter.key);
      const level: Model = levels.get(waiter.priority) ?? { lanes: new Map(), round: [], next: [] };
      levels.set(waiter.priority, level);
      const lane = level.lanes.get(key);
      if (lane === undefined) (level.lanes.size === 0 ? level.round : level.next).push(key);
      level.lanes.set(key, [...(lane ?? []), waiter]);
    };
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add'), priority: fc.nat({ max: 2 }), key: fc.nat({ max: 3 }), size: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ kind: fc.constant('serve'), room: fc.nat({ max: 3 }) }),
      fc.record({ kind: fc.constant('leave'), who: fc.nat({ max: 20 }) }),
    );

    it('serves the same, whoever comes and leaves', () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
          const line = new WaitingLine<Named>();
          const levels = new Map<number, Model>();
          const arrived: Named[] = [];
          let count = 0;
          for (const each of steps) {
            if ('priority' in each) {
              const waiter = new Named(String(count++), each.priority, String(each.key), each.size);
              arrived.push(waiter);
              line.add(waiter);
              add(levels, waiter);
            } else if ('room' in each) {
              const fits = ({ size }: Named): boolean => size <= each.room;
              const waiter = line.next(fits);
              expect(waiter).toBe(pick(levels, fits));
              if (waiter === undefined) continue;
              line.serve(waiter);
              drop(levels, waiter, true);
            } else {
              const waiter = arrived[each.who];
              if (waiter === undefined) continue;
              const waits = levels.get(waiter.priority)?.lanes.get(String(waiter.key))?.includes(waiter) ?? false;
              expect(line.remove(waiter)).toBe(waits);
              if (waits) drop(levels, waiter, false);
            }
            const waiting = arrived.filter((waiter) => levels.get(waiter.priority)?.lanes.get(String(waiter.key))?.includes(waiter));
            expect(line.all()).toEqual(waiting);
            expect([line.length, line.oldest]).toEqual([waiting.length, waiting[0]]);
            for (const waiter of waiting)
              expect(line.isHead(waiter)).toBe(
                levels.get(waiter.priority)?.lanes.get(String(waiter.key))?.[0] === waiter &&
                  waiter.priority === Math.max(...levels.keys()),
              );
          }
        }),
        { numRuns: 300 },
      );
    });

    it('nobody waits for ever: a head is passed at most once by each other key', () => {
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 40 }), (keys) => {
          const line = lineOf(new Named('big', 0, '0', 9));
          let passed = 0;
          for (const key of keys) {
            line.add(new Named('x', 0, String(key)));
            line.add(new Named('y', 0, String(key)));
            passed += serveAll(line, ({ size }) => size < 9)
              .split(' ')
              .filter(Boolean).length;
          }
          expect(passed).toBeLessThanOrEqual(new Set(keys).size);
          expect(line.next(() => true)?.name).toBe('big');
        }),
      );
    });
  });
});
