import { firstValueFrom, lastValueFrom, mergeMap, NEVER, range, take, tap, toArray, type Observable } from 'rxjs';
import { scoped, isScopeCancelledError, type Scope } from 'rxfleet';
import { expectNoOpenScopes, openScopes } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { fromSse } from '../../src/sources/fromSse.js';
import {
  isSseConnectionError,
  isSseContentTypeError,
  isSseEventTooLargeError,
  isSseStalledError,
  isSseStatusError,
} from '../../src/sources/sseErrors.js';
import type { FromSseOptions } from '../../src/sources/sseOptions.js';
import type { ServerSentEvent } from '../../src/sources/sseParser.js';
import { sleep, watchProcess } from './harness.js';
import { startServer, type Exchange } from './sseServer.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  await sleep(0);
  expectNoOpenScopes();
  quiet();
});

const all = (source: Observable<ServerSentEvent>): Promise<ServerSentEvent[]> => lastValueFrom(source.pipe(toArray()));
const dataOf = async (source: Observable<ServerSentEvent>): Promise<string[]> => (await all(source)).map(({ data }) => data);

/** What came out before the error, and the error. */
async function failing(source: Observable<ServerSentEvent>): Promise<{ seen: string[]; error: unknown }> {
  const seen: string[] = [];
  const error = await lastValueFrom(source.pipe(tap(({ data }) => seen.push(data)))).then(
    () => Promise.reject(new Error('completed')),
    (thrown: unknown) => thrown,
  );
  return { seen, error };
}

const EVENTS = { 'content-type': 'text/event-stream' };
const streamOf = (...chunks: string[]): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk));
      controller.close();
    },
  });
/** A body that says this and then nothing more. */
const quietBody = (text = '', cancel?: () => void | Promise<void>): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start: (controller) => (text === '' ? undefined : controller.enqueue(new TextEncoder().encode(text))),
    ...(cancel && { cancel }),
  });

