import type { Fields, Problems } from './shape.js';

/** A message whose shape has been checked. */
export interface CheckedMessage {
  readonly role: string;
  readonly content: string | readonly Fields[];
}

/** What the server knows of the thinking it has issued. */
export interface ThinkingMemory {
  /** The thinking a signature was given for. */
  readonly signed: ReadonlyMap<string, string>;
  /** The data of the redacted blocks. */
  readonly redacted: ReadonlySet<string>;
  /** The ids of the calls that were issued after thinking. */
  readonly thoughtful: ReadonlySet<string>;
}

interface PlacedBlock {
  readonly block: Fields;
  readonly path: string;
}

interface Turn {
  readonly role: string;
  /** The index of its last message, which is where a missing result is missed. */
  readonly index: number;
  readonly blocks: readonly PlacedBlock[];
}

/**
 * The rules between messages: every call has one result, every result a call, ids are unique, thinking comes back as it was issued.
 * Consecutive messages of one role count as one turn, as the API combines them.
 */
export function* checkHistory(messages: readonly CheckedMessage[], memory: ThinkingMemory, thinkingEnabled: boolean): Problems {
  const turns = turnsOf(messages);
  const seen = new Set<string>();
  const served = new Set<string>();
  for (const [n, turn] of turns.entries()) {
    if (turn.role === 'assistant') {
      yield* checkUniqueIds(turn, seen);
      yield* checkAnswered(turn, turns[n + 1]);
      yield* checkThinking(turn, memory);
    }
    if (turn.role === 'user') yield* checkResults(turn, turns[n - 1]);
    yield* checkServerResults(turn, served);
  }
  if (thinkingEnabled) yield* checkThinkingKept(turns.filter(({ role }) => role === 'assistant').at(-1), memory);
}

function turnsOf(messages: readonly CheckedMessage[]): readonly Turn[] {
  const turns: Turn[] = [];
  for (const [index, { role, content }] of messages.entries()) {
    const blocks = placed(content, index);
    const last = turns.at(-1);
    if (last?.role === role) turns[turns.length - 1] = { role, index, blocks: [...last.blocks, ...blocks] };
    else turns.push({ role, index, blocks });
  }
  return turns;
}

function placed(content: string | readonly Fields[], index: number): readonly PlacedBlock[] {
  if (typeof content === 'string') return [{ block: { type: 'text', text: content }, path: `messages.${index}` }];
  return content.map((block, n) => ({ block, path: `messages.${index}.content.${n}` }));
}

const ofType = (turn: Turn | undefined, type: string): readonly PlacedBlock[] =>
  turn?.blocks.filter(({ block }) => block['type'] === type) ?? [];
const idsOf = (blocks: readonly PlacedBlock[], field: string): readonly string[] => blocks.map(({ block }) => String(block[field]));

function* checkUniqueIds(turn: Turn, seen: Set<string>): Problems {
  for (const { block, path } of ofType(turn, 'tool_use')) {
    const id = String(block['id']);
    if (seen.has(id)) yield `${path}: \`tool_use\` ids must be unique`;
    seen.add(id);
  }
}

/** Only the results that come first in the next turn count: text in front of them hides them. */
function* checkAnswered(turn: Turn, next: Turn | undefined): Problems {
  const answers = next?.role === 'user' ? next.blocks : [];
  const firstOther = answers.findIndex(({ block }) => block['type'] !== 'tool_result');
  const answered = new Set(idsOf(firstOther < 0 ? answers : answers.slice(0, firstOther), 'tool_use_id'));
  const missing = idsOf(ofType(turn, 'tool_use'), 'id').filter((id) => !answered.has(id));
  if (missing.length === 0) return;
  yield (
    `messages.${turn.index}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${missing.join(', ')}. ` +
    'Each `tool_use` block must have a corresponding `tool_result` block in the next message.'
  );
}

function* checkResults(turn: Turn, previous: Turn | undefined): Problems {
  const asked = new Set(previous?.role === 'assistant' ? idsOf(ofType(previous, 'tool_use'), 'id') : []);
  const answered = new Set<string>();
  for (const { block, path } of ofType(turn, 'tool_result')) {
    const id = String(block['tool_use_id']);
    if (!asked.has(id)) {
      yield (
        `${path}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${id}. ` +
        'Each `tool_result` block must have a corresponding `tool_use` block in the previous message.'
      );
    }
    if (answered.has(id)) yield `${path}: each tool_use must have a single result. Found multiple \`tool_result\` blocks with id: ${id}`;
    answered.add(id);
  }
}

function* checkThinking(turn: Turn, { signed, redacted }: ThinkingMemory): Problems {
  for (const { block, path } of turn.blocks) {
    if (block['type'] === 'thinking') {
      const issued = signed.get(String(block['signature']));
      if (issued === undefined) yield `${path}: Invalid \`signature\` in \`thinking\` block`;
      if (issued !== block['thinking']) {
        yield (
          `${path}: \`thinking\` or \`redacted_thinking\` blocks in the latest assistant message cannot be modified. ` +
          'These blocks must remain as they were in the original response.'
        );
      }
    }
    if (block['type'] === 'redacted_thinking' && !redacted.has(String(block['data']))) {
      yield `${path}: Invalid \`data\` in \`redacted_thinking\` block`;
    }
  }
  const last = turn.blocks.at(-1);
  if (last?.block['type'] === 'thinking') yield `${last.path}: The final block in an assistant message cannot be \`thinking\`.`;
}

/** In a tool loop with `thinking` enabled, the thinking before the last calls may not be left out. */
function* checkThinkingKept(turn: Turn | undefined, { thoughtful }: ThinkingMemory): Problems {
  const first = turn?.blocks[0];
  const type = String(first?.block['type']);
  if (!first || !idsOf(ofType(turn, 'tool_use'), 'id').some((id) => thoughtful.has(id)) || type.endsWith('thinking')) return;
  yield (
    `${first.path}.type: Expected \`thinking\` or \`redacted_thinking\`, but found \`${type}\`. When \`thinking\` is enabled, a final ` +
    '`assistant` message must start with a thinking block (preceding the lastmost set of `tool_use` and `tool_result` blocks).'
  );
}

/** The results of server tools stand in the assistant's own turn, after the call they belong to. */
function* checkServerResults(turn: Turn, served: Set<string>): Problems {
  for (const { block, path } of turn.blocks) {
    const type = String(block['type']);
    const call = type === 'mcp_tool_result' || type === 'mcp_tool_use' ? 'mcp_tool_use' : 'server_tool_use';
    if (type === call) served.add(String(block['id']));
    if (!type.endsWith('_tool_result') || served.has(String(block['tool_use_id']))) continue;
    yield (
      `${path}: unexpected \`tool_use_id\` found in \`${type}\` blocks: ${String(block['tool_use_id'])}. ` +
      `Each \`${type}\` block must have a corresponding \`${call}\` block before it.`
    );
  }
}
