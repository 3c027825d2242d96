import type Anthropic from '@anthropic-ai/sdk';
import type { Observable } from 'rxjs';
import type { z } from 'zod';
import type { Scope, ScopeContext } from '../core/types.js';
import type { LockKeys } from '../gates/keyedLock.js';
import { define, type ToolDefinition } from './toolDefinition.js';
import { invoke } from './toolRun.js';
import type { Version } from './versions.js';

/**
 * What a repeated call of a tool may change: nothing (`none`), nothing more than one call would (`idempotent`), or anything (`unsafe`).
 * Decides what the model is told about a call that was stopped.
 */
export type ToolEffect = 'none' | 'idempotent' | 'unsafe';

/** What a tool's `run` gets besides its input. */
export interface ToolCall {
  /** Aborted with a ScopeCancelledError when the call is cancelled or timed out. Made when it is first asked for. */
  readonly signal: AbortSignal;
  /** The scope of this call: what is started through it is cancelled with the call, and the call waits for it. */
  readonly scope: Scope;
  /** The id of the model's `tool_use` block; of a call made by hand, one of its own. */
  readonly id: string;
  /** The same for every attempt of one call. */
  readonly idempotencyKey: string;
  /** 1 for the first subscription, 2 for the first repetition, and so on. */
  readonly attempt: number;
  /** How many agents and `child()` scopes are above. */
  readonly depth: number;
  /** Labels from the root scope down to this tool. */
  readonly path: readonly string[];
  /**
   * The version of `versionOf` that the model has seen last in this conversation: what a write is to be based on. Undefined if it has seen none, and for
   * calls by hand.
   */
  readonly version: Version | undefined;
  /** Tells which version was read or written; the model has seen it once the call has succeeded. Needs no `this`. */
  readonly noteVersion: (version: Version) => void;
  /** Tells how far it is: a `progress` event for whoever listens to events. Needs no `this`. */
  readonly progress: (value: unknown) => void;
}

/** What a `run` that returns `R` puts out: only promises, Observables and async iterables are unwrapped. */
export type Unwrapped<R> =
  R extends PromiseLike<infer T> ? T : R extends Observable<infer T> ? T : R extends AsyncIterable<infer T> ? T : R;

/** A value, a promise of one, or an Observable or an async iterable whose last value is the result. */
export type ToolReturn<T> = T | PromiseLike<T> | Observable<T> | AsyncIterable<T>;

export interface ToolOptions<I extends z.ZodType, R> {
  /** 1 to 128 letters, digits, `_` and `-`: what the model calls it by. */
  readonly name: string;
  /** What it does and when to use it, for the model. */
  readonly description: string;
  /** A zod object. Every call is checked against it before `run`. */
  readonly input: I;
  /** Default `unsafe`. */
  readonly effect?: ToolEffect | undefined;
  /** Milliseconds after which a call is stopped. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  /** Milliseconds that a stopped call may take to acknowledge before it is abandoned. Default 5000; Infinity waits for ever. */
  readonly graceMs?: number | undefined;
  /**
   * What a call reads and writes, by keys of your own such as `file:a.txt`: in a turn, calls that conflict run one after the other, in the order in
   * which they were made, all others in parallel. Who waits for a person, a guard or `dependsOn` is passed.
   */
  readonly resources?: ((input: z.output<I>) => LockKeys) | undefined;
  /**
   * Names of tools: a call waits until the calls of these in the same reply have ended, and does not run if one of them fails. It is not started
   * before the reply is complete.
   */
  readonly dependsOn?: readonly string[] | undefined;
  /**
   * A key of your own for what a call reads or writes, if it has versions: `call.version` is the one that the model has seen last, and `run` throws
   * VersionConflictError where it is not that one any more.
   */
  readonly versionOf?: ((input: z.output<I>) => string) | undefined;
  /**
   * How often a call that met a conflict runs again at once, with the version that is there now as `call.version`. Only for tools whose effect is not
   * `unsafe`. Default 0: the model is shown what is there, and decides.
   */
  readonly conflictRetries?: number | undefined;
  /** Whether a person has to be asked first, at the `approvals` of the turn or agent. Default false. */
  readonly needsApproval?: boolean | ((input: z.output<I>) => boolean) | undefined;
  /** More fields of the API's tool: `strict`, `cache_control`, `defer_loading` and so on. */
  readonly api?: Partial<Omit<Anthropic.Messages.Tool, 'name' | 'description' | 'input_schema'>> | undefined;
  /** Does the work. It is given the parsed input. */
  readonly run: (input: z.output<I>, call: ToolCall) => R;
}

/** A tool: a function that makes calls. */
export interface Tool<I, O> {
  /** A cold Observable of one call. */
  (input: I, ctx?: ScopeContext): Observable<O>;
  readonly definition: ToolDefinition;
}

/** Any tool, whatever its types. */
export type AnyTool = Tool<never, unknown>;

/**
 * Makes a tool: a function whose calls are cold Observables, checked on the way in and out, cancelled by unsubscribing, and known to the model by
 * their JSON schema.
 *
 * *When to use*: for whatever a model may call, and for calls of your own that should be checked, timed and waited for in the same way.
 *
 * @example
 * ```ts
 * import { lastValueFrom } from 'rxjs';
 * import { z } from 'zod';
 * import { tool } from 'rxfleet/agents';
 *
 * const add = tool({
 *   name: 'add',
 *   description: 'Adds two numbers.',
 *   input: z.object({ a: z.number(), b: z.number() }),
 *   run: async ({ a, b }) => a + b,
 * });
 * if ((await lastValueFrom(add({ a: 1, b: 2 }))) !== 3) throw new Error('unexpected');
 * ```
 *
 * @param options - name, description, schemas and `run`; see {@link ToolOptions}. Throws a TypeError or RangeError for a wrong one
 * @returns a function `(input, ctx?)`. Each subscription to what it returns is an attempt; unsubscribing aborts its signal, and the enclosing scope
 * waits for it. Errors with what `run` failed with, ToolInputError, ToolOutputError, DeadlineExceededError after `timeoutMs`, or
 * ScopeCancelledError
 * @see {@link fromTool} for the same call as events, for a `tool_use` of the model
 */
export function tool<I extends z.ZodType, O extends z.ZodType>(
  options: ToolOptions<I, ToolReturn<z.input<O>>> & { readonly output: O },
): Tool<z.input<I>, z.output<O>>;
export function tool<I extends z.ZodType, R>(options: ToolOptions<I, R> & { readonly output?: never }): Tool<z.input<I>, Unwrapped<R>>;
export function tool(options: ToolOptions<z.ZodType, unknown> & { readonly output?: z.ZodType }): AnyTool {
  return toolOf(define(options));
}

/** The function that makes the calls of what is defined. */
export function toolOf(definition: ToolDefinition): AnyTool {
  const call = (input: unknown, ctx?: ScopeContext): Observable<unknown> => invoke(definition, input, ctx);
  Object.defineProperty(call, 'name', { value: definition.name });
  return Object.assign(call, { definition });
}
