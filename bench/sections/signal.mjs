import { withSignal } from '../lib/contenders.mjs';
import { nsPer, numbers } from '../lib/steady.mjs';

const file = import.meta.url;

const task = (x, signal) =>
  new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    setImmediate(resolve, x);
  });

function timed(run) {
  return ({ c, size, ...time }) => {
    const items = numbers(size);
    return nsPer(size, () => run(items, task, c ?? Infinity), time);
  };
}

export const contenders = Object.fromEntries(Object.entries(withSignal).map(([name, run]) => [name, timed(run)]));

const limit = Number(process.versions.node.split('.')[0]) >= 22 ? 1.7 : 1.2;

const rows = [
  { what: 'over the pool with a controller per call', figure: (r) => r.ours / r.pool, atMost: limit },
  { what: 'over mergeMap with a controller per call', figure: (r) => r.ours / r.mergeMap },
  { what: 'over Effect 4 forEach with the signal', figure: (r) => r.ours / r.effect },
  { what: 'over p-limit with a controller per call', figure: (r) => r.ours / r['p-limit'] },
];

export const section = {
  goal: 'Goal 2: the same with the signal read and a listener on it',
  groups: [
    {
      title: 'c = 10, 50,000 calls of one event-loop turn each',
      file,
      params: { c: 10, size: 50_000 },
      contenders: ['pool', 'ours', 'mergeMap', 'effect', 'p-limit'],
      unit: 'ns a call',
      rows,
    },
    {
      title: 'unbounded, 50,000 calls of one event-loop turn each',
      file,
      params: { size: 50_000 },
      rounds: 5,
      contenders: ['pool', 'ours', { name: 'mergeMap', rounds: 1, params: { warmMs: 0, sampleMs: 0 } }, 'effect', 'p-limit'],
      unit: 'ns a call',
      rows,
    },
  ],
};
