import Anthropic from '@anthropic-ai/sdk';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { firstValueFrom, lastValueFrom, takeWhile, toArray, type Observable } from 'rxjs';
import { agent, fromTool, toToolResult, turn, type AgentEvent, type ToolEvent } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, expectTypeOf, it, vi } from 'vitest';
import { z } from 'zod';
import { fromMcp, type FromMcpOptions } from '../../src/sources/fromMcp.js';
import { isMcpToolError } from '../../src/sources/mcpContent.js';
import type { McpTool } from '../../src/sources/mcpTool.js';
import { ask, sleep, start, watchProcess } from './harness.js';
import { connect, hostileServer, newServer } from './mcpHarness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

const use = (name: string, input: unknown = {}) => ({ type: 'tool_use' as const, id: 'toolu_1', name, input });
const tools = (client: Client, options?: FromMcpOptions) => firstValueFrom(fromMcp(client, options));
const namesOf = (list: readonly McpTool[]): string[] => list.map(({ definition }) => definition.name);
const answer = (list: readonly McpTool[], name: string, input: unknown = {}) =>
  lastValueFrom(fromTool(list, use(name, input)).pipe(toToolResult()));

/** The tools of a server whose one tool answers with `result`. */
async function answering(result: unknown, options?: FromMcpOptions) {
  const { client } = await connect(
    hostileServer(
      () => ({ tools: [{ name: 'x', inputSchema: { type: 'object' } }] }),
      () => result,
    ),
  );
  return tools(client, options);
}

/** The names and schemas of a server that lists these. */
async function listing(list: readonly unknown[], options?: FromMcpOptions) {
  const { client } = await connect(hostileServer(() => ({ tools: list })));
  return tools(client, options);
}

const plain = (name: string, more: object = {}) => ({ name, inputSchema: { type: 'object' }, ...more });

