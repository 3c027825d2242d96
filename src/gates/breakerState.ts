import { count, noCounts, type BreakerWindow, type Counts } from './breakerWindow.js';

export type BreakerPhase = 'closed' | 'open' | 'halfOpen' | 'isolated';

/** How long a breaker stays open if nothing else is said, in milliseconds. */
export const DEFAULT_OPEN_MS = 30_000;

/** What the machine writes on a call that it let in. */
export interface Ticket {
  generation: number;
  grantedAt: number;
  /** When the work began; undefined while it waits further in. */
  begunAt: number | undefined;
}

/** A ticket that is no longer waited for: what becomes of its call is a late result. */
const RECLAIMED = -1;
/** A ticket of a call that the breaker stopped itself: what becomes of it says nothing. */
const DISMISSED = -2;

export interface BreakerRules {
  readonly window: BreakerWindow;
  /** How many calls a half-open breaker lets in, and how many of them decide. */
  readonly probes: number;
  /** When a probe that has not ended counts as failed. Default: as long as the breaker was open. */
  readonly probeMaxMs: number | undefined;
}

/** How a call ended, in the eyes of a breaker. */
export interface Verdict {
  readonly outcome: 'success' | 'failure' | 'neutral';
  /** Its subscriber left: if that took long, the call was slow, whatever it had to say. */
  readonly cancelled: boolean;
  readonly cause: unknown;
}

/**
 * A circuit breaker without its surroundings: which calls it lets in and what their outcomes do to it. Every change of the
 * state begins a generation, and an outcome counts only in the generation of its call. Whatever changes the state returns
 * the new phase; `open` means that it has tripped.
 */
export class BreakerState {
  phase: BreakerPhase = 'closed';
  generation = 0;
  /** How often it has tripped since it was closed. */
  attempt = 0;
  /** Outcomes of earlier generations. */
  lateResults = 0;
  /** Why it tripped. */
  cause: unknown = undefined;
  private openedAt = 0;
  private openMs = 0;
  private handles = 0;
  private readonly probing: Set<Ticket> = new Set();
  private sample: Counts = noCounts();
  private lastFailure: unknown = undefined;

  constructor(private readonly rules: BreakerRules) {}

  /** What time alone has changed: call it before anybody is let in. */
  advance(now: number): BreakerPhase | undefined {
    if (this.phase === 'open' && now - this.openedAt >= this.openMs) return this.move('halfOpen');
    return this.phase === 'halfOpen' ? this.reclaim(now) : undefined;
  }

  /** Whether a call may go in. */
  get room(): boolean {
    return this.phase === 'closed' || (this.phase === 'halfOpen' && this.probing.size + this.sample.total < this.rules.probes);
  }

  /** Whether it matters when a call is let in, begins and ends well: it may not while it is closed. */
  get timed(): boolean {
    return this.phase !== 'closed' || this.rules.window.timed;
  }

  get probesOut(): number {
    return this.probing.size;
  }

  take(ticket: Ticket, now: number): void {
    ticket.generation = this.generation;
    ticket.grantedAt = now;
    if (this.phase === 'halfOpen') this.probing.add(ticket);
  }

  end(ticket: Ticket, { outcome, cancelled, cause }: Verdict, now: number): BreakerPhase | undefined {
    if (ticket.generation !== this.generation) {
      if (ticket.generation !== DISMISSED) this.lateResults++;
      return undefined;
    }
    this.probing.delete(ticket);
    const slow = ticket.begunAt !== undefined && now - ticket.begunAt >= this.rules.window.slowMs;
    if (outcome === 'neutral' && !(cancelled && slow)) return undefined;
    const failed = outcome === 'failure';
    if (failed) this.lastFailure = cause;
    if (this.phase === 'halfOpen') return this.judge(failed, slow, now);
    return this.rules.window.record(failed, slow, now) ? this.trip(this.blame(failed, slow, now), now) : undefined;
  }

  /** The breaker stops this call: it says nothing any more. */
  dismiss(ticket: Ticket): void {
    this.probing.delete(ticket);
    ticket.generation = DISMISSED;
  }

  /** Opens it, for the default time until `openFor` says how long. */
  trip(cause: unknown, now: number): BreakerPhase | undefined {
    if (this.phase === 'isolated') return undefined;
    this.attempt++;
    this.cause = cause;
    this.openedAt = now;
    this.openMs = DEFAULT_OPEN_MS;
    return this.move('open');
  }

  openFor(ms: number): void {
    this.openMs = ms;
  }

  reset(): BreakerPhase | undefined {
    return this.phase === 'isolated' ? undefined : this.move('closed');
  }

  isolate(): BreakerPhase | undefined {
    return this.handles++ === 0 ? this.move('isolated') : undefined;
  }

  /** Gives back one isolation; the last one closes it. */
  restore(): BreakerPhase | undefined {
    return --this.handles === 0 ? this.move('closed') : undefined;
  }

  /** Milliseconds until it would let a call in. */
  retryAfterMs(now: number): number {
    if (this.phase === 'open') return Math.max(0, this.openMs - (now - this.openedAt));
    return this.phase === 'halfOpen' && !this.room ? Math.max(0, this.reclaimAt - now) : 0;
  }

  /** When the next probe that is out is given up; Infinity if none is. */
  get reclaimAt(): number {
    let at = Infinity;
    for (const ticket of this.probing) at = Math.min(at, since(ticket) + this.patience);
    return at;
  }

  /** What counts now: the window, or what the probes found. */
  counts(now: number): Readonly<Counts> {
    return this.phase === 'halfOpen' ? { ...this.sample } : this.rules.window.counts(now);
  }

  private get patience(): number {
    return this.rules.probeMaxMs ?? (this.openMs || DEFAULT_OPEN_MS);
  }

  /** Gives up probes that take too long: those that run count as failed, those that still wait further in do not. */
  private reclaim(now: number): BreakerPhase | undefined {
    for (const ticket of this.probing) {
      if (now - since(ticket) < this.patience) continue;
      this.probing.delete(ticket);
      ticket.generation = RECLAIMED;
      if (ticket.begunAt === undefined) continue;
      this.lastFailure = `a probe ran for ${now - ticket.begunAt} ms without an end`;
      const phase = this.judge(true, false, now);
      if (phase !== undefined) return phase;
    }
    return undefined;
  }

  private judge(failed: boolean, slow: boolean, now: number): BreakerPhase | undefined {
    const { sample, rules } = this;
    count(sample, failed, slow);
    if (rules.window.condemns({ ...sample, total: rules.probes })) return this.trip(this.blame(failed, slow, now), now);
    return sample.total >= rules.probes ? this.move('closed') : undefined;
  }

  private blame(failed: boolean, slow: boolean, now: number): unknown {
    if (failed || !slow) return this.lastFailure;
    const { slow: late, total } = this.counts(now);
    return `${late} of ${total} calls took ${this.rules.window.slowMs} ms or more`;
  }

  private move(phase: BreakerPhase): BreakerPhase {
    this.phase = phase;
    this.generation++;
    this.probing.clear();
    this.sample = noCounts();
    if (phase !== 'halfOpen') this.rules.window.clear();
    if (phase === 'closed') {
      this.attempt = 0;
      this.cause = this.lastFailure = undefined;
    }
    return phase;
  }
}

function since(ticket: Ticket): number {
  return ticket.begunAt ?? ticket.grantedAt;
}
