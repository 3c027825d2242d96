import { at, checkFields, isRecord } from './shape.js';
import type { Fields, Problems, Schema } from './shape.js';

/** The fields of each kind of block; `undefined` stands for the blocks of server tools, whose insides are not looked at. */
const SCHEMAS: Readonly<Record<string, Schema | undefined>> = {
  text: { type: 'string', text: 'string', citations: 'array?', cache_control: 'object?' },
  image: { type: 'string', source: 'object', cache_control: 'object?', transformations: 'object?' },
  document: { type: 'string', source: 'object', title: 'string?', context: 'string?', citations: 'object?', cache_control: 'object?' },
  search_result: { type: 'string', source: 'string', title: 'string', content: 'array', citations: 'object?', cache_control: 'object?' },
  thinking: { type: 'string', thinking: 'string', signature: 'string' },
  redacted_thinking: { type: 'string', data: 'string' },
  tool_use: {
    type: 'string',
    id: 'string',
    name: 'string',
    input: 'object',
    caller: 'object?',
    toolset_name: 'string?',
    cache_control: 'object?',
  },
  tool_result: {
    type: 'string',
    tool_use_id: 'string',
    content: 'any?',
    is_error: 'boolean?',
    toolset_name: 'string?',
    cache_control: 'object?',
  },
  tool_reference: { type: 'string', tool_name: 'string', cache_control: 'object?' },
  server_tool_use: undefined,
  web_search_tool_result: undefined,
  web_fetch_tool_result: undefined,
  code_execution_tool_result: undefined,
  bash_code_execution_tool_result: undefined,
  text_editor_code_execution_tool_result: undefined,
  tool_search_tool_result: undefined,
  mcp_tool_use: undefined,
  mcp_tool_result: undefined,
  container_upload: undefined,
  browser_state: undefined,
  compaction: undefined,
};

const IN_TOOL_RESULT: readonly string[] = ['text', 'image', 'search_result', 'document', 'tool_reference', 'browser_state'];
const NOT_IN_MESSAGES: readonly string[] = ['tool_reference', 'browser_state'];
const IN_MESSAGES: readonly string[] = Object.keys(SCHEMAS).filter((type) => !NOT_IN_MESSAGES.includes(type));
const BY_ASSISTANT: readonly string[] = ['tool_use', 'thinking', 'redacted_thinking', 'server_tool_use'];
const TOOL_ID = /^[a-zA-Z0-9_-]+$/;

/** A block of a message. */
export function* checkBlock(block: unknown, role: string, path: string): Problems {
  yield* checkShape(block, role === 'system' ? ['text'] : IN_MESSAGES, path);
  if (!isRecord(block)) return;
  if (role !== 'assistant' && BY_ASSISTANT.includes(String(block['type']))) {
    yield `${path}: \`${String(block['type'])}\` blocks can only be in \`assistant\` messages`;
  }
  if (role !== 'user' && block['type'] === 'tool_result') yield `${path}: \`tool_result\` blocks can only be in \`user\` messages`;
  if (block['type'] === 'text') yield* checkText(block, path);
  if (block['type'] === 'tool_use') yield* checkToolUse(block, path);
  if (block['type'] === 'tool_result') yield* checkToolResult(block, path);
}

function* checkShape(block: unknown, allowed: readonly string[], path: string): Problems {
  if (!isRecord(block)) return yield `${path}: Input should be a valid dictionary`;
  const { type } = block;
  if (type === undefined) return yield `${path}.type: Field required`;
  if (typeof type !== 'string') return yield `${path}.type: Input should be a valid string`;
  if (!allowed.includes(type)) {
    const tags = allowed.map((tag) => `'${tag}'`).join(', ');
    return yield `${path}: Input tag '${type}' found using 'type' does not match any of the expected tags: ${tags}`;
  }
  const schema = SCHEMAS[type];
  if (schema) yield* checkFields(block, schema, at(path, type));
}

function* checkText(block: Fields, path: string): Problems {
  if (block['text'] === '') yield `${path}: text content blocks must be non-empty`;
  if (String(block['text']).trim() === '') yield `${path}: text content blocks must contain non-whitespace text`;
}

function* checkToolUse({ id, name }: Fields, path: string): Problems {
  if (!TOOL_ID.test(String(id))) yield `${path}.tool_use.id: String should match pattern '${TOOL_ID.source}'`;
  if (name === '') yield `${path}.tool_use.name: String should have at least 1 character`;
  if (String(name).length > 200) yield `${path}.tool_use.name: String should have at most 200 characters`;
}

function* checkToolResult({ content, is_error, tool_use_id }: Fields, path: string): Problems {
  const where = at(path, 'tool_result');
  if (!TOOL_ID.test(String(tool_use_id))) yield `${where}.tool_use_id: String should match pattern '${TOOL_ID.source}'`;
  const empty = content === undefined || content === null || content === '' || (Array.isArray(content) && content.length === 0);
  if (empty && is_error === true) yield `${where}: content cannot be empty if \`is_error\` is true`;
  if (empty || typeof content === 'string') return;
  if (!Array.isArray(content)) return yield `${where}.content: Input should be a valid string or a valid list`;
  for (const [index, part] of (content as readonly unknown[]).entries()) {
    const partPath = at(at(where, 'content'), index);
    yield* checkShape(part, IN_TOOL_RESULT, partPath);
    if (isRecord(part) && part['type'] === 'text' && part['text'] === '') yield `${partPath}: text content blocks must be non-empty`;
  }
}
