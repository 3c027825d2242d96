import { concat, defer, ignoreElements, NEVER, Observable, type Subscription, timer } from 'rxjs';
import type { PermitAsk, Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { brief } from '../support/brief.js';
import type { Virtual } from '../support/virtual.js';

/** Calls behind a semaphore: when each started, how it ended, and how many permits were really in use. */
export class Ward {
  /** `name@frame` */
  readonly started: string[] = [];
  /** `name error@frame` */
  readonly ended: string[] = [];
  readonly subs = new Map<string, Subscription>();
  live = 0;
  peak = 0;

  constructor(
    readonly semaphore: Semaphore,
    private readonly test: Pick<Virtual, 'now'>,
  ) {}

  /** Subscribes to a call that runs for `ms`, for ever by default, or as the given source does. */
  call(name: string, ms: number | Observable<unknown> = Infinity, ask?: PermitAsk): Subscription {
    const sub = this.guarded(name, ms, ask).subscribe({
      error: (error: unknown) => this.ended.push(`${name} ${brief(error)}@${this.test.now()}`),
      complete: () => this.ended.push(`${name}@${this.test.now()}`),
    });
    this.subs.set(name, sub);
    return sub;
  }

  calls(names: string, ms?: number | Observable<unknown>, ask?: PermitAsk): void {
    for (const name of names.split(' ')) this.call(name, ms, ask);
  }

  /** The same, not subscribed. */
  guarded(name: string, ms: number | Observable<unknown> = Infinity, ask: PermitAsk = {}): Observable<unknown> {
    const permits = ask.permits ?? 1;
    const running = new Observable((out) => {
      this.started.push(`${name}@${this.test.now()}`);
      this.peak = Math.max(this.peak, (this.live += permits));
      const sub = (typeof ms === 'number' ? lasting(ms) : ms).subscribe(out);
      return () => {
        this.live -= permits;
        sub.unsubscribe();
      };
    });
    return running.pipe(bulkhead(this.semaphore, ask));
  }

  leave(...names: string[]): void {
    for (const name of names) this.subs.get(name)?.unsubscribe();
  }

  leaveAll(): void {
    for (const sub of this.subs.values()) sub.unsubscribe();
  }
}

function lasting(ms: number): Observable<never> {
  return ms === Infinity ? NEVER : concat(defer(() => timer(ms).pipe(ignoreElements())));
}

/** Whether the gate's timer runs. */
export function armed(semaphore: Semaphore): boolean {
  return (semaphore as unknown as { timer: { armed: boolean } }).timer.armed;
}
