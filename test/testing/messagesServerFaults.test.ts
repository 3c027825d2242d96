import Anthropic from '@anthropic-ai/sdk';
import { describe, expect, it } from 'vitest';
import { reply } from '../../src/testing/messages/reply.js';
import type { Fault } from '../../src/testing/messages/reply.js';
import { ask, start } from './messagesServerHarness.js';

type Seen = { readonly events: readonly string[]; readonly error?: unknown };

/** Reads a raw stream to whatever end it has. */
async function read(client: Anthropic, signal?: AbortSignal): Promise<Seen> {
  const events: string[] = [];
  try {
    const stream = await client.messages.create({ ...ask, stream: true }, { signal: signal ?? null });
    for await (const event of stream) events.push(event.type);
    return { events };
  } catch (error) {
    return { events, error };
  }
}

const broken = (fault: Fault, pingMs?: number) =>
  reply.text('some text to be broken', { fault, ...(pingMs !== undefined && { pace: { pingMs } }) });
const THREE = ['message_start', 'content_block_start', 'content_block_delta'];

describe('a streamed reply', () => {
  it.each([
    ['headers', []],
    [3, THREE],
  ] as const)('stalls after %s until the client gives up', async (after, expected) => {
    const { client, server } = await start([broken({ kind: 'stall', after })]);
    const abort = new AbortController();
    const seen = read(client, abort.signal);
    await server.when(() => server.requests[0]?.status === 200 && server.requests[0].events === expected.length);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.stats().open).toBe(1);
    abort.abort();
    expect(await seen).toEqual({ events: expected });
    await server.whenIdle();
    expect(server.requests[0]).toMatchObject({ state: 'closed-by-client', fault: 'stall', events: expected.length });
  });

  it('stalls with pings, which the SDK does not show', async () => {
    const { client, server } = await start([broken({ kind: 'stall', after: 3 }, 5)]);
    const abort = new AbortController();
    const seen = read(client, abort.signal);
    await server.when(() => true);
    while ((server.requests[0]?.pings ?? 0) < 5) await new Promise((resolve) => setTimeout(resolve, 5));
    abort.abort();
    expect((await seen).events).toEqual(THREE);
  });

  it('never answers, not even with headers', async () => {
    const { client, server } = await start([broken({ kind: 'stall', after: 'request' })]);
    const error = await client.messages.create({ ...ask, stream: true }, { timeout: 60 }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Anthropic.APIConnectionTimeoutError);
    await server.when(({ closedByClient }) => closedByClient === 1);
    expect(server.requests[0]).toMatchObject({ status: undefined, events: 0 });
  });

  it.each([
    ['headers', []],
    [3, THREE],
  ] as const)('ends silently on a FIN after %s', async (after, events) => {
    const { client, server } = await start([broken({ kind: 'fin', after })]);
    expect(await read(client)).toEqual({ events });
    expect(server.requests[0]).toMatchObject({ state: 'closed-by-server', fault: 'fin' });
  });

  it.each([
    ['headers', []],
    [3, THREE],
  ] as const)('fails with a bare TypeError on a reset after %s', async (after, events) => {
    const { client, server } = await start([broken({ kind: 'reset', after })]);
    const seen = await read(client);
    expect(seen.events).toEqual(events);
    expect(seen.error).toBeInstanceOf(TypeError);
    expect(seen.error).toMatchObject({ message: 'terminated', cause: { code: 'ECONNRESET' } });
    expect(server.requests[0]).toMatchObject({ state: 'closed-by-server', fault: 'reset' });
  });

  it.each(['fin', 'reset'] as const)('fails as a connection error on a %s before the headers', async (kind) => {
    const { client } = await start([broken({ kind, after: 'request' })]);
    expect((await read(client)).error).toBeInstanceOf(Anthropic.APIConnectionError);
  });

  it('carries an error event, which the SDK throws without a status', async () => {
    const error = { type: 'rate_limit_error', message: 'Slow down.', code: 'ramp_limit_exceeded' };
    const { client, server } = await start([broken({ kind: 'error', after: 3 }), broken({ kind: 'error', after: 1, error })]);
    const seen = [await read(client), await read(client)];
    expect(seen[0]).toMatchObject({ events: THREE, error: { status: undefined, type: 'overloaded_error', requestID: 'req_0001' } });
    expect(seen[1]).toMatchObject({ events: ['message_start'], error: { type: 'rate_limit_error', errorCode: 'ramp_limit_exceeded' } });
    expect(seen[0]?.error).toBeInstanceOf(Anthropic.APIError);
    expect(server.requests[1]).toMatchObject({ state: 'closed-by-server', status: 200, error: 'Slow down.' });
  });

  it('turns an error before the headers into a response', async () => {
    const { client } = await start([broken({ kind: 'error', after: 'request' })]);
    expect((await read(client)).error).toMatchObject({ status: 529, type: 'overloaded_error' });
  });

  it('can break after its last event', async () => {
    const { client, server } = await start([broken({ kind: 'stall', after: 99 })]);
    const abort = new AbortController();
    const seen = read(client, abort.signal);
    await server.when(() => server.requests[0]?.events === 7);
    expect(server.requests[0]?.state).toBe('open');
    abort.abort();
    await seen;
  });
});

