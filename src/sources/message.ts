import type Anthropic from '@anthropic-ai/sdk';
import { map, type Observable } from 'rxjs';
import type { z } from 'zod';
import type { ScopeNode } from '../core/node.js';
import { WorkObservable } from '../operators/work.js';
import { StreamStalledError, type ReplyErrorInit } from './errors.js';
import { bodyError, requestError } from './modelErrors.js';
import { planOutput, type ReadOutput } from './structuredOutput.js';
import {
  checkRequest,
  guarded,
  meterOf,
  schedulerOf,
  sdkOptions,
  type MessageParams,
  type MessagesClient,
  type RequestOptions,
  type ResponseInfo,
} from './request.js';
import type { UsageMeter } from './usageRecord.js';
import { Watchdog } from './watchdog.js';

/** A whole reply. */
export interface MessageReply<O = unknown> extends ResponseInfo {
  readonly message: Anthropic.Messages.Message;
  readonly usage: Anthropic.Messages.Usage;
  /** What the reply says in the form that was asked for. Absent without the option `output`, and unless the model has come to its end. */
  readonly output?: O | undefined;
}

export interface MessageOptions<O = unknown> extends RequestOptions {
  /**
   * The form of the reply: a zod schema. The API is told to keep to it, and what comes is `output` of the reply, parsed; a reply that does not fit is
   * a ModelOutputError, behind the guard. Default: free text.
   */
  readonly output?: z.ZodType<O> | undefined;
}

/** The headers come when the model has finished, so they may take as long as the API allows. */
const HEADERS_MS = 600_000;
const IDLE_MS = 60_000;

/**
 * One reply of the model, whole.
 *
 * *When to use*: where nobody watches the text appear. The model's silence while it writes is not told from a dead connection, so for long replies
 * `messageStream` notices sooner when something is wrong.
 *
 * @param client - an Anthropic client. Its retries are switched off for the request
 * @param params - the parameters of the API, without `stream`
 * @param options - `headersMs` (default 600,000), `idleMs` (default 60,000) and others; see {@link MessageOptions}
 * @returns a cold Observable of one reply. Unsubscribing aborts the request and closes its socket. Errors with StreamTruncatedError,
 * ConnectionLostError, StreamStalledError, ScopeCancelledError, ModelOutputError, or what the API answered
 * @see {@link messageStream} for the reply as it is written
 */
export function message<O = unknown>(
  client: MessagesClient,
  params: MessageParams,
  options: MessageOptions<O> = {},
): Observable<MessageReply<O>> {
  checkRequest('message', client, params, options);
  const form = planOutput('message', options.output, params.output_config);
  if (form === undefined) return whole<MessageReply<O>>(client, params, options);
  const sent = { ...params, output_config: form.config };
  const read = async (reply: MessageReply): Promise<ReadReply> => ({ ...reply, read: await form.read(reply.message) });
  // That a reply does not fit is no reason for a guard to ask again, or to trip.
  if (options.guard !== undefined) return whole(client, sent, options, read).pipe(map((reply) => opened<O>(reply)));
  return whole(client, sent, options, async (reply) => opened<O>(await read(reply)));
}

interface ReadReply extends MessageReply {
  readonly read: ReadOutput;
}

/** The reply with its output. Throws where it does not fit. */
function opened<O>({ read, ...reply }: ReadReply): MessageReply<O> {
  if ('error' in read) throw read.error;
  return { ...reply, ...(read.output !== undefined && { output: read.output }) } as MessageReply<O>;
}

function whole<R = MessageReply>(
  client: MessagesClient,
  params: MessageParams,
  options: RequestOptions,
  then?: (reply: MessageReply) => Promise<R>,
): Observable<R> {
  const { within, label = 'messages.create' } = options;
  let attempts = 0;
  const send = (signal: AbortSignal): Promise<R> => {
    const reply = request(client, params, options, signal, meterOf(client, params, options, ++attempts));
    return then === undefined ? (reply as Promise<R>) : reply.then(then);
  };
  const call = new WorkObservable<R>(within as ScopeNode | undefined, send, { label });
  return guarded(call, params, options);
}

async function request(
  client: MessagesClient,
  params: MessageParams,
  options: RequestOptions,
  signal: AbortSignal,
  meter: UsageMeter,
): Promise<MessageReply> {
  const { headersMs = HEADERS_MS, idleMs = IDLE_MS, onResponse } = options;
  const limit = new SilenceLimit(options, signal);
  try {
    limit.wait('headers', headersMs);
    const sent = client.messages.create({ ...params, stream: false }, sdkOptions(options, limit.signal, meter));
    const { headers } = await sent.asResponse().catch((error: unknown) => limit.fail(requestError(error, limit.known)));
    const requestId = headers.get('request-id');
    meter.answer(requestId);
    limit.known = { requestId, events: 0 };
    onResponse?.({ requestId, headers });
    limit.wait('body', idleMs);
    const reply = await sent.then(undefined, (error: unknown) => limit.fail(bodyError(error, limit.known)));
    signal.throwIfAborted();
    meter.take(reply);
    const whole = { message: reply, usage: reply.usage, requestId, headers };
    meter.keep(whole, signal);
    meter.complete();
    return whole;
  } catch (error) {
    limit.abort();
    if (signal.aborted) meter.cancel();
    else meter.fail(error);
    throw error;
  } finally {
    limit.end();
  }
}

/** Aborts one request when its scope says so, or when nothing has come for too long. */
class SilenceLimit {
  known: ReplyErrorInit = { requestId: null, events: 0 };
  private readonly controller = new AbortController();
  private readonly watchdog: Watchdog;
  private stall: StreamStalledError | undefined = undefined;
  private waiting: { readonly phase: 'headers' | 'body'; readonly ms: number } = { phase: 'headers', ms: Infinity };

  constructor(
    options: RequestOptions,
    private readonly outer: AbortSignal,
  ) {
    this.watchdog = new Watchdog(schedulerOf(options), () => this.giveUp());
    if (outer.aborted) this.onAbort();
    else outer.addEventListener('abort', this.onAbort);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  wait(phase: 'headers' | 'body', ms: number): void {
    this.waiting = { phase, ms };
    this.watchdog.watch(ms);
  }

  /** The scope's reason if it was the scope that ended it, the silence if it was that, else the error itself. */
  fail(error: unknown): never {
    if (this.outer.aborted) throw this.outer.reason;
    throw this.stall ?? error;
  }

  end(): void {
    this.watchdog.stop();
    this.outer.removeEventListener('abort', this.onAbort);
  }

  /** Nobody waits for the request any more. */
  abort(): void {
    this.watchdog.stop();
    this.controller.abort(this.outer.reason);
  }

  private readonly onAbort = (): void => this.abort();

  private giveUp(): void {
    const { phase, ms } = this.waiting;
    this.stall = new StreamStalledError(phase, ms, this.known);
    this.controller.abort();
  }
}
