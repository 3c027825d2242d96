import { lastValueFrom } from 'rxjs';
import { agent, conversation, tool } from 'rxfleet/agents';
import { lastToolResults, reply, type MessagesRequest } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, start } from './harness.js';

const add = tool({ name: 'add', description: 'adds', effect: 'none', input: z.object({}), run: () => 3 });

describe('the container of code that the model runs', () => {
  const within = (expires_at: string) => (request: MessagesRequest) =>
    lastToolResults(request).length > 0
      ? reply.text('done')
      : reply.message({
          content: [{ type: 'tool_use', id: 'toolu_1', name: 'add', input: {} }],
          stop_reason: 'tool_use',
          container: { id: 'container_7', expires_at },
        } as never);

  it.each([
    [
      'goes back with the next request, and with later agents of the conversation',
      '2999-01-01T00:00:00Z',
      [undefined, 'container_7', 'container_7'],
    ],
    ['does not once it has expired', '2001-01-01T00:00:00Z', [undefined, undefined, undefined]],
  ])('%s', async (_, expires, expected) => {
    const seen: unknown[] = [];
    const script = within(expires);
    const { client } = await start((request) => {
      seen.push(request.container);
      return script(request);
    });
    const chat = conversation([hello]);
    await lastValueFrom(agent({ client, ...ask, messages: chat, tools: [add] }));
    chat.add(hello);
    await lastValueFrom(agent({ client, ...ask, messages: chat, maxTurns: 1 }));
    expect(seen).toEqual(expected);
  });

  it('one that was asked for stays', async () => {
    const seen: unknown[] = [];
    const { client } = await start((request) => {
      seen.push(request.container);
      return within('2999-01-01T00:00:00Z')(request);
    });
    await lastValueFrom(agent({ client, ...ask, container: 'mine', tools: [add] }));
    expect(seen).toEqual(['mine', 'mine']);
  });
});
