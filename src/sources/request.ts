import type Anthropic from '@anthropic-ai/sdk';
import type { Middleware } from '@anthropic-ai/sdk';
import { asyncScheduler, type Observable, type SchedulerLike } from 'rxjs';
import { innermost } from '../core/call.js';
import { checkScopeOptions } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import type { Guard } from '../operators/guard.js';
import { checkGuard, checkMilliseconds, refuse } from './checks.js';

/** What sends requests: an Anthropic client, or anything with its `messages.create`. */
export interface MessagesClient {
  readonly messages: Pick<Anthropic.Messages, 'create'>;
}

/** The parameters of a request. Whether it is streamed is decided by who sends it. */
export type MessageParams = Omit<Anthropic.Messages.MessageCreateParamsNonStreaming, 'stream'>;

/** What the client may be told besides the parameters. Retries, time limits and the signal are not its business here. */
export type ClientRequestOptions = Pick<Anthropic.RequestOptions, 'headers' | 'query' | 'fetchOptions' | 'middleware'>;

/** What is known of a response once its headers are there. */
export interface ResponseInfo {
  /** The `request-id` header. */
  readonly requestId: string | null;
  readonly headers: Headers;
}

export interface RequestOptions {
  /** The enclosing scope. Default: the one in whose synchronous subscribe chain it is subscribed, if any. */
  readonly within?: ScopeContext | undefined;
  /** Name of the call in reports and dumps. Default `messages.create`. */
  readonly label?: string | undefined;
  /** Longest silence before the response headers, in milliseconds. Infinity for no limit. */
  readonly headersMs?: number | undefined;
  /** Longest silence in the body of the response, in milliseconds. Infinity for no limit. */
  readonly idleMs?: number | undefined;
  /** What tells the time. Default: the enclosing scope's, else asyncScheduler. */
  readonly scheduler?: SchedulerLike | undefined;
  /** Headers, query, fetch options and middleware of this request. */
  readonly request?: ClientRequestOptions | undefined;
  /** Gates that every attempt passes: what `modelGuard` or `guard` returns. */
  readonly guard?: Guard<MessageParams> | undefined;
  /** Told when the headers of the response have arrived. */
  readonly onResponse?: ((response: ResponseInfo) => void) | undefined;
}

/** The SDK's own limit never comes first: a timer's longest delay. */
const NO_SDK_LIMIT = 2 ** 31 - 1;

export function checkRequest(who: string, client: unknown, params: unknown, options: RequestOptions): void {
  checkClient(who, client);
  if (typeof params !== 'object' || params === null) refuse(TypeError, who, 'params', 'an object', params);
  checkRequestOptions(who, options);
}

export function checkClient(who: string, client: unknown): void {
  if (typeof (client as Partial<MessagesClient> | null | undefined)?.messages?.create !== 'function')
    refuse(TypeError, who, 'client', 'an Anthropic client', client);
}

export function checkRequestOptions(who: string, options: RequestOptions): void {
  const { headersMs, idleMs, within, scheduler, label, guard } = options;
  checkGuard(who, 'guard', guard);
  if (headersMs !== undefined) checkMilliseconds(who, 'headersMs', headersMs);
  if (idleMs !== undefined) checkMilliseconds(who, 'idleMs', idleMs);
  checkScopeOptions(who, { ...(within && { within }), ...(scheduler && { scheduler }), ...(label !== undefined && { label }) });
}

/** What every request goes out with: one attempt, one signal of its own, and no limit but ours. */
export function sdkOptions(options: RequestOptions, signal: AbortSignal): Anthropic.RequestOptions {
  const { middleware: hook } = (options.guard ?? {}) as { middleware?: Middleware };
  const middleware = hook === undefined ? {} : { middleware: [...(options.request?.middleware ?? []), hook] };
  return { ...options.request, ...middleware, maxRetries: 0, timeout: NO_SDK_LIMIT, signal };
}

/** A request behind its guard. */
export function guarded<T>(request: Observable<T>, params: MessageParams, { guard, within }: RequestOptions): Observable<T> {
  return guard === undefined ? request : request.pipe(guard(params, within));
}

/** The scheduler of the scope that runs now, unless another is given. */
export function schedulerOf(options: RequestOptions): SchedulerLike {
  return options.scheduler ?? innermost(undefined)?.env.clock.scheduler ?? asyncScheduler;
}
