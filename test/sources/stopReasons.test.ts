import type Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { lastValueFrom, toArray } from 'rxjs';
import { agent, tool, turn, type AgentDone, type AgentEvent, type AgentOptions, type TurnEvent } from 'rxfleet/agents';
import { expectNoOpenScopes, reply, type Fault, type Reply, type ReplyBlock, type Script } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess, type MessageParam } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

type Client = Awaited<ReturnType<typeof start>>['client'];
type TurnEnd = TurnEvent & { readonly type: 'turn' };
type StopReason = Anthropic.Messages.StopReason;

const ran: string[] = [];
beforeEach(() => void (ran.length = 0));
const look = tool({
  name: 'look',
  description: 'looks',
  effect: 'none',
  input: z.object({ at: z.string() }),
  run: ({ at }) => {
    ran.push(at);
    return `saw ${at}`;
  },
});
const looking = (...places: string[]) => places.map((at) => ({ type: 'tool_use' as const, name: 'look', input: { at } }));
const said = (words: string): ReplyBlock => ({ type: 'text', text: words });
const thinking = { type: 'enabled' as const, budget_tokens: 1024 };

async function oneTurn(first: Reply, options: Partial<AgentOptions> = {}): Promise<{ client: Client; end: TurnEnd }> {
  const { client } = await start([first]);
  const events = await lastValueFrom(turn({ client, ...ask, tools: [look], ...options }).pipe(toArray()));
  return { client, end: events.at(-1) as TurnEnd };
}

/** The bodies of the requests, and how the agent ended. */
async function whole(script: Script, options: Partial<AgentOptions> = {}) {
  const { client, server } = await start(script);
  const events: AgentEvent[] = await lastValueFrom(agent({ client, ...ask, tools: [look], ...options }).pipe(toArray()));
  const sent = server.requests.map(({ body }) => (body as { messages: MessageParam[] }).messages);
  return { client, server, events, done: events.at(-1) as AgentDone, sent };
}

/** The server checks a history as strictly as the API; with `thinking`, also that none was left out. */
async function accepted(client: Client, history: readonly MessageParam[], params: object = {}): Promise<void> {
  await client.messages.countTokens({ model: 'm', messages: [...history, hello], ...params });
}

interface Case {
  readonly what: string;
  readonly first: Reply;
  /** What the turn tells. */
  readonly turn: object;
  /** How the agent ends, whose second request would be answered with "and on". */
  readonly done: object;
  readonly ran: readonly string[];
  readonly options?: Partial<AgentOptions>;
}

const cut = (keep: number): Fault => ({ kind: 'max_tokens', keep });
const message = (stop_reason: StopReason, ...content: ReplyBlock[]): Reply => reply.message({ content, stop_reason });
const anError = (about: RegExp) => ({ is_error: true, content: expect.stringMatching(about) as string });

