import type { MonoTypeOperatorFunction } from 'rxjs';
import { refuse } from '../gates/checks.js';
import { checkKeys, type KeyedLock, type LockKeys } from '../gates/keyedLock.js';
import { gated } from './admit.js';

const WHO = 'serializeBy';

/**
 * Runs calls whose keys conflict one after the other, in order of arrival, and all others at once.
 *
 * ```
 * writes a      --x--|                    writes a      ------          unsubscribed: stopped
 * writes a, b   .....--y--|               writes a, b   ......--y--|    starts once the first has really ended
 * reads c       --z--|                    reads c       --z--|
 * ```
 *
 * Use it where calls touch things that others touch: files, records, a browser tab. Each call names what it reads and what it
 * writes; then a fan-out needs no order made by hand. Readers of a key run together, a writer alone, and nobody overtakes
 * whoever waits in front for the same key. A call below a holder shares its keys: what the holder has is granted at once,
 * anything else only if it is free right now, for waiting while holding could be for ever.
 *
 * ```ts
 * import { from, of } from 'rxjs';
 * import { fanOutScoped, KeyedLock, serializeBy } from 'rxfleet';
 *
 * const files = new KeyedLock();
 * from(['a.md', 'b.md', 'a.md'])
 *   .pipe(fanOutScoped((file) => of(`${file} saved`).pipe(serializeBy(files, { writes: [file] }))))
 *   .subscribe((word) => console.log(word));
 * ```
 *
 * @param lock - shared by all calls that may touch the same things
 * @param keys - `reads` and `writes`, arrays of strings, each default empty; or a function that gives them, called once for
 * each attempt. A key in both is written
 * @returns an operator that errors with ReentrantAcquireError with the paths, BadAskError or ResourceDisposedError; the source
 * is not subscribed then. Unsubscribing leaves the lines, or stops the call, whose keys are free once nothing of it runs any
 * more
 * @see bulkhead for a number of calls at once, whatever they touch
 */
export function serializeBy<T>(lock: KeyedLock, keys: LockKeys | (() => LockKeys)): MonoTypeOperatorFunction<T> {
  if (typeof keys !== 'function') checkKeys(keys, (what, range, got) => refuse(TypeError, WHO, what, range, got));
  return gated(WHO, lock, keys);
}
