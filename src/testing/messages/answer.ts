import { checkPace } from './options.js';
import type { MessagesServerOptions } from './options.js';
import { completeMessage, makeIds } from './complete.js';
import { deliver } from './deliver.js';
import type { Exchange } from './exchange.js';
import { makeLimiter } from './limits.js';
import type { Limiter } from './limits.js';
import type { RequestLog } from './log.js';
import { rememberThinking } from './memory.js';
import type { IssuedThinking } from './memory.js';
import { readBody } from './readBody.js';
import type { ErrorReply, MessageReply, MessagesRequest, Reply } from './reply.js';
import { isRecord } from './shape.js';
import type { Fields } from './shape.js';
import { inputTokensOf } from './tokens.js';
import { findProblem } from './validate.js';

const MB = 1024 * 1024;
const CREATE = '/v1/messages';
const COUNT = '/v1/messages/count_tokens';

/** A prompt-cache warm-up (`max_tokens: 0`) is not for the script: nothing is generated. */
const NOTHING: MessageReply = { type: 'message', content: [], stop_reason: 'max_tokens' };

/** Answers one request from beginning to end. */
export type Answer = (exchange: Exchange) => Promise<void>;

export function makeAnswer(options: MessagesServerOptions, log: RequestLog): Answer {
  const memory = rememberThinking();
  const limiter = options.rateLimits && makeLimiter(options.rateLimits, performance.now());
  const ask = makeAsk(options, log);
  const send = makeSend(options, memory);
  return async (exchange) => {
    const path = exchange.record.path.replace(/\?.*/s, '');
    if (refusedAtTheDoor(exchange, path, options.apiKey)) return;
    const body = await parseBody(exchange, options.maxBodyBytes ?? 32 * MB);
    if (!body) return;
    exchange.record.body = body;
    exchange.record.stream = body['stream'] === true;
    const beta = exchange.request.headers['anthropic-beta'] !== undefined;
    const problem = options.validate === false ? undefined : findProblem(body, { counting: path === COUNT, beta, memory });
    if (problem !== undefined) return void exchange.fail(400, { message: problem });
    const inputTokens = inputTokensOf(body);
    if (path === COUNT) return void exchange.json(200, { input_tokens: inputTokens });
    if (limiter && refusedByLimit(exchange, limiter, inputTokens)) return;
    log.read(exchange.record, inputTokens);
    const reply = body['max_tokens'] === 0 ? NOTHING : await ask(body as unknown as MessagesRequest, exchange);
    if (reply && !exchange.ended) await send(exchange, reply, String(body['model']));
  };
}

function refusedAtTheDoor(exchange: Exchange, path: string, apiKey: string | undefined): boolean {
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
  const text = await readBody(exchange.request, maxBytes);
  if (text === undefined) {
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

/** The token count of what has been generated is taken from the bucket when the exchange is over, whichever way it ended. */
function refusedByLimit(exchange: Exchange, limiter: Limiter, inputTokens: number): boolean {
  const now = performance.now();
  const refusal = limiter.admit(inputTokens, now);
  exchange.addHeaders(limiter.headers(now, Date.now()));
  if (refusal) {
    exchange.fail(429, { message: refusal.message }, { 'retry-after': String(refusal.retryAfter) });
    return true;
  }
  const { record, signal } = exchange;
  signal.addEventListener('abort', () => limiter.spendOutput(record.outputTokens + record.tokensForNobody, performance.now()));
  return false;
}

/** What the script says; `undefined` if it could not say anything, which has been answered with a 500 then. */
function makeAsk(
  { script }: MessagesServerOptions,
  log: RequestLog,
): (body: MessagesRequest, exchange: Exchange) => Promise<Reply | undefined> {
  let asked = 0;
  return async (body, exchange) => {
    const index = asked++;
    try {
      const context = { id: exchange.record.id, index, signal: exchange.signal };
      const reply = typeof script === 'function' ? await script(body, context) : script[index];
      if (reply?.type === 'message' || reply?.type === 'error') return checked(reply);
      const answers = typeof script === 'function' ? 'returned something that is no reply' : `has ${script.length} replies and no more`;
      throw new Error(`The script ${answers}: this was request number ${index + 1}.`);
    } catch (error) {
      log.scriptFailed();
      exchange.fail(500, { message: error instanceof Error ? error.message : String(error) });
      return undefined;
    }
  };
}

function checked(reply: Reply): Reply {
  checkPace(reply.pace ?? {});
  return reply;
}

function makeSend(
  options: MessagesServerOptions,
  memory: IssuedThinking,
): (exchange: Exchange, reply: Reply, model: string) => Promise<void> {
  const ids = makeIds();
  return async (exchange, reply, model) => {
    if (reply.type === 'error') return sendError(exchange, reply, options.pace?.headersMs ?? 0);
    const completed = completeMessage(reply, model, exchange.record.inputTokens, ids);
    memory.issue(completed.message);
    const pace = { headersMs: 0, eventMs: 0, chunkChars: 20, ...options.pace, ...reply.pace };
    await deliver(exchange, completed, { pace, fault: reply.fault, headers: reply.headers ?? {} });
  };
}

async function sendError(exchange: Exchange, { status, error, retryAfter, headers, pace }: ErrorReply, headersMs: number): Promise<void> {
  await exchange.pause(pace?.headersMs ?? headersMs);
  exchange.fail(status, error, { ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }), ...headers });
}
