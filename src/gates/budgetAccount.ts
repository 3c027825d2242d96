/** What a budget counts, integers all: micro-dollars, tokens, calls. */
export type Unit = 'microUsd' | 'tokens' | 'calls';

/** An amount of each unit. */
export type Amounts = Readonly<Record<Unit, number>>;

/** The limit of one unit: an amount, a share of the parent's limit in millionths, or none. */
export type Limit = number | { readonly share: number } | 'unbounded';

export const UNITS: readonly Unit[] = ['microUsd', 'tokens', 'calls'];
export const NOTHING: Amounts = { microUsd: 0, tokens: 0, calls: 0 };

/** Sums stay exact, so even an account without a limit ends here. */
const MOST = Number.MAX_SAFE_INTEGER;
const MILLION = 1_000_000n;
const NONE: readonly number[] = [];

function part(whole: number, millionths: number, up: bigint): number {
  return Number((BigInt(whole) * BigInt(millionths) + up) / MILLION);
}

/** A share or fraction as millionths. */
export function inMillionths(fraction: number): number {
  return Math.round(fraction * 1e6);
}

/** One unit at one node of the ledger. */
export class Account {
  spent = 0;
  reserved = 0;
  /** The part of `spent` that nobody saw being used: a cancelled call may have cost it. */
  uncertain = 0;
  /** What calls took beyond their reservation when the limit did not allow it. */
  overrun = 0;
  limit: number = Infinity;
  private cap: number = MOST;
  private raised = 0;
  /** Amounts at which a fraction of the limit is reached; the first `told` of them were told. */
  private marks: readonly number[] = NONE;
  private told = 0;
  private nextMark = Infinity;

  constructor(
    private readonly given: Limit,
    private readonly parent: Account | undefined,
    private readonly fractions: readonly number[],
  ) {
    this.update();
  }

  get free(): number {
    return this.cap - this.spent - this.reserved;
  }

  raise(by: number): void {
    this.raised += by;
    this.update();
  }

  /** A share follows the parent's limit. Marks below what is spent already are not crossed again. */
  update(): void {
    const { given, parent } = this;
    if (given === 'unbounded') return;
    const base = typeof given === 'number' ? given : part(parent?.limit ?? 0, given.share, 0n);
    this.limit = this.cap = Math.min(base + this.raised, MOST);
    this.marks = this.fractions.map((fraction) => part(this.limit, inMillionths(fraction), MILLION - 1n));
    this.rearm();
  }

  reset(): void {
    this.spent = this.uncertain = this.overrun = 0;
    this.rearm();
  }

  /** Moves what was held to what was spent. Returns how much it ran over, if the limit did not allow that. */
  settle(held: number, spent: number, uncertain: number): number {
    this.reserved -= held;
    const over = spent > held && spent > this.free ? spent - held : 0;
    this.overrun = Math.min(this.overrun + over, MOST);
    this.spent = Math.min(this.spent + spent, MOST);
    this.uncertain = Math.min(this.uncertain + uncertain, MOST);
    return over;
  }

  /** Whether a fraction was reached that was not told. */
  get due(): boolean {
    return this.spent >= this.nextMark;
  }

  /** The fractions that were reached since the last look, lowest first. */
  crossed(): readonly number[] {
    const { told } = this;
    this.rearm();
    return this.fractions.slice(told, this.told);
  }

  private rearm(): void {
    const next = this.marks.findIndex((mark) => mark > this.spent);
    this.told = next === -1 ? this.marks.length : next;
    this.nextMark = this.marks[this.told] ?? Infinity;
  }
}
