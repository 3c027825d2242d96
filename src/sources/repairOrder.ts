import { saidIn, turnsOf, roleOf, type Line } from './historyLines.js';
import type { MessageParam } from './historyParts.js';
import type { NoteAt } from './repairHistory.js';

const BEFORE: MessageParam = { role: 'user', content: '(The beginning of the conversation is not there.)' };

/** A user's message comes first, and the system's messages come after those of the user. */
export function repairOrder(lines: readonly Line[], note: NoteAt): readonly Line[] {
  const ordered = exchangesOf(lines).flatMap((exchange) => usersFirst(exchange, note));
  if (ordered.length === 0 || ordered[0]?.message.role === 'user') return ordered;
  note(0, 'added-message');
  return [{ message: BEFORE, index: 0 }, ...ordered];
}

/** What stands between two turns of the assistant, and these turns. */
function exchangesOf(lines: readonly Line[]): readonly (readonly Line[])[] {
  const exchanges: Line[][] = [];
  for (const turn of turnsOf(lines)) {
    const last = exchanges.at(-1);
    if (last !== undefined && roleOf(turn) !== 'assistant' && roleOf(last) !== 'assistant') for (const line of turn) last.push(line);
    else exchanges.push([...turn]);
  }
  return exchanges;
}

function usersFirst(exchange: readonly Line[], note: NoteAt): readonly Line[] {
  const lastUser = exchange.findLastIndex(({ message }) => message.role === 'user');
  const isMoved = ({ message }: Line, at: number): boolean => message.role === 'system' && at < lastUser;
  const moved = exchange.filter(isMoved);
  if (moved.length === 0) return exchange;
  for (const { index } of moved) note(index, 'moved-message');
  const after = exchange.slice(lastUser + 1);
  return [...exchange.slice(0, lastUser + 1).filter((line) => line.message.role !== 'system'), ...moved, ...after];
}

/** What the assistant is to go on with may not end in spaces. */
export function repairPrefill(lines: readonly Line[], note: NoteAt): readonly Line[] {
  const last = lines.at(-1);
  const block = last && saidIn(last).at(-1);
  if (last?.message.role !== 'assistant' || block?.type !== 'text' || block.text === block.text.trimEnd()) return lines;
  note(last.index, 'changed-block');
  const text = block.text.trimEnd();
  const { content } = last.message;
  const trimmed = typeof content === 'string' ? text : [...content.slice(0, -1), { ...block, text }];
  return [...lines.slice(0, -1), { ...last, message: { role: 'assistant', content: trimmed } }];
}
