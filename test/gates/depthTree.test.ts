import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DepthNode, DepthTree, type DepthLimits } from '../../src/gates/depthTree.js';

const NONE: DepthLimits = { maxDepth: Infinity, maxFanOut: Infinity, maxLive: Infinity, maxTotal: Infinity, cycles: 'allow' };

function tree(limits: Partial<DepthLimits>): DepthTree {
  return new DepthTree({ ...NONE, ...limits });
}

describe('DepthTree', () => {
  it('a call deeper than maxDepth is refused, the root is depth 0 #2.6', () => {
    const depth0 = tree({ maxDepth: 0 });
    expect(depth0.refusal(undefined, 0, [])).toBeUndefined();
    expect(depth0.refusal(undefined, 1, ['a'])).toEqual({ limit: 'maxDepth', max: 0 });
    expect(tree({ maxDepth: 2 }).refusal(undefined, 2, ['a', 'b'])).toBeUndefined();
  });

  it('maxFanOut counts the live children of one node #2.6', () => {
    const limited = tree({ maxFanOut: 2 });
    const parent = limited.add(undefined, 0);
    const child = limited.add(parent, 1);
    limited.add(parent, 1);
    expect(limited.refusal(parent, 1, [])).toEqual({ limit: 'maxFanOut', max: 2 });
    expect(limited.refusal(child, 2, [])).toBeUndefined();
    limited.remove(child);
    expect(limited.refusal(parent, 1, [])).toBeUndefined();
  });

  it('maxLive counts live calls and maxTotal all that ever started #2.6', () => {
    const limited = tree({ maxLive: 2, maxTotal: 3 });
    const a = limited.add(undefined, 0);
    limited.add(undefined, 0);
    expect(limited.refusal(undefined, 0, [])).toEqual({ limit: 'maxLive', max: 2 });
    limited.remove(a);
    expect(limited.refusal(undefined, 0, [])).toBeUndefined();
    limited.add(undefined, 0);
    expect(limited.refusal(undefined, 0, [])).toEqual({ limit: 'maxTotal', max: 3 });
  });

  it('a label that comes again below itself is a cycle, if cycles are refused #2.6', () => {
    const path = ['fleet', 'writer', 'reader', 'writer'];
    expect(tree({}).refusal(undefined, 0, path)).toBeUndefined();
    expect(tree({ cycles: 'refuse' }).refusal(undefined, 0, path)).toEqual({ limit: 'cycle', max: 1 });
    expect(tree({ cycles: 'refuse' }).refusal(undefined, 0, path.slice(0, 3))).toBeUndefined();
    expect(tree({ cycles: 'refuse' }).refusal(undefined, 0, [])).toBeUndefined();
  });

  it('a place counts below its parent once, while a call runs in it', () => {
    const limited = tree({ maxFanOut: 2 });
    const root = new DepthNode(undefined, 0, 'place');
    const places = [1, 2, 3].map(() => new DepthNode(root, 1, 'place'));
    const calls = [limited.add(places[0], 1), limited.add(places[0], 1), limited.add(places[1], 1)];
    expect(root.children).toBe(2);
    expect(limited.refusal(places[2], 1, [])).toEqual({ limit: 'maxFanOut', max: 2 });
    expect(limited.refusal(places[1], 1, [])).toBeUndefined();
    limited.remove(calls[0] as DepthNode);
    expect(root.children).toBe(2);
    limited.remove(calls[1] as DepthNode);
    expect(root.children).toBe(1);
    expect(limited.refusal(places[2], 1, [])).toBeUndefined();
  });

  it('whatever starts and ends, each counter goes down exactly once, and the limits hold', () => {
    const step = fc.record({ do: fc.constantFrom('call', 'call', 'place', 'end', 'end twice'), pick: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.nat(4), fc.nat(8), (steps, maxFanOut, maxLive) => {
        const limited = tree({ maxFanOut, maxLive });
        const places: (DepthNode | undefined)[] = [undefined];
        const live: DepthNode[] = [];
        let started = 0;
        for (const { do: action, pick } of steps) {
          const nodes = [...places, ...live];
          const parent = nodes[pick % nodes.length];
          const depth = (parent?.depth ?? -1) + 1;
          if (action === 'place') places.push(new DepthNode(parent?.kind === 'place' ? parent : undefined, depth, 'place'));
          else if (action === 'call') {
            if (limited.refusal(parent, depth, []) !== undefined) continue;
            live.push(limited.add(parent, depth));
            started++;
          } else if (live.length > 0) {
            const [ended] = live.splice(pick % live.length, 1) as [DepthNode];
            for (const below of live.filter((call) => call.parent === ended)) {
              limited.remove(below);
              live.splice(live.indexOf(below), 1);
            }
            limited.remove(ended);
            if (action === 'end twice') limited.remove(ended);
          }
          const isLive = (node: DepthNode): boolean => (node.kind === 'call' ? !node.gone : node.children > 0);
          const all = [...places, ...live].filter((node) => node !== undefined);
          for (const node of all.filter((each) => each.kind === 'place' || !each.gone)) {
            expect(node.children).toBe(all.filter((each) => each.parent === node && isLive(each)).length);
            expect(node.children).toBeLessThanOrEqual(maxFanOut);
          }
          expect(limited.live).toBe(live.filter((call) => !call.gone).length);
          expect(limited.live).toBeLessThanOrEqual(maxLive);
          expect(limited.total).toBe(started);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
