import type Anthropic from '@anthropic-ai/sdk';
import { StreamStalledError, StreamTruncatedError, type ReplyErrorInit } from './errors.js';
import { bodyError, requestError } from './modelErrors.js';
import { schedulerOf, sdkOptions, type MessageParams, type MessagesClient, type RequestOptions } from './request.js';
import { Watchdog } from './watchdog.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;
type Step = IteratorResult<StreamEvent, undefined>;

const HEADERS_MS = 120_000;
const IDLE_MS = 300_000;
/** How long a connection may take to end after `message_stop`, so that it can be used again. */
const AFTERWARDS_MS = 1_000;
const DONE: Step = { done: true, value: undefined };

/**
 * One streamed request as an async iterator. It ends only with `message_stop`; every other end is an error that says what happened.
 * `return()` closes the connection at once, also while the stream is quiet, and resolves when the client has let go of it.
 */
export class EventStream implements AsyncIterator<StreamEvent, undefined>, AsyncIterable<StreamEvent> {
  private readonly controller = new AbortController();
  private readonly watchdog: Watchdog;
  private source: AsyncIterator<StreamEvent> | undefined = undefined;
  private pending: Promise<Step> | undefined = undefined;
  private requestId: string | null = null;
  private events = 0;
  private stopped = false;
  private complete = false;
  private stall: StreamStalledError | undefined = undefined;

  constructor(
    private readonly client: MessagesClient,
    private readonly params: MessageParams,
    private readonly options: RequestOptions,
  ) {
    this.watchdog = new Watchdog(schedulerOf(options), () => this.giveUp());
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Step> {
    return (this.pending = this.source === undefined ? this.open() : this.read(this.source));
  }

  /** Closes the connection. */
  async return(): Promise<Step> {
    this.stopped = true;
    this.watchdog.stop();
    this.controller.abort();
    await this.pending?.catch(() => undefined);
    return DONE;
  }

  private async open(): Promise<Step> {
    const { client, params, options, controller, watchdog } = this;
    let source: AsyncIterator<StreamEvent>;
    watchdog.watch(options.headersMs ?? HEADERS_MS);
    try {
      const sent = client.messages.create({ ...params, stream: true }, sdkOptions(options, controller.signal));
      const { data, response, request_id } = await sent.withResponse();
      if (this.stopped) return DONE;
      this.requestId = request_id ?? null;
      options.onResponse?.({ requestId: this.requestId, headers: response.headers });
      source = this.source = data[Symbol.asyncIterator]();
    } catch (error) {
      watchdog.stop();
      controller.abort();
      if (this.stopped) return DONE;
      throw this.stall ?? requestError(error, this.known());
    }
    watchdog.watch(options.idleMs ?? IDLE_MS);
    return this.read(source);
  }

  private read(source: AsyncIterator<StreamEvent>): Promise<Step> {
    return source.next().then(this.onStep, this.onError);
  }

  private readonly onStep = (step: IteratorResult<StreamEvent>): Step => {
    if (this.stopped) return DONE;
    if (step.done === true) return this.onEnd();
    this.events++;
    this.watchdog.touch();
    if (step.value.type === 'message_stop') {
      this.complete = true;
      this.watchdog.watch(AFTERWARDS_MS);
    }
    return step;
  };

  private onEnd(): Step {
    this.watchdog.stop();
    if (this.complete) return DONE;
    throw this.stall ?? new StreamTruncatedError(this.known());
  }

  private readonly onError = (error: unknown): Step => {
    this.watchdog.stop();
    if (this.stopped || this.complete) return DONE;
    this.controller.abort();
    throw this.stall ?? bodyError(error, this.known());
  };

  private giveUp(): void {
    const { headersMs = HEADERS_MS, idleMs = IDLE_MS } = this.options;
    const phase = this.source === undefined ? 'headers' : 'body';
    this.stall = new StreamStalledError(phase, phase === 'headers' ? headersMs : idleMs, this.known());
    this.controller.abort();
  }

  private known(): ReplyErrorInit {
    return { requestId: this.requestId, events: this.events };
  }
}
