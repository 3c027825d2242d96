import { isAbortShaped } from '../core/errors.js';
import { isGateError } from './errors.js';
import { causesOf, headerOf, read, statusOf } from './errorShape.js';
import { parseHttpDate } from './httpDate.js';

/** What an error says about the other side, and whether to try again. */
export type ErrorKind =
  /** It is there and asks for less: everybody should wait. */
  | 'throttle'
  /** It failed, and may not the next time. */
  | 'transient'
  /** It answered, and would answer the same again. */
  | 'fatal'
  /** It was not asked, or not waited for: a gate, a cancel. */
  | 'local'
  /** Nothing is known: a tool's own error. */
  | 'unknown';

export const ERROR_KINDS: readonly unknown[] = ['throttle', 'transient', 'fatal', 'local', 'unknown'] satisfies readonly ErrorKind[];

/** By the `type` of an API's error or the `name` of any. */
const KINDS: ReadonlyMap<unknown, ErrorKind> = new Map<unknown, ErrorKind>([
  ['overloaded_error', 'throttle'],
  ['rate_limit_error', 'throttle'],
  ['api_error', 'transient'],
  ['timeout_error', 'transient'],
  ['conflict_error', 'transient'],
  ['invalid_request_error', 'fatal'],
  ['authentication_error', 'fatal'],
  ['billing_error', 'fatal'],
  ['permission_error', 'fatal'],
  ['not_found_error', 'fatal'],
  ['request_too_large', 'fatal'],
  ['memory_precondition_failed_error', 'fatal'],
  ['memory_path_conflict_error', 'fatal'],
  ['TimeoutError', 'transient'],
  ['DeadlineExceededError', 'transient'],
  ['APIConnectionError', 'transient'],
  ['APIConnectionTimeoutError', 'transient'],
  ['RetryableError', 'transient'],
  ['StreamTruncatedError', 'transient'],
  ['ConnectionLostError', 'transient'],
  ['StreamStalledError', 'transient'],
  ['SseConnectionError', 'transient'],
  ['SseStalledError', 'transient'],
  ['SseContentTypeError', 'fatal'],
  ['VersionConflictError', 'fatal'],
  ['SseEventTooLargeError', 'fatal'],
  ['ToolInputError', 'fatal'],
  ['ToolInputCutOffError', 'fatal'],
  ['UnknownToolError', 'fatal'],
  ['ConversationBusyError', 'fatal'],
]);

const CONNECTION_CODE =
  /^(E(CONN(RESET|REFUSED|ABORTED)|(SOCKET)?TIMEDOUT|PIPE|AI_AGAIN|NOTFOUND|NET(DOWN|RESET|UNREACH)|HOST(DOWN|UNREACH))|ERR_(NETWORK|STREAM_PREMATURE_CLOSE)|UND_ERR_(\w+_TIMEOUT|SOCKET|CLOSED|DESTROYED))$/;

const SPEND_LIMITS: readonly unknown[] = ['enforced_spend_limit_reached', 'contract_spend_limit_reached'];

/** How many errors inside one are looked at. */
const MAX_LOOKS = 1000;

/**
 * Says what an error means to whoever counts failures or tries again. Recognises errors by their shape, whichever client
 * threw them, and looks down their causes. Never throws.
 *
 * ```ts
 * import { classifyError } from 'rxfleet';
 *
 * if (classifyError({ status: 529 }) !== 'throttle') throw new Error('unexpected');
 * if (classifyError(new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } })) !== 'transient') throw new Error('unexpected');
 * ```
 *
 * @param error - anything that was thrown
 * @returns `throttle` for 429, 529 and 503 with Retry-After; `transient` for other 5xx, 408, 409, resets and timeouts;
 * `fatal` for other 4xx and spend limits; `local` for refusals of gates and aborts; otherwise `unknown`. The header
 * `x-should-retry` is honoured both ways. Several errors in one are of the kind that they share, or unknown
 * @see CircuitBreaker for what counts as a failure
 */
export function classifyError(error: unknown): ErrorKind {
  try {
    return classify(error, { looks: MAX_LOOKS });
  } catch {
    return 'unknown';
  }
}

