import { median } from './stats.mjs';

/**
 * Milliseconds of CPU time that this process has used. On an idle machine that is what the clock shows for work that never waits; on a busy one it
 * does not count what others take.
 */
export function cpuNow() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Nanoseconds of CPU time that each of `count` things in `run` takes once the code is warm: the median of the runs that fit into the time. */
export async function nsPer(count, run, { warmMs = 250, sampleMs = 350 } = {}) {
  if (warmMs > 0) await runsOf(run, warmMs);
  return (median(await runsOf(run, sampleMs)) * 1e6) / count;
}

/** Milliseconds of the runs that fit into the time, one at least. */
export async function runsOf(run, forMs) {
  const began = cpuNow();
  const found = [];
  do {
    const start = cpuNow();
    await run();
    found.push(cpuNow() - start);
  } while (cpuNow() - began < forMs);
  return found;
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
