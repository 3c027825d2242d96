import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Observable } from 'rxjs';
import type { JsonLinesEvent } from 'rxfleet/node';
import { onTestFinished } from 'vitest';

export const root = join(import.meta.dirname, '../..');

/** A folder for one test. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'rxfleet-node-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A log and the files that it was renamed to, oldest first. Between two files there is none at the path itself. */
export function generationsOf(path: string): string[] {
  const numbers = readdirSync(join(path, '..'))
    .filter((name) => join(path, '..', name).startsWith(`${path}.`))
    .map((name) => Number(name.split('.').at(-1)));
  return [...numbers.sort((a, b) => b - a).map((n) => `${path}.${n}`), path].filter((name) => existsSync(name));
}

/** The lines of these files, without their newlines. */
export function linesOf(...paths: string[]): string[] {
  return paths.flatMap((path) => readFileSync(path, 'utf8').split('\n')).filter((line) => line !== '');
}

/** Subscribes and keeps what is told. */
export function watchFile(events: Observable<JsonLinesEvent>): {
  readonly told: string[];
  readonly events: JsonLinesEvent[];
  readonly ended: Promise<void>;
  stop: () => void;
} {
  const told: string[] = [];
  const all: JsonLinesEvent[] = [];
  let stop = (): void => {};
  const ended = new Promise<void>((resolve) => {
    const subscription = events.subscribe({
      next: (event) => {
        all.push(event);
        told.push(event.type);
      },
      error: (error: unknown) => {
        told.push(`error ${String(error)}`);
        resolve();
      },
      complete: () => {
        told.push('complete');
        resolve();
      },
    });
    stop = () => subscription.unsubscribe();
  });
  return { told, events: all, ended, stop };
}

/** What a process has said so far, and how it ended. */
export interface Run {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Node with these arguments, in the root of the repository, able to load TypeScript. */
export function node(args: readonly string[], env: NodeJS.ProcessEnv = {}): Run {
  const child = spawn(process.execPath, ['--import', 'tsx', ...args], { cwd: root, env: { ...process.env, NO_COLOR: undefined, ...env } });
  const said = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (said.out += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (said.err += chunk));
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal }));
  });
  return { child, out: () => said.out, err: () => said.err, ended };
}

/** A module that has `jsonLines` and rxjs at hand. */
export function script(code: string, ...args: string[]): Run {
  const imports = `import { jsonLines } from './src/node/index.ts'; import { Subject, from } from 'rxjs'; const args = process.argv.slice(1);`;
  return node(['--import', 'tsx', '--input-type=module', '--eval', `${imports}\n${code}`, '--', ...args]);
}
