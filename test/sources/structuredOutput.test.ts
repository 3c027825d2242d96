import type Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { filter, lastValueFrom, map, NEVER, take, toArray } from 'rxjs';
import { CircuitBreaker, FleetBudget, RetryGate } from 'rxfleet';
import { agent, conversation, isModelOutputError, message, modelGuard, ModelOutputError, tool, turn, type AgentDone } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type Reply, type ReplyBlock } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess } from './harness.js';

type StopReason = Anthropic.Messages.StopReason;

const verdict = z.object({ risk: z.enum(['low', 'high']), score: z.int().min(0).max(10), notes: z.array(z.string()).default([]) });
const good = { risk: 'low', score: 3, notes: ['fine'] };
const said = (...content: (string | ReplyBlock)[]): Reply => ({
  type: 'message',
  content: content.map((each): ReplyBlock => (typeof each === 'string' ? { type: 'text', text: each } : each)),
});
const stopped = (stop_reason: StopReason, text: string): Reply => ({ ...reply.text(text), stop_reason });

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

async function failure(run: Promise<unknown>): Promise<ModelOutputError> {
  const error: unknown = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isModelOutputError(error)) throw new Error(`expected a ModelOutputError, got ${String(error)}`, { cause: error });
  return error;
}

describe('output of an agent', () => {
  it('is told to the API with every request, and comes parsed, after the tools', async () => {
    const { server, client } = await start((request) =>
      lastToolResults(request).length === 0
        ? reply.toolUse([{ name: 'look', input: {} }], { text: 'I look first.', thinking: 'Hm.' })
        : said({ type: 'thinking', thinking: '{' }, '{"risk":"low",', '"score":3}'),
    );
    const look = tool({ name: 'look', description: '', input: z.object({}), run: () => 'nothing' });
    const events = await lastValueFrom(
      agent({ ...ask, client, tools: [look], output: verdict, output_config: { effort: 'low' } }).pipe(toArray()),
    );
    const done = events.at(-1) as AgentDone;
    expect(done).toMatchObject({ type: 'done', stop: 'end_turn', turns: 2, output: { risk: 'low', score: 3, notes: [] } });
    const turns = events.filter((event) => event.type === 'turn');
    expect(turns.map(({ output }) => output)).toEqual([undefined, { risk: 'low', score: 3, notes: [] }]);
    expect('output' in (turns[0] as object)).toBe(false);
    const bodies = server.requests.map(({ body }) => body as Anthropic.Messages.MessageCreateParams);
    expect(bodies.map(({ output_config }) => output_config?.effort)).toEqual(['low', 'low']);
    for (const body of bodies) {
      expect(body).not.toHaveProperty('output');
      expect(body.output_config?.format).toEqual({
        type: 'json_schema',
        schema: {
          type: 'object',
          properties: {
            risk: { enum: ['low', 'high'] },
            score: { type: 'integer', description: '{minimum: 0, maximum: 10}' },
            notes: { type: 'array', items: { type: 'string' }, description: '{default: []}' },
          },
          required: ['risk', 'score'],
          additionalProperties: false,
        },
      });
    }
  });

  it('without the option there is none', async () => {
    const { server, client } = await start([reply.text('{"risk":"low"}')]);
    const events = await lastValueFrom(agent({ ...ask, client }).pipe(toArray()));
    expect(events.filter((event) => 'output' in event)).toEqual([]);
    expect(server.requests[0]?.body).not.toHaveProperty('output_config');
  });

  it.each<[string, string, string]>([
    ['no JSON', 'It is low.', 'It is no JSON'],
    ['JSON that is cut off', '{"risk":"low","sc', 'It is no JSON'],
    ['a wrong value', '{"risk":"none","score":3}', 'risk: '],
    ['what JSON schema cannot hold it to', '{"risk":"low","score":11}', 'score: '],
    ['a missing key', '{"risk":"low"}', 'score: '],
    ['another type', '[1]', 'expected object'],
  ])('%s is a typed error, and the history is valid', async (_, text, problem) => {
    const { client } = await start([reply.text(text), reply.text(JSON.stringify(good))]);
    const chat = conversation([hello]);
    const error = await failure(lastValueFrom(agent({ ...ask, client, messages: chat, output: verdict })));
    expect(error).toMatchObject({ name: 'ModelOutputError', text, stop: 'end_turn' });
    expect(error.message).toContain(problem);
    expect(error.problems.length).toBeGreaterThan(0);
    expect(chat.busy).toBe(false);
    expect(chat.messages).toMatchObject([hello, { role: 'assistant', content: [{ type: 'text', text }] }]);
    chat.add({ role: 'user', content: error.message });
    const again = await lastValueFrom(agent({ ...ask, client, messages: chat, output: verdict }));
    expect(again).toMatchObject({ type: 'done', output: good });
    expect(chat.messages).toHaveLength(4);
  });

  it('a reply without text does not fit', async () => {
    const { client } = await start([
      said({ type: 'thinking', thinking: 'Hm.' }),
      { type: 'message', content: [], stop_reason: 'end_turn' },
    ]);
    for (const content of ['thinking', 'nothing']) {
      const error = await failure(lastValueFrom(agent({ ...ask, client, output: verdict })));
      expect(error.problems, content).toEqual([{ path: '', message: 'The reply has no text.' }]);
    }
  });

  it('is the text after the work of server tools', async () => {
    const { client } = await start([
      said(
        'I search.',
        { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'x' } } as ReplyBlock,
        { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] } as unknown as ReplyBlock,
        JSON.stringify(good),
      ),
    ]);
    const tools = [{ type: 'web_search_20250305' as const, name: 'web_search' as const }];
    expect(await lastValueFrom(agent({ ...ask, client, tools, output: verdict }))).toMatchObject({ output: good });
  });

  it.each<StopReason>(['refusal', 'max_tokens', 'model_context_window_exceeded'])(
    'there is none after %s, and that is no error',
    async (stop) => {
      const { client } = await start([stopped(stop, '{"risk":"lo')]);
      const events = await lastValueFrom(agent({ ...ask, client, output: verdict }).pipe(toArray()));
      expect(events.at(-1)).toMatchObject({ type: 'done', stop });
      expect(events.filter((event) => 'output' in event)).toEqual([]);
    },
  );

  it('a stop sequence is an end like any other', async () => {
    const ended: Reply = { ...reply.text(JSON.stringify(good)), stop_reason: 'stop_sequence', stop_sequence: 'X' };
    const { client } = await start([ended, stopped('stop_sequence', '{"risk"')]);
    expect(await lastValueFrom(agent({ ...ask, client, output: verdict }))).toMatchObject({ stop: 'stop_sequence', output: good });
    expect((await failure(lastValueFrom(agent({ ...ask, client, output: verdict })))).stop).toBe('stop_sequence');
  });

  it('goes on after a pause, and has none where its turns are used up', async () => {
    const paused: Reply = stopped('pause_turn', 'I am at it.');
    const { client } = await start((request) =>
      request.messages.at(-1)?.role === 'assistant' && request.max_tokens === 200 ? reply.text(JSON.stringify(good)) : paused,
    );
    expect(await lastValueFrom(agent({ ...ask, client, output: verdict }))).toMatchObject({ turns: 2, output: good });
    const done = await lastValueFrom(agent({ ...ask, client, output: verdict, max_tokens: 100, maxTurns: 2 }));
    expect(done).toMatchObject({ type: 'done', stop: 'max_turns' });
    expect(done).not.toHaveProperty('output');
  });
});

