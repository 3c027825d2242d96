import type { IncomingMessage, ServerResponse } from 'node:http';
import { errorBody, errorTypeOf } from './apiError.js';
import type { OpenRecord, RequestLog, RequestState } from './log.js';
import type { ApiErrorInit } from './reply.js';
import { frame } from './sse.js';

type Headers = Readonly<Record<string, string>>;

/** One request and its response. Whatever ends it ends it once, and its signal tells every timer that belongs to it. */
export class Exchange {
  readonly record: OpenRecord;
  readonly request: IncomingMessage;
  /** Tokens of the whole reply, known once it is planned. */
  plannedTokens = 0;
  readonly #finishesAlone: boolean;
  readonly #response: ServerResponse;
  readonly #log: RequestLog;
  #headers: Headers;
  readonly #gone = new AbortController();

  /** With `finishesAlone` the model goes on when the client has left. */
  constructor(record: OpenRecord, request: IncomingMessage, response: ServerResponse, log: RequestLog, finishesAlone: boolean) {
    this.record = record;
    this.request = request;
    this.#finishesAlone = finishesAlone;
    this.#response = response;
    this.#log = log;
    this.#headers = { 'request-id': record.id };
    response.on('finish', () => this.#end('completed'));
    response.on('close', () => this.#end('closed-by-client'));
    response.on('error', () => this.#end('closed-by-client'));
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  get ended(): boolean {
    return this.record.state !== 'open';
  }

  get headersSent(): boolean {
    return this.#response.headersSent;
  }

  addHeaders(headers: Headers): void {
    this.#headers = { ...this.#headers, ...headers };
  }

  head(status: number, headers: Headers): void {
    this.#response.writeHead(status, { ...this.#headers, ...headers });
    this.#response.flushHeaders();
    this.#log.answered(this.record, status);
  }

  /** Resolves when the client has taken it (or has gone): a client that does not read holds the generation back. */
  async write(text: string): Promise<void> {
    if (this.ended || this.#response.write(text)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#response.off('drain', done);
        this.signal.removeEventListener('abort', done);
        resolve();
      };
      this.#response.on('drain', done);
      this.signal.addEventListener('abort', done);
    });
  }

  async event(name: string, data: unknown, tokens: number): Promise<void> {
    if (this.ended) return;
    this.record.events += 1;
    this.#log.wrote(this.record, tokens - this.record.outputTokens);
    await this.write(frame(name, data));
  }

  generated(tokens: number): void {
    this.#log.wrote(this.record, tokens);
  }

  /** A whole JSON response. */
  json(status: number, body: unknown, headers: Headers = {}): void {
    if (this.ended) return;
    const text = JSON.stringify(body);
    this.head(status, { ...headers, 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) });
    this.complete(text);
  }

  fail(status: number, init: ApiErrorInit, headers: Headers = {}): void {
    const body = errorBody(init.type ?? errorTypeOf(status), init, this.record.id);
    this.record.error = body.error.message;
    this.json(status, body, headers);
  }

  /** Something went wrong on this side: a 500 if there is still time for one. */
  crash(error: unknown): void {
    if (this.headersSent) this.drop();
    else this.fail(500, { message: error instanceof Error ? error.message : String(error) });
  }

  complete(lastWords?: string): void {
    this.#response.end(lastWords);
  }

  /** A clean end of what has been sent so far; before the headers, of the connection. */
  fin(lastWords?: string): void {
    this.#end('closed-by-server');
    if (this.headersSent) this.#response.end(lastWords);
    else this.#response.socket?.destroySoon();
  }

  reset(): void {
    this.#end('closed-by-server');
    this.#response.socket?.resetAndDestroy();
  }

  /** Drops the connection: the server is closing. */
  drop(): void {
    this.#end('closed-by-server');
    this.#response.destroy();
  }

  /** Resolves after `ms`, or at once when the exchange has ended. No timer survives the exchange. */
  pause(ms: number): Promise<void> {
    if (ms <= 0 || this.ended) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.signal.addEventListener('abort', done);
    });
  }

  /** Resolves when the exchange has ended. */
  over(): Promise<void> {
    if (this.ended) return Promise.resolve();
    return new Promise((resolve) => this.signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  #end(state: Exclude<RequestState, 'open'>): void {
    if (this.ended) return;
    const { outputTokens } = this.record;
    if (state === 'closed-by-client' && this.#finishesAlone) this.#log.wasted(this.record, Math.max(0, this.plannedTokens - outputTokens));
    this.#log.end(this.record, state);
    this.#gone.abort();
  }
}
