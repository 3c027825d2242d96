import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import Anthropic from '@anthropic-ai/sdk';
import * as Sdk from '@anthropic-ai/sdk/error';
import { lastValueFrom, tap } from 'rxjs';
import { classifyError, isDeadlineExceededError, isScopeCancelledError, type ErrorKind } from 'rxfleet';
import {
  agent,
  conversation,
  isConnectionLostError,
  isModelStreamError,
  isStreamStalledError,
  isStreamTruncatedError,
  tool,
  type AgentEvent,
  type AgentOptions,
  type UsageRecord,
} from 'rxfleet/agents';
import { expectNoOpenScopes, reply, type Fault, type FaultPoint, type Reply, type Script } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

interface Failed {
  readonly error: unknown;
  readonly done: (AgentEvent & { type: 'done' }) | undefined;
  readonly records: readonly UsageRecord[];
}

/** Runs an agent whose tool has run by the time of the second request, and tells how it ended. */
async function outcome(client: AgentOptions['client'], options: Partial<AgentOptions> = {}): Promise<Failed> {
  const records: UsageRecord[] = [];
  const chat = conversation([hello]);
  const source = agent({ client, ...ask, messages: chat, usage: { next: (record) => records.push(record) }, ...options });
  const end = await lastValueFrom(source).then(
    (done) => ({ done: done as Failed['done'], error: undefined }),
    (error: unknown) => ({ error, done: undefined }),
  );
  if (options.messages === undefined) expect(chat.messages).toEqual(end.done?.history ?? [hello]);
  return { ...end, records };
}

async function failing(script: Script, options: Partial<AgentOptions> = {}): Promise<Failed & { requests: number; open: number }> {
  const { client, server } = await start(script);
  const failed = await outcome(client, options);
  await server.whenIdle();
  const { requests, open } = server.stats();
  return { ...failed, requests, open };
}

type ErrorClass = abstract new (...args: never[]) => Error;

describe('what the API answers before the reply is what the agent errors with, in the class of the SDK', () => {
  it.each<[number, ErrorClass, string, ErrorKind]>([
    [400, Sdk.BadRequestError, 'invalid_request_error', 'fatal'],
    [401, Sdk.AuthenticationError, 'authentication_error', 'fatal'],
    [402, Sdk.PaymentRequiredError, 'billing_error', 'fatal'],
    [403, Sdk.PermissionDeniedError, 'permission_error', 'fatal'],
    [404, Sdk.NotFoundError, 'not_found_error', 'fatal'],
    [408, Sdk.RequestTimeoutError, 'timeout_error', 'transient'],
    [409, Sdk.ConflictError, 'conflict_error', 'transient'],
    [412, Sdk.PreconditionFailedError, 'invalid_request_error', 'fatal'],
    [413, Sdk.ContentTooLargeError, 'request_too_large', 'fatal'],
    [422, Sdk.UnprocessableEntityError, 'invalid_request_error', 'fatal'],
    [429, Sdk.RateLimitError, 'rate_limit_error', 'throttle'],
    [431, Sdk.RequestHeaderFieldsTooLargeError, 'invalid_request_error', 'fatal'],
    [499, Sdk.ClientClosedRequestError, 'invalid_request_error', 'fatal'],
    [500, Sdk.InternalServerError, 'api_error', 'transient'],
    [501, Sdk.NotImplementedError, 'api_error', 'transient'],
    [503, Sdk.ServiceUnavailableError, 'api_error', 'transient'],
    [504, Sdk.GatewayTimeoutError, 'timeout_error', 'transient'],
    [529, Sdk.OverloadedError, 'overloaded_error', 'throttle'],
  ])('%i', async (status, cls, type, kind) => {
    const { error, requests, records, open } = await failing([reply.error(status)]);
    expect((error as Error).constructor).toBe(cls);
    expect(error).toMatchObject({ status, type, requestID: 'req_0001', error: { type: 'error', error: { type } } });
    expect(classifyError(error)).toBe(kind);
    expect({ requests, open }).toEqual({ requests: 1, open: 0 });
    const free = status < 500 || kind === 'throttle';
    const outputTokens = { floor: 0, estimate: 0, ceiling: free ? 0 : ask.max_tokens };
    expect(records).toMatchObject([{ phase: 'failed', exact: free, attempt: 1, outputTokens }]);
  });

  it.each(['enforced_spend_limit_reached', 'contract_spend_limit_reached'])('429 that is %s', async (code) => {
    const { error } = await failing([reply.error(429, { retryAfter: 1, code })]);
    expect(error).toBeInstanceOf(Sdk.RateLimitError);
    expect(classifyError(error)).toBe('fatal');
  });

  it('a body that is no JSON', async () => {
    const { client } = await raw((response) => response.writeHead(502, { 'content-type': 'text/html' }).end('<html>Bad Gateway</html>'));
    const { error, records } = await outcome(client);
    expect(error).toBeInstanceOf(Sdk.InternalServerError);
    expect(error).toMatchObject({ status: 502 });
    expect(classifyError(error)).toBe('transient');
    expect(records).toMatchObject([{ phase: 'failed', exact: false, outputTokens: { floor: 0, estimate: 0, ceiling: ask.max_tokens } }]);
  });

  it('a request that is larger than the server takes', async () => {
    const { client } = await start([reply.text('never')], { maxBodyBytes: 1_000 });
    const { error } = await outcome(client, { messages: [{ role: 'user', content: 'x'.repeat(2_000) }] });
    expect(error).toMatchObject({ status: 413, type: 'request_too_large' });
    expect(classifyError(error)).toBe('fatal');
  });

  it('a key that is wrong', async () => {
    const { client } = await start([reply.text('never')], { apiKey: 'another' });
    const { error } = await outcome(client);
    expect(error).toBeInstanceOf(Sdk.AuthenticationError);
    expect(classifyError(error)).toBe('fatal');
  });
});

