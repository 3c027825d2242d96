/** Draws a wait: `ceilingMs` is the longest for this retry, `retry` counts from 1. */
export type Jitter = (ceilingMs: number, retry: number) => number;

export interface BackoffRules {
  readonly baseMs: number;
  readonly capMs: number;
  readonly jitter: 'full' | Jitter;
  /** From 0 up to, but not including, 1. */
  readonly random: () => number;
}

/** Beyond this many doublings any base has reached any cap. */
const MOST_DOUBLINGS = 1_100;

/** How long to wait before a retry: a chance time up to a ceiling that doubles with each retry until it meets the cap. */
export class Backoff {
  constructor(private readonly rules: BackoffRules) {}

  ceilingMs(retry: number): number {
    const { baseMs, capMs } = this.rules;
    if (baseMs === 0) return 0;
    return Math.min(capMs, baseMs * 2 ** Math.min(retry - 1, MOST_DOUBLINGS));
  }

  /** Whole milliseconds, at most the cap; NaN or below 0 only if `jitter` or `random` makes it so. */
  delayMs(retry: number): number {
    const { capMs, jitter, random } = this.rules;
    const ceiling = this.ceilingMs(retry);
    return Math.min(capMs, Math.ceil(jitter === 'full' ? random() * ceiling : jitter(ceiling, retry)));
  }
}
