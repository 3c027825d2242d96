import { filter, from, lastValueFrom, mergeMap, reduce } from 'rxjs';
import { fanOutScoped, FleetBudget, Semaphore, type PriceTable, type Scope } from 'rxfleet';
import { agent, modelGuard, tool, type AgentDone, type UsageRecord } from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply, type MessagesServer, type Script } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start, watchProcess } from './harness.js';

const AGENTS = 1_000;
const SOCKETS = 64;
/** What an agent that waits may keep alive, generously. */
const MOST_KB = 100;

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

async function heap(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    void globalThis.gc!();
    await sleep(10);
  }
  return process.memoryUsage().heapUsed;
}

const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 };
const prices: PriceTable = { 'claude-test': rates };

const look = tool({
  name: 'look',
  description: 'looks',
  effect: 'none',
  input: z.object({ at: z.number() }),
  run: async ({ at }) => {
    await sleep(1);
    return at;
  },
});

/** Two turns: a call, and an answer with what it gave. */
const script: Script = (request) => {
  const [seen] = lastToolResults(request);
  const n = Number((request.messages[0]?.content as string).replace('agent ', ''));
  return seen === undefined ? reply.toolUse([{ name: 'look', input: { at: n } }]) : reply.text(`saw ${seen.text}`);
};

const expectNothingOpen = async (server: MessagesServer): Promise<void> => {
  await server.whenIdle();
  expect(server.stats()).toMatchObject({ open: 0, scriptErrors: 0 });
};

describe('a thousand agents at once in one process', () => {
  it('end with a right answer each, over a bounded number of sockets, and settle what they have spent', async () => {
    const { client, server } = await start(script, { logSize: 10, pace: { headersMs: 40 } });
    const semaphore = new Semaphore({ name: 'sockets', limit: SOCKETS });
    const budget = new FleetBudget({ name: 'fleet', usd: '100', calls: 'unbounded' });
    const polite = modelGuard({ semaphore, budget, prices });
    const records: UsageRecord[] = [];
    const usage = { next: (record: UsageRecord) => void records.push(record) };
    const begun = performance.now();
    const done = await lastValueFrom(
      from(Array.from({ length: AGENTS }, (_, n) => n)).pipe(
        fanOutScoped(
          (n, _index, ctx) =>
            agent({
              client,
              ...ask,
              messages: [{ role: 'user', content: `agent ${n}` }],
              tools: [look],
              modelGuard: polite,
              usage,
              within: ctx,
            }).pipe(
              filter((event): event is AgentDone => event.type === 'done'),
              mergeMap(({ text, turns }) => [{ n, text, turns }]),
            ),
          { concurrency: AGENTS },
        ),
        reduce((all: { n: number; text: string; turns: number }[], each) => [...all, each], []),
      ),
    );
    const ms = performance.now() - begun;
    expect(done).toHaveLength(AGENTS);
    for (const { n, text, turns } of done) expect([text, turns]).toEqual([`saw ${n}`, 2]);
    await expectNothingOpen(server);
    const { requests, completed, maxOpen, closedByClient } = server.stats();
    expect({ requests, completed, closedByClient }).toEqual({ requests: 2 * AGENTS, completed: 2 * AGENTS, closedByClient: 0 });
    expect(maxOpen).toBe(SOCKETS);
    expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    const spent = records.map(({ inputTokens, outputTokens: { floor } }) => inputTokens + 5 * floor).reduce((a, b) => a + b, 0);
    expect(records).toHaveLength(2 * AGENTS);
    expect(budget.snapshot()).toMatchObject({
      inFlight: 0,
      waiting: 0,
      microUsd: { spent, reserved: 0, uncertain: 0 },
      calls: { spent: 2 * AGENTS },
    });
    console.log(`${AGENTS} agents of two turns in ${Math.round(ms)} ms, at most ${maxOpen} requests open`);
    expect(ms).toBeLessThan(30_000);
  }, 60_000);

  it('stopped in the middle leave nothing open, and cost a bounded piece of memory each while they run', async () => {
    const { client, server } = await start(() => reply.text('hello', { fault: { kind: 'stall', after: 2 } }), { logSize: 10 });
    const semaphore = new Semaphore({ name: 'sockets', limit: SOCKETS });
    const budget = new FleetBudget({ name: 'fleet', usd: '100' });
    const polite = modelGuard({ semaphore, budget, prices });
    const warm = agent({ client, ...ask, tools: [look], modelGuard: polite }).subscribe();
    await server.when(({ open }) => open === 1);
    warm.unsubscribe();
    await server.whenIdle();
    const before = await heap();
    const scopes: Scope[] = [];
    const running = Array.from({ length: AGENTS }, (_, n) =>
      agent({
        ...{ client, ...ask, messages: [{ role: 'user' as const, content: `agent ${n}` }], tools: [look], modelGuard: polite },
        onScope: (scope) => scopes.push(scope),
      }).subscribe(),
    );
    await server.when(({ open }) => open === SOCKETS);
    expect(semaphore.snapshot()).toMatchObject({ inUse: SOCKETS, waiting: AGENTS - SOCKETS });
    const kb = ((await heap()) - before) / AGENTS / 1024;
    for (const each of running) each.unsubscribe();
    const reports = await Promise.all(scopes.map(({ closed }) => closed));
    expect(reports.every(({ abandoned, errors }) => abandoned.length + errors.length === 0)).toBe(true);
    await expectNothingOpen(server);
    expect(server.stats().closedByClient).toBe(SOCKETS + 1);
    expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    expect(budget.snapshot()).toMatchObject({ inFlight: 0, microUsd: { reserved: 0 } });
    running.length = scopes.length = reports.length = 0;
    const left = ((await heap()) - before) / AGENTS / 1024;
    console.log(`${AGENTS} agents, ${SOCKETS} of them at the model: ${kb.toFixed(1)} KB of heap each; ${left.toFixed(1)} KB afterwards`);
    expect(kb).toBeLessThan(MOST_KB);
    expect(left).toBeLessThan(5);
  }, 60_000);
});