describe('what never gets as far as an answer', () => {
  it('a connection that is refused', async () => {
    const { client, server } = await start([]);
    await server.close();
    const { error, records } = await outcome(client);
    expect(isConnectionLostError(error)).toBe(true);
    expect(error).toMatchObject({ requestId: null, events: 0, cause: expect.any(Sdk.APIConnectionError) as unknown });
    expect((error as Error).message).toContain('ECONNREFUSED');
    expect(classifyError(error)).toBe('transient');
    expect(records).toMatchObject([{ phase: 'never-sent', exact: true, outputTokens: { ceiling: 0 } }]);
  });

  it('a name that is not known', async () => {
    const { error, records } = await outcome(refusing('ENOTFOUND'));
    expect(isConnectionLostError(error)).toBe(true);
    expect(classifyError(error)).toBe('transient');
    expect(records).toMatchObject([{ phase: 'never-sent', exact: true }]);
  });

  it.each(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])('a limit of the platform for silence: %s', async (code) => {
    const { error } = await outcome(refusing(code));
    expect(isStreamStalledError(error)).toBe(true);
    expect(error).toMatchObject({ phase: 'headers', ms: undefined });
    expect(classifyError(error)).toBe('transient');
  });

  it('a timeout of the SDK', async () => {
    const { error } = await outcome(
      fetching(async () => {
        throw new Sdk.APIConnectionTimeoutError();
      }),
    );
    expect(error).toMatchObject({ name: 'StreamStalledError', phase: 'headers', ms: undefined });
    expect(classifyError(error)).toBe('transient');
  });

  it('the limit of the client is not ours: ours holds', async () => {
    const { server } = await start([reply.text('at last', { pace: { headersMs: 120 } })]);
    const client = new Anthropic({ apiKey: 'x', baseURL: server.url, timeout: 30, logLevel: 'off' });
    expect((await outcome(client)).done?.text).toBe('at last');
  });

  it('a middleware that asks the SDK to try again', async () => {
    const middleware = async (): Promise<never> => {
      throw new Sdk.RetryableError('again');
    };
    const { error, requests } = await failing([reply.text('never')], { request: { middleware: [middleware] } });
    expect(error).toBeInstanceOf(Sdk.RetryableError);
    expect(requests).toBe(0);
    expect(classifyError(error)).toBe('transient');
  });

  it('a certificate that is not trusted', async () => {
    const { error, records } = await outcome(refusing('DEPTH_ZERO_SELF_SIGNED_CERT'));
    expect(isConnectionLostError(error)).toBe(true);
    expect(records).toMatchObject([{ phase: 'never-sent', exact: true }]);
  });

  it('a client without a key', async () => {
    const { server } = await start([]);
    const client = new Anthropic({ apiKey: null, authToken: null, baseURL: server.url, logLevel: 'off' });
    const { error, records } = await outcome(client);
    expect((error as Error).message).toContain('apiKey');
    expect(records).toMatchObject([{ phase: 'never-sent', exact: true }]);
    expect(server.stats().requests).toBe(0);
  });

  it('an abort: the reason of the caller, not an APIUserAbortError', async () => {
    for (const after of ['request', 'headers', 2] as const) {
      const { client, server } = await start([reply.text('hello', { fault: { kind: 'stall', after } })]);
      const controller = new AbortController();
      const ended = outcome(client, { signal: controller.signal });
      await server.when(() => server.requests[0]?.events === (after === 2 ? 2 : 0));
      await sleep(10);
      controller.abort('the user pressed stop');
      const { error, records } = await ended;
      if (!isScopeCancelledError(error)) throw error;
      expect(error.kind).toBe('signal');
      expect(error.message).toContain('the user pressed stop');
      expect(classifyError(error)).toBe('local');
      expect(records).toMatchObject([{ phase: 'cancelled', exact: false, outputTokens: { ceiling: ask.max_tokens } }]);
    }
  });

  it('a deadline', async () => {
    const { error, open } = await failing([reply.text('hello', { fault: { kind: 'stall', after: 2 } })], { timeouts: { workflow: 60 } });
    expect(isDeadlineExceededError(error) && error.ms).toBe(60);
    expect(classifyError(error)).toBe('transient');
    expect(open).toBe(0);
  });
});

