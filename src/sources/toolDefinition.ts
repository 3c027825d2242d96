import type Anthropic from '@anthropic-ai/sdk';
import { z } from 'zod';
import { checkFunction } from '../core/options.js';
import { checkCount } from '../gates/checks.js';
import { checkMilliseconds, checkOneOf, refuse } from './checks.js';
import type { ToolCall, ToolEffect, ToolOptions } from './tool.js';
import type { ResourcesOf } from './toolGates.js';

/** What a tool is, as data. */
export interface ToolDefinition {
  readonly name: string;
  readonly description: string;
  readonly input: z.ZodType;
  readonly output: z.ZodType | undefined;
  readonly effect: ToolEffect;
  /** Milliseconds; undefined without a limit. */
  readonly timeoutMs: number | undefined;
  /** Milliseconds; undefined for the default of scopes. */
  readonly graceMs: number | undefined;
  /** What a call reads and writes; undefined if the tool does not say. */
  readonly resources: ResourcesOf | undefined;
  /** Names of tools whose calls in the same reply come first. */
  readonly dependsOn: readonly string[];
  /** The key of what a call reads or writes; undefined if it has no versions. */
  readonly versionOf: ((input: unknown) => string) | undefined;
  readonly conflictRetries: number;
  /** Whether a person has to be asked about a call with this input. */
  readonly needsApproval: (input: unknown) => boolean;
  /** Whether it can ever be so. */
  readonly mayAsk: boolean;
  /** The tool as the Messages API wants it: its name, its description and the JSON schema of its input. */
  toApi(): Anthropic.Messages.Tool;
  /** @internal */
  run(input: unknown, call: ToolCall): unknown;
}

const NAME = /^[a-zA-Z0-9_-]{1,128}$/;
const EFFECTS: readonly ToolEffect[] = ['none', 'idempotent', 'unsafe'];

type Options = ToolOptions<z.ZodType, unknown> & { readonly output?: z.ZodType };

/** Checks the options of a tool and completes them. `sent` is what the API is given, for tools that bring a schema of their own. */
export function define(options: Options, sent?: Anthropic.Messages.Tool): ToolDefinition {
  if (typeof options !== 'object' || options === null) refuse(TypeError, 'tool', 'options', 'an object', options);
  const { name, description, input, output, effect = 'unsafe', timeoutMs, graceMs, resources, needsApproval = false, api, run } = options;
  const { dependsOn = [], versionOf, conflictRetries = 0 } = options;
  checkName(name);
  if (typeof description !== 'string') refuse(TypeError, 'tool', 'description', 'a string', description);
  checkSchema('input', input);
  if (output !== undefined) checkSchema('output', output);
  checkOneOf('tool', 'effect', effect, EFFECTS);
  if (timeoutMs !== undefined) checkMilliseconds('tool', 'timeoutMs', timeoutMs);
  if (graceMs !== undefined) checkMilliseconds('tool', 'graceMs', graceMs);
  if (api !== undefined && (typeof api !== 'object' || api === null)) refuse(TypeError, 'tool', 'api', 'an object', api);
  if (resources !== undefined) checkFunction('tool', 'resources', resources);
  if (versionOf !== undefined) checkFunction('tool', 'versionOf', versionOf);
  checkNames(dependsOn);
  checkCount('tool', 'conflictRetries', conflictRetries, 0);
  if (conflictRetries > 0 && (effect === 'unsafe' || versionOf === undefined))
    refuse(RangeError, 'tool', 'conflictRetries', '0 for a tool that is unsafe, or has no versionOf', conflictRetries);
  if (typeof needsApproval !== 'boolean') checkFunction('tool', 'needsApproval', needsApproval);
  checkFunction('tool', 'run', run);
  const own = sent ?? { name, description, input_schema: schemaOf(name, input) };
  const toApi = (): Anthropic.Messages.Tool => ({ ...api, ...own });
  const asks = typeof needsApproval === 'boolean' ? (): boolean => needsApproval : needsApproval;
  const mayAsk = needsApproval !== false;
  const rules = { mayAsk, dependsOn: [...dependsOn], versionOf: versionOf as ((input: unknown) => string) | undefined, conflictRetries };
  const keys = resources as ResourcesOf | undefined;
  return { name, description, input, output, effect, timeoutMs, graceMs, resources: keys, ...rules, needsApproval: asks, toApi, run };
}

function checkName(name: unknown): void {
  if (typeof name !== 'string') refuse(TypeError, 'tool', 'name', 'a string', name);
  if (!NAME.test(name)) refuse(RangeError, 'tool', 'name', '1 to 128 letters, digits, "_" or "-"', name);
}

function checkNames(names: unknown): void {
  if (!Array.isArray(names) || names.some((each) => typeof each !== 'string'))
    refuse(TypeError, 'tool', 'dependsOn', 'an array of names of tools', names);
}

function checkSchema(option: string, schema: unknown): void {
  if (typeof (schema as Partial<z.ZodType> | null | undefined)?.safeParse !== 'function')
    refuse(TypeError, 'tool', option, 'a zod schema', schema);
}

/** The API takes an object without alternatives at its top. */
function schemaOf(name: string, input: z.ZodType): Anthropic.Messages.Tool.InputSchema {
  const { $schema: _, ...schema } = jsonSchemaOf(name, input) as Record<string, unknown>;
  if (schema['type'] !== 'object' || ['oneOf', 'anyOf', 'allOf'].some((key) => key in schema)) {
    throw new TypeError(`tool: input of "${name}" must be a zod object; unions and other types may stand only inside it.`);
  }
  return schema as Anthropic.Messages.Tool.InputSchema;
}

function jsonSchemaOf(name: string, input: z.ZodType): unknown {
  try {
    return z.toJSONSchema(input, { io: 'input', reused: 'inline' });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`tool: input of "${name}" must have a JSON schema: ${why}.`, { cause });
  }
}
