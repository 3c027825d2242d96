import { DueQueue } from './dueQueue.js';
import { LiveList } from './liveList.js';
import type { RetryLease } from './retryLease.js';

/** Who waits at a retry gate: those in the line, first come first served, and those who wait alone for the time of their retry. */
export class RetryLine {
  /** Who waits alone. */
  alone = 0;
  private readonly line: LiveList<RetryLease> = new LiveList();
  /** Retries that wait for their time, and those in the line that do not wait for ever. */
  private readonly due: DueQueue<RetryLease> = new DueQueue();

  /** How many stand in the line. */
  get length(): number {
    return this.line.length;
  }

  /** Whose turn it is. */
  get head(): RetryLease | undefined {
    return this.line.oldest;
  }

  /** Anybody at all, those in the line first. */
  get first(): RetryLease | undefined {
    return this.line.oldest ?? this.due.first;
  }

  /** When somebody's time comes. */
  get dueAt(): number {
    return this.due.first?.dueAt ?? Infinity;
  }

  /** Adds it at the end of the line, for as long as its patience lasts. */
  stand(lease: RetryLease): void {
    this.line.add(lease);
    if (lease.giveUpAt < Infinity) this.schedule(lease, lease.giveUpAt);
  }

  wait(lease: RetryLease, until: number): void {
    this.alone++;
    this.schedule(lease, until);
  }

  stands(lease: RetryLease): boolean {
    return (lease.list as unknown) === this.line;
  }

  /** Takes it out from wherever it waits; whether it did. */
  remove(lease: RetryLease): boolean {
    const stood = this.line.remove(lease);
    if (!stood && lease.slot < 0) return false;
    if (!stood) this.alone--;
    this.due.remove(lease);
    return true;
  }

  /** Takes out those whose time has come, in the order of their times. */
  takeDue(now: number): RetryLease[] {
    const due: RetryLease[] = [];
    for (let lease = this.due.first; lease !== undefined && lease.dueAt <= now; lease = this.due.first) {
      this.remove(lease);
      due.push(lease);
    }
    return due;
  }

  private schedule(lease: RetryLease, at: number): void {
    lease.dueAt = at;
    this.due.add(lease);
  }
}