const points: readonly FaultPoint[] = ['request', 'headers', 1, 2, 3, 4, 5, 6, 7];
const EVENTS = 7;
/** Seven events: start, block, two deltas, end of block, delta of the message, stop. */
const text = (fault: Fault): Reply => reply.text('hello world', { fault, pace: { chunkChars: 6 } });
const at = (point: FaultPoint): number => (typeof point === 'number' ? point : 0);

describe('every fault of the stream at every event', () => {
  it.each(points)('stall after %s', async (after) => {
    const { error, done, records, open } = await failing([text({ kind: 'stall', after })], { headersMs: 60, idleMs: 60 });
    if (after === EVENTS) return expect(done?.text).toBe('hello world');
    if (!isStreamStalledError(error)) throw error;
    expect(error).toMatchObject({ phase: after === 'request' ? 'headers' : 'body', ms: 60, events: at(after) });
    expect(error.requestId).toBe(after === 'request' ? null : 'req_0001');
    expect(classifyError(error)).toBe('transient');
    expect(records).toMatchObject([{ phase: 'truncated', exact: false }]);
    return expect(open).toBe(0);
  });

  it.each(points)('fin after %s', async (after) => {
    const { error, done, records } = await failing([text({ kind: 'fin', after })]);
    if (after === EVENTS) return expect(done?.text).toBe('hello world');
    expect(after === 'request' ? isConnectionLostError(error) : isStreamTruncatedError(error)).toBe(true);
    expect(error).toMatchObject({ events: at(after), requestId: after === 'request' ? null : 'req_0001' });
    expect(classifyError(error)).toBe('transient');
    return expect(records).toMatchObject([{ phase: 'truncated', exact: false, outputTokens: { ceiling: ask.max_tokens } }]);
  });

  it.each(points)('reset after %s', async (after) => {
    const { error, done, records } = await failing([text({ kind: 'reset', after })]);
    if (after === EVENTS) return expect(done?.text).toBe('hello world');
    if (!isConnectionLostError(error)) throw error;
    expect(error).toMatchObject({ events: at(after), requestId: after === 'request' ? null : 'req_0001' });
    expect(classifyError(error)).toBe('transient');
    return expect(records).toMatchObject([{ phase: 'truncated', exact: false, outputTokens: { ceiling: ask.max_tokens } }]);
  });

  it.each(points)('error after %s', async (after) => {
    const { error, done, records } = await failing([text({ kind: 'error', after })]);
    if (after === EVENTS) return expect(done?.text).toBe('hello world');
    if (after === 'request') expect(error).toMatchObject({ status: 529, type: 'overloaded_error' });
    else {
      if (!isModelStreamError(error)) throw error;
      expect(error).toMatchObject({ type: 'overloaded_error', apiMessage: 'Overloaded', events: at(after), requestId: 'req_0001' });
      expect(error.cause).toBeInstanceOf(Sdk.APIError);
    }
    expect(classifyError(error)).toBe('throttle');
    return expect(records).toMatchObject([{ phase: 'failed', exact: at(after) === 0 }]);
  });

  it.each<[string, ErrorKind]>([
    ['overloaded_error', 'throttle'],
    ['rate_limit_error', 'throttle'],
    ['api_error', 'transient'],
    ['timeout_error', 'transient'],
    ['invalid_request_error', 'fatal'],
    ['something_new_error', 'unknown'],
  ])('an error event of type %s', async (type, kind) => {
    const { error } = await failing([text({ kind: 'error', after: 3, error: { type, message: 'said' } })]);
    expect(error).toMatchObject({ name: 'ModelStreamError', type, apiMessage: 'said', events: 3 });
    expect(classifyError(error)).toBe(kind);
  });

  it('max_tokens is no fault of the stream', async () => {
    const { done } = await failing([text({ kind: 'max_tokens', keep: 5 })]);
    expect(done).toMatchObject({ stop: 'max_tokens', text: 'hello' });
  });
});

