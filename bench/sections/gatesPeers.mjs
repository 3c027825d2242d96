import { from } from 'rxjs';
import { collected, plain } from '../lib/contenders.mjs';
import {
  bulkhead,
  circuitBreak,
  CircuitBreaker,
  fanOutScoped,
  RetryGate,
  retryThrough,
  Semaphore,
  TokenBucket,
  tokenBucket,
} from '../lib/fleet.mjs';
import { peer } from '../lib/peers.mjs';
import { nsPer, numbers } from '../lib/steady.mjs';

const file = import.meta.url;
const turn = (x) => new Promise((resolve) => setImmediate(resolve, x));

/*
 * Each makes its gate and returns how it runs all calls of `items`. Those that hand out promises are called by ten workers; ours stands on the
 * calls of a fan-out, as it does in a program.
 */

const byWorkers = (guarded) => (items) => plain.pool(items, guarded, 10);

const inFanOut = (operator, concurrency) => (items) =>
  collected(from(items).pipe(fanOutScoped((x, _, ctx) => operator(ctx.call(() => turn(x))), { concurrency })));

const unguarded = {
  bare: () => byWorkers(turn),
  'fan-out': () => inFanOut((call) => call, 10),
};

const breakers = {
  'ours, breaker': () => {
    const breaker = new CircuitBreaker();
    return inFanOut((call) => call.pipe(circuitBreak(breaker)), 10);
  },
  'cockatiel, breaker': async () => {
    const { circuitBreaker, ConsecutiveBreaker, handleAll } = await peer('cockatiel');
    const policy = circuitBreaker(handleAll, { breaker: new ConsecutiveBreaker(5), halfOpenAfter: 30_000 });
    return byWorkers((x) => policy.execute(() => turn(x)));
  },
  'opossum, breaker': async () => {
    const { default: CircuitBreaker } = await peer('opossum');
    const breaker = new CircuitBreaker(turn, { timeout: false });
    return byWorkers((x) => breaker.fire(x));
  },
};

const retries = {
  'ours, retry': () => {
    const gate = new RetryGate();
    return inFanOut((call) => call.pipe(retryThrough(gate)), 10);
  },
  'cockatiel, retry': async () => {
    const { ExponentialBackoff, handleAll, retry } = await peer('cockatiel');
    const policy = retry(handleAll, { maxAttempts: 4, backoff: new ExponentialBackoff() });
    return byWorkers((x) => policy.execute(() => turn(x)));
  },
};

const limiters = {
  'ours, bucket': () => {
    const bucket = new TokenBucket({ capacity: 1e9, refill: { tokens: 1_000_000, everyMs: 1 } });
    return inFanOut((call) => call.pipe(tokenBucket(bucket)), 10);
  },
  'rate-limiter-flexible': async () => {
    const { RateLimiterMemory } = await peer('rate-limiter-flexible');
    const limiter = new RateLimiterMemory({ points: 1e9, duration: 3600 });
    return byWorkers(async (x) => {
      await limiter.consume('key');
      return turn(x);
    });
  },
  'p-queue, interval': async () => {
    const { default: PQueue } = await peer('p-queue');
    const queue = new PQueue({ interval: 1000, intervalCap: 1e9 });
    return byWorkers((x) => queue.add(() => turn(x)));
  },
  'bottleneck, reservoir': async () => {
    const { default: Bottleneck } = await peer('bottleneck');
    const limiter = new Bottleneck({ reservoir: 1e9 });
    return byWorkers((x) => limiter.schedule(() => turn(x)));
  },
  'Effect 4, RateLimiter': async () => {
    const { Effect } = await peer('effect');
    const { layer, layerStoreMemory, RateLimiter } = await peer('effect/persistence/RateLimiter');
    const options = { key: 'key', limit: 1e9, window: '1 second', algorithm: 'token-bucket' };
    return (items) => {
      const all = Effect.gen(function* () {
        const limiter = yield* RateLimiter;
        const each = (x) =>
          Effect.andThen(
            limiter.consume(options),
            Effect.promise(() => turn(x)),
          );
        return yield* Effect.forEach(items, each, { concurrency: 10 });
      });
      return Effect.runPromise(all.pipe(Effect.provide(layer), Effect.provide(layerStoreMemory)));
    };
  },
};

