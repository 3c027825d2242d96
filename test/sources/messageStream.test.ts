import type Anthropic from '@anthropic-ai/sdk';
import { firstValueFrom, lastValueFrom, NEVER, take, tap, toArray, VirtualTimeScheduler, type Observable } from 'rxjs';
import { isScopeCancelledError, scoped, takeWithin, type Scope } from 'rxfleet';
import {
  foldMessage,
  isConnectionLostError,
  isModelStreamError,
  isStreamStalledError,
  isStreamTruncatedError,
  messageStream,
  textDeltas,
  type MessagesClient,
  type ResponseInfo,
} from 'rxfleet/agents';
import { expectNoOpenScopes, reply, type Fault } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ask, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

const errorOf = (source: Observable<unknown>): Promise<unknown> =>
  lastValueFrom(source).then(
    () => Promise.reject(new Error('completed')),
    (error: unknown) => error,
  );

async function failing(fault: Fault, options = {}) {
  const { client, server } = await start([reply.text('hello world, this is a reply', { fault })]);
  const events: unknown[] = [];
  const error = await errorOf(messageStream(client, ask, options).pipe(tap((event) => events.push(event))));
  return { error, events, server };
}

describe('messageStream', () => {
  it('puts out the events of the reply and completes', async () => {
    const { client, server } = await start([reply.text('hello world')]);
    const events = await lastValueFrom(messageStream(client, ask).pipe(toArray()));
    expect(events.map(({ type }) => type)).toEqual([
      'message_start',
      'content_block_start',
      'content_block_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ]);
    await server.whenIdle();
    expect(server.stats()).toMatchObject({ requests: 1, completed: 1, closedByClient: 0 });
    expect(server.requests[0]?.body).toMatchObject({ stream: true, messages: ask.messages });
  });

  it('is cold: one request per subscription, none without', async () => {
    const { client, server } = await start([reply.text('one'), reply.text('two')]);
    const stream = messageStream(client, ask).pipe(foldMessage());
    expect(server.stats().requests).toBe(0);
    expect((await lastValueFrom(stream)).content).toMatchObject([{ text: 'one' }]);
    expect((await lastValueFrom(stream)).content).toMatchObject([{ text: 'two' }]);
    expect(server.stats().socketsOpened).toBeLessThan(3);
  });

  it('tells of the response, and sends the headers that it is given', async () => {
    const { client, server } = await start([reply.text('x', { headers: { 'x-test': 'yes' } })]);
    let seen: ResponseInfo | undefined;
    const request = { headers: { 'x-mine': 'mine' } };
    await lastValueFrom(messageStream(client, ask, { request, onResponse: (response) => (seen = response) }));
    expect(seen?.requestId).toBe('req_0001');
    expect(seen?.headers.get('x-test')).toBe('yes');
    expect(server.requests[0]?.headers['x-mine']).toBe('mine');
  });

  it('a callback that throws fails its own call, and the connection is closed', async () => {
    const { client, server } = await start([reply.text('x', { pace: { eventMs: 50 } })]);
    const onResponse = (): never => {
      throw new Error('callback');
    };
    expect(await errorOf(messageStream(client, ask, { onResponse }))).toMatchObject({ message: 'callback' });
    await server.whenIdle();
    expect(server.stats().closedByClient).toBe(1);
  });
});

describe('messageStream: what goes wrong', () => {
  it.each([1, 3, 5])('a clean end after %i events is a StreamTruncatedError', async (after) => {
    const { error, events } = await failing({ kind: 'fin', after });
    if (!isStreamTruncatedError(error)) throw error;
    expect(error).toMatchObject({ requestId: 'req_0001', events: after });
    expect(error.message).toBe(`The reply ended without message_stop after ${after} event${after === 1 ? '' : 's'} (request req_0001).`);
    expect(events).toHaveLength(after);
  });

  it('a clean end right after the headers is a StreamTruncatedError', async () => {
    expect((await failing({ kind: 'fin', after: 'headers' })).error).toMatchObject({ name: 'StreamTruncatedError', events: 0 });
  });

  it.each([1, 3])('a reset after %i events is a ConnectionLostError', async (after) => {
    const { error } = await failing({ kind: 'reset', after });
    if (!isConnectionLostError(error)) throw error;
    expect(error).toMatchObject({ requestId: 'req_0001', events: after });
    expect(error.message).toMatch(/The connection to the model was lost after .*terminated/);
    expect(error.cause).toBeInstanceOf(TypeError);
  });

  it('a reset before the headers is a ConnectionLostError, and is not tried again', async () => {
    const { error, server } = await failing({ kind: 'reset', after: 'request' });
    expect(error).toMatchObject({ name: 'ConnectionLostError', requestId: null, events: 0 });
    expect(server.stats().requests).toBe(1);
  });

  it('a server that is not there is a ConnectionLostError that says why', async () => {
    const { client, server } = await start([]);
    await server.close();
    const error = await errorOf(messageStream(client, ask));
    expect(isConnectionLostError(error)).toBe(true);
    expect((error as Error).message).toMatch(/ECONNREFUSED/);
  });

  it('an error event is a ModelStreamError with what the API said', async () => {
    const { error } = await failing({ kind: 'error', after: 2, error: { type: 'overloaded_error', message: 'Overloaded' } });
    if (!isModelStreamError(error)) throw error;
    expect(error).toMatchObject({ type: 'overloaded_error', apiMessage: 'Overloaded', requestId: 'req_0001', events: 2 });
    expect(error.message).toBe('The model reported overloaded_error after 2 events (request req_0001): Overloaded');
    expect(error.cause).toMatchObject({ name: 'APIError', type: 'overloaded_error' });
  });

  it('silence in the body is a StreamStalledError, and the connection is closed', async () => {
    const { error, server } = await failing({ kind: 'stall', after: 3 }, { idleMs: 60 });
    if (!isStreamStalledError(error)) throw error;
    expect(error).toMatchObject({ phase: 'body', ms: 60, events: 3, requestId: 'req_0001' });
    expect(error.message).toBe('The reply fell silent for 60 ms after 3 events (request req_0001).');
    await server.when(({ closedByClient }) => closedByClient === 1);
  });

  it('silence before the headers is a StreamStalledError', async () => {
    const { error, server } = await failing({ kind: 'stall', after: 'request' }, { headersMs: 60 });
    expect(error).toMatchObject({ name: 'StreamStalledError', phase: 'headers', ms: 60, requestId: null });
    await server.when(({ closedByClient }) => closedByClient === 1);
    expect(server.stats().requests).toBe(1);
  });

  it('a slow stream is not silent', async () => {
    const { client } = await start([reply.text('hello world, slowly', { pace: { eventMs: 60, chunkChars: 2 } })]);
    expect(await lastValueFrom(messageStream(client, ask, { idleMs: 600 }).pipe(textDeltas(), toArray()))).toHaveLength(10);
  });

  it('a connection that does not end after message_stop is no failure', async () => {
    const { client } = await start([reply.text('all', { fault: { kind: 'reset', after: 1000 } })]);
    expect((await lastValueFrom(messageStream(client, ask))).type).toBe('message_stop');
  });

  it.each([
    [429, 'RateLimitError'],
    [529, 'OverloadedError'],
    [500, 'InternalServerError'],
    [400, 'BadRequestError'],
  ])('what the API answers before the reply stays as it is, and is not tried again: %i', async (status, name) => {
    const { client, server } = await start([reply.error(status, { retryAfter: 0 }), reply.text('again')]);
    const error = await errorOf(messageStream(client, ask));
    expect((error as object).constructor.name).toBe(name);
    expect(error).toMatchObject({ status });
    expect(server.stats().requests).toBe(1);
  });

  it('data that is no JSON is a StreamTruncatedError', async () => {
    const broken = {
      messages: {
        create: () => ({
          withResponse: () =>
            Promise.resolve({
              data: {
                [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new SyntaxError('Unexpected end of JSON input')) }),
              },
              response: { headers: new Headers() },
              request_id: null,
            }),
        }),
      },
    } as unknown as MessagesClient;
    expect(await errorOf(messageStream(broken, ask))).toMatchObject({ name: 'StreamTruncatedError', cause: { name: 'SyntaxError' } });
  });

  it('a client that throws fails the stream', async () => {
    const broken = {
      messages: {
        create: () => {
          throw new Error('no key');
        },
      },
    } as unknown as MessagesClient;
    expect(await errorOf(messageStream(broken, ask))).toMatchObject({ message: 'no key' });
  });

  it('watches the time of the scheduler that it is given', async () => {
    const { client, server } = await start([reply.text('x', { fault: { kind: 'stall', after: 2 } })]);
    const scheduler = new VirtualTimeScheduler();
    const error = errorOf(messageStream(client, ask, { scheduler, idleMs: 3_600_000 }));
    await server.when(() => server.requests[0]?.events === 2);
    await sleep(20);
    scheduler.flush();
    expect(await error).toMatchObject({ name: 'StreamStalledError', ms: 3_600_000 });
  });

  it('refuses wrong options where they are given', async () => {
    const { client } = await start([]);
    expect(() => messageStream({} as never, ask)).toThrow(/^messageStream: client must be an Anthropic client/);
    expect(() => messageStream(client, undefined as never)).toThrow(/^messageStream: params must be an object/);
    expect(() => messageStream(client, ask, { idleMs: -1 })).toThrow(/^messageStream: idleMs must be/);
    expect(() => messageStream(client, ask, { headersMs: NaN })).toThrow(RangeError);
    expect(() => messageStream(client, ask, { within: {} as never })).toThrow(/^messageStream: within/);
    expect(() => messageStream(client, ask, { scheduler: 5 as never })).toThrow(/^messageStream: scheduler/);
  });
});

