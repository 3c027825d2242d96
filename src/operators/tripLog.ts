import {
  asyncScheduler,
  catchError,
  concat,
  defer,
  filter,
  finalize,
  from,
  interval,
  map,
  merge,
  mergeAll,
  mergeMap,
  of,
  takeWhile,
  type Observable,
  type SchedulerLike,
} from 'rxjs';
import { GateTrips } from '../gates/gateTrips.js';
import { checkTripLogOptions, type TripLogOptions, type TripScope, type TripSource } from '../gates/tripOptions.js';
import type { QuietTripKind, TripRecord } from '../gates/tripRecord.js';
import { abandonedTrip, unreadableTrip } from '../gates/tripWords.js';

export type { TripLogOptions, TripScope, TripSource };

const SECOND = 1000;
/** Abandoned calls of one scope that get a record each. */
const MOST_ABANDONED = 10;

/**
 * One Observable of what people want to be woken for, out of all that happens at your gates and in your scopes.
 *
 * ```
 * breaker   --a--s--a--w--T-----------    T  tripped, 15 calls stopped
 * budget    -a---s--a----s--A---------    A  80 % of the limit is used
 * scope     ----------------------X|      X  a call did not end within its grace
 * tripLog   --------------T-A-----X---    records: plain JSON, with a sentence, without secrets
 * ```
 *
 * Kinds: `alert` (a budget's fraction is used), `tripped`, `state` (a breaker opened or closed), `retry-storm` (a gate holds
 * everybody back because of an error, or the retry budget is used up), `abandoned`, `approval` (a person is asked, or did not
 * answer), `note` (an overrun, missing usage, a dropped debt). What comes in floods is one record per gate and second that
 * counts them. Left out unless `also` asks for them: `refused`, `revoked` (single calls), `paused` (without an error).
 *
 * *Use it* once, where the application starts, and write it to a file with `jsonLines` of `rxfleet/node`.
 *
 * ```ts
 * import { filter } from 'rxjs';
 * import { CircuitBreaker, tripLog } from 'rxfleet';
 *
 * const provider = new CircuitBreaker({ name: 'provider' });
 * const page = tripLog({ gates: [provider] }).pipe(filter(({ kind }) => kind === 'tripped'));
 * const log = page.subscribe(({ message }) => console.log(message)); // Tripped and stopped 0 calls in flight: "by hand"
 * provider.trip('by hand');
 * log.unsubscribe();
 * ```
 *
 * @param options - `gates` and `scopes` (lists, or Observables of those still to come), `also`, `scheduler`
 * @returns a cold Observable. It never errors: what breaks off becomes a record. It completes when all that it listens to has.
 * While nobody subscribes it costs nothing; unsubscribing lets go of everything, and of what was counted in the last second
 * @see jsonLines for a file of it
 */
export function tripLog(options: TripLogOptions): Observable<TripRecord> {
  checkTripLogOptions('tripLog', options);
  const { gates = [], scopes = [], also = [], scheduler = asyncScheduler } = options;
  const kinds = new Set(also);
  const log = (gate: string, what: string, source: Observable<TripRecord>): Observable<TripRecord> => told(gate, what, scheduler, source);
  return merge(
    log(
      '',
      'The list of gates broke off',
      from(gates).pipe(mergeMap((gate) => log('', 'A gate cannot be read', tripsOf(gate, kinds, scheduler)))),
    ),
    log('', 'The list of scopes broke off', from(scopes).pipe(mergeMap((scope) => abandonedOf(scope, scheduler)))),
  );
}

function tripsOf(gate: TripSource, also: ReadonlySet<QuietTripKind>, scheduler: SchedulerLike): Observable<TripRecord> {
  return defer(() => {
    const name = gate.name ?? '';
    const trips = new GateTrips(name, also);
    let counting = false;
    const counts = interval(SECOND, scheduler).pipe(
      map(() => trips.tick(scheduler.now())),
      takeWhile((records) => records.length > 0),
      mergeAll(),
      finalize(() => (counting = false)),
    );
    const heard = defer(() => gate.events$).pipe(map((event) => trips.hear(event, scheduler.now())));
    return told(name, 'The events of this gate broke off', scheduler, heard).pipe(
      filter((record) => record !== undefined),
      mergeMap((record) => {
        if (counting || !trips.counting) return of(record);
        counting = true;
        return concat(of(record), counts);
      }),
    );
  });
}

function abandonedOf(scope: TripScope, scheduler: SchedulerLike): Observable<TripRecord> {
  const records = defer(() => scope.closed$).pipe(
    mergeMap(({ abandoned }) => {
      const at = scheduler.now();
      const rest = abandoned.length - MOST_ABANDONED;
      const named = abandoned.slice(0, MOST_ABANDONED).map((call) => abandonedTrip(call, at, 0));
      return rest > 0 ? [...named, abandonedTrip(abandoned[MOST_ABANDONED]!, at, rest)] : named;
    }),
  );
  return told('', 'The report of a scope cannot be read', scheduler, records);
}

/** The log outlives whatever it listens to: what breaks off becomes a record. */
function told<T>(gate: string, what: string, scheduler: SchedulerLike, source: Observable<T>): Observable<T | TripRecord> {
  return source.pipe(catchError((error: unknown) => of(unreadableTrip(gate, what, error, scheduler.now()))));
}
