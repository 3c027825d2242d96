import type Anthropic from '@anthropic-ai/sdk';
import type { Observable } from 'rxjs';
import { CallObservable } from '../core/call.js';
import { EventStream } from './eventStream.js';
import { checkRequest, type MessagesClient, type RequestOptions } from './request.js';
import { givenScope } from './toolRun.js';

export function messageStream(
  client: MessagesClient,
  params: Anthropic.Messages.MessageCreateParamsBase,
  options: RequestOptions = {},
): Observable<Anthropic.Messages.RawMessageStreamEvent> {
  checkRequest('messageStream', client, params, options);
  const { within, label = 'messages.create' } = options;
  return new CallObservable(givenScope('messageStream', within), () => new EventStream(client, params, options), { label });
}
