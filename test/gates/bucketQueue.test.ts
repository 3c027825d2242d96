import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BucketBacklog, type Backlogged } from '../../src/gates/bucketBacklog.js';
import { BucketBounds, type Room } from '../../src/gates/bucketBounds.js';

function waiter(cost: number, priority = 0, key?: string): Backlogged {
  return { costs: [cost], priority, key };
}

/** A queue with its bounds. */
function queue(
  waiting: readonly Backlogged[],
  bounds: { maxQueue?: number; maxQueueCosts?: number[]; dropOldest?: boolean },
): { room(newcomer: Backlogged): Room<Backlogged> } {
  const backlog = new BucketBacklog(1);
  for (const each of waiting) backlog.add(each);
  const made = new BucketBounds({ maxQueue: Infinity, maxQueueCosts: [Infinity], dropOldest: false, ...bounds }, backlog);
  return { room: (newcomer) => made.room(newcomer, { oldest: waiting[0], all: () => [...waiting] }) };
}

describe('BucketBacklog', () => {
  it('counts calls and cost, and forgets whoever left', () =>
    fc.assert(
      fc.property(
        fc.array(fc.record({ cost: fc.nat(50), priority: fc.integer({ min: -2, max: 2 }), key: fc.constantFrom(undefined, 'a', 'b') })),
        fc.array(fc.nat()),
        (all, leave) => {
          const backlog = new BucketBacklog(1);
          const waiting = all.map(({ cost, priority, key }) => waiter(cost, priority, key));
          for (const each of waiting) backlog.add(each);
          for (const at of leave) {
            const [gone] = waiting.splice(at % Math.max(1, waiting.length), 1);
            if (gone !== undefined) backlog.remove(gone);
          }
          expect(backlog.total.count).toBe(waiting.length);
          expect(backlog.total.costs).toEqual([waiting.reduce((sum, { costs }) => sum + (costs[0] as number), 0)]);
          const priorities = new Set(waiting.map(({ priority }) => priority));
          expect(backlog.only).toBe(priorities.size === 1 ? [...priorities][0] : undefined);
          for (const each of waiting) backlog.remove(each);
          expect(backlog).toEqual(new BucketBacklog(1));
        },
      ),
    ));

  it('a newcomer waits for its own priority and those above, not for those below', () => {
    const backlog = new BucketBacklog(1);
    for (const each of [waiter(1, -1), waiter(2, 0), waiter(4, 0), waiter(8, 1)]) backlog.add(each);
    expect(backlog.upTo(waiter(100, 0))).toEqual([114]);
    expect(backlog.upTo(waiter(100, 1))).toEqual([108]);
    expect(backlog.upTo(waiter(100, -1))).toEqual([115]);
  });

  it('#70 a newcomer of another key waits for one turn of each key, not for the whole queue of a busy one', () => {
    const backlog = new BucketBacklog(1);
    for (let i = 0; i < 1000; i++) backlog.add(waiter(3, 0, 'busy'));
    expect(backlog.upTo(waiter(3, 0, 'quiet'))).toEqual([6]);
    backlog.add(waiter(3, 0, 'quiet'));
    expect(backlog.upTo(waiter(3, 0, 'quiet'))).toEqual([12]);
    expect(backlog.upTo(waiter(3, 0, 'busy'))).toEqual([3006]);
  });
});

describe('BucketBounds', () => {
  it('#2.2 counts waiters and summed cost', () => {
    const waiting = [waiter(3), waiter(4)];
    expect(queue(waiting, { maxQueue: 3 }).room(waiter(1))).toEqual({ victims: [] });
    expect(queue(waiting, { maxQueue: 2 }).room(waiter(1)).excess).toEqual({ what: 'calls', limit: 2, waiting: 2 });
    expect(queue(waiting, { maxQueueCosts: [10] }).room(waiter(3))).toEqual({ victims: [] });
    expect(queue(waiting, { maxQueueCosts: [10] }).room(waiter(4))).toEqual({
      excess: { what: 'cost', limit: 10, waiting: 7 },
      victims: undefined,
    });
  });

  it('#52 the oldest give way, as many as it takes and no more', () => {
    const waiting = [waiter(3), waiter(4), waiter(2)];
    const { room } = queue(waiting, { maxQueueCosts: [10], dropOldest: true });
    expect(room(waiter(1)).victims).toEqual([]);
    expect(room(waiter(4)).victims).toEqual([waiting[0]]);
    expect(room(waiter(5)).victims).toEqual([waiting[0], waiting[1]]);
    expect(room(waiter(10)).victims).toEqual(waiting);
  });

  it('#52 nobody gives way in vain', () => {
    const { room } = queue([waiter(3), waiter(4)], { maxQueueCosts: [10], dropOldest: true });
    expect(room(waiter(11)).victims).toBeUndefined();
    expect(queue([], { maxQueue: 0, dropOldest: true }).room(waiter(1)).victims).toBeUndefined();
  });

  it('#63 the lowest priority gives way first, never one above the newcomer’s', () => {
    const [high, low, middle, lower] = [waiter(1, 5), waiter(1, 1), waiter(1, 3), waiter(1, 1)];
    const { room } = queue([high, low, middle, lower], { maxQueueCosts: [4], dropOldest: true });
    expect(room(waiter(1, 1)).victims).toEqual([low]);
    expect(room(waiter(3, 3)).victims).toEqual([low, lower, middle]);
    expect(room(waiter(1, 0)).victims).toBeUndefined();
    const same = queue([waiter(1, 5)], { maxQueue: 1, dropOldest: true });
    expect(same.room(waiter(1, 4)).victims).toBeUndefined();
    expect(same.room(waiter(1, 5)).victims).toHaveLength(1);
  });
});
