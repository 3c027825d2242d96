import Anthropic from '@anthropic-ai/sdk';
import type { APIError } from '@anthropic-ai/sdk';
import { describe, expect, it } from 'vitest';
import { lastToolResults } from '../../src/testing/messages/lastToolResults.js';
import { reply } from '../../src/testing/messages/reply.js';
import type { Pace, Script } from '../../src/testing/messages/reply.js';
import { startMessagesServer } from '../../src/testing/messagesServer.js';
import { ask, start } from './messagesServerHarness.js';

describe('replies', () => {
  it('answers as JSON what is not streamed', async () => {
    const { server, client } = await start([reply.text('hello there')]);
    const { data, request_id } = await client.messages.create(ask).withResponse();
    expect(data).toEqual({
      ...{ id: 'msg_0001', type: 'message', role: 'assistant', model: 'claude-test', stop_reason: 'end_turn' },
      ...{ container: null, diagnostics: null, stop_details: null, stop_sequence: null },
      content: [{ type: 'text', text: 'hello there', citations: null }],
      usage: expect.objectContaining({ input_tokens: 12, output_tokens: 3, cache_read_input_tokens: 0 }) as unknown,
    });
    expect(request_id).toBe('req_0001');
    expect(server.stats()).toMatchObject({ requests: 1, open: 0, completed: 1, outputTokens: 3, inputTokens: 12, statuses: { 200: 1 } });
  });

  it('streams the same message', async () => {
    const content = [
      { type: 'thinking' as const, thinking: 'A long thought about it, in more than one chunk.' },
      { type: 'redacted_thinking' as const, data: 'xyz' },
      { type: 'text' as const, text: 'Straße 🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀 and so on and so on' },
      { type: 'tool_use' as const, name: 'search', input: { query: 'rxjs 🚀', deep: { list: [1, 2, { a: 'b'.repeat(50) }] } } },
    ];
    const { client } = await start([reply.message({ content }), reply.message({ content })]);
    const streamed = await client.messages.stream(ask).finalMessage();
    const whole = await client.messages.create(ask);
    expect(streamed.content.map((block) => block.type)).toEqual(['thinking', 'redacted_thinking', 'text', 'tool_use']);
    expect(streamed.stop_reason).toBe('tool_use');
    const sameIds = JSON.stringify(streamed).replaceAll('_0001', '_0002');
    expect(JSON.parse(sameIds)).toEqual({ ...JSON.parse(JSON.stringify(whole)), parsed_output: null });
  });

  it('streams the events of the API in their order, input JSON in partial chunks', async () => {
    const { client, server } = await start([
      reply.toolUse([{ name: 'search', input: { query: 'a question of some length' } }], { text: 'Hm.' }),
    ]);
    const events = [];
    for await (const event of await client.messages.create({ ...ask, stream: true })) events.push(event);
    expect(events.map((event) => event.type)).toEqual([
      ...['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop'],
      ...['content_block_start', 'content_block_delta', 'content_block_delta', 'content_block_delta', 'content_block_stop'],
      ...['message_delta', 'message_stop'],
    ]);
    expect(events[0]).toMatchObject({ message: { content: [], stop_reason: null, usage: { output_tokens: 1, input_tokens: 12 } } });
    expect(events[4]).toMatchObject({ index: 1, content_block: { type: 'tool_use', id: 'toolu_0001', name: 'search', input: {} } });
    const parts = events.map((event) =>
      event.type === 'content_block_delta' && event.delta.type === 'input_json_delta' ? event.delta.partial_json : '',
    );
    expect(parts.join('')).toBe('{"query":"a question of some length"}');
    expect(events.at(-2)).toMatchObject({ delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 10, input_tokens: 12 } });
    expect(server.requests[0]).toMatchObject({ events: 11, pings: 1, stream: true, outputTokens: 10, state: 'completed' });
  });

  it('sends server tool blocks whole and takes usage, ids and stop reasons from the script', async () => {
    const found = { type: 'web_search_tool_result' as const, tool_use_id: 'srvtoolu_1', caller: { type: 'direct' as const }, content: [] };
    const search = {
      type: 'server_tool_use' as const,
      id: 'srvtoolu_1',
      caller: { type: 'direct' as const },
      name: 'web_search' as const,
      input: { query: 'x' },
    };
    const scripted = reply.message({
      content: [search, found, { type: 'tool_use', id: 'mine', name: 'f', input: {} }],
      stop_reason: 'pause_turn',
      usage: { input_tokens: 7, output_tokens: 70, cache_read_input_tokens: 1000 },
    });
    const { client } = await start([scripted, scripted]);
    for (const message of [await client.messages.stream(ask).finalMessage(), await client.messages.create(ask)]) {
      expect(message).toMatchObject({ content: [search, found, { id: 'mine', input: {} }], stop_reason: 'pause_turn' });
      expect(message.usage).toMatchObject({ input_tokens: 7, output_tokens: 70, cache_read_input_tokens: 1000 });
    }
  });

  it('carries a round trip of two tool calls', async () => {
    const script: Script = (request) => {
      const results = lastToolResults(request);
      if (results.length === 0) return reply.toolUse([1, 2].map((n) => ({ name: 'double', input: { n } })));
      return reply.text(
        results.map(({ name, input, text, isError }) => `${name}(${JSON.stringify(input)})=${text}${isError ? '!' : ''}`).join(' '),
      );
    };
    const { client } = await start(script);
    const tools = [{ name: 'double', input_schema: { type: 'object' as const } }];
    const first = await client.messages.stream({ ...ask, tools }).finalMessage();
    const results = first.content.flatMap((block) =>
      block.type === 'tool_use'
        ? [
            {
              type: 'tool_result' as const,
              tool_use_id: block.id,
              is_error: block.id.endsWith('2'),
              content: [{ type: 'text' as const, text: `r${block.id}` }],
            },
          ]
        : [],
    );
    const messages = [...ask.messages, { role: 'assistant' as const, content: first.content }, { role: 'user' as const, content: results }];
    const second = await client.messages.create({ ...ask, tools, messages });
    expect(second.content[0]).toMatchObject({ text: 'double({"n":1})=rtoolu_0001 double({"n":2})=rtoolu_0002!' });
  });

  it('counts tokens with the estimate of its usage', async () => {
    const { client, server } = await start([reply.text('x')]);
    const { model, messages } = ask;
    const { input_tokens } = await client.messages.countTokens({ model, messages });
    expect(input_tokens).toBe((await client.messages.create(ask)).usage.input_tokens);
    expect(server.requests.map(({ path }) => path)).toEqual(['/v1/messages/count_tokens', '/v1/messages']);
  });

  it('answers a cache warm-up with nothing and without the script', async () => {
    const { client } = await start([reply.text('first')]);
    expect(await client.messages.create({ ...ask, max_tokens: 0 })).toMatchObject({
      content: [],
      stop_reason: 'max_tokens',
      usage: { output_tokens: 0 },
    });
    expect(await client.messages.create(ask)).toMatchObject({ content: [{ text: 'first' }] });
  });

  it('keeps to the pace, of the reply before that of the server, streamed or not', async () => {
    const slow = reply.text('x', { pace: { headersMs: 60, eventMs: 20 } });
    const { client, server } = await start([slow, slow, reply.text('x')], { pace: { eventMs: 1 } });
    await client.messages.create(ask);
    await client.messages.stream(ask).finalMessage();
    await client.messages.create(ask);
    const took = server.requests.map(({ openedAt, endedAt }) => endedAt! - openedAt);
    expect(took[0]).toBeGreaterThan(170);
    expect(took[1]).toBeGreaterThan(170);
    expect(took[2]).toBeLessThan(took[0]!);
  });

  describe('with deltaMs', () => {
    const calls = [
      { name: 'f', input: { n: 1 } },
      { name: 'g', input: {} },
    ];
    const twoCalls = (pace: Pace) => reply.toolUse(calls, { text: 'Look:', pace });
    /** The events after the first: what the model writes in them, and whether there was silence before. */
    const heard = async (client: Anthropic, silenceMs: number) => {
      const seen: { type: string; writes: boolean; after: string }[] = [];
      let last = 0;
      for await (const event of await client.messages.create({ ...ask, stream: true })) {
        const now = performance.now();
        const { type } = event;
        const delta = type === 'content_block_delta' ? event.delta : undefined;
        const writes = delta?.type === 'text_delta' || (delta?.type === 'input_json_delta' && delta.partial_json !== '');
        seen.push({ type, writes, after: now - last > silenceMs ? 'silence' : 'nothing' });
        last = now;
      }
      return seen.slice(1);
    };
    const types = [
      ...['content_block_start', 'content_block_delta', 'content_block_stop'],
      ...['content_block_start', 'content_block_delta', 'content_block_delta', 'content_block_stop'],
      ...['content_block_start', 'content_block_delta', 'content_block_delta', 'content_block_stop'],
      ...['message_delta', 'message_stop'],
    ];

    it('only writing takes time: the end of a block comes with the start of the next, and the end of the message with it', async () => {
      const { client } = await start([twoCalls({ deltaMs: 200 })]);
      const seen = await heard(client, 100);
      expect(seen.map(({ type }) => type)).toEqual(types);
      expect(seen.filter(({ writes }) => writes)).toHaveLength(3);
      expect(seen).toEqual(seen.map((each) => ({ ...each, after: each.writes ? 'silence' : 'nothing' })));
    });

    it('writing takes none if it is 0, whatever the other events take', async () => {
      const { client } = await start([twoCalls({ eventMs: 100, deltaMs: 0 })]);
      const seen = await heard(client, 50);
      expect(seen.map(({ type }) => type)).toEqual(types);
      expect(seen).toEqual(seen.map((each) => ({ ...each, after: each.writes ? 'nothing' : 'silence' })));
    });

    it('a reply that is not streamed takes as long', async () => {
      const { client, server } = await start([twoCalls({ eventMs: 1, deltaMs: 80 })]);
      await client.messages.create(ask);
      const [{ openedAt, endedAt } = { openedAt: 0 }] = server.requests;
      const took = endedAt! - openedAt;
      expect(took).toBeGreaterThan(3 * 80 + 11 - 2);
      expect(took).toBeLessThan(14 * 80);
    });
  });
});

