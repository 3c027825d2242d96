import { defer, map, NEVER, of, throwError, type Observable } from 'rxjs';
import {
  circuitBreak,
  CircuitBreaker,
  DepthGate,
  depthLimit,
  FleetBudget,
  fleetBudget,
  guard,
  KeyedLock,
  RetryGate,
  retryThrough,
  scoped,
  serializeBy,
  TokenBucket,
  tokenBucket,
  tripLog,
  type GateEvent,
  type TripRecord,
} from 'rxfleet';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** What was thrown at nobody in particular, which ends a process. */
let uncaught: unknown[];
let before: NodeJS.UncaughtExceptionListener[];
const note = (error: unknown): void => void uncaught.push(error);
beforeEach(() => {
  uncaught = [];
  before = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', note);
});
afterEach(() => {
  process.removeListener('uncaughtException', note);
  for (const each of before) process.on('uncaughtException', each);
});
const idle = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 20));

const touchy = new Proxy(new Error('touchy'), {
  get: () => {
    throw new Error('do not touch');
  },
  has: () => {
    throw new Error('do not touch');
  },
  getPrototypeOf: () => {
    throw new Error('do not touch');
  },
  defineProperty: () => {
    throw new Error('do not touch');
  },
  ownKeys: () => {
    throw new Error('do not touch');
  },
});
const revoked = Proxy.revocable({}, {});
revoked.revoke();
const getters = Object.defineProperties(new Error('x'), {
  message: {
    get: () => {
      throw new Error('m');
    },
  },
  name: {
    get: () => {
      throw new Error('n');
    },
  },
  code: {
    get: () => {
      throw new Error('c');
    },
  },
});

const hostile: readonly (readonly [string, unknown])[] = [
  ['a proxy that throws whatever is asked of it', touchy],
  ['a revoked proxy', revoked.proxy],
  ['an error whose properties throw', getters],
  ['a frozen error', Object.freeze(new Error('frozen'))],
  ['undefined', undefined],
  ['null', null],
  ['a symbol', Symbol('s')],
  ['an object without a prototype', Object.create(null)],
];

const gates = () => ({
  retry: new RetryGate({ name: 'retry' }),
  breaker: new CircuitBreaker({ name: 'breaker', failures: 1 }),
  budget: new FleetBudget({ name: 'budget', microUsd: 100 }),
  bucket: new TokenBucket({ name: 'bucket', capacity: 10, refill: { tokens: 1, everyMs: 1_000 } }),
});

describe('errors that cannot be looked at', () => {
  it.each(hostile)('%s comes out as it is, every gate settles, and nothing is uncaught', async (_, error) => {
    const all = gates();
    const records: TripRecord[] = [];
    tripLog({ gates: Object.values(all), also: ['refused', 'revoked'] }).subscribe((record) => records.push(record));
    const polite = guard({ ...all, timeoutMs: 1_000, ask: () => ({ estimate: 10 }) });
    let seen: { readonly error: unknown } | undefined;
    throwError(() => error)
      .pipe(polite())
      .subscribe({ error: (each: unknown) => (seen = { error: each }) });
    expect(seen?.error).toBe(error);
    expect(all.bucket.snapshot()).toMatchObject({ inFlight: 0 });
    expect(all.budget.snapshot()).toMatchObject({ inFlight: 0, microUsd: { reserved: 0 } });
    expect(all.breaker.snapshot()).toMatchObject({ inFlight: 0, state: 'open' });
    expect(all.retry.snapshot()).toMatchObject({ inFlight: 0 });
    expect(() => JSON.stringify(records)).not.toThrow();
    await idle();
    expect(uncaught).toEqual([]);
  });

  it.each(hostile)('%s from a source that is being stopped keeps no scope open', async (_, error) => {
    const breaker = new CircuitBreaker({ name: 'breaker' });
    const ends: unknown[] = [];
    const rude = scoped((scope) =>
      scope.call(
        (signal) =>
          new Promise<never>((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(error));
          }),
      ),
    );
    rude.pipe(circuitBreak(breaker)).subscribe({ error: (each: unknown) => ends.push(each) });
    breaker.trip(error);
    await idle();
    expect(ends).toMatchObject([{ code: 'CIRCUIT_TRIPPED' }]);
    expect(breaker.snapshot()).toMatchObject({ inFlight: 0 });
    expect(uncaught).toEqual([]);
  });
});

