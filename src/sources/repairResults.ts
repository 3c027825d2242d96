import { changed, hasContent, roleOf, saidIn, turnsOf, type Block, type Line } from './historyLines.js';
import type { MessageParam } from './historyParts.js';
import type { NoteAt } from './repairHistory.js';
import { errorResult, type ToolResult } from './resultOf.js';

const UNKNOWN = 'The result of this call is not known: the conversation was broken off. It may have completed, check before repeating it.';

/** Every call has its result in front of whatever else is said next. Each result that is given belongs to a call, and each call has one at most. */
export function placeResults(lines: readonly Line[], end: number, note: NoteAt): readonly Line[] {
  const lifted = new Map<string, ToolResult>();
  const turns = turnsOf(lines).map((turn, n, all) => lift(turn, callsOf(all[n - 1]), lifted, note));
  const placed = turns.flatMap((turn, n) => {
    const calls = callsOf(turns[n - 1]);
    const next = roleOf(turn) === 'user' ? turn : [];
    const results = resultsFor(calls, next, lifted, (id) => note(turn[0]?.index ?? end, 'missing-result', id));
    return roleOf(turn) === 'user' ? inFront(results, turn) : [...messageOf(results, turn[0]?.index ?? end), ...turn];
  });
  const last = resultsFor(callsOf(turns.at(-1)), [], lifted, (id) => note(end, 'missing-result', id));
  return [...placed, ...messageOf(last, end)].filter(hasContent);
}

/** Takes out the results that do not stand first after the turn with their calls. */
function lift(turn: readonly Line[], calls: ReadonlySet<string>, lifted: Map<string, ToolResult>, note: NoteAt): readonly Line[] {
  let front = roleOf(turn) === 'user';
  const place = (block: Block, index: number): Block | undefined => {
    if (block.type !== 'tool_result') front = false;
    if (block.type !== 'tool_result' || (front && calls.has(block.tool_use_id))) return block;
    lifted.set(block.tool_use_id, block);
    return note(index, 'moved-result', block.tool_use_id);
  };
  return turn.map((line) => changed(line, (block) => place(block, line.index)));
}

/** The results that are not in their place yet, in the order of the calls. */
function resultsFor(
  calls: ReadonlySet<string>,
  turn: readonly Line[],
  lifted: ReadonlyMap<string, ToolResult>,
  missing: (id: string) => void,
): readonly ToolResult[] {
  if (calls.size === 0) return [];
  const there = new Set(turn.flatMap(saidIn).map((block) => (block.type === 'tool_result' ? block.tool_use_id : undefined)));
  return [...calls].flatMap((id) => {
    if (there.has(id)) return [];
    if (!lifted.has(id)) missing(id);
    return [lifted.get(id) ?? errorResult(id, UNKNOWN)];
  });
}

function callsOf(turn: readonly Line[] | undefined): ReadonlySet<string> {
  if (turn === undefined || roleOf(turn) !== 'assistant') return new Set();
  return new Set(turn.flatMap(saidIn).flatMap((block) => (block.type === 'tool_use' ? [block.id] : [])));
}

function inFront(results: readonly ToolResult[], turn: readonly Line[]): readonly Line[] {
  const [first, ...rest] = turn;
  if (first === undefined || results.length === 0) return turn;
  if (typeof first.message.content === 'string') return [...messageOf(results, first.index), ...turn];
  return [{ ...first, message: { ...first.message, content: [...results, ...first.message.content] } as MessageParam }, ...rest];
}

function messageOf(results: readonly ToolResult[], index: number): readonly Line[] {
  return results.length === 0 ? [] : [{ index, message: { role: 'user', content: [...results] } }];
}
