import type Anthropic from '@anthropic-ai/sdk';
import type { Exchange } from './exchange.js';
import type { ApiErrorInit } from './reply.js';
import { isRecord } from './shape.js';
import type { Fields } from './shape.js';

/** A conversation that the server holds (the beta that the SDK's tool runner uses), under the id of its last reply. */
interface Thread {
  body: Fields;
  state: 'free' | 'busy' | 'continued';
}

export interface Threads {
  /** The whole conversation of a request that continues one, any other request as it is; an error for a thread that cannot be continued. */
  expand(body: Fields, exchange: Exchange): { readonly body: Fields } | { readonly status: number; readonly error: ApiErrorInit };
  /** Holds the conversation once the reply is out, if the request asked for it. */
  hold(body: Fields, message: Anthropic.Messages.Message, exchange: Exchange): void;
}

export function makeThreads(): Threads {
  const threads = new Map<string, Thread>();
  return {
    expand: (body, exchange) => {
      const { thread } = body;
      if (!isRecord(thread) || thread['type'] !== 'continue') return { body };
      const found = threads.get(String(thread['previous_message_id']));
      if (!found) return refusal(404, 'thread_not_found', 'No usable Thread state was found for `previous_message_id`.');
      if (found.state === 'busy')
        return refusal(400, 'thread_continue_in_flight', 'Another request is still continuing from this response.');
      if (found.state === 'continued') return refusal(400, 'thread_already_continued', 'This response has already been continued.');
      found.state = 'busy';
      const held = found.body;
      exchange.signal.addEventListener('abort', () => {
        Object.assign(found, completed(exchange) ? { state: 'continued', body: {} } : { state: 'free' });
      });
      return { body: { ...held, ...body, messages: [...listOf(held['messages']), ...listOf(body['messages'])] } };
    },
    hold: (body, { id, content, stop_reason }, exchange) => {
      if (!isRecord(body['thread']) || stop_reason === 'refusal') return;
      const { messages, system, tools } = body;
      const held = {
        messages: [...listOf(messages), { role: 'assistant', content }],
        ...(system ? { system } : {}),
        ...(tools ? { tools } : {}),
      };
      exchange.signal.addEventListener('abort', () => {
        if (completed(exchange)) threads.set(id, { state: 'free', body: held });
      });
    },
  };
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const completed = ({ record }: Exchange): boolean => record.state === 'completed' && record.status === 200;
const refusal = (status: number, code: string, message: string): { status: number; error: ApiErrorInit } => ({
  status,
  error: { code, message },
});
