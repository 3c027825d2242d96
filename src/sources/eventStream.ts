import type Anthropic from '@anthropic-ai/sdk';
import { StreamStalledError, StreamTruncatedError, type ReplyErrorInit } from './errors.js';
import { bodyError, requestError } from './modelErrors.js';
import { schedulerOf, sdkOptions, type MessageParams, type MessagesClient, type RequestOptions } from './request.js';
import type { UsageMeter } from './usageRecord.js';
import { Watchdog } from './watchdog.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;
type Step = IteratorResult<StreamEvent, undefined>;

const HEADERS_MS = 120_000;
const IDLE_MS = 300_000;
/** How long a connection may take to end after `message_stop`, so that it can be used again. */
const AFTERWARDS_MS = 1_000;
/** Some platforms forget the read that waits when its response had just ended as it was aborted: so long it is waited for. */
const LET_GO_MS = 50;
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
  private stall: StreamStalledError | undefined = undefined;

  constructor(
    private readonly client: MessagesClient,
    private readonly params: MessageParams,
    private readonly options: RequestOptions,
    private readonly meter: UsageMeter,
  ) {
    this.watchdog = new Watchdog(schedulerOf(options), () => this.giveUp());
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Step> {
    return (this.pending = this.source === undefined ? this.open() : this.read(this.source));
  }

  /** Closes the connection, or reads what is left where nobody sees it. */
  async return(): Promise<Step> {
    this.stopped = true;
    const { meter } = this;
    if (meter.begun && !meter.done && this.options.onCancel === 'drain') await this.drain();
    meter.cancel();
    this.watchdog.stop();
    this.controller.abort();
    if (!meter.done) await this.letGo();
    return DONE;
  }

  /** Resolves when the client has let go of the connection. */
  private async letGo(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, LET_GO_MS)));
    await Promise.race([this.pending?.catch(() => undefined), late]);
    clearTimeout(timer);
  }

  /** Also where the answer has not begun: the model works on it by then. */
  private async drain(): Promise<void> {
    this.meter.finishing = true;
    try {
      await this.pending;
      while (this.source !== undefined && !this.meter.done) {
        const step = await this.source.next();
        if (step.done === true) return;
        this.heard(step.value);
      }
    } catch {
      // It broke off: what was seen of it is told.
    }
  }

  private heard(event: StreamEvent): void {
    this.events++;
    this.watchdog.touch();
    this.meter.take(event);
    if ((event as StreamEvent | null)?.type !== 'message_stop') return;
    this.meter.complete();
    this.watchdog.watch(AFTERWARDS_MS);
  }

  private async open(): Promise<Step> {
    const { client, params, options, controller, watchdog } = this;
    let source: AsyncIterator<StreamEvent>;
    watchdog.watch(options.headersMs ?? HEADERS_MS);
    try {
      const sent = client.messages.create({ ...params, stream: true }, sdkOptions(options, controller.signal, this.meter));
      const { data, response, request_id } = await sent.withResponse();
      if (this.stopped && this.options.onCancel !== 'drain') return DONE;
      this.requestId = request_id ?? null;
      this.meter.answer(this.requestId);
      options.onResponse?.({ requestId: this.requestId, headers: response.headers });
      source = this.source = data[Symbol.asyncIterator]();
    } catch (error) {
      watchdog.stop();
      const draining = this.meter.finishing && !controller.signal.aborted;
      controller.abort();
      if (this.stopped && !draining) return DONE;
      const failure = this.stall ?? requestError(error, this.known());
      this.meter.fail(failure);
      throw failure;
    }
    watchdog.watch(options.idleMs ?? IDLE_MS);
    return this.read(source);
  }

  private read(source: AsyncIterator<StreamEvent>): Promise<Step> {
    return source.next().then(this.onStep, this.onError);
  }

  private readonly onStep = (step: IteratorResult<StreamEvent>): Step => {
    if (step.done !== true) this.heard(step.value);
    if (this.stopped) return DONE;
    return step.done === true ? this.onEnd() : step;
  };

  private onEnd(): Step {
    this.watchdog.stop();
    if (this.meter.done) return DONE;
    const failure = this.stall ?? new StreamTruncatedError(this.known());
    this.meter.fail(failure);
    throw failure;
  }

  private readonly onError = (error: unknown): Step => {
    this.watchdog.stop();
    if (this.stopped || this.meter.done) return DONE;
    this.controller.abort();
    const failure = this.stall ?? bodyError(error, this.known());
    this.meter.fail(failure);
    throw failure;
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
