import { brandError, describeError, hasBrand } from '../core/errors.js';
import { withoutSecrets } from '../core/redact.js';

/** What every error of an event stream knows: where to go on from. */
export interface SseErrorInit extends ErrorOptions {
  /** How many events had arrived. */
  readonly events: number;
  /** What a server that can resume is given as `Last-Event-ID`; empty if it never sent an id. */
  readonly lastEventId: string;
}

const LONGEST_QUOTE = 200;

function after({ events }: SseErrorInit): string {
  return `after ${events} event${events === 1 ? '' : 's'}`;
}

/** An error and its causes in one line. The query of an address may hold a key. */
function quoteCauses(error: unknown): string {
  const words: string[] = [];
  for (let each = error; each !== undefined && words.length < 4; each = each instanceof Error ? each.cause : undefined) {
    words.push(describeError(each).replace(/\.$/, ''));
  }
  return withoutSecrets(words.join(': ').replace(/\?[^\s"')]+/g, '?…'), LONGEST_QUOTE);
}

function quoteBody(body: string): string {
  const quote = withoutSecrets(body, LONGEST_QUOTE);
  return quote === '' ? '.' : `: ${quote}`;
}

/** No connection could be made, or it broke before the response was complete. `cause` is what the platform reported. */
export class SseConnectionError extends Error {
  override readonly name = 'SseConnectionError';
  /** What failed: `open`ing the connection, its `body` in the middle, or a connection that the server `closed` once too often. */
  readonly phase: 'open' | 'body' | 'closed';
  readonly events: number;
  readonly lastEventId: string;

  constructor(phase: 'open' | 'body' | 'closed', init: SseErrorInit) {
    const what = { open: 'could not be opened', body: 'broke off', closed: 'was closed by the server again' }[phase];
    super(`The event stream ${what} ${after(init)}${init.cause === undefined ? '' : `: ${quoteCauses(init.cause)}`}.`, init);
    this.phase = phase;
    this.events = init.events;
    this.lastEventId = init.lastEventId;
    brandError(this, 'SseConnectionError');
  }
}

/** Whether `error` is an SseConnectionError of any copy of this package. */
export function isSseConnectionError(error: unknown): error is SseConnectionError {
  return hasBrand(error, 'SseConnectionError');
}

/** Nothing arrived for too long, and the connection was closed. */
export class SseStalledError extends Error {
  override readonly name = 'SseStalledError';
  /** What was waited for: the response `headers`, or more of its `body`. */
  readonly phase: 'headers' | 'body';
  /** How long it was silent, in milliseconds. */
  readonly ms: number;
  readonly events: number;
  readonly lastEventId: string;

  constructor(phase: 'headers' | 'body', ms: number, init: SseErrorInit) {
    const what = phase === 'headers' ? 'No response headers arrived' : 'The event stream fell silent';
    super(`${what} for ${ms} ms ${after(init)}.`, init);
    this.phase = phase;
    this.ms = ms;
    this.events = init.events;
    this.lastEventId = init.lastEventId;
    brandError(this, 'SseStalledError');
  }
}

/** Whether `error` is an SseStalledError of any copy of this package. */
export function isSseStalledError(error: unknown): error is SseStalledError {
  return hasBrand(error, 'SseStalledError');
}

/** What a response that is no event stream was. */
export interface SseResponseInit extends SseErrorInit {
  readonly status: number;
  /** The beginning of its body. */
  readonly body: string;
}

/** The server answered with a status other than 2xx. */
export class SseStatusError extends Error {
  override readonly name = 'SseStatusError';
  readonly status: number;
  /** The beginning of the response: at most 4096 bytes of it. */
  readonly body: string;
  /** Those headers of the response that say whether and when to come back: `retry-after`, `retry-after-ms`, `x-should-retry`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly events: number;
  readonly lastEventId: string;

  constructor(headers: Readonly<Record<string, string>>, init: SseResponseInit) {
    super(`The server answered with status ${init.status} instead of an event stream${quoteBody(init.body)}`, init);
    this.status = init.status;
    this.body = init.body;
    this.headers = headers;
    this.events = init.events;
    this.lastEventId = init.lastEventId;
    brandError(this, 'SseStatusError');
  }
}

/** Whether `error` is an SseStatusError of any copy of this package. */
export function isSseStatusError(error: unknown): error is SseStatusError {
  return hasBrand(error, 'SseStatusError');
}

/** The response is not of type `text/event-stream`. */
export class SseContentTypeError extends Error {
  override readonly name = 'SseContentTypeError';
  readonly status: number;
  /** Type and subtype, as in `text/html`; null if the response has none. */
  readonly contentType: string | null;
  /** The beginning of the response: at most 4096 bytes of it. */
  readonly body: string;
  readonly events: number;
  readonly lastEventId: string;

  constructor(contentType: string | null, init: SseResponseInit) {
    const type = contentType === null ? 'without a content type' : `of type ${contentType}`;
    super(`The server answered with a response ${type} instead of text/event-stream${quoteBody(init.body)}`, init);
    this.status = init.status;
    this.contentType = contentType;
    this.body = init.body;
    this.events = init.events;
    this.lastEventId = init.lastEventId;
    brandError(this, 'SseContentTypeError');
  }
}

/** Whether `error` is an SseContentTypeError of any copy of this package. */
export function isSseContentTypeError(error: unknown): error is SseContentTypeError {
  return hasBrand(error, 'SseContentTypeError');
}

/** One event was longer than `maxEventBytes`. */
export class SseEventTooLargeError extends Error {
  override readonly name = 'SseEventTooLargeError';
  readonly maxEventBytes: number;
  readonly events: number;
  readonly lastEventId: string;

  constructor(maxEventBytes: number, init: SseErrorInit) {
    super(`An event is longer than ${maxEventBytes} bytes, ${after(init)}.`, init);
    this.maxEventBytes = maxEventBytes;
    this.events = init.events;
    this.lastEventId = init.lastEventId;
    brandError(this, 'SseEventTooLargeError');
  }
}

/** Whether `error` is an SseEventTooLargeError of any copy of this package. */
export function isSseEventTooLargeError(error: unknown): error is SseEventTooLargeError {
  return hasBrand(error, 'SseEventTooLargeError');
}
