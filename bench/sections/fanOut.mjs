import { plain } from '../lib/contenders.mjs';
import { nsPer, numbers } from '../lib/steady.mjs';

const file = import.meta.url;
const turn = (x) => new Promise((resolve) => setImmediate(resolve, x));
const microtask = async (x) => x;

function timed(run) {
  return ({ tool, c, size, ...time }) => {
    const items = numbers(size);
    const task = tool === 'turn' ? turn : microtask;
    return nsPer(size, () => run(items, task, c ?? Infinity), time);
  };
}

export const contenders = Object.fromEntries(Object.entries(plain).map(([name, run]) => [name, timed(run)]));

const everybody = ['pool', 'ours', 'mergeMap', 'effect', 'p-limit'];
const slowMergeMap = { name: 'mergeMap', rounds: 1, params: { warmMs: 0, sampleMs: 0 } };

export const section = {
  goal: 'Goal 1: a promise through ctx.call in the full scope, its signal untouched, against what else runs promises side by side',
  groups: [
    {
      title: 'c = 10, 100,000 calls of one event-loop turn each',
      file,
      params: { tool: 'turn', c: 10, size: 100_000 },
      contenders: everybody,
      unit: 'ns a call',
      rows: [
        { what: 'over the hand-written pool', figure: (r) => r.ours / r.pool, atMost: 3 },
        { what: 'over mergeMap', figure: (r) => r.ours / r.mergeMap, atMost: 0.5 },
        { what: 'over Effect 4 forEach', figure: (r) => r.ours / r.effect, below: 1 },
        { what: 'over p-limit', figure: (r) => r.ours / r['p-limit'], below: 1 },
      ],
    },
    {
      title: 'unbounded, 100,000 calls of one event-loop turn each',
      file,
      params: { tool: 'turn', size: 100_000 },
      rounds: 5,
      contenders: ['pool', 'ours', slowMergeMap, 'effect', 'p-limit'],
      unit: 'ns a call',
      rows: [
        { what: 'over the hand-written pool', figure: (r) => r.ours / r.pool, atMost: 2.5 },
        { what: 'over mergeMap', figure: (r) => r.ours / r.mergeMap },
        { what: 'over Effect 4 forEach', figure: (r) => r.ours / r.effect },
        { what: 'over p-limit', figure: (r) => r.ours / r['p-limit'] },
      ],
    },
    {
      title: 'c = 10, 100,000 calls that settle in a microtask: for orientation, no tool is that fast',
      file,
      params: { tool: 'microtask', c: 10, size: 100_000 },
      contenders: everybody,
      rounds: 1,
      unit: 'ns a call',
      rows: [
        { what: 'over the hand-written pool', figure: (r) => r.ours / r.pool },
        { what: 'over mergeMap', figure: (r) => r.ours / r.mergeMap },
      ],
    },
  ],
};