describe('messageStream: leaving', () => {
  it.each([
    ['while it is quiet', 3],
    ['right after the headers', 'headers'],
    ['before the headers', 'request'],
  ] as const)('%s closes the socket at once, and its scope waits for that', async (_, after) => {
    const { client, server } = await start([reply.text('hello world', { fault: { kind: 'stall', after } })]);
    let root: Scope | undefined;
    const run = scoped((scope) => messageStream(client, ask, { within: scope }), { onScope: (scope) => (root = scope) }).subscribe();
    await server.when(() => server.requests[0]?.events === (after === 3 ? 3 : 0));
    await sleep(10);
    const leaving = performance.now();
    run.unsubscribe();
    const closed = root!.closed;
    await server.when(({ closedByClient }) => closedByClient === 1);
    expect(server.requests[0]!.closedByClientAt! - leaving).toBeLessThan(100);
    expect(await closed).toMatchObject({ reason: { kind: 'unsubscribed' }, errors: [], abandoned: [] });
  });

  it('at each event closes the socket, and nothing follows', async () => {
    for (let n = 1; n <= 5; n++) {
      const { client, server } = await start([reply.text('hello world', { pace: { eventMs: 2 }, fault: { kind: 'stall', after: 5 } })]);
      const events = await lastValueFrom(messageStream(client, ask).pipe(take(n), toArray()));
      expect(events).toHaveLength(n);
      await server.whenIdle();
      expect(server.stats()).toMatchObject({ closedByClient: 1, completed: 0 });
    }
  });

  it('100 quiet streams at once: every socket is closed', async () => {
    const { client, server } = await start(() => reply.text('hello', { fault: { kind: 'stall', after: 2 } }));
    const runs = Array.from({ length: 100 }, () => messageStream(client, ask).subscribe());
    await server.when(() => server.requests.length === 100 && server.requests.every(({ events }) => events === 2));
    for (const run of runs) run.unsubscribe();
    await server.when(({ closedByClient }) => closedByClient === 100);
  });

  it('a deadline above ends it with partial values and a closed socket', async () => {
    const { client, server } = await start([reply.text('hello world', { fault: { kind: 'stall', after: 3 } })]);
    const texts = await lastValueFrom(messageStream(client, ask).pipe(textDeltas(), takeWithin(100), toArray()));
    expect(texts).toEqual(['hello world']);
    await server.when(({ closedByClient }) => closedByClient === 1);
  });

  it('a cancel above is told with its reason', async () => {
    const { client, server } = await start([reply.text('hello world', { fault: { kind: 'stall', after: 3 } })]);
    const controller = new AbortController();
    let ctx: Scope | undefined;
    const run = scoped((scope) => ((ctx = scope), NEVER), { signal: controller.signal }).subscribe({ error: () => {} });
    const error = errorOf(messageStream(client, ask, { within: ctx! }));
    await server.when(() => server.requests[0]?.events === 3);
    controller.abort('the user pressed stop');
    const told = await error;
    if (!isScopeCancelledError(told)) throw told;
    expect(told.message).toContain('the user pressed stop');
    await server.when(({ closedByClient }) => closedByClient === 1);
    run.unsubscribe();
  });

  it('never sends a request from a scope that is cancelled', async () => {
    const { client, server } = await start([reply.text('x')]);
    let ctx: Scope | undefined;
    scoped((scope) => ((ctx = scope), NEVER))
      .subscribe()
      .unsubscribe();
    expect(isScopeCancelledError(await errorOf(messageStream(client, ask, { within: ctx! })))).toBe(true);
    await sleep(20);
    expect(server.stats().requests).toBe(0);
  });
});