describe('output with asynchronous or throwing checks', () => {
  it('waits for an asynchronous check', async () => {
    const slow = verdict.refine((value) => sleep(5).then(() => value.score < 5), 'too much');
    const { client } = await start([reply.text(JSON.stringify(good)), reply.text(JSON.stringify({ ...good, score: 7 }))]);
    expect(await lastValueFrom(agent({ ...ask, client, output: slow }))).toMatchObject({ output: good });
    expect((await failure(lastValueFrom(agent({ ...ask, client, output: slow })))).problems).toEqual([{ path: '', message: 'too much' }]);
  });

  it('a check that throws or rejects is a typed error with what it threw', async () => {
    const lost = new Error('database lost');
    const throws = verdict.refine(() => {
      throw lost;
    });
    const rejects = verdict.refine(() => Promise.reject(lost));
    const { client } = await start(Array.from({ length: 4 }, () => reply.text(JSON.stringify(good))));
    for (const output of [throws, rejects]) {
      for (const run of [agent({ ...ask, client, output }), message(client, ask, { output })]) {
        const error = await failure(lastValueFrom<unknown>(run));
        expect(error.problems).toEqual([{ path: '', message: 'database lost' }]);
        expect(error.cause).toBe(lost);
      }
    }
  });

  it('left while it checks, nothing more is told, and the history has the reply', async () => {
    let checking = 0;
    const never = verdict.refine(() => {
      checking++;
      return new Promise<boolean>(() => {});
    });
    const { client } = await start([reply.text(JSON.stringify(good)), reply.text(JSON.stringify(good))]);
    const chat = conversation([hello]);
    const told: string[] = [];
    const run = agent({ ...ask, client, messages: chat, output: never, graceMs: 20 }).subscribe(({ type }) => told.push(type));
    await expect.poll(() => checking).toBe(1);
    expect(chat.messages).toHaveLength(2);
    run.unsubscribe();
    await sleep(40);
    expect(told).not.toContain('turn');
    expect(chat.busy).toBe(false);
    const late = turn({ ...ask, client, output: never, timeouts: { turn: 60 }, graceMs: 20 });
    await expect(lastValueFrom(late)).rejects.toMatchObject({ name: 'DeadlineExceededError' });
  });
});

