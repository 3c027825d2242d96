import Anthropic from '@anthropic-ai/sdk';
import { tap, type MonoTypeOperatorFunction } from 'rxjs';
import type { AgentEvent, MessagesClient } from 'rxfleet/agents';
import { startMessagesServer, type MessagesServer } from 'rxfleet/testing';
import { auditor, SYSTEM } from './auditor.js';
import type { Chaos } from './chaos.js';
import type { LiveOptions } from './options.js';
import { Ledger } from './spend.js';

/** Where the agents get their replies from. */
export interface Model {
  readonly client: MessagesClient;
  readonly params: { readonly model: string; readonly max_tokens: number; readonly system: string };
  /** The longest silence in a reply, in milliseconds. */
  readonly idleMs: number;
  /** The embedded server; undefined for the real API. */
  readonly server: MessagesServer | undefined;
  /** What may be spent; undefined if nothing costs anything. */
  readonly ledger: Ledger | undefined;
}

export const MAX_TOKENS = 2048;

/** The scripted model in this process, spoken to over HTTP by the real SDK. */
export async function embeddedModel(chaos: Chaos | undefined): Promise<Model> {
  const server = await startMessagesServer({ script: auditor(chaos) });
  const client = new Anthropic({ apiKey: 'embedded', authToken: null, baseURL: server.url, maxRetries: 0 });
  const params = { model: 'claude-haiku-5-5', max_tokens: MAX_TOKENS, system: SYSTEM };
  return { client, params, idleMs: chaos === undefined ? 30_000 : 1_500, server, ledger: undefined };
}

/** The real API. */
export function liveModel({ apiKey, model, maxMicroDollars }: LiveOptions): Model {
  const client = new Anthropic({ apiKey, authToken: null, maxRetries: 0 });
  const params = { model, max_tokens: MAX_TOKENS, system: SYSTEM };
  return { client, params, idleMs: 60_000, server: undefined, ledger: new Ledger(model, maxMicroDollars) };
}

/** A client that asks before it sends: `before` may throw, and then nothing is sent. */
export function guarded(client: MessagesClient, before: (params: unknown) => void): MessagesClient {
  const create = (...args: Parameters<Anthropic.Messages['create']>): unknown => {
    before(args[0]);
    return client.messages.create(...args);
  };
  return { messages: { create: create as Anthropic.Messages['create'] } };
}

/** Settles what an agent's requests reserved: by their usage, or in full if they were broken off. */
export function metered(ledger: Ledger | undefined, agent: number): MonoTypeOperatorFunction<AgentEvent> {
  if (ledger === undefined) return (source) => source;
  let input = 0;
  let output = 0;
  return tap({
    next: (each) => {
      if (each.type !== 'model') return;
      const { event } = each;
      if (event.type === 'message_start') {
        const { usage } = event.message;
        input = usage.input_tokens + (usage.cache_creation_input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0);
      } else if (event.type === 'message_delta') output = event.usage.output_tokens;
      else if (event.type === 'message_stop') ledger.settle(agent, input, output);
    },
    error: (error: unknown) => {
      if (error instanceof Anthropic.APIError && error.status !== undefined) ledger.release(agent);
    },
    finalize: () => ledger.forfeit(agent),
  });
}
