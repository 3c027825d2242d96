import Anthropic from '@anthropic-ai/sdk';
import { lastValueFrom, toArray } from 'rxjs';
import {
  CircuitBreaker,
  FleetBudget,
  guard,
  isBudgetExceededError,
  isCircuitOpenError,
  isUnknownPriceError,
  RetryGate,
  Semaphore,
  TokenBucket,
  type GateEvent,
  type PriceTable,
} from 'rxfleet';
import {
  agent,
  message,
  messageStream,
  modelGuard,
  rateLimitMiddleware,
  tool,
  turn,
  type ToolRequest,
  type TurnEvent,
} from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
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

/** A dollar for a million tokens of input, five for output. */
const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 100_000, cacheWrite5m: 1_250_000, cacheWrite1h: 2_000_000 };
const prices: PriceTable = { 'claude-test': rates };
const perMinute = (capacity: number) => ({ capacity, refill: { tokens: 1, everyMs: 60_000 } });
const limits = () => ({ requests: { ...perMinute(10), cost: 1 }, inputTokens: perMinute(10_000), outputTokens: perMinute(1_000) });
const levels = (bucket: TokenBucket): number[] => Object.values(bucket.snapshot().limits).map(({ tokens }) => tokens);

describe('modelGuard', () => {
  it('reserves the most that a request can cost, and settles with its usage', async () => {
    const budget = new FleetBudget({ name: 'fleet', usd: '1' });
    const reserved: number[] = [];
    budget.events$.subscribe(({ type }) => type === 'admitted' && reserved.push(budget.snapshot().microUsd.reserved));
    const { client } = await start([reply.text('hello there')]);
    const { usage } = await lastValueFrom(message(client, ask, { guard: modelGuard({ budget, prices }) }));
    expect(reserved).toHaveLength(1);
    expect(reserved[0]).toBeGreaterThanOrEqual(ask.max_tokens * 5);
    expect(budget.snapshot().microUsd).toMatchObject({ reserved: 0, spent: usage.input_tokens + usage.output_tokens * 5 });
  });

  it('a stream settles with its last totals, and left early spends all that was reserved', async () => {
    const budget = new FleetBudget({ name: 'fleet', usd: '1' });
    const polite = modelGuard({ budget, prices });
    const { client } = await start([reply.text('hello there'), reply.text('and again', { pace: { eventMs: 30 } })]);
    const events = await lastValueFrom(messageStream(client, ask, { guard: polite }).pipe(toArray()));
    const total = events.flatMap((event) => (event.type === 'message_delta' ? [event.usage.output_tokens] : []))[0] as number;
    const { spent } = budget.snapshot().microUsd;
    expect(spent).toBeGreaterThan(total * 5);
    expect(spent).toBeLessThan(total * 5 + 100);
    await new Promise<void>((resolve) => {
      const running = messageStream(client, ask, { guard: polite }).subscribe(() => {
        running.unsubscribe();
        resolve();
      });
    });
    expect(budget.snapshot().microUsd.reserved).toBe(0);
    expect(budget.snapshot().microUsd.spent - spent).toBeGreaterThanOrEqual(ask.max_tokens * 5);
    expect(budget.snapshot().microUsd.uncertain).toBeGreaterThan(0);
  });

  it('what could pass the limit is not sent', async () => {
    const budget = new FleetBudget({ name: 'fleet', microUsd: 500 });
    const { client, server } = await start([reply.text('hello')]);
    const error = await lastValueFrom(message(client, ask, { guard: modelGuard({ budget, prices }) })).catch((each: unknown) => each);
    expect(isBudgetExceededError(error)).toBe(true);
    expect(server.stats().requests).toBe(0);
  });

  it('a model without a price is refused, never free', async () => {
    const budget = new FleetBudget({ name: 'fleet', usd: '1' });
    const { client } = await start([reply.text('hello')]);
    const error = await lastValueFrom(message(client, { ...ask, model: 'other' }, { guard: modelGuard({ budget, prices }) })).catch(
      (each: unknown) => each,
    );
    expect(isUnknownPriceError(error)).toBe(true);
  });

  it('pays the bucket in requests, input and output, and gets back what was not used', async () => {
    const bucket = new TokenBucket({ name: 'model', limits: limits() });
    const { client } = await start([reply.text('hello there')]);
    let during: number[] = [];
    bucket.events$.subscribe(({ type }) => type === 'admitted' && (during = levels(bucket)));
    const { usage } = await lastValueFrom(message(client, ask, { guard: modelGuard({ bucket }) }));
    expect(during[2]).toBe(1_000 - ask.max_tokens);
    const [requests, input, output] = levels(bucket) as [number, number, number];
    expect(requests).toBe(9);
    expect(10_000 - input).toBeGreaterThanOrEqual(usage.input_tokens);
    expect(10_000 - input).toBeLessThan(usage.input_tokens + 20);
    expect(1_000 - output).toBeLessThan(ask.max_tokens);
  });

  it('the headers of every attempt correct the bucket; a single limit is left alone', async () => {
    const headers = (remaining: number) => ({
      'anthropic-ratelimit-input-tokens-limit': '10000',
      'anthropic-ratelimit-input-tokens-remaining': String(remaining),
      'anthropic-ratelimit-input-tokens-reset': new Date(Date.now() + 30_000).toISOString(),
      'anthropic-ratelimit-requests-remaining': 'nonsense',
    });
    const several = new TokenBucket({ name: 'model', limits: limits() });
    const single = new TokenBucket({ name: 'single', ...perMinute(100) });
    const { client } = await start([
      { ...reply.text('hello'), headers: headers(1_234) },
      { ...reply.text('hello'), headers: headers(5) },
    ] as never);
    await lastValueFrom(message(client, ask, { guard: modelGuard({ bucket: several }) }));
    expect(levels(several)[1]).toBeLessThan(1_300);
    expect(levels(several)[0]).toBe(9);
    await lastValueFrom(message(client, ask, { guard: modelGuard({ bucket: single }) }));
    expect(single.snapshot().limits['tokens']?.tokens).toBe(99);
  });

  it.each([
    ['lowered to', 10_000, 5_000],
    ['lifted to', 3_000, 9_940],
  ])('what the server has counted is not paid back once more: %s what it says', async (_, initial, remaining) => {
    const inputTokens = { ...perMinute(10_000), initial };
    const bucket = new TokenBucket({ name: 'model', limits: { ...limits(), inputTokens } });
    const headers = { 'anthropic-ratelimit-input-tokens-remaining': String(remaining) };
    const { client } = await start(() => ({ ...reply.text('hello', { headers }), usage: { input_tokens: 60 } }));
    const options = { guard: modelGuard({ bucket, inputTokens: () => 100 }) };
    await lastValueFrom(message(client, ask, options));
    expect(levels(bucket)[1]).toBe(remaining);
    await lastValueFrom(messageStream(client, ask, options));
    expect(levels(bucket)[1]).toBe(remaining);
  });

  it('what a server does not speak of is paid back', async () => {
    const bucket = new TokenBucket({ name: 'model', limits: limits() });
    const headers = { 'anthropic-ratelimit-input-tokens-remaining': '5000' };
    const { client } = await start([{ ...reply.text('hello', { headers }), usage: { input_tokens: 60, output_tokens: 7 } }]);
    await lastValueFrom(message(client, ask, { guard: modelGuard({ bucket, inputTokens: () => 100 }) }));
    expect(levels(bucket)).toEqual([9, 5_000, 1_000 - 7]);
  });

  it('a 429 with retry-after pauses the bucket, and through the retry gate the request is sent again', async () => {
    const bucket = new TokenBucket({ name: 'model', limits: limits() });
    const retry = new RetryGate({ name: 'claude', baseMs: 10, random: () => 0 });
    const events: GateEvent['type'][] = [];
    retry.events$.subscribe(({ type }) => events.push(type));
    const { client, server } = await start([reply.error(429, { retryAfter: 1 }), reply.text('at last')]);
    const begun = performance.now();
    const { message: said } = await lastValueFrom(message(client, ask, { guard: modelGuard({ bucket, retry }) }));
    expect(performance.now() - begun).toBeGreaterThan(900);
    expect(said.content).toMatchObject([{ text: 'at last' }]);
    expect([server.stats().requests, events.includes('paused'), events.includes('resumed')]).toEqual([2, true, true]);
  });

  it('a limit on spending is not waited for', async () => {
    const retry = new RetryGate({ name: 'claude' });
    const { client, server } = await start([
      reply.error(429, { retryAfter: 1, type: 'rate_limit_error', code: 'enforced_spend_limit_reached' }),
    ]);
    const error = await lastValueFrom(message(client, ask, { guard: modelGuard({ retry }) })).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(Anthropic.RateLimitError);
    expect(server.stats().requests).toBe(1);
  });

  it('rateLimitMiddleware in a client of one’s own feeds a bucket as well', async () => {
    const bucket = new TokenBucket({ name: 'model', limits: limits() });
    const { server } = await start([reply.error(429, { retryAfter: 2 })]);
    const client = new Anthropic({ apiKey: 'test', baseURL: server.url, maxRetries: 0, middleware: [rateLimitMiddleware(bucket)] });
    await client.messages.create(ask).catch(() => undefined);
    expect(bucket.snapshot().pausedMs).toBeGreaterThan(1_000);
  });
});