describe('output of a turn and of a message', () => {
  it('a turn has it if the model has come to its end', async () => {
    const { client } = await start([reply.toolUse([{ name: 'none', input: {} }]), reply.text(JSON.stringify(good))]);
    const first = await lastValueFrom(turn({ ...ask, client, output: verdict }));
    expect(first).toMatchObject({ type: 'turn', continues: true });
    expect(first).not.toHaveProperty('output');
    expect(await lastValueFrom(turn({ ...ask, client, output: verdict }))).toMatchObject({ type: 'turn', output: good });
  });

  it('a message has it', async () => {
    const { server, client } = await start([reply.text(JSON.stringify(good)), reply.text('no'), stopped('max_tokens', '{')]);
    const run = message(client, { ...ask, output_config: { effort: 'high' } }, { output: verdict });
    expect(await lastValueFrom(run)).toMatchObject({
      output: good,
      requestId: 'req_0001',
      usage: { output_tokens: expect.any(Number) as number },
    });
    expect(server.requests[0]?.body).toMatchObject({ output_config: { effort: 'high', format: { type: 'json_schema' } } });
    expect((await failure(lastValueFrom(run))).text).toBe('no');
    expect(await lastValueFrom(run)).not.toHaveProperty('output');
    expect(Object.keys(await lastValueFrom(message((await start([reply.text('x')])).client, ask)))).toEqual([
      'message',
      'usage',
      'requestId',
      'headers',
    ]);
  });

  it('what does not fit was paid for, and is neither sent again nor a fault of the API', async () => {
    const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 100_000, cacheWrite5m: 1_250_000, cacheWrite1h: 2_000_000 };
    const budget = new FleetBudget({ name: 'fleet', usd: '1' });
    const breaker = new CircuitBreaker({ name: 'model', failures: 1 });
    const retry = new RetryGate({ name: 'again', baseMs: 1 });
    const guard = modelGuard({ budget, breaker, retry, prices: { 'claude-test': rates } });
    const { server, client } = await start([reply.text('no'), reply.text('no')]);
    await failure(lastValueFrom(message(client, ask, { output: verdict, guard })));
    const { reserved, spent } = budget.snapshot().microUsd;
    expect(reserved).toBe(0);
    expect(spent).toBeGreaterThan(0);
    await failure(lastValueFrom(agent({ ...ask, client, output: verdict, modelGuard: guard })));
    expect(server.stats().requests).toBe(2);
    expect(breaker.snapshot().state).toBe('closed');
    expect(budget.snapshot().microUsd).toMatchObject({ reserved: 0 });
    expect(budget.snapshot().microUsd.spent).toBeGreaterThan(spent);
  });
});

