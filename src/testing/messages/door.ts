import type { Exchange } from './exchange.js';
import type { MessagesServerOptions } from './options.js';
import { readBody } from './readBody.js';
import { isRecord } from './shape.js';
import type { Fields } from './shape.js';

const MB = 1024 * 1024;
const CREATE = '/v1/messages';
export const COUNT = '/v1/messages/count_tokens';

/** What has come through the door: a JSON object for one of the two endpoints, from somebody with the key. Everything else has been answered. */
export async function letIn(
  exchange: Exchange,
  { apiKey, maxBodyBytes = 32 * MB }: MessagesServerOptions,
): Promise<{ readonly path: string; readonly body: Fields } | undefined> {
  const path = exchange.record.path.replace(/\?.*/s, '');
  if (isRefused(exchange, path, apiKey)) return undefined;
  const body = await parseBody(exchange, maxBodyBytes);
  return body && { path, body };
}

function isRefused(exchange: Exchange, path: string, apiKey: string | undefined): boolean {
  const { headers, method } = exchange.request;
  const refuse = (status: number, message: string): true => {
    exchange.request.resume();
    exchange.fail(status, { message });
    return true;
  };
  if (path !== CREATE && path !== COUNT) return refuse(404, 'Not Found');
  if (method !== 'POST') return refuse(405, 'Method Not Allowed');
  const { 'x-api-key': key, authorization } = headers;
  if (apiKey !== undefined && key === undefined && authorization === undefined) return refuse(401, 'x-api-key header is required');
  if (apiKey !== undefined && key !== undefined && key !== apiKey) return refuse(401, 'invalid x-api-key');
  if (apiKey !== undefined && key === undefined && authorization !== `Bearer ${apiKey}`) return refuse(401, 'Invalid bearer token');
  if (headers['anthropic-version'] === undefined) return refuse(400, 'anthropic-version: header is required');
  return false;
}

async function parseBody(exchange: Exchange, maxBytes: number): Promise<Fields | undefined> {
  const text = await readBody(exchange.request, maxBytes).catch(() => exchange.over());
  if (exchange.ended) return undefined;
  if (typeof text !== 'string') {
    exchange.fail(413, { message: `Request exceeds the maximum size of ${maxBytes} bytes` }, { connection: 'close' });
    return undefined;
  }
  try {
    const body: unknown = JSON.parse(text);
    if (isRecord(body)) return body;
    exchange.fail(400, { message: 'Input should be a valid dictionary' });
  } catch (error) {
    exchange.fail(400, { message: `The request body is not valid JSON: ${(error as Error).message}` });
  }
  return undefined;
}
