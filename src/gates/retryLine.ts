import { DueQueue } from './dueQueue.js';
import { LiveList } from './liveList.js';
import type { RetryCase, RetryTurn } from './retryCase.js';

/** Who waits at a retry gate: those in the line, first come first served, and those who wait alone for the time of their retry. */
export class RetryLine {
  /** Who waits alone. */
  alone = 0;
  private readonly line: LiveList<RetryTurn> = new LiveList();
  /** Retries that wait for their time, and those in the line that do not wait for ever. */
  private readonly due: DueQueue<RetryCase> = new DueQueue();

  /** How many stand in the line. */
  get length(): number {
    return this.line.length;
  }

  /** Whose turn it is. */
  get head(): RetryTurn | undefined {
    return this.line.oldest;
  }

  /** Anybody at all, those in the line first. */
  get first(): RetryTurn | undefined {
    return this.line.oldest ?? this.due.first?.of;
  }

  /** When somebody's time comes. */
  get dueAt(): number {
    return this.due.first?.dueAt ?? Infinity;
  }

  /** Adds it at the end of the line, for as long as its patience lasts. */
  stand(turn: RetryTurn): void {
    this.line.add(turn);
    if (turn.hold.giveUpAt < Infinity) this.schedule(turn, turn.hold.giveUpAt);
  }

  wait(turn: RetryTurn, until: number): void {
    this.alone++;
    this.schedule(turn, until);
  }

  stands(turn: RetryTurn): boolean {
    return this.line.has(turn);
  }

  /** Takes it out from wherever it waits; whether it did. */
  remove(turn: RetryTurn): boolean {
    const stood = this.line.remove(turn);
    if (!stood && turn.hold.slot < 0) return false;
    if (!stood) this.alone--;
    this.due.remove(turn.hold);
    return true;
  }

  /** Takes out those whose time has come, in the order of their times. */
  takeDue(now: number): RetryTurn[] {
    const due: RetryTurn[] = [];
    for (let { first } = this.due; first !== undefined && first.dueAt <= now; { first } = this.due) {
      this.remove(first.of);
      due.push(first.of);
    }
    return due;
  }

  private schedule({ hold }: RetryTurn, at: number): void {
    hold.dueAt = at;
    this.due.add(hold);
  }
}
