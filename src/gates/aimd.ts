/** Bounds of an adaptive limit. */
export interface AimdOptions {
  /** It never falls below this. Default 1. */
  readonly min?: number | undefined;
  /** It never grows above this. Default 1000. */
  readonly max?: number | undefined;
  /** What the limit is multiplied with when a call was dropped. Default 0.9. */
  readonly backoff?: number | undefined;
}

/**
 * Additive increase, multiplicative decrease: one more after a success while the limit is really used, a tenth less when
 * the other side drops a call. The limit is an integer at any time. After Netflix' concurrency-limits.
 */
export class Aimd {
  readonly min: number;
  readonly max: number;
  private readonly backoff: number;

  constructor({ min = 1, max = 1000, backoff = 0.9 }: AimdOptions) {
    this.min = min;
    this.max = max;
    this.backoff = backoff;
  }

  /** The limit after one sample; `inFlight` counts the call itself. */
  next(limit: number, inFlight: number, dropped: boolean): number {
    if (dropped) return Math.max(this.min, Math.min(limit - 1, Math.floor(limit * this.backoff)));
    return inFlight * 2 >= limit ? Math.min(this.max, limit + 1) : limit;
  }
}
