import { brandError, describeError, hasBrand } from '../core/errors.js';

/** One thing that was wrong with a value, in words. */
export interface Problem {
  /** Where, as in `filters[2].name`; empty for the value itself. */
  readonly path: string;
  readonly message: string;
}

function list(problems: readonly Problem[]): string {
  return problems.map(({ path, message }) => `\n- ${path === '' ? message : `${path}: ${message}`}`).join('');
}

/** The input of a call does not fit the tool's schema. The tool did not run. */
export class ToolInputError extends Error {
  override readonly name = 'ToolInputError';
  readonly tool: string;
  readonly problems: readonly Problem[];

  constructor(tool: string, problems: readonly Problem[], options?: ErrorOptions) {
    super(`The input of the tool "${tool}" does not fit its schema:${list(problems)}`, options);
    this.tool = tool;
    this.problems = problems;
    brandError(this, 'ToolInputError');
  }
}

/** Whether `error` is a ToolInputError of any copy of this package. */
export function isToolInputError(error: unknown): error is ToolInputError {
  return hasBrand(error, 'ToolInputError');
}

/** A tool ran and what it returned does not fit its `output` schema. */
export class ToolOutputError extends Error {
  override readonly name = 'ToolOutputError';
  readonly tool: string;
  readonly problems: readonly Problem[];

  constructor(tool: string, problems: readonly Problem[], options?: ErrorOptions) {
    super(`The output of the tool "${tool}" does not fit its schema:${list(problems)}`, options);
    this.tool = tool;
    this.problems = problems;
    brandError(this, 'ToolOutputError');
  }
}

/** Whether `error` is a ToolOutputError of any copy of this package. */
export function isToolOutputError(error: unknown): error is ToolOutputError {
  return hasBrand(error, 'ToolOutputError');
}

/** The model called a tool that is not among those it was given. Nothing ran. */
export class UnknownToolError extends Error {
  override readonly name = 'UnknownToolError';
  readonly tool: string;
  /** The names of the tools there are. */
  readonly known: readonly string[];

  constructor(tool: string, known: readonly string[]) {
    const names = known.length === 0 ? 'There are no tools.' : `The tools are: ${known.join(', ')}.`;
    super(`There is no tool "${tool}". ${names}`);
    this.tool = tool;
    this.known = known;
    brandError(this, 'UnknownToolError');
  }
}

/** Whether `error` is an UnknownToolError of any copy of this package. */
export function isUnknownToolError(error: unknown): error is UnknownToolError {
  return hasBrand(error, 'UnknownToolError');
}

/** The reply ended before the input of a call was complete. Nothing ran. */
export class ToolInputCutOffError extends Error {
  override readonly name = 'ToolInputCutOffError';
  readonly tool: string;
  /** The stop reason of the reply. */
  readonly stop: string;
  /** The JSON that had arrived. */
  readonly received: string;

  constructor(tool: string, stop: string, received: string) {
    super(`The input of the tool "${tool}" was cut off: the reply ended with ${stop} after ${received.length} characters of it.`);
    this.tool = tool;
    this.stop = stop;
    this.received = received;
    brandError(this, 'ToolInputCutOffError');
  }
}

/** Whether `error` is a ToolInputCutOffError of any copy of this package. */
export function isToolInputCutOffError(error: unknown): error is ToolInputCutOffError {
  return hasBrand(error, 'ToolInputCutOffError');
}

/** What the errors of a broken reply know. */
export interface ReplyErrorInit extends ErrorOptions {
  /** The `request-id` header; null if no headers arrived. */
  readonly requestId: string | null;
  /** How many events had arrived. */
  readonly events: number;
}

function where({ requestId, events }: ReplyErrorInit): string {
  return `after ${events} event${events === 1 ? '' : 's'}${requestId === null ? '' : ` (request ${requestId})`}`;
}

/** The connection was closed in good order, but the reply was not complete. */
export class StreamTruncatedError extends Error {
  override readonly name = 'StreamTruncatedError';
  readonly requestId: string | null;
  readonly events: number;

  constructor(init: ReplyErrorInit) {
    super(`The reply ended without message_stop ${where(init)}.`, init);
    this.requestId = init.requestId;
    this.events = init.events;
    brandError(this, 'StreamTruncatedError');
  }
}

/** Whether `error` is a StreamTruncatedError of any copy of this package. */
export function isStreamTruncatedError(error: unknown): error is StreamTruncatedError {
  return hasBrand(error, 'StreamTruncatedError');
}

/** No connection could be made, or it broke before the reply was complete. `cause` is what the client reported. */
export class ConnectionLostError extends Error {
  override readonly name = 'ConnectionLostError';
  readonly requestId: string | null;
  readonly events: number;

  constructor(init: ReplyErrorInit) {
    super(`The connection to the model was lost ${where(init)}: ${rootMessage(init.cause)}.`, init);
    this.requestId = init.requestId;
    this.events = init.events;
    brandError(this, 'ConnectionLostError');
  }
}

