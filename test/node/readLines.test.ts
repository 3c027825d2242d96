import { appendFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Subject } from 'rxjs';
import { jsonLines } from 'rxfleet/node';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { readLines } from '../../src/node/readLines.js';
import { folder, watchFile } from './harness.js';

const never = new AbortController().signal;

async function all(path: string): Promise<string[] | undefined> {
  const read = await readLines(path, { follow: false, signal: never });
  if (read === undefined) return undefined;
  const lines: string[] = [];
  for await (const each of read) lines.push(...each.lines);
  return lines;
}

/** Follows in the background. */
async function follow(path: string): Promise<{ readonly seen: string[]; stop: () => Promise<void> }> {
  const stop = new AbortController();
  const read = await readLines(path, { follow: true, signal: stop.signal });
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { lines } of read ?? []) seen.push(...lines);
  })();
  onTestFinished(() => stop.abort());
  return {
    seen,
    stop: () => {
      stop.abort();
      return reading;
    },
  };
}

describe('readLines', () => {
  it('there is no such file', async () => {
    expect(await all(join(folder(), 'none'))).toBeUndefined();
    expect(await all(join(folder(), 'none/none'))).toBeUndefined();
  });

  it('reads the files that it was renamed to first, the oldest before all', async () => {
    const path = join(folder(), 'log');
    writeFileSync(path, 'e\nf\n');
    writeFileSync(`${path}.1`, 'd\n');
    writeFileSync(`${path}.3`, 'c\n');
    writeFileSync(`${path}.12`, 'a\nb');
    for (const other of ['.bak', '.0', '.01', '.2024', '.1.gz']) writeFileSync(path + other, 'no\n');
    writeFileSync(`${path}s`, 'no\n');
    expect(await all(path)).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    rmSync(path);
    expect(await all(path)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('cuts characters and lines together that lie across the borders of reading', async () => {
    const path = join(folder(), 'log');
    const lines = Array.from({ length: 500 }, (_, n) => `${n} ${'😀ü漢'.repeat(n)}`);
    writeFileSync(path, lines.join('\n'));
    expect(await all(path)).toEqual(lines);
  });

  it('an endless line takes no endless memory', async () => {
    const path = join(folder(), 'log');
    writeFileSync(path, `${'x'.repeat(30_000_000)}\nb\n`);
    const [long, ...rest] = (await all(path)) ?? [];
    expect(long?.length).toBeLessThanOrEqual(10_000_000);
    expect(rest).toEqual(['b']);
  });

  it('an empty file has no lines', async () => {
    const path = join(folder(), 'log');
    writeFileSync(path, '');
    expect(await all(path)).toEqual([]);
    writeFileSync(path, '\n\n');
    expect(await all(path)).toEqual([]);
  });

  describe('following', () => {
    it('gives lines once they are whole', async () => {
      const path = join(folder(), 'log');
      writeFileSync(path, 'a\nb');
      const { seen, stop } = await follow(path);
      await vi.waitFor(() => expect(seen).toEqual(['a']));
      appendFileSync(path, 'b\nc\n');
      await vi.waitFor(() => expect(seen).toEqual(['a', 'bb', 'c']));
      await stop();
    });

    it('misses nothing when the file is renamed again and again', async () => {
      const path = join(folder(), 'log');
      writeFileSync(path, '0\n');
      const { seen, stop } = await follow(path);
      await vi.waitFor(() => expect(seen).toEqual(['0']));
      for (let n = 1; n <= 40; n++) {
        if (n % 4 === 0) {
          for (let i = 20; i > 1; i--) {
            try {
              renameSync(`${path}.${i - 1}`, `${path}.${i}`);
            } catch {
              // Not so many yet.
            }
          }
          renameSync(path, `${path}.1`);
        }
        appendFileSync(path, `${n}\n`);
        if (n % 3 === 0) await new Promise((resolve) => void setTimeout(resolve, 20));
      }
      await vi.waitFor(() => expect(seen.at(-1)).toBe('40'));
      expect(seen).toEqual(Array.from({ length: 41 }, (_, n) => String(n)));
      await stop();
    });

    it('gives every line of a rotating writer once and in order', async () => {
      const path = join(folder(), 'log');
      const values = new Subject<unknown>();
      const log = watchFile(values.pipe(jsonLines(path, { maxBytes: 1000, keep: 5 })));
      await vi.waitFor(() => expect(log.told).toEqual(['opened']));
      const { seen, stop } = await follow(path);
      for (let n = 0; n < 800; n++) {
        values.next(n);
        if (n % 5 === 0) await new Promise((resolve) => void setTimeout(resolve, 4));
      }
      values.complete();
      await log.ended;
      await vi.waitFor(() => expect(seen.at(-1)).toBe('799'));
      expect(seen).toEqual(Array.from({ length: 800 }, (_, n) => String(n)));
      expect(log.told.filter((each) => each === 'rotated').length).toBeGreaterThan(0);
      await stop();
    });

    it('begins anew when the file is emptied, and when it is removed and made again', async () => {
      const path = join(folder(), 'log');
      writeFileSync(path, 'a\nb\n');
      const { seen, stop } = await follow(path);
      await vi.waitFor(() => expect(seen).toEqual(['a', 'b']));
      truncateSync(path);
      await new Promise((resolve) => void setTimeout(resolve, 300));
      appendFileSync(path, 'c\n');
      await vi.waitFor(() => expect(seen).toEqual(['a', 'b', 'c']));
      rmSync(path);
      await new Promise((resolve) => void setTimeout(resolve, 300));
      writeFileSync(path, 'd\n');
      await vi.waitFor(() => expect(seen).toEqual(['a', 'b', 'c', 'd']));
      await stop();
    });

    it('goes on with the oldest that is new when the file that it read is gone', async () => {
      const path = join(folder(), 'log');
      writeFileSync(`${path}.2`, 'old\n');
      writeFileSync(path, 'a\n');
      const { seen, stop } = await follow(path);
      await vi.waitFor(() => expect(seen).toEqual(['old', 'a']));
      rmSync(path);
      writeFileSync(`${path}.1`, 'b\n');
      writeFileSync(path, 'c\n');
      await vi.waitFor(() => expect(seen).toEqual(['old', 'a', 'b', 'c']));
      await stop();
    });

    it('stops at once when it is told to', async () => {
      const path = join(folder(), 'log');
      writeFileSync(path, 'a\n');
      const { seen, stop } = await follow(path);
      await vi.waitFor(() => expect(seen).toEqual(['a']));
      const started = performance.now();
      await stop();
      expect(performance.now() - started).toBeLessThan(100);
    });
  });
});
