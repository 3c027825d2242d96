import { failWithin, fanOutScoped, scoped, takeWithin, type Scope } from 'rxfleet';
import { from, of, type Observable } from 'rxjs';

export const lengths: Observable<number> = from(['a', 'bb']).pipe(
  fanOutScoped((word, _index, ctx) => ctx.call((signal) => Promise.resolve(signal.aborted ? 0 : word.length)), { concurrency: 2 }),
  takeWithin(1_000),
  failWithin(2_000),
);

export const nursery: Observable<string> = scoped((scope: Scope) => of(scope.path.join('/')));