describe('threads', () => {
  const create = { ...ask, betas: ['message-threads-2026-08-12' as const], thread: { type: 'create' as const }, system: 'be kind' };
  const go = (id: string) => ({
    ...ask,
    betas: create.betas,
    thread: { type: 'continue' as const, previous_message_id: id },
    messages: [{ role: 'user' as const, content: 'and now?' }],
  });

  it('hold a conversation, which the script sees whole, to be continued once', async () => {
    const seen: unknown[] = [];
    const { client } = await start((request) => {
      seen.push([request.system, request.messages.length]);
      return reply.text('fine');
    });
    const first = await client.beta.messages.create(create);
    const second = await client.beta.messages.create(go(first.id));
    await client.beta.messages.create(go(second.id));
    expect(seen).toEqual([1, 3, 5].map((length) => ['be kind', length]));
    await expect(client.beta.messages.create(go(first.id))).rejects.toMatchObject({ status: 400, errorCode: 'thread_already_continued' });
    await expect(client.beta.messages.create(go('msg_9'))).rejects.toMatchObject({ status: 404, errorCode: 'thread_not_found' });
  });

  it('can be continued again after a turn that broke, not while one is under way', async () => {
    const { client, server } = await start([
      reply.text('one'),
      reply.text('two', { fault: { kind: 'stall', after: 2 } }),
      reply.error(529),
      reply.text('three'),
    ]);
    const { id } = await client.beta.messages.create(create);
    const abort = new AbortController();
    const broken = client.beta.messages.stream(go(id), { signal: abort.signal }).finalMessage();
    await server.when(() => server.requests[1]?.events === 2);
    await expect(client.beta.messages.create(go(id))).rejects.toMatchObject({ errorCode: 'thread_continue_in_flight' });
    abort.abort();
    await expect(broken).rejects.toThrow();
    await server.whenIdle();
    await expect(client.beta.messages.create(go(id))).rejects.toMatchObject({ status: 529 });
    expect(await client.beta.messages.create(go(id))).toMatchObject({ content: [{ text: 'three' }] });
  });
});

