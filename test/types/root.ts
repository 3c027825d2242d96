import { failWithin, fanOutScoped, scoped, takeWithin, type FanOutOptions, type Scope } from 'rxfleet';
import { from, merge, of, type Observable } from 'rxjs';

export const lengths: Observable<number> = from(['a', 'bb']).pipe(
  fanOutScoped((word, _index, ctx) => ctx.call((signal) => Promise.resolve(signal.aborted ? 0 : word.length)), { concurrency: 2 }),
  takeWithin(1_000),
  failWithin(2_000),
);

export const nursery: Observable<string> = scoped((scope: Scope) => of(scope.path.join('/')));

/** Options may be passed on whole, and `undefined` counts as absent. */
export function limited(options: FanOutOptions, concurrency: number | undefined): Observable<unknown> {
  return merge(of(1).pipe(fanOutScoped((n) => of(n), options)), of(1).pipe(fanOutScoped((n) => of(n), { concurrency })));
}
