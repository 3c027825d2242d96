import { catchError, concat, defer, EMPTY, filter, from, map, type OperatorFunction } from 'rxjs';
import { checkCount } from './checks.js';
import type { ToolEvent } from './fromTool.js';
import { errorResult, failureText, MAX_RESULT_CHARS, resultOf, unfinished, type ToolResult } from './resultOf.js';

export interface ToolResultOptions {
  /** The call to answer: it gets its block even if the source ends without an event of it. Default: the calls that the source tells of. */
  readonly toolUse?: { readonly id: string; readonly name: string } | undefined;
  /** Text beyond so many characters is cut off, and says so. Default 200,000. */
  readonly maxChars?: number | undefined;
}

/**
 * Turns the events of calls into exactly one `tool_result` block per call, in words that a model can act on.
 *
 * *When to use*: after `fromTool`, for the message that answers the model.
 *
 * @param options - `toolUse` for a block even if the source tells nothing, `maxChars` of a block
 * @returns an operator whose output never errors and ends with the source. Unsubscribing unsubscribes from the source
 */
export function toToolResult(options: ToolResultOptions = {}): OperatorFunction<ToolEvent, ToolResult> {
  const { toolUse, maxChars = MAX_RESULT_CHARS } = options;
  checkCount('toToolResult', 'maxChars', maxChars);
  return (source) =>
    defer(() => {
      const answers = new Answers(maxChars, toolUse);
      const answered = source.pipe(
        map((event) => answers.take(event)),
        filter((block) => block !== undefined),
        catchError((error: unknown) => {
          answers.fail(error);
          return EMPTY;
        }),
      );
      return concat(
        answered,
        defer(() => from(answers.rest())),
      );
    });
}

/** Which calls there are, and which of them have their block. */
class Answers {
  private readonly open = new Map<string, { readonly name: string; started: boolean }>();
  private readonly answered = new Set<string>();
  private failure: { readonly error: unknown } | undefined = undefined;

  constructor(
    private readonly maxChars: number,
    expected: ToolResultOptions['toolUse'],
  ) {
    if (expected !== undefined) this.open.set(expected.id, { name: expected.name, started: false });
  }

  take(event: ToolEvent): ToolResult | undefined {
    const { id, name } = event;
    if (this.answered.has(id)) return undefined;
    const block = resultOf(event, this.maxChars);
    if (block === undefined) this.open.set(id, { name, started: true });
    else {
      this.answered.add(id);
      this.open.delete(id);
    }
    return block;
  }

  fail(error: unknown): void {
    this.failure = { error };
  }

  /** The blocks of the calls that were never told the end of. */
  rest(): ToolResult[] {
    return [...this.open].map(([id, { name, started }]) => {
      if (this.failure !== undefined) return errorResult(id, failureText(name, this.failure.error));
      return unfinished({ id, name, started, effect: started ? 'unknown' : 'none' }, true);
    });
  }
}
