import { spawn, spawnSync } from 'node:child_process';
import { build } from 'esbuild';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { TripRecord } from '../../src/gates/tripRecord.js';
import { folder, node, root, type Run } from './harness.js';

/** The command in one file, so that it starts at once, as deep below package.json as it is in the package. */
const CLI = join(root, 'temp/cli', `${process.pid}.mjs`);
const NOW = Date.now();
const MINUTE = 60_000;

const records: TripRecord[] = [
  {
    kind: 'alert',
    at: NOW - 90 * MINUTE,
    gate: 'fleet',
    path: ['fleet'],
    message: '80 % is used.',
    fraction: 0.8,
    unit: 'calls',
    used: 8,
    limit: 10,
  },
  { kind: 'tripped', at: NOW - 30 * MINUTE, gate: 'search', path: [], message: 'Tripped and stopped 15 calls.', cancelled: 15 },
  { kind: 'state', at: NOW - 29 * MINUTE, gate: 'search', path: [], message: 'Is open now.', from: 'closed', to: 'open' },
  { kind: 'abandoned', at: NOW - 5 * MINUTE, path: ['run'], message: '"upload" was abandoned.', label: 'upload', ageMs: 5, count: 1 },
];

const text = (...some: readonly unknown[]): string => some.map((each) => `${JSON.stringify(each)}\n`).join('');

function log(content: string = text(...records)): string {
  const path = join(folder(), 'trips.jsonl');
  writeFileSync(path, content);
  return path;
}

const run = (...args: string[]): Run => node([CLI, ...args]);

async function result(started: Run): Promise<{ code: number | null; out: string; err: string }> {
  const { code } = await started.ended;
  return { code, out: started.out(), err: started.err() };
}

const iso = (at: number): string => new Date(at).toISOString();