describe('fromMcp', () => {
  it('tools of a server in an agent: schema as it is, input as it is, result as text', async () => {
    const server = newServer();
    server.registerTool('add', { description: 'Adds.', inputSchema: { a: z.number(), b: z.number() } }, ({ a, b }) => ({
      content: [{ type: 'text', text: String(a + b) }],
    }));
    const mcp = await connect(server);
    const { client, server: api } = await start([reply.toolUse([{ name: 'add', input: { a: 1, b: 2 } }]), reply.text('3')]);
    const list = await tools(mcp.client);
    const events = await lastValueFrom(agent({ client, ...ask, tools: list }).pipe(toArray()));
    expect(events.find((event) => event.type === 'turn')?.results).toEqual([
      { type: 'tool_result', tool_use_id: 'toolu_0001', content: '3' },
    ]);
    const [info] = (await mcp.client.listTools()).tools;
    const sent = api.requests[0]?.body as Anthropic.Messages.MessageCreateParams;
    expect(sent.tools).toEqual([{ name: 'add', description: 'Adds.', input_schema: info?.inputSchema }]);
  });

  it('passing them to agent, turn and fromTool compiles; a Client of the SDK is a client', () => {
    expectTypeOf(fromMcp).parameter(0).not.toBeAny();
    expectTypeOf(fromMcp).toBeCallableWith(new Client({ name: 'c', version: '1' }));
    const list: readonly McpTool[] = [];
    const options = { client: new Anthropic({ apiKey: 'test' }), ...ask, tools: list };
    expectTypeOf(agent(options)).toEqualTypeOf<Observable<AgentEvent>>();
    turn({ ...options, tools: [...list] });
    fromTool(list, use('x'));
  });

  it('the server checks the input, and what it says is an error result', async () => {
    const server = newServer();
    server.registerTool('add', { inputSchema: { a: z.number() } }, () => ({ content: [] }));
    const { client } = await connect(server);
    const list = await tools(client);
    expect(await answer(list, 'add', { a: 'x' })).toMatchObject({
      is_error: true,
      content: expect.stringContaining('expected number') as string,
    });
    expect(await answer(list, 'add', ['x'])).toMatchObject({
      is_error: true,
      content: expect.stringContaining('expected object') as string,
    });
    expect(await answer(list, 'add', { a: 1 })).toMatchObject({ content: 'The call completed without output.' });
  });

  it('can be called by hand', async () => {
    const [tool] = await answering({ content: [{ type: 'text', text: 'hello' }] });
    expect(await lastValueFrom(tool!({}))).toBe('hello');
  });

  it('unsubscribing, a deadline and a cancel notify the server, which hears no reason of ours', async () => {
    const server = newServer();
    let running: AbortSignal | undefined;
    server.registerTool('slow', {}, (extra) => {
      running = extra.signal;
      return new Promise(() => {});
    });
    const { client, sent } = await connect(server);
    const [tool] = await tools(client);
    const cancelled = () => sent.filter(({ method }) => method === 'notifications/cancelled');

    const call = tool!({}).subscribe();
    await vi.waitFor(() => expect(running).toBeDefined());
    const { id } = sent.find(({ method }) => method === 'tools/call')!;
    call.unsubscribe();
    await vi.waitFor(() => expect(running?.aborted).toBe(true));
    expect(cancelled()).toMatchObject([{ params: { requestId: id, reason: 'cancelled' } }]);

    const events = await lastValueFrom(fromTool(tool!, use('slow'), undefined, { timeoutMs: 20 }).pipe(toArray()));
    expect(events.at(-1)).toMatchObject({ type: 'failed', phase: 'timeout', effect: 'unknown' });
    await vi.waitFor(() => expect(running?.aborted).toBe(true));
    expect(cancelled()).toHaveLength(2);

    const controller = new AbortController();
    const { client: model } = await start([reply.toolUse([{ name: 'slow', input: {} }])]);
    const failed = lastValueFrom(agent({ client: model, ...ask, tools: [tool!], signal: controller.signal }).pipe(toArray())).catch(
      (e: unknown) => e,
    );
    await vi.waitFor(() => expect(running?.aborted).toBe(false));
    controller.abort(new Error('password=hunter2'));
    expect(await failed).toMatchObject({ name: 'ScopeCancelledError' });
    await vi.waitFor(() => expect(running?.aborted).toBe(true));
    expect(JSON.stringify(cancelled())).not.toContain('hunter2');
    expect(cancelled()).toHaveLength(3);
  });

  it('a call that is left when it is about to start never reaches the server', async () => {
    const { client, sent } = await connect(hostileServer(() => ({ tools: [plain('x')] })));
    const events = fromTool(await tools(client), use('x')).pipe(takeWhile(({ type }) => type !== 'started'));
    await lastValueFrom(events, { defaultValue: undefined });
    await sleep(5);
    expect(sent.map(({ method }) => method)).not.toContain('tools/call');
  });

  it('progress is told as events', async () => {
    const server = newServer();
    server.registerTool('long', {}, async (extra) => {
      const progressToken = extra._meta?.progressToken ?? 'none';
      for (const progress of [1, 2]) {
        await extra.sendNotification({
          method: 'notifications/progress',
          params: { progressToken, progress, total: 2, message: `step ${progress}` },
        });
        await sleep(2);
      }
      return { content: [{ type: 'text', text: 'done' }] };
    });
    const { client } = await connect(server);
    const events = await lastValueFrom(fromTool(await tools(client), use('long')).pipe(toArray()));
    expect(events.map(({ type }) => type)).toEqual(['started', 'progress', 'progress', 'result']);
    expect(events[1]).toMatchObject({ value: { progress: 1, total: 2, message: 'step 1' } });
  });

  it("the client's own time limit does not hold for calls", async () => {
    vi.useFakeTimers();
    try {
      const server = newServer();
      const after = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));
      server.registerTool('long', {}, () => after(3_600_000).then(() => ({ content: [{ type: 'text' as const, text: 'done' }] })));
      const { client } = await connect(server);
      const result = tools(client).then((list) => answer(list, 'long'));
      await vi.advanceTimersByTimeAsync(3_600_001);
      expect(await result).toMatchObject({ content: 'done' });
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('hints are believed only if asked to, and options of ours come first', async () => {
    const list = [
      plain('read', { annotations: { readOnlyHint: true } }),
      plain('put', { annotations: { idempotentHint: true } }),
      plain('post', { annotations: { readOnlyHint: 'yes' } }),
    ];
    const effects = (of: readonly McpTool[]) => of.map(({ definition }) => definition.effect);
    expect(effects(await listing(list))).toEqual(['unsafe', 'unsafe', 'unsafe']);
    expect(effects(await listing(list, { trustHints: true }))).toEqual(['none', 'idempotent', 'unsafe']);
    const configure: FromMcpOptions['configure'] = ({ name }) =>
      name === 'put' ? null : name === 'post' ? { effect: 'none', timeoutMs: 7 } : undefined;
    const own = await listing(list, { configure, timeoutMs: 5, graceMs: 6, prefix: 'a_' });
    expect(own.map(({ definition: { name, effect, timeoutMs, graceMs } }) => [name, effect, timeoutMs, graceMs])).toEqual([
      ['a_read', 'unsafe', 5, 6],
      ['a_post', 'none', 7, 6],
    ]);
    const named = await listing(list, { configure: () => ({ description: 'mine', api: { defer_loading: true } }) });
    expect(named[0]!.definition.toApi()).toMatchObject({ description: 'mine', defer_loading: true });
  });

  it('emits again when the tools have changed, once for many changes, and completes when the connection is closed', async () => {
    const server = newServer();
    server.registerTool('one', {}, () => ({ content: [] }));
    const seen = vi.fn();
    const { client, sent } = await connect(
      server,
      new Client({ name: 'c', version: '1' }, { listChanged: { tools: { onChanged: seen, autoRefresh: false, debounceMs: 0 } } }),
    );
    const lists: string[][] = [];
    const others: string[][] = [];
    let completed = false;
    fromMcp(client).subscribe({ next: (list) => lists.push(namesOf(list)), complete: () => (completed = true) });
    const other = fromMcp(client).subscribe((list) => others.push(namesOf(list)));
    await vi.waitFor(() => expect(lists).toEqual([['one']]));
    server.registerTool('two', {}, () => ({ content: [] }));
    await vi.waitFor(() => expect(lists).toEqual([['one'], ['one', 'two']]));
    await vi.waitFor(() => expect(others).toEqual(lists));
    other.unsubscribe();
    for (let i = 0; i < 50; i++) server.sendToolListChanged();
    await sleep(20);
    expect(lists.length).toBeLessThanOrEqual(4);
    expect(sent.filter(({ method }) => method === 'tools/list').length).toBeLessThanOrEqual(7);
    expect(others).toHaveLength(2);
    expect(seen).toHaveBeenCalledTimes(51);
    expect(completed).toBe(false);
    await server.close();
    await vi.waitFor(() => expect(completed).toBe(true));
  });

  it('a handler of the user goes on hearing of changes', async () => {
    const server = newServer();
    server.registerTool('one', {}, () => ({ content: [] }));
    const { client } = await connect(server);
    const heard = vi.fn();
    client.setNotificationHandler(ToolListChangedNotificationSchema, heard);
    const closed = (client.onclose = vi.fn());
    await tools(client);
    server.sendToolListChanged();
    await vi.waitFor(() => expect(heard).toHaveBeenCalledOnce());
    await client.close();
    expect(closed).toHaveBeenCalled();
  });

  it.each<[string, (client: Client, heard: () => void) => void]>([
    ['set', (client, heard) => client.setNotificationHandler(ToolListChangedNotificationSchema, heard)],
    ['removed', (client) => client.removeNotificationHandler('notifications/tools/list_changed')],
  ])('whoever subscribes after a handler was %s hears of changes and of the end all the same', async (how, change) => {
    const server = newServer();
    server.registerTool('one', {}, () => ({ content: [] }));
    const { client } = await connect(server);
    await tools(client);
    const heard = vi.fn();
    const closed = vi.fn();
    change(client, heard);
    client.onclose = closed;
    const listeners = [vi.fn<(what: unknown) => void>(), vi.fn<(what: unknown) => void>()];
    for (const tell of listeners) fromMcp(client).subscribe({ next: (list) => tell(namesOf(list)), complete: () => tell('end') });
    await vi.waitFor(() => expect(listeners[1]).toHaveBeenCalledTimes(1));
    server.registerTool('two', {}, () => ({ content: [] }));
    await vi.waitFor(() => expect(listeners[1]).toHaveBeenCalledTimes(2));
    expect(heard).toHaveBeenCalledTimes(how === 'set' ? 1 : 0);
    await client.close();
    expect(closed).toHaveBeenCalled();
    for (const each of listeners) expect(each.mock.calls).toEqual([[['one']], [['one', 'two']], ['end']]);
  });

  it('handlers are not set again where nobody has changed them', async () => {
    const { client } = await connect(newServer());
    await tools(client);
    const set = vi.spyOn(client, 'setNotificationHandler');
    const { onclose } = client;
    for (let i = 0; i < 3; i++) await tools(client);
    expect(set).not.toHaveBeenCalled();
    expect(client.onclose).toBe(onclose);
  });

  it('completes after the first list of a server that announces no changes; a server without tools has none', async () => {
    const still = await connect(hostileServer(() => ({ tools: [plain('x')] }), undefined, { tools: {} }));
    expect((await lastValueFrom(fromMcp(still.client).pipe(toArray()))).map(namesOf)).toEqual([['x']]);
    const none = await connect(hostileServer(() => ({}), undefined, { logging: {} }));
    expect(await lastValueFrom(fromMcp(none.client).pipe(toArray()))).toEqual([[]]);
  });

  it('reads all pages, and cancels the listing when nobody wants it any more', async () => {
    const pages = Array.from({ length: 30 }, (_, n) => ({ tools: [plain(`t${n}`)], ...(n < 29 && { nextCursor: `p${n + 1}` }) }));
    const { client } = await connect(hostileServer((cursor) => pages[Number((cursor ?? 'p0').slice(1))]));
    expect(namesOf(await tools(client))).toEqual(pages.map((_, n) => `t${n}`));
    const stuck = await connect(hostileServer(() => new Promise(() => {})));
    const listen = fromMcp(stuck.client).subscribe();
    await vi.waitFor(() => expect(stuck.sent.at(-1)?.method).toBe('tools/list'));
    listen.unsubscribe();
    await vi.waitFor(() => expect(stuck.sent.at(-1)?.method).toBe('notifications/cancelled'));
  });

  it('a closed connection in the middle of a call is told as it is', async () => {
    const server = newServer();
    server.registerTool('slow', {}, () => new Promise(() => {}));
    const { client, sent } = await connect(server);
    const block = answer(await tools(client), 'slow');
    await vi.waitFor(() => expect(sent.at(-1)?.method).toBe('tools/call'));
    await server.close();
    expect(await block).toMatchObject({
      is_error: true,
      content: expect.stringMatching(/closed before it answered.*may have completed, check before repeating/) as string,
    });
  });

  it('errors of the client are the errors of the list', async () => {
    await expect(tools(new Client({ name: 'c', version: '1' }))).rejects.toThrow('Not connected');
    const { client } = await connect(hostileServer(() => Promise.reject(new Error('no list today'))));
    await expect(tools(client)).rejects.toThrow('no list today');
    const list = await connect(hostileServer(() => ({ tools: [plain('x')] })));
    const configure = () => {
      throw new Error('mine');
    };
    await expect(tools(list.client, { configure })).rejects.toThrow('mine');
    await expect(tools(list.client, { configure: () => ({ effect: 'what' as never }) })).rejects.toThrow(RangeError);
  });

  it.each([
    [null, {}, TypeError],
    [{}, {}, TypeError],
    [undefined, null, TypeError],
    [undefined, { prefix: 5 }, TypeError],
    [undefined, { prefix: 'a.b' }, RangeError],
    [undefined, { prefix: 'a'.repeat(65) }, RangeError],
    [undefined, { trustHints: 1 }, TypeError],
    [undefined, { timeoutMs: -1 }, RangeError],
    [undefined, { graceMs: 'x' }, TypeError],
    [undefined, { maxTools: 0 }, RangeError],
    [undefined, { maxDataChars: 1.5 }, RangeError],
    [undefined, { configure: {} }, TypeError],
  ])('refuses wrong options at once: %j %j', (client = new Client({ name: 'c', version: '1' }), options, kind) => {
    expect(() => fromMcp(client as never, options as never)).toThrow(kind);
  });
});

describe('results of MCP tools', () => {
  const png = 'iVBORw0KGgo=';
  const pdf = 'JVBERi0xLjQK';
  const text = (said: string) => ({ type: 'text', text: said });
  const source = (media_type: string, data: string) => ({ type: 'base64', media_type, data });

  it.each<[string, unknown, unknown]>([
    ['one text', { content: [text('hello')] }, 'hello'],
    ['texts', { content: [text('a'), text(' '), text('b')] }, [text('a'), text('b')]],
    [
      'text without what the API does not know',
      { content: [{ ...text('a'), annotations: { audience: ['user'] }, _meta: { x: 1 } }, text('b')] },
      [text('a'), text('b')],
    ],
    ['an image', { content: [{ type: 'image', data: png, mimeType: 'image/png' }] }, [{ type: 'image', source: source('image/png', png) }]],
    [
      'an image that is of another type',
      { content: [{ type: 'image', data: png, mimeType: 'image/jpeg' }] },
      [{ type: 'image', source: source('image/png', png) }],
    ],
    [
      'an image that is none',
      { content: [{ type: 'image', data: 'AAAA', mimeType: 'image/png' }] },
      '[image, image/png, 1 kB: cannot be shown]',
    ],
    [
      'an image with broken data',
      { content: [{ type: 'image', data: `${png}!`, mimeType: 'image/png' }] },
      '[image, image/png, 1 kB: cannot be shown]',
    ],
    ['an audio', { content: [{ type: 'audio', data: 'AAAA', mimeType: 'audio/wav' }] }, '[audio, audio/wav, 1 kB: cannot be shown]'],
    [
      'a text resource',
      { content: [{ type: 'resource', resource: { uri: 'file:///a', mimeType: 'text/plain', text: 'hi' } }] },
      '[resource, file:///a, text/plain]\nhi',
    ],
    [
      'a blob of text',
      { content: [{ type: 'resource', resource: { uri: 'u', mimeType: 'application/json', blob: btoa('{}') } }] },
      '[resource, u, application/json]\n{}',
    ],
    [
      'a blob of no text',
      { content: [{ type: 'resource', resource: { uri: 'u', mimeType: 'text/plain', blob: '////' } }] },
      '[resource, u, text/plain, 1 kB: cannot be shown]',
    ],
    [
      'a PDF',
      { content: [{ type: 'resource', resource: { uri: 'u', blob: pdf } }] },
      [{ type: 'document', source: source('application/pdf', pdf) }],
    ],
    [
      'an image resource',
      { content: [{ type: 'resource', resource: { uri: 'u', blob: png } }] },
      [{ type: 'image', source: source('image/png', png) }],
    ],
    [
      'a zip',
      { content: [{ type: 'resource', resource: { uri: 'u', mimeType: 'application/zip', blob: 'UEsDBA==' } }] },
      '[resource, u, application/zip, 1 kB: cannot be shown]',
    ],
    [
      'a link',
      { content: [{ type: 'resource_link', uri: 'u', name: 'n', mimeType: 'm', description: 'd' }] },
      '[link to a resource, n, u, m, d]',
    ],
    ['a type of the future', { content: [{ type: 'hologram', data: 'x' }] }, '[content of an unknown type, hologram]'],
    ['no object', { content: [5, null] }, [text('[content of an unknown type]'), text('[content of an unknown type]')]],
    ['structured content alone', { content: [], structuredContent: { n: 1 } }, '{"n":1}'],
    ['structured content that the text has too', { content: [text('{ "n": 1 }')], structuredContent: { n: 1 } }, '{ "n": 1 }'],
    ['structured content beside a text', { content: [text('found')], structuredContent: { n: 1 } }, [text('found'), text('{"n":1}')]],
    ['what old servers say', { toolResult: { n: 1 } }, '{"n":1}'],
    ['nothing', { content: [] }, 'The call completed without output.'],
    ['content that is no list', { content: 'x' }, 'The call completed without output.'],
  ])('%s', async (_, result, expected) => {
    expect((await answer(await answering(result), 'x')).content).toEqual(expected);
  });

  it('isError is is_error, with what the server says, and an McpToolError for who listens', async () => {
    const list = await answering({ content: [text('no such file'), { type: 'image', data: png, mimeType: 'image/png' }], isError: true });
    expect(await answer(list, 'x')).toEqual({
      type: 'tool_result',
      tool_use_id: 'toolu_1',
      content: [text('no such file'), text('[image]')],
      is_error: true,
    });
    const events = await lastValueFrom(fromTool(list, use('x')).pipe(toArray()));
    const end = events.at(-1) as ToolEvent & { type: 'failed' };
    expect(isMcpToolError(end.error)).toBe(true);
    expect(end).toMatchObject({ phase: 'run', error: { name: 'McpToolError', tool: 'x', message: 'no such file\n[image]' } });
    expect(await answer(await answering({ content: [text('short')], isError: true }), 'x')).toMatchObject({
      content: 'short',
      is_error: true,
    });
    expect(await answer(await answering({ isError: true }), 'x')).toMatchObject({
      content: 'The tool failed without giving a reason.',
      is_error: true,
    });
  });
});

describe('hostile MCP servers', () => {
  it('huge results are cut: texts by the turn, images and the number of parts here', async () => {
    const png = `iVBORw0KGgo${'A'.repeat(89)}`;
    const image = { type: 'image', data: png, mimeType: 'image/png' };
    const huge = await answering({ content: [{ type: 'text', text: 'x'.repeat(1_000_000) }] });
    expect((await answer(huge, 'x')).content).toHaveLength(
      200_000 + '\n[cut off: these are the first 200000 of 1000000 characters]'.length,
    );
    const failed = await answering({ content: [{ type: 'text', text: 'x'.repeat(1_000_000) }], isError: true });
    expect((await answer(failed, 'x')).content?.length).toBeLessThan(200_100);
    const images = await answer(await answering({ content: [image, image, image] }, { maxDataChars: 250 }), 'x');
    expect(images.content).toMatchObject([
      { type: 'image' },
      { type: 'image' },
      { text: '[image, image/png, 1 kB: too large to be shown]' },
    ]);
    const many = await answer(await answering({ content: Array.from({ length: 5000 }, () => ({ type: 'text', text: 'x' })) }), 'x');
    expect(many.content).toHaveLength(101);
    expect((many.content as unknown[]).at(-1)).toEqual({ type: 'text', text: '[4900 more parts were left out]' });
  });

  it('names are made valid and unique, those that are valid keep theirs', async () => {
    const odd = ['read.file', 'read_file', 'read file', 'read.file', '', '天气', 'x'.repeat(200), 'x'.repeat(201), '__proto__'];
    const { client, sent } = await connect(hostileServer(() => ({ tools: odd.map((name) => plain(name)) })));
    const list = await tools(client);
    expect(namesOf(list)).toEqual([
      'read_file_2',
      'read_file',
      'read_file_3',
      'tool',
      '__',
      'x'.repeat(128),
      `${'x'.repeat(126)}_2`,
      '__proto__',
    ]);
    await answer(list, 'read_file_2');
    expect(sent.at(-1)?.params).toMatchObject({ name: 'read.file' });
    expect(namesOf(await tools(client, { prefix: 'p'.repeat(64) })).every((name) => /^p{64}[\w-]{0,64}$/.test(name))).toBe(true);
  });

  it('a schema that the API would refuse does not spoil the request, and is told in words', async () => {
    const object = { type: 'object', properties: { ok: {} }, required: ['ok'] };
    const list = await listing([
      { name: 'none', description: 'd' },
      { name: 'text', inputSchema: 'object' },
      { name: 'list', inputSchema: [] },
      { name: 'string', inputSchema: { type: 'string' } },
      { name: 'any', description: 'd', inputSchema: { ...object, anyOf: [{ required: ['ok'] }] } },
      { name: 'keys', inputSchema: { type: 'object', properties: { 'a b': {}, ok: {} }, required: ['a b', 'ok', 5] } },
      { name: 'odd', inputSchema: { type: 'object', properties: [], required: 'x' } },
      { name: 'fine', inputSchema: object, description: 5 },
    ]);
    const schemas = Object.fromEntries(list.map(({ definition }) => [definition.name, definition.toApi().input_schema]));
    expect(schemas).toEqual({
      none: { type: 'object' },
      text: { type: 'object' },
      list: { type: 'object' },
      string: { type: 'object' },
      any: object,
      keys: { type: 'object', properties: { ok: {} }, required: ['ok'] },
      odd: { type: 'object', properties: {}, required: [] },
      fine: object,
    });
    const said = Object.fromEntries(list.map(({ definition }) => [definition.name, definition.toApi().description]));
    expect(said).toMatchObject({ none: 'd', text: '', fine: '' });
    expect(said['any']).toBe(`d\nThe input has to fit this JSON schema: ${JSON.stringify({ ...object, anyOf: [{ required: ['ok'] }] })}`);
    expect(said['string']).toContain('{"type":"string"}');
  });

  it('what is no tool is left out, and so are tools that run as tasks only', async () => {
    expect(
      namesOf(
        await listing([5, null, {}, { name: 5 }, plain('task', { execution: { taskSupport: 'required' } }), plain('x', { execution: 1 })]),
      ),
    ).toEqual(['x']);
  });

  it('a bad output schema of one tool does not spoil the others', async () => {
    expect(
      namesOf(await listing([plain('a', { outputSchema: { type: 'object', properties: { x: { type: 'nonsense' } } } }), plain('b')])),
    ).toEqual(['a', 'b']);
  });

  it('a long description is cut', async () => {
    const [tool] = await listing([plain('x', { description: 'd'.repeat(100_000) })]);
    expect(tool!.definition.description.length).toBeLessThan(20_100);
  });

  it('a list without end is refused, whether its pages are full or empty', async () => {
    let n = 0;
    const full = await connect(hostileServer(() => ({ tools: [plain(`t${n++}`)], nextCursor: 'more' })));
    await expect(tools(full.client)).rejects.toThrow('more than 1000 tools');
    const empty = await connect(hostileServer(() => ({ tools: [], nextCursor: 'more' })));
    await expect(tools(empty.client, { maxTools: 10 })).rejects.toThrow(RangeError);
    const end = await connect(hostileServer(() => ({ tools: [plain('x')], nextCursor: '' })));
    expect(await tools(end.client)).toHaveLength(1);
  });

  it('nothing is logged, whatever fails', async () => {
    const consoles = (['log', 'info', 'warn', 'error', 'debug'] as const).map((name) => vi.spyOn(console, name));
    const { client } = await connect(
      hostileServer(
        () => ({ tools: [plain('x')] }),
        () => Promise.reject(new Error('token=hunter2')),
      ),
    );
    expect(await answer(await tools(client), 'x')).toMatchObject({ is_error: true, content: expect.stringContaining('hunter2') as string });
    await connect(hostileServer(() => Promise.reject(new Error('token=hunter2')))).then(({ client: other }) =>
      tools(other).catch(() => {}),
    );
    for (const each of consoles) {
      expect(each).not.toHaveBeenCalled();
      each.mockRestore();
    }
  });
});
