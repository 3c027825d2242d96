import Anthropic from '@anthropic-ai/sdk';
import type { MessageParams, MessagesClient } from 'rxfleet/agents';
import { startMessagesServer, type MessagesServer, type RateLimits } from 'rxfleet/testing';
import { auditor, SYSTEM } from './auditor.js';
import type { Chaos } from './chaos.js';
import type { LiveOptions } from './options.js';
import { ceilingOf } from './spend.js';

/** Where the agents get their replies from. */
export interface Model {
  readonly client: MessagesClient;
  readonly params: { readonly model: string; readonly max_tokens: number; readonly system: string };
  /** The longest silence in a reply, in milliseconds. */
  readonly idleMs: number;
  /** The embedded server; undefined for the real API. */
  readonly server: MessagesServer | undefined;
  /** How much may be asked of it at a time. */
  readonly limits: Required<RateLimits>;
  /** The most that a request can cost, where somebody pays for it. */
  readonly ceiling?: (params: MessageParams) => number;
}

/** The embedded server really limits: tightly, and by the second, so that a short run meets the limits that a long one meets. */
const EMBEDDED_LIMITS = {
  requests: { limit: 8, perMs: 600 },
  inputTokens: { limit: 40_000, perMs: 2_000 },
  outputTokens: { limit: 10_000, perMs: 1_000 },
} satisfies RateLimits;

/** Usual limits of an account; where there are others, the headers of the API correct the bucket. */
const LIVE_LIMITS = {
  requests: { limit: 1_000, perMs: 60_000 },
  inputTokens: { limit: 400_000, perMs: 60_000 },
  outputTokens: { limit: 80_000, perMs: 60_000 },
} satisfies RateLimits;

/** The scripted model in this process, spoken to over HTTP by the real SDK. */
export async function embeddedModel(chaos: Chaos | undefined): Promise<Model> {
  const server = await startMessagesServer({ script: auditor(chaos), rateLimits: EMBEDDED_LIMITS });
  const client = new Anthropic({ apiKey: 'embedded', authToken: null, baseURL: server.url, maxRetries: 0 });
  const params = { model: 'claude-sonnet-5-5', max_tokens: 512, system: SYSTEM };
  return { client, params, idleMs: chaos === undefined ? 30_000 : 1_500, server, limits: EMBEDDED_LIMITS };
}

/** The real API. */
export function liveModel({ apiKey, model }: LiveOptions): Model {
  const client = new Anthropic({ apiKey, authToken: null, maxRetries: 0 });
  const params = { model, max_tokens: 2048, system: SYSTEM };
  return { client, params, idleMs: 60_000, server: undefined, limits: LIVE_LIMITS, ceiling: ceilingOf };
}
