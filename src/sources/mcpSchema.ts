import type Anthropic from '@anthropic-ai/sdk';
import { isRecord } from './contentBlocks.js';
import { cut } from './resultContent.js';

const AT_THE_TOP: readonly string[] = ['oneOf', 'anyOf', 'allOf'];
const KEY = /^[a-zA-Z0-9_.-]{1,64}$/;
const MOST_WORDS = 10_000;

interface SentSchema {
  readonly schema: Anthropic.Messages.Tool.InputSchema;
  /** What could not be sent, in words for the description. Empty if all could. */
  readonly words: string;
}

/**
 * The schema as it is, where the API takes it. One that the API refuses would fail every request: it is told in words as well, and the server checks
 * the input.
 */
export function sentSchema(schema: unknown): SentSchema {
  if (!isRecord(schema)) return { schema: { type: 'object' }, words: '' };
  const json = JSON.stringify(schema);
  const sent = schema['type'] === 'object' ? fitting(schema) : { type: 'object' as const };
  if (JSON.stringify(sent) === json) return { schema: schema as Anthropic.Messages.Tool.InputSchema, words: '' };
  return { schema: sent, words: `The input has to fit this JSON schema: ${cut(json, MOST_WORDS)}` };
}

function fitting(schema: Readonly<Record<string, unknown>>): Anthropic.Messages.Tool.InputSchema {
  const fields = Object.entries(schema).filter(([key]) => !AT_THE_TOP.includes(key));
  const kept = fields.map(([key, value]) => {
    if (key === 'properties')
      return [key, isRecord(value) ? Object.fromEntries(Object.entries(value).filter(([name]) => KEY.test(name))) : {}];
    if (key === 'required') return [key, Array.isArray(value) ? value.filter((name) => typeof name === 'string' && KEY.test(name)) : []];
    return [key, value];
  });
  return Object.fromEntries(kept) as Anthropic.Messages.Tool.InputSchema;
}
