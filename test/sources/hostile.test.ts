import { inspect } from 'node:util';
import Anthropic from '@anthropic-ai/sdk';
import { EMPTY, lastValueFrom, toArray } from 'rxjs';
import { agent, fromTool, isToolOutputError, message, messageStream, tool, toToolResult } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => void (quiet = watchProcess()));
afterEach(() => {
  quiet();
  expectNoOpenScopes();
});

const input = z.object({});
const resultOf = (run: () => unknown, maxChars?: number): Promise<{ content?: unknown; is_error?: boolean }> =>
  lastValueFrom(
    fromTool(tool({ name: 't', description: 'd', input, run }), { id: 'toolu_1', name: 't', input: {} }).pipe(
      toToolResult(maxChars === undefined ? {} : { maxChars }),
    ),
  );

const circular = new Error('boom');
circular.cause = circular;

describe('outputs and errors that are hard to put into words', () => {
  it.each([
    ['a list whose type is a name of Object.prototype', () => [{ type: 'constructor', inputs: [] }], '"constructor"'],
    ['a list whose type cannot be a string', () => [{ type: Object.create(null) as unknown }], 'type'],
    [
      'a revoked proxy',
      () => {
        const { proxy, revoke } = Proxy.revocable({}, {});
        revoke();
        return { proxy };
      },
      '{}',
    ],
    ['half of a code point', () => 'a😀'.slice(0, 2), 'a\uFFFD'],
  ])('%s', async (_, run, said) => {
    const { content, is_error } = await resultOf(run);
    expect(is_error).toBeUndefined();
    expect(JSON.stringify(content)).toContain(JSON.stringify(said).slice(1, -1));
  });

  it.each([
    ['is its own cause', circular],
    ['has a message that is no string', Object.assign(new TypeError('x'), { message: { code: 1 } })],
    ['has no name', Object.assign(new Error('x'), { name: undefined })],
    ['is a symbol', Symbol('s')],
  ])('an error that %s', async (_, error) => {
    expect(
      await resultOf(() => {
        throw error;
      }),
    ).toMatchObject({ is_error: true, content: expect.stringContaining('failed') as unknown });
  });

  it('texts in blocks are cut off as any text is', async () => {
    const { content } = await resultOf(() => [{ type: 'text', text: 'x'.repeat(1000) }], 10);
    expect(content).toMatchObject([{ text: expect.stringMatching(/^x{10}\n\[cut off/) as unknown }]);
  });

  it('none of them keeps an agent from ending', async () => {
    const { client } = await start([reply.toolUse([{ name: 't', input: {} }]), reply.text('bye')]);
    const odd = tool({
      name: 't',
      description: 'd',
      input,
      run: async () => {
        await sleep(1);
        throw circular;
      },
    });
    expect(await lastValueFrom(agent({ ...ask, client, tools: [odd] }))).toMatchObject({ type: 'done', text: 'bye' });
  });
});

describe('schemas', () => {
  it('an asynchronous check runs once, and its failure is heard', async () => {
    let ran = 0;
    const checked = z.object({}).refine(async () => {
      ran++;
      await sleep(1);
      throw new Error('db down');
    });
    const checking = tool({ name: 't', description: 'd', input: checked, run: () => 1 });
    const result = await lastValueFrom(fromTool(checking, { id: 'toolu_1', name: 't', input: {} }).pipe(toToolResult()));
    expect(result).toMatchObject({ is_error: true });
    expect(ran).toBe(1);
  });

  it('the output is checked even if there was none', async () => {
    const empty = tool({ name: 't', description: 'd', input, output: z.object({ a: z.string() }), run: () => EMPTY });
    expect(isToolOutputError(await lastValueFrom(empty({}).pipe(toArray())).catch((error: unknown) => error))).toBe(true);
  });
});

it('input that is nested too deep to be written again is answered, and the agent goes on', async () => {
  const deep = `{"a":${'['.repeat(400)}${']'.repeat(400)}}`;
  const { client } = await start([reply.toolUse([{ name: 't', input: JSON.parse(deep) as Record<string, unknown> }]), reply.text('bye')]);
  const t = tool({ name: 't', description: 'd', input: z.object({ a: z.unknown() }), run: () => 1 });
  const events = await lastValueFrom(agent({ ...ask, client, tools: [t] }).pipe(toArray()));
  expect(events.at(-1)).toMatchObject({ type: 'done', text: 'bye' });
  expect(events.find((event) => event.type === 'tool')).toMatchObject({ event: { type: 'failed', phase: 'input' } });
});

it('an onResponse that throws closes the request', async () => {
  const { client, server } = await start([reply.text('never', { fault: { kind: 'stall', after: 'headers' } })]);
  const onResponse = (): never => {
    throw new Error('mine');
  };
  await expect(lastValueFrom(message(client, ask, { onResponse }).pipe(toArray()))).rejects.toThrow('mine');
  await server.when(({ open }) => open === 0);
});

it.each([
  [
    'a delta without its delta',
    [
      { type: 'message_start', message: { usage: {} } },
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      { type: 'content_block_delta', index: 0 },
    ],
  ],
  ['an end without a beginning', []],
])('a stream with %s is a typed error', async (_, events) => {
  const stream = async function* (): AsyncGenerator {
    await sleep(1);
    yield* events;
    yield { type: 'message_stop' };
  };
  const response = { data: stream(), response: { headers: new Headers() }, request_id: 'req_1' };
  const client = { messages: { create: () => ({ withResponse: () => Promise.resolve(response) }) } } as never;
  await expect(lastValueFrom(agent({ ...ask, client }).pipe(toArray()))).rejects.toMatchObject({
    name: 'ModelStreamError',
    requestId: 'req_1',
  });
});

it('a key that is no legal header value is not in the error', async () => {
  const { server } = await start([reply.text('never')]);
  const client = new Anthropic({ apiKey: 'sk-ant-secret\nx', baseURL: server.url, logLevel: 'off' });
  for (const source of [message(client, ask), messageStream(client, ask)]) {
    const error = await lastValueFrom<unknown>(source).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(TypeError);
    expect(inspect(error, { depth: 10 })).not.toContain('secret');
  }
});

it('a call of the API itself that was cut off is not in the history', async () => {
  const content = [
    { type: 'text', text: 'Let me look.' },
    { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'x' } },
  ] as const;
  const { client } = await start([reply.message({ content: [...content] as never, stop_reason: 'max_tokens' })]);
  const done = await lastValueFrom(agent({ ...ask, client }));
  expect(done).toMatchObject({ type: 'done', stop: 'max_tokens' });
  expect(JSON.stringify(done.type === 'done' && done.history)).not.toContain('srvtoolu_1');
});
