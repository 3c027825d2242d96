import type Anthropic from '@anthropic-ai/sdk';
import type { z } from 'zod';
import { checkConcurrency, checkScopeOptions, type ScopeOptions } from '../core/options.js';
import type { ApprovalGate } from '../gates/approvalGate.js';
import { KeyedLock } from '../gates/keyedLock.js';
import type { Guard } from '../operators/guard.js';
import { checkCount, checkGate, checkGuard, checkMilliseconds, checkOneOf, refuse } from './checks.js';
import { Ledger, type Conversation } from './conversation.js';
import { isSdkTool, type SdkTool } from './fromSdkTool.js';
import { definitionOf } from './fromTool.js';
import type { MessageParam } from './historyParts.js';
import {
  checkClient,
  checkRequestOptions,
  type ClientRequestOptions,
  type MessageParams,
  type MessagesClient,
  type RequestOptions,
} from './request.js';
import { MAX_RESULT_CHARS } from './resultOf.js';
import { planOutput, type OutputForm } from './structuredOutput.js';
import type { AnyTool } from './tool.js';
import type { ToolDefinition } from './toolDefinition.js';
import type { ToolRequest, ToolRules } from './toolGates.js';
import { checkOrder } from './toolOrder.js';

/** Every parameter of the API (`model`, `max_tokens`, `system`, `thinking`, …), and: */
export interface TurnOptions<O = unknown> extends Omit<MessageParams, 'messages' | 'tools'>, Omit<ScopeOptions, 'label'> {
  /** Sends the requests. */
  readonly client: MessagesClient;
  /** The history so far: messages, of which a copy is continued, or a conversation, which is itself continued. */
  readonly messages: readonly MessageParam[] | Conversation;
  /** What the model may call: tools made with `tool()`, with `fromMcp` or by the SDK, and server tools as the API takes them. Default: none. */
  readonly tools?: readonly (AnyTool | SdkTool | Anthropic.Messages.ToolUnion)[] | undefined;
  /** How many calls may run at once. Default 16. */
  readonly concurrency?: number | undefined;
  /**
   * What to do when `max_tokens` cuts a reply off after it has begun to call tools. `continue` runs the calls that are whole and tells the model
   * that the last was cut off; `end` runs none. Either way every call is answered in the history. Default `continue`.
   */
  readonly onMaxTokens?: 'continue' | 'end' | undefined;
  /**
   * What a tool that fails does: `answer` tells the model, and its siblings go on; `failFast` stops them, and the turn errors with what it failed
   * with. Default `answer`.
   */
  readonly onToolError?: 'answer' | 'failFast' | undefined;
  /**
   * Whether tools whose `effect` is not `unsafe` start as soon as their block of the reply is complete, rather than after the reply.
   * Default true.
   */
  readonly eager?: boolean | undefined;
  /**
   * The form of the reply with which the model ends: a zod schema. The API is told to keep to it, and what comes is `output` of the last event, parsed.
   * Default: free text.
   */
  readonly output?: z.ZodType<O> | undefined;
  /** Time limits, nested in each other. Default: none. */
  readonly timeouts?: TurnTimeouts | undefined;
  /** Results beyond so many characters are cut off, and say so. Default 200,000. */
  readonly maxResultChars?: number | undefined;
  /** Longest silence before the headers of a reply, in milliseconds. Default 120,000. */
  readonly headersMs?: number | undefined;
  /** Longest silence in a reply, in milliseconds; keep-alives do not count. Default 300,000. */
  readonly idleMs?: number | undefined;
  /** Headers, query, fetch options and middleware of the requests. */
  readonly request?: ClientRequestOptions | undefined;
  /** Is given one record for every HTTP attempt, whatever became of it, and also after an unsubscribe. */
  readonly usage?: RequestOptions['usage'];
  /** What an unsubscribe does to a reply that is being written; see {@link RequestOptions}. Default `abort`. */
  readonly onCancel?: RequestOptions['onCancel'];
  /** Gates in front of every request to the model: what `modelGuard` or `guard` returns. */
  readonly modelGuard?: Guard<MessageParams> | undefined;
  /** Gates in front of every call of a tool: what `guard` returns. */
  readonly toolGuard?: Guard<ToolRequest> | undefined;
  /** Where people are asked about calls of tools with `needsApproval`: without it, such a call is refused. */
  readonly approvals?: ApprovalGate | undefined;
  /**
   * What to do while another turn or agent continues the same conversation: `error` errors with ConversationBusyError, `wait` waits in line for its
   * end. Default `error`.
   */
  readonly whenBusy?: 'error' | 'wait' | undefined;
  /** Orders calls of tools with `resources`; one that is shared orders those of several agents. Default: one of its own. */
  readonly lock?: KeyedLock | undefined;
}

/** Milliseconds; each limit holds inside of the one after it. */
export interface TurnTimeouts {
  /** Of one call, for tools that have no `timeoutMs` of their own. */
  readonly tool?: number | undefined;
  /** Of all calls of a turn, from the first on: those that have ended are answered, the model is told of the others that their time was up. */
  readonly group?: number | undefined;
  /** Of one turn: it errors with DeadlineExceededError. */
  readonly turn?: number | undefined;
}

