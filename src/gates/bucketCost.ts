import { askCount } from './checks.js';
import { BadAskError } from './errors.js';

/** What a call costs, or has used: a whole number of tokens, or one for each limit by its name. */
export type BucketCost = number | Readonly<Record<string, number | undefined>>;

/** Reads costs by the names of the limits: one integer for each limit, where `base` has what is not named. */
export class CostReader {
  constructor(
    private readonly gate: string,
    private readonly names: readonly string[],
  ) {}

  read<N extends number | undefined>(what: string, cost: unknown, base: readonly N[]): (number | N)[] {
    const { gate, names } = this;
    if (typeof cost === 'number' && names.length === 1) return [askCount(gate, what, cost, 0)];
    if (typeof cost !== 'object' || cost === null) throw new BadAskError(gate, what, this.range, cost);
    const costs: (number | N)[] = [...base];
    for (const [name, each] of Object.entries(cost)) {
      const limit = names.indexOf(name);
      if (limit < 0) throw new BadAskError(gate, `a name in the ${what}`, `one of ${names.join(', ')}`, name);
      if (each !== undefined) costs[limit] = askCount(gate, `the ${what} in ${name}`, each, 0);
    }
    return costs;
  }

  private get range(): string {
    return this.names.length === 1 ? 'an integer of at least 0' : `an object with integers for ${this.names.join(', ')}`;
  }
}
