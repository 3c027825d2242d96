import { isRecord } from './blockFields.js';
import { refuse } from './checks.js';
import type { Block, Line, Role } from './historyLines.js';
import type { MessageParam } from './historyParts.js';
import { repairBlock } from './repairBlock.js';
import { repairIds } from './repairIds.js';
import { repairOrder, repairPrefill } from './repairOrder.js';
import { placeResults } from './repairResults.js';
import { repairTurns } from './repairTurns.js';

/** What a history had that the API would refuse. */
export interface HistoryRepair {
  readonly kind:
    /** A call without a result, or with an error that has no words: it was given one that says so. */
    | 'missing-result'
    /** A result without a call, a second result of a call: left out. */
    | 'orphan-result'
    | 'duplicate-result'
    /** A result, or a message of the system, in the wrong place: moved to where the API takes it. */
    | 'moved-result'
    | 'moved-message'
    /** An id that was used before, or that the API does not take: changed, together with the result's id. */
    | 'changed-id'
    /** An input, a name or a content of the wrong kind: replaced. Spaces at the end of what the assistant is to go on with: cut off. */
    | 'changed-block'
    /** A field that the API does not know, or with a value that it does not take: left out. */
    | 'dropped-field'
    /** A blank text, thinking without a signature or at the end, half of a call of the API's own, what its role cannot say: left out. */
    | 'dropped-block'
    | 'dropped-message'
    /** A message of the user in front, where the assistant's came first. */
    | 'added-message';
  /** Index of the message in what was given. */
  readonly message: number;
  /** Of the call, where there is one. */
  readonly id?: string | undefined;
}

type Kind = HistoryRepair['kind'];
/** Takes down what was changed in one message. */
export type Note = (kind: Kind, id?: string) => undefined;
/** The same, with the index of the message. */
export type NoteAt = (message: number, kind: Kind, id?: string) => undefined;

const ROLES: readonly unknown[] = ['user', 'assistant', 'system'];
/** As many messages as the API takes. */
const MAX_MESSAGES = 100_000;

/**
 * Makes a history that the API accepts of one that it may refuse, whatever is in it: every call gets exactly one result, results without a call
 * are left out, ids are unique, and thinking that was cut off is dropped. A result that is there is kept, wherever it stands. What is in order
 * stays as it is, to the very object.
 *
 * *When to use*: for histories that were saved by other programs, or by one that crashed. Those of `turn`, `agent` and `conversation` need no repair.
 *
 * ```ts
 * import { repairHistory } from 'rxfleet/agents';
 *
 * const { messages, repairs } = repairHistory([
 *   { role: 'user', content: 'What time is it?' },
 *   { role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'clock', input: {} }] },
 * ]);
 * if (messages.length !== 3 || repairs[0]?.kind !== 'missing-result') throw new Error('unexpected');
 * ```
 *
 * @param messages - the history, as it came: nothing is expected of what is in the array. It is left as it is
 * @returns `messages` that can be sent, none if nothing is left; and `repairs`: what was changed, in order
 */
export function repairHistory(messages: readonly MessageParam[]): { messages: MessageParam[]; repairs: HistoryRepair[] } {
  if (!Array.isArray(messages)) refuse(TypeError, 'repairHistory', 'messages', 'an array', messages);
  const repairs: HistoryRepair[] = [];
  const note: NoteAt = (message, kind, id) => void repairs.push({ kind, message, ...(id !== undefined && { id }) });
  const lines = (messages as readonly unknown[]).flatMap((given, index) => repairMessage(given, index, note));
  const repaired = newest(repairLines(lines, messages.length, note), messages.length, note);
  return { messages: repaired.map(({ message }) => message), repairs: repairs.sort((one, other) => one.message - other.message) };
}

/** The repairs for which the whole history counts. */
function repairLines(lines: readonly Line[], end: number, note: NoteAt): readonly Line[] {
  const answered = placeResults(repairIds(lines, note), end, note);
  return repairPrefill(repairOrder(repairTurns(answered, note), note), note);
}

/** As much of a history as the API takes. One message is left for what a cut may make necessary in front. */
function newest(lines: readonly Line[], end: number, note: NoteAt): readonly Line[] {
  if (lines.length <= MAX_MESSAGES) return lines;
  const cut = lines.length - MAX_MESSAGES + 1;
  for (const { index } of lines.slice(0, cut)) note(index, 'dropped-message');
  return repairLines(lines.slice(cut), end, note);
}

/** The message as it may stand somewhere in a history; nothing if nothing of it can. */
function repairMessage(given: unknown, index: number, noteAt: NoteAt): Line[] {
  const note: Note = (kind, id) => noteAt(index, kind, id);
  const { role, content } = isRecord(given) ? given : {};
  const before = listOf(content);
  if (!ROLES.includes(role) || before.length === 0) return note('dropped-message') ?? [];
  const after = typeof content === 'string' ? content : partsOf(before, role as Role, note);
  if (after.length === 0) return [];
  const same = after === content;
  if (!same && !Array.isArray(content)) note('changed-block');
  const extra = Object.keys(given as object).length > 2;
  if (extra) note('dropped-field');
  return [{ index, message: (same && !extra ? given : { role, content: after }) as MessageParam }];
}

function listOf(content: unknown): readonly unknown[] {
  if (typeof content === 'string') return content.trim() === '' ? [] : [content];
  if (Array.isArray(content)) return content;
  return isRecord(content) ? [content] : [];
}

/** The very list, if nothing in it had to be changed. */
function partsOf(given: readonly unknown[], role: Role, note: Note): readonly Block[] {
  const parts = given.map((block) => repairBlock(block, role, note));
  return parts.every((part, i) => part === given[i]) ? (given as readonly Block[]) : parts.filter((part) => part !== undefined);
}
