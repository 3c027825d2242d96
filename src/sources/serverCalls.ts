import { roleOf, saidIn, type Block, type Line } from './historyLines.js';
import { isServerCall } from './historyParts.js';

/** A call of the API's own, or the result of one. */
interface ServerPart {
  /** Of the call; empty if it is none. */
  readonly id: string;
  /** The kind of call and its id: the same for a call and its result. */
  readonly key: string;
  readonly result: boolean;
}

/**
 * For every block of the assistant's turns, in order, whether it may stay: calls of the API's own stay with their results. The result of one may
 * come turns later, for such a call may call tools of ours; one without a result stays where the API has yet to go on with it.
 */
export function pairedParts(turns: readonly (readonly Line[])[]): boolean[] {
  const stays: boolean[] = [];
  const asked = new Map<string, number[]>();
  let open: number[] = [];
  for (const turn of turns) {
    const blocks = turn.flatMap(saidIn);
    if (roleOf(turn) !== 'assistant') {
      if (!blocks.every(({ type }) => type === 'tool_result')) open = [];
      continue;
    }
    const calling = blocks.some(({ type }) => type === 'tool_use');
    if (!calling) open = [];
    for (const block of blocks) {
      const at = stays.length;
      const { key, result } = serverPart(block) ?? {};
      const calls = key === undefined ? undefined : asked.get(key);
      stays.push(key === undefined || (result === true && calls !== undefined));
      if (result === true) calls?.forEach((call) => (stays[call] = true));
      if (key === undefined || result === true) continue;
      asked.set(key, [...(calls ?? []), at]);
      open.push(at);
    }
    if (!calling) asked.clear();
  }
  for (const at of open) stays[at] = true;
  return stays;
}

export function serverPart(block: Block): ServerPart | undefined {
  const { type } = block as { readonly type: string };
  const result = type.endsWith('_tool_result');
  if (!result && !isServerCall(block)) return undefined;
  const given = (block as { readonly id?: unknown; readonly tool_use_id?: unknown })[result ? 'tool_use_id' : 'id'];
  const id = typeof given === 'string' ? given : '';
  return { id, key: `${type.startsWith('mcp_') ? 'mcp' : 'server'} ${id}`, result };
}
