import { FleetBudget, fleetBudget } from 'rxfleet';
import { message, messageStream, modelGuard, type UsageRecord } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start } from './harness.js';

const params = { ...ask, model: 'claude-opus-4-5' };

it.each([
  ['before its headers', 60],
  ['while it is written', 0],
])('a request that is left %s is read to its end, and the budget settles with what it used', async (_, headersMs) => {
  const { client, server } = await start([reply.text('a reply of some words', { pace: { headersMs, eventMs: 5 } })]);
  const records: UsageRecord[] = [];
  const budget = new FleetBudget({ name: 'fleet', usd: '5' });
  const request = {
    guard: modelGuard({ budget }),
    onCancel: 'drain',
    usage: { next: (record: UsageRecord) => void records.push(record) },
  } as const;
  const running = messageStream(client, params, request).subscribe();
  await sleep(25);
  running.unsubscribe();
  await expect.poll(() => records).toMatchObject([{ phase: 'final', exact: true }]);
  expect(records[0]?.outputTokens.floor).toBeGreaterThan(1);
  await expect.poll(() => budget.snapshot().microUsd).toMatchObject({ reserved: 0, uncertain: 0 });
  expect(budget.snapshot().tokens.spent).toBe((records[0]?.inputTokens ?? 0) + (records[0]?.outputTokens.floor ?? 0));
  await server.whenIdle();
  expect(server.stats()).toMatchObject({ requests: 1, open: 0 });
  expectNoOpenScopes();
});

it('a request that is left and then refused costs nothing', async () => {
  const { client, server } = await start([reply.error(529, { pace: { headersMs: 50 } })]);
  const records: UsageRecord[] = [];
  const budget = new FleetBudget({ name: 'fleet', usd: '5' });
  const usage = { next: (record: UsageRecord) => void records.push(record) };
  const running = messageStream(client, params, { guard: modelGuard({ budget }), onCancel: 'drain', usage }).subscribe();
  await sleep(20);
  running.unsubscribe();
  await expect.poll(() => records).toMatchObject([{ phase: 'failed', exact: true }]);
  await expect.poll(() => budget.snapshot().microUsd).toMatchObject({ reserved: 0, uncertain: 0, spent: 0 });
  await server.whenIdle();
});

it('a request that was not sent is not sent for that', async () => {
  const { client, server } = await start([reply.text('never')]);
  const records: UsageRecord[] = [];
  const running = messageStream(client, params, { onCancel: 'drain', usage: { next: (record) => void records.push(record) } }).subscribe();
  running.unsubscribe();
  await sleep(30);
  expect(records).toMatchObject([{ phase: 'never-sent', exact: true }]);
  expect(server.stats().requests).toBe(0);
});

it('a reply with an output is one piece of work for the gates in front of it: never sent, it costs nothing', async () => {
  const { client } = await start([reply.text('{"a":1}')]);
  const budget = new FleetBudget({ name: 'fleet', usd: '1' });
  message(client, params, { output: z.object({ a: z.number() }) })
    .pipe(fleetBudget(budget, { estimate: { microUsd: 10_000 } }))
    .subscribe()
    .unsubscribe();
  await expect.poll(() => budget.snapshot().microUsd).toMatchObject({ spent: 0, reserved: 0, uncertain: 0 });
});
