import { isRecord, isTyped, withKnownFields, type Typed } from './blockFields.js';
import type { Block, Role } from './historyLines.js';
import { isSendable, MAX_NAME } from './historyParts.js';
import { toJson } from './json.js';
import type { Note } from './repairHistory.js';
import { serverPart } from './serverCalls.js';

const BY_ASSISTANT = /^(?:tool_use|(?:redacted_)?thinking|(?:server|mcp)_tool_use|.+_tool_result)$/;

/** A block as it may stand in a message of this role, whatever is around it; undefined if none can be made of it. */
export function repairBlock(given: unknown, role: Role, note: Note): Block | undefined {
  const block = typeof given === 'string' ? { type: 'text', text: given } : given;
  if (!isTyped(block, 'message') || !isSaidBy(role, block)) return note('dropped-block');
  const whole = completed(block, note);
  const known = withKnownFields(whole) as Block | undefined;
  if (known === undefined || !isSendable(known) || serverPart(known)?.id === '') return note('dropped-block');
  if (whole !== given) note('changed-block', idOf(whole));
  if (known !== (whole as unknown)) note('dropped-field', idOf(whole));
  return known;
}

/** Results may stand anywhere: they are moved to where they belong. */
function isSaidBy(role: Role, { type }: Typed): boolean {
  if (type === 'text' || type === 'tool_result') return true;
  return role === 'assistant' || (role === 'user' && !BY_ASSISTANT.test(type));
}

/** A call, or a result, with what it needs. */
function completed(block: Typed, note: Note): Typed {
  if (block.type === 'tool_use')
    return withFields(block, { id: asId(block['id']), name: asName(block['name']), input: asInput(block['input']) });
  if (block.type !== 'tool_result') return block;
  const id = asId(block['tool_use_id']);
  const content = asContent(block['content']);
  const wordless = block['is_error'] === true && (content === undefined || content === null || (content as string | []).length === 0);
  if (wordless) note('missing-result', id);
  return withFields(block, { tool_use_id: id, content: wordless ? 'It failed without giving a reason.' : content });
}

function withFields(block: Typed, fields: Readonly<Record<string, unknown>>): Typed {
  return Object.entries(fields).every(([name, value]) => block[name] === value) ? block : { ...block, ...fields };
}

/** Without an id, an empty one, that is changed later on: results without one belong to calls without one. */
function asId(id: unknown): string {
  return typeof id === 'string' || typeof id === 'number' ? String(id) : '';
}

function asName(name: unknown): string {
  return typeof name === 'string' && name !== '' ? name.slice(0, MAX_NAME) : 'unknown';
}

function asInput(input: unknown): unknown {
  return isRecord(input) ? input : {};
}

/** Of a result nothing is lost: what cannot stand in one is put into words. */
function asContent(content: unknown): unknown {
  if (content === undefined || content === null || typeof content === 'string') return content;
  if (!Array.isArray(content)) return toJson(content);
  const parts = (content as readonly unknown[]).map(asPart);
  return parts.every((part, i) => part === (content as readonly unknown[])[i]) ? content : parts.filter((part) => part !== undefined);
}

function asPart(part: unknown): unknown {
  const known = isTyped(part, 'result') ? withKnownFields(part) : undefined;
  if (known !== undefined) return known['text'] === '' && known.type === 'text' ? undefined : known;
  if (part === '' || part === null || part === undefined) return undefined;
  return { type: 'text', text: typeof part === 'string' ? part : toJson(part) };
}

function idOf(block: Typed): string | undefined {
  const id = block['id'] ?? block['tool_use_id'];
  return typeof id === 'string' ? id : undefined;
}
