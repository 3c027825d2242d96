import { asyncScheduler, type SchedulerLike, type Subscription } from 'rxjs';
import { innermost } from '../core/call.js';
import { classifyError, retryAfterOf } from '../gates/classifyError.js';
import { refuse } from './checks.js';
import { SseBackoff } from './sseBackoff.js';
import { SseConnection, type SseResponder } from './sseConnection.js';
import { isSseConnectionError, isSseStalledError, SseConnectionError, SseStalledError, type SseErrorInit } from './sseErrors.js';
import type { FromSseOptions } from './sseOptions.js';
import { SseParser, type ServerSentEvent } from './sseParser.js';
import { isEventStream, isNetworkFault, NO_CONTENT, refusalOf } from './sseRequest.js';
import { Watchdog } from './watchdog.js';

type Step = IteratorResult<ServerSentEvent, undefined>;

const DONE: Step = { done: true, value: undefined };
const MAX_EVENT_BYTES = 2 ** 24;
/** How much of an error page is read, and for how long. */
const EXCERPT_BYTES = 4096;
const EXCERPT_MS = 1000;

function ignore(): void {
  // The error that led here goes out.
}

/**
 * One subscription to an event stream as an async iterator, over one connection or several in a row. `return()` closes the
 * connection at once, also while the stream is quiet, and resolves when it is closed.
 */
export class SseStream implements AsyncIterator<ServerSentEvent, undefined>, AsyncIterable<ServerSentEvent> {
  private readonly scheduler: SchedulerLike;
  private readonly parser: SseParser;
  private readonly watchdog: Watchdog;
  private readonly backoff: SseBackoff | undefined;
  private connection: SseConnection | undefined = undefined;
  private openedAt: number | undefined = undefined;
  private pending: Promise<Step> | undefined = undefined;
  private stopped = false;
  private onSilence: () => SseStalledError | undefined = () => undefined;
  private stall: SseStalledError | undefined = undefined;
  private timer: Subscription | undefined = undefined;
  private wake: () => void = ignore;

