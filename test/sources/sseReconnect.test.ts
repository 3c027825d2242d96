import { lastValueFrom, take, tap, toArray, VirtualTimeScheduler, type Observable } from 'rxjs';
import { scoped, type Scope } from 'rxfleet';
import { expectNoOpenScopes } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSse } from '../../src/sources/fromSse.js';
import { isSseConnectionError, isSseContentTypeError, isSseStalledError, isSseStatusError } from '../../src/sources/sseErrors.js';
import type { SseReconnectOptions } from '../../src/sources/sseBackoff.js';
import type { ServerSentEvent } from '../../src/sources/sseParser.js';
import { sleep, watchProcess } from './harness.js';
import { startServer } from './sseServer.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  await sleep(0);
  expectNoOpenScopes();
  quiet();
});

const soon = { minMs: 1, maxMs: 20, random: () => 0 };
const dataOf = async (source: Observable<ServerSentEvent>): Promise<string[]> =>
  (await lastValueFrom(source.pipe(toArray()))).map(({ data }) => data);
const errorOf = (source: Observable<unknown>): Promise<unknown> =>
  lastValueFrom(source).then(
    () => Promise.reject(new Error('completed')),
    (error: unknown) => error,
  );

const EVENTS = { 'content-type': 'text/event-stream' };
const answer = (text: string): Response => new Response(text, { headers: EVENTS });

/** Connections in virtual time: what each of them brings, when it was asked for, and with which id. */
function virtually(answers: readonly (() => Response | Promise<Response>)[], options: Partial<SseReconnectOptions> = {}) {
  const scheduler = new VirtualTimeScheduler();
  const asked: [at: number, id: string][] = [];
  const lines: string[] = [];
  const stream = fromSse(
    (_signal, lastEventId) => {
      asked.push([scheduler.now(), lastEventId]);
      const next = answers[asked.length - 1] ?? answers.at(-1)!;
      return next();
    },
    { reconnect: { maxRetries: 3, minMs: 100, maxMs: 1000, random: () => 0, ...options }, scheduler },
  );
  /** Lets promises settle and time pass, in turns, until nothing is left to do. */
  const run = async (): Promise<void> => {
    for (let i = 0; i < 200; i++) {
      await sleep(0);
      const [next] = scheduler.actions.splice(0, 1);
      if (next === undefined) continue;
      scheduler.frame = next.delay;
      next.execute(next.state, next.delay);
    }
  };
  const subscription = stream.subscribe({
    next: ({ data }) => lines.push(`${scheduler.now()} ${data}`),
    error: (error: Error) => lines.push(`${scheduler.now()} ${error.name}`),
    complete: () => lines.push(`${scheduler.now()} complete`),
  });
  return { asked, lines, run, scheduler, subscription };
}

describe('fromSse that does not reconnect', () => {
  it('never repeats a request, whatever ends it and whatever the server asks for', async () => {
    const server = await startServer(({ open, reset, response }, i) => {
      if (i === 2) return response.writeHead(503, { 'retry-after': '0' }).end();
      open('retry: 1\nid: 1\ndata: x\n\n');
      return i === 0 ? response.end() : setTimeout(reset, 5);
    });
    await dataOf(fromSse(server.url));
    expect(isSseConnectionError(await errorOf(fromSse(server.url, { reconnect: false })))).toBe(true);
    expect(isSseStatusError(await errorOf(fromSse(server.url, { reconnect: undefined })))).toBe(true);
    await sleep(30);
    expect(server.exchanges).toHaveLength(3);
  });
});

