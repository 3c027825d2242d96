import type { MonoTypeOperatorFunction } from 'rxjs';
import { checkChoice, checkFunction } from '../core/options.js';
import type { BucketCost } from '../gates/bucketCost.js';
import type { OnBucketCancel } from '../gates/bucketUse.js';
import { checkCount, checkNumber, refuse } from '../gates/checks.js';
import type { BucketAsk, TokenBucket } from '../gates/tokenBucket.js';
import { gated } from './admit.js';

export interface TokenBucketCallOptions<T> {
  /**
   * What the call costs: an integer of at least 0, by default 1; with several limits an object with an integer for each that it
   * names. A function is called once for each attempt.
   */
  readonly cost?: BucketCost | (() => BucketCost) | undefined;
  /** Reads from a value what the call has used so far: running totals, or undefined if the value does not tell. */
  readonly settle?: ((value: T) => BucketCost | undefined) | undefined;
  /** Higher goes first. Default 0. */
  readonly priority?: number | undefined;
  /** Callers of different keys take turns. */
  readonly key?: string | undefined;
  /**
   * What a call is charged that was cancelled after it had started: `keep` (default) its cost, or what it has reported if that is
   * more; `refund` only what it has reported; a function of its end gives what it has used.
   */
  readonly onCancel?: OnBucketCancel | undefined;
}

const WHO = 'tokenBucket';

function checkCost(cost: unknown): void {
  if (cost === undefined || typeof cost === 'function') return;
  if (typeof cost === 'number') return checkCount(WHO, 'cost', cost, 0);
  if (typeof cost !== 'object' || cost === null) refuse(TypeError, WHO, 'cost', 'an integer, an object of integers, or a function', cost);
  for (const [name, each] of Object.entries(cost)) if (each !== undefined) checkCount(WHO, `cost.${name}`, each, 0);
}

/**
 * Holds the call back until the bucket has the tokens for it, and takes them before the call starts.
 *
 * ```
 * bucket of 1, one more every 3                bucket of 1, one more every 3
 * call 1    --a--|                             call 1    --a--|
 * call 2    ...--b--|                          call 2    .!           unsubscribed while it waits:
 * call 3    ......--c--|                       call 3    ...--c--|    nothing paid, the next one moves up
 * ```
 *
 * Use it in front of what is limited per time: requests or tokens per minute. Give an estimate as `cost` and let `settle` tell
 * what was used: the difference is paid back, or owed, when the call ends. A call that never started pays nothing.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { TokenBucket, tokenBucket } from 'rxfleet';
 *
 * const bucket = new TokenBucket({ capacity: 10_000, refill: { tokens: 10_000, everyMs: 60_000 } });
 * of({ text: 'hello', used: 300 })
 *   .pipe(tokenBucket(bucket, { cost: 1_200, settle: ({ used }) => used }))
 *   .subscribe(({ text }) => console.log(text));
 * ```
 *
 * @param bucket - shared by all calls that it limits together
 * @param options - `cost` (tokens, default 1), `settle`, `priority` (default 0, higher goes first), `key` (callers of different
 * keys take turns), `onCancel` (default `keep`)
 * @returns an operator that errors with CostExceedsCapacityError, RateLimitQueueFullError or RateLimitWaitError (both with
 * `retryAfterMs`), BadAskError or ResourceDisposedError; the source is not subscribed then. Unsubscribing leaves the line and
 * pays nothing, or stops the call, which is then charged as `onCancel` says
 * @see bulkhead for calls at once instead of calls per time
 */
export function tokenBucket<T>(bucket: TokenBucket, options: TokenBucketCallOptions<T> = {}): MonoTypeOperatorFunction<T> {
  const { cost, settle, priority, key, onCancel } = options;
  checkCost(cost);
  if (settle !== undefined) checkFunction(WHO, 'settle', settle);
  if (priority !== undefined) checkNumber(WHO, 'priority', priority, 'a number', (n) => !Number.isNaN(n));
  if (key !== undefined && typeof key !== 'string') refuse(TypeError, WHO, 'key', 'a string', key);
  if (onCancel !== undefined && typeof onCancel !== 'function') checkChoice(WHO, 'onCancel', onCancel, ['keep', 'refund']);
  const ask: BucketAsk = { cost: typeof cost === 'function' ? undefined : cost, priority, key, onCancel };
  return gated(WHO, bucket, typeof cost === 'function' ? () => ({ ...ask, cost: cost() }) : ask, settle);
}