/** Checked options, taken apart once. */
export interface TurnPlan {
  readonly client: MessagesClient;
  /** What goes to the API with every request, besides the messages. */
  readonly params: Omit<MessageParams, 'messages'>;
  readonly request: Pick<RequestOptions, 'headersMs' | 'idleMs' | 'request' | 'guard' | 'usage' | 'onCancel'>;
  readonly rules: ToolRules;
  readonly tools: ReadonlyMap<string, ToolDefinition>;
  readonly scope: ScopeOptions;
  readonly concurrency: number;
  readonly onMaxTokens: 'continue' | 'end';
  readonly onToolError: 'answer' | 'failFast';
  readonly eager: boolean;
  readonly whenBusy: 'error' | 'wait';
  readonly groupMs: number | undefined;
  readonly turnMs: number | undefined;
  readonly maxResultChars: number;
  /** The form of the reply with which the model ends. */
  readonly output: OutputForm | undefined;
  /** The conversation that one subscription continues. */
  open(): Ledger;
}

export function planTurn(who: string, options: TurnOptions, name: string | undefined): TurnPlan {
  if (typeof options !== 'object' || options === null) refuse(TypeError, who, 'options', 'an object', options);
  const {
    client,
    messages,
    tools = [],
    concurrency = 16,
    onMaxTokens = 'continue',
    onToolError = 'answer',
    whenBusy = 'error',
    eager = true,
    timeouts = {},
    maxResultChars = MAX_RESULT_CHARS,
    output: schema,
    ...others
  } = options;
  const {
    headersMs,
    idleMs,
    request,
    usage,
    onCancel,
    modelGuard,
    toolGuard,
    approvals,
    lock,
    graceMs,
    signal,
    within,
    onScope,
    onUnhandled,
    scheduler,
    ...params
  } = others;
  const scope = defined({ graceMs, signal, within, onScope, onUnhandled, scheduler, label: name });
  const limits = { ...defined({ headersMs, idleMs, request, usage, onCancel }), ...(modelGuard !== undefined && { guard: modelGuard }) };
  checkGuard(who, 'modelGuard', modelGuard);
  checkGuard(who, 'toolGuard', toolGuard);
  checkGate(who, 'approvals', approvals);
  checkGate(who, 'lock', lock);
  checkClient(who, client);
  checkMessages(who, messages);
  checkScopeOptions(who, scope);
  checkRequestOptions(who, limits);
  checkConcurrency(who, concurrency);
  checkOneOf(who, 'onMaxTokens', onMaxTokens, ['continue', 'end']);
  checkOneOf(who, 'whenBusy', whenBusy, ['error', 'wait']);
  checkOneOf(who, 'onToolError', onToolError, ['answer', 'failFast']);
  if (typeof eager !== 'boolean') refuse(TypeError, who, 'eager', 'true or false', eager);
  const { tool: toolMs, group: groupMs, turn: turnMs } = checkTimeouts(who, timeouts);
  checkCount(who, 'maxResultChars', maxResultChars);
  const { sent: listed, found: definitions } = ours(who, tools);
  const open = (): Ledger => (messages instanceof Ledger ? messages : new Ledger(messages as readonly MessageParam[]));
  const output = planOutput(who, schema, params.output_config);
  const sent = { ...params, ...(listed.length > 0 && { tools: listed }), ...(output && { output_config: output.config }) };
  const rules = { concurrency, onMaxTokens, onToolError, eager, whenBusy, groupMs, turnMs, maxResultChars };
  const gates = { guard: toolGuard, timeoutMs: toolMs, approvals, lock };
  return { client, params: sent, request: limits, rules: gates, tools: definitions, scope, output, ...rules, open };
}

/**
 * The plan of one run: the gates that it was not given are those of the turn or agent around it. Only that one's `toolGuard` is not: the tool in which this
 * runs stands behind it, and holds what it gave.
 */
export function begun(plan: TurnPlan, around: TurnPlan | undefined): TurnPlan {
  const lock = plan.rules.lock ?? around?.rules.lock ?? new KeyedLock({ name: 'resources' });
  const { approvals = around?.rules.approvals } = plan.rules;
  const { guard = around?.request.guard, usage = around?.request.usage } = plan.request;
  const request = { ...plan.request, ...defined({ guard, usage }) };
  return { ...plan, request, rules: { ...plan.rules, approvals, lock } };
}

function checkTimeouts(who: string, timeouts: TurnTimeouts): TurnTimeouts {
  if (typeof timeouts !== 'object' || timeouts === null) refuse(TypeError, who, 'timeouts', 'an object', timeouts);
  for (const [name, ms] of Object.entries(timeouts)) if (ms !== undefined) checkMilliseconds(who, `timeouts.${name}`, ms);
  return timeouts;
}

/** Without the fields that are undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [K in keyof T]?: NonNullable<T[K]> };
}

function checkMessages(who: string, messages: unknown): void {
  if (!Array.isArray(messages) && !(messages instanceof Ledger))
    refuse(TypeError, who, 'messages', 'an array or a conversation()', messages);
}

/** The tools that run here, by name, and all tools as the API wants them. */
function ours(
  who: string,
  tools: readonly unknown[],
): { readonly sent: Anthropic.Messages.ToolUnion[]; readonly found: Map<string, ToolDefinition> } {
  if (!Array.isArray(tools)) refuse(TypeError, who, 'tools', 'an array', tools);
  const names = new Set<string>();
  const found = new Map<string, ToolDefinition>();
  const sent = (tools as readonly unknown[]).map((each) => {
    const theirs = typeof each === 'object' && each !== null && !isSdkTool(each);
    const definition = theirs ? undefined : definitionOf(who, each);
    const { name } = definition ?? (each as { name?: unknown });
    if (typeof name === 'string' && names.has(name))
      throw new TypeError(`${who}: tools must have names of their own, and two are called "${name}".`);
    if (typeof name === 'string') names.add(name);
    if (definition !== undefined) found.set(definition.name, definition);
    return definition?.toApi() ?? (each as Anthropic.Messages.ToolUnion);
  });
  checkOrder(who, found, names);
  return { sent, found };
}
