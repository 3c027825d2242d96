import { AsyncResource } from 'node:async_hooks';
import { setMaxListeners } from 'node:events';
import type { AsyncBinding } from './context.default.js';

export type { AsyncBinding };

class NodeBinding extends AsyncResource implements AsyncBinding {
  run<A>(task: (argument: A) => void, argument: A): void {
    this.runInAsyncScope(task, undefined, argument);
  }
}

/** Captures the async context of the caller: AsyncLocalStorage values seen here are seen again inside `run`. */
export function captureContext(): AsyncBinding | undefined {
  return new NodeBinding('rxfleet');
}

/** Lets one signal have any number of listeners without a MaxListenersExceededWarning. */
export function manyListeners(signal: AbortSignal): void {
  try {
    setMaxListeners(0, signal);
  } catch {
    // A signal of a DOM library: it counts no listeners.
  }
}
