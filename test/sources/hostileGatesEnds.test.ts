import { EMPTY, lastValueFrom, of, Subject, takeUntil, tap, throwError, timer, toArray } from 'rxjs';
import {
  ApprovalGate,
  CircuitBreaker,
  FleetBudget,
  guard,
  RetryGate,
  retryThrough,
  Semaphore,
  TokenBucket,
  type PriceTable,
} from 'rxfleet';
import {
  agent,
  conversation,
  message,
  messageStream,
  modelGuard,
  tool,
  type AgentEvent,
  type ToolRequest,
  type UsageRecord,
} from 'rxfleet/agents';
import { expectNoOpenScopes, reply, type Fault } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, hello, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  await sleep(20);
  expectNoOpenScopes();
  quiet();
});

const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 100_000, cacheWrite5m: 1_250_000, cacheWrite1h: 2_000_000 };
const prices: PriceTable = { 'claude-test': rates };
const record = (): { seen: UsageRecord[]; usage: { next: (each: UsageRecord) => void } } => {
  const seen: UsageRecord[] = [];
  return { seen, usage: { next: (each) => void seen.push(each) } };
};

describe('UsageRecord: exactly one for each HTTP attempt', () => {
  const faults: readonly (Fault | undefined)[] = [
    undefined,
    { kind: 'fin', after: 'request' },
    { kind: 'fin', after: 'headers' },
    { kind: 'fin', after: 2 },
    { kind: 'reset', after: 'headers' },
    { kind: 'reset', after: 4 },
    { kind: 'error', after: 3 },
    { kind: 'error', after: 'request' },
    { kind: 'max_tokens' },
    { kind: 'stall', after: 'request' },
    { kind: 'stall', after: 'headers' },
    { kind: 'stall', after: 3 },
    { kind: 'fin', after: 99 },
  ];
  const cases = faults.flatMap((fault) =>
    (['abort', 'drain'] as const).map((onCancel) => [JSON.stringify(fault) ?? 'no fault', onCancel, fault] as const),
  );

  it.each(cases)('%s, %s: whenever its reader leaves, and nothing stays reserved', async (_, onCancel, fault) => {
    const budget = new FleetBudget({ name: 'fleet', usd: '10' });
    const polite = modelGuard({ budget, prices });
    const { client, server } = await start(() => reply.text('hello there, you', { pace: { eventMs: 4 }, ...(fault && { fault }) }));
    const { seen, usage } = record();
    const leaves = [0, 1, 6, 14, 22, 60, 90];
    const options = { usage, onCancel, guard: polite, headersMs: 70, idleMs: 70 };
    const done = (): Promise<unknown> => Promise.resolve();
    await Promise.all(
      leaves.flatMap((ms) => [
        lastValueFrom(messageStream(client, ask, options).pipe(takeUntil(timer(ms)), toArray())).catch(done),
        lastValueFrom(message(client, ask, options).pipe(takeUntil(timer(ms)), toArray())).catch(done),
      ]),
    );
    await sleep(120);
    expect(seen.length).toBe(leaves.length * 2);
    expect(server.stats().requests).toBeLessThanOrEqual(seen.length);
    for (const { exact, outputTokens, phase } of seen) {
      expect(outputTokens.floor).toBeLessThanOrEqual(outputTokens.estimate);
      expect(outputTokens.estimate).toBeLessThanOrEqual(outputTokens.ceiling);
      expect(exact).toBe(phase === 'final' || outputTokens.ceiling === 0);
    }
    expect(budget.snapshot()).toMatchObject({ inFlight: 0, microUsd: { reserved: 0 } });
    expect(server.stats().open).toBe(0);
  });
});

