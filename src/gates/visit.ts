import type { Call, CallEnd, Caller, Lease, Withdraw } from './gate.js';
import type { Linked, LiveList } from './liveList.js';
import type { Waiter } from './waitingLine.js';

/** What a gate of ours does with the calls that it has let in. */
export interface Keeper<T> {
  began(visit: T): void;
  used(visit: T, usage: never): void;
  ended(visit: T, end: CallEnd): (() => Withdraw) | void;
  /** Nothing of it runs any more. */
  left(visit: T, end: CallEnd): void;
  /** Downstream has heard of an end. */
  pump(): void;
}

/**
 * One call at one gate of ours: it may wait first, then it is what the gate has granted. Most gates share this class, and what
 * each of them keeps of a call is its `hold`: code that meets the calls of several gates is nearly as fast as with one. Where
 * many wait for long, a subclass saves that object.
 */
export class Visit<Hold, Use = never, Grant = void> implements Lease<Use>, Waiter {
  earlier: Linked | undefined = undefined;
  later: Linked | undefined = undefined;
  list: LiveList<never> | undefined = undefined;
  /** When it joined the line, on the gate's clock; undefined if it did not have to. */
  since: number | undefined = undefined;
  ticket = 0;
  /** Callers of different keys take turns. */
  readonly key: string | undefined;
  private end: CallEnd | undefined = undefined;

  constructor(
    readonly keeper: Keeper<never>,
    readonly call: Call,
    readonly caller: Caller<Grant, Use>,
    readonly hold: Hold,
    /** Higher goes first. */
    readonly priority: number = 0,
    key?: string,
  ) {
    this.key = key;
  }

  begin(): void {
    this.keeper.began(this as never);
  }

  report(usage: Use): void {
    this.keeper.used(this as never, usage as never);
  }

  settle(end: CallEnd): (() => Withdraw) | void {
    this.end = end;
    return this.keeper.ended(this as never, end);
  }

  release(): void {
    this.keeper.left(this as never, this.end as CallEnd);
  }

  pump(): void {
    this.keeper.pump();
  }
}

export type AnyVisit = Visit<unknown, never, never>;
