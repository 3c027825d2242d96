import type { MonoTypeOperatorFunction } from 'rxjs';
import { checkCount, checkNumber, refuse } from '../gates/checks.js';
import type { PermitAsk, Semaphore } from '../gates/semaphore.js';
import { gated } from './admit.js';

const WHO = 'bulkhead';

const ONE_PERMIT: PermitAsk = {};

/**
 * Lets a limited number of calls run at once, across everything that shares the semaphore.
 *
 * ```
 * call 1    --a--|                        call 1    ------          unsubscribed: stopped
 * call 2    .....--b--|                   call 2    ......--b--|    waits until call 1 has really ended
 * ```
 *
 * Use it in front of what is limited by the other side: connections, a database, an API that counts parallel requests. A
 * fan-out's own `concurrency` limits that fan-out; a semaphore limits all of them together. Permits are for leaf calls: a
 * call below a holder that asks for the same semaphore is refused, for it would wait for ever.
 *
 * ```ts
 * import { from, of } from 'rxjs';
 * import { bulkhead, fanOutScoped, Semaphore } from 'rxfleet';
 *
 * const connections = new Semaphore({ limit: 2 });
 * from([1, 2, 3])
 *   .pipe(fanOutScoped((n) => of(n).pipe(bulkhead(connections))))
 *   .subscribe((n) => console.log(n));
 * ```
 *
 * @param semaphore - shared by all calls that it limits together
 * @param ask - `permits` (an integer, default 1), `key` (callers of different keys take turns), `priority` (higher goes
 * first, default 0), or a function that gives them, called once for each attempt
 * @returns an operator that errors with BulkheadFullError when the queue is full, PermitsExceedLimitError,
 * ReentrantAcquireError with the path, BadAskError or ResourceDisposedError; the source is not subscribed then.
 * Unsubscribing leaves the line, or stops the call, whose permits are free once nothing of it runs any more
 * @see tokenBucket for calls per time instead of calls at once
 */
export function bulkhead<T>(semaphore: Semaphore, ask: PermitAsk | (() => PermitAsk) = ONE_PERMIT): MonoTypeOperatorFunction<T> {
  if (typeof ask !== 'function') checkAsk(ask);
  return gated(WHO, semaphore, ask);
}

function checkAsk(ask: PermitAsk): void {
  if (typeof ask !== 'object' || ask === null) refuse(TypeError, WHO, 'ask', 'an object or a function', ask);
  const { permits, key, priority } = ask;
  if (permits !== undefined) checkCount(WHO, 'permits', permits, 1);
  if (key !== undefined && typeof key !== 'string') refuse(TypeError, WHO, 'key', 'a string', key);
  if (priority !== undefined) checkNumber(WHO, 'priority', priority, 'a number', (n) => !Number.isNaN(n));
}
