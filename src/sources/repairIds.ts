import { changed, saidIn, turnsOf, type Block, type Line } from './historyLines.js';
import { callIdsOf, freshId } from './historyParts.js';
import type { NoteAt } from './repairHistory.js';

const GOOD_ID = /^[a-zA-Z0-9_-]+$/;

interface Call {
  /** Unique, and such that the API takes it. */
  readonly id: string;
  /** The number of its turn. */
  readonly turn: number;
  answered: boolean;
}

/** Ids of calls are unique, and each result that stays belongs to one call, wherever it stands: changes the ids on both sides. */
export function repairIds(lines: readonly Line[], note: NoteAt): readonly Line[] {
  const calls = new Map<string, Call[]>();
  const rename = renamer(callIdsOf(lines.map(({ message }) => message)));
  const renamed = turnsOf(lines).map((turn, n) =>
    turn.map((line) =>
      changed(line, (block) => {
        if (block.type !== 'tool_use') return block;
        const id = rename(block.id);
        calls.set(block.id, [...(calls.get(block.id) ?? []), { id, turn: n, answered: false }]);
        if (id === block.id) return block;
        note(line.index, 'changed-id', block.id);
        return { ...block, id };
      }),
    ),
  );
  const owners = ownersOf(renamed, calls);
  let at = 0;
  const owned = (block: Block, index: number): Block | undefined => {
    if (block.type !== 'tool_result') return block;
    const { tool_use_id } = block;
    const id = owners[at++];
    if (id === undefined) return note(index, calls.has(tool_use_id) ? 'duplicate-result' : 'orphan-result', tool_use_id);
    return id === tool_use_id ? block : { ...block, tool_use_id: id };
  };
  return renamed.flat().map((line) => changed(line, (block) => owned(block, line.index)));
}

/** The call of each result: one of the last turn before it that asked; where none did before, one that asks later. */
function ownersOf(turns: readonly (readonly Line[])[], calls: ReadonlyMap<string, readonly Call[]>): (string | undefined)[] {
  const results = turns.flatMap((turn, n) =>
    turn.flatMap(saidIn).flatMap((block) => (block.type === 'tool_result' ? [{ asked: calls.get(block.tool_use_id) ?? [], turn: n }] : [])),
  );
  const owners = results.map(({ asked, turn }) => {
    const open = asked.filter((call) => call.turn <= turn && !call.answered);
    return answer(open.find((call) => call.turn === open.at(-1)?.turn));
  });
  return owners.map((id, k) => {
    const { asked, turn } = results[k] as (typeof results)[number];
    return id ?? answer(asked.some((call) => call.turn <= turn) ? undefined : asked.find((call) => !call.answered));
  });
}

function answer(call: Call | undefined): string | undefined {
  if (call !== undefined) call.answered = true;
  return call?.id;
}

function renamer(taken: Set<string>): (id: string) => string {
  const seen = new Set<string>();
  return (id) => {
    const own = GOOD_ID.test(id) && !seen.has(id) ? id : freshId(id, taken);
    seen.add(own);
    taken.add(own);
    return own;
  };
}
