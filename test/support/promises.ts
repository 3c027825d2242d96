import { expect, vi } from 'vitest';
import { journal, type Journal } from './journal.js';
import { leakCheck } from './leaks.js';

/** What is due gets one more turn before a deadline or a grace ends; a turn of the real scheduler takes a millisecond. */
export const TURN = 1;

type Task<T> = (signal: AbortSignal) => Promise<T>;

/** Calls whose promises run on setTimeout, and the count of those that run now. */
export interface Works {
  readonly running: number;
  readonly peak: number;
  readonly started: readonly string[];
  readonly settled: readonly string[];
  /** Settles after `ms`, or at once with an AbortError when it is told to stop. */
  coop<T>(name: string, ms: number, value: T): Task<T>;
  /** Settles after `ms`, whatever it is told. */
  deaf<T>(name: string, ms: number, value: T): Task<T>;
  /** Never settles. */
  stuck(name: string): Task<never>;
  /** Runs until it is told to stop and then needs `ms` more; rejects with `error`, by default an AbortError. */
  cleanup(name: string, ms: number, error?: unknown): Task<never>;
  /** Rejects after `ms`; an abort does not change that. */
  failing(name: string, ms: number, error: unknown): Task<never>;
}

export function abortError(message = 'aborted'): Error {
  return new DOMException(message, 'AbortError');
}

export function works(note: (what: string) => void = () => {}): Works {
  const started: string[] = [];
  const settled: string[] = [];
  let running = 0;
  let peak = 0;
  const task =
    <T>(name: string, run: (resolve: (value: T) => void, reject: (error: unknown) => void, signal: AbortSignal) => void): Task<T> =>
    (signal) => {
      started.push(name);
      peak = Math.max(peak, ++running);
      const end = (): void => {
        running--;
        settled.push(name);
        note(`${name} settled`);
      };
      return new Promise<T>((resolve, reject) => {
        run(
          (value) => (end(), resolve(value)),
          (error) => (end(), reject(error)),
          signal,
        );
      });
    };
  return {
    get running() {
      return running;
    },
    get peak() {
      return peak;
    },
    started,
    settled,
    coop: (name, ms, value) =>
      task(name, (resolve, reject, signal) => {
        const timer = setTimeout(() => resolve(value), ms);
        signal.addEventListener('abort', () => (clearTimeout(timer), reject(abortError())), { once: true });
      }),
    deaf: (name, ms, value) => task(name, (resolve) => void setTimeout(() => resolve(value), ms)),
    stuck: (name) => task<never>(name, () => {}),
    cleanup: (name, ms, error = abortError()) =>
      task<never>(name, (_, reject, signal) => signal.addEventListener('abort', () => void setTimeout(() => reject(error), ms))),
    failing: (name, ms, error) => task<never>(name, (_, reject) => void setTimeout(() => reject(error), ms)),
  };
}

export interface Fake extends Journal {
  readonly works: Works;
  now(): number;
  advance(ms: number): Promise<void>;
}

/** Runs a test with promises on fake timers that start at 0. Nothing may be left open, armed or unhandled at its end. */
export async function fake(body: (test: Fake) => Promise<void>): Promise<void> {
  const expectNoLeak = leakCheck();
  const unhandled: unknown[] = [];
  const onUnhandled = (error: unknown): void => void unhandled.push(error);
  process.on('unhandledRejection', onUnhandled);
  vi.useFakeTimers({ now: 0 });
  try {
    const notes = journal(() => Date.now());
    const advance = async (ms: number): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));
    await body({ ...notes, works: works(notes.note), now: () => Date.now(), advance });
    await advance(0);
    expectNoLeak();
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', onUnhandled);
  }
  expect(unhandled).toEqual([]);
}
