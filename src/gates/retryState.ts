export type RetryPhase = 'open' | 'closed' | 'reopening';

/** What the machine writes on a call that it let in. */
export interface RetryTicket {
  epoch: number;
  grantedAt: number;
}

export interface RetryRules {
  /** How many calls may be in flight when the gate opens again. */
  readonly initial: number;
  /** How many more after each success. */
  readonly step: number;
  /** After how many milliseconds a call no longer counts as in flight. */
  readonly probeMaxMs: number;
}

/** What chance adds to a pause. */
export interface PauseDraw {
  readonly backoffMs: number;
  readonly jitterMs: number;
}

/**
 * The shared pause of a retry gate without its surroundings. The first throttle of an epoch closes the gate and begins the
 * next epoch, so calls that were in flight by then can no longer raise the level; their Retry-After still holds. When the
 * pause is over, a few calls may be in flight, and each success of this epoch allows more, until there is more room than
 * anybody asks for.
 */
export class RetryState {
  phase: RetryPhase = 'open';
  epoch = 0;
  /** Pauses since the last success. */
  level = 0;
  /** Until when it is closed. */
  until: number = -Infinity;
  /** How many calls of the slow start may be in flight at once. */
  allowance: number = Infinity;
  private jitterMs = 0;
  private proven = false;
  /** Calls of the slow start that are in flight, the oldest first. */
  private readonly probes: Set<RetryTicket> = new Set();

  constructor(private readonly rules: RetryRules) {}

  get probing(): number {
    return this.probes.size;
  }

  /** Whether a call may go in. */
  get room(): boolean {
    return this.phase === 'open' || (this.phase === 'reopening' && this.probes.size < this.allowance);
  }

  /** When time alone makes room; Infinity if it does not. */
  get nextAt(): number {
    if (this.phase === 'closed') return this.until;
    for (const oldest of this.probes) return this.room ? Infinity : oldest.grantedAt + this.rules.probeMaxMs;
    return Infinity;
  }

  /** What time alone has changed: call it before anything else. True if the pause is over. */
  advance(now: number): boolean {
    for (const oldest of this.probes) {
      if (now - oldest.grantedAt < this.rules.probeMaxMs) break;
      this.probes.delete(oldest);
    }
    if (this.phase !== 'closed' || now < this.until) return false;
    this.phase = 'reopening';
    this.allowance = this.rules.initial;
    this.proven = false;
    return true;
  }

  take(ticket: RetryTicket, now: number): void {
    ticket.epoch = this.epoch;
    ticket.grantedAt = now;
    if (this.phase === 'reopening') this.probes.add(ticket);
  }

  /** Nobody waits: the slow start is over if there is room to spare. */
  relax(): void {
    if (this.phase !== 'reopening' || !this.proven || this.probes.size >= this.allowance) return;
    this.phase = 'open';
    this.allowance = Infinity;
    this.probes.clear();
  }

  succeeded(ticket: RetryTicket): void {
    this.probes.delete(ticket);
    if (ticket.epoch !== this.epoch) return;
    this.level = 0;
    if (this.phase !== 'reopening') return;
    this.allowance += this.rules.step;
    this.proven = true;
  }

  /** The call says nothing about the pace: whoever waits gets its place. */
  left(ticket: RetryTicket): void {
    this.probes.delete(ticket);
  }

  /** Whether a throttle of this call would begin an epoch, and so needs a draw. */
  isNews(ticket: RetryTicket): boolean {
    return ticket.epoch === this.epoch;
  }

  /** Whether everybody has to wait longer than before. */
  throttled(ticket: RetryTicket, now: number, retryAfterMs: number | undefined, draw: PauseDraw | undefined): boolean {
    this.probes.delete(ticket);
    if (draw !== undefined && this.isNews(ticket)) {
      this.epoch++;
      this.level++;
      this.jitterMs = draw.jitterMs;
      this.probes.clear();
      return this.pause(now + Math.max(retryAfterMs ?? 1, draw.backoffMs) + this.jitterMs);
    }
    return retryAfterMs !== undefined && this.pause(now + retryAfterMs + this.jitterMs);
  }

  private pause(until: number): boolean {
    if (until <= this.until) return false;
    this.phase = 'closed';
    this.until = until;
    return true;
  }
}
