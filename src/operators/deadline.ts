import type { MonoTypeOperatorFunction } from 'rxjs';
import type { Alarm } from '../core/clock.js';
import { DirectObservable, type Sink } from '../core/direct.js';
import { CANCELLING } from '../core/node.js';
import { checkDeadline, checkScopeOptions, type ScopeOptions } from '../core/options.js';
import { OutputScope } from '../core/output.js';
import { ScopeError } from '../core/errors.js';
import type { CancelReason, ScopeReport } from '../core/types.js';

/** How a stream under a deadline ended. */
export interface DeadlineEnd {
  /** Whether the deadline cut it off. */
  readonly timedOut: boolean;
  /** Values that were forwarded. */
  readonly seen: number;
  readonly report: ScopeReport;
}

type OnEnd = ((end: DeadlineEnd) => void) | undefined;

/** A source under a total deadline. What differs between the two operators is how the output ends at it. */
class DeadlineScope<T> extends OutputScope<T, T> {
  private alarm: Alarm | undefined = undefined;

  constructor(
    out: Sink<T>,
    options: ScopeOptions,
    private readonly partial: boolean,
    private readonly onEnd: OnEnd,
  ) {
    super(out, options);
  }

  override get deadline(): Alarm | undefined {
    return this.alarm;
  }

  override set deadline(alarm: Alarm | undefined) {
    this.alarm = alarm;
  }

  next(value: T): void {
    if (this.state < CANCELLING) this.emit(value);
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const errors = this.extra?.errors ?? [];
    const [first] = errors;
    if (reason?.kind === 'source-error' && first?.phase === 'source' && errors.length === 1) this.out.error(first.error);
    else if (reason?.kind === 'deadline' && this.partial) {
      if (first === undefined) this.out.complete();
      else this.out.error(new ScopeError(this.report(), this.name));
    } else super.conclude(reason);
  }

  override endNow(): void {
    try {
      this.onEnd?.({ timedOut: this.cancellation?.reason.kind === 'deadline', seen: this.seen, report: this.report() });
    } catch (error) {
      (this.more.errors ??= []).push({ error, phase: 'cleanup' });
    }
    super.endNow();
  }
}

/** Shared by takeWithin and failWithin. */
export function within<T>(
  who: string,
  ms: number | null,
  options: ScopeOptions,
  partial: boolean,
  onEnd: OnEnd,
): MonoTypeOperatorFunction<T> {
  checkDeadline(who, ms);
  checkScopeOptions(who, options);
  return (source) =>
    new DirectObservable((sink) => {
      const scope = new DeadlineScope(sink, options, partial, onEnd);
      scope.setDeadline(ms);
      scope.begin(() => source);
    });
}