describe('textDeltas and foldMessage over a reply', () => {
  it('the fold is the message that the SDK makes of it', async () => {
    const content = [
      { type: 'thinking' as const, thinking: 'let me think about it, at some length' },
      { type: 'text' as const, text: 'a text that comes in several pieces' },
      { type: 'tool_use' as const, name: 'f', input: { deep: [{ a: 'x'.repeat(50) }], n: 1 } },
      { type: 'tool_use' as const, name: 'g', input: {} },
    ];
    const usage = { input_tokens: 5, cache_read_input_tokens: 7, output_tokens: 99 };
    const script = [reply.message({ content, usage, stop_reason: 'tool_use' }), reply.message({ content, usage, stop_reason: 'tool_use' })];
    const { client } = await start(script);
    const ours = await firstValueFrom(messageStream(client, ask).pipe(foldMessage()));
    const { parsed_output: _, ...theirs } = await client.messages.stream({ ...ask }).finalMessage();
    const same = (message: Anthropic.Messages.Message): unknown =>
      JSON.parse(JSON.stringify({ ...message, id: '' }).replaceAll(/(toolu|sig)_\d+/g, 'id'));
    expect(same(ours)).toEqual(same(theirs as Anthropic.Messages.Message));
    expect(ours.usage).toMatchObject(usage);
  });
});