describe('guards of turns and agents', () => {
  const work = (run: (key: string) => unknown) =>
    tool({
      name: 'work',
      description: 'works',
      input: z.object({ key: z.string() }),
      timeoutMs: 100,
      graceMs: 10,
      run: ({ key }) => run(key),
    });
  const calls = (...keys: string[]) => reply.toolUse(keys.map((key) => ({ name: 'work', input: { key } })));
  const results = (events: readonly TurnEvent[]) => (events.at(-1) as TurnEvent & { type: 'turn' }).results;

  it('every request of an agent passes the modelGuard', async () => {
    const budget = new FleetBudget({ name: 'fleet', usd: '1', calls: 'unbounded' });
    const { client } = await start([calls('a'), calls('b'), reply.text('done')]);
    const end = await lastValueFrom(agent({ client, ...ask, tools: [work((key) => key)], modelGuard: modelGuard({ budget, prices }) }));
    expect(end.type).toBe('done');
    const { usage } = end as { usage: { input_tokens: number; output_tokens: number } };
    expect(budget.snapshot()).toMatchObject({ microUsd: { spent: usage.input_tokens + 5 * usage.output_tokens }, calls: { spent: 3 } });
  });

  it('an error of the modelGuard fails the turn', async () => {
    const breaker = new CircuitBreaker({ name: 'claude', failures: 1 });
    const { client } = await start([reply.error(500)]);
    const once = () => lastValueFrom(turn({ client, ...ask, modelGuard: modelGuard({ breaker }) })).catch((each: unknown) => each);
    expect(await once()).toBeInstanceOf(Anthropic.InternalServerError);
    expect(isCircuitOpenError(await once())).toBe(true);
  });

  it('a refusal of the toolGuard is an answer that says that the tool did not run', async () => {
    const breakers = new CircuitBreaker({ name: 'work', failures: 1 });
    const toolGuard = guard<ToolRequest>({ breaker: breakers, semaphore: new Semaphore({ limit: 1 }) });
    const failing = work(() => {
      throw new Error('no disk');
    });
    const { client } = await start([calls('a', 'b')]);
    const events = await lastValueFrom(turn({ client, ...ask, tools: [failing], toolGuard }).pipe(toArray()));
    expect(results(events)).toMatchObject([
      { content: expect.stringContaining('no disk') as string },
      { content: expect.stringContaining('The tool did not run') as string },
    ]);
    const failures = events.flatMap((each) => (each.type === 'tool' && each.event.type === 'failed' ? [each.event] : []));
    expect(failures).toMatchObject([{ phase: 'run' }, { phase: 'gate', effect: 'none' }]);
  });

  it('the time limit of a tool begins behind its guard, and the breaker hears of it', async () => {
    const breaker = new CircuitBreaker({ name: 'work', failures: 1 });
    const toolGuard = guard<ToolRequest>({ breaker, semaphore: new Semaphore({ limit: 1 }) });
    const { client } = await start([calls('70', '80', '90'), calls('5000')]);
    const slow = work((ms) => sleep(Number(ms)).then(() => `after ${ms}`));
    const first = await lastValueFrom(turn({ client, ...ask, tools: [slow], toolGuard }).pipe(toArray()));
    expect(results(first).map(({ content }) => content)).toEqual(['after 70', 'after 80', 'after 90']);
    const second = await lastValueFrom(turn({ client, ...ask, messages: [hello], tools: [slow], toolGuard }).pipe(toArray()));
    expect(results(second)[0]).toMatchObject({
      is_error: true,
      content: expect.stringContaining('did not finish within 100 ms') as string,
    });
    expect(breaker.snapshot().state).toBe('open');
  });

  it('a tripped breaker stops the calls in flight, and the model is told that they may have completed', async () => {
    const breaker = new CircuitBreaker({ name: 'work', failures: 1 });
    const mixed = tool({
      name: 'work',
      description: 'works',
      input: z.object({ key: z.string() }),
      run: ({ key }, { signal }) =>
        key === 'bad'
          ? sleep(30).then(() => {
              throw new Error('down');
            })
          : new Promise((_resolve, reject) => {
              signal.addEventListener('abort', () => reject(signal.reason as Error));
            }),
    });
    const { client } = await start([calls('a', 'bad', 'c')]);
    const events = await lastValueFrom(
      turn({ client, ...ask, tools: [mixed], toolGuard: guard<ToolRequest>({ breaker }) }).pipe(toArray()),
    );
    const stopped = expect.stringMatching(/was stopped before it finished.*It may have completed/) as string;
    expect(results(events)).toMatchObject([
      { content: stopped },
      { content: expect.stringContaining('down') as string },
      { content: stopped },
    ]);
  });

  it('retries a tool that is safe to repeat: each attempt is told', async () => {
    const retry = new RetryGate({ name: 'tools', baseMs: 1, random: () => 0 });
    let tries = 0;
    const flaky = work(() => {
      if (++tries < 3) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' });
      return 'third time';
    });
    const { client } = await start([calls('a')]);
    const events = await lastValueFrom(turn({ client, ...ask, tools: [flaky], toolGuard: guard<ToolRequest>({ retry }) }).pipe(toArray()));
    expect(results(events)).toMatchObject([{ content: 'third time' }]);
    const attempts = events.flatMap((each) => (each.type === 'tool' && each.event.type === 'started' ? [each.event.attempt] : []));
    expect(attempts).toEqual([1, 2, 3]);
  });

  it('guards are checked by name', () => {
    const client = { messages: { create: (() => {}) as never } };
    expect(() => turn({ client, ...ask, modelGuard: 5 as never })).toThrow('turn: modelGuard must be what guard() returns');
    expect(() => turn({ client, ...ask, toolGuard: {} as never })).toThrow('turn: toolGuard must be what guard() returns');
    expect(() => message(client, ask, { guard: {} as never })).toThrow('message: guard must be what guard() returns');
  });
});
