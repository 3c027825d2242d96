import type { SchedulerLike, Subscription } from 'rxjs';
import { captureContext, type AsyncBinding } from '#context';

const LONGEST_TIMER = 2 ** 31 - 1;

/** What an alarm wakes. */
export interface AlarmTarget {
  onAlarm(alarm: Alarm): void;
  /** The enclosing target whose alarm goes first when both are due. */
  readonly up: AlarmTarget | undefined;
  readonly deadline: Alarm | undefined;
}

/** A point in time at which a target is woken. */
export class Alarm {
  position = -1;
  readonly binding: AsyncBinding | undefined = captureContext();
  constructor(
    readonly clock: Clock,
    readonly target: AlarmTarget,
    readonly ms: number,
    public at: number,
  ) {}
}

/**
 * The time of one tree of scopes: any number of deadlines and graces over one timer, which exists only while there is
 * something to wait for. Never runs backwards, so a wall clock that is set back postpones nothing.
 */
export class Clock {
  private readonly heap: Alarm[] = [];
  private timer: Subscription | undefined;
  private armedFor = Infinity;
  private last = -Infinity;
  private skew = 0;

  private readonly origin: number;

  constructor(readonly scheduler: SchedulerLike) {
    this.origin = scheduler.now();
  }

  /** Whole milliseconds since this clock was made, for ages: a small integer, which costs no allocation. */
  elapsed(): number {
    return (this.scheduler.now() - this.origin) | 0;
  }

  now(): number {
    const raw = this.scheduler.now();
    if (raw < this.last) this.skew += this.last - raw;
    this.last = raw;
    return raw + this.skew;
  }

  /** Arms an alarm `ms` milliseconds from now. */
  set(target: AlarmTarget, ms: number): Alarm {
    const alarm = new Alarm(this, target, ms, this.now() + ms);
    this.heap.push(alarm);
    this.rise(alarm, this.heap.length - 1);
    if (alarm.at < this.armedFor) this.arm();
    return alarm;
  }

  clear(alarm: Alarm): void {
    this.remove(alarm);
    if (this.heap.length === 0) this.disarm();
  }

  private arm(): void {
    const [head] = this.heap;
    this.disarm();
    if (head === undefined) return;
    const delay = Math.max(0, Math.min(Math.ceil(head.at - this.now()), LONGEST_TIMER));
    this.armedFor = head.at;
    const expected = this.now() + delay;
    this.timer = this.scheduler.schedule(() => this.ring(expected), delay);
  }

  private disarm(): void {
    this.timer?.unsubscribe();
    this.timer = undefined;
    this.armedFor = Infinity;
  }

  /** What is due now gets one more turn with delay 0, so that anything else due in this frame comes first. */
  private ring(expected: number): void {
    const behind = expected - this.now();
    if (behind > 1) this.skew += behind;
    const due = Math.max(expected, this.now());
    const [head] = this.heap;
    if (head === undefined || head.at > due) return this.arm();
    this.armedFor = -Infinity;
    this.timer = this.scheduler.schedule(() => this.fire(due), 0);
  }

  private fire(due: number): void {
    this.timer = undefined;
    for (let head = this.heap[0]; head !== undefined && head.at <= due; head = this.heap[0]) {
      const alarm = outermost(head, due);
      this.remove(alarm);
      if (alarm.binding === undefined) wake(alarm);
      else alarm.binding.run(wake, alarm);
    }
    this.arm();
  }

  private remove(alarm: Alarm): void {
    const { position } = alarm;
    if (position < 0) return;
    alarm.position = -1;
    const moved = this.heap.pop();
    if (moved === undefined || moved === alarm) return;
    this.rise(moved, position);
    this.sink(moved, moved.position);
  }

  private rise(alarm: Alarm, from: number): void {
    const { heap } = this;
    let position = from;
    while (position > 0) {
      const above = (position - 1) >> 1;
      const parent = heap[above] as Alarm;
      if (parent.at <= alarm.at) break;
      heap[position] = parent;
      parent.position = position;
      position = above;
    }
    heap[position] = alarm;
    alarm.position = position;
  }

  private sink(alarm: Alarm, from: number): void {
    const { heap } = this;
    let position = from;
    for (;;) {
      let below = position * 2 + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && (heap[below + 1] as Alarm).at < (heap[below] as Alarm).at) below++;
      const child = heap[below] as Alarm;
      if (child.at >= alarm.at) break;
      heap[position] = child;
      child.position = position;
      position = below;
    }
    heap[position] = alarm;
    alarm.position = position;
  }
}

function wake(alarm: Alarm): void {
  alarm.target.onAlarm(alarm);
}

/** If deadlines further out are due as well, the outermost reports. */
function outermost(alarm: Alarm, due: number): Alarm {
  let found = alarm;
  for (let target = alarm.target.up; target !== undefined; target = target.up) {
    const { deadline } = target;
    if (deadline?.clock === alarm.clock && deadline.position >= 0 && deadline.at <= due) found = deadline;
  }
  return found;
}
