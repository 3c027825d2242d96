const KEPT = 1024;

/** What the last grants cost, so that a server's answer can be told from what was granted after the question. */
export class GrantHistory {
  /** How many grants there were. */
  seq = 0;
  private readonly totals: number[];
  /** For each limit a ring: the total after that grant. */
  private readonly kept: readonly number[][];

  constructor(limits: number) {
    this.totals = Array.from({ length: limits }, () => 0);
    this.kept = this.totals.map(() => [0]);
  }

  add(costs: readonly number[]): void {
    const slot = ++this.seq % KEPT;
    const { totals, kept } = this;
    for (let i = 0; i < totals.length; i++) (kept[i] as number[])[slot] = totals[i] = (totals[i] as number) + (costs[i] as number);
  }

  /** What was granted after grant number `seq`; undefined if that is too long ago to be known. */
  since(seq: number, limit: number): number | undefined {
    if (seq >= this.seq) return 0;
    if (this.seq - seq >= KEPT) return undefined;
    return (this.totals[limit] as number) - ((this.kept[limit] as number[])[seq % KEPT] as number);
  }
}
