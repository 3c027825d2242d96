import Anthropic from '@anthropic-ai/sdk';
import type { APIError } from '@anthropic-ai/sdk';
import { describe, expect, it } from 'vitest';
import { makeLimiter } from '../../src/testing/messages/limits.js';
import { reply } from '../../src/testing/messages/reply.js';
import { ask, start } from './messagesServerHarness.js';

describe('the limiter', () => {
  it('refills evenly, up to the limit', () => {
    const limiter = makeLimiter({ requests: { limit: 2, perMs: 1000 } }, 0);
    expect([0, 0, 0, 499, 500, 501].map((now) => limiter.admit(0, now) === undefined)).toEqual([true, true, false, false, true, false]);
    expect([9000, 9000, 9000].map((now) => limiter.admit(0, now) === undefined)).toEqual([true, true, false]);
  });

  it('takes all or nothing, and says how long the slowest bucket needs', () => {
    const limiter = makeLimiter({ requests: { limit: 10, perMs: 60_000 }, inputTokens: { limit: 100, perMs: 60_000 } }, 0);
    expect(limiter.admit(90, 0)).toBeUndefined();
    expect(limiter.admit(40, 0)).toEqual({
      message:
        "This request would exceed your organization's rate limit of 100 input tokens per minute. See the response headers for current usage.",
      retryAfter: 18,
    });
    expect(limiter.headers(0, 0)).toMatchObject({
      'anthropic-ratelimit-requests-remaining': '9',
      'anthropic-ratelimit-input-tokens-remaining': '10',
      'anthropic-ratelimit-input-tokens-reset': '1970-01-01T00:00:54.000Z',
    });
  });

  it('lets output run over and waits for it to come back', () => {
    const limiter = makeLimiter({ outputTokens: { limit: 100, perMs: 1000 } }, 0);
    expect(limiter.admit(0, 0)).toBeUndefined();
    limiter.spendOutput(250, 0);
    expect(limiter.headers(0, 0)['anthropic-ratelimit-output-tokens-remaining']).toBe('0');
    expect(limiter.admit(0, 1500)?.retryAfter).toBe(1);
    expect(limiter.admit(0, 1510)).toBeUndefined();
  });

  it('adds input and output up to tokens', () => {
    const limiter = makeLimiter({ inputTokens: { limit: 100, perMs: 1000 }, outputTokens: { limit: 50, perMs: 1000 } }, 0);
    limiter.admit(30, 0);
    expect(limiter.headers(0, 0)).toMatchObject({
      'anthropic-ratelimit-tokens-limit': '150',
      'anthropic-ratelimit-tokens-remaining': '120',
    });
  });

  it('never lets a request pass that is larger than the bucket', () => {
    const limiter = makeLimiter({ inputTokens: { limit: 10, perMs: 1000 } }, 0);
    expect([0, 5000, 50_000].map((now) => limiter.admit(11, now)?.retryAfter)).toEqual([1, 1, 1]);
  });
});

describe('the server', () => {
  it('puts the state of the buckets into every response, and refuses with 429', async () => {
    const { client, server } = await start(() => reply.text('12345678'), {
      rateLimits: {
        requests: { limit: 2, perMs: 1e7 },
        inputTokens: { limit: 1000, perMs: 1e7 },
        outputTokens: { limit: 500, perMs: 1e7 },
      },
    });
    const seen = [];
    for (let n = 0; n < 2; n++) {
      const { response } = await client.messages.create(ask).withResponse();
      seen.push(['requests', 'input-tokens', 'output-tokens'].map((name) => response.headers.get(`anthropic-ratelimit-${name}-remaining`)));
    }
    expect(seen).toEqual([
      ['1', '988', '500'],
      ['0', '976', '498'],
    ]);
    const error = await client.messages.create({ ...ask, stream: true }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Anthropic.RateLimitError);
    expect(error).toMatchObject({ type: 'rate_limit_error', apiMessage: expect.stringContaining('2 requests per 10000000 ms') as string });
    const { headers } = error as APIError;
    expect(headers?.get('retry-after')).toBe('5000');
    expect(Date.parse(headers?.get('anthropic-ratelimit-requests-reset') ?? '')).toBeGreaterThan(Date.now() + 9e6);
    expect(server.stats().statuses).toEqual({ 200: 2, 429: 1 });
  });

  it('lets a client in again that has waited as told', async () => {
    const { server } = await start(() => reply.text('x'), { rateLimits: { requests: { limit: 1, perMs: 1000 } } });
    const patient = new Anthropic({ apiKey: 'test', baseURL: server.url, maxRetries: 1 });
    await Promise.all([patient.messages.create(ask), patient.messages.create(ask)]);
    expect(server.stats().statuses).toEqual({ 200: 2, 429: 1 });
  });

  it('sends no such headers without limits', async () => {
    const { client } = await start([reply.text('x')]);
    const { response } = await client.messages.create(ask).withResponse();
    expect([...response.headers.keys()].filter((name) => name.startsWith('anthropic-'))).toEqual([]);
  });
});
