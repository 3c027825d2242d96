import type { Call, CallEnd, Caller, Lease, Withdraw } from './gate.js';

/** A lease that its gate can find again: in one list at a time, in order of arrival. */
export abstract class LiveLease<Grant = void, Use = never> implements Lease<Use> {
  earlier: LiveLease<never> | undefined = undefined;
  later: LiveLease<never> | undefined = undefined;
  list: LiveList<LiveLease<never>> | undefined = undefined;

  constructor(
    readonly call: Call,
    readonly caller: Caller<Grant, Use>,
  ) {}

  abstract settle(end: CallEnd): (() => Withdraw) | void;
}

/** What is in flight, or waits, in order of arrival. Whoever leaves does so at once, from anywhere. */
export class LiveList<L extends LiveLease<never>> {
  length = 0;
  oldest: L | undefined = undefined;
  newest: L | undefined = undefined;

  add(lease: L): void {
    lease.list = this;
    lease.earlier = this.newest;
    if (this.newest === undefined) this.oldest = lease;
    else this.newest.later = lease;
    this.newest = lease;
    this.length++;
  }

  /** Whether it was in this list. */
  remove(lease: L): boolean {
    if ((lease.list as unknown) !== this) return false;
    const { earlier, later } = lease;
    if (earlier === undefined) this.oldest = later as L | undefined;
    else earlier.later = later;
    if (later === undefined) this.newest = earlier as L | undefined;
    else later.earlier = earlier;
    lease.list = lease.earlier = lease.later = undefined;
    this.length--;
    return true;
  }

  /** A copy, for whoever changes the list on the way. */
  all(): L[] {
    const all: L[] = [];
    for (let lease = this.oldest; lease !== undefined; lease = lease.later as L | undefined) all.push(lease);
    return all;
  }
}
