import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ring } from '../../src/core/ring.js';

describe('Ring', () => {
  it('is a queue: whatever is pushed and shifted, it does what an array does', () => {
    const step = fc.oneof({ weight: 5, arbitrary: fc.nat() }, { weight: 4, arbitrary: fc.constant('shift') }, fc.constant('clear'));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const ring = new Ring<number>();
        let model: number[] = [];
        for (const each of steps) {
          if (each === 'shift') expect(ring.shift()).toBe(model.shift());
          else if (each === 'clear') {
            ring.clear();
            model = [];
          } else {
            ring.push(each);
            model.push(each);
          }
          expect(ring.length).toBe(model.length);
        }
        while (model.length > 0) expect(ring.shift()).toBe(model.shift());
        expect(ring.shift()).toBeUndefined();
      }),
    );
  });

  it('holds undefined like any other item', () => {
    const ring = new Ring<undefined>();
    ring.push(undefined);
    ring.push(undefined);
    expect(ring.length).toBe(2);
    ring.shift();
    expect(ring.length).toBe(1);
  });

  it('keeps its order when it grows while its start is not at the front', () => {
    const ring = new Ring<number>();
    let [next, expected] = [0, 0];
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 7; i++) ring.push(next++);
      for (let i = 0; i < 5; i++) expect(ring.shift()).toBe(expected++);
    }
    while (ring.length > 0) expect(ring.shift()).toBe(expected++);
    expect(expected).toBe(next);
  });

  it('keeps no reference to what was shifted', async () => {
    const ring = new Ring<object>();
    const ref = ((): WeakRef<object> => {
      const item = {};
      ring.push(item);
      ring.shift();
      return new WeakRef(item);
    })();
    await new Promise((resolve) => setTimeout(resolve, 1));
    globalThis.gc?.();
    expect(ref.deref()).toBeUndefined();
  });
});
