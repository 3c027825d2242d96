import { describeError } from '../core/errors.js';
import { withoutSecrets } from '../core/redact.js';

const LONGEST = 300;

/** What an error of the Anthropic SDK, or of another client that keeps the answer of an API, looks like. */
interface ApiErrorShape {
  readonly status?: unknown;
  readonly requestID?: unknown;
  readonly headers?: { get?(name: string): unknown };
  readonly error?: { readonly request_id?: unknown; readonly error?: { readonly type?: unknown; readonly message?: unknown } };
}

/** What an error says, in a line. */
export function wordsOf(error: unknown): string {
  return (typeof error === 'object' && error !== null ? wordsOfApiError(error) : undefined) ?? describeError(error);
}

/**
 * A line of words for an error whose own message is the JSON that an API answered: what it said, and what helps to find the request again.
 * undefined for others. Of the headers nothing but the time to wait is told.
 */
export function wordsOfApiError(error: object): string | undefined {
  try {
    return inWords(error);
  } catch {
    return undefined;
  }
}

function inWords({ status, requestID, headers, error: body }: ApiErrorShape): string | undefined {
  const said = body?.error;
  if (typeof said?.message !== 'string') return undefined;
  const answered = typeof status === 'number' ? `answered ${status}` : 'reported';
  const type = matching(/^\w{1,60}$/, said.type);
  const request = matching(/^[\w-]{1,60}$/, requestID ?? body?.request_id);
  const wait = matching(/^\d{1,9}(\.\d+)?$/, headers?.get?.('retry-after'));
  const notes = [request && `request ${request}`, wait && `retry after ${wait} s`].filter(Boolean).join(', ');
  const message = withoutSecrets(said.message, LONGEST).replace(/\.$/, '');
  return `The API ${answered}${type && ` ${type}`}${message && `: ${message}`}${notes && ` (${notes})`}`;
}

/** What comes from outside, if it looks as it should. */
function matching(pattern: RegExp, value: unknown): string {
  return typeof value === 'string' && pattern.test(value) ? value : '';
}
