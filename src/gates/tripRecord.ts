/** Every kind of record, the most pressing first. */
export const TRIP_KINDS = [
  'tripped',
  'alert',
  'retry-storm',
  'abandoned',
  'approval',
  'state',
  'note',
  'refused',
  'revoked',
  'paused',
  'dropped',
] as const;

export type TripKind = (typeof TRIP_KINDS)[number];

/** The kinds that a log leaves out unless it is asked for them. */
export type QuietTripKind = 'refused' | 'revoked' | 'paused';

interface Trip<K extends TripKind> {
  readonly kind: K;
  /** Milliseconds of the log's scheduler: since 1970, unless that is a virtual one. */
  readonly at: number;
  /** Where: labels from the root, or the node of a budget. */
  readonly path: readonly string[];
  /** One line of words that says it all. */
  readonly message: string;
}

interface GateTrip<K extends TripKind> extends Trip<K> {
  /** Name of the gate. */
  readonly gate: string;
}

/** Of a kind that may come in floods: at most one record per gate and second, which counts them. */
interface CountedTrip<K extends TripKind> extends GateTrip<K> {
  readonly count: number;
}

/** Something to be woken for: plain JSON, without secrets. */
export type TripRecord =
  | (GateTrip<'alert'> & { readonly fraction: number; readonly unit: string; readonly used: number; readonly limit: number })
  /** A breaker or a budget stopped `cancelled` calls in flight. */
  | (GateTrip<'tripped'> & { readonly cancelled: number })
  /** A breaker opened, closed or was isolated. */
  | (GateTrip<'state'> & { readonly from: string; readonly to: string })
  /** A gate holds everybody back for `ms`, lets them through again, or refused retries for there were too many. */
  | (CountedTrip<'retry-storm' | 'paused'> & { readonly phase: 'held' | 'over' | 'refused'; readonly ms: number; readonly waiting: number })
  | (CountedTrip<'refused' | 'revoked'> & { readonly code: string })
  /** Something about the books; `amount` is the sum. */
  | (CountedTrip<'note'> & { readonly note: string; readonly amount: number; readonly unit: string })
  /** A call did not end within its scope's grace and may still complete. `count` is above 1 where only the number of the rest is told. */
  | (Trip<'abandoned'> & { readonly label: string; readonly ageMs: number; readonly count: number })
  | (GateTrip<'approval'> & { readonly id: string; readonly outcome: 'asked' | 'expired' })
  /** Records that a writer had no room for. */
  | (Trip<'dropped'> & { readonly count: number });
