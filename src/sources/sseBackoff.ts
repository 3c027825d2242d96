/** When to connect again, and how often. */
export interface SseReconnectOptions {
  /** How many connections in a row may bring no event before it is given up: an integer of at least 1, or Infinity. */
  readonly maxRetries: number;
  /** The shortest wait, in milliseconds: that before the first of them, unless the server has asked for a longer one with `retry`. Default 1000. */
  readonly minMs?: number | undefined;
  /** The longest wait in milliseconds; the spread comes on top. Default 30,000. */
  readonly maxMs?: number | undefined;
  /** Spreads the waits: a number from 0 up to, but not including, 1. Default Math.random. */
  readonly random?: (() => number) | undefined;
}

const MIN_MS = 1000;
const MAX_MS = 30_000;
/** Enough doublings to reach any longest wait. */
const MOST_DOUBLINGS = 50;

/** How long to wait before each attempt. Knows neither time nor chance. */
export class SseBackoff {
  private failures = 0;
  private readonly maxRetries: number;
  private readonly minMs: number;
  readonly maxMs: number;

  constructor({ maxRetries, minMs = MIN_MS, maxMs = MAX_MS }: SseReconnectOptions) {
    this.maxRetries = maxRetries;
    this.minMs = minMs;
    this.maxMs = maxMs;
  }

  /** A connection was worth its while. */
  succeeded(): void {
    this.failures = 0;
  }

  /**
   * The next wait: ours, or what the server asked for if that is longer, and twice as long after every failure in a row; undefined if there have been
   * too many.
   * `chance` from 0 to 1 makes it up to half as long again, so that not all clients come back at once.
   */
  next(asked: number | undefined, chance: number): number | undefined {
    const { failures, minMs, maxMs } = this;
    if (failures >= this.maxRetries) return undefined;
    this.failures++;
    const wait = Math.max(asked ?? 0, minMs) * 2 ** Math.min(failures, MOST_DOUBLINGS);
    return Math.ceil(Math.min(wait, maxMs) * (1 + chance / 2));
  }
}
