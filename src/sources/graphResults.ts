import { catchError, concat, defer, EMPTY, ignoreElements, of, tap, throwError, type OperatorFunction } from 'rxjs';
import { checkCount } from './checks.js';
import type { GraphEvent } from './graphRun.js';
import { errorResult, failureText, MAX_RESULT_CHARS, resultOf, unfinished, type ToolResult } from './resultOf.js';

export interface ToolGraphResultsOptions {
  /** Text of one block beyond so many characters is cut off, and says so. Default 200,000. */
  readonly maxChars?: number | undefined;
}

/**
 * Turns the events of a graph into the `tool_result` blocks of the message that answers the model: one for each id, in the order of the plan. What
 * came without an id cannot be answered.
 *
 * *When to use*: after `toolGraph`, when the calls are those of a reply.
 *
 * @param options - `maxChars` of a block
 * @returns an operator that emits one array when the source ends. If it ends with an error, that follows. Unsubscribing unsubscribes from the source
 */
export function toolGraphResults(options: ToolGraphResultsOptions = {}): OperatorFunction<GraphEvent, ToolResult[]> {
  const { maxChars = MAX_RESULT_CHARS } = options;
  checkCount('toolGraphResults', 'maxChars', maxChars);
  return (source) =>
    defer(() => {
      const answers = new Answers(maxChars);
      let failure: { readonly error: unknown } | undefined;
      const heard = source.pipe(
        tap((event) => answers.take(event)),
        ignoreElements(),
        catchError((error: unknown) => {
          failure = { error };
          return EMPTY;
        }),
      );
      const end = defer(() => (failure === undefined ? EMPTY : throwError(() => failure?.error)));
      return concat(
        heard,
        defer(() => of(answers.blocks(failure))),
        end,
      );
    });
}

/** The latest that was told of each call. The API takes one block for an id: the first call that has it gets it. */
class Answers {
  private readonly latest = new Map<number, GraphEvent | ToolResult>();
  constructor(private readonly maxChars: number) {}

  take(event: GraphEvent): void {
    const block = resultOf(event, this.maxChars);
    const before = this.latest.get(event.index);
    if (before === undefined || 'index' in before) this.latest.set(event.index, block ?? event);
  }

  blocks(failure: { readonly error: unknown } | undefined): ToolResult[] {
    const byId = new Map<string, ToolResult>();
    for (const [, last] of [...this.latest].sort(([a], [b]) => a - b)) {
      const block = 'index' in last ? broken(last, failure) : last;
      if (block.tool_use_id !== '' && !byId.has(block.tool_use_id)) byId.set(block.tool_use_id, block);
    }
    return [...byId.values()];
  }
}

/** For a call that was started and never told the end of. */
function broken({ id, name }: GraphEvent, failure: { readonly error: unknown } | undefined): ToolResult {
  if (failure !== undefined) return errorResult(id, failureText(name, failure.error));
  return unfinished({ id, name, started: true, effect: 'unknown' }, true);
}
