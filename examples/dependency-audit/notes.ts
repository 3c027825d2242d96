import { lastToolResults, type MessagesRequest, type SeenToolResult } from 'rxfleet/testing';
import { results, type ToolName, type ToolOutput } from './tools.js';

/** A call that the embedded model may want to make. */
export interface Wish<N extends ToolName = ToolName> {
  readonly name: N;
  readonly input: Readonly<Record<string, unknown>>;
}

const ATTEMPTS = 2;
/** What starts a whole agent, and what may have happened after all, is not repeated. */
const ONCE: readonly ToolName[] = ['audit_dependency', 'file_finding'];

/** What the model knows already of an error that it is told of: what it called, and where. */
const KNOWN = [
  /^The tool "\w+" (failed:|was stopped before it finished\.) /,
  / It changes nothing, so it can be called again\.$/,
  /^\w+Error: /,
  /^Depth limit "[^"]*" refuses the call at [^:]*: /,
  /^Approval "[^"]*" of "[^"]*" was denied: | on approval "[^"]*" of "[^"]*"/,
  /\.$/,
];

const attempts = (name: ToolName): number => (ONCE.includes(name) ? 1 : ATTEMPTS);

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
    return this.failuresOf(wish) < attempts(wish.name);
  }

  /** Whether a call failed before and may be tried again. */
  retries(wish: Wish): boolean {
    return this.failuresOf(wish) > 0 && this.wants(wish);
  }

  /** Whether a call failed in every attempt. */
  gaveUp(wish: Wish): boolean {
    const failures = this.failuresOf(wish);
    return failures >= attempts(wish.name) && failures !== Infinity;
  }

  /** What a call answered. */
  answer<N extends ToolName>(wish: Wish<N>): ToolOutput<N> | undefined {
    const found = this.asked(wish).find(({ isError }) => !isError);
    return found && this.parse(wish.name, found.text);
  }

  /** Why a call has no answer, in short, if it was made. */
  trouble(wish: Wish): string | undefined {
    if (!this.gaveUp(wish)) return undefined;
    const [first = ''] = (this.asked(wish).at(-1)?.text ?? '').split('\n', 1);
    return KNOWN.reduce((text, known) => text.replace(known, ''), first);
  }

  /** How often a call failed; Infinity if it has its answer. */
  private failuresOf(wish: Wish): number {
    const asked = this.asked(wish);
    return asked.every(({ isError }) => isError) ? asked.length : Infinity;
  }

  private asked({ name, input }: Wish): SeenToolResult[] {
    return this.seen.filter((each) => each.name === name && JSON.stringify(each.input) === JSON.stringify(input));
  }

  private parse<N extends ToolName>(name: N, text: string): ToolOutput<N> | undefined {
    const parsed = results[name].safeParse(JSON.parse(text));
    return parsed.success ? (parsed.data as ToolOutput<N>) : undefined;
  }
}
