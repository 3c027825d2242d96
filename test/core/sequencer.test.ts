import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sequencer } from '../../src/operators/sequencer.js';

type Event = { readonly index: number; readonly done: boolean };

/** For each of up to eight sources up to four values and an end, in any interleaving that keeps each source's own order. */
const interleavings: fc.Arbitrary<Event[]> = fc.array(fc.nat(4), { minLength: 1, maxLength: 8 }).chain((counts) => {
  const slots = counts.flatMap((count, index) => Array<number>(count + 1).fill(index));
  return fc.shuffledSubarray(slots, { minLength: slots.length, maxLength: slots.length }).map((order) => {
    const left = [...counts];
    return order.map((index) => ({ index, done: (left[index] = (left[index] ?? 0) - 1) < 0 }));
  });
});

describe('Sequencer', () => {
  it('emits the values of source i after those of 0 to i-1, each as soon as that is possible', () => {
    fc.assert(
      fc.property(interleavings, (events) => {
        const out: [index: number, value: number][] = [];
        const sequencer = new Sequencer<[number, number]>((value) => out.push(value));
        const values = new Map<number, number[]>();
        const ended = new Set<number>();
        let serial = 0;
        for (const { index, done } of events) {
          if (done) {
            ended.add(index);
            sequencer.done(index);
          } else {
            values.set(index, [...(values.get(index) ?? []), serial]);
            sequencer.next(index, [index, serial++]);
          }
          const expected: [number, number][] = [];
          for (let i = 0; ; i++) {
            for (const value of values.get(i) ?? []) expected.push([i, value]);
            if (!ended.has(i)) break;
          }
          expect(out).toEqual(expected);
        }
      }),
    );
  });

  it('drain takes out what is held, in order', () => {
    const out: string[] = [];
    const sequencer = new Sequencer<string>((value) => out.push(value));
    sequencer.next(2, 'c');
    sequencer.next(1, 'b');
    sequencer.done(1);
    sequencer.next(0, 'a');
    sequencer.next(2, 'd');
    expect(out).toEqual(['a']);
    expect(sequencer.drain()).toEqual(['b', 'c', 'd']);
    expect(sequencer.drain()).toEqual([]);
  });

  it('a value that arrives while held ones are emitted keeps its place', () => {
    const out: string[] = [];
    const sequencer: Sequencer<string> = new Sequencer((value) => {
      out.push(value);
      if (value === 'b1') {
        sequencer.next(1, 'b3');
        sequencer.next(2, 'c2');
        sequencer.done(1);
      }
    });
    sequencer.next(1, 'b1');
    sequencer.next(1, 'b2');
    sequencer.next(2, 'c1');
    sequencer.done(0);
    expect(out).toEqual(['b1', 'b2', 'b3', 'c1', 'c2']);
  });

  it('100,000 sources that end in reverse order', () => {
    let count = 0;
    const sequencer = new Sequencer<number>(() => count++);
    for (let i = 99_999; i >= 0; i--) {
      sequencer.next(i, i);
      sequencer.done(i);
    }
    expect(count).toBe(100_000);
  });
});
