import { costsNothing } from '../gates/budgetCharge.js';
import type { UsageRecord } from './usageRecord.js';
import {
  isModelStreamError,
  ConnectionLostError,
  ModelStreamError,
  StreamStalledError,
  StreamTruncatedError,
  type ReplyErrorInit,
} from './errors.js';

/** What an error of the Anthropic SDK looks like, whichever copy of it threw. */
interface ApiErrorShape {
  readonly name?: unknown;
  readonly status?: unknown;
  readonly type?: unknown;
  readonly apiMessage?: unknown;
  readonly requestID?: unknown;
  readonly code?: unknown;
  readonly cause?: unknown;
}

function shapeOf(error: unknown): ApiErrorShape {
  return typeof error === 'object' && error !== null ? error : {};
}

/** What a request that failed before its response errors with: what the API answered stays as it is. */
export function requestError(error: unknown, init: ReplyErrorInit): unknown {
  const { name } = shapeOf(error);
  if (name === 'APIConnectionTimeoutError' || isSilence(error))
    return new StreamStalledError('headers', undefined, { ...init, cause: error });
  if (name === 'APIConnectionError') return new ConnectionLostError({ ...init, cause: error });
  return isHeaderError(error)
    ? new TypeError('The request was not sent: one of its headers has an illegal value (a key with a line break?).')
    : error;
}

/** The platform shows the whole value of a header that it refuses, and that may be a key. */
function isHeaderError(error: unknown): boolean {
  return error instanceof TypeError && /header/i.test(error.message);
}

/** What a response that broke off errors with. */
export function bodyError(error: unknown, init: ReplyErrorInit): unknown {
  const shape = shapeOf(error);
  if (typeof shape.type === 'string' && shape.status === undefined) {
    const said = typeof shape.apiMessage === 'string' ? shape.apiMessage : shape.type;
    return new ModelStreamError(shape.type, said, { ...init, cause: error });
  }
  if (error instanceof SyntaxError) return new StreamTruncatedError({ ...init, cause: error });
  if (isSilence(error)) return new StreamStalledError('body', undefined, { ...init, cause: error });
  return new ConnectionLostError({ ...init, cause: error });
}

/** Whether the platform's own limit for headers or body was the shorter one. */
function isSilence(error: unknown): boolean {
  for (let each = shapeOf(error), depth = 0; depth < 4; each = shapeOf(each.cause), depth++) {
    if (each.code === 'UND_ERR_BODY_TIMEOUT' || each.code === 'UND_ERR_HEADERS_TIMEOUT') return true;
  }
  return false;
}

/** The request that an error of the API was the answer to. */
export function requestIdOf(error: unknown): string | null {
  const { requestID } = shapeOf(error);
  return typeof requestID === 'string' ? requestID : null;
}

/** How an attempt ended that was not cancelled. A connection that broke before any answer may have broken after the request had arrived. */
export function phaseOf(
  error: unknown,
  { begun, answered }: { readonly begun: boolean; readonly answered: boolean },
): UsageRecord['phase'] {
  if (isModelStreamError(error)) return 'failed';
  if (answered) return 'truncated';
  if (typeof shapeOf(error).status === 'number') return 'failed';
  return !begun || costsNothing(error) ? 'never-sent' : 'truncated';
}
