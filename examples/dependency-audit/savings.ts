import { classifyError, type GateEvent } from 'rxfleet';
import type { Guards } from './guards.js';

/** What became of the calls at one gate: once nothing is in flight, `admitted` is the sum of how they ended. */
export class Passage {
  admitted = 0;
  readonly ended = { completed: 0, failed: 0, cancelled: 0 };
  refused = 0;
  /** How often one stood in the line, and how long they did in all. */
  queued = 0;
  waitedMs = 0;

  hear(event: GateEvent): void {
    if (event.type === 'settled') this.ended[event.end]++;
    else if (event.type === 'refused') this.refused++;
    else if (event.type === 'queued') this.queued++;
    else if (event.type === 'admitted') {
      this.admitted++;
      this.waitedMs += event.waitedMs;
    }
  }
}

/** What the guards did, counted from their events and from nothing else. */
export class Savings {
  readonly bucket = new Passage();
  readonly retry = new Passage();
  readonly budget = new Passage();
  readonly breakers = new Passage();
  /** Attempts that the API turned away because it had too much to do, and requests that waited meanwhile instead of being sent. */
  throttled = 0;
  heldBack = 0;
  /** How often, and for how long, nobody was let through because of that. */
  pauses = 0;
  pausedMs = 0;
  /** How often each tool's breaker tripped, and how many calls that stopped. */
  readonly trips = new Map<string, number>();
  stopped = 0;
  readonly alerts: Extract<GateEvent, { type: 'alert' }>[] = [];
  /** Micro-dollars that were set aside for requests, and what of it they did not need. */
  setAside = 0;
  givenBack = 0;
  private taken = 0;
  private closedAt: number | undefined = undefined;
  private readonly again = new Set<string>();

  constructor({ bucket, retry, budget, breakers }: Guards) {
    bucket.events$.subscribe((event) => this.bucket.hear(event));
    retry.events$.subscribe((event) => this.hearRetry(event));
    for (const breaker of breakers.values()) breaker.events$.subscribe((event) => this.hearBreaker(event));
    budget.events$.subscribe((event) => {
      const { spent, reserved } = budget.snapshot().microUsd;
      this.hearBudget(event, spent + reserved);
    });
  }

  private hearRetry(event: GateEvent): void {
    this.retry.hear(event);
    if (event.type === 'retry' && classifyError(event.error) === 'throttle') {
      this.throttled++;
      if (event.refused === undefined) this.again.add(event.path.join());
    } else if (event.type === 'queued' && !this.again.delete(event.path.join())) this.heldBack++;
    this.keepTime(event);
  }

  private keepTime({ type, at }: GateEvent): void {
    if (this.closedAt !== undefined) {
      this.pausedMs += at - this.closedAt;
      this.closedAt = type === 'resumed' ? undefined : at;
    } else if (type === 'paused') {
      this.pauses++;
      this.closedAt = at;
    }
  }

  private hearBreaker(event: GateEvent): void {
    this.breakers.hear(event);
    if (event.type !== 'tripped') return;
    this.trips.set(event.gate, (this.trips.get(event.gate) ?? 0) + 1);
    this.stopped += event.cancelled;
  }

  /** Money is set aside when a request is admitted, and given back when it is settled. */
  private hearBudget(event: GateEvent, taken: number): void {
    this.budget.hear(event);
    if (event.type === 'alert') this.alerts.push(event);
    if (taken > this.taken) this.setAside += taken - this.taken;
    else this.givenBack += this.taken - taken;
    this.taken = taken;
  }
}
