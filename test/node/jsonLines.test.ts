import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { AsyncLocalStorage } from 'node:async_hooks';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { concat, EMPTY, from, NEVER, of, Subject, take, throwError } from 'rxjs';
import { scoped } from 'rxfleet';
import { jsonLines, type JsonLinesEvent } from 'rxfleet/node';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { folder, generationsOf, linesOf, watchFile } from './harness.js';

/** Named pipes that one may open for reading and writing, and a disk that is always full. */
const linux = process.platform === 'linux';
const numbers = (count: number): { n: number }[] => Array.from({ length: count }, (_, n) => ({ n }));
const numbersOf = (...paths: string[]): number[] => linesOf(...paths).map((line) => (JSON.parse(line) as { n: number }).n);
const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe('jsonLines', () => {
  it('writes a line for each value, tells when the file is closed and completes', async () => {
    const path = join(folder(), 'trips.jsonl');
    const { told, events, ended } = watchFile(from([{ a: 1 }, 'two\nlines', null, 4]).pipe(jsonLines(path)));
    await ended;
    expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n"two\\nlines"\nnull\n4\n');
    expect(told).toEqual(['opened', 'closed', 'complete']);
    expect(events.at(-1)).toEqual({ type: 'closed', path, written: 4, missing: 0 });
  });

  it('makes the file and its folders, for its owner alone', async () => {
    const path = join(folder(), 'a/b/trips.jsonl');
    await watchFile(EMPTY.pipe(jsonLines(path))).ended;
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, 'utf8')).toBe('');
  });

  it('appends to what is there, on a line of its own even if the last one is torn', async () => {
    const path = join(folder(), 'trips.jsonl');
    writeFileSync(path, '{"n":0}\n');
    await watchFile(of({ n: 1 }).pipe(jsonLines(path))).ended;
    expect(readFileSync(path, 'utf8')).toBe('{"n":0}\n{"n":1}\n');
    appendFileSync(path, '{"n":2');
    await watchFile(of({ n: 3 }).pipe(jsonLines(path))).ended;
    expect(readFileSync(path, 'utf8')).toBe('{"n":0}\n{"n":1}\n{"n":2\n{"n":3}\n');
  });

  it('writes nothing before it is subscribed, and to each subscription’s file handle alone', async () => {
    const path = join(folder(), 'trips.jsonl');
    const log = of({ n: 1 }).pipe(jsonLines(path));
    expect(existsSync(path)).toBe(false);
    await Promise.all([watchFile(log).ended, watchFile(log).ended]);
    expect(linesOf(path)).toEqual(['{"n":1}', '{"n":1}']);
  });

  describe('rotation', () => {
    it('begins a new file before one would be too long, and keeps so many', async () => {
      const path = join(folder(), 'trips.jsonl');
      const { told, ended } = watchFile(from(numbers(1000)).pipe(jsonLines(path, { maxBytes: 1000, keep: 3 })));
      await ended;
      const files = generationsOf(path);
      expect(files).toEqual([`${path}.3`, `${path}.2`, `${path}.1`, path]);
      for (const file of files) expect(statSync(file).size).toBeLessThanOrEqual(1000);
      for (const file of files.slice(0, 3)) expect(statSync(file).size).toBeGreaterThan(980);
      const kept = numbersOf(...files);
      expect(kept).toEqual(range(1000).slice(-kept.length));
      expect(told.filter((each) => each === 'rotated').length).toBeGreaterThan(8);
    });

    it('keeps none but the file itself with keep: 0', async () => {
      const path = join(folder(), 'trips.jsonl');
      await watchFile(from(numbers(300)).pipe(jsonLines(path, { maxBytes: 1000, keep: 0 }))).ended;
      expect(generationsOf(path)).toEqual([path]);
      expect(numbersOf(path).at(-1)).toBe(299);
      expect(statSync(path).size).toBeLessThanOrEqual(1000);
    });

    it('a gap among the numbers is filled first', async () => {
      const path = join(folder(), 'trips.jsonl');
      writeFileSync(`${path}.2`, 'old');
      writeFileSync(path, 'x'.repeat(999) + '\n');
      await watchFile(of({ n: 1 }).pipe(jsonLines(path, { maxBytes: 1000, keep: 5 }))).ended;
      expect(readFileSync(`${path}.2`, 'utf8')).toBe('old');
      expect(readFileSync(`${path}.1`, 'utf8')).toHaveLength(1000);
      expect(numbersOf(path)).toEqual([1]);
    });

    it('a line that no file can hold is counted instead', async () => {
      const path = join(folder(), 'trips.jsonl');
      const { events, ended } = watchFile(from(['x'.repeat(1000), 'y']).pipe(jsonLines(path, { maxBytes: 1000 })));
      await ended;
      expect(linesOf(path).map((line) => JSON.parse(line) as unknown)).toMatchObject([{ kind: 'dropped', count: 1 }, 'y']);
      expect(events.at(-1)).toMatchObject({ written: 1, missing: 1 });
    });

    it('two writers of one file, as long as it is not full, lose nothing and tear nothing', async () => {
      const path = join(folder(), 'trips.jsonl');
      const values = [new Subject<unknown>(), new Subject<unknown>()];
      const logs = values.map((each) => watchFile(each.pipe(jsonLines(path))));
      for (let n = 0; n < 500; n++) {
        values[n % 2]!.next({ n });
        if (n % 7 === 0) await new Promise((resolve) => void setTimeout(resolve, 1));
      }
      values.forEach((each) => each.complete());
      await Promise.all(logs.map((log) => log.ended));
      expect(numbersOf(path).sort((a, b) => a - b)).toEqual(range(500));
    });

    it.each([
      ['renamed', (path: string) => renameSync(path, `${path}.old`)],
      ['removed', (path: string) => rmSync(path)],
    ])('goes on in a new file when somebody else has %s it', async (_, away) => {
      const path = join(folder(), 'trips.jsonl');
      const values = new Subject<unknown>();
      const { told, ended } = watchFile(values.pipe(jsonLines(path)));
      values.next({ n: 1 });
      await vi.waitFor(() => expect(numbersOf(path)).toEqual([1]));
      away(path);
      values.next({ n: 2 });
      values.complete();
      await ended;
      expect(numbersOf(path)).toEqual([2]);
      expect(told).toEqual(['opened', 'opened', 'closed', 'complete']);
    });
  });

  describe('a slow disk', () => {
    it.runIf(linux)('has values dropped and counted where they are missing, never kept without bound', async () => {
      const path = join(folder(), 'pipe');
      execFileSync('mkfifo', [path]);
      const values = new Subject<unknown>();
      const log = watchFile(values.pipe(jsonLines(path, { maxQueueBytes: 200_000 })));
      await vi.waitFor(() => expect(log.told).toEqual(['opened']));
      const text = 'x'.repeat(980);
      for (let n = 0; n < 2000; n++) values.next({ n, text });
      await new Promise((resolve) => void setTimeout(resolve, 50));
      values.next({ n: 2000, text });

      const seen: { n?: number; kind?: string; count?: number }[] = [];
      const reader = createInterface(createReadStream(path));
      onTestFinished(() => reader.close());
      reader.on('line', (line) => seen.push(JSON.parse(line) as object));
      await vi.waitFor(() => expect(seen.at(-1)?.kind).toBe('dropped'));
      values.next({ n: 2001, text });
      values.complete();
      await log.ended;
      await vi.waitFor(() => expect(seen.at(-1)?.n).toBe(2001));

      const gaps = seen.filter((each) => each.kind === 'dropped');
      const missing = gaps.reduce((sum, each) => sum + (each.count ?? 0), 0);
      expect(missing).toBeGreaterThan(1500);
      let next = 0;
      for (const each of seen) {
        if (each.kind === 'dropped') next += each.count ?? 0;
        else expect(each.n).toBe(next++);
      }
      expect(next).toBe(2002);
      expect(log.events.at(-1)).toMatchObject({ type: 'closed', written: 2002 - missing, missing });
      expect(log.events.filter((each) => each.type === 'dropped').reduce((sum, each) => sum + each.count, 0)).toBe(missing);
    });

    it('what is no JSON is counted as well', async () => {
      const path = join(folder(), 'trips.jsonl');
      const circular: Record<string, unknown> = {};
      circular['self'] = circular;
      const hostile = {
        toJSON() {
          throw new Error('no');
        },
      };
      const { events, ended } = watchFile(from([1, undefined, 5n, circular, hostile, () => 1, 2]).pipe(jsonLines(path)));
      await ended;
      expect(linesOf(path).map((line) => JSON.parse(line) as unknown)).toMatchObject([1, { kind: 'dropped', count: 5, path: [] }, 2]);
      expect(events.at(-1)).toMatchObject({ written: 2, missing: 5 });
    });

    it('missing values at the very end are counted too', async () => {
      const path = join(folder(), 'trips.jsonl');
      await watchFile(from([1, undefined]).pipe(jsonLines(path))).ended;
      expect(linesOf(path).map((line) => JSON.parse(line) as unknown)).toMatchObject([1, { kind: 'dropped', count: 1 }]);
    });
  });

  describe('errors of the disk', () => {
    it('are told, and what waits is written once that is possible', async () => {
      const blocked = join(folder(), 'blocked');
      writeFileSync(blocked, '');
      const path = join(blocked, 'trips.jsonl');
      const values = new Subject<unknown>();
      const { told, events, ended } = watchFile(values.pipe(jsonLines(path)));
      values.next({ n: 0 });
      await vi.waitFor(() => expect(told).toEqual(['failed']));
      expect(events[0]).toMatchObject({ error: { code: 'ENOTDIR' }, waiting: 8 });
      values.next({ n: 1 });
      rmSync(blocked);
      await vi.waitFor(() => expect(told).toEqual(['failed', 'opened']), 3000);
      values.complete();
      await ended;
      expect(numbersOf(path)).toEqual([0, 1]);
    });

    it.runIf(linux)('at the end lose what waits, and say how much', async () => {
      const { told, events, ended } = watchFile(from(numbers(3)).pipe(jsonLines('/dev/full')));
      await ended;
      expect(told.filter((each) => each !== 'failed')).toEqual(['opened', 'closed', 'complete']);
      expect(events.find((each) => each.type === 'failed')).toMatchObject({ error: { code: 'ENOSPC' } });
      expect(events.at(-1)).toEqual({ type: 'closed', path: '/dev/full', written: 0, missing: 3 });
    });

    it('a folder in place of the file is told as well', async () => {
      const { events, ended } = watchFile(of(1).pipe(jsonLines(folder())));
      await ended;
      expect(events[0]).toMatchObject({ type: 'failed', error: { code: 'EISDIR' } });
    });

    it.runIf(linux)('do not hold the end up while it waits to try again', async () => {
      const { told, events, stop } = watchFile(concat(of(1), NEVER).pipe(jsonLines('/dev/full')));
      await vi.waitFor(() => expect(told).toContain('failed'));
      const started = performance.now();
      const closed = new Promise<JsonLinesEvent>((resolve) => {
        const log = concat(of(1), NEVER)
          .pipe(jsonLines('/dev/full', { onClosed: resolve }))
          .subscribe();
        setTimeout(() => log.unsubscribe(), 30);
      });
      expect(await closed).toMatchObject({ missing: 1 });
      expect(performance.now() - started).toBeLessThan(800);
      stop();
      expect(events.at(-1)?.type).toBe('failed');
    });
  });

  describe('the end', () => {
    it('an error of the source comes after everything is written and closed', async () => {
      const path = join(folder(), 'trips.jsonl');
      const { told, ended } = watchFile(
        concat(
          from(numbers(3)),
          throwError(() => new Error('boom')),
        ).pipe(jsonLines(path)),
      );
      await ended;
      expect(told).toEqual(['opened', 'closed', 'error Error: boom']);
      expect(numbersOf(path)).toEqual([0, 1, 2]);
    });

    it('an unsubscribe writes what waits, and onClosed tells of it', async () => {
      const path = join(folder(), 'trips.jsonl');
      const closed = new Promise<JsonLinesEvent>((resolve) => {
        concat(from(numbers(100)), NEVER)
          .pipe(jsonLines(path, { onClosed: resolve }))
          .subscribe()
          .unsubscribe();
      });
      expect(await closed).toEqual({ type: 'closed', path, written: 100, missing: 0 });
      expect(numbersOf(path)).toEqual(range(100));
    });

    it('stops the source at once', () => {
      const values = new Subject<unknown>();
      const log = values.pipe(jsonLines(join(folder(), 'trips.jsonl'))).subscribe();
      expect(values.observed).toBe(true);
      log.unsubscribe();
      expect(values.observed).toBe(false);
    });

    it('a scope around it waits until it is written', async () => {
      const path = join(folder(), 'trips.jsonl');
      const values = new Subject<unknown>();
      let closed = false;
      const report = await new Promise((resolve) => {
        const run = scoped(
          (scope) => {
            scope.closed$.subscribe((each) => {
              expect(closed).toBe(true);
              resolve(each);
            });
            return values.pipe(jsonLines(path, { onClosed: () => (closed = true) }));
          },
          { graceMs: 2000 },
        ).subscribe();
        for (const each of numbers(50)) values.next(each);
        run.unsubscribe();
        expect(closed).toBe(false);
      });
      expect(report).toMatchObject({ abandoned: [], errors: [] });
      expect(numbersOf(path)).toEqual(range(50));
    });

    it('events keep the async context of whoever subscribed', async () => {
      const user = new AsyncLocalStorage<string>();
      const values = new Subject<unknown>();
      const seen = new Set<string | undefined>();
      let ended = (): void => {};
      const end = new Promise<void>((resolve) => (ended = resolve));
      user.run('subscriber', () => {
        values
          .pipe(jsonLines(join(folder(), 'trips.jsonl'), { maxBytes: 1000 }))
          .subscribe({ next: () => seen.add(user.getStore()), complete: ended });
      });
      user.run('producer', () => numbers(500).forEach((each) => values.next(each)));
      user.run('producer', () => values.complete());
      await end;
      expect([...seen]).toEqual(['subscriber']);
    });

    it('a synchronous firehose stops at take', async () => {
      const path = join(folder(), 'trips.jsonl');
      let asked = 0;
      function* endless(): Generator<number> {
        for (;;) yield asked++;
      }
      await watchFile(from(endless()).pipe(take(3), jsonLines(path))).ended;
      expect(asked).toBe(3);
      expect(linesOf(path)).toEqual(['0', '1', '2']);
    });

    it('leaves no listener on the process', async () => {
      const before = process.listenerCount('exit');
      const values = new Subject<unknown>();
      const { ended } = watchFile(values.pipe(jsonLines(join(folder(), 'trips.jsonl'))));
      values.next(1);
      await vi.waitFor(() => expect(process.listenerCount('exit')).toBe(before));
      values.complete();
      await ended;
      expect(process.listenerCount('exit')).toBe(before);
    });
  });

  it('bad options throw where they are given', () => {
    expect(() => jsonLines(5 as never)).toThrow(new TypeError('jsonLines: path must be a string, got 5.'));
    expect(() => jsonLines('')).toThrow(RangeError);
    expect(() => jsonLines('a\0b')).toThrow(RangeError);
    expect(() => jsonLines('x', { maxBytes: 999 })).toThrow('jsonLines: maxBytes must be an integer of at least 1000, got 999.');
    expect(() => jsonLines('x', { keep: -1 })).toThrow(RangeError);
    expect(() => jsonLines('x', { keep: 1.5 })).toThrow(RangeError);
    expect(() => jsonLines('x', { maxQueueBytes: NaN })).toThrow(RangeError);
    expect(() => jsonLines('x', { maxQueueBytes: '5' as never })).toThrow(TypeError);
    expect(() => jsonLines('x', { onClosed: 5 as never })).toThrow('jsonLines: onClosed must be a function, got 5.');
    expect(() => jsonLines('x', { within: {} as never })).toThrow('jsonLines: within must be a scope of this package');
    expect(() => jsonLines('x', { scheduler: {} as never })).toThrow(TypeError);
  });

  it('a folder that is removed while it writes is made again', async () => {
    const home = join(folder(), 'logs');
    mkdirSync(home);
    const path = join(home, 'trips.jsonl');
    const values = new Subject<unknown>();
    const { ended } = watchFile(values.pipe(jsonLines(path)));
    values.next({ n: 1 });
    await vi.waitFor(() => expect(numbersOf(path)).toEqual([1]));
    rmSync(home, { recursive: true });
    values.next({ n: 2 });
    values.complete();
    await ended;
    expect(numbersOf(path)).toEqual([2]);
  });
});
