import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const child = fileURLToPath(new URL('child.mjs', import.meta.url));

/**
 * Measures a group: the contenders take turns, round after round, so that whatever else the machine does strikes all of them. A contender that is
 * too slow for every round sits the later ones out; one that is not done in `capMs` is ended, and its figure is Infinity.
 *
 * @returns one record per round: the figures of each contender by name
 */
export async function measure(group, rounds, onProgress) {
  const { file, params = {}, flags = [], contenders } = group;
  const found = [];
  for (let round = 0; round < rounds; round++) {
    const figures = {};
    for (const entry of contenders) {
      const { name, contender = name, rounds: most = Infinity, capMs, ...own } = typeof entry === 'string' ? { name: entry } : entry;
      if (round >= most) continue;
      onProgress(`round ${round + 1} of ${rounds}: ${group.title} · ${name}`);
      const task = JSON.stringify({ file, contender, params: { ...params, ...own.params } });
      figures[name] = await figuresOf([...flags, child, task], capMs);
    }
    found.push(figures);
  }
  return found;
}

async function figuresOf(args, capMs) {
  try {
    const { stdout } = await run(process.execPath, args, { maxBuffer: 1e8, timeout: capMs, killSignal: 'SIGKILL' });
    return JSON.parse(stdout);
  } catch (error) {
    if (capMs !== undefined && error.killed) return Infinity;
    throw error;
  }
}
