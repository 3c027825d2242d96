import type Anthropic from '@anthropic-ai/sdk';
import { isDeadlineExceededError, rootReason } from '../core/errors.js';
import type { CancelReason } from '../core/types.js';
import { isGateError } from '../gates/errors.js';
import { contentOfError } from './errorContent.js';
import { isToolInputCutOffError, isToolInputError, isVersionConflictError, type VersionConflictError } from './errors.js';
import type { ToolEvent } from './fromTool.js';
import { contentOf, cut, type ResultContent } from './resultContent.js';
import { toJson } from './json.js';
import { saidBy } from './words.js';

export type ToolResult = Anthropic.Messages.ToolResultBlockParam;

/** Characters of one result before it is cut off: about a quarter of a large context window. */
export const MAX_RESULT_CHARS = 200_000;

/** What the model is told of a call that may have had an effect. */
export const MAY_HAVE = 'It may have completed, check before repeating it.';
const CHANGES_NOTHING = 'It changes nothing, so it can be called again.';
const RECEIVED_SHOWN = 300;
const EDITED_SHOWN = 2_000;
/** Errors of gates that stop a call at work. */
const STOPS = /_(?:TRIPPED|ISOLATED|EXCEEDED|DISPOSED)$/;

/** The `tool_result` block that an event leads to; undefined for events that are not the last of their call. Never throws. */
export function resultOf(event: ToolEvent, maxChars: number = MAX_RESULT_CHARS): ToolResult | undefined {
  try {
    const block = inBlock(event, maxChars);
    return block === undefined || event.edited === undefined ? block : told(block, event.edited);
  } catch {
    return errorResult(event.id, `The tool "${event.name}" ended in a way that cannot be put into words.`);
  }
}

/** The model is told that a person has changed what it asked for. */
function told(block: ToolResult, edited: unknown): ToolResult {
  const text = `A person changed the input before the tool ran: ${cut(toJson(edited), EDITED_SHOWN)}`;
  const { content = [] } = block;
  return { ...block, content: typeof content === 'string' ? `${text}\n${content}` : [{ type: 'text', text }, ...content] };
}

function inBlock(event: ToolEvent, maxChars: number): ToolResult | undefined {
  switch (event.type) {
    case 'result':
      return { type: 'tool_result', tool_use_id: event.id, content: contentOf(event.output, maxChars) };
    case 'failed':
      return errorResult(event.id, saidInBlocks(event, maxChars) ?? cut(wordsOfFailure(event), maxChars));
    case 'cancelled':
      return errorResult(event.id, cut(wordsOfCancel(event), maxChars));
    default:
      return undefined;
  }
}

export function errorResult(id: string, content: ResultContent): ToolResult {
  return { type: 'tool_result', tool_use_id: id, content, is_error: true };
}

function saidInBlocks({ phase, error }: ToolEvent & { readonly type: 'failed' }, maxChars: number): ResultContent | undefined {
  return phase === 'run' ? contentOfError(error, maxChars) : undefined;
}

function wordsOfFailure({ name, phase, error, effect }: ToolEvent & { readonly type: 'failed' }): string {
  if (isToolInputError(error)) return `${error.message}\nThe tool did not run. Correct the input and call it again.`;
  if (isToolInputCutOffError(error)) return wordsOfCutOff(error);
  if (isVersionConflictError(error)) return wordsOfConflict(error);
  if (phase === 'timeout' && isDeadlineExceededError(error)) {
    const left = error.abandoned.length > 0 ? ' and did not stop when told to' : ' and was stopped';
    return `The tool "${name}" did not finish within ${error.ms} ms${left}. ${effect === 'none' ? CHANGES_NOTHING : MAY_HAVE}`;
  }
  if (phase === 'output') return `${saidBy(error)}\nThe tool ran, but its result cannot be used.`;
  if (phase === 'input' || phase === 'gate') return `${saidBy(error)}\nThe tool did not run.`.trim();
  if (isGateError(error) && STOPS.test(error.code))
    return `The tool "${name}" was stopped before it finished. ${error.message} ${effect === 'none' ? CHANGES_NOTHING : MAY_HAVE}`;
  return failureText(name, error);
}

function wordsOfConflict({ message, version, current }: VersionConflictError): string {
  return `${message} Look at the current value, and decide again with version ${version}:\n${typeof current === 'string' ? current : toJson(current)}`;
}

export function failureText(name: string, error: unknown): string {
  const said = saidBy(error);
  return said === '' ? `The tool "${name}" failed without giving a reason.` : `The tool "${name}" failed: ${said}`;
}

function wordsOfCutOff({ message, received }: { readonly message: string; readonly received: string }): string {
  const shown = received === '' ? '' : ` What arrived: ${cut(received, RECEIVED_SHOWN)}`;
  return `${message} The tool did not run. Call it again with a shorter input, or split it into several calls.${shown}`;
}

function wordsOfCancel({ name, effect, reason, ran }: ToolEvent & { readonly type: 'cancelled' }): string {
  const root = rootReason(reason);
  const why = wordsOfReason(root);
  if (!ran) return `The tool "${name}" did not run${why}.`;
  const late = root.kind === 'deadline' ? 'was not finished in time and ' : '';
  return `The tool "${name}" ${late}was stopped before it finished${why}. ${effect === 'none' ? CHANGES_NOTHING : MAY_HAVE}`;
}

function wordsOfReason(reason: CancelReason): string {
  if (reason.kind === 'deadline') return `: the time of ${reason.ms} ms for the task was up`;
  const said = reason.kind === 'explicit' || reason.kind === 'signal' ? saidBy(reason.reason).replace(/\.$/, '') : '';
  return said === '' ? '' : `: ${said}`;
}

/** How far a call got that has no result. */
export interface Unanswered {
  readonly id: string;
  readonly name: string;
  readonly started: boolean;
  readonly effect: 'none' | 'unknown';
}

/** The block for a call without a result: because it was `stopped`, or because it still runs. */
export function unfinished({ id, name, started, effect }: Unanswered, stopped: boolean): ToolResult {
  if (!started) return errorResult(id, `The tool "${name}" did not run${stopped ? '' : ' yet'}.`);
  const how = stopped ? 'was stopped before it finished' : 'was started and has not finished yet';
  return errorResult(id, `The tool "${name}" ${how}. ${effect === 'none' ? CHANGES_NOTHING : MAY_HAVE}`);
}
