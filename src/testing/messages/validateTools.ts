import { at, checkFields, isRecord } from './shape.js';
import type { Fields, Problems, Schema } from './shape.js';

const CUSTOM: Schema = {
  name: 'string',
  input_schema: 'object',
  description: 'string?',
  type: 'string?',
  cache_control: 'object?',
  allowed_callers: 'array?',
  defer_loading: 'boolean?',
  eager_input_streaming: 'boolean?',
  input_examples: 'array?',
  strict: 'boolean?',
};

const NAME = /^[a-zA-Z0-9_-]{1,128}$/;
const CHOICES: readonly unknown[] = ['auto', 'any', 'tool', 'none'];

export function* checkTools(tools: unknown): Problems {
  if (!Array.isArray(tools)) return;
  const names = new Set<unknown>();
  for (const [index, tool] of (tools as readonly unknown[]).entries()) {
    if (!isRecord(tool)) return yield `tools.${index}: Input should be a valid dictionary`;
    const custom = tool['type'] === undefined || tool['type'] === null || tool['type'] === 'custom';
    if (custom) yield* checkCustomTool(tool, `tools.${index}.custom`);
    if (tool['name'] !== undefined && names.has(tool['name'])) yield 'tools: Tool names must be unique.';
    names.add(tool['name']);
  }
}

function* checkCustomTool(tool: Fields, path: string): Problems {
  yield* checkFields(tool, CUSTOM, path);
  if (!NAME.test(String(tool['name']))) yield `${path}.name: String should match pattern '${NAME.source}'`;
  const schema = tool['input_schema'] as Fields;
  const where = at(path, 'input_schema');
  if (schema['type'] === undefined) yield `${where}.type: Field required`;
  if (schema['type'] !== 'object') yield `${where}.type: Input should be 'object'`;
  if (['oneOf', 'allOf', 'anyOf'].some((key) => key in schema)) {
    yield `${where}: input_schema does not support oneOf, allOf, or anyOf at the top level`;
  }
}

export function* checkToolChoice(choice: unknown, tools: unknown): Problems {
  if (!isRecord(choice)) return;
  if (!CHOICES.includes(choice['type'])) {
    yield `tool_choice: Input tag '${String(choice['type'])}' found using 'type' does not match any of the expected tags: 'auto', 'any', 'tool', 'none'`;
  }
  if (!Array.isArray(tools) || tools.length === 0) return yield 'tool_choice: tool_choice may only be specified while providing tools';
  if (choice['type'] !== 'tool') return;
  if (!(tools as readonly Fields[]).some((tool) => tool['name'] === choice['name'])) {
    yield `tool_choice: Tool '${String(choice['name'])}' not found in provided tools`;
  }
}

export function* checkThinkingConfig(thinking: unknown, maxTokens: unknown): Problems {
  if (!isRecord(thinking) || thinking['type'] !== 'enabled') return;
  const budget = thinking['budget_tokens'];
  if (budget === undefined) return yield 'thinking.enabled.budget_tokens: Field required';
  if (typeof budget !== 'number' || !Number.isInteger(budget)) {
    return yield 'thinking.enabled.budget_tokens: Input should be a valid integer';
  }
  if (budget < 1024) yield 'thinking.enabled.budget_tokens: Input should be greater than or equal to 1024';
  if (typeof maxTokens === 'number' && maxTokens <= budget) yield '`max_tokens` must be greater than `thinking.budget_tokens`.';
}