describe('names and numbers from outside', () => {
  const strange = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];

  it.each(strange)('a limit, a node and a key may be called %s', (name) => {
    const limits = Object.fromEntries([
      [name, { capacity: 5, refill: { tokens: 1, everyMs: 1_000 } }],
      ['other', { capacity: 5, refill: { tokens: 1, everyMs: 1_000 } }],
    ]);
    const bucket = new TokenBucket({ name: 'bucket', limits });
    of(1)
      .pipe(tokenBucket(bucket, { cost: Object.fromEntries([[name, 2]]), key: name }))
      .subscribe();
    const picture = bucket.snapshot().limits;
    expect(Object.keys(picture)).toEqual([name, 'other']);
    expect(Object.getOwnPropertyDescriptor(picture, name)?.value).toMatchObject({ tokens: 3 });
    bucket.sync({ limits: Object.fromEntries([[name, { remaining: 1 }]]) });
    expect(Object.getOwnPropertyDescriptor(bucket.snapshot().limits, name)?.value).toMatchObject({ tokens: 1 });
    const child = new FleetBudget({ name: 'fleet', usd: '1' }).child(name, { usd: '0.5' });
    expect(child.path).toEqual(['fleet', name]);
    const lock = new KeyedLock();
    NEVER.pipe(serializeBy(lock, { writes: [name] })).subscribe();
    expect(lock.snapshot().keys).toMatchObject([{ key: name }]);
  });

  it.each([NaN, -1, 0.5, Infinity, 2 ** 53, '5', null])('a per-call value of %s fails that call only (C9)', (bad) => {
    const { budget, bucket } = gates();
    const codes: unknown[] = [];
    const fail = { error: (error: { code?: unknown }) => codes.push(error.code) };
    of(1)
      .pipe(tokenBucket(bucket, { cost: () => bad as number }))
      .subscribe(fail);
    of(1)
      .pipe(fleetBudget(budget, { estimate: () => bad as number }))
      .subscribe(fail);
    of(1)
      .pipe(fleetBudget(budget, { estimate: 1, actual: () => bad as number }))
      .subscribe(fail);
    of(1)
      .pipe(tokenBucket(bucket, { settle: () => bad as number }))
      .subscribe(fail);
    expect(codes).toHaveLength(4);
    expect(codes.every((code) => code === 'BAD_ASK')).toBe(true);
    expect(budget.snapshot()).toMatchObject({ inFlight: 0, microUsd: { reserved: 0 } });
    expect(bucket.snapshot()).toMatchObject({ inFlight: 0 });
  });

  it('2.3: at the edge of 2^53 the ledger stays exact', () => {
    const most = Number.MAX_SAFE_INTEGER;
    const fleet = new FleetBudget({ name: 'fleet', microUsd: most });
    const agent = fleet.child('agent', { microUsd: 'unbounded' });
    const run = (estimate: number, actual: number): string | undefined => {
      let code: string | undefined;
      of(actual)
        .pipe(fleetBudget(agent, { estimate, actual: (spent) => spent }))
        .subscribe({ error: (error: { code: string }) => (code = error.code) });
      return code;
    };
    expect(run(most, most - 2)).toBeUndefined();
    expect(run(3, 3)).toBe('BUDGET_EXCEEDED');
    expect(run(2, 2)).toBeUndefined();
    expect(run(1, 1)).toBe('BUDGET_EXCEEDED');
    expect(fleet.snapshot().microUsd).toMatchObject({ spent: most, reserved: 0, overrun: 0 });
    expect(agent.snapshot().microUsd).toMatchObject({ spent: most, reserved: 0 });
  });
});

describe('nothing is lost silently', () => {
  it('every refusal is an event, also one for a bad ask, a disposed gate or a call that would wait for itself', () => {
    const heard: string[] = [];
    const hear = (event: GateEvent): void => void (event.type === 'refused' && heard.push(`${event.gate} ${event.error.name}`));
    const { retry, breaker, budget } = gates();
    const lock = new KeyedLock({ name: 'lock' });
    const depth = new DepthGate({ name: 'depth' });
    for (const gate of [retry, breaker, budget, lock, depth]) gate.events$.subscribe(hear);
    const quiet = { error: () => undefined };
    const inside = (call: Observable<unknown>): void =>
      void of(1)
        .pipe(map(() => call))
        .subscribe((each) => each.subscribe(quiet));
    inside(of(1).pipe(fleetBudget(budget, { estimate: () => NaN })));
    inside(of(1).pipe(serializeBy(lock, () => ({ writes: [5] }) as never)));
    NEVER.pipe(serializeBy(lock, { writes: ['a'] })).subscribe(quiet);
    const outer = defer(() => of(1).pipe(serializeBy(lock, { writes: ['a'] })));
    outer.pipe(serializeBy(lock, { reads: ['b'] })).subscribe(quiet);
    for (const gate of [retry, breaker, budget, lock, depth]) gate.dispose();
    of(1).pipe(retryThrough(retry)).subscribe(quiet);
    of(1).pipe(circuitBreak(breaker)).subscribe(quiet);
    of(1)
      .pipe(fleetBudget(budget, { estimate: 1 }))
      .subscribe(quiet);
    of(1)
      .pipe(serializeBy(lock, { writes: ['a'] }))
      .subscribe(quiet);
    of(1).pipe(depthLimit(depth)).subscribe(quiet);
    expect(heard).toEqual([
      'budget BadAskError',
      'lock BadAskError',
      'lock ReentrantAcquireError',
      'retry ResourceDisposedError',
      'breaker ResourceDisposedError',
      'budget ResourceDisposedError',
      'lock ResourceDisposedError',
      'depth ResourceDisposedError',
    ]);
  });
});
