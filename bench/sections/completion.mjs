import { plain } from '../lib/contenders.mjs';
import { nextTurn, numbers } from '../lib/steady.mjs';

const file = import.meta.url;

const orders = {
  arrival: numbers,
  reverse: (size) => numbers(size).reverse(),
  random: (size) => {
    const order = numbers(size);
    let state = 1;
    for (let i = size - 1; i > 0; i--) {
      state = (state * 48271) % 2147483647;
      const j = state % (i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  },
};

/** Starts `size` calls, then ends them by hand. Only the second half is timed: from the first that settles to the end of the output. */
async function completion(run, items, order) {
  const settle = [];
  const task = () => new Promise((resolve) => settle.push(resolve));
  const done = run(items, task, Infinity);
  await nextTurn();
  const start = performance.now();
  for (const index of order) settle[index](index);
  await done;
  return ((performance.now() - start) * 1e6) / items.length;
}

function timed(run) {
  return async ({ order, size, warm = 50, samples }) => {
    const small = numbers(1000);
    for (let i = 0; i < warm; i++) await completion(run, small, orders[order](1000));
    const items = numbers(size);
    const sequence = orders[order](size);
    let best = Infinity;
    for (let i = 0; i < samples; i++) {
      globalThis.gc();
      best = Math.min(best, await completion(run, items, sequence));
    }
    return best;
  };
}

export const contenders = Object.fromEntries(['pool', 'ours', 'mergeMap'].map((name) => [name, timed(plain[name])]));

const few = { size: 1000, samples: 50 };
const many = { size: 100_000, samples: 3 };

const group = (order) => ({
  title: `100,000 in flight settle in ${order} order`,
  file,
  params: { order },
  flags: ['--expose-gc'],
  contenders: [
    { name: 'pool', params: many },
    { name: 'pool, 1,000', contender: 'pool', params: few },
    { name: 'ours', params: many },
    { name: 'ours, 1,000', contender: 'ours', params: few },
    { name: 'mergeMap', rounds: 1, params: { ...many, samples: 1 } },
  ],
  unit: 'ns a call',
  rows: [
    { what: 'cost of a call over that with 1,000 in flight', figure: (r) => r.ours / r['ours, 1,000'], atMost: 2 },
    { what: 'the same for the hand-written pool', figure: (r) => r.pool / r['pool, 1,000'] },
    { what: 'mergeMap over ours', figure: (r) => r.mergeMap / r.ours, atLeast: 30 },
  ],
});

export const section = {
  goal: 'Goal 1: completing with 100,000 calls in flight',
  groups: Object.keys(orders).map(group),
};
