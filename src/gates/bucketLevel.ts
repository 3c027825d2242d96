/** So many tokens in so many milliseconds, evenly. */
export interface Refill {
  readonly tokens: number;
  readonly everyMs: number;
}

/**
 * How full one limit is: whole tokens, and exactly how much of the next one has been refilled, so that any split of a span
 * of time gives the same level. The time that goes in is in milliseconds and never runs backwards.
 */
export class BucketLevel {
  /** Whole tokens; below 0 is a debt, of at most the capacity. */
  value: number;
  /** What has been refilled of the next token, in `everyMs`-ths of one. */
  private part = 0;
  private readonly tokens: number;
  private readonly everyMs: number;
  /** Up to when it has been refilled; in the future while the refill is held back. */
  private at: number | undefined = undefined;

  constructor(
    readonly capacity: number,
    refill: Refill,
    initial: number,
  ) {
    const common = gcd(refill.tokens, refill.everyMs);
    this.tokens = refill.tokens / common;
    this.everyMs = refill.everyMs / common;
    this.value = initial;
  }

  /** Whether all of its products are exact integers. */
  static fits(capacity: number, { tokens, everyMs }: Refill): boolean {
    return 2 * capacity * (everyMs / gcd(tokens, everyMs)) <= Number.MAX_SAFE_INTEGER;
  }

  refill(now: number): void {
    const at = Math.floor(now);
    const past = at - (this.at ??= at);
    if (past <= 0) return;
    this.at = at;
    // First, so that a long time makes no large product.
    if (past >= this.msTo(this.capacity)) return this.set(this.capacity);
    const parts = past * this.tokens + this.part;
    this.part = parts % this.everyMs;
    this.value += (parts - this.part) / this.everyMs;
  }

  /** When there will be `level` tokens if nobody takes any; beyond the capacity, when so many have come in. */
  dueAt(level: number): number {
    return level <= this.value ? -Infinity : (this.at ?? 0) + this.msTo(level);
  }

  take(cost: number): void {
    this.value -= cost;
  }

  /** Gives tokens back, or takes more than there are. What is beyond the bounds is dropped, and returned. */
  adjust(by: number): number {
    const { capacity, value } = this;
    const wanted = value + by;
    this.value = Math.max(-capacity, Math.min(capacity, wanted));
    if (this.value === capacity) this.part = 0;
    return Math.abs(wanted - this.value);
  }

  /** Sets the level as it is known from elsewhere. */
  set(value: number): void {
    const bounded = Math.max(-this.capacity, Math.min(this.capacity, value));
    if (bounded === this.value && bounded < this.capacity) return;
    this.value = bounded;
    this.part = 0;
  }

  /** Empties it; a debt stays. */
  drain(): void {
    this.value = Math.min(this.value, 0);
    this.part = 0;
  }

  /** Holds the refill back so that it is not full before `ms` have passed; for as long at most as it takes to fill. */
  notFullBefore(ms: number, now: number): void {
    const full = this.msTo(this.capacity);
    const longest = Math.ceil((this.capacity * this.everyMs) / this.tokens);
    this.at = Math.floor(now) + (full === 0 ? 0 : Math.min(Math.max(0, Math.ceil(ms) - full), longest));
  }

  /** From the moment up to which it has been refilled. */
  private msTo(level: number): number {
    const need = level - this.value;
    if (need <= 0) return 0;
    const parts = need * this.everyMs - this.part;
    const rest = parts % this.tokens;
    return (parts - rest) / this.tokens + (rest > 0 ? 1 : 0);
  }
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