  /** @param platform - whether it is the platform's own fetch that `ask` calls, so that whatever it rejects with is the network's doing */
  constructor(
    private readonly ask: SseResponder,
    private readonly platform: boolean,
    private readonly options: FromSseOptions,
  ) {
    const { scheduler, maxEventBytes = MAX_EVENT_BYTES, reconnect } = options;
    this.scheduler = scheduler ?? innermost(undefined)?.env.clock.scheduler ?? asyncScheduler;
    this.parser = new SseParser(maxEventBytes);
    this.watchdog = new Watchdog(this.scheduler, () => this.giveUp());
    this.backoff = reconnect ? new SseBackoff(reconnect) : undefined;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Step> {
    return (this.pending = this.pull());
  }

  /** Closes the connection. */
  async return(): Promise<Step> {
    this.stopped = true;
    this.watchdog.stop();
    this.timer?.unsubscribe();
    this.wake();
    const closing = this.connection?.close();
    closing?.catch(ignore);
    await this.pending?.catch(ignore);
    await closing;
    return DONE;
  }

  private async pull(): Promise<Step> {
    try {
      while (!this.stopped) {
        const value = this.parser.next();
        if (value !== undefined) {
          this.backoff?.succeeded();
          return { done: false, value };
        }
        if (!(await this.read())) break;
      }
      return DONE;
    } catch (error) {
      this.drop();
      if (this.stopped) return DONE;
      throw error;
    }
  }

  /** Brings the parser more bytes; false at the end of the stream. */
  private async read(): Promise<boolean> {
    let fault: unknown;
    try {
      const connection = this.connection ?? (await this.connect());
      if (connection === undefined) return false;
      const chunk = await this.chunkOf(connection);
      if (chunk !== undefined && this.stall === undefined) {
        this.watchdog.touch();
        this.parser.push(chunk);
        return true;
      }
    } catch (error) {
      fault = error;
    }
    if (this.stopped) return false;
    this.drop();
    return this.again(this.stall ?? fault);
  }

  private async chunkOf(connection: SseConnection): Promise<Uint8Array | undefined> {
    let chunk: Uint8Array | undefined;
    try {
      chunk = await connection.read();
    } catch (error) {
      throw new SseConnectionError('body', this.known(error));
    }
    if (chunk !== undefined && !ArrayBuffer.isView(chunk)) throw new TypeError('fromSse: the body of the Response must consist of bytes.');
    return chunk;
  }

  /** Nothing if the server has nothing to send. */
  private async connect(): Promise<SseConnection | undefined> {
    const { headersMs = Infinity, idleMs = Infinity } = this.options;
    const connection = (this.connection = new SseConnection());
    this.stall = this.openedAt = undefined;
    this.watch(headersMs, () => new SseStalledError('headers', headersMs, this.known()));
    const response = await this.responseOf(connection);
    if (this.stopped) return undefined;
    if (response.status === NO_CONTENT) return this.drop();
    if (!isEventStream(response)) throw await this.refusal(connection, response);
    this.openedAt = this.scheduler.now();
    this.watch(idleMs, () => new SseStalledError('body', idleMs, this.known()));
    return connection;
  }

  private async responseOf(connection: SseConnection): Promise<Response> {
    try {
      return await connection.open(this.ask, this.parser.lastEventId);
    } catch (error) {
      throw this.platform || isNetworkFault(error) ? new SseConnectionError('open', this.known(error)) : error;
    }
  }

  private async refusal(connection: SseConnection, response: Response): Promise<Error> {
    this.watch(EXCERPT_MS, () => undefined);
    return refusalOf(response, { ...this.known(), body: await connection.excerpt(EXCERPT_BYTES) });
  }

  /** Waits until it is time to connect again; false where the stream ends instead, and throws what it ends with. */
  private async again(fault: unknown): Promise<boolean> {
    if (this.backoff === undefined) {
      if (fault === undefined) return false;
      throw fault;
    }
    const ms = isPassing(fault) ? this.delay(this.backoff, fault) : undefined;
    if (ms === undefined) throw fault ?? new SseConnectionError('closed', this.known());
    if (this.stopped) return false;
    this.parser.restart();
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      this.timer = this.scheduler.schedule(() => resolve(), ms);
    });
    return !this.stopped;
  }

  /** Undefined if it would be too long, or once too often. A connection that stood as long as the longest wait is no failure. */
  private delay(backoff: SseBackoff, fault: unknown): number | undefined {
    const now = this.scheduler.now();
    const { random = Math.random } = this.options.reconnect || {};
    if (this.openedAt !== undefined && now - this.openedAt >= backoff.maxMs) backoff.succeeded();
    const after = retryAfterOf(fault, now);
    if (after !== undefined && after > backoff.maxMs) return undefined;
    const chance = random();
    if (!(chance >= 0 && chance < 1))
      refuse(RangeError, 'fromSse', 'what reconnect.random gives', 'from 0 up to, but not including, 1', chance);
    const ms = backoff.next(this.parser.retry, chance);
    return ms === undefined || after === undefined ? ms : Math.max(ms, after);
  }

  private watch(ms: number, onSilence: () => SseStalledError | undefined): void {
    this.onSilence = onSilence;
    this.watchdog.watch(ms);
  }

  private giveUp(): void {
    this.stall = this.onSilence();
    this.connection?.close().catch(ignore);
  }

  /** Closes the connection, and waits for nothing. */
  private drop(): undefined {
    this.watchdog.stop();
    this.connection?.close().catch(ignore);
    this.connection = undefined;
  }

  private known(cause?: unknown): SseErrorInit {
    const { events, lastEventId } = this.parser;
    return { events, lastEventId, ...(cause === undefined ? {} : { cause }) };
  }
}

/** Whether it may be gone the next time. A connection that simply ended has no fault. */
function isPassing(fault: unknown): boolean {
  if (fault === undefined || isSseConnectionError(fault) || isSseStalledError(fault)) return true;
  const kind = classifyError(fault);
  return kind === 'throttle' || kind === 'transient';
}