/** Whether `error` is a ConnectionLostError of any copy of this package. */
export function isConnectionLostError(error: unknown): error is ConnectionLostError {
  return hasBrand(error, 'ConnectionLostError');
}

function rootMessage(error: unknown): string {
  const words = [describeError(error)];
  for (let cause = causeOf(error); cause !== undefined && words.length < 4; cause = causeOf(cause)) words.push(describeError(cause));
  return words.map((each) => each.replace(/\.$/, '')).join(': ');
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}

/** Nothing arrived for too long, and the request was given up. */
export class StreamStalledError extends Error {
  override readonly name = 'StreamStalledError';
  readonly requestId: string | null;
  readonly events: number;
  /** What was waited for: the response `headers`, or more of its `body`. */
  readonly phase: 'headers' | 'body';
  /** How long it was silent, in milliseconds; undefined if the client's own limit was the shorter one. */
  readonly ms: number | undefined;

  constructor(phase: 'headers' | 'body', ms: number | undefined, init: ReplyErrorInit) {
    const what = phase === 'headers' ? 'No response headers arrived' : 'The reply fell silent';
    super(`${what}${ms === undefined ? '' : ` for ${ms} ms`} ${where(init)}.`, init);
    this.phase = phase;
    this.ms = ms;
    this.requestId = init.requestId;
    this.events = init.events;
    brandError(this, 'StreamStalledError');
  }
}

/** Whether `error` is a StreamStalledError of any copy of this package. */
export function isStreamStalledError(error: unknown): error is StreamStalledError {
  return hasBrand(error, 'StreamStalledError');
}

/** The API reported an error in the middle of a reply, when it was too late for an HTTP status. `cause` is the client's APIError. */
export class ModelStreamError extends Error {
  override readonly name = 'ModelStreamError';
  /** The type of the API error, as in `overloaded_error`. */
  readonly type: string;
  /** The message of the API error. */
  readonly apiMessage: string;
  readonly requestId: string | null;
  readonly events: number;

  constructor(type: string, apiMessage: string, init: ReplyErrorInit) {
    super(`The model reported ${type} ${where(init)}: ${apiMessage}`, init);
    this.type = type;
    this.apiMessage = apiMessage;
    this.requestId = init.requestId;
    this.events = init.events;
    brandError(this, 'ModelStreamError');
  }
}

/** Whether `error` is a ModelStreamError of any copy of this package. */
export function isModelStreamError(error: unknown): error is ModelStreamError {
  return hasBrand(error, 'ModelStreamError');
}

/** The reply has ended and is not of the form that was asked for with `output`. It is in the history. */
export class ModelOutputError extends Error {
  override readonly name = 'ModelOutputError';
  /** What the reply says. */
  readonly text: string;
  /** The stop reason of the reply. */
  readonly stop: string;
  readonly problems: readonly Problem[];

  constructor(text: string, stop: string, problems: readonly Problem[], options?: ErrorOptions) {
    super(`The reply of the model does not fit the output schema:${list(problems)}`, options);
    this.text = text;
    this.stop = stop;
    this.problems = problems;
    brandError(this, 'ModelOutputError');
  }
}

/** Whether `error` is a ModelOutputError of any copy of this package. */
export function isModelOutputError(error: unknown): error is ModelOutputError {
  return hasBrand(error, 'ModelOutputError');
}

/** A conversation is being continued by another turn or agent. */
export class ConversationBusyError extends Error {
  override readonly name = 'ConversationBusyError';

  constructor() {
    super('The conversation is being continued by another turn or agent; wait for its end, or unsubscribe from it.');
    brandError(this, 'ConversationBusyError');
  }
}

/** Whether `error` is a ConversationBusyError of any copy of this package. */
export function isConversationBusyError(error: unknown): error is ConversationBusyError {
  return hasBrand(error, 'ConversationBusyError');
}

/**
 * Somebody else has written since the version that this write is based on, so it was not made: what `run` throws where it compares versions, as
 * with ETag and If-Match. The model is shown what is there now, so that it can decide again.
 */
export class VersionConflictError extends Error {
  override readonly name = 'VersionConflictError';
  /** The version that the write was based on. */
  readonly expected: string | number;
  /** The version that is there. */
  readonly version: string | number;
  /** The value that is there. */
  readonly current: unknown;

  constructor(expected: string | number, version: string | number, current: unknown) {
    super(`Nothing was written: the write is based on version ${expected}, and it is version ${version} by now.`);
    this.expected = expected;
    this.version = version;
    this.current = current;
    brandError(this, 'VersionConflictError');
  }
}

/** Whether `error` is a VersionConflictError of any copy of this package. */
export function isVersionConflictError(error: unknown): error is VersionConflictError {
  return hasBrand(error, 'VersionConflictError');
}
