import type { ApiErrorInit } from './reply.js';

/** The body of an error response, and the data of an `error` event. */
export interface ApiErrorBody {
  readonly type: 'error';
  readonly error: { readonly type: string; readonly message: string; readonly details?: { readonly error_code: string } };
  readonly request_id: string;
}

const TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  408: 'timeout_error',
  409: 'conflict_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
};

const STATUSES: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(TYPES).map(([status, type]) => [type, Number(status)] as const),
);

const MESSAGES: Readonly<Record<string, string>> = {
  overloaded_error: 'Overloaded',
  rate_limit_error: "This request would exceed your account's rate limit. Please try again later.",
  api_error: 'Internal server error',
  timeout_error: 'The request timed out.',
};

export function errorTypeOf(status: number): string {
  return TYPES[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error');
}

/** The status an error type travels with when there is still time for a status. */
export function statusOf(type: string): number {
  if (type === 'invalid_request_error') return 400;
  return STATUSES[type] ?? 500;
}

export function errorBody(type: string, init: ApiErrorInit, requestId: string): ApiErrorBody {
  const message = init.message ?? MESSAGES[type] ?? type;
  return {
    type: 'error',
    error: { type, message, ...(init.code !== undefined && { details: { error_code: init.code } }) },
    request_id: requestId,
  };
}
