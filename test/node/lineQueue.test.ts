import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineQueue } from '../../src/node/lineQueue.js';

const queueOf = (maxBytes: number): LineQueue => new LineQueue(maxBytes, (count) => `missing ${count}`);

describe('LineQueue', () => {
  it('gives lines in order, as many as fit', () => {
    const queue = queueOf(100);
    for (const line of ['a', 'bb', 'ccc']) queue.add(line);
    expect(queue.bytes).toBe(9);
    expect(queue.peek(100).toString()).toBe('a\nbb\nccc\n');
    expect(queue.peek(6).toString()).toBe('a\nbb\n');
    expect(queue.peek(1).toString()).toBe('');
    expect(queue.written(5)).toBe(0);
    expect(queue.peek(100).toString()).toBe('ccc\n');
    expect([queue.bytes, queue.records, queue.empty]).toEqual([4, 2, false]);
  });

  it('keeps a line that was written in part', () => {
    const queue = queueOf(100);
    for (const line of ['aaaa', 'bbbb']) queue.add(line);
    queue.peek(100);
    expect(queue.written(7)).toBe(2);
    expect(queue.peek(100).toString()).toBe('bbbb\n');
  });

  it('counts what does not fit and tells it where it is missing', () => {
    const queue = queueOf(6);
    for (const line of ['aa', 'bb', 'cc', 'dd']) queue.add(line);
    queue.peek(100);
    queue.written(6);
    expect([queue.bytes, queue.empty]).toEqual([0, false]);
    queue.add('e');
    expect(queue.peek(100).toString()).toBe('missing 2\ne\n');
    queue.written(12);
    expect([queue.records, queue.empty]).toEqual([3, true]);
    queue.skip();
    expect(queue.empty).toBe(false);
    queue.closeGap();
    queue.closeGap();
    expect(queue.peek(100).toString()).toBe('missing 1\n');
  });

  it('whatever is written when, each line is written once or counted, in order, within bounds', () => {
    const step = fc.oneof(
      fc.record({ add: fc.integer({ min: 0, max: 40 }) }),
      fc.record({ write: fc.integer({ min: 0, max: 200 }), room: fc.integer({ min: 0, max: 200 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 50, max: 500 }), (steps, max) => {
        const queue = queueOf(max);
        let file = '';
        let added = 0;
        const write = (bytes: number, room: number): void => {
          const lines = queue.peek(room);
          expect(lines.length).toBeLessThanOrEqual(room);
          const torn = queue.written(Math.min(bytes, lines.length));
          file += lines.subarray(0, Math.min(bytes, lines.length) - torn).toString();
        };
        for (const each of steps) {
          if ('add' in each) queue.add(`${added++} ${'x'.repeat(each.add)}`);
          else write(each.write, each.room);
          expect(queue.bytes).toBeLessThanOrEqual(max + 'missing 100\n'.length);
        }
        while (!queue.empty) {
          queue.closeGap();
          write(Infinity, 1000);
        }
        let next = 0;
        for (const line of file.split('\n').slice(0, -1)) {
          if (line.startsWith('missing ')) next += Number(line.slice(8));
          else expect(line.startsWith(`${next++} `)).toBe(true);
        }
        expect(next).toBe(added);
      }),
    );
  });
});
