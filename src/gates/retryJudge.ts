import { defaultRandom } from '../core/random.js';
import type { Backoff } from './backoff.js';
import { classifyError, ERROR_KINDS, retryAfterOf, type ErrorKind } from './classifyError.js';
import { BadAskError, RetryAfterTooLongError } from './errors.js';
import type { RetryBudget } from './retryBudget.js';
import { makeBackoff, makeRetryBudget, type RetryAsk, type RetryGateOptions } from './retryOptions.js';
import type { PauseDraw, RetryState, RetryTicket } from './retryState.js';
import { giveUp, type RetryRefusal } from './retryVerdict.js';

/** What is known of a call through all of its attempts. */
export interface RetryRecord extends RetryTicket {
  readonly ask: RetryAsk;
  /** Attempts that failed, without those that were throttled. */
  failures: number;
  throttles: number;
  /** When no more attempt may begin. */
  readonly giveUpAt: number;
}

/** An attempt of it has failed. */
export interface RetryFailure {
  readonly error: unknown;
  /** Values that have reached downstream. */
  readonly emitted: number;
  readonly now: number;
  /** The wall clock, which a Retry-After with a date is relative to. */
  readonly wallNow: number;
  /** When the call's scope will be over. */
  readonly deadlineAt: number;
}

export interface RetryVerdict {
  readonly refused: RetryRefusal | undefined;
  /** What the call ends with if that is not the error of its last attempt. */
  readonly instead: Error | undefined;
  /** When the next attempt may begin. */
  readonly nextAt: number;
  /** Whether it waits in the line for the end of the pause, rather than alone. */
  readonly parks: boolean;
  /** Whether everybody has to wait longer than before. */
  readonly paused: boolean;
}

/** Decides what becomes of a call whose attempt has failed, and tells the shared pause of it. */
export class RetryJudge {
  readonly budget: RetryBudget | undefined;
  private readonly backoff: Backoff;

  constructor(
    private readonly gate: string,
    private readonly options: RetryGateOptions,
    private readonly machine: RetryState,
  ) {
    this.backoff = makeBackoff(options);
    this.budget = makeRetryBudget(options);
  }

  /** Throws what a callback throws, or what is wrong with its answer. */
  judge(record: RetryRecord, failure: RetryFailure): RetryVerdict {
    const { options, machine } = this;
    const { ask, giveUpAt } = record;
    const { now, deadlineAt } = failure;
    const kind = this.kindOf(ask, failure.error);
    const throttled = kind === 'throttle';
    const retryable = throttled || kind === 'transient';
    const askedMs = retryable ? this.askedMs(failure) : undefined;
    const tooLong = askedMs !== undefined && askedMs > maxAskedMs(options);
    const paused = throttled && !tooLong && this.pause(record, askedMs, now);
    machine.left(record);
    if (throttled) record.throttles++;
    else record.failures++;
    const parks = throttled && machine.phase === 'closed';
    const nextAt = parks ? machine.until : now + (retryable ? this.aloneMs(record, throttled, askedMs) : 0);
    const partial = failure.emitted > 0 && ask.retryPartial !== true;
    const maxAttempts = ask.maxAttempts ?? options.maxAttempts ?? 4;
    const attempt = { retryable, throttled, partial, tooLong, failures: record.failures, maxAttempts, nextAt, giveUpAt, deadlineAt };
    const refused = giveUp(attempt, this.budget, now);
    const instead =
      refused === 'retry-after' ? new RetryAfterTooLongError(this.gate, askedMs ?? 0, maxAskedMs(options), failure.error) : undefined;
    return { refused, instead, nextAt, parks, paused };
  }

  private kindOf(ask: RetryAsk, error: unknown): ErrorKind {
    const kind = (ask.classify ?? this.options.classify ?? classifyError)(error);
    if (!ERROR_KINDS.includes(kind)) throw new BadAskError(this.gate, 'what classify makes', `one of ${ERROR_KINDS.join(', ')}`, kind);
    return kind;
  }

  /** How long the server asks to wait: at least a millisecond, or it does not say. */
  private askedMs({ error, wallNow }: RetryFailure): number | undefined {
    const { retryAfter } = this.options;
    const ms = retryAfter === undefined ? retryAfterOf(error, wallNow) : retryAfter(error);
    return typeof ms === 'number' && ms > 0 ? Math.ceil(ms) : undefined;
  }

  private pause(record: RetryRecord, askedMs: number | undefined, now: number): boolean {
    const draw = this.machine.isNews(record) ? this.draw() : undefined;
    return this.machine.throttled(record, now, askedMs, draw);
  }

  private draw(): PauseDraw {
    const { jitterMs = 25, random = defaultRandom } = this.options;
    return {
      backoffMs: this.usable('jitter', this.backoff.delayMs(this.machine.level + 1)),
      jitterMs: jitterMs === 0 ? 0 : this.usable('random', Math.ceil(random() * jitterMs)),
    };
  }

  /** How long a call waits that does not wait for the gate. */
  private aloneMs({ failures, throttles }: RetryRecord, throttled: boolean, askedMs = 0): number {
    return Math.max(askedMs, this.usable('jitter', this.backoff.delayMs(throttled ? throttles : failures)));
  }

  private usable(what: string, ms: number): number {
    if (!(ms >= 0 && ms < Infinity)) throw new BadAskError(this.gate, `what ${what} makes`, 'a number of milliseconds, 0 or more', ms);
    return ms;
  }
}

function maxAskedMs({ maxRetryAfterMs = 60_000 }: RetryGateOptions): number {
  return maxRetryAfterMs;
}
