import { createServer } from 'node:http';
import type { IncomingHttpHeaders, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeAnswer } from './messages/answer.js';
import { makeIds } from './messages/complete.js';
import { Exchange } from './messages/exchange.js';
import { RequestLog } from './messages/log.js';
import type { RequestRecord, ServerStats } from './messages/log.js';
import { checkOptions } from './messages/options.js';
import type { MessagesServerOptions } from './messages/options.js';

/** A running server. */
export interface MessagesServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, the `baseURL` of the client. */
  readonly url: string;
  /** The requests seen, oldest first. Live. */
  readonly requests: readonly RequestRecord[];
  /** Totals since the start. */
  stats(): ServerStats;
  /**
   * Resolves as soon as the predicate holds; it is asked at once and again after every change. Rejects if the server is closed first.
   *
   * @example
   * ```
   * await server.when(({ closedByClient }) => closedByClient === 1);
   * await server.when(() => server.requests[0]?.events === 3);
   * ```
   */
  when(predicate: (stats: ServerStats) => boolean): Promise<ServerStats>;
  /** Resolves when no request is open: `when(({ open }) => open === 0)`. */
  whenIdle(): Promise<ServerStats>;
  /** Drops every connection and stops; resolves when nothing is left. Calling it again is harmless. */
  close(): Promise<void>;
}

/**
 * Starts an HTTP server on 127.0.0.1 that speaks the Messages API, for tests and demos with the real SDK: scripted replies, JSON and SSE, the
 * faults of real networks, rate limits, and histories checked as strictly as the API does. It counts what it sees.
 *
 * *When to use*: wherever code under test takes an Anthropic client. What the code does with sockets, headers and events is real; only the model is not.
 *
 * @example
 * ```ts
 * import Anthropic from '@anthropic-ai/sdk';
 * import { reply, startMessagesServer } from 'rxfleet/testing';
 *
 * const server = await startMessagesServer({
 *   script: [reply.toolUse([{ name: 'search', input: { query: 'rxjs' } }]), reply.text('Found it.')],
 * });
 * const client = new Anthropic({ apiKey: 'test', baseURL: server.url, maxRetries: 0 });
 * await client.messages.create({ model: 'claude-test', max_tokens: 100, messages: [{ role: 'user', content: 'hi' }] });
 * await server.whenIdle();
 * server.stats(); // { requests: 1, completed: 1, closedByClient: 0, … }
 * await server.close();
 * ```
 *
 * @param options - the script, and what the server should be strict or slow about
 * @returns the server, once it listens; rejects with a `TypeError` or `RangeError` for a bad option
 */
export async function startMessagesServer(options: MessagesServerOptions): Promise<MessagesServer> {
  checkOptions(options);
  const { logSize = 1000, whenClientLeaves = 'stop' } = options;
  const log = new RequestLog(logSize);
  const ids = makeIds();
  const open = new Set<Exchange>();
  const answer = makeAnswer(options, log);
  const server = createServer((request, response) => {
    const record = log.open(ids.next('req'), request.method ?? '', request.url ?? '/', redacted(request.headers));
    const exchange = new Exchange(record, request, response, log, whenClientLeaves === 'finish');
    open.add(exchange);
    exchange.signal.addEventListener('abort', () => open.delete(exchange));
    answer(exchange).catch((error: unknown) => exchange.crash(error));
  });
  countSockets(server, log);
  const url = await listen(server);
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => (closed ??= shutDown(server, open, log));
  return {
    url,
    requests: log.records,
    stats: () => log.stats(),
    when: (predicate) => log.when(predicate),
    whenIdle: () => log.when((stats) => stats.open === 0),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function listen(server: Server): Promise<string> {
  server.keepAliveTimeout = 0;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

function countSockets(server: Server, log: RequestLog): void {
  server.on('connection', (socket) => {
    log.socketOpened();
    socket.on('close', () => log.socketClosed());
  });
}

async function shutDown(server: Server, open: ReadonlySet<Exchange>, log: RequestLog): Promise<void> {
  const stopped = new Promise((resolve) => server.close(resolve));
  for (const exchange of [...open]) exchange.drop();
  server.closeAllConnections();
  await stopped;
  await log.when(({ sockets }) => sockets === 0);
  log.close();
}

function redacted(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const secret = (name: string): boolean => name === 'x-api-key' || name === 'authorization';
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, secret(name) ? '[redacted]' : String(value)]));
}