const MESSAGE_START = {
  type: 'message_start',
  message: {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'm',
    content: [],
    stop_reason: null,
    usage: { input_tokens: 3, output_tokens: 1 },
  },
};

describe('a stream that makes no sense', () => {
  it.each<[string, string, string, number]>([
    ['JSON that is cut off', 'event: content_block_start\ndata: {"type":"content_bl\n\n', 'StreamTruncatedError', 1],
    ['no JSON at all', 'event: content_block_start\ndata: <html>\n\n', 'StreamTruncatedError', 1],
    ['an end in the middle of an event', 'event: content_block_start\ndata: {"type":', 'StreamTruncatedError', 1],
    [
      'a delta without its delta',
      'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\nevent: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n',
      'ModelStreamError',
      3,
    ],
  ])('%s', async (_, rest, name, events) => {
    const { client } = await raw((response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'request-id': 'req_raw' });
      response.end(`event: message_start\ndata: ${JSON.stringify(MESSAGE_START)}\n\n${rest}`);
    });
    const { error, records } = await outcome(client);
    expect(error).toMatchObject({ name, requestId: 'req_raw', events });
    expect(['transient', 'unknown']).toContain(classifyError(error));
    expect(records).toHaveLength(1);
    expect(records[0]).toMatchObject({ exact: false, inputTokens: 3, outputTokens: { floor: 1, ceiling: ask.max_tokens } });
  });

  it('an answer without a body', async () => {
    const { error } = await outcome(
      fetching(async () => new Response(null, { status: 200, headers: { 'content-type': 'text/event-stream' } })),
    );
    expect(['StreamTruncatedError', 'ConnectionLostError']).toContain((error as Error).name);
    expect(classifyError(error)).toBe('transient');
  });
});

describe('in the second turn', () => {
  const look = tool({ name: 'look', description: '', effect: 'none', input: z.object({}), run: () => 'seen' });
  const first = reply.toolUse([{ name: 'look', input: {} }]);

  it.each<[string, Reply]>([
    ['an error of the API', reply.error(500)],
    ['a reset', text({ kind: 'reset', after: 2 })],
    ['a stream that ends early', text({ kind: 'fin', after: 4 })],
    ['an error event', text({ kind: 'error', after: 4 })],
  ])('%s leaves a history with the results of the first, which can be continued', async (_, second) => {
    const { client } = await start([first, second, reply.text('on we go')]);
    const chat = conversation([hello]);
    const { error, records } = await outcome(client, { messages: chat, tools: [look] });
    expect(error).toBeInstanceOf(Error);
    expect(records).toHaveLength(2);
    expect(chat.messages).toHaveLength(3);
    expect(chat.busy).toBe(false);
    const again = await outcome(client, { messages: chat, tools: [look] });
    expect(again.done).toMatchObject({ stop: 'end_turn', text: 'on we go' });
  });

  it('nothing is said twice: events stop with the error', async () => {
    const { client } = await start([first, text({ kind: 'reset', after: 4 })]);
    const seen: string[] = [];
    const source = agent({ client, ...ask, tools: [look] }).pipe(tap(({ type }) => seen.push(type)));
    await expect(lastValueFrom(source)).rejects.toMatchObject({ name: 'ConnectionLostError' });
    const count = seen.length;
    await sleep(20);
    expect(seen).toHaveLength(count);
    expect(seen).not.toContain('done');
  });
});

/** The client for a server that answers anything. */
async function raw(answer: (response: ServerResponse) => void): Promise<{ client: Anthropic }> {
  const server: Server = createServer((request, response) => {
    request.resume();
    request.on('end', () => answer(response));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { client: new Anthropic({ apiKey: 'x', baseURL: `http://127.0.0.1:${port}`, logLevel: 'off' }) };
}

function refusing(code: string): Anthropic {
  return fetching(() => Promise.reject(new TypeError('fetch failed', { cause: Object.assign(new Error(code), { code }) })));
}

function fetching(fetch: () => Promise<Response>): Anthropic {
  return new Anthropic({ apiKey: 'x', baseURL: 'http://127.0.0.1:1', logLevel: 'off', fetch });
}
