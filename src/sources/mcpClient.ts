import { Observable } from 'rxjs';
import { z } from 'zod';

/** A connected `Client` of `@modelcontextprotocol/sdk`, as far as it is needed here. */
export interface McpClient {
  request(
    request: { method: string; params?: Record<string, unknown> },
    resultSchema: unknown,
    options?: McpRequestOptions,
  ): Promise<unknown>;
  callTool(
    params: { name: string; arguments?: Record<string, unknown> },
    resultSchema?: unknown,
    options?: McpRequestOptions,
  ): Promise<unknown>;
  getServerCapabilities(): { readonly tools?: { readonly listChanged?: boolean | undefined } | undefined } | undefined;
  setNotificationHandler(schema: unknown, handler: (notification: object) => void | Promise<void>): void;
  removeNotificationHandler(method: string): void;
  onclose?: (() => void) | undefined;
}

/** What the client takes with a request. */
export interface McpRequestOptions {
  signal?: AbortSignal;
  timeout?: number;
  resetTimeoutOnProgress?: boolean;
  onprogress?: (progress: McpProgress) => void;
}

/** How far a call is, as the server tells it: the value of a `progress` event. */
export interface McpProgress {
  readonly progress: number;
  readonly total?: number | undefined;
  readonly message?: string | undefined;
}

/**
 * A request that ends when the signal is aborted. It has a controller of its own: the client leaves its listeners on the signal, and sends the
 * reason to the server, which has no business with ours.
 */
export async function ask<T>(signal: AbortSignal, request: (signal: AbortSignal) => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const own = new AbortController();
  const stop = (): void => own.abort('cancelled');
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await request(own.signal);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

const CHANGED = 'notifications/tools/list_changed';
const NOTIFICATION = z.looseObject({ method: z.literal(CHANGED) });
const LISTENING: unique symbol = Symbol('rxfleet.mcpListening');

type Handler = (notification: object) => void | Promise<void>;
type Listened = McpClient & { [LISTENING]?: Listening | undefined; readonly _notificationHandlers?: Map<string, Handler> | undefined };

interface Listener {
  readonly changed: () => void;
  readonly closed: () => void;
}

/** Who listens to a client, and the handlers that tell them. */
interface Listening {
  readonly listeners: Set<Listener>;
  changed: { readonly handler: Handler | undefined } | undefined;
  closed: (() => void) | undefined;
}

/** Whenever the server says that its tools have changed, until the connection is closed. Completes at once if the server never says so. */
export function toolsChanged(client: McpClient): Observable<void> {
  return new Observable((subscriber) => {
    if (client.getServerCapabilities()?.tools?.listChanged !== true) return subscriber.complete();
    const listener = { changed: () => subscriber.next(), closed: () => subscriber.complete() };
    const { listeners } = listen(client);
    listeners.add(listener);
    return () => listeners.delete(listener);
  });
}

/** A client has room for one handler of each kind: ours calls that which was there, and is set again where somebody has set another since. */
function listen(client: Listened): Listening {
  const listening = (client[LISTENING] ??= { listeners: new Set(), changed: undefined, closed: undefined });
  const tell = (what: keyof Listener): void => [...listening.listeners].forEach((each) => each[what]());
  const [changed, closed] = [client._notificationHandlers?.get(CHANGED), client.onclose];
  if (listening.changed === undefined || listening.changed.handler !== changed) {
    client.setNotificationHandler(NOTIFICATION, (notification) => {
      tell('changed');
      return changed?.(notification);
    });
    listening.changed = { handler: client._notificationHandlers?.get(CHANGED) };
  }
  if (listening.closed === undefined || listening.closed !== closed)
    listening.closed = client.onclose = () => {
      tell('closed');
      closed?.();
    };
  return listening;
}