describe('fromSse', () => {
  describe('events', () => {
    it('come out as they arrive, and the end of the response is the end', async () => {
      let seen: () => void = () => {};
      const server = await startServer(async ({ open, write, response }) => {
        open('data: one\n\n');
        await new Promise<void>((resolve) => (seen = resolve));
        write('event: two\nid: 2\nretry: 5\ndata: 2\n\n');
        response.end();
      });
      expect(await all(fromSse(server.url).pipe(tap(() => seen())))).toEqual([
        { event: 'message', data: 'one', id: '' },
        { event: 'two', data: '2', id: '2', retry: 5 },
      ]);
    });

    it('are the same byte by byte, with characters and line ends cut anywhere', async () => {
      const document = '\ufeffdata: äß€😀\r\ndata: 𐍈\r\n\r\n: ping\r\revent: e\ndata: x\n\n';
      const server = await startServer(async ({ open, write, response }) => {
        open();
        for (const byte of Buffer.from(document)) {
          write(Uint8Array.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
        response.end();
      });
      expect(await all(fromSse(server.url))).toEqual([
        { event: 'message', data: 'äß€😀\n𐍈', id: '' },
        { event: 'e', data: 'x', id: '' },
      ]);
    });

    it('10,000 in a few chunks come out in order, and take(3) of them takes three', async () => {
      const server = await startServer(({ open, response }) => {
        open();
        response.end(Array.from({ length: 10_000 }, (_, i) => `data: ${i}\n\n`).join(''));
      });
      expect(await dataOf(fromSse(server.url))).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)));
      expect(await dataOf(fromSse(server.url).pipe(take(3)))).toEqual(['0', '1', '2']);
    });

    it('an event that was not complete when the server ended is dropped', async () => {
      const server = await startServer(({ open, response }) => {
        open('data: one\n\ndata: two\n');
        response.end();
      });
      expect(await dataOf(fromSse(server.url))).toEqual(['one']);
    });

    it('an empty response and one without a body are no events', async () => {
      const server = await startServer(({ open, response }) => {
        open();
        response.end();
      });
      expect(await all(fromSse(server.url))).toEqual([]);
      expect(await all(fromSse(() => new Response(null, { headers: EVENTS })))).toEqual([]);
    });

    it('204 is the server that has nothing to send', async () => {
      const server = await startServer(({ response }) => response.writeHead(204).end());
      expect(await all(fromSse(server.url))).toEqual([]);
      expect(await all(fromSse(server.url, { reconnect: { maxRetries: 9 } }))).toEqual([]);
      expect(server.exchanges).toHaveLength(2);
    });

    it('a compressed stream is read as it comes', async () => {
      const { createGzip, constants } = await import('node:zlib');
      const server = await startServer(async ({ open, response }) => {
        open('', { 'content-encoding': 'gzip' });
        const gzip = createGzip({ flush: constants.Z_SYNC_FLUSH });
        gzip.pipe(response);
        gzip.write('data: one\n\n');
        await sleep(10);
        gzip.end('data: two\n\n');
      });
      expect(await dataOf(fromSse(server.url))).toEqual(['one', 'two']);
    });
  });

  describe('the request', () => {
    it('asks for an event stream that is not from a cache', async () => {
      const server = await startServer(({ open, response }) => {
        open();
        response.end();
      });
      await all(fromSse(new URL(server.url)));
      expect(server.exchanges[0]?.request).toMatchObject({
        method: 'GET',
        headers: { accept: 'text/event-stream', 'cache-control': 'no-cache' },
      });
      expect(server.exchanges[0]?.request.headers).not.toHaveProperty('last-event-id');
    });

    it('has the method, the headers and the body that it is given', async () => {
      const server = await startServer(({ open, response }) => {
        open();
        response.end();
      });
      const headers = { accept: 'text/event-stream, application/json', authorization: 'Bearer secret' };
      await all(fromSse(server.url, { init: { method: 'POST', headers, body: '{"a":1}' } }));
      expect(server.exchanges[0]?.request).toMatchObject({ method: 'POST', headers, body: '{"a":1}' });
    });

    it('is made once per subscription, and not before', async () => {
      const server = await startServer(({ open, response }, i) => {
        open(`data: ${i}\n\n`);
        response.end();
      });
      const stream = fromSse(server.url);
      await sleep(5);
      expect(server.exchanges).toHaveLength(0);
      expect([await dataOf(stream), await dataOf(stream)]).toEqual([['0'], ['1']]);
      expect(server.opened).toBeLessThan(3);
    });

    it('goes through the fetch that it is given', async () => {
      const asked: unknown[] = [];
      const fetch: typeof globalThis.fetch = async (...[url, init]) => {
        asked.push(url, init?.method, [...new Headers(init?.headers)], init?.signal?.aborted);
        return new Response('data: x\n\n', { headers: EVENTS });
      };
      expect(await dataOf(fromSse('https://example.org/x', { fetch, init: { method: 'PUT', headers: [['a', 'b']] } }))).toEqual(['x']);
      expect(asked).toEqual([
        'https://example.org/x',
        'PUT',
        [
          ['a', 'b'],
          ['accept', 'text/event-stream'],
        ],
        false,
      ]);
    });

    it('follows redirects', async () => {
      const server = await startServer(({ request, open, response }) => {
        if (request.url === '/events') return response.writeHead(307, { location: '/there' }).end();
        open('data: there\n\n');
        return response.end();
      });
      expect(await dataOf(fromSse(server.url))).toEqual(['there']);
    });
  });

  describe('a function', () => {
    it('is asked with a signal and the last id, synchronously or not', async () => {
      const asked: unknown[] = [];
      const ask = (signal: AbortSignal, lastEventId: string): Response => {
        asked.push(signal.aborted, lastEventId);
        return new Response(streamOf('da', 'ta: x\n', '\n'), { headers: EVENTS });
      };
      expect(await dataOf(fromSse(ask))).toEqual(['x']);
      expect(await dataOf(fromSse(async (signal, id) => ask(signal, id)))).toEqual(['x']);
      expect(asked).toEqual([false, '', false, '']);
    });

    it('its signal is aborted when the stream is left or fails, and not when it has ended', async () => {
      const signals: AbortSignal[] = [];
      const from = (body: ReadableStream<Uint8Array>, init: ResponseInit = { headers: EVENTS }): Observable<ServerSentEvent> =>
        fromSse((signal) => (signals.push(signal), new Response(body, init)), { idleMs: 10 });
      await all(from(streamOf('data: x\n\n')));
      await firstValueFrom(from(quietBody('data: x\n\n')));
      await failing(from(quietBody()));
      await failing(from(quietBody('x'.repeat(5000)), { status: 500 }));
      expect(signals.map(({ aborted }) => aborted)).toEqual([false, true, true, true]);
    });

    it('its own error goes out as it is, thrown or rejected; a failure of the network is named', async () => {
      const own = new Error('no token');
      expect((await failing(fromSse(() => Promise.reject(own)))).error).toBe(own);
      expect(
        (
          await failing(
            fromSse(() => {
              throw own;
            }),
          )
        ).error,
      ).toBe(own);
      const programming = new TypeError('x is not a function');
      expect((await failing(fromSse(() => Promise.reject(programming)))).error).toBe(programming);
      const { error } = await failing(fromSse((signal) => fetch('http://127.0.0.1:1/', { signal })));
      expect(isSseConnectionError(error) && error.phase).toBe('open');
    });

    it.each([
      ['undefined', undefined],
      ['null', null],
      ['an object', {}],
      ['a body that is no stream', { status: 200, headers: new Headers(EVENTS), body: 'data: x\n\n' }],
    ])('%s instead of a Response is a TypeError', async (_, given) => {
      expect((await failing(fromSse(() => given as never))).error).toBeInstanceOf(TypeError);
    });

    it('a body that somebody else reads, and one that is not of bytes, is a TypeError', async () => {
      const taken = new Response('data: x\n\n', { headers: EVENTS });
      taken.body?.getReader();
      expect((await failing(fromSse(() => taken))).error).toBeInstanceOf(TypeError);
      const words = new ReadableStream({ start: (controller) => controller.enqueue('data: x\n\n') });
      const response = { status: 200, headers: new Headers(EVENTS), body: words } as unknown as Response;
      expect((await failing(fromSse(() => response))).error).toBeInstanceOf(TypeError);
      expect(words.locked).toBe(false);
    });

    it('leaves no reader locked: at the end, after an error, after leaving, after a refusal', async () => {
      const responses: Response[] = [];
      const from = (body: ReadableStream<Uint8Array>, init: ResponseInit = { headers: EVENTS }): Observable<ServerSentEvent> =>
        fromSse(
          () => {
            const response = new Response(body, init);
            responses.push(response);
            return response;
          },
          { maxEventBytes: 20 },
        );
      await all(from(streamOf('data: x\n\n')));
      await failing(from(quietBody('data: 01234567890123456789')));
      await firstValueFrom(from(quietBody('data: x\n\n')));
      await failing(from(quietBody('x'.repeat(5000)), { status: 500 }));
      from(quietBody()).subscribe().unsubscribe();
      const late = from(quietBody()).subscribe();
      await sleep(5);
      late.unsubscribe();
      await sleep(5);
      expect(responses.map(({ body }) => body?.locked)).toEqual([false, false, false, false, false, false]);
    });
  });

  describe('what goes wrong', () => {
    it('a reset in the middle is SseConnectionError with what had arrived', async () => {
      const server = await startServer(async ({ open, reset }) => {
        open('id: 1\ndata: one\n\nid: 2\ndata: tw');
        await sleep(10);
        reset();
      });
      const { seen, error } = await failing(fromSse(server.url));
      expect(seen).toEqual(['one']);
      expect(isSseConnectionError(error) && error).toMatchObject({ phase: 'body', events: 1, lastEventId: '1' });
      expect((error as Error).message).toMatch(/^The event stream broke off after 1 event: /);
      expect((error as Error).cause).toBeInstanceOf(TypeError);
    });

    it('so is a FIN before the response is complete', async () => {
      const server = await startServer(async ({ open, socket }) => {
        open('data: one\n\n');
        await sleep(10);
        socket.end();
      });
      const { seen, error } = await failing(fromSse(server.url));
      expect([seen, isSseConnectionError(error) && error.phase]).toEqual([['one'], 'body']);
    });

    it('so is a connection that cannot be made, or that ends before the headers', async () => {
      const { error } = await failing(fromSse('http://127.0.0.1:1/'));
      expect(isSseConnectionError(error) && error).toMatchObject({ phase: 'open', events: 0, lastEventId: '' });
      expect((error as Error).message).toMatch(/^The event stream could not be opened after 0 events: fetch failed: /);
      const server = await startServer(({ reset }) => reset());
      const second = await failing(fromSse(server.url));
      expect(isSseConnectionError(second.error) && second.error.phase).toBe('open');
    });

    it('silence in the body is SseStalledError, and the socket is closed', async () => {
      const server = await startServer(({ open }) => open('data: one\n\n'));
      const { seen, error } = await failing(fromSse(server.url, { idleMs: 30 }));
      expect(seen).toEqual(['one']);
      expect(isSseStalledError(error) && error).toMatchObject({ phase: 'body', ms: 30, events: 1 });
      expect((error as Error).message).toBe('The event stream fell silent for 30 ms after 1 event.');
      await server.whenClosed();
    });

    it('silence before the headers is SseStalledError, and the socket is closed', async () => {
      const server = await startServer(() => {});
      const { error } = await failing(fromSse(server.url, { headersMs: 30, idleMs: 5 }));
      expect(isSseStalledError(error) && error).toMatchObject({ phase: 'headers', ms: 30, events: 0 });
      expect((error as Error).message).toBe('No response headers arrived for 30 ms after 0 events.');
      await server.whenClosed();
    });

    it('comments and half events are a sign of life; without limits silence is none of our business', async () => {
      const server = await startServer(async ({ open, write, response }) => {
        open();
        for (let i = 0; i < 12; i++) {
          await sleep(10);
          write(i % 2 === 0 ? ': ping\n' : 'x');
        }
        response.end('\n\ndata: end\n\n');
      });
      expect(await dataOf(fromSse(server.url, { idleMs: 60, headersMs: 500 }))).toEqual(['end']);
      expect(await dataOf(fromSse(server.url))).toEqual(['end']);
    });

    it('headersMs and idleMs also end a function and a body that listen to nothing', async () => {
      const deaf = await failing(fromSse(() => new Promise<never>(() => {}), { headersMs: 10 }));
      expect(isSseStalledError(deaf.error) && deaf.error.phase).toBe('headers');
      const body = quietBody('data: x\n\n', () => new Promise(() => {}));
      const stuck = await failing(fromSse(() => new Response(body, { headers: EVENTS }), { idleMs: 10 }));
      expect(isSseStalledError(stuck.error) && stuck.error).toMatchObject({ phase: 'body', events: 1 });
      expect(body.locked).toBe(false);
    });

    it('a status other than 2xx is SseStatusError with the beginning of the answer and when to come back', async () => {
      const server = await startServer(({ response }) =>
        response
          .writeHead(429, { 'retry-after': '7', 'x-secret': 'hidden', 'content-type': 'text/event-stream' })
          .end('{"error":"slow down"}'),
      );
      const { error } = await failing(fromSse(server.url));
      expect(isSseStatusError(error) && error).toMatchObject({
        status: 429,
        body: '{"error":"slow down"}',
        headers: { 'retry-after': '7' },
        message: 'The server answered with status 429 instead of an event stream: {"error":"slow down"}',
      });
      expect(JSON.stringify(error)).not.toContain('hidden');
    });

    it('of a long answer 4096 bytes are read, and of one that does not end what comes in a second', async () => {
      const server = await startServer(({ response }, i) => {
        response.writeHead(500);
        if (i === 0) response.end('€'.repeat(100_000));
        else response.write('half');
      });
      const long = await failing(fromSse(server.url));
      expect(isSseStatusError(long.error) && long.error.body).toBe('€'.repeat(1365));
      expect((long.error as Error).message.length).toBeLessThan(300);
      const started = performance.now();
      const half = await failing(fromSse(server.url));
      expect(isSseStatusError(half.error) && half.error.body).toBe('half');
      expect(performance.now() - started).toBeLessThan(2000);
      await server.whenClosed();
    });

    it.each([
      ['text/html; charset=utf-8', 'text/html', 'of type text/html'],
      ['application/json', 'application/json', 'of type application/json'],
      ['text/event-streams', 'text/event-streams', 'of type text/event-streams'],
      ['nonsense', null, 'without a content type'],
      [undefined, null, 'without a content type'],
    ])('content type %s is SseContentTypeError', async (header, contentType, words) => {
      const server = await startServer(({ response }) =>
        response.writeHead(200, header === undefined ? {} : { 'content-type': header }).end('<p>login</p>'),
      );
      const { error } = await failing(fromSse(server.url));
      expect(isSseContentTypeError(error) && error).toMatchObject({ status: 200, contentType, body: '<p>login</p>' });
      expect((error as Error).message).toBe(`The server answered with a response ${words} instead of text/event-stream: <p>login</p>`);
    });

    it.each(['text/event-stream', 'TEXT/Event-Stream;charset=utf-8', 'text/event-stream ; x=y'])(
      'content type %s is right',
      async (header) => {
        const server = await startServer(({ open, response }) => {
          open('data: x\n\n', { 'content-type': header });
          response.end();
        });
        expect(await dataOf(fromSse(server.url))).toEqual(['x']);
      },
    );

    it('an event that is too large is SseEventTooLargeError, and the socket is closed', async () => {
      const server = await startServer(({ open, write, response }) => {
        open('data: ok\n\ndata: ');
        const more = (): void => {
          if (!response.destroyed) write('x'.repeat(1000));
          setTimeout(more, 1).unref();
        };
        more();
      });
      const { seen, error } = await failing(fromSse(server.url, { maxEventBytes: 10_000 }));
      expect(seen).toEqual(['ok']);
      expect(isSseEventTooLargeError(error) && error).toMatchObject({ maxEventBytes: 10_000, events: 1 });
      await server.whenClosed();
    });

    it('no key of the request is in any message, and none of the answer', async () => {
      const key = 'sk-ant-api03-abcdefghijklmnop';
      const server = await startServer(({ request, response }) =>
        response.writeHead(401).end(`bad key ${request.headers['x-api-key']?.toString()}`),
      );
      const status = await failing(fromSse(`${server.url}?api_key=${key}`, { init: { headers: { 'x-api-key': key } } }));
      expect((status.error as Error).message).toBe('The server answered with status 401 instead of an event stream: bad key [redacted]');
      const fetch = (): never => {
        throw new TypeError(`error sending request for url (https://example.org/?key=${key.slice(7)}): failed`);
      };
      const sent = await failing(fromSse('https://example.org/', { fetch }));
      expect(isSseConnectionError(sent.error) && sent.error.message).toBe(
        'The event stream could not be opened after 0 events: error sending request for url (https://example.org/?…): failed.',
      );
    });

    it('what the subscriber throws is its own affair', async () => {
      const server = await startServer(({ open }) => open('data: x\n\n'));
      const boom = new Error('boom');
      const { error } = await failing(
        fromSse(server.url).pipe(
          tap(() => {
            throw boom;
          }),
        ),
      );
      expect(error).toBe(boom);
      await server.whenClosed();
    });
  });

  describe('leaving', () => {
    /** Milliseconds until the server has seen the socket close. */
    const leave = async (answer: (exchange: Exchange) => unknown, options: FromSseOptions = {}): Promise<number> => {
      const server = await startServer(answer);
      const subscription = fromSse(server.url, options).subscribe({ error: () => {} });
      await expect.poll(() => server.exchanges.length).toBe(1);
      await sleep(20);
      expect(server.open).toBe(1);
      const left = performance.now();
      subscription.unsubscribe();
      await server.whenClosed();
      return server.lastClosedAt - left;
    };

    it.each<[string, (exchange: Exchange) => unknown]>([
      ['a quiet stream', ({ open }) => open('data: x\n\n')],
      ['a stream that has never said anything', ({ open }) => open()],
      ['a request without an answer', () => {}],
      ['an error page that does not end', ({ response }) => response.writeHead(500).write('half')],
      [
        'a firehose',
        ({ open, write, response }) => {
          open();
          const more = (): void => {
            if (response.destroyed) return;
            write('data: x\n\n'.repeat(1000));
            setImmediate(more);
          };
          more();
        },
      ],
    ])('%s closes its socket in less than 10 ms', async (_, answer) => {
      let best = Infinity;
      for (let i = 0; i < 10 && best >= 10; i++) best = Math.min(best, await leave(answer));
      expect(best).toBeLessThan(10);
    });

    it('100 quiet streams at once closes all of their sockets, and the scope is closed when they are', async () => {
      const server = await startServer(({ open }) => open('data: x\n\n'));
      let scope: Scope | undefined;
      let events = 0;
      const subscription = scoped((ctx) => range(100).pipe(mergeMap(() => fromSse(server.url, { within: ctx }))), {
        onScope: (each) => (scope = each),
      }).subscribe(() => events++);
      await expect.poll(() => events).toBe(100);
      expect(server.open).toBe(100);
      const left = performance.now();
      subscription.unsubscribe();
      const report = await scope!.closed;
      const closed = performance.now() - left;
      await server.whenClosed();
      expect(report).toMatchObject({ abandoned: [], errors: [], late: [] });
      expect(closed).toBeLessThan(2000);
      expect(server.lastClosedAt - left).toBeLessThan(2000);
      expect(server.open).toBe(0);
    });

    it('in the middle of a chunk stops at once', async () => {
      const server = await startServer(({ open }) => open('data: 1\n\ndata: 2\n\ndata: 3\n\n'));
      const seen: string[] = [];
      const subscription = fromSse(server.url).subscribe(({ data }) => {
        seen.push(data);
        subscription.unsubscribe();
      });
      await expect.poll(() => seen.length).toBe(1);
      await server.whenClosed();
      expect(seen).toEqual(['1']);
    });

    it('before anything has happened sends nothing, or takes it back', async () => {
      const server = await startServer(({ open }) => open('data: x\n\n'));
      fromSse(server.url).subscribe().unsubscribe();
      await sleep(20);
      expect([server.open, openScopes()]).toEqual([0, []]);
    });

    it('the scope waits until the body has been cancelled', async () => {
      let cancelled = false;
      const body = quietBody('data: x\n\n', async () => {
        await sleep(30);
        cancelled = true;
      });
      let scope: Scope | undefined;
      const stream = scoped((ctx) => fromSse(() => new Response(body, { headers: EVENTS }), { within: ctx }), {
        onScope: (each) => (scope = each),
      });
      await firstValueFrom(stream);
      expect(cancelled).toBe(false);
      expect(await scope!.closed).toMatchObject({ errors: [], abandoned: [] });
      expect(cancelled).toBe(true);
    });

    it('and for a request that listens to nothing, whose response is then cancelled, at most its grace', async () => {
      let answer: (response: Response) => void = () => {};
      let cancelled = 0;
      let scope: Scope | undefined;
      const run = (graceMs: number): Observable<ServerSentEvent> =>
        scoped((ctx) => fromSse(() => new Promise<Response>((resolve) => (answer = resolve)), { within: ctx, label: 'deaf' }), {
          onScope: (each) => (scope = each),
          graceMs,
        });
      run(1000).subscribe().unsubscribe();
      expect(openScopes()).toMatchObject([{ state: 'cancelling', calls: [{ label: 'deaf', state: 'cancelling' }] }]);
      answer(
        new Response(
          quietBody('', () => void cancelled++),
          { headers: EVENTS },
        ),
      );
      expect(await scope!.closed).toMatchObject({ abandoned: [], errors: [] });
      expect(cancelled).toBe(1);
      run(10).subscribe().unsubscribe();
      expect((await scope!.closed).abandoned).toMatchObject([{ label: 'deaf' }]);
    });

    it('what the cancel of a body throws is a failure of the cleanup', async () => {
      let scope: Scope | undefined;
      const body = quietBody('data: x\n\n', () => {
        throw new Error('no cancel');
      });
      const stream = scoped((ctx) => fromSse(() => new Response(body, { headers: EVENTS }), { within: ctx }), {
        onScope: (each) => (scope = each),
      });
      const subscription = stream.subscribe();
      await sleep(5);
      subscription.unsubscribe();
      expect((await scope!.closed).errors).toMatchObject([{ phase: 'cleanup', error: { message: 'no cancel' } }]);
    });

    it('a scope that is cancelled from outside errors when the connection has been closed', async () => {
      const server = await startServer(({ open }) => open('data: x\n\n'));
      const controller = new AbortController();
      const stream = scoped((ctx) => fromSse(server.url, { within: ctx }), { signal: controller.signal });
      const { seen, error } = await failing(stream.pipe(tap(() => controller.abort('enough'))));
      expect(seen).toEqual(['x']);
      expect(isScopeCancelledError(error) && error.reason).toEqual({ kind: 'signal', reason: 'enough' });
      await server.whenClosed();
    });

    it('a scope that has been cancelled lets no request out', async () => {
      const server = await startServer(({ open }) => open('data: x\n\n'));
      let scope: Scope | undefined;
      let inner: unknown;
      const group = scoped(() => NEVER, { onScope: (each) => (scope = each) }).subscribe();
      group.unsubscribe();
      fromSse(server.url, { within: scope }).subscribe({ error: (error: unknown) => (inner = error) });
      await sleep(10);
      expect(isScopeCancelledError(inner)).toBe(true);
      expect(server.exchanges).toHaveLength(0);
    });

    it('at every instant of a stream closes it once, hears nothing more and leaves nothing open', async () => {
      const chunks = ['data: a\n\nda', 'ta: b\r', '\n\r\ndata: c\n\ndata: d\n\n', 'data: lost'];
      for (let instant = 0; instant < 60; instant++) {
        let cancels = 0;
        let at = 0;
        const body = new ReadableStream<Uint8Array>({
          pull(controller) {
            const chunk = chunks[at++];
            if (chunk === undefined) controller.close();
            else controller.enqueue(new TextEncoder().encode(chunk));
          },
          cancel: () => void cancels++,
        });
        const seen: string[] = [];
        let left = false;
        let after = 0;
        let over = false;
        const subscription = fromSse(() => Promise.resolve(new Response(body, { headers: EVENTS }))).subscribe({
          next: ({ data }) => (left ? after++ : seen.push(data)),
          complete: () => (over = true),
        });
        for (let i = 0; i < instant; i++) await Promise.resolve();
        left = true;
        subscription.unsubscribe();
        await expect.poll(() => openScopes(), { interval: 0 }).toEqual([]);
        expect([body.locked, after]).toEqual([false, 0]);
        expect(cancels + Number(at > chunks.length)).toBe(1);
        expect(['a', 'b', 'c', 'd'].slice(0, seen.length)).toEqual(seen);
        if (over) expect(seen).toHaveLength(4);
      }
    });

    it('it is found by its label', async () => {
      const server = await startServer(({ open }) => open('data: x\n\n'));
      const subscriptions = [fromSse(server.url).subscribe(), fromSse(server.url, { label: 'prices' }).subscribe()];
      expect(openScopes().flatMap((tree) => tree.calls.map(({ label }) => label))).toEqual(['sse', 'prices']);
      for (const each of subscriptions) each.unsubscribe();
      await expect.poll(() => openScopes()).toEqual([]);
    });
  });

  it('a stream that has ended leaves its socket to the next request', async () => {
    const server = await startServer(({ open, response }) => {
      open('data: x\n\n');
      response.end();
    });
    for (let i = 0; i < 5; i++) await all(fromSse(server.url));
    expect(server.opened).toBeLessThan(3);
  });

  it('20,000 events through one stream leave no memory behind that grows', async () => {
    const server = await startServer(async ({ open, response }) => {
      open();
      for (let i = 0; i < 20; i++) {
        response.write('data: x\n\n'.repeat(1000));
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end();
    });
    let seen = 0;
    await lastValueFrom(fromSse(server.url).pipe(tap(() => seen++)));
    expect(seen).toBe(20_000);
  });

  describe('wrong options throw at once', () => {
    const url = 'https://example.org/';
    const give = (source: unknown, options?: unknown): unknown => fromSse(source as string, options as FromSseOptions);
    it.each<[string, unknown, unknown, typeof TypeError | typeof RangeError]>([
      ['source undefined', undefined, {}, TypeError],
      ['source 5', 5, {}, TypeError],
      ['source that is no address', 'nowhere', {}, TypeError],
      ['source with a password', 'https://user:hunter2@example.org/', {}, TypeError],
      ['options null', url, null, TypeError],
      ['headersMs', url, { headersMs: '5' }, TypeError],
      ['headersMs negative', url, { headersMs: -1 }, RangeError],
      ['idleMs NaN', url, { idleMs: NaN }, RangeError],
      ['maxEventBytes 0', url, { maxEventBytes: 0 }, RangeError],
      ['fetch', url, { fetch: 'x' }, TypeError],
      ['init', url, { init: 5 }, TypeError],
      ['init.signal', url, { init: { signal: new AbortController().signal } }, TypeError],
      ['init.headers', url, { init: { headers: { authorization: 'Bearer hunter2\nx' } } }, TypeError],
      ['init with a function', () => {}, { init: {} }, TypeError],
      ['fetch with a function', () => {}, { fetch: () => {} }, TypeError],
      ['reconnect true', url, { reconnect: true }, TypeError],
      ['reconnect without maxRetries', url, { reconnect: {} }, TypeError],
      ['reconnect.maxRetries', url, { reconnect: { maxRetries: 0 } }, RangeError],
      ['reconnect.minMs', url, { reconnect: { maxRetries: 1, minMs: -1 } }, RangeError],
      ['reconnect.maxMs', url, { reconnect: { maxRetries: 1, maxMs: Infinity } }, RangeError],
      ['reconnect.random', url, { reconnect: { maxRetries: 1, random: 0.5 } }, TypeError],
      [
        'init.body that is a stream, with reconnect',
        url,
        { init: { method: 'POST', body: new ReadableStream(), duplex: 'half' }, reconnect: { maxRetries: 1 } },
        TypeError,
      ],
      [
        'init.body that is an async iterable, with reconnect',
        url,
        { init: { method: 'POST', body: (async function* () {})(), duplex: 'half' }, reconnect: { maxRetries: 1 } },
        TypeError,
      ],
      ['within', url, { within: {} }, TypeError],
      ['label', url, { label: 5 }, TypeError],
      ['scheduler', url, { scheduler: {} }, TypeError],
    ])('%s', (_, source, options, kind) => {
      let error: unknown;
      try {
        give(source, options);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(kind);
      expect((error as Error).message).toMatch(/^fromSse: /);
      expect((error as Error).message).not.toContain('hunter2');
      expect((error as Error).cause).toBeUndefined();
    });

    it('a platform without fetch needs one', () => {
      const { fetch } = globalThis;
      onTestFinished(() => void (globalThis.fetch = fetch));
      globalThis.fetch = undefined as never;
      expect(() => fromSse(url)).toThrow(/^fromSse: fetch must be given where the platform has none/);
      expect(() => fromSse(url, { fetch })).not.toThrow();
    });
  });
});
