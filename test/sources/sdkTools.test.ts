import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { betaMemoryTool } from '@anthropic-ai/sdk/helpers/beta/memory';
import { betaStandardSchemaTool } from '@anthropic-ai/sdk/helpers/beta/standard-schema';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import type { BetaToolRunContext } from '@anthropic-ai/sdk/lib/tools/BetaRunnableTool';
import { ToolError } from '@anthropic-ai/sdk/lib/tools/ToolError';
import { lastValueFrom, toArray, type Observable } from 'rxjs';
import { agent, fromTool, toToolResult, turn, type AgentEvent, type ToolEvent, type TurnEvent } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { fromSdkTool } from '../../src/sources/fromSdkTool.js';
import type { Tool } from '../../src/sources/tool.js';
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

const weather = betaZodTool({
  name: 'weather',
  description: 'Weather of a city',
  inputSchema: z.object({ city: z.string(), days: z.number().default(1) }),
  run: async ({ city, days }) => `${city}: sunny for ${days}`,
});
const shout = betaTool({
  name: 'shout',
  description: 'Shouts',
  inputSchema: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
  run: ({ word }) => word.toUpperCase(),
});
const use = (name: string, input: unknown) => ({ type: 'tool_use' as const, id: 'toolu_1', name, input });

/** A tool that fails with `error`. */
function failing(error: unknown) {
  return betaTool({
    name: 'bad',
    description: '',
    inputSchema: { type: 'object' },
    run: () => {
      throw error;
    },
  });
}

/** The answer to one call. */
const answer = (tool: unknown, input: unknown, name = 'bad') =>
  lastValueFrom(fromTool(tool as never, use(name, input)).pipe(toToolResult()));

