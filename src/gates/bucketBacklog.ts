/** What somebody who waits asks for. */
export interface Backlogged {
  readonly costs: readonly number[];
  readonly priority: number;
  readonly key: string | undefined;
}

class Sum {
  count = 0;
  readonly costs: number[];

  constructor(limits: number) {
    this.costs = Array.from({ length: limits }, () => 0);
  }

  add(costs: readonly number[], by: 1 | -1): void {
    this.count += by;
    for (let i = 0; i < this.costs.length; i++) this.costs[i] = (this.costs[i] as number) + by * (costs[i] as number);
  }
}

/** How much waits, by priority and key: what a newcomer would have to wait for. */
export class BucketBacklog {
  readonly total: Sum;
  private readonly lanes: Map<number, Map<string | undefined, Sum>> = new Map();

  constructor(private readonly limits: number) {
    this.total = new Sum(limits);
  }

  add({ costs, priority, key }: Backlogged): void {
    let level = this.lanes.get(priority);
    if (level === undefined) this.lanes.set(priority, (level = new Map<string | undefined, Sum>()));
    let lane = level.get(key);
    if (lane === undefined) level.set(key, (lane = new Sum(this.limits)));
    lane.add(costs, 1);
    this.total.add(costs, 1);
  }

  remove({ costs, priority, key }: Backlogged): void {
    const level = this.lanes.get(priority);
    const lane = level?.get(key);
    lane?.add(costs, -1);
    this.total.add(costs, -1);
    if (lane?.count === 0) level?.delete(key);
    if (level?.size === 0) this.lanes.delete(priority);
  }

  /** The priority of all who wait, if they have the same. */
  get only(): number | undefined {
    const [priority] = this.lanes.keys();
    return this.lanes.size === 1 ? priority : undefined;
  }

  /**
   * What is granted before a newcomer, its own costs included: all of higher priorities, all of its own key, and of each other
   * key of its priority as many as take turns with its own, at their average cost.
   */
  upTo(newcomer: Backlogged): number[] {
    const sum = [...newcomer.costs];
    for (const [priority, level] of this.lanes) {
      if (priority < newcomer.priority) continue;
      const turns = priority > newcomer.priority ? Infinity : (level.get(newcomer.key)?.count ?? 0) + 1;
      for (const [key, { count, costs }] of level) {
        const share = key === newcomer.key ? 1 : Math.min(1, turns / count);
        for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + Math.floor((costs[i] as number) * share);
      }
    }
    return sum;
  }
}