describe('inbox$ at every moment', () => {
  const echo = tool({ name: 'echo', description: 'd', input: z.object({}), effect: 'none', run: () => sleep(5).then(() => 'ok') });
  const script = (request: { readonly messages: readonly unknown[] }) => {
    const said = JSON.stringify(request.messages);
    return said.includes('tool_result')
      ? reply.text('bye')
      : reply.toolUse([{ name: 'echo', input: {} }], { text: 'let me see', pace: { eventMs: 2 } });
  };
  const moments: readonly ((event: AgentEvent) => boolean)[] = [
    ({ type }) => type === 'model',
    ({ type }) => type === 'text',
    (event) => event.type === 'tool' && event.event.type === 'started',
    (event) => event.type === 'tool' && event.event.type === 'result',
    (event) => event.type === 'turn' && event.turn === 1,
    (event) => event.type === 'turn' && !event.continues,
    ({ type }) => type === 'message',
    ({ type }) => type === 'done',
  ];

  it.each(moments.map((moment, i) => [i, moment] as const))('nothing is lost or said twice, moment %i', async (i, moment) => {
    const { client, server } = await start(script);
    const inbox$ = new Subject<string>();
    let sent = 0;
    const events = await lastValueFrom(
      agent({ ...ask, client, tools: [echo], inbox$ }).pipe(
        tap((event) => {
          if (sent < 3 && moment(event)) inbox$.next(`said ${++sent}`);
        }),
        toArray(),
      ),
    );
    const end = events.at(-1) as AgentEvent & { type: 'done' };
    const joined = events.flatMap((event) => (event.type === 'message' ? [event.content] : []));
    const all = Array.from({ length: sent }, (_, n) => `said ${n + 1}`);
    if (i === 6) expect(sent).toBe(0);
    else if (i < 7) expect([...joined, ...end.unread]).toEqual(all);
    expect(end.history.filter(({ content }) => typeof content === 'string' && content.startsWith('said'))).toHaveLength(joined.length);
    await client.messages.countTokens({ model: 'm', messages: [...end.history, hello] });
    expect(inbox$.observed).toBe(false);
    expect(server.stats().open).toBe(0);
  });

  it('what is there from the beginning, an end, and an error in the middle of an early tool', async () => {
    const { client } = await start(script);
    const base = { ...ask, client, tools: [echo] };
    const all = await lastValueFrom(agent({ ...base, inbox$: of('one', 'two') }).pipe(toArray()));
    expect(all.flatMap((event) => (event.type === 'message' ? [event.content] : []))).toEqual(['one', 'two']);
    expect(await lastValueFrom(agent({ ...base, inbox$: EMPTY }))).toMatchObject({ type: 'done', unread: [] });
    await expect(lastValueFrom(agent({ ...base, inbox$: throwError(() => new Error('mine')) }))).rejects.toThrow('mine');
    const late = new Subject<string>();
    const chat = conversation([hello]);
    await expect(
      lastValueFrom(
        agent({ ...base, messages: chat, inbox$: late }).pipe(
          tap((event) => {
            if (event.type === 'tool' && event.event.type === 'started') late.error(new Error('broken'));
          }),
        ),
      ),
    ).rejects.toThrow('broken');
    expect(chat.busy).toBe(false);
    await client.messages.countTokens({ model: 'm', messages: [...chat.messages, hello] });
  });
});

