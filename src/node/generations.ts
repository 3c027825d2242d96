import type { Stats } from 'node:fs';
import { open, readdir, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { orMissing } from './orMissing.js';

/** A file and those that it was renamed to are the generations of one log. */
export interface Generation {
  readonly handle: FileHandle;
  readonly id: string;
  /** The generations that were there already when this one was found to be the next. */
  readonly older: ReadonlySet<string>;
}

interface Found {
  readonly path: string;
  readonly id: string;
}

/** Times a rotation may come in between before it is left for later. */
const TRIES = 5;

/** The oldest generation, or undefined if there is none. */
export async function oldest(path: string): Promise<Generation | undefined> {
  return pick(path, (found) => found.at(-1));
}

/** The generation after the given one, or undefined if that is the youngest. */
export async function following(path: string, { id, older }: Generation): Promise<Generation | undefined> {
  return pick(path, (found) => {
    const at = found.findIndex((each) => each.id === id);
    return at >= 0 ? found[at - 1] : found.findLast((each) => !older.has(each.id));
  });
}

/** Opens the chosen generation. Names move while one looks at them, so the choice must be the same with it open. */
async function pick(path: string, choose: (found: readonly Found[]) => Found | undefined): Promise<Generation | undefined> {
  for (let tries = 0; tries < TRIES; tries++) {
    const chosen = choose(await generations(path));
    if (chosen === undefined) return undefined;
    const handle = await orMissing(open(chosen.path, 'r'));
    if (handle === undefined) continue;
    const id = idOf(await handle.stat());
    const found = await generations(path);
    if (id === choose(found)?.id) {
      const older = found.slice(found.findIndex((each) => each.id === id) + 1);
      return { handle, id, older: new Set(older.map((each) => each.id)) };
    }
    await handle.close();
  }
  return undefined;
}

/** From the youngest to the oldest. In this order a file that is renamed meanwhile is seen twice, and none is missed. */
async function generations(path: string): Promise<Found[]> {
  const found = new Map<string, Found>();
  const last = await highestNumber(path);
  for (let n = 0; n <= last + 1; n++) {
    const each = n === 0 ? path : `${path}.${n}`;
    const stats = await orMissing(stat(each));
    if (stats !== undefined) found.set(idOf(stats), { path: each, id: idOf(stats) });
  }
  return [...found.values()];
}

async function highestNumber(path: string): Promise<number> {
  const start = `${basename(path)}.`;
  const names = await readdir(dirname(path)).catch(() => []);
  const numbers = names.filter((name) => name.startsWith(start)).map((name) => name.slice(start.length));
  return Math.max(0, ...numbers.filter((each) => /^[1-9]\d{0,2}$/.test(each)).map(Number));
}

function idOf({ dev, ino, birthtimeMs }: Stats): string {
  return `${dev}:${ino}:${birthtimeMs}`;
}
