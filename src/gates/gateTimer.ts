import type { SchedulerLike, Subscription } from 'rxjs';

const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * The time of one gate and its one timer. The clock is read only when needed, so a gate may be made before a virtual time
 * begins, and it never runs backwards: a clock that is set back, or swapped for a virtual one, goes on from where it was.
 */
export class GateTimer {
  private task: Subscription | undefined = undefined;
  private armedFor = Infinity;
  private last = -Infinity;
  private skew = 0;

  constructor(
    readonly scheduler: SchedulerLike,
    private readonly wake: () => void,
  ) {}

  /** Milliseconds; only differences mean anything. */
  now(): number {
    const raw = this.scheduler.now();
    if (raw < this.last) this.skew += this.last - raw;
    this.last = raw;
    return raw + this.skew;
  }

  /** Whether the timer runs. */
  get armed(): boolean {
    return this.task !== undefined;
  }

  /** Wakes the gate at `at`, or earlier if it is armed for an earlier time already. */
  wakeBy(at: number): void {
    if (at >= this.armedFor) return;
    this.stop();
    this.armedFor = at;
    const now = this.now();
    const delay = Math.max(0, Math.min(Math.ceil(at - now), LONGEST_TIMER));
    const raw = this.last;
    this.task = this.scheduler.schedule(() => this.ring(at, raw, now + delay), delay);
  }

  /** Wakes the gate in this frame, after whatever runs now. */
  wakeSoon(): void {
    this.wakeBy(-Infinity);
  }

  stop(): void {
    this.task?.unsubscribe();
    this.task = undefined;
    this.armedFor = Infinity;
  }

  /**
   * A timer may come early, and a long wait comes in pieces: look at the clock again. Where the clock was set back meanwhile, the
   * timer knows better.
   */
  private ring(at: number, raw: number, expected: number): void {
    this.task = undefined;
    this.armedFor = Infinity;
    const behind = expected - this.now();
    if (this.last < raw && behind > 0) this.skew += behind;
    if (at > this.now()) this.wakeBy(at);
    else this.wake();
  }
}
