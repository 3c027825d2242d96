/** How a model's breaker is set up; all counts and times are small. */
export interface ModelRules {
  readonly kind: 'consecutive' | 'count' | 'time';
  /** Failures in a row, or the size of the window. */
  readonly size: number;
  readonly min: number;
  readonly rate: number;
  readonly slowMs: number;
  readonly slowRate: number;
  readonly probes: number;
  readonly probeMaxMs: number;
  readonly openMs: number;
}

interface Entry {
  readonly id: number;
  readonly generation: number;
  readonly grantedAt: number;
  begunAt: number | undefined;
  state: 'out' | 'reclaimed' | 'dismissed' | 'ended';
}

interface Outcome {
  readonly at: number;
  readonly failed: boolean;
  readonly slow: boolean;
  readonly generation: number;
}

/** A breaker that remembers everything, and works out what it needs from that each time it is asked. */
export class BreakerModel {
  phase: 'closed' | 'open' | 'halfOpen' | 'isolated' = 'closed';
  generation = 0;
  attempt = 0;
  late = 0;
  trips = 0;
  private openedAt = 0;
  private handles = 0;
  private readonly entries: Entry[] = [];
  private readonly outcomes: Outcome[] = [];

  constructor(private readonly rules: ModelRules) {}

  private go(phase: BreakerModel['phase']): void {
    this.phase = phase;
    this.generation++;
    if (phase === 'closed') this.attempt = 0;
  }

  trip(now: number): void {
    if (this.phase === 'isolated') return;
    this.trips++;
    this.attempt++;
    this.openedAt = now;
    this.go('open');
  }

  reset(): void {
    if (this.phase !== 'isolated') this.go('closed');
  }

  isolate(): void {
    if (++this.handles === 1) this.go('isolated');
  }

  restore(): void {
    if (--this.handles === 0) this.go('closed');
  }

  private current(): Outcome[] {
    return this.outcomes.filter(({ generation }) => generation === this.generation);
  }

  private out(): Entry[] {
    return this.entries.filter(({ state, generation }) => state === 'out' && generation === this.generation);
  }

  /** What counts now. */
  counts(now: number): { total: number; failed: number; slow: number } {
    const { kind, size } = this.rules;
    let kept = this.current();
    if (this.phase !== 'halfOpen') {
      if (kind === 'consecutive') {
        const success = kept.map(({ failed }) => failed).lastIndexOf(false);
        const inARow = kept.length - 1 - success;
        return { total: inARow, failed: inARow, slow: 0 };
      }
      const part = (at: number): number => Number((BigInt(at) * 10n) / BigInt(size));
      kept = kind === 'count' ? kept.slice(-size) : kept.filter(({ at }) => part(now) - part(at) < 10);
    }
    return { total: kept.length, failed: kept.filter(({ failed }) => failed).length, slow: kept.filter(({ slow }) => slow).length };
  }

  private tooBad(failed: number, slow: number, of: number): boolean {
    const { kind, rate, slowRate } = this.rules;
    return kind === 'consecutive' ? failed >= 1 : failed >= rate * of - 1e-9 || slow >= slowRate * of - 1e-9;
  }

  private weigh(now: number): void {
    const { total, failed, slow } = this.counts(now);
    const { kind, size, min, probes } = this.rules;
    if (this.phase === 'closed') {
      if (kind === 'consecutive' ? total >= size : total >= min && this.tooBad(failed, slow, total)) this.trip(now);
    } else if (this.tooBad(failed, slow, probes)) this.trip(now);
    else if (total >= probes) this.go('closed');
  }

  /** Whether a newcomer is let in. */
  enter(id: number, now: number): boolean {
    const { openMs, probeMaxMs, probes } = this.rules;
    if (this.phase === 'open' && now >= this.openedAt + openMs) this.go('halfOpen');
    else if (this.phase === 'halfOpen') {
      for (const entry of this.out()) {
        if (this.phase !== 'halfOpen' || now < (entry.begunAt ?? entry.grantedAt) + probeMaxMs) continue;
        entry.state = 'reclaimed';
        if (entry.begunAt === undefined) continue;
        this.outcomes.push({ at: now, failed: true, slow: false, generation: this.generation });
        this.weigh(now);
      }
    }
    const room = this.phase === 'closed' || (this.phase === 'halfOpen' && this.out().length + this.current().length < probes);
    if (room) this.entries.push({ id, generation: this.generation, grantedAt: now, begunAt: undefined, state: 'out' });
    return room;
  }

  begin(id: number, now: number): void {
    const entry = this.entries.find((each) => each.id === id);
    if (entry !== undefined) entry.begunAt = now;
  }

  /** The breaker stops this call. */
  dismiss(id: number): void {
    const entry = this.entries.find((each) => each.id === id);
    if (entry?.state === 'out' || entry?.state === 'reclaimed') entry.state = 'dismissed';
  }

  end(id: number, outcome: 'success' | 'failure' | 'neutral', cancelled: boolean, now: number): void {
    const entry = this.entries.find((each) => each.id === id);
    if (entry === undefined || entry.state === 'ended') return;
    const { state } = entry;
    entry.state = 'ended';
    if (state === 'dismissed') return;
    if (state === 'reclaimed' || entry.generation !== this.generation) {
      this.late++;
      return;
    }
    const slow = this.rules.kind !== 'consecutive' && entry.begunAt !== undefined && now - entry.begunAt >= this.rules.slowMs;
    if (outcome === 'neutral' && !(cancelled && slow)) return;
    this.outcomes.push({ at: now, failed: outcome === 'failure', slow, generation: this.generation });
    this.weigh(now);
  }

  get probesOut(): number {
    return this.phase === 'halfOpen' ? this.out().length : 0;
  }
}
