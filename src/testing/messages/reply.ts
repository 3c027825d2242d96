import type Anthropic from '@anthropic-ai/sdk';

/** The body of a request, as the SDK types it. */
export type MessagesRequest = Anthropic.Messages.MessageCreateParams;

/** A block of a scripted reply: any content block of the API, where text, tool_use and thinking may leave out what the server fills in. */
export type ReplyBlock =
  | Anthropic.Messages.ContentBlock
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'tool_use'; readonly name: string; readonly input: unknown; readonly id?: string }
  | { readonly type: 'thinking'; readonly thinking: string; readonly signature?: string };

/** How fast a reply is generated. A reply that is not streamed takes as long as the same reply streamed. */
export interface Pace {
  /** Silence before the response headers, in ms. Default 0. */
  readonly headersMs?: number;
  /** Silence before each event, in ms. Default 0. */
  readonly eventMs?: number;
  /**
   * Silence before each delta that holds something the model writes (text, thinking, tool input), in ms, in place of `eventMs`. Given alone, only
   * writing takes time, and the events around it come together: the `content_block_stop` of one block with the `content_block_start` of the
   * next, `message_delta` with `message_stop`. Default: `eventMs`.
   */
  readonly deltaMs?: number;
  /** While a stream is silent, a `ping` every so many ms. Default: one ping after the first block has started, as the API does, no more. */
  readonly pingMs?: number;
  /** Characters in one delta. Default 20. */
  readonly chunkChars?: number;
}

/**
 * Where a fault strikes: when the request has been read, when the headers have been sent, or after that many events (pings are not counted,
 * `message_start` is 1). A number beyond the last event strikes after `message_stop`. A reply that is not streamed has no events: there any number
 * strikes in the middle of the body.
 */
export type FaultPoint = 'request' | 'headers' | number;

/**
 * What goes wrong with a reply.
 *
 * - `stall`: nothing more is sent, the connection stays open until somebody closes it (pings go on if `pace.pingMs` is set).
 * - `fin`: a clean end without `message_stop`.
 * - `reset`: a TCP reset.
 * - `error`: an `error` event, then the end; before the headers, or for a reply that is not streamed, an error response.
 * - `max_tokens`: the last block is cut after `keep` characters (default: half of it) and yet gets its `content_block_stop`;
 *   the stop reason is `max_tokens`.
 */
export type Fault =
  | { readonly kind: 'stall' | 'fin' | 'reset'; readonly after: FaultPoint }
  | { readonly kind: 'error'; readonly after: FaultPoint; readonly error?: ApiErrorInit }
  | { readonly kind: 'max_tokens'; readonly keep?: number };

/** What an error says. */
export interface ApiErrorInit {
  /** Default: what belongs to the status, `overloaded_error` for an `error` event. */
  readonly type?: string;
  readonly message?: string;
  /** Goes to `error.details.error_code`, for instance `enforced_spend_limit_reached`. */
  readonly code?: string;
}

/** What every message reply can say about its way over the wire. */
export interface DeliveryOptions {
  readonly pace?: Pace;
  readonly fault?: Fault;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A scripted message. What is left out is filled in: ids, usage, stop reason. */
export interface ScriptedReply extends DeliveryOptions {
  readonly type: 'message';
  readonly content: readonly ReplyBlock[];
  /** Default: `tool_use` if there is a tool_use block, else `end_turn`. */
  readonly stop_reason?: Anthropic.Messages.StopReason;
  readonly stop_sequence?: string | null;
  readonly stop_details?: Anthropic.Messages.RefusalStopDetails | null;
  /** Where code that the model runs lives. Default null. */
  readonly container?: Anthropic.Messages.Container | null;
  /** Default: an estimate of 4 characters to a token, nothing cached. */
  readonly usage?: Partial<Anthropic.Messages.Usage>;
}

/** A scripted error response. */
export interface ErrorReply {
  readonly type: 'error';
  readonly status: number;
  readonly error: ApiErrorInit;
  /** Seconds, sent as the `retry-after` header. */
  readonly retryAfter?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly pace?: Pick<Pace, 'headersMs'>;
}

/** What a script answers: plain data, made by hand or with {@link reply}. */
export type Reply = ScriptedReply | ErrorReply;

/** What a script function learns besides the request. */
export interface ScriptContext {
  /** The request id, `req_0001` and so on, which is also the `request-id` header. */
  readonly id: string;
  /** How many requests the script has answered before this one. */
  readonly index: number;
  /** Aborts when the client goes away or the server is closed. */
  readonly signal: AbortSignal;
}

/** Replies in order of arrival, or a function of the request. What a function throws is answered with a 500 `api_error`. */
export type Script = readonly Reply[] | ((request: MessagesRequest, context: ScriptContext) => Reply | Promise<Reply>);

/** A call in {@link reply}.toolUse. */
export interface ScriptedCall {
  readonly name: string;
  readonly input: unknown;
  /** Default: `toolu_0001` and so on. */
  readonly id?: string;
}

export interface ToolUseOptions extends Omit<ScriptedReply, 'type' | 'content'> {
  /** Text before the calls. */
  readonly text?: string;
  /** Thinking before the text. */
  readonly thinking?: string;
}

const text = (value: string, options: Omit<ScriptedReply, 'type' | 'content'> = {}): ScriptedReply => ({
  ...options,
  type: 'message',
  content: [{ type: 'text', text: value }],
});

const toolUse = (calls: readonly ScriptedCall[], options: ToolUseOptions = {}): ScriptedReply => {
  const { text: before, thinking, ...rest } = options;
  const content: ReplyBlock[] = [];
  if (thinking !== undefined) content.push({ type: 'thinking', thinking });
  if (before !== undefined) content.push({ type: 'text', text: before });
  content.push(...calls.map((call) => ({ ...call, type: 'tool_use' as const })));
  return { ...rest, type: 'message', content };
};

const message = (init: Omit<ScriptedReply, 'type'>): ScriptedReply => ({ ...init, type: 'message' });

const error = (status: number, init: ApiErrorInit & Omit<ErrorReply, 'type' | 'status' | 'error'> = {}): ErrorReply => {
  const { retryAfter, headers, pace, ...said } = init;
  return {
    type: 'error',
    status,
    error: said,
    ...(retryAfter !== undefined && { retryAfter }),
    ...(headers && { headers }),
    ...(pace && { pace }),
  };
};

/**
 * Makes the replies of a script.
 *
 * @example
 * ```ts
 * import { reply } from 'rxfleet/testing';
 *
 * reply.text('hello');
 * reply.toolUse([{ name: 'search', input: { query: 'rxjs' } }], { text: 'Let me look.' });
 * reply.message({ content: [{ type: 'text', text: '…' }], stop_reason: 'refusal' });
 * reply.error(429, { retryAfter: 2 });
 * reply.error(429, { code: 'enforced_spend_limit_reached' });
 * reply.text('cut off', { fault: { kind: 'reset', after: 3 } });
 * ```
 */
export const reply: {
  /** One block of text. */
  readonly text: typeof text;
  /** One or more calls, after optional thinking and text. */
  readonly toolUse: typeof toolUse;
  /** Any content. */
  readonly message: typeof message;
  /** An error response. */
  readonly error: typeof error;
} = { text, toolUse, message, error };