const CASES: readonly Case[] = [
  {
    what: 'end_turn',
    first: message('end_turn', said('all done')),
    turn: { stop: 'end_turn', continues: false, results: [], history: [hello, { role: 'assistant', content: [{ text: 'all done' }] }] },
    done: { stop: 'end_turn', turns: 1, text: 'all done' },
    ran: [],
  },
  {
    what: 'end_turn with calls: they did not run',
    first: message('end_turn', said('all done'), ...looking('a')),
    turn: { stop: 'end_turn', continues: false, results: [anError(/did not run: the reply ended with end_turn/)] },
    done: { stop: 'end_turn', turns: 1 },
    ran: [],
  },
  {
    what: 'tool_use',
    first: message('tool_use', said('let me look'), ...looking('a', 'b')),
    turn: { stop: 'tool_use', continues: true, results: [{ content: 'saw a' }, { content: 'saw b' }] },
    done: { stop: 'end_turn', turns: 2, text: 'and on' },
    ran: ['a', 'b'],
  },
  {
    what: 'tool_use without calls',
    first: message('tool_use', said('hm')),
    turn: { stop: 'tool_use', continues: false, results: [] },
    done: { stop: 'tool_use', turns: 1, text: 'hm' },
    ran: [],
  },
  {
    what: 'max_tokens in a text',
    first: reply.text('a long story', { fault: cut(6) }),
    turn: { stop: 'max_tokens', continues: false, results: [], history: [hello, { role: 'assistant', content: [{ text: 'a long' }] }] },
    done: { stop: 'max_tokens', turns: 1, text: 'a long' },
    ran: [],
  },
  {
    what: 'max_tokens in an input: the calls before it run',
    first: reply.message({ content: looking('a', 'the second'), fault: cut(9) }),
    turn: { stop: 'max_tokens', continues: true, results: [{ content: 'saw a' }, anError(/cut off.*did not run/s)] },
    done: { stop: 'end_turn', turns: 2, text: 'and on' },
    ran: ['a'],
  },
  {
    what: 'max_tokens after an input that is whole: it may have been meant to go on',
    first: reply.message({ content: looking('a'), fault: cut(1_000) }),
    turn: { stop: 'max_tokens', continues: true, results: [anError(/cut off/)] },
    done: { stop: 'end_turn', turns: 2 },
    ran: [],
  },
  {
    what: 'max_tokens in the text before a call',
    first: reply.message({ content: [said('let me look at it')], fault: cut(7) }),
    turn: { stop: 'max_tokens', continues: false, results: [] },
    done: { stop: 'max_tokens', turns: 1, text: 'let me ' },
    ran: [],
  },
  {
    what: 'max_tokens with onMaxTokens "end": what has run already is answered, nothing else runs',
    first: reply.message({ content: looking('a', 'b'), fault: cut(9) }),
    turn: { stop: 'max_tokens', continues: false, results: [{ content: 'saw a' }, anError(/cut off/)] },
    done: { stop: 'max_tokens', turns: 1 },
    ran: ['a'],
    options: { onMaxTokens: 'end' },
  },
  {
    what: 'max_tokens with onMaxTokens "end", where nothing starts early',
    first: reply.message({ content: looking('a', 'b'), fault: cut(9) }),
    turn: { stop: 'max_tokens', continues: false, results: [anError(/did not run: the reply ended with max_tokens/), anError(/cut off/)] },
    done: { stop: 'max_tokens', turns: 1 },
    ran: [],
    options: { onMaxTokens: 'end', eager: false },
  },
  {
    what: 'stop_sequence with calls: they did not run',
    first: message('stop_sequence', ...looking('a')),
    turn: { stop: 'stop_sequence', continues: false, results: [anError(/did not run: the reply ended with stop_sequence/)] },
    done: { stop: 'stop_sequence', turns: 1 },
    ran: [],
  },
  {
    what: 'stop_sequence',
    first: reply.message({ content: [said('up to here')], stop_reason: 'stop_sequence', stop_sequence: 'END' }),
    turn: { stop: 'stop_sequence', continues: false, results: [], message: { stop_sequence: 'END' } },
    done: { stop: 'stop_sequence', turns: 1, text: 'up to here', message: { stop_sequence: 'END' } },
    ran: [],
  },
  {
    what: 'pause_turn',
    first: message('pause_turn', said('searching')),
    turn: { stop: 'pause_turn', continues: true, results: [] },
    done: { stop: 'end_turn', turns: 2, text: 'and on' },
    ran: [],
  },
  {
    what: 'refusal',
    first: message('refusal', said('I can'), ...looking('a')),
    turn: { stop: 'refusal', continues: false, results: [], history: [hello], message: { stop_reason: 'refusal' } },
    done: { stop: 'refusal', turns: 1, history: [hello] },
    ran: [],
    options: { eager: false },
  },
  {
    what: 'model_context_window_exceeded in a text',
    first: message('model_context_window_exceeded', said('there was')),
    turn: { stop: 'model_context_window_exceeded', continues: false, results: [] },
    done: { stop: 'model_context_window_exceeded', turns: 1, text: 'there was' },
    ran: [],
  },
  {
    what: 'model_context_window_exceeded with calls: they did not run',
    first: message('model_context_window_exceeded', ...looking('a')),
    turn: { stop: 'model_context_window_exceeded', continues: false, results: [anError(/./)] },
    done: { stop: 'model_context_window_exceeded', turns: 1 },
    ran: [],
  },
];

describe.each(CASES)('$what', ({ first, turn: told, done: end, ran: expected, options }) => {
  it('in a turn', async () => {
    const { client, end: seen } = await oneTurn(first, options);
    expect(seen).toMatchObject(told);
    expect(ran).toEqual(expected);
    await accepted(client, seen.history);
  });

  it('in an agent', async () => {
    const { client, done, server } = await whole([first, reply.text('and on')], options);
    expect(done).toMatchObject(end);
    expect(ran).toEqual(expected);
    expect(server.requests.map(({ error }) => error)).toEqual(server.requests.map(() => undefined));
    await accepted(client, done.history);
  });
});

