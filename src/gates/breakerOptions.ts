import { defaultRandom } from '../core/random.js';
import { DEFAULT_OPEN_MS } from './breakerState.js';
import { ConsecutiveWindow, CountWindow, TimeWindow, type BreakerWindow } from './breakerWindow.js';
import { checkBoolean, checkCount, checkMs, checkObject, checkRate, refuse, type GateOptions } from './checks.js';
import { BadAskError } from './errors.js';
import type { ErrorKind } from './classifyError.js';
import { checkChoice, checkFunction } from '../core/options.js';

/** Which outcomes a breaker remembers, and when they are too many. */
export interface CircuitWindowOptions {
  /** The last `size` outcomes, or those of the last `size` milliseconds. */
  readonly kind: 'count' | 'time';
  /** An integer of at least 1: outcomes, or milliseconds, of which a tenth is dropped at a time. */
  readonly size: number;
  /** How many outcomes there must be before it trips: at least 1, and no more than `size` where that counts outcomes. */
  readonly min: number;
  /** The share of failures at which it trips, above 0 and up to 1. */
  readonly rate: number;
  /** A call that takes this many milliseconds or more is slow, also one that is unsubscribed then. Default: none is. */
  readonly slowMs?: number | undefined;
  /** The share of slow calls at which it trips, above 0 and up to 1. Default 1. */
  readonly slowRate?: number | undefined;
}

/** A breaker has just tripped. */
export interface CircuitTrip {
  /** How often in a row, this one included. */
  readonly attempt: number;
  /** The error, the failed result, the reason that was given, or words about slow calls. */
  readonly cause: unknown;
}

/** How a breaker reads the ends of calls. */
export interface CircuitAsk<T = unknown> {
  /** What an error means: `transient` and `unknown` are failures, the rest says nothing. Default classifyError. */
  readonly classify?: ((error: unknown) => ErrorKind) | undefined;
  /** Whether a call failed although it completed; given its last value. Default: it did not. */
  readonly isFailureResult?: ((last: T) => boolean) | undefined;
  /** What a call is that its subscriber leaves after a value, as `take(1)` does. Default `success`. */
  readonly cancelAfterValue?: 'success' | 'neutral' | undefined;
}

export interface CircuitBreakerOptions extends GateOptions, CircuitAsk {
  /** How many failures in a row trip it. Default 5, unless there is a window. */
  readonly failures?: number | undefined;
  /** Trips on a share of failures or of slow calls instead. */
  readonly window?: CircuitWindowOptions | undefined;
  /** Milliseconds that it stays open, or a function that knows, such as from a Retry-After. Default 30000. */
  readonly openMs?: number | ((trip: CircuitTrip) => number) | undefined;
  /** Up to this many milliseconds are added to that by chance, so that many processes do not probe at once. Default 0. */
  readonly jitterMs?: number | undefined;
  /** A number from 0 up to, but not including, 1. Default Math.random. */
  readonly random?: (() => number) | undefined;
  /** How many calls a half-open breaker lets in, and how many of them decide. Default 1. */
  readonly probes?: number | undefined;
  /** A probe that has run for so many milliseconds counts as failed. Default: as long as the breaker was open. */
  readonly probeMaxMs?: number | undefined;
  /** What becomes of other calls while the probes are out. Default `refuse`; `queue` lets them wait for the verdict. */
  readonly whileProbing?: 'refuse' | 'queue' | undefined;
  /** Whether a trip stops the calls in flight. Default true. */
  readonly cancelInFlight?: boolean | undefined;
}

const WHO = 'CircuitBreaker';

/** Throws unless the options can be used. */
export function checkBreakerOptions(options: CircuitBreakerOptions): void {
  const { failures, window, openMs, jitterMs, random, probes, probeMaxMs, whileProbing, cancelInFlight } = options;
  if (failures !== undefined && window !== undefined) refuse(TypeError, WHO, 'window', 'left out where there is failures', window);
  if (failures !== undefined) checkCount(WHO, 'failures', failures, 1);
  if (openMs !== undefined && typeof openMs !== 'function') checkMs(WHO, 'openMs', openMs);
  if (jitterMs !== undefined) checkMs(WHO, 'jitterMs', jitterMs);
  if (random !== undefined) checkFunction(WHO, 'random', random);
  if (probes !== undefined) checkCount(WHO, 'probes', probes, 1);
  if (probeMaxMs !== undefined) checkMs(WHO, 'probeMaxMs', probeMaxMs, 1);
  if (whileProbing !== undefined) checkChoice(WHO, 'whileProbing', whileProbing, ['refuse', 'queue']);
  if (cancelInFlight !== undefined) checkBoolean(WHO, 'cancelInFlight', cancelInFlight);
  checkCircuitAsk(WHO, options);
}

/** Throws unless the options of one call can be used. */
export function checkCircuitAsk<T>(who: string, { classify, isFailureResult, cancelAfterValue }: CircuitAsk<T>): void {
  if (classify !== undefined) checkFunction(who, 'classify', classify);
  if (isFailureResult !== undefined) checkFunction(who, 'isFailureResult', isFailureResult);
  if (cancelAfterValue !== undefined) checkChoice(who, 'cancelAfterValue', cancelAfterValue, ['success', 'neutral']);
}

export function makeWindow({ failures = 5, window }: CircuitBreakerOptions): BreakerWindow {
  if (window === undefined) return new ConsecutiveWindow(failures);
  checkObject(WHO, 'window', window);
  const { kind, size, min, rate, slowMs = Infinity, slowRate = 1 } = window;
  checkChoice(WHO, 'window.kind', kind, ['count', 'time']);
  checkCount(WHO, 'window.size', size, 1);
  checkCount(WHO, 'window.min', min, 1);
  if (kind === 'count' && min > size) refuse(RangeError, WHO, 'window.min', `at most window.size (${size})`, min);
  checkRate(WHO, 'window.rate', rate);
  if (window.slowMs !== undefined) checkMs(WHO, 'window.slowMs', slowMs, 1);
  checkRate(WHO, 'window.slowRate', slowRate);
  if (window.slowRate !== undefined && window.slowMs === undefined)
    refuse(TypeError, WHO, 'window.slowMs', 'given where there is window.slowRate', undefined);
  return kind === 'count' ? new CountWindow(size, { min, rate, slowMs, slowRate }) : new TimeWindow(size, { min, rate, slowMs, slowRate });
}

/** How long the breaker stays open this time. */
export function openTime(gate: string, options: CircuitBreakerOptions, trip: CircuitTrip): number {
  const { openMs = DEFAULT_OPEN_MS, jitterMs = 0, random = defaultRandom } = options;
  const ms = typeof openMs === 'function' ? openMs(trip) : openMs;
  const sum = ms + (jitterMs > 0 ? jitterMs * random() : 0);
  if (!Number.isFinite(sum) || ms < 0 || sum < ms)
    throw new BadAskError(gate, 'openMs with its jitter', 'a number of milliseconds, 0 or more', sum);
  return sum;
}
