import { isObservable, lastValueFrom, type Observable } from 'rxjs';
import { CallObservable } from './call.js';
import { ignoreRejection } from './lease.js';
import type { ScopeNode } from './node.js';

interface Owner extends ScopeNode {
  track(cleanup: PromiseLike<unknown>, label?: string): void;
}

/** Opens a resource as a call of `owner` and leaves the closing to its end. What opens after all is closed at once. */
export function acquire<R>(owner: Owner, open: () => PromiseLike<R>, close: (resource: R) => unknown): Observable<R> {
  const label = open.name || 'acquire';
  const release = (resource: R): void => {
    const closing = run(() => close(resource));
    if (owner.over) ignoreRejection(closing);
    else owner.track(closing, `close ${label}`);
  };
  const opened = async (signal: AbortSignal): Promise<R> => {
    const resource = await open();
    if (signal.aborted || owner.over) {
      release(resource);
      throw signal.reason;
    }
    (owner.more.closers ??= []).push(() => release(resource));
    return resource;
  };
  return new CallObservable(owner, opened, { label });
}

async function run(task: () => unknown): Promise<unknown> {
  const result = task();
  return isObservable(result) ? lastValueFrom(result, { defaultValue: undefined }) : result;
}
