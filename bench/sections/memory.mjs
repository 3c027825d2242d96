import { from, mergeMap, Subject } from 'rxjs';
import { abortable } from '../lib/contenders.mjs';
import { fanOutScoped, scoped } from '../lib/fleet.mjs';
import { numbers, settledHeap } from '../lib/steady.mjs';

const file = import.meta.url;
const megabytes = (bytes) => bytes / 1e6;

/** Bytes that each of `size` calls holds while it is in flight, and what is left of them all when they have settled. */
function held(start) {
  return async ({ size }) => {
    for (let i = 0; i < 3; i++) await inFlight(start, 1000);
    const { peak, rest } = await inFlight(start, size);
    return { inFlight: peak / size, rest: megabytes(rest) };
  };
}

async function inFlight(start, size) {
  const items = numbers(size);
  const settle = new Array(size);
  let started = 0;
  const untouched = () => new Promise((resolve) => (settle[started++] = resolve));
  const listened = (signal) => {
    signal.addEventListener('abort', () => {});
    return untouched();
  };
  const before = await settledHeap();
  const run = start(items, untouched, listened);
  const peak = (await settledHeap()) - before;
  for (let i = 0; i < size; i++) settle[i](i);
  settle.fill(undefined);
  const rest = (await settledHeap()) - before;
  if (run === undefined) throw new Error('Nothing was started.');
  return { peak, rest };
}

const fleet = (items, call) => {
  const subscription = from(items)
    .pipe(fanOutScoped((_, __, ctx) => ctx.call(call), { concurrency: Infinity }))
    .subscribe();
  return subscription;
};

/** What is kept by hand for a call: its controller where a cancel finds it, and who hears of its end. */
function byHand(items, listened) {
  const live = new Set();
  for (let i = 0; i < items.length; i++) {
    const controller = new AbortController();
    live.add(controller);
    const over = () => live.delete(controller);
    listened(controller.signal).then(over, over);
  }
  return live;
}

/** The heap grown by a million calls of one long scope, which is still open when it is measured. */
function soak(run) {
  return async ({ calls }) => {
    const values = new Subject();
    const subscription = run(values).subscribe(() => left-- > 0 && values.next(left));
    let left = 0;
    const through = async (count) => {
      left = count - 100;
      for (let i = 0; i < 100; i++) values.next(i);
      while (left > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      return settledHeap();
    };
    await through(20_000);
    const before = await through(20_000);
    const growth = (await through(calls)) - before;
    if (subscription.closed) throw new Error('The scope has closed.');
    return { growth: megabytes(growth) };
  };
}

const tool = (x) => new Promise((resolve) => setImmediate(resolve, x));
const options = { concurrency: 100 };

export const contenders = {
  promises: held((items, untouched) => items.map(untouched)),
  ours: held((items, untouched) => fleet(items, () => untouched())),
  mergeMap: held((items, untouched) => from(items).pipe(mergeMap(untouched)).subscribe()),
  controllers: held((items, _, listened) => byHand(items, listened)),
  'ours, signal': held((items, _, listened) => fleet(items, (signal) => listened(signal))),
  'mergeMap, signal': held((items, _, listened) =>
    from(items)
      .pipe(mergeMap(() => abortable(listened)))
      .subscribe(),
  ),

  call: soak((values) => values.pipe(fanOutScoped((x, _, ctx) => ctx.call(() => tool(x)), options))),
  'call, signal': soak((values) => values.pipe(fanOutScoped((x, _, ctx) => ctx.call((signal) => signal && tool(x)), options))),
  child: soak((values) => values.pipe(fanOutScoped((x, _, ctx) => ctx.child('step').call(() => tool(x)), options))),
  scope: soak((values) => scoped((scope) => values.pipe(mergeMap((x) => scope.child('agent').call(() => tool(x)), 100)))),
};

const growth = (name, what) => ({ what, figure: (r) => r[name].growth, unit: 'MB', atMost: 1 });

export const section = {
  goal: 'Goal 4: heap per call in flight, back to the base line, and a soak',
  groups: [
    {
      title: '100,000 calls in flight, unbounded',
      file,
      params: { size: 100_000 },
      flags: ['--expose-gc'],
      rounds: 3,
      contenders: ['promises', 'ours', 'mergeMap', 'controllers', 'ours, signal', 'mergeMap, signal'],
      unit: 'bytes a call in flight',
      tell: (r, name) => r[name].inFlight,
      rows: [
        { what: 'signal untouched', figure: (r) => r.ours.inFlight, unit: 'B', atMost: 500 },
        { what: 'of it the bare promises with their resolvers', figure: (r) => r.promises.inFlight, unit: 'B' },
        {
          what: 'signal used over a controller, listener and promise by hand',
          figure: (r) => r['ours, signal'].inFlight / r.controllers.inFlight,
          atMost: 1.25,
        },
        { what: 'left after all have settled', figure: (r) => r.ours.rest, unit: 'MB', atMost: 1 },
        { what: 'left after all have settled, signal used', figure: (r) => r['ours, signal'].rest, unit: 'MB', atMost: 1 },
      ],
    },
    {
      title: 'growth of the heap by 1,000,000 calls, 100 at once, through one scope that stays open',
      file,
      params: { calls: 1_000_000 },
      flags: ['--expose-gc'],
      rounds: 2,
      contenders: ['call', { name: 'call, signal', params: { calls: 250_000 } }, 'child', 'scope'],
      rows: [
        growth('call', 'a fan-out, ctx.call'),
        growth('call, signal', 'the same with the signal read (250,000 calls)'),
        growth('child', 'a fan-out, ctx.child(…).call'),
        growth('scope', 'scoped, a child() of the scope for each call'),
      ],
    },
  ],
};
