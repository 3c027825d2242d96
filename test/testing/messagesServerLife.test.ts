import type { APIError } from '@anthropic-ai/sdk';
import { connect } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { reply } from '../../src/testing/messages/reply.js';
import { startMessagesServer } from '../../src/testing/messagesServer.js';
import { ask, start } from './messagesServerHarness.js';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const LONG = 'x'.repeat(4000);
const slow = reply.text(LONG, { pace: { eventMs: 5 } });

/** A request whose answer nobody reads. */
async function silentClient(url: string): Promise<ReturnType<typeof connect>> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  socket.pause();
  const body = JSON.stringify({ ...ask, stream: true });
  socket.write(`POST /v1/messages HTTP/1.1\r\nhost: x\r\nanthropic-version: 1\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  return socket;
}

describe('a client that leaves', () => {
  it('is seen at once in the middle of a stream', async () => {
    const { client, server } = await start([slow]);
    const abort = new AbortController();
    const stream = await client.messages.create({ ...ask, stream: true }, { signal: abort.signal });
    for await (const event of stream) if (event.type === 'content_block_delta') break;
    const record = server.requests[0]!;
    await server.whenIdle();
    expect(record.state).toBe('closed-by-client');
    const { events, outputTokens } = record;
    await sleep(30);
    expect(record).toMatchObject({ events, outputTokens, tokensForNobody: 0 });
    expect(outputTokens).toBeLessThan(1000);
  });

  it.each([
    ['streamed', true],
    ['not streamed', false],
  ])('is seen while nothing is sent (%s)', async (_, stream) => {
    const { client, server } = await start([reply.text('x', { fault: { kind: 'stall', after: 'request' } })]);
    const abort = new AbortController();
    const asked = client.messages.create({ ...ask, stream }, { signal: abort.signal }).catch((error: unknown) => error);
    await server.when(({ open }) => open === 1);
    await sleep(20);
    const left = performance.now();
    abort.abort();
    expect(await asked).toMatchObject({ name: 'APIUserAbortError' });
    await server.when(({ closedByClient }) => closedByClient === 1);
    expect(server.requests[0]!.closedByClientAt! - left).toBeLessThan(1000);
  });

  it('has the rest counted as tokens for nobody where the model finishes alone', async () => {
    const { client, server } = await start([slow], {
      whenClientLeaves: 'finish',
      rateLimits: { outputTokens: { limit: 5000, perMs: 1e9 } },
    });
    const abort = new AbortController();
    const asked = client.messages.create({ ...ask, stream: true }, { signal: abort.signal });
    for await (const event of await asked) if (event.type === 'content_block_delta') abort.abort();
    const { outputTokens, tokensForNobody } = await server.when(({ closedByClient }) => closedByClient === 1);
    expect(outputTokens + tokensForNobody).toBe(1000);
    expect(tokensForNobody).toBeGreaterThan(500);
    const { response } = await client.messages.countTokens({ model: 'm', messages: ask.messages }).withResponse();
    expect(response.status).toBe(200);
    const refused = await client.messages.create(ask).catch((error: unknown) => error);
    expect((refused as APIError).headers?.get('anthropic-ratelimit-output-tokens-remaining')).toBe('4000');
  });

  it('is seen in the middle of its request', async () => {
    const { server } = await start([]);
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.write('POST /v1/messages HTTP/1.1\r\nhost: x\r\nanthropic-version: 1\r\ncontent-length: 1000\r\n\r\n{"model"');
    await server.when(({ open }) => open === 1);
    socket.destroy();
    await server.when(({ closedByClient }) => closedByClient === 1);
    expect(server.requests[0]).toMatchObject({ status: undefined, body: undefined });
  });

  it('aborts the signal of the script', async () => {
    let aborted = false;
    const { client, server } = await start((_request, { signal }) => {
      return new Promise((resolve) =>
        signal.addEventListener('abort', () => {
          aborted = true;
          resolve(reply.text('too late'));
        }),
      );
    });
    const abort = new AbortController();
    const asked = client.messages.create(ask, { signal: abort.signal }).catch(() => undefined);
    await server.when(({ open }) => open === 1);
    await sleep(20);
    abort.abort();
    await asked;
    await server.whenIdle();
    expect(aborted).toBe(true);
  });

  it('is not written to without end when it does not read', async () => {
    const { server } = await start([reply.text('x'.repeat(20_000_000), { pace: { chunkChars: 10_000 } })]);
    const socket = await silentClient(server.url);
    await server.when(() => (server.requests[0]?.events ?? 0) > 10);
    await sleep(100);
    const { events } = server.requests[0]!;
    await sleep(100);
    expect(server.requests[0]).toMatchObject({ events, state: 'open' });
    expect(events).toBeLessThan(1900);
    socket.resume();
    await server.when(({ completed }) => completed === 1);
  });
});

describe('counting', () => {
  it('serves 100 at once', async () => {
    let letGo = (): void => {};
    const all = new Promise<void>((resolve) => (letGo = resolve));
    const { client, server } = await start((_request, { index }) => {
      if (index === 99) letGo();
      return all.then(() => reply.text('hello', { pace: { eventMs: 1 } }));
    });
    const replies = Array.from({ length: 100 }, (_, n) =>
      n % 2 ? client.messages.create(ask) : client.messages.stream(ask).finalMessage(),
    );
    expect(new Set((await Promise.all(replies)).map(({ id }) => id)).size).toBe(100);
    expect(server.stats()).toMatchObject({ requests: 100, maxOpen: 100, completed: 100, open: 0, statuses: { 200: 100 } });
    expect(server.stats()).toMatchObject({ sockets: 100, socketsOpened: 100 });
  });

  it('counts sockets and uses them again', async () => {
    const { client, server } = await start(() => reply.text('x'));
    for (let n = 0; n < 5; n++) await client.messages.create(ask);
    const { sockets, socketsOpened, maxOpen } = server.stats();
    expect(maxOpen).toBe(1);
    expect(sockets).toBe(socketsOpened);
    expect(socketsOpened).toBeLessThan(5);
  });

  it('forgets the oldest requests, not the totals', async () => {
    const { client, server } = await start(() => reply.text('x'), { logSize: 2 });
    for (let n = 0; n < 5; n++) await client.messages.create(ask);
    expect(server.requests.map(({ id }) => id)).toEqual(['req_0004', 'req_0005']);
    expect(server.stats().requests).toBe(5);
  });

  it('keeps the parsed body and the times', async () => {
    const { client, server } = await start([reply.text('x')]);
    const before = performance.now();
    await client.messages.create(ask);
    const [record] = server.requests;
    expect(record?.body).toEqual(ask);
    expect(record!.openedAt).toBeGreaterThanOrEqual(before);
    expect(record!.endedAt).toBeGreaterThanOrEqual(record!.openedAt);
    expect(record?.closedByClientAt).toBeUndefined();
  });

  it('tells who waits: at once, later, or that it was closed', async () => {
    const { client, server } = await start([reply.text('x')]);
    expect(await server.whenIdle()).toMatchObject({ requests: 0 });
    const later = server.when(({ completed }) => completed === 1);
    const broken = server.when(({ completed }) => {
      if (completed === 1) throw new Error('my mistake');
      return false;
    });
    const never = server.when(({ requests }) => requests === 99);
    const settled = Promise.allSettled([later, broken, never]);
    await client.messages.create(ask);
    await server.close();
    expect(await settled).toMatchObject([
      { status: 'fulfilled', value: { completed: 1 } },
      { status: 'rejected', reason: { message: 'my mistake' } },
      { status: 'rejected', reason: { message: expect.stringContaining('was closed while somebody waited') as string } },
    ]);
    await expect(server.when(() => false)).rejects.toThrow('was closed');
  });
});

describe('close', () => {
  it('drops what is open, promptly and once', async () => {
    const { client, server } = await start(() => slow);
    const streams = Array.from({ length: 5 }, () => client.messages.stream(ask).finalMessage());
    const whole = client.messages.create(ask);
    const ended = Promise.allSettled([...streams, whole]);
    await server.when(({ outputTokens }) => outputTokens > 20);
    const begun = performance.now();
    await Promise.all([server.close(), server.close()]);
    await server.close();
    expect(performance.now() - begun).toBeLessThan(2000);
    expect((await ended).map(({ status }) => status)).toEqual(Array<string>(6).fill('rejected'));
    expect(server.stats()).toMatchObject({ open: 0, closedByServer: 6, sockets: 0 });
    await expect(client.messages.create(ask)).rejects.toThrow('Connection error.');
  });

  it('drops stalled ones and those whose script is still thinking', async () => {
    let n = 0;
    const { client, server } = await start(() =>
      n++ ? new Promise(() => undefined) : reply.text('x', { fault: { kind: 'stall', after: 1 }, pace: { pingMs: 5 } }),
    );
    const ended = Promise.allSettled([client.messages.stream(ask).finalMessage(), client.messages.create(ask)]);
    await server.when(({ open }) => open === 2);
    await server.close();
    expect(await ended).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }]);
  });

  it('leaves no handle behind', async () => {
    const handles = () => process.getActiveResourcesInfo().filter((name) => name.startsWith('TCP') || name === 'Timeout').length;
    const before = handles();
    {
      await using server = await startMessagesServer({ script: () => slow });
      const socket = await silentClient(server.url);
      await server.when(({ outputTokens }) => outputTokens > 0);
      expect(handles()).toBeGreaterThan(before);
      socket.resume();
    }
    await sleep(20);
    expect(handles()).toBeLessThanOrEqual(before);
  });
});