describe('max_tokens', () => {
  const call = { name: 'write', input: { path: 'a.txt', text: 'much text', mode: 1 } };

  it('cuts the last call in its input, and yet the block is stopped and looks complete', async () => {
    const { client, server } = await start([reply.toolUse([call, call], { fault: { kind: 'max_tokens', keep: 30 } })]);
    const json: string[] = [];
    const stream = client.messages.stream(ask);
    stream.on('streamEvent', (event) => {
      if (event.type === 'content_block_delta' && event.delta.type === 'input_json_delta' && event.index === 1)
        json.push(event.delta.partial_json);
    });
    const message = await stream.finalMessage();
    expect(json.join('')).toBe('{"path":"a.txt","text":"much t');
    expect(message.stop_reason).toBe('max_tokens');
    expect(message.content).toMatchObject([{ input: call.input }, { input: { path: 'a.txt' } }]);
    expect(message.usage.output_tokens).toBe(Math.ceil((JSON.stringify(call.input).length + 30) / 4));
    expect(server.requests[0]).toMatchObject({ state: 'completed', fault: 'max_tokens', outputTokens: message.usage.output_tokens });
  });

  it('keeps what was written in full in a reply that is not streamed', async () => {
    const { client } = await start([14, 30, 0].map((keep) => reply.toolUse([call], { fault: { kind: 'max_tokens', keep } })));
    const inputs = [];
    for (let n = 0; n < 3; n++) inputs.push((await client.messages.create(ask)).content[0]);
    expect(inputs).toMatchObject([{ input: {} }, { input: { path: 'a.txt' } }, { input: {} }]);
    expect(inputs.map((block) => (block?.type === 'tool_use' ? Object.keys(block.input as object) : []))).toEqual([[], ['path'], []]);
  });

  it('cuts text and thinking too', async () => {
    const fault = { kind: 'max_tokens' } as const;
    const { client } = await start([
      reply.text('12345678', { fault }),
      reply.message({ content: [{ type: 'thinking', thinking: '1234' }], fault }),
    ]);
    expect(await client.messages.stream(ask).finalMessage()).toMatchObject({ content: [{ text: '1234' }], stop_reason: 'max_tokens' });
    expect(await client.messages.stream(ask).finalMessage()).toMatchObject({ content: [{ thinking: '12', signature: '' }] });
  });
});

describe('a reply that is not streamed', () => {
  const once = async (fault: Fault) => {
    const { client, server } = await start([broken(fault)]);
    const error = await client.messages.create(ask).catch((e: unknown) => e);
    return { error, record: server.requests[0] };
  };

  it('breaks before the headers as a connection error', async () => {
    expect((await once({ kind: 'reset', after: 'request' })).error).toBeInstanceOf(Anthropic.APIConnectionError);
    expect((await once({ kind: 'fin', after: 'request' })).error).toBeInstanceOf(Anthropic.APIConnectionError);
  });

  it('breaks in its body as whatever fetch throws', async () => {
    const reset = await once({ kind: 'reset', after: 1 });
    expect(reset.error).toMatchObject({ name: 'TypeError', message: 'terminated' });
    const fin = await once({ kind: 'fin', after: 1 });
    expect(fin.error).toBeInstanceOf(SyntaxError);
    expect(fin.record).toMatchObject({ state: 'closed-by-server', fault: 'fin', status: 200 });
  });

  it('stalls in its body', async () => {
    const { client, server } = await start([broken({ kind: 'stall', after: 1 })]);
    const abort = new AbortController();
    const error = client.messages.create(ask, { signal: abort.signal }).catch((e: unknown) => e);
    await server.when(() => server.requests[0]?.status === 200);
    await new Promise((resolve) => setTimeout(resolve, 30));
    abort.abort();
    expect(await error).toBeInstanceOf(DOMException);
    await server.when(({ closedByClient }) => closedByClient === 1);
  });

  it('becomes an error response', async () => {
    expect((await once({ kind: 'error', after: 3, error: { type: 'timeout_error' } })).error).toMatchObject({
      status: 504,
      type: 'timeout_error',
    });
  });
});
