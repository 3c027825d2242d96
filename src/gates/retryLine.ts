import { DueQueue } from './dueQueue.js';
import { LiveList } from './liveList.js';
import type { RetryVisit } from './retryVisit.js';

/** Who waits at a retry gate: those in the line, first come first served, and those who wait alone for the time of their retry. */
export class RetryLine {
  /** Who waits alone. */
  alone = 0;
  private readonly line: LiveList<RetryVisit> = new LiveList();
  /** Retries that wait for their time, and those in the line that do not wait for ever. */
  private readonly due: DueQueue<RetryVisit> = new DueQueue();

  /** How many stand in the line. */
  get length(): number {
    return this.line.length;
  }

  /** Whose turn it is. */
  get head(): RetryVisit | undefined {
    return this.line.oldest;
  }

  /** Anybody at all, those in the line first. */
  get first(): RetryVisit | undefined {
    return this.line.oldest ?? this.due.first;
  }

  /** When somebody's time comes. */
  get dueAt(): number {
    return this.due.first?.dueAt ?? Infinity;
  }

  /** Adds it at the end of the line, for as long as its patience lasts. */
  stand(visit: RetryVisit): void {
    this.line.add(visit);
    if (visit.giveUpAt < Infinity) this.schedule(visit, visit.giveUpAt);
  }

  wait(visit: RetryVisit, until: number): void {
    this.alone++;
    this.schedule(visit, until);
  }

  stands(visit: RetryVisit): boolean {
    return this.line.has(visit);
  }

  /** Takes it out from wherever it waits; whether it did. */
  remove(visit: RetryVisit): boolean {
    const stood = this.line.remove(visit);
    if (!stood && visit.slot < 0) return false;
    if (!stood) this.alone--;
    this.due.remove(visit);
    return true;
  }

  /** Takes out those whose time has come, in the order of their times. */
  takeDue(now: number): RetryVisit[] {
    const due: RetryVisit[] = [];
    for (let { first } = this.due; first !== undefined && first.dueAt <= now; { first } = this.due) {
      this.remove(first);
      due.push(first);
    }
    return due;
  }

  private schedule(visit: RetryVisit, at: number): void {
    visit.dueAt = at;
    this.due.add(visit);
  }
}
