import type Anthropic from '@anthropic-ai/sdk';
import { z } from 'zod';
import { isRecord } from './contentBlocks.js';
import { refuse } from './checks.js';
import type { ToolUse } from './fromTool.js';
import { toolOf, type Tool, type ToolCall, type ToolOptions } from './tool.js';
import { define, type ToolDefinition } from './toolDefinition.js';
import { saidBy } from './words.js';

/** What `betaZodTool`, `betaTool` and the other tool helpers of the SDK make, as far as it is needed here. */
export interface SdkTool<I = never, R = unknown> {
  readonly name: string;
  run(args: I, context?: SdkToolContext): R;
  parse?(content: unknown): unknown;
}

/** What such a tool's `run` gets besides its input. */
export interface SdkToolContext {
  readonly toolUse: ToolUse & { readonly type: 'tool_use' };
  readonly toolUseBlock: ToolUse & { readonly type: 'tool_use' };
  readonly signal?: AbortSignal | null | undefined;
}

/** What can be said about a tool that was made elsewhere. */
export type ForeignToolOptions<I = unknown> = Pick<
  ToolOptions<z.ZodType<I>, unknown>,
  'effect' | 'timeoutMs' | 'graceMs' | 'resources' | 'needsApproval' | 'api'
>;

/**
 * A tool of the SDK (`betaZodTool`, `betaTool`), with what the SDK has no words for: its effect, its time limit, its resources.
 *
 * *When to use*: for such options, and for calls by hand. `agent`, `turn` and `fromTool` take the SDK's tools as they are.
 *
 * @example
 * ```ts
 * import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
 * import { lastValueFrom } from 'rxjs';
 * import { fromSdkTool } from 'rxfleet/agents';
 *
 * const inputSchema = { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] } as const;
 * const shout = betaTool({ name: 'shout', description: 'Shouts a word.', inputSchema, run: ({ word }) => word.toUpperCase() });
 * const tool = fromSdkTool(shout, { effect: 'none', timeoutMs: 1000 });
 * if ((await lastValueFrom(tool({ word: 'hey' }))) !== 'HEY') throw new Error('unexpected');
 * ```
 *
 * @param tool - what the SDK's helper made; unchanged
 * @param options - `effect` (default `unsafe`), `timeoutMs`, `graceMs`, `resources`, `needsApproval`, `api`, as for {@link tool}. Throws a
 * TypeError or RangeError for a wrong one
 * @returns a tool like any other; unsubscribing from a call aborts the `signal` in the context of its `run`. Errors with what {@link tool} errors
 * with
 * @see {@link fromMcp} for the tools of an MCP server
 */
export function fromSdkTool<I, R>(tool: SdkTool<I, R>, options: ForeignToolOptions<I> = {}): Tool<I, Awaited<R>> {
  return toolOf(sdkDefinition('fromSdkTool', tool, options)) as Tool<I, Awaited<R>>;
}

/** Whether it is a tool that runs here and was made by the SDK: its server tools have no `run`. */
export function isSdkTool(each: unknown): each is SdkTool {
  return typeof (each as Partial<SdkTool> | null | undefined)?.run === 'function';
}

export function sdkDefinition(who: string, tool: unknown, options: ForeignToolOptions<never> = {}): ToolDefinition {
  if (!isSdkTool(tool) || typeof tool.name !== 'string') refuse(TypeError, who, 'tool', 'made with betaZodTool() or betaTool()', tool);
  const { name, description = '', ...api } = { ...withoutFunctions(tool), ...options.api };
  const raw = new WeakMap<object, unknown>();
  const run = (input: never, call: ToolCall): unknown => tool.run(input, contextOf(name, raw.get(input) ?? input, call));
  const rules = { ...options, name, description, input: schemaOf(tool, raw), run } as ToolOptions<z.ZodType, unknown>;
  return define(rules, { ...api, name, ...(description !== '' && { description }) } as Anthropic.Messages.Tool);
}

/** The tool as the SDK sends it: what it runs with does not survive JSON. */
function withoutFunctions(tool: SdkTool): { name: string; description?: string } {
  const fields = Object.entries(tool).filter(([, value]) => typeof value !== 'function');
  return Object.fromEntries(fields) as { name: string; description?: string };
}

/** The SDK parses by a function that throws. Remembers what the model had sent for what came out. */
function schemaOf(tool: SdkTool, raw: WeakMap<object, unknown>): z.ZodType {
  return z.unknown().transform((value, ctx) => {
    const refused = (issues: readonly Issue[]): never => {
      ctx.issues.push(...issues.map((issue) => ({ ...issue, code: 'custom' as const, input: value })));
      return z.NEVER;
    };
    if (!isRecord(value))
      return refused([issue(`Invalid input: expected object, received ${Array.isArray(value) ? 'array' : typeof value}`)]);
    try {
      const parsed = tool.parse === undefined ? value : tool.parse(value);
      if (typeof parsed === 'object' && parsed !== null) raw.set(parsed, value);
      return parsed;
    } catch (error) {
      return refused(issuesOf(error));
    }
  });
}

interface Issue {
  readonly path: PropertyKey[];
  readonly message: string;
  readonly errors?: unknown;
}

function issue(message: string): Issue {
  return { path: [], message };
}

function issuesOf(error: unknown): Issue[] {
  const { issues } = (error ?? {}) as { issues?: unknown };
  if (!Array.isArray(issues) || issues.length === 0) return [issue(saidBy(error))];
  return (issues as readonly Partial<Issue>[]).map(({ path = [], message = '', errors }) => ({ path: [...path], message, errors }));
}

function contextOf(name: string, input: unknown, call: ToolCall): SdkToolContext {
  const toolUse = { type: 'tool_use' as const, id: call.id, name, input };
  return {
    toolUse,
    toolUseBlock: toolUse,
    get signal() {
      return call.signal;
    },
  };
}
