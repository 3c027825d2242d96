import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Linked, LiveList } from '../../src/gates/liveList.js';

class Named implements Linked {
  earlier: Linked | undefined = undefined;
  later: Linked | undefined = undefined;
  list: LiveList<never> | undefined = undefined;

  constructor(readonly name: string) {}
}

const names = (list: LiveList<Named>): string =>
  list
    .all()
    .map(({ name }) => name)
    .join('');

describe('LiveList', () => {
  it('keeps the order of arrival, whoever leaves', () => {
    const list = new LiveList<Named>();
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => new Named(name)) as [Named, Named, Named, Named];
    for (const each of [a, b, c, d]) list.add(each);
    expect([names(list), list.length, list.oldest, list.newest]).toEqual(['abcd', 4, a, d]);
    expect(list.remove(b)).toBe(true);
    expect(names(list)).toBe('acd');
    expect(list.remove(a)).toBe(true);
    expect(list.remove(d)).toBe(true);
    expect([names(list), list.oldest, list.newest]).toEqual(['c', c, c]);
    list.add(a);
    expect(names(list)).toBe('ca');
  });

  it('removes each once, and only from the list that it is in', () => {
    const [one, two] = [new LiveList<Named>(), new LiveList<Named>()];
    const a = new Named('a');
    expect(one.remove(a)).toBe(false);
    one.add(a);
    expect(two.remove(a)).toBe(false);
    expect([one.remove(a), one.remove(a), one.length]).toEqual([true, false, 0]);
    two.add(a);
    expect([one.remove(a), names(two)]).toEqual([false, 'a']);
  });

  it('hands out a copy, which may be walked while the list changes', () => {
    const list = new LiveList<Named>();
    for (const name of ['a', 'b', 'c']) list.add(new Named(name));
    for (const each of list.all()) {
      list.remove(each);
      list.add(new Named(each.name.toUpperCase()));
    }
    expect(names(list)).toBe('ABC');
  });

  it('does what an array does, for any order of arrivals and departures', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 9 }), { maxLength: 60 }), (steps) => {
        const list = new LiveList<Named>();
        const all = Array.from({ length: 10 }, (_, i) => new Named(String(i)));
        const model: Named[] = [];
        for (const step of steps) {
          const named = all[step] as Named;
          const at = model.indexOf(named);
          expect(list.remove(named)).toBe(at >= 0);
          if (at >= 0) model.splice(at, 1);
          else {
            list.add(named);
            model.push(named);
          }
          expect([names(list), list.length, list.oldest, list.newest]).toEqual([
            model.map(({ name }) => name).join(''),
            model.length,
            model[0],
            model.at(-1),
          ]);
        }
      }),
    );
  });

  it('adding and leaving cost the same at any length', () => {
    const list = new LiveList<Named>();
    const all = Array.from({ length: 200_000 }, () => new Named('x'));
    const began = performance.now();
    for (const each of all) list.add(each);
    for (let i = 0; i < all.length; i += 2) list.remove(all[i] as Named);
    for (let i = 1; i < all.length; i += 2) list.remove(all[i] as Named);
    expect(list.length).toBe(0);
    expect(performance.now() - began).toBeLessThan(1000);
  });
});
