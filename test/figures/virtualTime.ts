import { TestScheduler } from 'rxjs/testing';

/** Runs a simulation to its end in virtual time: `now()` is in milliseconds, and every rxjs timer follows it. */
export function simulate(begin: (now: () => number) => void): void {
  const clock = new TestScheduler(() => {});
  clock.run(({ flush }) => {
    begin(() => clock.now());
    flush();
  });
}

/** Chance that can be repeated: numbers from 0 up to, but not including, 1 (mulberry32). */
export function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
