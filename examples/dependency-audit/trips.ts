import { lastValueFrom, share, Subject, takeUntil, tap } from 'rxjs';
import { tripLog, type Scope } from 'rxfleet';
import { jsonLines, type JsonLinesEvent } from 'rxfleet/node';
import type { Guards } from './guards.js';
import { words } from './text.js';
import type { View } from './view.js';

/** What became of the file. */
export type TripFile = Extract<JsonLinesEvent, { type: 'closed' }>;

/** Whatever somebody should be woken for goes to the screen, and to a file if there is to be one. */
export class Trips {
  /** The scopes whose abandoned calls are told. */
  readonly scopes = new Subject<Scope>();
  private readonly over = new Subject<void>();
  private readonly file: Promise<TripFile | undefined>;

  constructor(guards: Guards, path: string | undefined, view: View) {
    const trips$ = tripLog({ gates: guards.all, scopes: this.scopes }).pipe(takeUntil(this.over), share());
    trips$.subscribe((trip) => view.tell(trip));
    let warned = false;
    const warn = (event: JsonLinesEvent): void => {
      if (event.type !== 'failed' || warned) return;
      warned = true;
      view.say(`Trips cannot be written: ${words(event.error)}`);
    };
    this.file = path === undefined ? Promise.resolve(undefined) : lastValueFrom(trips$.pipe(jsonLines(path), tap(warn))).then(closed);
  }

  /** Resolves when the file is written. */
  close(): Promise<TripFile | undefined> {
    this.over.next();
    return this.file;
  }
}

const closed = (event: JsonLinesEvent): TripFile | undefined => (event.type === 'closed' ? event : undefined);
