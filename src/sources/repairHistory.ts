import type Anthropic from '@anthropic-ai/sdk';
import { refuse } from './checks.js';
import { freshId, isSendable, isThinking, type MessageParam } from './historyParts.js';
import { errorResult, type ToolResult } from './resultOf.js';

type Block = Anthropic.Messages.ContentBlockParam;
type ToolUse = Anthropic.Messages.ToolUseBlockParam;

/** What a history had that the API would refuse. */
export interface HistoryRepair {
  readonly kind:
    /** A call without a result: it was given one that says so. */
    | 'missing-result'
    /** A result without a call, a second result of a call, or one in the wrong place: left out, or moved to the front. */
    | 'orphan-result'
    | 'duplicate-result'
    | 'moved-result'
    /** An id that was used before, or that the API does not take: changed, together with the results' ids. */
    | 'changed-id'
    /** A blank text, thinking without a signature or at the end, a call of the API's own that was cut off: left out. */
    | 'dropped-block'
    | 'dropped-message';
  /** Index of the message in what was given. */
  readonly message: number;
  /** Of the call, where there is one. */
  readonly id?: string | undefined;
}

interface Turn {
  readonly role: MessageParam['role'];
  readonly first: number;
  readonly messages: MessageParam[];
}

const UNKNOWN = 'The result of this call is not known: the conversation was broken off. It may have completed, check before repeating it.';
const GOOD_ID = /^[a-zA-Z0-9_-]{1,64}$/;

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
  private readonly ids = new Set<string>();
  private readonly done: MessageParam[] = [];

  constructor(private readonly given: readonly MessageParam[]) {}

  run(): { messages: MessageParam[]; repairs: HistoryRepair[] } {
    let calls: readonly ToolUse[] = [];
    let renamed = new Map<string, string[]>();
    for (const turn of turnsOf(this.given)) {
      if (turn.role === 'assistant') {
        this.answer(calls, new Map(), turn.first);
        const last = turn.first + turn.messages.length === this.given.length;
        ({ calls, renamed } = this.assistant(turn, last));
      } else if (turn.role === 'user') {
        this.user(turn, calls, renamed);
        calls = [];
      } else this.done.push(...turn.messages);
    }
    this.answer(calls, new Map(), this.given.length);
    return { messages: this.done, repairs: this.repairs };
  }

  private note(kind: HistoryRepair['kind'], message: number, id?: string): void {
    this.repairs.push({ kind, message, ...(id !== undefined && { id }) });
  }

  /** The calls of a turn, and for each id that was used in it the ids that stand for it now. */
  private assistant(turn: Turn, last: boolean): { calls: ToolUse[]; renamed: Map<string, string[]> } {
    const calls: ToolUse[] = [];
    const renamed = new Map<string, string[]>();
    const blocks = turn.messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content));
    const answered = new Set(blocks.flatMap((block) => ('tool_use_id' in block ? [block.tool_use_id] : [])));
    const keeps = (block: Block): boolean => isSendable(block) && (last || !isUnanswered(block, answered)) && block.type !== 'tool_result';
    const rename = (block: Block): Block => {
      if (block.type !== 'tool_use') return block;
      const call = this.fresh(block, turn.first);
      renamed.set(block.id, [...(renamed.get(block.id) ?? []), call.id]);
      calls.push(call);
      return call;
    };
    const kept = turn.messages.map((message, i) => this.mapped(message, turn.first + i, (content) => content.filter(keeps).map(rename)));
    this.dropLastThinking(kept, turn.first);
    this.keep(kept, turn.first);
    return { calls, renamed };
  }

  private fresh(block: ToolUse, message: number): ToolUse {
    const base = GOOD_ID.test(block.id) ? block.id : block.id.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, 56) || 'call';
    const id = freshId(base, this.ids);
    this.ids.add(id);
    const input = typeof block.input === 'object' && block.input !== null && !Array.isArray(block.input) ? block.input : {};
    if (id === block.id && input === block.input) return block;
    this.note('changed-id', message, block.id);
    return { ...block, id, input };
  }

  /** The final block of an assistant's turn cannot be thinking. */
  private dropLastThinking(messages: MessageParam[], first: number): void {
    for (let i = messages.length - 1; i >= 0; i--) {
      const { content, role } = messages[i] as MessageParam;
      if (typeof content === 'string') return;
      const kept = [...content];
      while (isThinking(kept.at(-1))) {
        kept.pop();
        this.note('dropped-block', first + i);
      }
      if (kept.length !== content.length) messages[i] = { role, content: kept } as MessageParam;
      if (kept.length > 0) return;
    }
  }

  private user(turn: Turn, calls: readonly ToolUse[], renamed: ReadonlyMap<string, readonly string[]>): void {
    const results = new Map<string, ToolResult>();
    let front = true;
    let moved = false;
    const place = (block: Block, message: number): boolean => {
      if (block.type !== 'tool_result') {
        front = false;
        return true;
      }
      moved ||= !front;
      const id = (renamed.get(block.tool_use_id) ?? []).find((each) => !results.has(each));
      if (id !== undefined) results.set(id, usable(id === block.tool_use_id ? block : { ...block, tool_use_id: id }));
      else this.note(renamed.has(block.tool_use_id) ? 'duplicate-result' : 'orphan-result', message, block.tool_use_id);
      return false;
    };
    const rest = turn.messages.map((message, i) =>
      this.mapped(message, turn.first + i, (content) => content.filter((block) => isSendable(block) && place(block, turn.first + i)), true),
    );
    const missing = this.answer(calls, results, turn.first, true);
    const [first] = turn.messages;
    if (moved) this.note('moved-result', turn.first);
    if (missing.length > 0 && first !== undefined && inOrder(first, missing) && !moved)
      return this.keep([first, ...rest.slice(1)], turn.first);
    if (missing.length > 0) this.done.push({ role: 'user', content: missing });
    this.keep(rest, turn.first, missing.length > 0 || calls.length === 0);
  }

  /** The results of all calls; those that are not there are made. */
  private answer(calls: readonly ToolUse[], results: ReadonlyMap<string, ToolResult>, message: number, only = false): ToolResult[] {
    const all = calls.map(({ id }) => {
      const result = results.get(id);
      if (result === undefined) this.note('missing-result', message, id);
      return result ?? errorResult(id, UNKNOWN);
    });
    if (!only && all.length > 0) this.done.push({ role: 'user', content: all });
    return all;
  }

  private mapped(message: MessageParam, index: number, map: (content: Block[]) => Block[], quiet = false): MessageParam {
    const { content, role } = message;
    if (typeof content === 'string') return message;
    const mapped = map(content);
    if (mapped.length === content.length && mapped.every((block, i) => block === content[i])) return message;
    if (!quiet && mapped.length < content.length) this.note('dropped-block', index);
    return { role, content: mapped } as MessageParam;
  }

  /** Messages in which nothing is left are left out. */
  private keep(messages: readonly MessageParam[], first: number, quiet = false): void {
    messages.forEach((message, i) => {
      const { content } = message;
      if (typeof content === 'string' ? content.trim() !== '' : content.length > 0) this.done.push(message);
      else if (!quiet) this.note('dropped-message', first + i);
    });
  }
}

/** Whether the message is already just these results, in front of whatever else it says. */
function inOrder({ content }: MessageParam, results: readonly ToolResult[]): boolean {
  return (
    typeof content !== 'string' && results.every((result, i) => content[i] === result) && content[results.length]?.type !== 'tool_result'
  );
}

function usable(result: ToolResult): ToolResult {
  const empty = result.content === undefined || result.content.length === 0;
  return empty && result.is_error === true ? { ...result, content: 'It failed without giving a reason.' } : result;
}

function isUnanswered(block: Block, answered: ReadonlySet<string>): boolean {
  return block.type === 'server_tool_use' && !answered.has(block.id);
}

/** Messages of one role in a row count as one turn. */
function turnsOf(messages: readonly MessageParam[]): Turn[] {
  const turns: Turn[] = [];
  messages.forEach((message, index) => {
    const last = turns.at(-1);
    if (last?.role === message.role) last.messages.push(message);
    else turns.push({ role: message.role, first: index, messages: [message] });
  });
  return turns;
}
