import {
  CircuitBreaker,
  circuitBreak,
  failWithin,
  fanOutScoped,
  FleetBudget,
  fleetBudget,
  guard,
  scoped,
  takeWithin,
  TokenBucket,
  tokenBucket,
  type FanOutOptions,
  type Gate,
  type Guard,
  type Scope,
} from 'rxfleet';
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

const bucket = new TokenBucket({ capacity: 10, refill: { tokens: 1, everyMs: 100 } });
const breaker = new CircuitBreaker({ window: { kind: 'count', size: 10, min: 5, rate: 0.5 } });
const budget = new FleetBudget({ usd: '0.30' });

export const gated: Observable<number> = of(1).pipe(
  tokenBucket(bucket, { cost: 2, settle: (n) => n }),
  fleetBudget(budget, { estimate: 1_000, actual: (n) => n }),
  circuitBreak(breaker, { isFailureResult: (n) => n > 5 }),
);

export const polite: Guard<string> = guard<string>({ bucket, breaker: () => breaker, ask: (key) => ({ key, cost: 1 }) });
export const words: Observable<string> = of('a').pipe(polite('key'));

export const own: Gate<number, string> = {
  name: 'own',
  enter(ask, call, caller) {
    if (ask > call.attempt) caller.refused(new Error('too much'));
    else caller.granted({ settle: () => undefined }, 'granted');
    return () => undefined;
  },
};

// @ts-expect-error: a bucket holds whole tokens at a rate, and the rate has to be said
new TokenBucket({ capacity: 10 });
// @ts-expect-error: a budget without an estimate could not be kept
fleetBudget(budget, {});