describe('what the model wrote goes back as it was', () => {
  it('thinking, redacted thinking and their signatures, over several turns', async () => {
    const redacted = { type: 'redacted_thinking' as const, data: 'c2VjcmV0' };
    const first = reply.message({ content: [{ type: 'thinking', thinking: 'first, look' }, redacted, ...looking('a')] });
    const second = reply.message({ content: [{ type: 'thinking', thinking: 'look again' }, said('once more'), ...looking('b')] });
    const { done, sent, client } = await whole([first, second, reply.text('done')], { thinking, max_tokens: 2_000 });
    expect(done).toMatchObject({ stop: 'end_turn', turns: 3 });
    expect(sent[2]?.[1]?.content).toMatchObject([
      { type: 'thinking', thinking: 'first, look', signature: 'sig_0001' },
      redacted,
      { type: 'tool_use', input: { at: 'a' } },
    ]);
    expect(sent[2]?.[3]?.content).toMatchObject([{ type: 'thinking', signature: 'sig_0002' }, { type: 'text' }, { type: 'tool_use' }]);
    await accepted(client, done.history, { thinking });
  });

  it('thinking between calls, and thinking with an empty text', async () => {
    const content: ReplyBlock[] = [
      { type: 'thinking', thinking: '' },
      ...looking('a'),
      { type: 'thinking', thinking: 'and then' },
      ...looking('b'),
    ];
    const { sent, done } = await whole([reply.message({ content }), reply.text('done')], { thinking, max_tokens: 2_000 });
    expect(sent[1]?.[1]?.content).toMatchObject([{ signature: 'sig_0001' }, {}, { thinking: 'and then', signature: 'sig_0002' }, {}]);
    expect(done.stop).toBe('end_turn');
  });

  it('a pause in the middle of thinking and a call of the API itself: the reply is sent again unchanged, and goes on', async () => {
    const search = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'rxjs' } } as const;
    const found = { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] } as const;
    const paused = [{ type: 'thinking', thinking: 'search' }, said('one moment'), search] as unknown as ReplyBlock[];
    const rest = [found, said('found it')] as unknown as ReplyBlock[];
    const { done, sent } = await whole([message('pause_turn', ...paused), message('end_turn', ...rest)], { thinking, max_tokens: 2_000 });
    expect(done).toMatchObject({ stop: 'end_turn', turns: 2, text: 'found it' });
    expect(sent[1]).toHaveLength(2);
    expect(sent[1]?.[1]).toMatchObject({
      role: 'assistant',
      content: [{ type: 'thinking', signature: 'sig_0001' }, { text: 'one moment' }, search],
    });
    expect(done.history.slice(1).map(({ role }) => role)).toEqual(['assistant', 'assistant']);
  });

  it('a pause with a call of ours in it: the call runs, and is answered', async () => {
    const { done, sent, client } = await whole([message('pause_turn', said('searching'), ...looking('a')), reply.text('and on')]);
    expect(done).toMatchObject({ stop: 'end_turn', turns: 2 });
    expect(ran).toEqual(['a']);
    expect(sent[1]?.at(-1)?.content).toMatchObject([{ type: 'tool_result', content: 'saw a' }]);
    await accepted(client, done.history);
  });

  it('a pause for ever ends with maxTurns', async () => {
    const { done, server } = await whole(() => message('pause_turn', said('still at it')), { maxTurns: 3 });
    expect(done).toMatchObject({ stop: 'max_turns', turns: 3 });
    expect(server.stats().requests).toBe(3);
  });

  it('calls of the API itself and their results, next to calls of ours', async () => {
    const server = [
      { type: 'server_tool_use', id: 'srvtoolu_1', name: 'web_search', input: { query: 'rxjs' } },
      { type: 'web_search_tool_result', tool_use_id: 'srvtoolu_1', content: [] },
      { type: 'server_tool_use', id: 'srvtoolu_2', name: 'code_execution', input: { code: '1' } },
      {
        type: 'code_execution_tool_result',
        tool_use_id: 'srvtoolu_2',
        content: { type: 'code_execution_result', stdout: '1', stderr: '', return_code: 0, content: [] },
      },
    ] as unknown as ReplyBlock[];
    const { done, sent, events } = await whole([message('tool_use', ...server, ...looking('a')), reply.text('done')]);
    expect(done.stop).toBe('end_turn');
    expect(sent[1]?.[1]?.content).toMatchObject([...server, { type: 'tool_use' }]);
    expect(sent[1]?.[2]?.content).toHaveLength(1);
    expect(events.filter(({ type }) => type === 'tool')).toHaveLength(2);
  });

  it('a refusal after a turn with calls: what was before stays, and can be continued', async () => {
    const { done, client } = await whole([message('tool_use', ...looking('a')), message('refusal', said('I will not'))]);
    expect(done).toMatchObject({ stop: 'refusal', turns: 2 });
    expect(done.history).toHaveLength(3);
    await accepted(client, done.history);
  });

  it('details of a refusal and of a stop are told', async () => {
    const details = { type: 'refusal', category: 'cyber', explanation: 'no' } as unknown as Anthropic.Messages.RefusalStopDetails;
    const { end } = await oneTurn(reply.message({ content: [said('no')], stop_reason: 'refusal', stop_details: details }));
    expect(end.message).toMatchObject({ stop_reason: 'refusal', stop_details: details });
  });

  it('usage that is cumulative is taken over, not added up', async () => {
    const usage = { input_tokens: 10, output_tokens: 20, cache_read_input_tokens: 5 };
    const { done } = await whole([
      reply.message({ content: looking('a'), usage }),
      reply.text('done', { usage: { ...usage, output_tokens: 7 } }),
    ]);
    expect(done.usage).toEqual({ input_tokens: 20, output_tokens: 27, cache_read_input_tokens: 10, cache_creation_input_tokens: 0 });
  });
});

