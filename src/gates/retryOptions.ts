import { checkFunction } from '../core/options.js';
import { defaultRandom } from '../core/random.js';
import { Backoff, type Jitter } from './backoff.js';
import { checkBoolean, checkCount, checkMs, checkNumber, checkObject, type GateOptions } from './checks.js';
import type { ErrorKind } from './classifyError.js';
import { RetryBudget } from './retryBudget.js';
import { RetryState } from './retryState.js';

/** Keeps retries in proportion to first attempts. */
export interface RetryBudgetOptions {
  /** How many retries each first attempt pays for: from 0 to 1. Default 0.2. */
  readonly ratio?: number | undefined;
  /** Retries a second that are allowed in any case. Default 1. */
  readonly minPerSec?: number | undefined;
  /** How many milliseconds what was paid in or taken out counts. Default 10000. */
  readonly ttlMs?: number | undefined;
}

/** How a retry gate treats a call; each operator may say it for its own calls. */
export interface RetryAsk {
  /** What an error means: `throttle` and `transient` are tried again. Default classifyError. */
  readonly classify?: ((error: unknown) => ErrorKind) | undefined;
  /** How many attempts may fail; those that were throttled do not count. At least 1, or Infinity. Default 4. */
  readonly maxAttempts?: number | undefined;
  /** No attempt begins so many milliseconds after the first one. Default Infinity. */
  readonly maxElapsedMs?: number | undefined;
  /** Whether to try again after a value has reached downstream, which then sees values twice. Default false. */
  readonly retryPartial?: boolean | undefined;
}

export interface RetryGateOptions extends GateOptions, Omit<RetryAsk, 'retryPartial'> {
  /** The longest wait before the first retry, in milliseconds; it doubles with each. Default 500. */
  readonly baseMs?: number | undefined;
  /** It does not grow beyond this, in milliseconds. Default 30000. */
  readonly capMs?: number | undefined;
  /** `full` waits a chance time up to that; a function gets the longest wait and the number of the retry. Default `full`. */
  readonly jitter?: 'full' | Jitter | undefined;
  /** A number from 0 up to, but not including, 1. Default Math.random. */
  readonly random?: (() => number) | undefined;
  /** Up to this many milliseconds are added to every pause by chance, so that many processes do not probe at once. Default 25. */
  readonly jitterMs?: number | undefined;
  /** How many milliseconds the server asks to wait; undefined, NaN and what is not above 0 mean that it does not say. */
  readonly retryAfter?: ((error: unknown) => number | undefined) | undefined;
  /** A call that is asked to wait longer fails at once. Default 60000 milliseconds. */
  readonly maxRetryAfterMs?: number | undefined;
  /** Null: retries are not counted against first attempts. */
  readonly budget?: RetryBudgetOptions | null | undefined;
  /** How many calls may be in flight after a pause, and how many more after each success. Default 1 and 1. */
  readonly slowStart?: { readonly initial?: number | undefined; readonly step?: number | undefined } | undefined;
  /** A call after a pause that takes longer no longer holds up the next. Default 30000 milliseconds. */
  readonly probeMaxMs?: number | undefined;
}

const WHO = 'RetryGate';

/** Throws unless the options of one call can be used. */
export function checkRetryAsk(who: string, { classify, maxAttempts, maxElapsedMs, retryPartial }: RetryAsk): void {
  if (classify !== undefined) checkFunction(who, 'classify', classify);
  if (maxAttempts !== undefined) checkCount(who, 'maxAttempts', maxAttempts, 1, true);
  if (maxElapsedMs !== undefined) checkMs(who, 'maxElapsedMs', maxElapsedMs, 0, true);
  if (retryPartial !== undefined) checkBoolean(who, 'retryPartial', retryPartial);
}

/** Throws unless the options can be used. */
export function checkRetryOptions(options: RetryGateOptions): void {
  const { baseMs, capMs, jitter, random, jitterMs, retryAfter, maxRetryAfterMs, probeMaxMs } = options;
  checkRetryAsk(WHO, options);
  if (baseMs !== undefined) checkMs(WHO, 'baseMs', baseMs);
  if (capMs !== undefined) checkMs(WHO, 'capMs', capMs);
  if (jitter !== undefined && jitter !== 'full') checkFunction(WHO, 'jitter', jitter);
  if (random !== undefined) checkFunction(WHO, 'random', random);
  if (jitterMs !== undefined) checkMs(WHO, 'jitterMs', jitterMs);
  if (retryAfter !== undefined) checkFunction(WHO, 'retryAfter', retryAfter);
  if (maxRetryAfterMs !== undefined) checkMs(WHO, 'maxRetryAfterMs', maxRetryAfterMs, 1, true);
  if (probeMaxMs !== undefined) checkMs(WHO, 'probeMaxMs', probeMaxMs, 1, true);
}

export function makeBackoff({ baseMs = 500, capMs = 30_000, jitter = 'full', random = defaultRandom }: RetryGateOptions): Backoff {
  return new Backoff({ baseMs, capMs, jitter, random });
}

export function makeRetryState({ slowStart, probeMaxMs = 30_000 }: RetryGateOptions): RetryState {
  if (slowStart !== undefined) checkObject(WHO, 'slowStart', slowStart);
  const { initial = 1, step = 1 } = slowStart ?? {};
  checkCount(WHO, 'slowStart.initial', initial, 1);
  checkCount(WHO, 'slowStart.step', step, 1);
  return new RetryState({ initial, step, probeMaxMs });
}

export function makeRetryBudget({ budget }: RetryGateOptions): RetryBudget | undefined {
  if (budget === null) return undefined;
  if (budget !== undefined) checkObject(WHO, 'budget', budget);
  const { ratio = 0.2, minPerSec = 1, ttlMs = 10_000 } = budget ?? {};
  checkNumber(WHO, 'budget.ratio', ratio, 'a number from 0 to 1', (n) => n >= 0 && n <= 1);
  checkNumber(WHO, 'budget.minPerSec', minPerSec, 'a number of at least 0', (n) => n >= 0 && n < Infinity);
  checkMs(WHO, 'budget.ttlMs', ttlMs, 1);
  return new RetryBudget({ ratio, minPerSec, ttlMs });
}
