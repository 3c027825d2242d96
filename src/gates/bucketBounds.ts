import type { Backlogged, BucketBacklog } from './bucketBacklog.js';
import type { BucketPlan } from './bucketOptions.js';

/** Which bound of a queue a newcomer would pass. */
export interface Excess {
  readonly what: 'calls' | 'cost';
  readonly limit: number;
  readonly waiting: number;
}

/** Those who wait. */
interface Line<W> {
  readonly oldest: W | undefined;
  /** In order of arrival. */
  all(): W[];
}

/** What becomes of a newcomer: it waits, after some have given way; or there is no room for it. */
export interface Room<W> {
  readonly excess: Excess | undefined;
  readonly victims: readonly W[] | undefined;
}

/** Keeps what waits within its bounds. */
export class BucketBounds {
  constructor(
    private readonly plan: Pick<BucketPlan, 'maxQueue' | 'maxQueueCosts' | 'dropOldest'>,
    private readonly backlog: BucketBacklog,
  ) {}

  /** Nobody gives way in vain. */
  room<W extends Backlogged>(newcomer: W, line: Line<W>): Room<W> {
    const victims: W[] = [];
    const freed = newcomer.costs.map(() => 0);
    const excess = this.excess(newcomer, 0, freed);
    if (excess === undefined) return { excess, victims };
    if (!this.plan.dropOldest) return { excess, victims: undefined };
    for (const waiter of this.droppable(newcomer, line)) {
      victims.push(waiter);
      for (let i = 0; i < freed.length; i++) freed[i] = (freed[i] as number) + (waiter.costs[i] as number);
      if (this.excess(newcomer, victims.length, freed) === undefined) return { excess, victims };
    }
    return { excess, victims: undefined };
  }

  private excess({ costs }: Backlogged, without: number, freed: readonly number[]): Excess | undefined {
    const { maxQueue, maxQueueCosts } = this.plan;
    const { count, costs: sums } = this.backlog.total;
    if (count - without >= maxQueue) return { what: 'calls', limit: maxQueue, waiting: count };
    const i = costs.findIndex((cost, j) => cost > 0 && (sums[j] as number) - (freed[j] as number) + cost > (maxQueueCosts[j] as number));
    return i < 0 ? undefined : { what: 'cost', limit: maxQueueCosts[i] as number, waiting: sums[i] as number };
  }

  /** Of priorities that are not above the newcomer's, the lowest first, and of one priority the oldest. */
  private *droppable<W extends Backlogged>({ priority }: W, line: Line<W>): Iterable<W> {
    const { only } = this.backlog;
    if (only === undefined) {
      const lower = line.all().filter((waiter) => waiter.priority <= priority);
      return yield* lower.sort((a, b) => a.priority - b.priority);
    }
    const { oldest } = line;
    if (only > priority || oldest === undefined) return;
    yield oldest;
    yield* line.all().slice(1);
  }
}