describe('gates around an agent', () => {
  const calls = (names: readonly string[]) => names.map((name, i) => ({ name, input: { n: i } }));
  const input = z.object({ n: z.number() });

  it('a budget that is passed in the middle of a reply stops it and its early tools; what was spent is in the books', async () => {
    const budget = new FleetBudget({ name: 'fleet', microUsd: 2_000 });
    const stopped: string[] = [];
    const slow = tool({
      name: 'slow',
      description: 'd',
      input,
      effect: 'none',
      run: (_, { signal }) =>
        new Promise<string>((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            stopped.push('slow');
            reject(signal.reason as Error);
          });
        }),
    });
    const { client } = await start([
      { ...reply.toolUse(calls(['slow', 'slow']), { pace: { eventMs: 5 } }), usage: { output_tokens: 5_000 } },
    ]);
    const chat = conversation([hello]);
    const running = agent({ ...ask, client, messages: chat, tools: [slow], modelGuard: modelGuard({ budget, prices }) });
    await expect(lastValueFrom(running)).rejects.toMatchObject({ code: 'BUDGET_EXCEEDED' });
    expect(stopped.length).toBeGreaterThan(0);
    expect(chat.messages).toEqual([hello]);
    const { microUsd, inFlight } = budget.snapshot();
    expect(inFlight).toBe(0);
    expect(microUsd.reserved).toBe(0);
    expect(microUsd.spent).toBeGreaterThanOrEqual(25_000);
    expect(microUsd.overrun).toBeGreaterThan(0);
  });

  it('two agents under one breaker, semaphore and approval desk: denied, expired, edited badly, tripped: every call is answered, nothing is held', async () => {
    const approvals = new ApprovalGate({ name: 'desk', expiresMs: 60 });
    const breaker = new CircuitBreaker({ name: 'tools', failures: 2, openMs: 20 });
    const semaphore = new Semaphore({ name: 'slots', limit: 2 });
    const bucket = new TokenBucket({ name: 'pace', capacity: 2, refill: { tokens: 1, everyMs: 3 } });
    const retry = new RetryGate({ name: 'again', baseMs: 1 });
    const toolGuard = guard<ToolRequest>({ breaker, semaphore, bucket, retry });
    const bad = tool({ name: 'bad', description: 'd', input, run: () => Promise.reject(new Error('down')) });
    const flaky = tool({
      name: 'flaky',
      description: 'd',
      input,
      run: ({ n }, { attempt }) => {
        if (attempt === 1) throw Object.assign(new Error('later'), { status: 503 });
        return `got ${n}`;
      },
    });
    const risky = tool({ name: 'risky', description: 'd', input, needsApproval: true, run: ({ n }) => `did ${n}` });
    const deaf = tool({ name: 'deaf', description: 'd', input, timeoutMs: 20, graceMs: 20, run: () => sleep(80) });
    const script = (request: { readonly messages: readonly { readonly role: string }[] }) =>
      request.messages.length > 4 ? reply.text('bye') : reply.toolUse(calls(['bad', 'risky', 'flaky', 'deaf', 'risky', 'bad']));
    const { client } = await start(script);
    let asked = 0;
    approvals.events$.subscribe((event) => {
      if (event.type !== 'approval' || event.outcome !== 'asked') return;
      const n = asked++;
      setTimeout(() => {
        if (n % 4 === 0) approvals.approve(event.id);
        if (n % 4 === 1) approvals.deny(event.id, 'no');
        if (n % 4 === 2) {
          expect(() => approvals.approve(event.id, { input: { n: 'x' } })).toThrow();
          approvals.approve(event.id, { input: { n: 7 } });
        }
      }, 5);
    });
    const one = (name: string) =>
      lastValueFrom(agent({ ...ask, client, name, tools: [bad, flaky, risky, deaf], approvals, toolGuard }).pipe(toArray()));
    const both = await Promise.all([one('ann'), one('bob')]);
    for (const events of both) {
      const end = events.at(-1) as AgentEvent & { type: 'done' };
      expect(end.text).toBe('bye');
      await client.messages.countTokens({ model: 'm', messages: [...end.history, hello] });
      const ids = events.flatMap((event) =>
        event.type === 'tool' && ['result', 'failed', 'cancelled'].includes(event.event.type) ? [event.event.id] : [],
      );
      expect(new Set(ids).size).toBe(ids.length);
      expect(ids).toHaveLength(12);
    }
    await sleep(100);
    expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    expect(bucket.snapshot()).toMatchObject({ inFlight: 0, waiting: 0 });
    expect(retry.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, backingOff: 0 });
    expect(breaker.snapshot()).toMatchObject({ inFlight: 0 });
    expect(approvals.snapshot()).toMatchObject({ pending: [] });
  }, 15_000);

  it('a retried request that was partly paid: of the first attempt nothing counts in the second', async () => {
    const budget = new FleetBudget({ name: 'fleet', usd: '10' });
    const again = retryThrough<unknown>(new RetryGate({ name: 'again', baseMs: 1 }), { retryPartial: true });
    const cached = { cache_read_input_tokens: 100_000, input_tokens: 10 };
    const { client } = await start([
      { ...reply.text('first', { fault: { kind: 'fin', after: 3 } }), usage: cached },
      { ...reply.text('second'), usage: { ...cached, cache_read_input_tokens: null, output_tokens: 10 } },
    ]);
    const seen: number[] = [];
    budget.events$.subscribe(({ type }) => type === 'settled' && seen.push(budget.snapshot().microUsd.spent));
    await lastValueFrom(messageStream(client, ask, { guard: modelGuard({ budget, prices }) }).pipe(again));
    expect(seen).toHaveLength(2);
    expect((seen[1] as number) - (seen[0] as number)).toBe(60);
    expect(budget.snapshot().microUsd.reserved).toBe(0);
  });
});
