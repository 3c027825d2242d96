import { lastValueFrom, Observable, take, toArray } from 'rxjs';
import { FleetBudget, type Scope } from 'rxfleet';
import {
  agent,
  conversation,
  modelGuard,
  tool,
  turn,
  VersionConflictError,
  type AgentOptions,
  type AnyTool,
  type UsageRecord,
} from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

const input = z.object({});
const after = (ms: number): Observable<string> =>
  new Observable((out) => {
    const timer = setTimeout(() => {
      out.next('x');
      out.complete();
    }, ms);
    return () => clearTimeout(timer);
  });
const RUNS = { 'a promise': () => sleep(3).then(() => 'x'), 'a value': () => 'x', 'an Observable': () => after(3) };
const LIMITS: Record<string, Partial<AgentOptions>> = {
  none: {},
  tool: { timeouts: { tool: 300 } },
  all: { timeouts: { tool: 200, group: 300, turn: 1_000, workflow: 2_000 } },
};

describe('a listener that leaves at an event of a tool that has looked at its signal', () => {
  const cases = (['none', 'unsafe'] as const).flatMap((effect) =>
    Object.keys(RUNS).flatMap((run) => Object.keys(LIMITS).map((limits) => [effect, run, limits] as const)),
  );

  it.each(cases)('effect %s, %s, limits: %s: everything is stopped, and the conversation is free', async (effect, run, limits) => {
    for (const at of ['started', 'result'] as const) {
      let stopped = 0;
      const quick = tool({
        name: 'quick',
        description: '',
        effect,
        input,
        run: (_input, { signal }) => {
          signal.addEventListener('abort', () => {});
          return RUNS[run as keyof typeof RUNS]();
        },
      });
      const other = tool({
        name: 'other',
        description: '',
        effect,
        input,
        run: (_input, { signal }) =>
          new Promise((_, reject) => signal.addEventListener('abort', () => reject((stopped++, signal.reason) as Error))),
      });
      const { client, server } = await start([reply.toolUse(['other', 'quick'].map((name) => ({ name, input: {} })))]);
      const chat = conversation([hello]);
      let scope: Scope | undefined;
      await new Promise<void>((resolve) => {
        const running = agent({
          client,
          ...ask,
          ...LIMITS[limits],
          messages: chat,
          tools: [quick, other],
          onScope: (each) => (scope = each),
        }).subscribe((event) => {
          if (event.type !== 'tool' || event.event.name !== 'quick' || event.event.type !== at) return;
          running.unsubscribe();
          resolve();
        });
      });
      await scope?.closed;
      expect([stopped, chat.busy]).toEqual([1, false]);
      expectNoOpenScopes();
      await server.whenIdle();
    }
  });
});

describe('what a sloppy endpoint sends', () => {
  const echo: AnyTool = tool({ name: 'echo', description: '', effect: 'none', input, run: () => 'ok' });

  it.each([
    ['a call without an id', { type: 'tool_use', name: 'echo', input: {} }],
    ['a call without a name', { type: 'tool_use', id: 'toolu_1', input: {} }],
  ])('%s is a malformed reply, told as an error', async (_, block) => {
    const { server } = await start([]);
    const events = [
      {
        type: 'message_start',
        message: {
          id: 'm',
          type: 'message',
          role: 'assistant',
          model: 'x',
          content: [],
          stop_reason: null,
          usage: { input_tokens: 1, output_tokens: 1 },
        },
      },
      { type: 'content_block_start', index: 0, content_block: block },
      { type: 'content_block_stop', index: 0 },
      { type: 'message_delta', delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 2 } },
      { type: 'message_stop' },
    ];
    const client = {
      messages: {
        create: () => ({ withResponse: () => Promise.resolve({ data: stream(events), response: new Response(), request_id: 'r' }) }),
      },
    };
    await expect(lastValueFrom(agent({ client: client as never, ...ask, tools: [echo] }))).rejects.toMatchObject({
      name: 'ModelStreamError',
      type: 'malformed_stream',
    });
    const far = {
      messages: {
        create: () => ({
          withResponse: () =>
            Promise.resolve({
              data: stream([events[0], { ...events[1], index: 400_000_000, content_block: { type: 'text', text: '' } }]),
              response: new Response(),
              request_id: 'r',
            }),
        }),
      },
    };
    await expect(lastValueFrom(agent({ client: far as never, ...ask }))).rejects.toMatchObject({ type: 'malformed_stream' });
    const nothing = {
      messages: {
        create: () => ({ withResponse: () => Promise.resolve({ data: stream([null]), response: new Response(), request_id: 'r' }) }),
      },
    };
    await expect(lastValueFrom(agent({ client: nothing as never, ...ask }))).rejects.toMatchObject({ type: 'malformed_stream' });
    expect(server.stats().requests).toBe(0);
  });

  it.each(['', 'x'.repeat(300)])('a tool name of %j is answered, and does not spoil the history', async (name) => {
    const { client } = await start((request) =>
      lastToolResults(request).length > 0 ? reply.text('done') : reply.toolUse([{ name, input: {} }]),
    );
    expect(await lastValueFrom(agent({ client, ...ask, tools: [echo] }))).toMatchObject({ text: 'done' });
  });
});

async function* stream(events: readonly unknown[]): AsyncGenerator {
  for (const event of events) yield await Promise.resolve(event);
}

describe('a turn of its own', () => {
  it('hands its gates down to an agent in one of its tools', async () => {
    const { client } = await start((request) =>
      request.messages[0]?.content === 'below' ? reply.text('x') : reply.toolUse([{ name: 'delegate', input: {} }]),
    );
    const params = { ...ask, client, model: 'claude-opus-4-5' };
    const delegate = tool({
      name: 'delegate',
      description: '',
      input,
      run: (_input, { scope }) => agent({ ...params, messages: [{ role: 'user', content: 'below' }], within: scope }),
    });
    const budget = new FleetBudget({ name: 'fleet', usd: '5' });
    const records: UsageRecord[] = [];
    await lastValueFrom(
      turn({ ...params, tools: [delegate], modelGuard: modelGuard({ budget }), usage: { next: (record) => void records.push(record) } }),
    );
    expect([budget.snapshot().calls.spent, records.length]).toEqual([2, 2]);
  });

  it('failFast does not fail for a conflict, which the model has to decide', async () => {
    const write = tool({
      name: 'write',
      description: '',
      input,
      run: () => {
        throw new VersionConflictError(1, 2, 'theirs');
      },
    });
    const { client } = await start([reply.toolUse([{ name: 'write', input: {} }])]);
    const events = await lastValueFrom(turn({ client, ...ask, tools: [write], onToolError: 'failFast' }).pipe(toArray()));
    expect(events.at(-1)).toMatchObject({ type: 'turn', results: [{ is_error: true }] });
    await lastValueFrom(turn({ client, ...ask, tools: [write] }).pipe(take(1))).catch(() => undefined);
  });
});
