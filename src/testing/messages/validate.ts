import { checkFields, isRecord } from './shape.js';
import type { Fields, Problems, Schema } from './shape.js';
import { checkBlock } from './validateBlocks.js';
import { checkHistory } from './validateHistory.js';
import { checkOutput } from './validateOutput.js';
import type { CheckedMessage, ThinkingMemory } from './validateHistory.js';
import { checkThinkingConfig, checkToolChoice, checkTools } from './validateTools.js';

/** What the endpoints have in common. */
const COMMON: Schema = {
  model: 'string',
  messages: 'array',
  system: 'any?',
  tools: 'array?',
  tool_choice: 'object?',
  thinking: 'object?',
  cache_control: 'object?',
  output_config: 'object?',
  speed: 'string?',
  user_profile_id: 'string?',
  workspace_id: 'string?',
};

const CREATE: Schema = {
  ...COMMON,
  max_tokens: 'integer',
  stream: 'boolean?',
  stop_sequences: 'array?',
  temperature: 'any?',
  top_p: 'any?',
  top_k: 'integer?',
  container: 'any?',
  diagnostics: 'object?',
  inference_geo: 'string?',
  metadata: 'object?',
  service_tier: 'string?',
};

export interface ValidateOptions {
  /** `/v1/messages/count_tokens` takes fewer parameters. */
  readonly counting: boolean;
  /** A request with beta headers may bring parameters this server does not know. */
  readonly beta: boolean;
  readonly memory: ThinkingMemory;
}

/** The first thing the API would refuse in a request body, in its words; `undefined` for a good one. */
export function findProblem(body: unknown, options: ValidateOptions): string | undefined {
  const [problem] = problemsOf(body, options);
  return problem;
}

function* problemsOf(body: unknown, { counting, beta, memory }: ValidateOptions): Problems {
  if (!isRecord(body)) return yield 'Input should be a valid dictionary';
  const schema = counting ? COMMON : CREATE;
  yield* checkFields(beta ? known(body, schema) : body, schema, '');
  yield* checkParameters(body);
  yield* checkSystem(body['system']);
  yield* checkTools(body['tools']);
  yield* checkToolChoice(body['tool_choice'], body['tools']);
  yield* checkThinkingConfig(body['thinking'], body['max_tokens']);
  yield* checkOutput(body['output_config']);
  const messages = body['messages'] as readonly unknown[];
  yield* checkMessages(messages);
  yield* checkHistory(messages as readonly CheckedMessage[], memory, isRecord(body['thinking']) && body['thinking']['type'] === 'enabled');
  yield* checkPrefill((messages as readonly CheckedMessage[]).at(-1));
}

function known(body: Fields, schema: Schema): Fields {
  return Object.fromEntries(Object.entries(body).filter(([name]) => Object.hasOwn(schema, name)));
}

/** `max_tokens: 0` fills the prompt cache and generates nothing. */
function* checkParameters({ model, max_tokens }: Fields): Problems {
  if (model === '') yield 'model: String should have at least 1 character';
  if (typeof max_tokens === 'number' && max_tokens < 0) yield 'max_tokens: Input should be greater than or equal to 0';
}

function* checkSystem(system: unknown): Problems {
  if (system === undefined || system === null || typeof system === 'string') return;
  if (!Array.isArray(system)) return yield 'system: Input should be a valid string or a valid list';
  for (const [index, block] of (system as readonly unknown[]).entries()) yield* checkBlock(block, 'system', `system.${index}`);
}

function* checkMessages(messages: readonly unknown[]): Problems {
  if (messages.length === 0) yield 'messages: at least one message is required';
  if (messages.length > 100_000) yield 'messages: List should have at most 100000 items';
  for (const [index, message] of messages.entries()) {
    const next = messages[index + 1];
    yield* checkMessage(message, index, messages.length - 1);
    if (isRecord(message) && message['role'] === 'system' && isRecord(next) && next['role'] === 'user') {
      yield `messages.${index}: role 'system' must precede an 'assistant' message or end the array`;
    }
  }
}

const MESSAGE: Schema = { role: 'string', content: 'any' };
const ROLES: readonly unknown[] = ['user', 'assistant', 'system'];

function* checkMessage(message: unknown, index: number, last: number): Problems {
  const path = `messages.${index}`;
  if (!isRecord(message)) return yield `${path}: Input should be a valid dictionary`;
  yield* checkFields(message, MESSAGE, path);
  const { role, content } = message;
  if (!ROLES.includes(role)) yield `${path}.role: Input should be 'user', 'assistant' or 'system'`;
  if (index === 0 && role !== 'user') yield 'messages: first message must use the "user" role';
  if (typeof content !== 'string' && !Array.isArray(content)) return yield `${path}.content: Input should be a valid list`;
  if (content.length === 0 && !(role === 'assistant' && index === last)) {
    yield `${path}: all messages must have non-empty content except for the optional final assistant message`;
  }
  if (typeof content !== 'string') {
    for (const [n, block] of (content as readonly unknown[]).entries()) yield* checkBlock(block, String(role), `${path}.content.${n}`);
  } else if (content !== '' && content.trim() === '') yield `${path}: text content blocks must contain non-whitespace text`;
}

function* checkPrefill(last: CheckedMessage | undefined): Problems {
  if (last?.role !== 'assistant') return;
  const block = typeof last.content === 'string' ? { type: 'text', text: last.content } : last.content.at(-1);
  if (block?.['type'] === 'text' && /\s$/.test(String(block['text']))) {
    yield 'messages: final assistant content cannot end with trailing whitespace';
  }
}
