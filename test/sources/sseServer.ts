import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { onTestFinished } from 'vitest';

export interface Exchange {
  readonly request: IncomingMessage & { readonly body: string };
  readonly response: ServerResponse;
  readonly socket: Socket;
  /** Writes the headers of an event stream, and this. */
  open(text?: string, headers?: Record<string, string>): void;
  write(bytes: string | Uint8Array): void;
  /** Ends the connection with a TCP reset. */
  reset(): void;
}

interface SseServer {
  readonly url: string;
  readonly exchanges: readonly Exchange[];
  /** Sockets that carry a request, or have carried one, and are open now. The platform may keep spare ones besides. */
  readonly open: number;
  /** When a socket last closed. */
  readonly lastClosedAt: number;
  readonly opened: number;
  whenClosed(): Promise<void>;
}

/** A server on loopback for one test. */
export async function startServer(answer: (exchange: Exchange, index: number) => unknown): Promise<SseServer> {
  const sockets = new Set<Socket>();
  const used = new Set<Socket>();
  const exchanges: Exchange[] = [];
  let opened = 0;
  let lastClosedAt = 0;
  let waiting: (() => void)[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const socket = response.socket!;
    used.add(socket);
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const exchange: Exchange = {
      request: Object.assign(request, { body }),
      response,
      socket,
      open(text = '', headers = {}) {
        response.writeHead(200, { 'content-type': 'text/event-stream', ...headers });
        response.flushHeaders();
        if (text !== '') response.write(text);
      },
      write: (bytes) => void response.write(bytes),
      reset: () => void socket.resetAndDestroy(),
    };
    exchanges.push(exchange);
    await answer(exchange, exchanges.length - 1);
  };
  const server = createServer((request, response) => void serve(request, response));
  server.on('connection', (socket) => {
    opened++;
    sockets.add(socket.setNoDelay(true));
    socket.on('error', () => {});
    socket.on('close', () => {
      sockets.delete(socket);
      if (!used.delete(socket)) return;
      lastClosedAt = performance.now();
      if (used.size > 0) return;
      for (const resolve of waiting) resolve();
      waiting = [];
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`,
    exchanges,
    get open() {
      return used.size;
    },
    get opened() {
      return opened;
    },
    get lastClosedAt() {
      return lastClosedAt;
    },
    whenClosed: () => (used.size === 0 ? Promise.resolve() : new Promise((resolve) => void waiting.push(resolve))),
  };
}
