import type Anthropic from '@anthropic-ai/sdk';
import type { Observable } from 'rxjs';
import { CallObservable } from '../core/call.js';
import type { ScopeNode } from '../core/node.js';
import { EventStream } from './eventStream.js';
import { checkRequest, type MessageParams, type MessagesClient, type RequestOptions } from './request.js';

export function messageStream(
  client: MessagesClient,
  params: MessageParams,
  options: RequestOptions = {},
): Observable<Anthropic.Messages.RawMessageStreamEvent> {
  checkRequest('messageStream', client, params, options);
  const { within, label = 'messages.create' } = options;
  return new CallObservable(within as ScopeNode | undefined, () => new EventStream(client, params, options), { label });
}