describe('fromSse that reconnects', () => {
  it('goes on after an end and a reset with the last id, and the subscriber notices nothing', async () => {
    const server = await startServer(async ({ open, reset, response }, i) => {
      open(`id: ${i}ä\ndata: ${i}\n\nid: lost\ndata: half`);
      await sleep(5);
      if (i % 2 === 0) response.end();
      else reset();
    });
    expect(await dataOf(fromSse(server.url, { reconnect: { maxRetries: 1, ...soon } }).pipe(take(4)))).toEqual(['0', '1', '2', '3']);
    const ids = server.exchanges.map(({ request }) => request.headers['last-event-id']);
    expect(ids.map((id) => (id === undefined ? id : Buffer.from(String(id), 'latin1').toString()))).toEqual([undefined, '0ä', '1ä', '2ä']);
    await server.whenClosed();
  });

  it('sends the same request again, and an id of its own until the server has sent one', async () => {
    const server = await startServer(({ open, response }, i) => {
      open(i === 1 ? 'id: 8\ndata: x\n\n' : 'data: x\n\n');
      response.end();
    });
    const init = { method: 'POST', body: 'same', headers: { 'last-event-id': '7' } };
    await dataOf(fromSse(server.url, { init, reconnect: { maxRetries: 1, ...soon } }).pipe(take(3)));
    expect(server.exchanges.map(({ request }) => [request.method, request.body, request.headers['last-event-id']])).toEqual([
      ['POST', 'same', '7'],
      ['POST', 'same', '7'],
      ['POST', 'same', '8'],
    ]);
  });

  it('an id that cannot be a header is not sent', async () => {
    const server = await startServer(({ open, response }, i) => {
      open(i === 0 ? 'id: a\u0001b\ndata: x\n\n' : `id: ${'x'.repeat(5000)}\ndata: x\n\n`);
      response.end();
    });
    expect(await dataOf(fromSse(server.url, { reconnect: { maxRetries: 1, ...soon } }).pipe(take(3)))).toHaveLength(3);
    expect(server.exchanges.map(({ request }) => request.headers['last-event-id'])).toEqual([undefined, undefined, undefined]);
  });

  it('goes on after silence, before the headers and after them', async () => {
    const server = await startServer(({ open, response }, i) => {
      if (i === 1) open('data: 1\n\n');
      if (i !== 2) return;
      open('data: 2\n\n');
      response.end();
    });
    expect(await dataOf(fromSse(server.url, { headersMs: 200, idleMs: 40, reconnect: { maxRetries: 1, ...soon } }).pipe(take(2)))).toEqual([
      '1',
      '2',
    ]);
    expect(server.exchanges).toHaveLength(3);
  });

  it('204 ends it', async () => {
    const server = await startServer(({ open, response }, i) => {
      if (i === 1) return response.writeHead(204).end();
      open('data: 0\n\n');
      return response.end();
    });
    expect(await dataOf(fromSse(server.url, { reconnect: { maxRetries: 5, ...soon } }))).toEqual(['0']);
  });

  it.each([400, 401, 403, 404, 410])('status %i is final', async (status) => {
    const server = await startServer(({ response }) => response.writeHead(status).end());
    expect(await errorOf(fromSse(server.url, { reconnect: { maxRetries: 5, ...soon } }))).toMatchObject({ status });
    expect(server.exchanges).toHaveLength(1);
  });

  it('so are a wrong content type, an event that is too large, and what a function throws', async () => {
    const server = await startServer(({ open, response }) => {
      open('data: 0123456789\n\n');
      response.end();
    });
    const reconnect = { maxRetries: 5, ...soon };
    expect(await errorOf(fromSse(server.url, { reconnect, maxEventBytes: 5 }))).toMatchObject({ name: 'SseEventTooLargeError' });
    expect(server.exchanges).toHaveLength(1);
    let asked = 0;
    const own = (error: unknown) => (): never => {
      asked++;
      throw error;
    };
    expect(await errorOf(fromSse(own(new Error('mine')), { reconnect }))).toMatchObject({ message: 'mine' });
    expect(isSseContentTypeError(await errorOf(fromSse(() => (asked++, new Response('x')), { reconnect })))).toBe(true);
    expect(asked).toBe(2);
    expect(await errorOf(fromSse(own(Object.assign(new Error('busy'), { status: 503 })), { reconnect }))).toMatchObject({
      message: 'busy',
    });
    expect(asked).toBe(8);
  });

  it.each([408, 429, 500, 502, 503, 504, 529])('status %i is not', async (status) => {
    const server = await startServer(({ open, response }, i) => {
      if (i === 0) return response.writeHead(status).end();
      open('data: x\n\n');
      return response.end();
    });
    expect(await dataOf(fromSse(server.url, { reconnect: { maxRetries: 1, ...soon } }).pipe(take(1)))).toEqual(['x']);
  });

  it('maxRetries connections in a row without an event are the end, and an event begins to count anew', async () => {
    const { asked, lines, run } = virtually([
      () => answer(''),
      () => answer(''),
      () => answer('data: a\n\n'),
      () => answer(': nothing\n\n'),
      () => answer('data: half'),
      () => answer(''),
    ]);
    await run();
    expect(lines).toEqual(['300 a', '1000 SseConnectionError']);
    expect(asked.map(([at]) => at)).toEqual([0, 100, 300, 400, 600, 1000]);
  });

  it('the error is that of the last attempt', async () => {
    const { lines, run, asked } = virtually([() => answer(''), () => new Response('busy', { status: 503 })]);
    await run();
    expect(lines).toEqual(['700 SseStatusError']);
    expect(asked).toHaveLength(4);
  });

  it('`retry` of the server is the first wait, failures double it, and maxMs is the longest', async () => {
    const { asked, run } = virtually([() => answer('retry: 250\n\n')], { maxRetries: 4 });
    await run();
    expect(asked.map(([at]) => at)).toEqual([0, 250, 750, 1750, 2750]);
  });

  it.each([0, 1, 99])('`retry: %d` does not make the waits shorter than minMs, however many events come', async (ms) => {
    const { asked, run, subscription } = virtually([() => answer(`retry: ${ms}\ndata: a\n\n`)]);
    await run();
    expect(asked.length).toBeGreaterThan(10);
    expect(asked.map(([at]) => at)).toEqual(asked.map((_, i) => i * 100));
    subscription.unsubscribe();
  });

  it('waits are spread', async () => {
    const chances = [0, 0.5, 0.9];
    const { asked, run } = virtually([() => answer('')], { random: () => chances.shift()! });
    await run();
    expect(asked.map(([at]) => at)).toEqual([0, 100, 350, 930]);
  });

  it('Retry-After is waited for, and if it is longer than maxMs the answer goes out', async () => {
    const busy = (after: string) => (): Response => new Response('', { status: 503, headers: { 'retry-after': after } });
    const { asked, lines, run } = virtually([busy('1'), busy('2')]);
    await run();
    expect(asked.map(([at]) => at)).toEqual([0, 1000]);
    expect(lines).toEqual(['1000 SseStatusError']);
  });

  it('a connection that stood as long as maxMs is no failure, though it brought no event', async () => {
    const { asked, run, scheduler, subscription } = virtually([
      () => {
        const body = new ReadableStream<Uint8Array>({
          async pull(controller) {
            await new Promise<void>((resolve) => scheduler.schedule(() => resolve(), 1000));
            controller.close();
          },
        });
        return new Response(body, { headers: EVENTS });
      },
    ]);
    await run();
    expect(asked.length).toBeGreaterThan(10);
    expect(asked.slice(0, 4).map(([at]) => at)).toEqual([0, 1100, 2200, 3300]);
    subscription.unsubscribe();
    await sleep(0);
  });

  it('the id goes to a function as well', async () => {
    const { asked, run } = virtually([
      () => answer('id: 1\ndata: a\n\n'),
      () => answer('data: b\n\n'),
      () => answer('id\ndata: c\n\n'),
      () => answer(''),
    ]);
    await run();
    expect(asked.map(([, id]) => id)).toEqual(['', '1', '1', '', '', '']);
  });

  it('leaving while it waits clears the timer, and nothing is asked any more', async () => {
    const { asked, lines, run, scheduler, subscription } = virtually([() => answer('data: a\n\n')]);
    for (let i = 0; i < 10; i++) await sleep(0);
    expect([asked.length, scheduler.actions.length]).toEqual([1, 1]);
    subscription.unsubscribe();
    await sleep(0);
    expectNoOpenScopes();
    await run();
    expect([asked.length, lines]).toEqual([1, ['0 a']]);
  });

  it('leaving while the wait is worked out does as well', async () => {
    const { asked, run, subscription } = virtually([() => answer('data: a\n\n')], {
      random: () => {
        subscription.unsubscribe();
        return 0;
      },
    });
    await run();
    expect(asked).toHaveLength(1);
    expectNoOpenScopes();
  });

  it('a `random` that throws fails the stream', async () => {
    const boom = new Error('boom');
    const random = (): never => {
      throw boom;
    };
    expect(await errorOf(fromSse(() => answer(''), { reconnect: { maxRetries: 1, random } }))).toBe(boom);
  });

  it.each([NaN, -0.1, 1, undefined])('a `random` that gives %s fails the stream', async (chance) => {
    const reconnect = { maxRetries: 1, random: () => chance as number };
    expect(await errorOf(fromSse(() => answer(''), { reconnect }))).toBeInstanceOf(RangeError);
  });

  it('its connections are one call of the scope', async () => {
    const server = await startServer(({ open, response }, i) => {
      open('data: x\n\n');
      if (i < 3) response.end();
    });
    let scope: Scope | undefined;
    const calls: number[] = [];
    const subscription = scoped((ctx) => fromSse(server.url, { within: ctx, reconnect: { maxRetries: 1, ...soon } }), {
      onScope: (each) => (scope = each),
    })
      .pipe(tap(() => calls.push(scope!.dump().calls.length)))
      .subscribe();
    await expect.poll(() => calls).toEqual([1, 1, 1, 1]);
    subscription.unsubscribe();
    expect(await scope!.closed).toMatchObject({ abandoned: [], errors: [] });
    await server.whenClosed();
  });

  it('a stalled connection that listens to nothing does not hold up the next', async () => {
    const body = (): ReadableStream<Uint8Array> => new ReadableStream({ cancel: () => new Promise(() => {}) });
    const error = await errorOf(
      fromSse(() => new Response(body(), { headers: EVENTS }), { idleMs: 5, reconnect: { maxRetries: 2, ...soon } }),
    );
    expect(isSseStalledError(error)).toBe(true);
  });
});
