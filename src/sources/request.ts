import type Anthropic from '@anthropic-ai/sdk';
import type { Middleware } from '@anthropic-ai/sdk';
import { asyncScheduler, type Observable, type Observer, type SchedulerLike } from 'rxjs';
import { innermost } from '../core/call.js';
import type { ScopeNode } from '../core/node.js';
import { checkScopeOptions } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import type { Guard } from '../operators/guard.js';
import { checkGuard, checkMilliseconds, checkOneOf, refuse } from './checks.js';
import { UsageMeter, type UsageRecord } from './usageRecord.js';

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
  /** Is given one record for every HTTP attempt, whatever became of it, and also after an unsubscribe. */
  readonly usage?: Partial<Observer<UsageRecord>> | undefined;
  /**
   * What an unsubscribe does to a stream: `abort` closes its socket at once; `drain` reads on to the end where nobody sees it, so that its usage
   * is exact, where the whole reply is billed anyway. The scope waits for it, up to its grace. Default `abort`.
   */
  readonly onCancel?: 'abort' | 'drain' | undefined;
  /** Told when the headers of the response have arrived. */
  readonly onResponse?: ((response: ResponseInfo) => void) | undefined;
}

/** The SDK's own limit never comes first: a timer's longest delay. */
const NO_SDK_LIMIT = 2 ** 31 - 1;
const SDK_SLACK_MS = 1_000;

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
  const { usage, onCancel } = options;
  if (usage !== undefined && (typeof usage !== 'object' || usage === null)) refuse(TypeError, who, 'usage', 'an observer', usage);
  if (onCancel !== undefined) checkOneOf(who, 'onCancel', onCancel, ['abort', 'drain']);
  if (headersMs !== undefined) checkMilliseconds(who, 'headersMs', headersMs);
  if (idleMs !== undefined) checkMilliseconds(who, 'idleMs', idleMs);
  checkScopeOptions(who, { ...(within && { within }), ...(scheduler && { scheduler }), ...(label !== undefined && { label }) });
}

/** What remains of the time, as the client's own limit: a little more, so that ours comes first and is what the request errors with. */
function sdkLimit(within: ScopeContext | undefined): number {
  const scope = innermost(within as ScopeNode | undefined) as Partial<ScopeContext> | undefined;
  const remaining = scope?.remaining?.() ?? Infinity;
  return Math.min(NO_SDK_LIMIT, Math.ceil(remaining) + SDK_SLACK_MS);
}

/** What every request goes out with: one attempt, one signal of its own, and no limit but ours. */
export function sdkOptions(options: RequestOptions, signal: AbortSignal, meter: UsageMeter): Anthropic.RequestOptions {
  const { middleware: hook } = (options.guard ?? {}) as { middleware?: Middleware };
  const middleware = [...(options.request?.middleware ?? []), ...(hook === undefined ? [] : [hook]), meter.hook(signal)];
  return { ...options.request, middleware, maxRetries: 0, timeout: sdkLimit(options.within), signal };
}

/** What tells the usage of one attempt. */
export function meterOf(client: MessagesClient, params: MessageParams, options: RequestOptions, attempt: number): UsageMeter {
  const { usage, label = 'messages.create', within } = options;
  const path = usage === undefined ? [] : (innermost(within as ScopeNode | undefined)?.path ?? []);
  const runsHooks = Array.isArray((client as { readonly middleware?: unknown }).middleware);
  return new UsageMeter(usage, params, { label, path, attempt }, !runsHooks);
}

/** A request behind its guard. */
export function guarded<T>(request: Observable<T>, params: MessageParams, { guard, within }: RequestOptions): Observable<T> {
  return guard === undefined ? request : request.pipe(guard(params, within));
}

/** The scheduler of the scope that runs now, unless another is given. */
export function schedulerOf(options: RequestOptions): SchedulerLike {
  return options.scheduler ?? innermost(undefined)?.env.clock.scheduler ?? asyncScheduler;
}