describe('rxfleet trips', () => {
  beforeAll(() => build({ entryPoints: [join(root, 'src/node/cli.ts')], outfile: CLI, bundle: true, platform: 'node', format: 'esm' }));
  afterAll(() => rmSync(CLI));

  it('prints a table with a line for each trip', async () => {
    const { code, out, err } = await result(run('trips', log()));
    expect(out).toBe(
      [
        'TIME                      KIND         GATE    MESSAGE',
        `${iso(records[0]!.at)}  alert        fleet   80 % is used.`,
        `${iso(records[1]!.at)}  tripped      search  Tripped and stopped 15 calls.`,
        `${iso(records[2]!.at)}  state        search  Is open now.`,
        `${iso(records[3]!.at)}  abandoned    -       "upload" was abandoned.`,
        '',
      ].join('\n'),
    );
    expect({ code, err }).toEqual({ code: 0, err: '' });
  });

  it('reads trips.jsonl of the folder that it is called in', async () => {
    const path = log();
    const { stdout } = spawnSync(process.execPath, [CLI, 'trips'], { cwd: join(path, '..'), encoding: 'utf8' });
    expect(stdout.split('\n')).toHaveLength(6);
  });

  it.each<[string, string[], number[]]>([
    ['--kind', ['--kind', 'tripped'], [1]],
    ['several kinds', ['--kind', 'tripped,alert', '--kind=state'], [0, 1, 2]],
    ['--gate', ['--gate', 'search'], [1, 2]],
    ['--since a duration', ['--since', '1h'], [1, 2, 3]],
    ['--since a longer one', ['--since', '1h29m'], [1, 2, 3]],
    ['--until', ['--until', '10m'], [0, 1, 2]],
    ['--since and --until times', ['--since', iso(NOW - 40 * MINUTE), '--until', iso(NOW - 29 * MINUTE)], [1]],
    ['all of them', ['--gate', 'search', '--kind', 'state', '--since', '2h'], [2]],
  ])('%s filters', async (_, args, expected) => {
    const { code, out } = await result(run('trips', log(), '--json', ...args));
    expect(out).toBe(text(...expected.map((i) => records[i])));
    expect(code).toBe(0);
  });

  it('prints what is in the files that the log was renamed to first', async () => {
    const path = log(text(records[3]));
    writeFileSync(`${path}.1`, text(records[1], records[2]));
    writeFileSync(`${path}.2`, text(records[0]));
    expect((await result(run('trips', path, '--json'))).out).toBe(text(...records));
  });

  it('leaves out what is torn or no record, and says so', async () => {
    const content = `${text(records[0])}{"kind":"al\n\0\0\0\n5\n{}\n{"kind":5,"at":1,"message":""}\n${text(records[1])}{"kind":"tri`;
    const { code, out, err } = await result(run('trips', log(content), '--json'));
    expect(out).toBe(text(records[0], records[1]));
    expect(err).toBe('6 lines were skipped: torn, or no records.\n');
    expect(code).toBe(0);
  });

  it('a last line without its newline counts if it is whole', async () => {
    const { out, err } = await result(run('trips', log(text(records[0]).trimEnd()), '--json'));
    expect({ out, err }).toEqual({ out: text(records[0]), err: '' });
  });

  it.each([
    ['an empty log', '', [], /^No trips in .*trips\.jsonl\.\n$/],
    ['a log without what is asked for', text(...records), ['--gate', 'nobody'], /^None of the 4 trips in .*trips\.jsonl is asked for\.\n$/],
  ])('%s: a sentence, and no table', async (_, content, args, words) => {
    const { code, out, err } = await result(run('trips', log(content), ...args));
    expect(out).toBe('');
    expect(err).toMatch(words);
    expect(code).toBe(0);
  });

  it('makes hostile data harmless', async () => {
    const hostile = {
      kind: 'note\u001b[2J',
      at: 1e300,
      gate: '\u009b31mgate\u202e',
      path: [],
      message: 'a\nb\u001b]0;owned\u0007\r\u2028c',
    };
    const path = log(text(hostile));
    const table = await result(run('trips', path));
    expect(table.out.split('\n')).toHaveLength(3);
    expect(table.out).toContain('a b\\x1b]0;owned\\x07 c');
    const json = await result(run('trips', path, '--json'));
    for (const out of [table.out, json.out]) expect(out.replace(/\n/g, '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
    expect(JSON.parse(json.out)).toEqual(hostile);
  });

  describe('exit codes', () => {
    it('1 and a sentence when there is no such file', async () => {
      const path = join(folder(), 'none.jsonl');
      for (const more of [[], ['--follow']]) {
        const { code, out, err } = await result(run('trips', path, ...more));
        expect({ code, out }).toEqual({ code: 1, out: '' });
        expect(err).toBe(`There is no trip log ${path}; an application writes one with jsonLines() of rxfleet/node.\n`);
      }
    });

    it('1 and a sentence when it cannot be read', async () => {
      const path = join(folder(), 'folder');
      mkdirSync(path);
      const { code, err } = await result(run('trips', path));
      expect(code).toBe(1);
      expect(err).toMatch(/^.*folder cannot be read: EISDIR.*\n$/);
    });

    it.each([
      [['trips', '--nope'], /--nope/],
      [['trips', 'a', 'b'], /One file at a time: a, b\./],
      [['trips', '--kind', 'nope'], /There is no kind "nope", only tripped, alert,/],
      [['trips', '--kind'], /--kind/],
      [['trips', '--since', 'yesterday'], /--since takes a time such as 2026-01-31T14:00 or 15m, got "yesterday"\./],
      [['trips', '--since', ''], /--since takes a time/],
      [['trips', '--until', '2026-13-45'], /--until takes a time/],
      [['trips', '--follow=yes'], /--follow/],
      [['nope'], /There is no command "nope"\./],
      [[], /^Usage: rxfleet <command>/],
    ])('2 for %j', async (args, words) => {
      const { code, out, err } = await result(run(...args));
      expect({ code, out }).toEqual({ code: 2, out: '' });
      expect(err).toMatch(words);
      expect(err).not.toContain('    at ');
    });

    it.each([
      [['--help'], /^Usage: rxfleet <command>/],
      [['-h'], /^Usage: rxfleet <command>/],
      [['help'], /^Usage: rxfleet <command>/],
      [['trips', '--help'], /^Usage: rxfleet trips \[file\]/],
      [['--version'], new RegExp(`^${(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version}\n$`)],
    ])('0 for %j', async (args, words) => {
      const { code, out, err } = await result(run(...args));
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).toMatch(words);
    });

    it('0 and no word when whoever reads it has had enough', async () => {
      const path = log(text(...Array.from({ length: 20_000 }, () => records[0])));
      const { stdout, stderr } = spawnSync(
        'bash',
        ['-c', `"${process.execPath}" ${CLI} trips ${path} --json | head -n 1; echo "\${PIPESTATUS[0]}"`],
        {
          cwd: root,
          encoding: 'utf8',
        },
      );
      expect(stdout).toBe(`${text(records[0])}0\n`);
      expect(stderr).toBe('');
    });
  });

  describe('--follow', () => {
    it('goes on with what is appended, across a rename, until Ctrl+C', async () => {
      const path = log(text(records[0]));
      const following = run('trips', path, '--follow', '--json');
      await vi.waitFor(() => expect(following.out()).toBe(text(records[0])), 10_000);
      appendFileSync(path, text(records[1]));
      await vi.waitFor(() => expect(following.out()).toBe(text(records[0], records[1])));
      renameSync(path, `${path}.1`);
      appendFileSync(`${path}.1`, text(records[2]));
      writeFileSync(path, text(records[3]).slice(0, 20));
      await new Promise((resolve) => void setTimeout(resolve, 300));
      expect(following.out()).toBe(text(records[0], records[1], records[2]));
      appendFileSync(path, text(records[3]).slice(20));
      await vi.waitFor(() => expect(following.out()).toBe(text(...records)));
      following.child.kill('SIGINT');
      expect(await result(following)).toEqual({ code: 130, out: text(...records), err: '' });
    });

    it('prints the table as it grows, its head once', async () => {
      const path = log('');
      const following = run('trips', path, '-f', '--kind', 'alert');
      await new Promise((resolve) => void setTimeout(resolve, 1500));
      appendFileSync(path, text(records[0], records[1]));
      await vi.waitFor(() => expect(following.out()).toContain('80 % is used.'), 10_000);
      appendFileSync(path, text(records[0]));
      await vi.waitFor(() => expect(following.out().split('\n')).toHaveLength(4));
      expect(following.out().match(/MESSAGE/g)).toHaveLength(1);
      following.child.kill('SIGINT');
      expect((await following.ended).code).toBe(130);
    });

    it('ends quietly when whoever reads it has gone', async () => {
      const path = log();
      const following = spawn(process.execPath, [CLI, 'trips', path, '--follow', '--json'], { cwd: root });
      const ended = new Promise((resolve) => void following.on('exit', resolve));
      let err = '';
      following.stderr.on('data', (chunk) => (err += String(chunk)));
      await new Promise((resolve) => void following.stdout.once('data', resolve));
      following.stdout.destroy();
      const feed = setInterval(() => appendFileSync(path, text(records[0])), 50);
      expect(await ended).toBe(0);
      clearInterval(feed);
      expect(err).toBe('');
    });
  });

  describe.runIf(process.platform === 'linux' && spawnSync('script', ['--version']).status === 0)('in a terminal', () => {
    function terminal(columns: number, env: Record<string, string> = {}): string[] {
      const long = { ...records[1], gate: 'a gate with a long name of its own', message: `Tripped: ${'many words 漢字 '.repeat(20)}` };
      const path = log(text(...records, long));
      const command = `stty cols ${columns}; "${process.execPath}" ${CLI} trips ${path}`;
      const { NO_COLOR: _no, FORCE_COLOR: _force, CI: _ci, ...ours } = process.env;
      const plain = { ...ours, TERM: 'xterm-256color', ...env };
      const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { cwd: root, encoding: 'utf8', env: plain });
      return stdout.split('\r\n');
    }

    it.each([80, 120, 200, 40])('fits the table into %i columns', (columns) => {
      const lines = terminal(columns, { NO_COLOR: '1' });
      expect(lines.join('\n')).not.toContain('\u001b');
      for (const line of lines) expect(line.replace(/[漢字]/g, 'xx').length).toBeLessThanOrEqual(columns);
      expect(lines[0]).toMatch(/^TIME +KIND +GATE/);
      expect(lines.join('').match(/漢字/g)?.length).toBe(20);
      expect(lines.length).toBeGreaterThan(6);
    });

    it('paints only there, and not with NO_COLOR or a dumb terminal', () => {
      expect(terminal(80).join('\n')).toContain('\u001b[31mtripped');
      expect(terminal(80, { NO_COLOR: '1' }).join('\n')).not.toContain('\u001b');
      expect(terminal(80, { TERM: 'dumb' }).join('\n')).not.toContain('\u001b');
    });
  });
});
