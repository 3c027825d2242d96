import { from, mergeMap, Observable } from 'rxjs';
import { fanOutScoped } from './fleet.mjs';
import { peer } from './peers.mjs';

/*
 * The same work in the ways that people do it: `task` for each of `items`, at most `concurrency` at once, results collected.
 * Those in `plain` give the task no signal, those in `withSignal` one of its own per call.
 */

export function collected(source) {
  return new Promise((resolve, reject) => {
    const out = [];
    source.subscribe({ next: (value) => void out.push(value), error: reject, complete: () => resolve(out) });
  });
}

const named = (concurrency) => (concurrency === Infinity ? 'unbounded' : concurrency);

async function workers(items, concurrency, work) {
  const out = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      out[index] = await work(items[index]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  return out;
}

export const plain = {
  pool: (items, task, concurrency) => workers(items, concurrency, task),

  ours: (items, task, concurrency) => collected(from(items).pipe(fanOutScoped((x, _, ctx) => ctx.call(() => task(x)), { concurrency }))),

  mergeMap: (items, task, concurrency) => collected(from(items).pipe(mergeMap((x) => task(x), concurrency))),

  effect: async (items, task, concurrency) => {
    const { Effect } = await peer('effect');
    const each = (x) => Effect.promise(() => task(x));
    return Effect.runPromise(Effect.forEach(items, each, { concurrency: named(concurrency) }));
  },

  'p-limit': async (items, task, concurrency) => {
    const { default: pLimit } = await peer('p-limit');
    const limit = pLimit(concurrency);
    return Promise.all(items.map((x) => limit(() => task(x))));
  },
};

export const withSignal = {
  pool: (items, task, concurrency) => {
    const live = new Set();
    return workers(items, concurrency, controlled(live, task));
  },

  ours: (items, task, concurrency) =>
    collected(from(items).pipe(fanOutScoped((x, _, ctx) => ctx.call((signal) => task(x, signal)), { concurrency }))),

  mergeMap: (items, task, concurrency) => collected(from(items).pipe(mergeMap((x) => abortable((signal) => task(x, signal)), concurrency))),

  effect: async (items, task, concurrency) => {
    const { Effect } = await peer('effect');
    const each = (x) => Effect.promise((signal) => task(x, signal));
    return Effect.runPromise(Effect.forEach(items, each, { concurrency: named(concurrency) }));
  },

  'p-limit': async (items, task, concurrency) => {
    const { default: pLimit } = await peer('p-limit');
    const limit = pLimit(concurrency);
    const each = controlled(new Set(), task);
    return Promise.all(items.map((x) => limit(() => each(x))));
  },
};

function controlled(live, task) {
  return async (x) => {
    const controller = new AbortController();
    live.add(controller);
    const result = await task(x, controller.signal);
    live.delete(controller);
    return result;
  };
}

/** A promise that is aborted when its subscriber leaves, as it is written by hand in rxjs. */
export function abortable(start) {
  return new Observable((subscriber) => {
    const controller = new AbortController();
    start(controller.signal).then(
      (value) => {
        subscriber.next(value);
        subscriber.complete();
      },
      (error) => subscriber.error(error),
    );
    return () => controller.abort();
  });
}
