import type Anthropic from '@anthropic-ai/sdk';
import { refuse } from './checks.js';
import { callIdsOf, freshId, isObject, isSendable, isThinking, type MessageParam } from './historyParts.js';
import { errorResult, type ToolResult } from './resultOf.js';

type Block = Anthropic.Messages.ContentBlockParam;

/** What a history had that the API would refuse. */
export interface HistoryRepair {
  readonly kind:
    /** A call without a result, or with an error that has no words: it was given one that says so. */
    | 'missing-result'
    /** A result without a call, a second result of a call, or one in the wrong place: left out, or moved to the front. */
    | 'orphan-result'
    | 'duplicate-result'
    | 'moved-result'
    /** An id that was used before, or that the API does not take: changed, together with the results' ids. Also an input that was no object. */
    | 'changed-id'
    /** A blank text, thinking without a signature or at the end, half of a call of the API's own, what its role cannot say: left out. */
    | 'dropped-block'
    | 'dropped-message';
  /** Index of the message in what was given. */
  readonly message: number;
  /** Of the call, where there is one. */
  readonly id?: string | undefined;
}

/** A message, and where it stood in what was given. */
interface Line {
  readonly message: MessageParam;
  readonly index: number;
}

/** For each id that an assistant's turn has used, the ids that stand for it now, call by call. */
type Calls = Map<string, readonly string[]>;

const UNKNOWN = 'The result of this call is not known: the conversation was broken off. It may have completed, check before repeating it.';
const GOOD_ID = /^[a-zA-Z0-9_-]+$/;
const SERVER_CALLS: readonly string[] = ['server_tool_use', 'mcp_tool_use'];

/**
 * Makes a history that the API accepts of one that it may refuse: every call gets exactly one result, results without a call are left out, ids
 * are unique, and thinking that was cut off is dropped. What is in order stays as it is, to the very object.
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
 * @param messages - the history; it is left as it is
 * @returns `messages` that can be sent, and `repairs`: what was changed, in order
 */
export function repairHistory(messages: readonly MessageParam[]): { messages: MessageParam[]; repairs: HistoryRepair[] } {
  if (!Array.isArray(messages)) refuse(TypeError, 'repairHistory', 'messages', 'an array', messages);
  return new Repair(messages).run();
}

class Repair {
  private readonly repairs: HistoryRepair[] = [];
  private readonly seen = new Set<string>();
  private readonly taken: Set<string>;

  constructor(private readonly given: readonly MessageParam[]) {
    this.taken = callIdsOf(given);
  }

  run(): { messages: MessageParam[]; repairs: HistoryRepair[] } {
    const lines = this.given.map((message, index) => this.fitting({ message, index })).filter(hasContent);
    const messages = this.answered(this.pruned(lines)).map(({ message }) => message);
    return { messages, repairs: this.repairs.sort((one, other) => one.message - other.message) };
  }

  private note(kind: HistoryRepair['kind'], message: number, id?: string): undefined {
    this.repairs.push({ kind, message, ...(id !== undefined && { id }) });
  }

  /** What may stand in a message, whatever is around it. */
  private fitting(line: Line): Line {
    const { message, index } = line;
    if (!hasContent(line)) this.note('dropped-message', index);
    return changed(line, (block) => {
      if (isSendable(block) && mayBeSaidBy(message.role, block)) return block;
      if (block.type === 'tool_result') return this.note('orphan-result', index, block.tool_use_id);
      return this.note('dropped-block', index);
    });
  }

  /** What an assistant's turn may hold as a whole. Where nothing is left of one, those around it become one. */
  private pruned(lines: readonly Line[]): readonly Line[] {
    const left = turnsOf(lines)
      .flatMap((turn, i, turns) => (roleOf(turn) === 'assistant' ? this.prunedTurn(turn, i === turns.length - 1) : turn))
      .filter(hasContent);
    return left.length === lines.length ? left : this.pruned(left);
  }

  private prunedTurn(turn: readonly Line[], last: boolean): readonly Line[] {
    const stays = whatStays(turn.flatMap(blocksOf), last);
    let at = 0;
    return turn.map((line) => changed(line, (block) => (stays[at++] === true ? block : this.note('dropped-block', line.index))));
  }

  /** Every call has one result, in front of whatever else is said next. */
  private answered(lines: readonly Line[]): readonly Line[] {
    const done: Line[] = [];
    let calls: Calls = new Map();
    for (const turn of turnsOf(lines)) {
      const role = roleOf(turn);
      done.push(...this.results(role === 'user' ? turn : [], calls, turn[0]?.index ?? 0));
      const asked: Calls = new Map();
      calls = asked;
      if (role === 'assistant') done.push(...turn.map((line) => changed(line, (block) => this.called(block, line.index, asked))));
      else if (role !== 'user') done.push(...turn);
    }
    return [...done, ...this.results([], calls, this.given.length)];
  }

