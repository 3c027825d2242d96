import { plain } from '../lib/contenders.mjs';
import { median } from '../lib/stats.mjs';
import { cpuNow, nextTurn, numbers, runsOf } from '../lib/steady.mjs';

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

/** Starts calls, then ends them by hand. Only the second half is timed: from the first that settles to the end of the output. */
async function completion(run, size, scopes, order) {
  const settle = [];
  const task = () => new Promise((resolve) => settle.push(resolve));
  const items = numbers(size / scopes);
  const done = Promise.all(Array.from({ length: scopes }, () => run(items, task, Infinity)));
  await nextTurn();
  if (size > 1000) globalThis.gc();
  const start = cpuNow();
  for (const index of order) settle[index](index);
  await done;
  return ((cpuNow() - start) * 1e6) / size;
}

function timed(run) {
  return async ({ order, size, samples, scopes = 1, warmMs = 300 }) => {
    const few = orders[order](1000);
    await runsOf(() => completion(run, 1000, 1, few), warmMs);
    const sequence = orders[order](size);
    const found = [];
    for (let i = 0; i < samples; i++) found.push(await completion(run, size, scopes, sequence));
    return median(found);
  };
}

export const contenders = Object.fromEntries(['pool', 'ours', 'mergeMap'].map((name) => [name, timed(plain[name])]));

const few = { size: 1000, samples: 300 };
const many = { size: 100_000, samples: 3 };

const group = (order) => ({
  title: `100,000 in flight settle in ${order} order`,
  file,
  params: { order },
  flags: ['--expose-gc'],
  rounds: 5,
  contenders: [
    { name: 'pool', params: many },
    { name: 'pool, 1,000', contender: 'pool', params: few },
    { name: 'ours', params: many },
    { name: 'ours, 1,000', contender: 'ours', params: few },
    { name: 'ours, 100 × 1,000', contender: 'ours', params: { ...many, scopes: 100 } },
    { name: 'mergeMap', rounds: 1, params: { ...many, samples: 1 } },
  ],
  unit: 'ns a call',
  rows: [
    { what: 'cost of a call over that with 1,000 in flight', figure: (r) => r.ours / r['ours, 1,000'], atMost: 2 },
    { what: 'the same for the hand-written pool', figure: (r) => r.pool / r['pool, 1,000'] },
    { what: 'one scope of 100,000 over 100 scopes of 1,000', figure: (r) => r.ours / r['ours, 100 × 1,000'] },
    { what: 'mergeMap over ours', figure: (r) => r.mergeMap / r.ours, atLeast: 30 },
  ],
});

export const section = {
  goal: 'Goal 1: completing with 100,000 calls in flight',
  groups: Object.keys(orders).map(group),
};
