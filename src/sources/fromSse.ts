import type { Observable } from 'rxjs';
import { CallObservable } from '../core/call.js';
import type { ScopeNode } from '../core/node.js';
import type { SseResponder } from './sseConnection.js';
import { checkSse, type FromSseOptions } from './sseOptions.js';
import type { ServerSentEvent } from './sseParser.js';
import { requestTo } from './sseRequest.js';
import { SseStream } from './sseStream.js';

/**
 * The events of a server as they are sent, with any method, headers and body, and a typed error for every way in which they can stop short.
 *
 * ```
 * HTTP      --a--b----c--|                HTTP      --a--b--x          the socket is closed,
 * output    --a--b----c--|                output    --a--b--!          also while nothing arrives
 * ```
 *
 * Use it where `EventSource` does not do: it sends GET without headers of your own, repeats requests without asking, tells nothing of an
 * error, and servers do not have it.
 *
 * ```ts
 * import { fromSse } from 'rxfleet';
 *
 * const stream = 'data: hello\n\nevent: bye\ndata: now\n\n';
 * fromSse(() => new Response(stream, { headers: { 'content-type': 'text/event-stream' } })).subscribe(({ event, data }) => console.log(event, data));
 * ```
 *
 * @param source - an address, or a function that is given a signal and the last event id and gives a Response: whoever signs requests sends them
 * @param options - `init` of the request, `headersMs` and `idleMs` (default Infinity), `maxEventBytes` (default 16 MiB), `reconnect`
 * (default false) and others; see {@link FromSseOptions}
 * @returns a cold Observable, one request per subscription, that completes when the server ends the response; what the format's own end
 * marker is, if it has one, only its reader knows. Unsubscribing closes the connection at once; the scope waits until it is closed. Errors with
 * SseConnectionError, SseStalledError, SseStatusError, SseContentTypeError, SseEventTooLargeError, ScopeCancelledError, or what the function threw
 * @see fromAsyncIterable for other streams
 */
export function fromSse(source: string | URL | SseResponder, options: FromSseOptions = {}): Observable<ServerSentEvent> {
  checkSse(source, options);
  const { within, label = 'sse', init = {}, fetch } = options;
  const platform = typeof source !== 'function' && fetch === undefined;
  const ask = typeof source === 'function' ? source : requestTo(source, init, fetch ?? ((...request) => globalThis.fetch(...request)));
  return new CallObservable(within as ScopeNode | undefined, () => new SseStream(ask, platform, options), { label });
}
