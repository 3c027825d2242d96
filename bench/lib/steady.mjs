/**
 * Nanoseconds that each of `count` things in `run` takes once the code is warm: the best of the runs that fit into the time, since whatever else
 * the machine does can only add to it.
 */
export async function nsPer(count, run, { warmMs = 300, sampleMs = 500 } = {}) {
  if (warmMs > 0) await bestOf(run, warmMs);
  return ((await bestOf(run, sampleMs)) * 1e6) / count;
}

/** Milliseconds. Runs at least once. */
async function bestOf(run, forMs) {
  const end = performance.now() + forMs;
  let best = Infinity;
  do {
    const start = performance.now();
    await run();
    best = Math.min(best, performance.now() - start);
  } while (performance.now() < end);
  return best;
}

export const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

/** The heap once nothing more can be collected. */
export async function settledHeap() {
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    await nextTurn();
  }
  return process.memoryUsage().heapUsed;
}

export const numbers = (length) => Array.from({ length }, (_, i) => i);
