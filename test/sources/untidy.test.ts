import { lastValueFrom, toArray } from 'rxjs';
import type { Scope, ScopeFailure } from 'rxfleet';
import { agent, isStreamTruncatedError, tool, type AgentEvent, type AgentOptions, type AnyTool } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
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

const make = (name: string, run: (signal: AbortSignal, scope: Scope) => unknown): AnyTool =>
  tool({ name, description: '', effect: 'none', input: z.object({}), run: (_input, { signal, scope }) => run(signal, scope) });

/** Rejects with an error of its own when it is stopped, as drivers and child processes do. */
const rejecting = make(
  'odd',
  (signal) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => setTimeout(() => reject(new Error('connection terminated')), 2))),
);
/** Its `return()` fails. */
const iterating = make('odd', () => ({
  [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: () => Promise.reject(new Error('connection terminated')) }),
}));

type Client = Awaited<ReturnType<typeof start>>['client'];
async function run(client: Client, options: Partial<AgentOptions>) {
  const scopes: Scope[] = [];
  const unhandled: (readonly ScopeFailure[])[] = [];
  const all = agent({
    client,
    ...ask,
    ...options,
    onScope: (scope) => scopes.push(scope),
    onUnhandled: (errors) => unhandled.push(errors),
  });
  const end = await lastValueFrom(all.pipe(toArray())).catch((error: unknown) => error);
  const { late } = await scopes[0]!.closed;
  return { end, late: late.map((each) => each.status === 'failed' && (each.reason as Error).message), unhandled };
}

describe.each([
  ['rejects when it is stopped', rejecting],
  ['fails in its cleanup', iterating],
])('a tool that %s', (_, odd) => {
  const once = (request: Parameters<typeof lastToolResults>[0]) =>
    lastToolResults(request).length > 0 ? reply.text('so be it') : reply.toolUse([{ name: 'odd', input: {} }]);

  it.each([{ group: 20 }, { tool: 20 }, { tool: 20, group: 200, turn: 400 }])(
    'does not end the agent when a limit %j stops it',
    async (timeouts) => {
      const { client } = await start(once);
      const { end } = await run(client, { tools: [odd], timeouts });
      expect((end as AgentEvent[]).at(-1)).toMatchObject({ type: 'done', text: 'so be it' });
    },
  );

  it('does not when its reply is refused', async () => {
    const { client } = await start([
      {
        ...reply.toolUse(
          [
            { name: 'odd', input: {} },
            { name: 'odd', input: {} },
          ],
          { pace: { eventMs: 10 } },
        ),
        stop_reason: 'refusal',
      },
    ]);
    const { end, late } = await run(client, { tools: [odd] });
    expect((end as AgentEvent[]).at(-1)).toMatchObject({ type: 'done', stop: 'refusal' });
    expect(late).toEqual(['connection terminated']);
  });

  it('leaves the error of the model, of another tool, and of a limit as it is', async () => {
    const broken = await start([
      reply.toolUse(
        [
          { name: 'odd', input: {} },
          { name: 'odd', input: {} },
        ],
        { pace: { eventMs: 10 }, fault: { kind: 'fin', after: 8 } },
      ),
    ]);
    const first = await run(broken.client, { tools: [odd] });
    expect(isStreamTruncatedError(first.end)).toBe(true);
    expect(first.late).toEqual(['connection terminated']);
    const boom = make('boom', async () => {
      await sleep(10);
      throw new Error('boom');
    });
    const both = await start([
      reply.toolUse([
        { name: 'odd', input: {} },
        { name: 'boom', input: {} },
      ]),
    ]);
    expect(((await run(both.client, { tools: [odd, boom], onToolError: 'failFast' })).end as Error).message).toBe('boom');
    const { client } = await start(once);
    expect(((await run(client, { tools: [odd], timeouts: { turn: 30 } })).end as Error).name).toBe('DeadlineExceededError');
  });

  it('is told to `onUnhandled` when the agent is left', async () => {
    const { client } = await start(once);
    const unhandled: unknown[] = [];
    const scopes: Scope[] = [];
    await new Promise<void>((resolve) => {
      const running = agent({
        client,
        ...ask,
        tools: [odd],
        onScope: (scope) => scopes.push(scope),
        onUnhandled: (errors) => unhandled.push(...errors.map(({ error }) => (error as Error).message)),
      }).subscribe((event) => {
        if (event.type !== 'tool' || event.event.type !== 'started') return;
        setTimeout(() => {
          running.unsubscribe();
          resolve();
        }, 5);
      });
    });
    await scopes[0]!.closed;
    expect(unhandled).toEqual(['connection terminated']);
  });
});
