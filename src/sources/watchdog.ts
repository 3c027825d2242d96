import type { SchedulerLike, Subscription } from 'rxjs';

const LONGEST_TIMER = 2 ** 31 - 1;

/** Calls `onSilence` when nothing has happened for a while. One timer, however often something happens. */
export class Watchdog {
  private timer: Subscription | undefined = undefined;
  private ms = Infinity;
  private last = 0;
  /** When the timer rings. */
  private due = 0;

  constructor(
    private readonly scheduler: SchedulerLike,
    private readonly onSilence: () => void,
  ) {}

  /** From now on, `ms` milliseconds of silence are too many. */
  watch(ms: number): void {
    this.touch();
    const due = this.last + ms;
    this.ms = ms;
    if (this.timer !== undefined && this.due <= due) return;
    this.stop();
    if (ms !== Infinity) this.arm(ms);
  }

  /** Something happened. */
  touch(): void {
    this.last = this.scheduler.now();
  }

  stop(): void {
    this.timer?.unsubscribe();
    this.timer = undefined;
  }

  private arm(delay: number): void {
    this.due = this.scheduler.now() + delay;
    this.timer = this.scheduler.schedule(() => this.ring(), Math.min(delay, LONGEST_TIMER));
  }

  private ring(): void {
    const left = this.last + this.ms - this.scheduler.now();
    this.timer = undefined;
    if (left === Infinity) return;
    if (left > 0) return this.arm(left);
    this.onSilence();
  }
}