describe('options', () => {
  const client = { messages: { create: () => NEVER } } as unknown as Anthropic;
  const all = (options: object): (() => unknown)[] => [
    () => agent({ ...ask, client, ...options }),
    () => turn({ ...ask, client, ...options }),
    () => message(client, { ...ask, ...('output_config' in options && { output_config: options.output_config as object }) }, options),
  ];

  it.each<[string, object, RegExp]>([
    ['no schema', { output: {} }, /^(agent|turn|message): output must be a zod schema, got an object\.$/],
    ['null', { output: null }, /output must be a zod schema, got null\.$/],
    [
      'a format besides',
      { output: verdict, output_config: { format: zodOutputFormat(verdict) } },
      /output and output_config\.format say both what the reply is to be; give one of them\.$/,
    ],
    ['a date', { output: z.object({ at: z.date() }) }, /output must have a JSON schema that the API takes: Date cannot be represented/],
    ['anything', { output: z.object({ a: z.array(z.unknown()) }) }, /takes: "a\[\]" may be anything, and the API wants a type\.$/],
    [
      'a record',
      { output: z.object({ a: z.record(z.string(), z.number()) }) },
      /takes: "a" has keys of any name, and the API wants them named\.$/,
    ],
    ['any object', { output: z.looseObject({}) }, /takes: it has keys of any name/],
  ])('%s is refused at once', (_, options, words) => {
    for (const make of all(options)) {
      expect(make).toThrow(TypeError);
      expect(make).toThrow(words);
    }
  });

  it('a format of null or undefined is none', () => {
    for (const format of [null, undefined])
      for (const make of all({ output: verdict, output_config: { format } })) expect(make).not.toThrow();
  });
});

describe('types', () => {
  const client = { messages: { create: () => NEVER } } as unknown as Anthropic;
  type Verdict = z.output<typeof verdict>;

  it('the output has the type of what comes out of the schema', () => {
    const run = agent({ ...ask, client, output: verdict, name: 'typed', timeouts: { workflow: 5 } });
    void run.pipe(
      filter((event) => event.type === 'done'),
      map(({ output }) => expectTypeOf(output).toEqualTypeOf<Verdict | undefined>()),
      take(1),
    );
    void turn({ ...ask, client, output: z.string().transform(Number) }).pipe(
      filter((event) => event.type === 'turn'),
      map(({ output }) => expectTypeOf(output).toEqualTypeOf<number | undefined>()),
    );
    void message(client, ask, { output: verdict }).pipe(map(({ output }) => expectTypeOf(output).toEqualTypeOf<Verdict | undefined>()));
    void message(client, ask, { label: 'x' }).pipe(map(({ output }) => expectTypeOf(output).toEqualTypeOf<unknown>()));
    const one: AgentDone = { output: 5 } as AgentDone<number>;
    expect(one.output).toBe(5);
    // @ts-expect-error: no schema
    expect(() => agent({ ...ask, client, output: 'text' })).toThrow(TypeError);
    // @ts-expect-error: no schema
    expect(() => message(client, ask, { output: {} })).toThrow(TypeError);
  });
});
