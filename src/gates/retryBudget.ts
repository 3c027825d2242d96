export interface RetryBudgetRules {
  /** Retries that each first attempt pays for. */
  readonly ratio: number;
  /** Retries a second that are allowed whatever was paid in. */
  readonly minPerSec: number;
  /** How long a deposit or a withdrawal counts, in milliseconds. */
  readonly ttlMs: number;
}

const SLICES = 10;
/** One retry in the units of the books, so that shares of it are integers. */
const RETRY = 1_000_000;

/**
 * Keeps retries in proportion to first attempts: each of those pays for a share of a retry, and a small reserve allows a few
 * when there is little traffic. What was paid in and what was taken out count for `ttlMs`, to a tenth of it.
 */
export class RetryBudget {
  private readonly deposited: number;
  private readonly reserve: number;
  private readonly sliceMs: number;
  private readonly slices: number[] = new Array<number>(SLICES).fill(0);
  private slice = 0;
  private balance = 0;
  private origin: number | undefined = undefined;

  constructor({ ratio, minPerSec, ttlMs }: RetryBudgetRules) {
    this.deposited = Math.round(ratio * RETRY);
    this.reserve = Math.round((minPerSec * ttlMs * RETRY) / 1_000);
    this.sliceMs = ttlMs / SLICES;
  }

  /** A first attempt is made. */
  deposit(now: number): void {
    this.expire(now);
    this.book(this.deposited);
  }

  /** Takes a retry out; false if there is none. */
  withdraw(now: number): boolean {
    this.expire(now);
    if (this.reserve + this.balance < RETRY) return false;
    this.book(-RETRY);
    return true;
  }

  /** How many retries could be taken out now. */
  available(now: number): number {
    this.expire(now);
    return Math.max(0, Math.floor((this.reserve + this.balance) / RETRY));
  }

  private book(amount: number): void {
    const at = this.slice % SLICES;
    this.slices[at] = (this.slices[at] as number) + amount;
    this.balance += amount;
  }

  private expire(now: number): void {
    this.origin ??= now;
    const slice = Math.floor((now - this.origin) / this.sliceMs);
    for (let next = Math.max(this.slice, slice - SLICES) + 1; next <= slice; next++) {
      this.balance -= this.slices[next % SLICES] as number;
      this.slices[next % SLICES] = 0;
    }
    this.slice = Math.max(this.slice, slice);
  }
}
