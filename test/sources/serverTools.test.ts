import { lastValueFrom, toArray } from 'rxjs';
import { agent, conversation, repairHistory, tool, type AgentDone } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type Reply, type ReplyBlock } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess, type MessageParam } from './harness.js';

let quiet: () => void;
beforeEach(() => void (quiet = watchProcess()));
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

const echo = tool({ name: 'echo', description: 'echoes', effect: 'none', input: z.object({ text: z.string() }), run: ({ text }) => text });
const code = { type: 'server_tool_use', id: 'srvtoolu_1', name: 'code_execution', input: { code: 'echo()' }, caller: { type: 'direct' } };
const caller = { type: 'code_execution_20250825', tool_id: 'srvtoolu_1' };
const ours = (id: string, text: string) => ({ type: 'tool_use', id, name: 'echo', input: { text }, caller });
const ran = {
  type: 'code_execution_tool_result',
  tool_use_id: 'srvtoolu_1',
  content: { type: 'code_execution_result', stdout: 'x', stderr: '', return_code: 0, content: [] },
};
const said = (text: string) => ({ type: 'text', text });
const replied = (stop_reason: 'tool_use' | 'max_tokens', ...content: unknown[]): Reply =>
  reply.message({ content: content as ReplyBlock[], stop_reason });

describe('code of the API that calls tools of ours', () => {
  it('its call goes back with our results until its own result is there', async () => {
    const { client, server } = await start([
      replied('tool_use', said('I run it.'), code, ours('toolu_1', 'x')),
      replied('tool_use', ours('toolu_2', 'y')),
      replied('tool_use', ran, said('and once more'), { type: 'tool_use', id: 'toolu_3', name: 'echo', input: { text: 'z' } }),
      reply.text('done'),
    ]);
    const chat = conversation([hello]);
    const events = await lastValueFrom(agent({ client, ...ask, messages: chat, tools: [echo] }).pipe(toArray()));
    expect(events.at(-1) as AgentDone).toMatchObject({ stop: 'end_turn', turns: 4 });
    const sent = server.requests.map(({ body }) => (body as { messages: MessageParam[] }).messages);
    expect(sent[1]?.[1]?.content).toMatchObject([said('I run it.'), code, ours('toolu_1', 'x')]);
    expect(sent[1]?.[2]?.content).toEqual([{ type: 'tool_result', tool_use_id: 'toolu_1', content: 'x' }]);
    expect(sent[3]?.slice(0, 3)).toEqual(sent[1]);
    expect(sent[3]?.[5]?.content).toMatchObject([ran, said('and once more'), { id: 'toolu_3' }]);
    for (const messages of [...sent, chat.messages]) {
      const { repairs, messages: same } = repairHistory(messages);
      expect(repairs).toEqual([]);
      same.forEach((each, i) => expect(each).toBe(messages[i]));
    }
  });

  it('a reply that was cut off has neither its call nor a caller of that name', async () => {
    const { client } = await start([replied('max_tokens', said('I run it.'), ours('toolu_1', 'x'), code), reply.text('done')]);
    const done = await lastValueFrom(agent({ client, ...ask, tools: [echo] }));
    const history = (done as AgentDone).history;
    expect(JSON.stringify(history)).not.toContain('srvtoolu_1');
    await client.messages.countTokens({ model: 'm', messages: [...history, hello] });
  });
});

describe('ids that the API would not take back', () => {
  it.each(['functions.echo:0', '', 'ü'])('%j: the call runs, and goes on under an id of its own', async (id) => {
    const echo = tool({ name: 'echo', description: '', input: z.object({}), run: () => 'ok' });
    const { client } = await start((request) =>
      lastToolResults(request).length > 0
        ? reply.text('done')
        : reply.message({ content: [{ type: 'tool_use', id, name: 'echo', input: {} }] }),
    );
    const end = await lastValueFrom(agent({ client, ...ask, tools: [echo] }));
    expect(end).toMatchObject({ type: 'done', text: 'done' });
  });
});
