import { from, map } from 'rxjs';
import { collected } from '../lib/contenders.mjs';
import {
  bulkhead,
  circuitBreak,
  CircuitBreaker,
  fanOutScoped,
  FleetBudget,
  fleetBudget,
  RetryGate,
  retryThrough,
  Semaphore,
  TokenBucket,
  tokenBucket,
} from '../lib/fleet.mjs';
import { nsPer, numbers } from '../lib/steady.mjs';

const file = import.meta.url;
const turn = (x) => new Promise((resolve) => setImmediate(resolve, x));
const identity = (x) => x;

/** Gates that let every call pass at once. */
function open() {
  const breaker = new CircuitBreaker();
  const bucket = new TokenBucket({ capacity: 1e9, refill: { tokens: 1_000_000, everyMs: 1 } });
  const semaphore = new Semaphore({ limit: 1_000_000 });
  const fleet = new FleetBudget({ name: 'fleet', usd: 1_000_000 });
  const task = fleet.child('agent', { usd: 1_000_000 }).child('task', { usd: 1_000_000 });
  const retries = new RetryGate();
  const charge = { estimate: 100, actual: () => 40 };
  return {
    none: (call) => call,
    breaker: (call) => call.pipe(circuitBreak(breaker)),
    bucket: (call) => call.pipe(tokenBucket(bucket)),
    semaphore: (call) => call.pipe(bulkhead(semaphore)),
    budget: (call) => call.pipe(fleetBudget(task, charge)),
    five: (call) =>
      call.pipe(tokenBucket(bucket), bulkhead(semaphore), fleetBudget(task, charge), circuitBreak(breaker), retryThrough(retries)),
  };
}

const gates = Object.keys(open());

const timed =
  (name) =>
  ({ mapped, c, size }) => {
    const guarded = open()[name];
    const call = (x, _, ctx) => guarded(ctx.call(() => turn(x)));
    const project = mapped ? (x, index, ctx) => call(x, index, ctx).pipe(map(identity)) : call;
    const items = numbers(size);
    return nsPer(size, () => collected(from(items).pipe(fanOutScoped(project, { concurrency: c }))));
  };

export const contenders = Object.fromEntries(gates.map((name) => [name, timed(name)]));

const ratio = (what, name, atMost) => ({ what, figure: (r) => r[name] / r.none, atMost });

const rows = [
  ratio('a closed breaker', 'breaker', 1.5),
  ratio('an ample bucket', 'bucket', 1.3),
  ratio('an idle semaphore', 'semaphore', 1.3),
  ratio('a budget, reserve and settle on 3 levels', 'budget', 1.3),
  { what: 'added by five stacked', figure: (r) => r.five - r.none, unit: 'ns', atMost: 1500 },
  ratio('five stacked', 'five'),
];

const group = (title, mapped, rounds) => ({
  title,
  file,
  rounds,
  params: { mapped, c: 10, size: 50_000 },
  contenders: gates,
  unit: 'ns a call',
  rows,
});

export const section = {
  goal: 'Goal 5: what a gate that lets a call pass adds to it, against the same pipeline without it',
  groups: [
    group('calls of a fan-out whose results go through one map, c = 10', true, 7),
    group('calls of a fan-out with nothing else in their pipe, c = 10', false, 5),
  ],
};
