import { concat, defer, ignoreElements, map, NEVER, Observable, tap, timer, type ObservableInput } from 'rxjs';
import { TestScheduler, type RunHelpers } from 'rxjs/testing';
import { expect } from 'vitest';
import type { ScopeContext } from 'rxfleet';
import { journal, type Journal } from './journal.js';
import { leakCheck } from './leaks.js';

export interface Virtual extends RunHelpers, Journal {
  readonly scheduler: TestScheduler;
  now(): number;
  /** Runs `task` at a frame. */
  at(frame: number, task: () => void): void;
}

/** Runs a test in virtual time, with a TestScheduler of its own, and checks that it leaves no scope open. */
export function virtual(body: (test: Virtual) => void): void {
  const expectNoLeak = leakCheck();
  const scheduler = new TestScheduler((actual, expected) => expect(actual).toEqual(expected));
  scheduler.run((helpers) => {
    const now = (): number => scheduler.now();
    const at = (frame: number, task: () => void): void => void scheduler.schedule(task, frame);
    body({ ...helpers, ...journal(now), scheduler, now, at });
    helpers.flush();
  });
  expectNoLeak();
}

/** Completes after `ms` without a value. */
export function pause(ms: number): Observable<never> {
  return timer(ms).pipe(ignoreElements());
}

/** One value after `ms`, then the end. */
export function later<T>(ms: number, value: T): Observable<T> {
  return timer(ms).pipe(map(() => value));
}

/** An error after `ms`. */
export function failing(ms: number, error: unknown): Observable<never> {
  return concat(
    pause(ms),
    defer(() => {
      throw error;
    }),
  );
}

/** Runs until it is torn down, and then needs `ms` more to clean up, which its scope waits for. */
export function cleaning(ctx: ScopeContext, ms: number, done: () => void = () => {}, source: Observable<never> = NEVER): Observable<never> {
  return new Observable<never>((out) => {
    const running = source.subscribe(out);
    return () => {
      running.unsubscribe();
      ctx.track(pause(ms).pipe(tap({ complete: done })), `cleaning ${ms}`);
    };
  });
}

/** Notes when a source is torn down. */
export function torn<T>(note: () => void, source?: ObservableInput<T>): Observable<T> {
  return new Observable<T>((out) => {
    const running = (source === undefined ? NEVER : defer(() => source)).subscribe(out);
    return () => {
      running.unsubscribe();
      note();
    };
  });
}
