import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { of } from 'rxjs';
import { jsonLines } from 'rxfleet/node';
import { describe, expect, it, vi } from 'vitest';
import { folder, generationsOf, linesOf, script, watchFile } from './harness.js';

interface Numbered {
  readonly n: number;
}

function parsed(line: string): Numbered | undefined {
  try {
    return JSON.parse(line) as Numbered;
  } catch {
    return undefined;
  }
}

describe('a process that dies while it writes', () => {
  it('killed, it leaves whole lines in order, of which at most the last is torn; the next writer goes on after it', async () => {
    const path = join(folder(), 'trips.jsonl');
    const writer = script(
      `const values = new Subject();
       values.pipe(jsonLines(args[0], { maxBytes: 200_000, keep: 900, maxQueueBytes: 100_000_000 })).subscribe();
       let n = 0;
       const some = () => { for (let i = 0; i < 20; i++) values.next({ n: n++, text: 'x'.repeat(n % 300) }); setImmediate(some); };
       some();`,
      path,
    );
    await vi.waitFor(() => expect(statSync(`${path}.5`).size).toBeGreaterThan(0), { timeout: 15_000, interval: 5 });
    writer.child.kill('SIGKILL');
    expect(await writer.ended).toMatchObject({ signal: 'SIGKILL' });

    const lines = linesOf(...generationsOf(path)).map(parsed);
    const torn = lines.filter((each) => each === undefined).length;
    expect(torn).toBeLessThanOrEqual(1);
    if (torn === 1) expect(lines.at(-1)).toBeUndefined();
    const whole = lines.slice(0, lines.length - torn);
    expect(whole.length).toBeGreaterThan(1000);
    whole.forEach((each, n) => expect(each?.n).toBe(n));

    await watchFile(of({ n: -1 }).pipe(jsonLines(path, { maxBytes: 200_000, keep: 900 }))).ended;
    expect(parsed(linesOf(path).at(-1) ?? '')).toEqual({ n: -1 });
    expect(linesOf(...generationsOf(path))).toHaveLength(lines.length + 1);
  });

  it.each([
    ['process.exit()', 'process.exit(3);', 3],
    ['an uncaught error', "throw new Error('boom');", 1],
    ['nothing left to do', '', 0],
  ])('ended by %s, it has written everything', async (_, end, code) => {
    const path = join(folder(), 'trips.jsonl');
    const run = script(
      `const values = new Subject();
       values.pipe(jsonLines(args[0])).subscribe();
       for (let n = 0; n < 1000; n++) values.next({ n });
       ${end}`,
      path,
    );
    expect(await run.ended).toMatchObject({ code });
    expect(linesOf(path).map((line) => parsed(line)?.n)).toEqual(Array.from({ length: 1000 }, (__, n) => n));
  });

  it('ended in the middle of a stream of lines, it has written each once', async () => {
    const path = join(folder(), 'trips.jsonl');
    const run = script(
      `const values = new Subject();
       values.pipe(jsonLines(args[0], { maxBytes: 50_000, keep: 500 })).subscribe();
       let n = 0;
       const some = () => { for (let i = 0; i < 100; i++) values.next({ n: n++ }); if (n >= 20_000) process.exit(0); setImmediate(some); };
       some();`,
      path,
    );
    expect(await run.ended).toMatchObject({ code: 0 });
    const seen = linesOf(...generationsOf(path)).map((line) => parsed(line) ?? { n: -1 });
    expect(new Set(seen.map((each) => each.n)).size).toBe(20_000);
    expect(seen.length).toBe(20_000);
  });

  it('a log that is open does not keep it alive', async () => {
    const path = join(folder(), 'trips.jsonl');
    const run = script(`from([1]).pipe(jsonLines(args[0])).subscribe(); new Subject().pipe(jsonLines(args[0])).subscribe();`, path);
    expect(await run.ended).toMatchObject({ code: 0 });
    expect(readFileSync(path, 'utf8')).toBe('1\n');
  });
});