  private called(block: Block, index: number, calls: Calls): Block {
    if (block.type !== 'tool_use') return block;
    const { id } = block;
    const input = isObject(block.input) ? block.input : {};
    const good = GOOD_ID.test(id) && !this.seen.has(id);
    const own = good ? id : freshId(id.replace(/[^a-zA-Z0-9_-]/g, '_') || 'call', this.taken);
    this.seen.add(own);
    this.taken.add(own);
    calls.set(id, [...(calls.get(id) ?? []), own]);
    if (good && input === block.input) return block;
    this.note('changed-id', index, id);
    return { ...block, id: own, input };
  }

  /** What is said after the calls, with the results in front. */
  private results(turn: readonly Line[], calls: Calls, index: number): readonly Line[] {
    const open = new Set([...calls.values()].flat());
    const added: ToolResult[] = [];
    let front = true;
    const place = (block: Block, line: Line): Block | undefined => {
      front &&= block.type === 'tool_result';
      if (block.type !== 'tool_result') return block;
      const ids = calls.get(block.tool_use_id);
      const id = ids?.find((each) => open.delete(each));
      if (id === undefined) return this.note(ids === undefined ? 'orphan-result' : 'duplicate-result', line.index, block.tool_use_id);
      const result = this.worded(id === block.tool_use_id ? block : { ...block, tool_use_id: id }, line.index);
      if (front) return result;
      added.push(result);
      return this.note('moved-result', line.index, id);
    };
    const rest = turn.map((line) => changed(line, (block) => place(block, line))).filter(hasContent);
    for (const id of open) {
      this.note('missing-result', index, id);
      added.push(errorResult(id, UNKNOWN));
    }
    return added.length === 0 ? rest : inFront(added, rest, index);
  }

  private worded(result: ToolResult, index: number): ToolResult {
    const { content, is_error, tool_use_id } = result;
    if (is_error !== true || (content !== undefined && content.length > 0)) return result;
    this.note('missing-result', index, tool_use_id);
    return { ...result, content: 'It failed without giving a reason.' };
  }
}

/** Which blocks of an assistant's turn stay: calls of the API's own and their results in pairs, and no thinking at the end. */
function whatStays(blocks: readonly Block[], last: boolean): boolean[] {
  const asked = new Set<string>();
  const answered = new Set<string>();
  // Those that were not answered yet are answered next, unless something is said in between.
  const goesOn = last && !blocks.some(({ type }) => type === 'tool_use');
  const stays = blocks.map((block) => {
    if (isServerCall(block)) asked.add(block.id);
    if (!isServerResult(block)) return true;
    if (asked.has(block.tool_use_id)) answered.add(block.tool_use_id);
    return asked.has(block.tool_use_id);
  });
  blocks.forEach((block, i) => (stays[i] &&= goesOn || !isServerCall(block) || answered.has(block.id)));
  for (let i = blocks.length - 1; i >= 0 && (stays[i] === false || isThinking(blocks[i])); i--) stays[i] = false;
  return stays;
}

function isServerCall(block: Block): block is Block & { readonly id: string } {
  return SERVER_CALLS.includes(block.type);
}

function isServerResult(block: Block): block is Block & { readonly tool_use_id: string } {
  return 'tool_use_id' in block && block.type !== 'tool_result';
}

function mayBeSaidBy(role: MessageParam['role'], block: Block): boolean {
  if (block.type === 'tool_result') return role === 'user';
  return role === 'assistant' || !(block.type === 'tool_use' || isThinking(block) || isServerCall(block) || isServerResult(block));
}

/** Messages of one role in a row count as one turn. */
function turnsOf(lines: readonly Line[]): (readonly Line[])[] {
  const turns: Line[][] = [];
  for (const line of lines) {
    const last = turns.at(-1);
    if (last !== undefined && roleOf(last) === line.message.role) last.push(line);
    else turns.push([line]);
  }
  return turns;
}

function roleOf(turn: readonly Line[]): MessageParam['role'] | undefined {
  return turn[0]?.message.role;
}

function hasContent({ message: { content } }: Line): boolean {
  return typeof content === 'string' ? content.trim() !== '' : content.length > 0;
}

function blocksOf({ message: { content } }: Line): readonly Block[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content;
}

/** A line with its blocks put through `change`, which may leave some out; the very same line if that changes nothing. */
function changed(line: Line, change: (block: Block) => Block | undefined): Line {
  const { message, index } = line;
  const before = blocksOf(line);
  const after = before.map(change);
  if (typeof message.content === 'string' || after.every((block, i) => block === before[i])) return line;
  return { index, message: { ...message, content: after.filter((block) => block !== undefined) } as MessageParam };
}

function inFront(results: readonly ToolResult[], turn: readonly Line[], index: number): readonly Line[] {
  const [first, ...rest] = turn;
  if (first === undefined || typeof first.message.content === 'string')
    return [{ index, message: { role: 'user', content: [...results] } }, ...turn];
  return [{ index, message: { ...first.message, content: [...results, ...first.message.content] } as MessageParam }, ...rest];
}