describe('tools of the SDK', () => {
  it('run unmodified in an agent, beside our own', async () => {
    const { client, server } = await start([
      reply.toolUse([
        { name: 'weather', input: { city: 'Oslo' } },
        { name: 'shout', input: { word: 'hey' } },
      ]),
      reply.text('fine'),
    ]);
    const events = await lastValueFrom(agent({ client, ...ask, tools: [weather, shout] }).pipe(toArray()));
    const end = events.find((event) => event.type === 'turn');
    expect(end?.results).toEqual([
      { type: 'tool_result', tool_use_id: 'toolu_0001', content: 'Oslo: sunny for 1' },
      { type: 'tool_result', tool_use_id: 'toolu_0002', content: 'HEY' },
    ]);
    const sent = server.requests[0]?.body as Anthropic.Messages.MessageCreateParams;
    expect(sent.tools).toEqual(JSON.parse(JSON.stringify([weather, shout])));
  });

  it('passing them to agent, turn and fromTool compiles, without a wrapper', () => {
    const options = { client: new Anthropic({ apiKey: 'test' }), ...ask, tools: [weather, shout, fromSdkTool(failing('x'))] };
    expectTypeOf(agent(options)).toEqualTypeOf<Observable<AgentEvent>>();
    expectTypeOf(turn({ ...options, tools: [shout] })).toEqualTypeOf<Observable<TurnEvent>>();
    expectTypeOf(fromTool(weather, use('weather', {}))).toEqualTypeOf<Observable<ToolEvent>>();
    expectTypeOf(fromTool([weather, shout], use('x', {}))).toEqualTypeOf<Observable<ToolEvent>>();
    expectTypeOf(fromSdkTool(shout)).parameter(0).toEqualTypeOf<{ [x: string]: unknown; word: string }>();
    expectTypeOf(fromSdkTool(shout)).toExtend<Tool<{ word: string }, unknown>>();
    // @ts-expect-error: a number is no tool
    expect(() => agent({ ...options, tools: [5] })).toThrow(TypeError);
  });

  it('input that does not fit is answered with the issues in words, and does not run', async () => {
    const block = await answer(weather, { city: 5, days: 'x' }, 'weather');
    expect(block).toMatchObject({ is_error: true });
    expect(block.content).toBe(
      'The input of the tool "weather" does not fit its schema:\n' +
        '- city: Invalid input: expected string, received number\n' +
        '- days: Invalid input: expected number, received string\n' +
        'The tool did not run. Correct the input and call it again.',
    );
  });

  it('the options of a union are put into words too', async () => {
    const inputSchema = z.object({ at: z.union([z.object({ x: z.number() }), z.string()]) });
    const pick = betaZodTool({ name: 'bad', description: '', inputSchema, run: () => 'x' });
    expect((await answer(pick, { at: { x: 'y' } })).content).toContain(
      'it fits none of the alternatives: (1) x: Invalid input: expected number',
    );
  });

  it.each([
    [['x'], 'expected object, received array'],
    ['text', 'expected object, received string'],
  ])('input that is no object is answered: %j', async (input, words) => {
    expect(await answer(shout, input, 'shout')).toMatchObject({ is_error: true, content: expect.stringContaining(words) as string });
  });

  it('a standard schema that refuses the input is put into words', async () => {
    const inputSchema = z.object({ city: z.string() });
    const other = betaStandardSchemaTool({ name: 'bad', description: '', inputSchema, run: () => 'x' });
    expect((await answer(other, {})).content).toContain('Schema validation failed with 1 issue(s)');
  });

  it('run gets the block that it serves, with the input as it came, and the signal of its own call', async () => {
    const seen: (BetaToolRunContext | undefined)[] = [];
    const inputSchema = z.object({ n: z.number().default(41) });
    const look = betaZodTool({ name: 'look', description: '', inputSchema, run: ({ n }, context) => (seen.push(context), String(n + 1)) });
    const block = await answer(look, {}, 'look');
    expect(block.content).toBe('42');
    expect(seen[0]?.toolUse).toEqual(use('look', {}));
    expect(seen[0]).toHaveProperty('toolUseBlock', seen[0]?.toolUse);
    expect(seen[0]?.signal?.aborted).toBe(false);
  });

  it('a cancelled call aborts the signal, and its siblings and effect are as told', async () => {
    const stopped: string[] = [];
    const slow = betaZodTool({
      name: 'slow',
      description: '',
      inputSchema: z.object({}),
      run: (_, context) =>
        new Promise<string>((_resolve, reject) => {
          context?.signal?.addEventListener('abort', () => {
            stopped.push('slow');
            reject(context.signal?.reason as Error);
          });
        }),
    });
    const events: ToolEvent[] = await lastValueFrom(fromTool(slow, use('slow', {}), undefined, { timeoutMs: 20 }).pipe(toArray()));
    expect(events.map(({ type }) => type)).toEqual(['started', 'failed']);
    expect(events[1]).toMatchObject({ phase: 'timeout', effect: 'unknown' });
    expect(stopped).toEqual(['slow']);
    const calm = fromSdkTool(slow, { effect: 'none', timeoutMs: 5 });
    expect(await answer(calm, {}, 'slow')).toMatchObject({ content: expect.stringContaining('It changes nothing') as string });
  });

  it('content blocks go back as they are', async () => {
    const content = [
      { type: 'text' as const, text: 'a' },
      { type: 'search_result' as const, source: 's', title: 't', content: [{ type: 'text' as const, text: 'found' }] },
      { type: 'document' as const, source: { type: 'text' as const, media_type: 'text/plain' as const, data: 'long text' } },
      { type: 'image' as const, source: { type: 'base64' as const, media_type: 'image/png' as const, data: 'iVBORw0KGgo=' } },
      { type: 'tool_reference' as const, tool_name: 'other' },
    ];
    const many = betaTool({ name: 'many', description: '', inputSchema: { type: 'object' }, run: () => content });
    expect((await answer(many, {}, 'many')).content).toBe(content);
    const cut = await lastValueFrom(fromTool(many, use('many', {})).pipe(toToolResult({ maxChars: 8 })));
    expect(cut.content).toMatchObject([
      { text: 'a' },
      { content: [{ text: 'found' }] },
      { source: { data: 'lo\n[cut off: these are the first 2 of 9 characters]' } },
      { type: 'image' },
      { type: 'tool_reference' },
    ]);
  });

  it('a ToolError answers with its content, which with is_error is text alone', async () => {
    expect(await answer(failing(new ToolError('no such city')), {})).toEqual({
      type: 'tool_result',
      tool_use_id: 'toolu_1',
      content: 'no such city',
      is_error: true,
    });
    const error = new ToolError([
      { type: 'text', text: 'look' },
      { type: 'image', source: { type: 'url', url: 'http://x' } },
    ]);
    const [, end] = await lastValueFrom(fromTool(failing(error), use('bad', {})).pipe(toArray()));
    expect(end).toMatchObject({ type: 'failed', phase: 'run', error });
    expect(await answer(failing(error), {})).toMatchObject({
      content: [
        { type: 'text', text: 'look' },
        { type: 'text', text: '[image]' },
      ],
      is_error: true,
    });
  });

  it.each([
    ['a plain error', new TypeError('oops'), 'The tool "bad" failed: TypeError: oops'],
    ['an empty ToolError', new ToolError(''), 'The tool "bad" failed'],
    ['an empty list', new ToolError([]), 'The tool "bad" failed'],
    ['content that is no content', Object.assign(new Error('said'), { content: 'secret body' }), 'The tool "bad" failed: said'],
    ['content of something else', Object.assign(new Error('said'), { content: [1, 2] }), 'The tool "bad" failed: said'],
  ])('%s is an answer in words', async (_, error, words) => {
    const { content, is_error } = await answer(failing(error), {});
    expect(content).toContain(words);
    expect(content).not.toContain('secret');
    expect(is_error).toBe(true);
  });

  it('tools of the API that run on the client need no schema', async () => {
    const memory = betaMemoryTool({ view: async ({ path }) => `at ${path}` } as Parameters<typeof betaMemoryTool>[0]);
    const { client, server } = await start([reply.toolUse([{ name: 'memory', input: { command: 'view', path: '/m' } }]), reply.text('x')]);
    const events = await lastValueFrom(agent({ client, ...ask, tools: [memory] }).pipe(toArray()));
    expect(events.find((event) => event.type === 'turn')?.results).toMatchObject([{ content: 'at /m' }]);
    expect((server.requests[0]?.body as Anthropic.Messages.MessageCreateParams).tools).toEqual([
      { type: 'memory_20250818', name: 'memory' },
    ]);
  });

  it('extra fields are sent, and options of ours are not', async () => {
    const cached = betaZodTool({
      name: 'cached',
      description: 'd',
      inputSchema: z.object({}),
      cache_control: { type: 'ephemeral' },
      run: () => 'x',
      close: () => {},
    });
    const { definition } = fromSdkTool(cached, { effect: 'idempotent', timeoutMs: 5, api: { defer_loading: true } });
    expect(definition).toMatchObject({ effect: 'idempotent', timeoutMs: 5, name: 'cached' });
    expect(definition.toApi()).toEqual({ ...(JSON.parse(JSON.stringify(cached)) as object), defer_loading: true });
    expect(fromSdkTool(cached).definition.effect).toBe('unsafe');
  });

  it('refuses what is none, and names that are taken', async () => {
    const { client } = await start([]);
    const tools = (list: unknown) => () => agent({ client, ...ask, tools: list as never });
    expect(tools([shout, shout])).toThrow('two are called "shout"');
    expect(tools([{ run: () => 'x' }])).toThrow(TypeError);
    expect(() => fromSdkTool({ name: 'x' } as never)).toThrow('made with betaZodTool() or betaTool()');
    expect(() => fromSdkTool(shout, { effect: 'maybe' as never })).toThrow(RangeError);
    expect(() => fromTool({} as never, use('x', {}))).toThrow(TypeError);
  });
});
