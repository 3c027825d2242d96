import { changed, hasContent, roleOf, saidIn, turnsOf, type Block, type Line } from './historyLines.js';
import { isServerCall, isThinking, withoutCaller } from './historyParts.js';
import type { NoteAt } from './repairHistory.js';
import { pairedParts } from './serverCalls.js';

/** What an assistant's turn may hold as a whole: calls of the API's own in pairs with their results, and no thinking at the end. */
export function repairTurns(lines: readonly Line[], note: NoteAt): readonly Line[] {
  const turns = turnsOf(lines);
  const said = turns.filter((turn) => roleOf(turn) === 'assistant').map((turn) => turn.flatMap(saidIn));
  const stays = pairedParts(turns);
  const gone = new Set(said.flat().flatMap((block, i) => (stays[i] === false && isServerCall(block) ? [block.id] : [])));
  let end = 0;
  for (const blocks of said) {
    end += blocks.length;
    for (let i = 1; i <= blocks.length && (stays[end - i] === false || isThinking(blocks.at(-i))); i++) stays[end - i] = false;
  }
  let at = 0;
  const kept = (block: Block, index: number): Block | undefined => {
    if (stays[at++] === false) return note(index, 'dropped-block');
    const free = withoutCaller(block, gone);
    if (free !== block) note(index, 'dropped-field', 'id' in block ? block.id : undefined);
    return free;
  };
  return lines
    .map((line) => (line.message.role === 'assistant' ? changed(line, (block) => kept(block, line.index)) : line))
    .filter(hasContent);
}
