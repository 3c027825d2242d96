/** What a breaker counts: finished calls that said something about the other side. */
export interface Counts {
  total: number;
  failed: number;
  slow: number;
}

/** Which outcomes a breaker remembers while it is closed, and when they are too many. */
export interface BreakerWindow {
  /** Calls from this many milliseconds on are slow. */
  readonly slowMs: number;
  /** Whether it matters when something happens; if not, `now` may be anything. */
  readonly timed: boolean;
  /** Adds an outcome; whether the breaker trips. */
  record(failed: boolean, slow: boolean, now: number): boolean;
  /** Whether a sample, however small, is too bad: what the probes of a half-open breaker found. */
  condemns(sample: Readonly<Counts>): boolean;
  counts(now: number): Readonly<Counts>;
  clear(): void;
}

export function noCounts(): Counts {
  return { total: 0, failed: 0, slow: 0 };
}

/** Adds `by` outcomes of one sort, or takes them away. */
export function count(counts: Counts, failed: boolean, slow: boolean, by: 1 | -1 = 1): void {
  counts.total += by;
  if (failed) counts.failed += by;
  if (slow) counts.slow += by;
}

/** Trips on failures in a row. */
export class ConsecutiveWindow implements BreakerWindow {
  readonly slowMs: number = Infinity;
  readonly timed: boolean = false;
  private inARow = 0;

  constructor(private readonly failures: number) {}

  record(failed: boolean): boolean {
    this.inARow = failed ? this.inARow + 1 : 0;
    return this.inARow >= this.failures;
  }

  condemns({ failed }: Readonly<Counts>): boolean {
    return failed > 0;
  }

  counts(): Readonly<Counts> {
    return { total: this.inARow, failed: this.inARow, slow: 0 };
  }

  clear(): void {
    this.inARow = 0;
  }
}

/** When a share of outcomes is too large. */
export interface Thresholds {
  /** How many outcomes there must be. */
  readonly min: number;
  /** The share of failures that trips. */
  readonly rate: number;
  readonly slowMs: number;
  /** The share of slow calls that trips. */
  readonly slowRate: number;
}

abstract class RateWindow implements BreakerWindow {
  protected sum: Counts = noCounts();

  constructor(protected readonly thresholds: Thresholds) {}

  get slowMs(): number {
    return this.thresholds.slowMs;
  }

  get timed(): boolean {
    return this.slowMs < Infinity;
  }

  record(failed: boolean, slow: boolean, now: number): boolean {
    this.add(failed, slow, now);
    return this.sum.total >= this.thresholds.min && this.condemns(this.sum);
  }

  /** A quotient, for it is exact where a product is not: 3 of 30 are 0.1, but 0.1 × 30 is more than 3. */
  condemns({ total, failed, slow }: Readonly<Counts>): boolean {
    return failed / total >= this.thresholds.rate || slow / total >= this.thresholds.slowRate;
  }

  counts(_now: number): Readonly<Counts> {
    return { ...this.sum };
  }

  clear(): void {
    this.sum = noCounts();
  }

  protected abstract add(failed: boolean, slow: boolean, now: number): void;
}

const FAILED = 1;
const SLOW = 2;

/** The last `size` outcomes. */
export class CountWindow extends RateWindow {
  /** The flags of each, in a ring. */
  private outcomes: number[] = [];
  private next = 0;

  constructor(
    private readonly size: number,
    thresholds: Thresholds,
  ) {
    super(thresholds);
  }

  protected add(failed: boolean, slow: boolean): void {
    const dropped = this.outcomes[this.next];
    if (dropped !== undefined) count(this.sum, (dropped & FAILED) !== 0, (dropped & SLOW) !== 0, -1);
    this.outcomes[this.next] = (failed ? FAILED : 0) | (slow ? SLOW : 0);
    this.next = (this.next + 1) % this.size;
    count(this.sum, failed, slow);
  }

  override clear(): void {
    super.clear();
    this.outcomes = [];
    this.next = 0;
  }
}

/** Into how many parts a time window is cut; what has left it goes a part at a time. */
const BUCKETS = 10;

/** The outcomes of the last `size` milliseconds. */
export class TimeWindow extends RateWindow {
  private buckets: Counts[] = [];
  /** The number of the bucket that is filled now, counted from the beginning of time. */
  private at = -Infinity;
  override get timed(): boolean {
    return true;
  }

  constructor(
    private readonly size: number,
    thresholds: Thresholds,
  ) {
    super(thresholds);
  }

  override counts(now: number): Readonly<Counts> {
    this.rotate(now);
    return super.counts(now);
  }

  protected add(failed: boolean, slow: boolean, now: number): void {
    this.rotate(now);
    const at = this.at % BUCKETS;
    count((this.buckets[at] ??= noCounts()), failed, slow);
    count(this.sum, failed, slow);
  }

  override clear(): void {
    super.clear();
    this.buckets = [];
  }

  /** Drops every bucket whose time is over, however many there are. */
  private rotate(now: number): void {
    const at = Math.floor((now * BUCKETS) / this.size);
    if (at - this.at >= BUCKETS) this.clear();
    else for (let old = this.at + 1; old <= at; old++) this.drop(old % BUCKETS);
    this.at = Math.max(at, this.at);
  }

  private drop(index: number): void {
    const bucket = this.buckets[index];
    if (bucket === undefined) return;
    this.sum.total -= bucket.total;
    this.sum.failed -= bucket.failed;
    this.sum.slow -= bucket.slow;
    this.buckets[index] = noCounts();
  }
}
