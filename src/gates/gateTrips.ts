import type { GateEvent } from './events.js';
import type { QuietTripKind, TripKind, TripRecord } from './tripRecord.js';
import { gateTrip, unreadableTrip } from './tripWords.js';

/** Notes that are counted apart from each other; what comes on top is counted as one. */
const MOST_TALLIES = 50;

/** Notes of every day. */
const ROUTINE: ReadonlySet<string> = new Set(['drained', 'synced']);

/** Events of one sort since the last record of it. */
interface Tally {
  readonly kind: TripKind;
  last: GateEvent;
  count: number;
  amount: number;
}

/**
 * What is worth a record among the events of one gate. What may come in floods is told at once the first time and counted
 * from then on, until `tick` a second later.
 */
export class GateTrips {
  private tallies: Map<string, Tally> | undefined = undefined;
  /** As what its end will be taken, while calls are held back. */
  private held: TripKind | undefined = undefined;

  constructor(
    private readonly gate: string,
    private readonly also: ReadonlySet<QuietTripKind>,
  ) {}

  /** Whether something is being counted, so that `tick` must be called a second after the last time. */
  get counting(): boolean {
    return this.tallies !== undefined;
  }

  /** The record of an event, if it gets one now. */
  hear(event: GateEvent, at: number): TripRecord | undefined {
    try {
      return this.take(event, at);
    } catch (error) {
      return unreadableTrip(this.gate, 'An event cannot be read', error, at);
    }
  }

  /** A second has passed: the records of what was counted. */
  tick(at: number): TripRecord[] {
    const tallies = [...(this.tallies?.values() ?? [])].filter(({ count }) => count > 0);
    this.tallies = tallies.length === 0 ? undefined : new Map();
    return tallies.map(({ kind, last, count, amount }) => gateTrip(kind, last, at, count, amount));
  }

  private take(event: GateEvent, at: number): TripRecord | undefined {
    const kind = this.kindOf(event);
    if (kind === undefined) return undefined;
    const flood = floodOf(event);
    if (flood === undefined) return gateTrip(kind, event, at, 1, 0);
    const amount = event.type === 'note' ? event.amount : 0;
    if (this.tallies === undefined) {
      this.tallies = new Map();
      return gateTrip(kind, event, at, 1, amount);
    }
    this.count(this.tallies, flood, { kind, last: event, count: 1, amount });
    return undefined;
  }

  private count(tallies: Map<string, Tally>, flood: string, one: Tally): void {
    const key = tallies.size < MOST_TALLIES || tallies.has(flood) ? flood : one.last.type;
    const tally = tallies.get(key);
    if (tally === undefined) tallies.set(key, one);
    else {
      tally.last = one.last;
      tally.count++;
      tally.amount += one.amount;
    }
  }

  private kindOf(event: GateEvent): TripKind | undefined {
    switch (event.type) {
      case 'alert':
        return event.type;
      case 'tripped':
        this.held = 'state';
        return event.type;
      case 'note':
        return ROUTINE.has(event.note) ? undefined : event.type;
      case 'state':
        return event.to === 'halfOpen' ? undefined : 'state';
      case 'approval':
        return event.outcome === 'asked' || event.outcome === 'expired' ? 'approval' : undefined;
      case 'retry':
        return event.refused === 'budget' ? 'retry-storm' : undefined;
      case 'paused':
        return (this.held = this.wanted(event.cause === undefined ? 'paused' : 'retry-storm'));
      case 'resumed': {
        const { held } = this;
        this.held = undefined;
        return held;
      }
      case 'refused':
      case 'revoked':
        return this.wanted(event.type);
      default:
        return undefined;
    }
  }

  private wanted(kind: TripKind): TripKind | undefined {
    const quiet = kind === 'paused' || kind === 'refused' || kind === 'revoked';
    return quiet && !this.also.has(kind) ? undefined : kind;
  }
}

/** Events with the same answer are counted together; undefined for those that come one by one. */
function floodOf(event: GateEvent): string | undefined {
  switch (event.type) {
    case 'refused':
    case 'revoked':
    case 'retry':
      return event.type;
    case 'paused':
    case 'resumed':
      return 'pause';
    case 'note':
      return `note ${event.unit} ${event.note}`;
    default:
      return undefined;
  }
}
