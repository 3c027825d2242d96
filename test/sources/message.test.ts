import { lastValueFrom, NEVER, toArray, type Observable } from 'rxjs';
import { isScopeCancelledError, scoped, takeWithin, type Scope } from 'rxfleet';
import { isConnectionLostError, isStreamStalledError, isStreamTruncatedError, message } from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
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

const errorOf = (source: Observable<unknown>): Promise<unknown> =>
  lastValueFrom(source).then(
    () => Promise.reject(new Error('completed')),
    (error: unknown) => error,
  );

describe('message', () => {
  it('is one reply with its request id, usage and headers', async () => {
    const { client, server } = await start([reply.text('hello', { headers: { 'anthropic-ratelimit-requests-remaining': '7' } })]);
    const replies = await lastValueFrom(message(client, ask).pipe(toArray()));
    expect(replies).toMatchObject([{ message: { content: [{ text: 'hello' }] }, requestId: 'req_0001' }]);
    expect(replies[0]?.usage).toBe(replies[0]?.message.usage);
    expect(replies[0]?.headers.get('anthropic-ratelimit-requests-remaining')).toBe('7');
    expect(server.requests[0]?.body).toMatchObject({ stream: false });
  });

  it('is cold', async () => {
    const { client } = await start([reply.text('one'), reply.text('two')]);
    const call = message(client, ask);
    expect((await lastValueFrom(call)).message.content).toMatchObject([{ text: 'one' }]);
    expect((await lastValueFrom(call)).message.content).toMatchObject([{ text: 'two' }]);
  });

  it('is not kept from asking for many tokens', async () => {
    const { client } = await start([reply.text('one')]);
    expect((await lastValueFrom(message(client, { ...ask, max_tokens: 100_000 }))).message.stop_reason).toBe('end_turn');
  });

  it.each([
    ['fin', 3, isStreamTruncatedError],
    ['reset', 3, isConnectionLostError],
    ['reset', 'request', isConnectionLostError],
  ] as const)('a %s (after %s) is a typed error, and is not tried again', async (kind, after, is) => {
    const { client, server } = await start([reply.text('hello', { fault: { kind, after } })]);
    const error = await errorOf(message(client, ask));
    expect(is(error) || error).toBe(true);
    expect(server.stats().requests).toBe(1);
  });

  it('silence is a StreamStalledError that says of what', async () => {
    const { client, server } = await start([
      reply.text('hello', { fault: { kind: 'stall', after: 'request' } }),
      reply.text('hello', { fault: { kind: 'stall', after: 3 } }),
    ]);
    const first = await errorOf(message(client, ask, { headersMs: 50 }));
    if (!isStreamStalledError(first)) throw first;
    expect(first).toMatchObject({ phase: 'headers', ms: 50 });
    expect(await errorOf(message(client, ask, { idleMs: 50 }))).toMatchObject({
      name: 'StreamStalledError',
      phase: 'body',
      requestId: 'req_0002',
    });
    await server.when(({ closedByClient }) => closedByClient === 2);
  });

  it('what the API answers stays as it is', async () => {
    const { client, server } = await start([reply.error(429, { code: 'enforced_spend_limit_reached' })]);
    expect(await errorOf(message(client, ask))).toMatchObject({ status: 429, errorCode: 'enforced_spend_limit_reached' });
    expect(server.stats().requests).toBe(1);
  });

  it.each([
    ['before the headers', 'request'],
    ['in the body', 3],
  ] as const)('leaving %s closes the socket', async (_, after) => {
    const { client, server } = await start([reply.text('hello', { fault: { kind: 'stall', after } })]);
    let root: Scope | undefined;
    const run = scoped((scope) => message(client, ask, { within: scope }), { onScope: (scope) => (root = scope) }).subscribe();
    await server.when(({ open }) => open === 1);
    await sleep(30);
    const leaving = performance.now();
    run.unsubscribe();
    const closed = root!.closed;
    await server.when(({ closedByClient }) => closedByClient === 1);
    expect(server.requests[0]!.closedByClientAt! - leaving).toBeLessThan(100);
    expect(await closed).toMatchObject({ errors: [], abandoned: [] });
  });

  it('a deadline above ends it, and a cancel above is told with its reason', async () => {
    const { client, server } = await start(() => reply.text('hello', { fault: { kind: 'stall', after: 'request' } }));
    expect(await lastValueFrom(message(client, ask).pipe(takeWithin(40), toArray()))).toEqual([]);
    let ctx: Scope | undefined;
    scoped((scope) => ((ctx = scope), NEVER)).subscribe({ error: () => {} });
    const error = errorOf(message(client, ask, { within: ctx! }));
    await server.when(({ open, requests }) => requests === 2 && open > 0);
    ctx!.cancel('stop');
    expect(isScopeCancelledError(await error)).toBe(true);
    await server.when(({ closedByClient }) => closedByClient === 2);
  });

  it('refuses wrong options where they are given', async () => {
    const { client } = await start([]);
    expect(() => message(null as never, ask)).toThrow(/^message: client must be an Anthropic client/);
    expect(() => message(client, 'hello' as never)).toThrow(/^message: params/);
    expect(() => message(client, ask, { idleMs: '5' as never })).toThrow(/^message: idleMs/);
  });
});
