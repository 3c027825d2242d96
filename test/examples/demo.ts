import { spawn, spawnSync, type ChildProcess, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A run of the demo. */
export interface Demo {
  readonly child: ChildProcess;
  stdout: string;
  stderr: string;
  /** Resolves once the output matches. */
  says(pattern: RegExp): Promise<void>;
  /** Resolves with the exit code, or the signal that killed it. */
  readonly ended: Promise<number | string | null>;
}

const MAIN = ['--import', 'tsx', 'examples/dependency-audit/main.ts'];
const CLEAN = { ANTHROPIC_API_KEY: undefined, ANTHROPIC_BASE_URL: undefined, INIT_CWD: undefined };

export function startDemo(args: readonly string[], env: NodeJS.ProcessEnv = {}): Demo {
  const options = { cwd: root, env: { ...process.env, ...CLEAN, ...env } };
  return watch(spawn(process.execPath, [...MAIN, ...args], { ...options, stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** Whether a terminal can be had. */
export const hasTerminals = process.platform === 'linux' && spawnSync('script', ['--version']).status === 0;

/** A run of the demo in a terminal of its own. What the terminal is like after it is printed last. */
export function startInTerminal(args: readonly string[], columns = 100, rows = 30): Demo & { press(keys: string): void } {
  const command = [process.execPath, ...MAIN, ...args].map((word) => `'${word}'`).join(' ');
  const session = `stty cols ${columns} rows ${rows}; ${command}; code=$?; stty -a | grep -Eo -e '-?(icanon|echo|isig)\\b' | xargs; exit $code`;
  const { CI: _ci, FORCE_COLOR: _force, ...inherited } = process.env;
  const env = { ...inherited, ...CLEAN, TERM: 'xterm-256color', NO_COLOR: '1' };
  const child = spawn('script', ['-qec', session, '/dev/null'], { cwd: root, env, stdio: ['pipe', 'pipe', 'pipe'] });
  return Object.assign(watch(child), { press: (keys: string) => void child.stdin.write(keys) });
}

function watch(child: ChildProcessByStdio<Writable | null, Readable, Readable>): Demo {
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string | null);
  const demo: Demo = {
    child,
    stdout: '',
    stderr: '',
    ended,
    says: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (pattern.test(demo.stdout)) resolve();
        };
        look();
        child.stdout.on('data', look);
        void ended.then(() => reject(new Error(`It ended without saying ${String(pattern)}:\n${demo.stdout}${demo.stderr}`)));
      }),
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (demo.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (demo.stderr += text));
  return demo;
}

/** Runs the demo to its end. */
export async function runDemo(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Demo & { readonly code: number | string | null }> {
  const demo = startDemo(args, env);
  return Object.assign(demo, { code: await demo.ended });
}

const made: string[] = [];
afterAll(() => Promise.all(made.map((dir) => rm(dir, { recursive: true }))));

/** A project on disk, made of files. It is removed when the tests are over. */
export async function makeProject(files: Readonly<Record<string, string>>): Promise<string> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'rxfleet-demo-')));
  made.push(dir);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  return dir;
}