function classify(error: unknown, left: { looks: number }): ErrorKind {
  let kind: ErrorKind | undefined;
  let aborted = false;
  for (const each of causesOf(error)) {
    if (left.looks-- <= 0) break;
    if (kind === undefined && isMarked(each, isGateError)) return 'local';
    if (isSpendLimit(each)) return 'fatal';
    kind ??= kindOf(each, left);
    aborted ||= isMarked(each, isAbortShaped);
  }
  return kind ?? (aborted ? 'local' : 'unknown');
}

/** Marks are properties too, and those of a hostile object throw. */
function isMarked(error: object, mark: (error: unknown) => boolean): boolean {
  try {
    return mark(error);
  } catch {
    return false;
  }
}

function kindOf(error: object, left: { looks: number }): ErrorKind | undefined {
  const known = ofResponse(error) ?? KINDS.get(read(error, 'type')) ?? KINDS.get(read(error, 'name'));
  if (known !== undefined) return known;
  const code = read(error, 'code');
  return typeof code === 'string' && CONNECTION_CODE.test(code) ? 'transient' : ofAll(read(error, 'errors'), left);
}

function ofResponse(error: object): ErrorKind | undefined {
  const status = statusOf(error);
  const kind = status === undefined ? undefined : ofStatus(status, error);
  const again = headerOf(error, 'x-should-retry')?.toLowerCase();
  if (again === 'false') return 'fatal';
  return again === 'true' && kind !== 'throttle' ? 'transient' : kind;
}

function ofStatus(status: number, error: object): ErrorKind | undefined {
  if (status === 429 || status === 529) return 'throttle';
  if (status === 503 && (headerOf(error, 'retry-after') ?? headerOf(error, 'retry-after-ms')) !== undefined) return 'throttle';
  if (status >= 500 || status === 408 || status === 409) return 'transient';
  return status >= 400 ? 'fatal' : undefined;
}

/** Asking again does not help before somebody raises the limit, though the status says 429. */
function isSpendLimit(error: object): boolean {
  const body = read(error, 'error');
  const places = [error, body, read(body, 'error')];
  const codes = places.flatMap((place) => [read(place, 'errorCode'), read(place, 'code'), read(read(place, 'details'), 'error_code')]);
  return codes.some((code) => SPEND_LIMITS.includes(code));
}

/** The kind that several errors share. */
function ofAll(errors: unknown, left: { looks: number }): ErrorKind | undefined {
  if (!Array.isArray(errors)) return undefined;
  let shared: ErrorKind | undefined;
  for (const each of errors as readonly unknown[]) {
    const kind = classify(each, left);
    if (shared !== undefined && kind !== shared) return 'unknown';
    shared = kind;
  }
  return shared === 'unknown' ? undefined : shared;
}

/**
 * How long the server asks to wait.
 *
 * ```ts
 * import { retryAfterOf } from 'rxfleet';
 *
 * if (retryAfterOf({ status: 429, headers: { 'retry-after': '3' } }, 0) !== 3000) throw new Error('unexpected');
 * ```
 *
 * @param error - anything that was thrown; its causes are looked at as well
 * @param now - milliseconds since 1970, which a Retry-After with a date is relative to
 * @returns whole milliseconds, at least 1, from `retry-after-ms` or `retry-after` in seconds or as a date; undefined where
 * there is none, or it is 0, in the past or no time at all
 */
export function retryAfterOf(error: unknown, now: number): number | undefined {
  for (const each of causesOf(error)) {
    const wait = delay(headerOf(each, 'retry-after-ms'), 1, now) ?? delay(headerOf(each, 'retry-after'), 1000, now);
    if (wait !== undefined) return wait;
  }
  return undefined;
}

function delay(value: string | undefined, unit: number, now: number): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d+(\.\d*)?$/.test(value) ? Number(value) * unit : (parseHttpDate(value) ?? NaN) - now;
  return ms > 0 ? Math.min(Math.ceil(ms), Number.MAX_SAFE_INTEGER) : undefined;
}
