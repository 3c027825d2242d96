import type Anthropic from '@anthropic-ai/sdk';
import type { z } from 'zod';
import { refuse } from './checks.js';
import { ModelOutputError, type Problem } from './errors.js';
import { outputSchema } from './outputSchema.js';
import { parse, type Parsed } from './parse.js';
import { problemsOf, saidBy } from './words.js';

type Message = Anthropic.Messages.Message;
type OutputConfig = Anthropic.Messages.OutputConfig;

/** What a reply says in the form that was asked for, or why it does not; nothing for a reply that did not come to its end. */
export type ReadOutput = { readonly output?: unknown } | { readonly error: ModelOutputError };

/** A form that replies are asked for. */
export interface OutputForm {
  /** What the API is given. */
  readonly config: OutputConfig;
  /** Never throws and never rejects. A promise only if the schema has asynchronous parts. */
  read(message: Message): ReadOutput | Promise<ReadOutput>;
}

/** Checks the option `output`. `config`: what the request says of its output besides. */
export function planOutput(who: string, schema: z.ZodType | undefined, config: OutputConfig | null | undefined): OutputForm | undefined {
  if (schema === undefined) return undefined;
  if (typeof (schema as Partial<z.ZodType> | null)?.safeParse !== 'function') refuse(TypeError, who, 'output', 'a zod schema', schema);
  if (config?.format !== undefined && config.format !== null)
    throw new TypeError(`${who}: output and output_config.format say both what the reply is to be; give one of them.`);
  return { config: { ...config, format: formatOf(who, schema) }, read: (message) => read(schema, message) };
}

function formatOf(who: string, schema: z.ZodType): Anthropic.Messages.JSONOutputFormat {
  try {
    return { type: 'json_schema', schema: outputSchema(schema) };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.replace(/\.$/, '') : String(cause);
    throw new TypeError(`${who}: output must have a JSON schema that the API takes: ${why}.`, { cause });
  }
}

function read(schema: z.ZodType, message: Message): ReadOutput | Promise<ReadOutput> {
  const stop = message.stop_reason ?? 'end_turn';
  if (stop !== 'end_turn' && stop !== 'stop_sequence') return {};
  const text = lastTextOf(message);
  const wrong = (problems: readonly Problem[], cause?: unknown): ReadOutput => ({
    error: new ModelOutputError(text, stop, problems, { cause }),
  });
  const failed = (error: unknown): ReadOutput => wrong([{ path: '', message: saidBy(error) || 'its check threw' }], error);
  const told = (parsed: Parsed): ReadOutput =>
    parsed.success ? { output: parsed.data } : wrong(problemsOf(parsed.error.issues), parsed.error);
  if (text === '') return wrong([{ path: '', message: 'The reply has no text.' }]);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return wrong([{ path: '', message: `It is no JSON: ${saidBy(error)}` }], error);
  }
  try {
    const parsed = parse(schema, value);
    return parsed instanceof Promise ? parsed.then(told, failed) : told(parsed);
  } catch (error) {
    return failed(error);
  }
}

/** What comes after thinking and after the work of server tools, in however many blocks. */
function lastTextOf({ content }: Message): string {
  const before = content.findLastIndex(({ type }) => type !== 'text');
  return content.slice(before + 1).reduce((text, block) => (block.type === 'text' ? text + block.text : text), '');
}
