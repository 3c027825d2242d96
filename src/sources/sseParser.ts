import { SseEventTooLargeError } from './sseErrors.js';
import { SseLines } from './sseLines.js';

/** One event of a server. */
export interface ServerSentEvent {
  /** The name; `message` if it has none. */
  readonly event: string;
  /** The data; several lines are joined by LF. */
  readonly data: string;
  /** The last id that the server sent, with this event or before it; empty if there was none. */
  readonly id: string;
  /** The milliseconds to wait before connecting again, if they came with this event. */
  readonly retry?: number;
}

const COLON = 58;

/**
 * The event stream format of the HTML standard as a machine: chunks of bytes go in, cut anywhere, and events come out.
 * An event that is not complete at the end is never seen.
 */
export class SseParser {
  /** What goes into `Last-Event-ID` when connecting again. */
  lastEventId = '';
  /** The milliseconds that the server wants clients to wait before they connect again. */
  retry: number | undefined = undefined;
  /** How many events have come out. */
  events = 0;
  private readonly lines = new SseLines();
  /** Whatever is no UTF-8 becomes U+FFFD. */
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  private name = '';
  private data: string[] = [];
  private dataBytes = 0;
  private id = '';
  private ownRetry: number | undefined = undefined;

  /** @param maxEventBytes - the most that the data of one event and the line that is being read may have together */
  constructor(private readonly maxEventBytes: number = Infinity) {
    this.lines.room = maxEventBytes;
  }

  /** Takes the next chunk, once `next` has nothing left of the one before. */
  push(chunk: Uint8Array): void {
    this.lines.push(chunk);
  }

  /** Another connection: the last id and `retry` stay. */
  restart(): void {
    this.lines.restart();
    this.id = this.lastEventId;
    this.clear();
  }

  /** The next event; undefined if it takes more bytes to complete one. */
  next(): ServerSentEvent | undefined {
    for (;;) {
      const line = this.lines.next();
      if (line === undefined) return undefined;
      if (line === null) throw new SseEventTooLargeError(this.maxEventBytes, this);
      if (line.length > 0) this.field(line);
      else {
        const event = this.dispatch();
        if (event !== undefined) return event;
      }
    }
  }

  private field(line: Uint8Array): void {
    if (line[0] === COLON) return;
    const text = this.decoder.decode(line);
    const colon = text.indexOf(':');
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? '' : text.slice(text[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') this.addData(value, line.length - (text.length - value.length));
    else if (name === 'event') this.name = value;
    else if (name === 'id' && !value.includes('\0')) this.id = value;
    else if (name === 'retry' && /^[0-9]+$/.test(value)) this.retry = this.ownRetry = Math.min(Number(value), Number.MAX_SAFE_INTEGER);
  }

  /** Every line of data counts one byte more, for the LF that joins it to the next. */
  private addData(value: string, bytes: number): void {
    this.data.push(value);
    this.dataBytes += bytes + 1;
    this.lines.room = this.maxEventBytes - this.dataBytes;
  }

  private dispatch(): ServerSentEvent | undefined {
    const { name, data, ownRetry } = this;
    const id = (this.lastEventId = this.id);
    this.clear();
    if (data.length === 0) return undefined;
    this.events++;
    return { event: name || 'message', data: data.join('\n'), id, ...(ownRetry === undefined ? {} : { retry: ownRetry }) };
  }

  private clear(): void {
    this.name = '';
    this.data = [];
    this.dataBytes = 0;
    this.ownRetry = undefined;
    this.lines.room = this.maxEventBytes;
  }
}
