import { completeMessage, makeIds } from './complete.js';
import { deliver } from './deliver.js';
import { COUNT, letIn } from './door.js';
import type { Exchange } from './exchange.js';
import { makeLimiter } from './limits.js';
import type { Limiter } from './limits.js';
import type { RequestLog } from './log.js';
import { rememberThinking } from './memory.js';
import type { IssuedThinking } from './memory.js';
import { checkPace } from './options.js';
import type { MessagesServerOptions } from './options.js';
import type { ErrorReply, ScriptedReply, MessagesRequest, Reply } from './reply.js';
import type { Fields } from './shape.js';
import { makeThreads } from './threads.js';
import type { Threads } from './threads.js';
import { inputTokensOf } from './tokens.js';
import { findProblem } from './validate.js';

/** A prompt-cache warm-up (`max_tokens: 0`) is not for the script: nothing is generated. */
const NOTHING: ScriptedReply = { type: 'message', content: [], stop_reason: 'max_tokens' };

/** Answers one request from beginning to end. */
export type Answer = (exchange: Exchange) => Promise<void>;

export function makeAnswer(options: MessagesServerOptions, log: RequestLog): Answer {
  const memory = rememberThinking();
  const limiter = options.rateLimits && makeLimiter(options.rateLimits, performance.now());
  const ask = makeAsk(options);
  const threads = makeThreads();
  const send = makeSend(options, memory, threads);
  return async (exchange) => {
    const arrived = await letIn(exchange, options);
    if (!arrived) return;
    const { path, body: sent } = arrived;
    exchange.record.body = sent;
    exchange.record.stream = sent['stream'] === true;
    const expanded = threads.expand(sent, exchange);
    if ('error' in expanded) return void exchange.fail(expanded.status, expanded.error);
    const { body } = expanded;
    const beta = exchange.request.headers['anthropic-beta'] !== undefined;
    const problem = options.validate === false ? undefined : findProblem(body, { counting: path === COUNT, beta, memory });
    if (problem !== undefined) return void exchange.fail(400, { message: problem });
    const inputTokens = inputTokensOf(body);
    if (path === COUNT) return void exchange.json(200, { input_tokens: inputTokens });
    if (limiter && refusedByLimit(exchange, limiter, inputTokens)) return;
    log.read(exchange.record, inputTokens);
    try {
      const reply = body['max_tokens'] === 0 ? NOTHING : await ask(body as unknown as MessagesRequest, exchange);
      if (!exchange.ended) await send(exchange, reply, body);
    } catch (error) {
      if (exchange.ended) return;
      log.scriptFailed();
      exchange.crash(error);
    }
  };
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

/** What the script says. Throws where it throws, gives something that is no reply, or has nothing more to say. */
function makeAsk({ script }: MessagesServerOptions): (body: MessagesRequest, exchange: Exchange) => Promise<Reply> {
  let asked = 0;
  return async (body, exchange) => {
    const index = asked++;
    const context = { id: exchange.record.id, index, signal: exchange.signal };
    const reply = typeof script === 'function' ? await script(body, context) : script[index];
    if (reply?.type === 'message' || reply?.type === 'error') {
      checkPace(reply.pace ?? {});
      return reply;
    }
    const answers = typeof script === 'function' ? 'returned something that is no reply' : `has ${script.length} replies and no more`;
    throw new Error(`The script ${answers}: this was request number ${index + 1}.`);
  };
}

function makeSend(
  options: MessagesServerOptions,
  memory: IssuedThinking,
  threads: Threads,
): (exchange: Exchange, reply: Reply, body: Fields) => Promise<void> {
  const ids = makeIds();
  return async (exchange, reply, body) => {
    if (reply.type === 'error') return sendError(exchange, reply, options.pace?.headersMs ?? 0);
    const completed = completeMessage(reply, String(body['model']), exchange.record.inputTokens, ids);
    memory.issue(completed.message);
    threads.hold(body, completed.message, exchange);
    const pace = { headersMs: 0, eventMs: 0, chunkChars: 20, ...options.pace, ...reply.pace };
    await deliver(exchange, completed, { pace, fault: reply.fault, headers: reply.headers ?? {} });
  };
}

async function sendError(exchange: Exchange, { status, error, retryAfter, headers, pace }: ErrorReply, headersMs: number): Promise<void> {
  await exchange.pause(pace?.headersMs ?? headersMs);
  exchange.fail(status, error, { ...(retryAfter !== undefined && { 'retry-after': String(retryAfter) }), ...headers });
}