describe('the example of its page', () => {
  it('runs as it stands there', async () => {
    const { server, client } = await start((request) => {
      const [found] = lastToolResults(request);
      return found ? reply.text(`It says: ${found.text}`) : reply.toolUse([{ name: 'search', input: { query: 'rxjs' } }]);
    });
    const final = await client.beta.messages.toolRunner({
      ...ask,
      tools: [{ name: 'search', description: '', input_schema: { type: 'object' }, parse: (input) => input, run: () => 'found' }],
    });
    await server.whenIdle();
    expect(final.content).toMatchObject([{ text: 'It says: found' }]);
    expect(server.stats()).toMatchObject({ requests: 2, completed: 2, closedByClient: 0 });
  });
});

describe('errors', () => {
  it('answers scripted errors as the SDK knows them', async () => {
    const { client, server } = await start([
      reply.error(429, { retryAfter: 7 }),
      reply.error(429, { code: 'enforced_spend_limit_reached', message: 'Spent.' }),
      reply.error(529),
      reply.error(500, { headers: { 'x-should-retry': 'false' } }),
    ]);
    const errors = [];
    for (let n = 0; n < 4; n++) errors.push(await client.messages.create({ ...ask, stream: n % 2 === 1 }).catch((error: unknown) => error));
    expect(errors[0]).toBeInstanceOf(Anthropic.RateLimitError);
    expect((errors[0] as APIError).headers?.get('retry-after')).toBe('7');
    expect(errors[1]).toMatchObject({
      name: 'EnforcedSpendLimitReachedError',
      errorCode: 'enforced_spend_limit_reached',
      apiMessage: 'Spent.',
      type: 'rate_limit_error',
    });
    expect(errors[2]).toMatchObject({ status: 529, type: 'overloaded_error', requestID: 'req_0003' });
    expect(errors[3]).toMatchObject({ status: 500, type: 'api_error' });
    expect((errors[3] as APIError).headers?.get('x-should-retry')).toBe('false');
    expect(server.stats().statuses).toEqual({ 429: 2, 529: 1, 500: 1 });
    expect(server.requests[1]).toMatchObject({ error: 'Spent.', state: 'completed' });
  });

  it('answers 500 when the script throws, gives no reply or has no more, and goes on', async () => {
    const odd = reply.text('odd', { pace: { pingMs: 0 } });
    const script: Script = (_request, { index }) => {
      if (index === 0) throw new Error('boom');
      return index === 1 ? (undefined as never) : index === 2 ? odd : reply.text('fine');
    };
    const { client, server } = await start(script);
    await expect(client.messages.create(ask)).rejects.toMatchObject({ status: 500, apiMessage: 'boom', type: 'api_error' });
    await expect(client.messages.create(ask)).rejects.toThrow('returned something that is no reply: this was request number 2');
    await expect(client.messages.create(ask)).rejects.toThrow('`pace.pingMs` must be a number of at least 1, not 0.');
    expect(await client.messages.create(ask)).toMatchObject({ content: [{ text: 'fine' }] });
    expect(server.stats()).toMatchObject({ scriptErrors: 3, statuses: { 500: 3, 200: 1 } });
    const short = await start([]);
    await expect(short.client.messages.create(ask)).rejects.toThrow('The script has 0 replies and no more: this was request number 1.');
  });

  it('answers 500 for a reply that cannot be sent', async () => {
    const { client, server } = await start([
      reply.toolUse([{ name: 'f', input: { n: 1n } }]),
      { type: 'message' } as never,
      reply.text('x', { headers: { bad: 'line\nbreak' } }),
    ]);
    for (let n = 0; n < 3; n++) await expect(client.messages.create(ask)).rejects.toMatchObject({ status: 500, type: 'api_error' });
    expect(server.stats()).toMatchObject({ scriptErrors: 3, open: 0 });
  });

  it('checks key, version, path and method', async () => {
    const { client, server } = await start([], { apiKey: 'secret' });
    await expect(client.messages.create(ask)).rejects.toMatchObject({
      status: 401,
      apiMessage: 'Invalid bearer token',
      type: 'authentication_error',
    });
    const headers = { 'x-api-key': 'secret', 'anthropic-version': '2023-06-01' };
    const send = async (path: string, init: RequestInit) => {
      const response = await fetch(server.url + path, init);
      return [response.status, ((await response.json()) as { error: { message: string } }).error.message];
    };
    expect(await send('/v1/messages', { method: 'POST' })).toEqual([401, 'x-api-key header is required']);
    expect(await send('/v1/messages', { method: 'POST', headers: { 'x-api-key': 'secret' } })).toEqual([
      400,
      'anthropic-version: header is required',
    ]);
    expect(await send('/v1/nothing', { method: 'POST', body: '{}' })).toEqual([404, 'Not Found']);
    expect(await send('/v1/messages', { headers })).toEqual([405, 'Method Not Allowed']);
    expect(await send('/v1/messages', { method: 'POST', headers, body: '{"a' })).toEqual([
      400,
      expect.stringContaining('The request body is not valid JSON: '),
    ]);
    expect(await send('/v1/messages', { method: 'POST', headers, body: '[]' })).toEqual([400, 'Input should be a valid dictionary']);
    const keys = server.requests.map(({ headers }) => [headers['authorization'], headers['x-api-key']]);
    expect(keys.slice(0, 3)).toEqual([
      ['[redacted]', undefined],
      [undefined, undefined],
      [undefined, '[redacted]'],
    ]);
    const right = new Anthropic({ apiKey: 'secret', baseURL: server.url, maxRetries: 0 });
    await expect(right.messages.create(ask)).rejects.toMatchObject({ status: 500 });
  });

  it('refuses a body that is too large, up to one that never ends', async () => {
    const { client, server } = await start([reply.text('x')], { maxBodyBytes: 10_000 });
    const large = { ...ask, messages: [{ role: 'user' as const, content: 'x'.repeat(15_000) }] };
    await expect(client.messages.create(large)).rejects.toMatchObject({ status: 413, type: 'request_too_large' });
    const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(4096)) });
    const init = { method: 'POST', body: endless, duplex: 'half', headers: { 'anthropic-version': '1' } };
    await fetch(`${server.url}/v1/messages`, init).then(
      (response) => expect(response.status).toBe(413),
      () => undefined,
    );
    await server.whenIdle();
    expect(server.stats()).toMatchObject({ requests: 2, statuses: { 413: 2 } });
    expect(await client.messages.create(ask)).toBeDefined();
  });

  it('serves the errors of the API by type and by status', async () => {
    const { client } = await start([
      ...[418, 503, 504].map((status) => reply.error(status)),
      ...['invalid_request_error', 'odd_error'].map((type) =>
        reply.text('x', { fault: { kind: 'error', after: 'request', error: { type } } }),
      ),
    ]);
    const seen = [];
    for (let n = 0; n < 5; n++) seen.push(await client.messages.create(ask).catch((error: unknown) => error));
    expect(seen).toMatchObject([
      { status: 418, type: 'invalid_request_error' },
      { status: 503, type: 'api_error', apiMessage: 'Internal server error' },
      { status: 504, type: 'timeout_error', apiMessage: 'The request timed out.' },
      { status: 400, type: 'invalid_request_error' },
      { status: 500, type: 'odd_error', apiMessage: 'odd_error' },
    ]);
  });

  it('refuses bad options where they are given', async () => {
    await expect(startMessagesServer({ script: [], pace: { eventMs: -1 } })).rejects.toThrow(RangeError);
    await expect(startMessagesServer({ script: [], pace: { deltaMs: NaN } })).rejects.toThrow(
      '`pace.deltaMs` must be a number of at least 0',
    );
    await expect(startMessagesServer({ script: [], rateLimits: { requests: { limit: 0, perMs: 1 } } })).rejects.toThrow(
      '`rateLimits.requests.limit`',
    );
    await expect(startMessagesServer({} as never)).rejects.toThrow(TypeError);
  });
});
