import { lastToolResults, type MessagesRequest, type SeenToolResult } from 'rxfleet/testing';
import { results, type ToolName, type ToolOutput } from './tools.js';

/** A call that the embedded model may want to make. */
export interface Wish {
  readonly name: ToolName;
  readonly input: Readonly<Record<string, unknown>>;
}

const ATTEMPTS = 2;

/** What the tools have told in a conversation so far, read back from its messages. */
export class Notes {
  private readonly seen: readonly SeenToolResult[];

  constructor({ messages }: MessagesRequest) {
    this.seen = messages.flatMap(({ role }, i) => (role === 'user' ? lastToolResults({ messages: messages.slice(0, i + 1) }) : []));
  }

  /** All outputs of a tool, oldest first. */
  of<N extends ToolName>(name: N): ToolOutput<N>[] {
    return this.seen.flatMap((each) => (each.name === name && !each.isError ? (this.parse(name, each.text) ?? []) : []));
  }

  /** The latest output of a tool. */
  last<N extends ToolName>(name: N): ToolOutput<N> | undefined {
    return this.of(name).at(-1);
  }

  /** Whether a call still has to be made: it has no answer yet, and has not failed too often. */
  wants(wish: Wish): boolean {
    return this.failuresOf(wish) < ATTEMPTS;
  }

  /** Whether a call failed before and may be tried again. */
  retries(wish: Wish): boolean {
    return this.failuresOf(wish) > 0 && this.wants(wish);
  }

  /** Whether a call failed in every attempt. */
  gaveUp(wish: Wish): boolean {
    const failures = this.failuresOf(wish);
    return failures >= ATTEMPTS && failures !== Infinity;
  }

  /** How often a call failed; Infinity if it has its answer. */
  private failuresOf({ name, input }: Wish): number {
    const asked = this.seen.filter((each) => each.name === name && JSON.stringify(each.input) === JSON.stringify(input));
    return asked.every(({ isError }) => isError) ? asked.length : Infinity;
  }

  private parse<N extends ToolName>(name: N, text: string): ToolOutput<N> | undefined {
    const parsed = results[name].safeParse(JSON.parse(text));
    return parsed.success ? (parsed.data as ToolOutput<N>) : undefined;
  }
}
