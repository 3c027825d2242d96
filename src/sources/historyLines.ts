import type Anthropic from '@anthropic-ai/sdk';
import type { MessageParam } from './historyParts.js';

export type Block = Anthropic.Messages.ContentBlockParam;
export type Role = MessageParam['role'];

/** A message, and where it stood in what was given. */
export interface Line {
  readonly message: MessageParam;
  readonly index: number;
}

/** Messages of one role in a row count as one turn. */
export function turnsOf(lines: readonly Line[]): (readonly Line[])[] {
  const turns: Line[][] = [];
  for (const line of lines) {
    const last = turns.at(-1);
    if (last !== undefined && roleOf(last) === line.message.role) last.push(line);
    else turns.push([line]);
  }
  return turns;
}

export function roleOf(turn: readonly Line[] | undefined): Role | undefined {
  return turn?.[0]?.message.role;
}

export function hasContent({ message: { content } }: Line): boolean {
  return typeof content === 'string' ? content.trim() !== '' : content.length > 0;
}

export function saidIn({ message: { content } }: Line): readonly Block[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content;
}

/** A line with its blocks put through `change`, which may leave some out; the very same line if that changes nothing. */
export function changed(line: Line, change: (block: Block) => Block | undefined): Line {
  const { message, index } = line;
  const before = saidIn(line);
  const after = before.map(change);
  if (typeof message.content === 'string' || after.every((block, i) => block === before[i])) return line;
  return { index, message: { ...message, content: after.filter((block) => block !== undefined) } as MessageParam };
}
