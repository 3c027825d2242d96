import type Anthropic from '@anthropic-ai/sdk';
import type { Observable } from 'rxjs';
import { CallObservable } from '../core/call.js';
import { StreamStalledError, type ReplyErrorInit } from './errors.js';
import { bodyError, requestError } from './modelErrors.js';
import { checkRequest, schedulerOf, sdkOptions, type MessagesClient, type RequestOptions, type ResponseInfo } from './request.js';
import { givenScope } from './toolRun.js';
import { Watchdog } from './watchdog.js';

type Params = Anthropic.Messages.MessageCreateParamsBase;

/** A whole reply. */
export interface MessageReply extends ResponseInfo {
  readonly message: Anthropic.Messages.Message;
  readonly usage: Anthropic.Messages.Usage;
}

/** The headers come when the model has finished, so they may take as long as the API allows. */
const HEADERS_MS = 600_000;
const IDLE_MS = 60_000;

export function message(client: MessagesClient, params: Params, options: RequestOptions = {}): Observable<MessageReply> {
  checkRequest('message', client, params, options);
  const { within, label = 'messages.create' } = options;
  return new CallObservable(givenScope('message', within), (signal) => request(client, params, options, signal), { label });
}

async function request(client: MessagesClient, params: Params, options: RequestOptions, signal: AbortSignal): Promise<MessageReply> {
  const { headersMs = HEADERS_MS, idleMs = IDLE_MS, onResponse } = options;
  const known: { requestId: string | null; events: number } = { requestId: null, events: 0 };
  const limit = new SilenceLimit(options, signal, known);
  try {
    limit.wait('headers', headersMs);
    const sent = client.messages.create({ ...params, stream: false }, sdkOptions(options, limit.signal));
    const response = await sent.asResponse().catch((error: unknown) => limit.fail(requestError(error, known)));
    const { headers } = response;
    known.requestId = headers.get('request-id');
    onResponse?.({ requestId: known.requestId, headers });
    limit.wait('body', idleMs);
    const reply = await sent.then(undefined, (error: unknown) => limit.fail(bodyError(error, known)));
    return { message: reply, usage: reply.usage, requestId: known.requestId, headers };
  } finally {
    limit.end();
  }
}
