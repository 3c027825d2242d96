import type Anthropic from '@anthropic-ai/sdk';
import type { Observable } from 'rxjs';
import type { ScopeNode } from '../core/node.js';
import { WorkObservable } from '../operators/work.js';
import { EventStream } from './eventStream.js';
import { checkRequest, guarded, meterOf, type MessageParams, type MessagesClient, type RequestOptions } from './request.js';

/**
 * A reply of the model as it is written: the events of the API, and a typed error for every way in which they can stop short.
 *
 * *When to use*: for text that is shown while it appears, and for calls that are known before the reply is complete.
 *
 * @param client - an Anthropic client. Its retries are switched off for the request
 * @param params - the parameters of the API, without `stream`
 * @param options - `headersMs` (default 120,000), `idleMs` (default 300,000: keep-alives do not count) and others; see {@link RequestOptions}
 * @returns a cold Observable that completes after `message_stop` and never before. Unsubscribing closes the socket, also while the stream is quiet.
 * Errors with StreamTruncatedError, ConnectionLostError, StreamStalledError, ModelStreamError, ScopeCancelledError, or what the API answered
 * @see {@link foldMessage}, {@link toolCalls} and {@link textDeltas} for what to make of the events
 */
export function messageStream(
  client: MessagesClient,
  params: MessageParams,
  options: RequestOptions = {},
): Observable<Anthropic.Messages.RawMessageStreamEvent> {
  checkRequest('messageStream', client, params, options);
  const { within, label = 'messages.create' } = options;
  let attempts = 0;
  const call = new WorkObservable<Anthropic.Messages.RawMessageStreamEvent>(
    within as ScopeNode | undefined,
    () => new EventStream(client, params, options, meterOf(client, params, options, ++attempts)),
    { label },
  );
  return guarded(call, params, options);
}