describe('markers of the prompt cache', () => {
  it('of the system prompt, of tools, of messages and of the request stay where they were set', async () => {
    const cache_control = { type: 'ephemeral' as const };
    const marked = tool({
      name: 'marked',
      description: 'm',
      input: z.object({}),
      api: { cache_control: { type: 'ephemeral', ttl: '1h' } },
      run: () => [{ type: 'text', text: 'long', cache_control }],
    });
    const messages: MessageParam[] = [{ role: 'user', content: [{ type: 'text', text: 'a long document', cache_control }] }];
    const system = [{ type: 'text' as const, text: 'be brief', cache_control }];
    const { server, sent, done } = await whole([reply.toolUse([{ name: 'marked', input: {} }]), reply.text('done')], {
      tools: [look, marked],
      messages,
      system,
      cache_control,
    });
    expect(done.stop).toBe('end_turn');
    for (const { body } of server.requests) {
      expect(body).toMatchObject({ system, cache_control, tools: [{ name: 'look' }, { name: 'marked', cache_control: { ttl: '1h' } }] });
    }
    for (const [first] of sent) expect(first).toEqual(messages[0]);
    expect(sent[1]?.[2]?.content).toMatchObject([{ type: 'tool_result', content: [{ text: 'long', cache_control }] }]);
    expect(JSON.stringify(sent[0])).toBe(JSON.stringify(sent[1]?.slice(0, 1)));
  });

  it('what was sent before is the beginning of what is sent next, byte for byte', async () => {
    const { sent } = await whole([
      ...['a', 'b', 'c'].map((at) => reply.message({ content: [said(`look at ${at}`), ...looking(at)] })),
      reply.text('x'),
    ]);
    for (let i = 1; i < sent.length; i++) {
      expect(JSON.stringify(sent[i]?.slice(0, sent[i - 1]?.length))).toBe(JSON.stringify(sent[i - 1]));
    }
  });
});

describe('structured output', () => {
  const answer = z.object({ city: z.string(), degrees: z.number() });

  it('of the API, after calls of tools: the text of the end is parsed with zod', async () => {
    const format = zodOutputFormat(answer);
    const { done, server } = await whole([reply.message({ content: looking('a') }), reply.text('{"city":"Bern","degrees":12}')], {
      output_config: { format },
    });
    expect(format.parse(done.text)).toEqual({ city: 'Bern', degrees: 12 });
    for (const { body } of server.requests)
      expect(body).toMatchObject({ output_config: { format: { type: 'json_schema', schema: { required: ['city', 'degrees'] } } } });
  });

  it('cut off by max_tokens or refused: the stop reason tells, before anybody parses', async () => {
    const format = zodOutputFormat(answer);
    const output_config = { format };
    const { done } = await whole([reply.text('{"city":"Bern","degrees":12}', { fault: cut(15) })], { output_config });
    expect(done.stop).toBe('max_tokens');
    expect(() => format.parse(done.text)).toThrow();
    expect((await whole([message('refusal', said('no'))], { output_config })).done.stop).toBe('refusal');
  });

  it('as a tool: an input that does not fit is answered, and the model corrects it', async () => {
    const given: unknown[] = [];
    const finish = tool({ name: 'finish', description: 'the answer', input: answer, run: (input) => void given.push(input) });
    const call = (input: object) => reply.toolUse([{ name: 'finish', input }]);
    const script = [call({ city: 'Bern' }), call({ city: 'Bern', degrees: 12 }), reply.text('done')];
    const { done, sent } = await whole(script, { tools: [finish], tool_choice: { type: 'auto' } });
    expect(done.stop).toBe('end_turn');
    expect(given).toEqual([{ city: 'Bern', degrees: 12 }]);
    expect(sent[1]?.at(-1)?.content).toMatchObject([{ is_error: true, content: expect.stringContaining('degrees') as string }]);
  });
});