/** All are started at once; ten run. */
const limits = {
  'ours, semaphore': () => {
    const semaphore = new Semaphore({ limit: 10 });
    return inFanOut((call) => call.pipe(bulkhead(semaphore)), Infinity);
  },
  'cockatiel, bulkhead': async () => {
    const { bulkhead } = await peer('cockatiel');
    const policy = bulkhead(10, Infinity);
    return atOnce((x) => policy.execute(() => turn(x)));
  },
  'p-queue': async () => {
    const { default: PQueue } = await peer('p-queue');
    const queue = new PQueue({ concurrency: 10 });
    return atOnce((x) => queue.add(() => turn(x)));
  },
  'p-limit': async () => {
    const { default: pLimit } = await peer('p-limit');
    const limit = pLimit(10);
    return atOnce((x) => limit(() => turn(x)));
  },
  bottleneck: async () => {
    const { default: Bottleneck } = await peer('bottleneck');
    const limiter = new Bottleneck({ maxConcurrent: 10 });
    return atOnce((x) => limiter.schedule(() => turn(x)));
  },
  'Effect 4, Semaphore': async () => {
    const { Effect, Semaphore } = await peer('effect');
    const semaphore = Semaphore.makeUnsafe(10);
    const each = (x) => semaphore.withPermits(1)(Effect.promise(() => turn(x)));
    return (items) => Effect.runPromise(Effect.forEach(items, each, { concurrency: 'unbounded' }));
  },
};

const atOnce = (limited) => (items) => Promise.all(items.map(limited));

const timed =
  (make) =>
  async ({ size, ...time }) => {
    const run = await make();
    const items = numbers(size);
    return nsPer(size, () => run(items), time);
  };

const everybody = { ...unguarded, ...breakers, ...retries, ...limiters, ...limits };

export const contenders = Object.fromEntries(Object.entries(everybody).map(([name, make]) => [name, timed(make)]));

const CAP_S = 15;

/** One run of few calls, for what is too slow for more. */
const once = (name, size) => ({ name, rounds: 1, capMs: CAP_S * 1000, params: { size, warmMs: 0, sampleMs: 0 } });

const group = (title, size, names, rounds = 3) => {
  const entries = [...Object.keys(unguarded), ...names];
  const rows = entries.map((entry) => entry.name ?? entry).filter((name) => name !== 'bare');
  return {
    title,
    file,
    params: { size },
    rounds,
    contenders: entries,
    unit: 'ns a call',
    rows: rows.map((name) => ({ what: name, figure: (r) => r[name] / r.bare })),
  };
};

const passing = Object.keys({ ...breakers, ...retries, ...limiters }).map((name) =>
  name.startsWith('bottleneck') ? once(name, 1000) : name,
);
const [ours, cockatiel, pQueue, pLimit, bottleneck, effect] = Object.keys(limits);
const quick = [ours, cockatiel, pQueue, pLimit];

export const section = {
  goal: `Side by side with what else guards calls: the cost of a call over that of a bare promise call by ten workers (no goals; ∞: not done in ${CAP_S} s)`,
  groups: [
    group('calls that pass at once: closed breakers, retry policies, limiters with ample tokens', 50_000, passing),
    group('1,000 calls queue for 10 places', 1000, [...quick, effect, once(bottleneck, 1000)]),
    group('10,000 calls queue for 10 places', 10_000, [...quick, once(effect, 10_000)]),
    group('32,000 calls queue for 10 places', 32_000, [ours, once(effect, 32_000)], 1),
    group('100,000 calls queue for 10 places', 100_000, [ours, pQueue, pLimit, once(cockatiel, 100_000)]),
  ],
};
