import { CallObservable } from '../core/call.js';

/** How far the work behind the gates has come, asked when it is stopped before its end. */
export interface Work {
  /** Whether it has begun, or may have. */
  readonly begun: boolean;
  /** Whether it has done all that it was to do: what it has used is known, and only its end was not waited for. */
  readonly done: boolean;
  /** Whether it goes on to its end where nobody listens. */
  readonly finishing: boolean;
}

/** A call whose run tells the gates in front of it how far it has come. It has not begun before it says so, see `attend`. */
export class WorkObservable<T> extends CallObservable<T> {}
