import type { SchedulerLike } from 'rxjs';
import { checkFunction, checkScopeOptions } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import { checkCount, checkMilliseconds, refuse } from './checks.js';
import type { SseReconnectOptions } from './sseBackoff.js';
import type { SseResponder } from './sseConnection.js';

/** What can be asked with an address and options, and has no signal: unsubscribing is the signal. */
export type SseRequestInit = Omit<RequestInit, 'signal'>;

export interface FromSseOptions {
  /** The enclosing scope. Default: the one in whose synchronous subscribe chain it is subscribed, if any. */
  readonly within?: ScopeContext | undefined;
  /** Name of the call in reports and dumps. Default `sse`. */
  readonly label?: string | undefined;
  /** What tells the time. Default: the enclosing scope's, else asyncScheduler. */
  readonly scheduler?: SchedulerLike | undefined;
  /** Method, headers, body and whatever else `fetch` takes. Only with an address. */
  readonly init?: SseRequestInit | undefined;
  /** What sends the request. Default: the platform's `fetch`. Only with an address. */
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Longest wait for the response headers, in milliseconds. Default Infinity. */
  readonly headersMs?: number | undefined;
  /** Longest silence in the body, in milliseconds; comments are a sign of life. Default Infinity. */
  readonly idleMs?: number | undefined;
  /** The most bytes that one event may have: an integer of at least 1, or Infinity. Default 16 MiB. */
  readonly maxEventBytes?: number | undefined;
  /** Connects again when the connection ends, whoever ended it. Not where the body of the request is a stream. Default false: a request is never repeated. */
  readonly reconnect?: false | SseReconnectOptions | undefined;
}

const WHO = 'fromSse';
/** The longest delay of a timer, less the spread of a wait. */
const LONGEST_WAIT = 2 ** 30;

export function checkSse(source: string | URL | SseResponder, options: FromSseOptions): void {
  if (typeof options !== 'object' || options === null) refuse(TypeError, WHO, 'options', 'an object', options);
  const { init, fetch, headersMs, idleMs, maxEventBytes, reconnect, within, label, scheduler } = options;
  checkScopeOptions(WHO, { within, label, scheduler });
  if (fetch !== undefined) checkFunction(WHO, 'fetch', fetch);
  if (headersMs !== undefined) checkMilliseconds(WHO, 'headersMs', headersMs);
  if (idleMs !== undefined) checkMilliseconds(WHO, 'idleMs', idleMs);
  if (maxEventBytes !== undefined) checkCount(WHO, 'maxEventBytes', maxEventBytes);
  if (reconnect !== undefined && reconnect !== false) checkReconnect(reconnect);
  if (typeof source === 'function') checkNoRequest(init, fetch);
  else checkRequest(source, init, fetch);
  if (reconnect && isUsedUp(init?.body)) deny('init.body', 'something that can be sent again, not a stream, where there is `reconnect`');
}

/** Whether it is gone once it was sent. */
function isUsedUp(body: unknown): boolean {
  return typeof body === 'object' && body !== null && ('getReader' in body || Symbol.asyncIterator in body);
}

function checkReconnect(reconnect: SseReconnectOptions): void {
  if (typeof reconnect !== 'object' || reconnect === null) refuse(TypeError, WHO, 'reconnect', 'false or an object', reconnect);
  const { maxRetries, minMs, maxMs, random } = reconnect;
  checkCount(WHO, 'reconnect.maxRetries', maxRetries);
  checkWait('reconnect.minMs', minMs);
  checkWait('reconnect.maxMs', maxMs);
  if (random !== undefined) checkFunction(WHO, 'reconnect.random', random);
}

function checkWait(option: string, ms: number | undefined): void {
  if (ms === undefined) return;
  checkMilliseconds(WHO, option, ms);
  if (ms > LONGEST_WAIT) refuse(RangeError, WHO, option, `at most ${LONGEST_WAIT} milliseconds`, ms);
}

function checkNoRequest(init: unknown, fetch: unknown): void {
  if (init !== undefined) deny('init', 'left out where a function sends the request');
  if (fetch !== undefined) deny('fetch', 'left out where a function sends the request');
}

/** What the platform would refuse later and show in full, secrets and all, is refused here without a word of it. */
function checkRequest(source: unknown, init: SseRequestInit | undefined, fetch: unknown): void {
  if (typeof source !== 'string' && !(source instanceof URL))
    refuse(TypeError, WHO, 'source', 'an address or a function that gives a Response', source);
  if (init !== undefined && (typeof init !== 'object' || init === null)) refuse(TypeError, WHO, 'init', 'an object', init);
  if ((init as RequestInit | undefined)?.signal) deny('init.signal', 'left out: unsubscribing is the signal');
  if (fetch === undefined && typeof globalThis.fetch !== 'function') deny('fetch', 'given where the platform has none');
  checkAddress(source);
  if (!isLegal(() => new Headers(init?.headers))) deny('init.headers', 'legal HTTP headers');
}

function checkAddress(source: string | URL): void {
  const base = (globalThis.location as Location | undefined)?.href;
  let url: URL | undefined;
  if (!isLegal(() => (url = new URL(source, base))) || url === undefined) deny('source', 'a valid address');
  if (url.username !== '' || url.password !== '') deny('source', 'an address without a user and a password: they belong in a header');
}

/** Without what it was given: that may be secret. */
function deny(option: string, range: string): never {
  throw new TypeError(`${WHO}: ${option} must be ${range}.`);
}

function isLegal(task: () => unknown): boolean {
  try {
    task();
    return true;
  } catch {
    return false;
  }
}
