import { SseContentTypeError, SseStatusError, type SseResponseInit } from './sseErrors.js';
import type { SseResponder } from './sseConnection.js';
import type { SseRequestInit } from './sseOptions.js';

/** A request for an address. */
export function requestTo(url: string | URL, init: SseRequestInit, fetch: typeof globalThis.fetch): SseResponder {
  return (signal, lastEventId) => {
    const headers = new Headers(init.headers);
    if (!headers.has('accept')) headers.set('accept', 'text/event-stream');
    const id = headerValue(lastEventId);
    if (id !== undefined) headers.set('last-event-id', id);
    return fetch(url, { cache: 'no-store', ...init, headers, signal });
  };
}

const LONGEST_ID = 4096;

/** A header is a string of bytes; an id that cannot be one is not sent, as a request with it would never leave. */
function headerValue(id: string): string | undefined {
  if (id.length > LONGEST_ID) return undefined;
  const bytes = String.fromCharCode(...new TextEncoder().encode(id));
  return /^[\t\x20-\x7e\x80-\xff]+$/.test(bytes) ? bytes : undefined;
}

/** The status with which a server tells clients to stay away. */
export const NO_CONTENT = 204;

/** Whether a response is an event stream. */
export function isEventStream({ status, headers }: Response): boolean {
  return isSuccess(status) && contentType(headers) === 'text/event-stream';
}

/** What a response that is none errors with. */
export function refusalOf({ status, headers }: Response, init: Omit<SseResponseInit, 'status'>): SseStatusError | SseContentTypeError {
  if (isSuccess(status)) return new SseContentTypeError(contentType(headers), { ...init, status });
  return new SseStatusError(retryHeaders(headers), { ...init, status });
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

const TYPE = /^\s*([\w!#$&^.+-]{1,60}\/[\w!#$&^.+-]{1,60})\s*(?:[;,]|$)/;

/** Type and subtype, and nothing else of the header. */
function contentType(headers: Headers): string | null {
  return TYPE.exec(headers.get('content-type') ?? '')?.[1]?.toLowerCase() ?? null;
}

function retryHeaders(headers: Headers): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of ['retry-after', 'retry-after-ms', 'x-should-retry']) {
    const value = headers.get(name);
    if (value !== null) found[name] = value;
  }
  return found;
}

/** How the platforms word that there is no connection. */
const NETWORK = /fetch failed|failed to fetch|networkerror|network error|load failed|network connection|error sending request|terminated/i;

/** Whether a request failed in the network, not in the code that sent it. */
export function isNetworkFault(error: unknown): boolean {
  return error instanceof TypeError && NETWORK.test(error.message);
}
