import { from, mergeMap, VirtualTimeScheduler } from 'rxjs';
import { abortable } from '../lib/contenders.mjs';
import { circuitBreak, CircuitBreaker, fanOutScoped, takeWithin } from '../lib/fleet.mjs';
import { peer } from '../lib/peers.mjs';
import { median } from '../lib/stats.mjs';
import { cpuNow, nextTurn, numbers } from '../lib/steady.mjs';

const file = import.meta.url;

/** A call that ends when its signal says so. */
const hang = (signal) =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });

/*
 * Each starts `size` calls and returns how to cancel them all. `cancel` is what is timed as `sync`; the promise it may return is awaited outside of it.
 * `all` is the time until everything has acknowledged.
 */

function raw(size) {
  const controllers = numbers(size).map(() => new AbortController());
  const ended = Promise.allSettled(controllers.map((controller) => hang(controller.signal)));
  return {
    cancel: () => {
      const reason = new Error('cancelled');
      for (const controller of controllers) controller.abort(reason);
    },
    ended: () => ended,
  };
}

function fleet(size, project, outer = (source) => source, policy = 'failFast') {
  let scope;
  const options = { concurrency: Infinity, policy, onScope: (group) => (scope = group) };
  let ended;
  const output = new Promise((resolve) => (ended = resolve));
  const subscription = outer(from(numbers(size)).pipe(fanOutScoped(project, options))).subscribe({ error: ended, complete: ended });
  return { subscription, output, closed: () => scope.closed };
}

const call = (_, __, ctx) => ctx.call((signal) => hang(signal));

function unsubscribe(size) {
  const { subscription, closed } = fleet(size, call);
  return { cancel: () => subscription.unsubscribe(), ended: closed };
}

/** The promise that fails is told first, so its reaction has run, and with it the whole cancel, when the next microtask does. */
function failure(size) {
  let fail;
  const failing = new Promise((_, reject) => (fail = reject));
  const { output } = fleet(size, (x, index, ctx) => (x === 0 ? ctx.call(() => failing) : call(x, index, ctx)));
  return {
    cancel: () => {
      fail(new Error('the first failure'));
      return new Promise((resolve) => queueMicrotask(() => resolve(cpuNow())));
    },
    ended: () => output,
  };
}

function deadline(size) {
  const scheduler = new VirtualTimeScheduler(undefined, 1000);
  const { output } = fleet(size, call, (source) => source.pipe(takeWithin(1000, { scheduler })));
  return { cancel: () => scheduler.flush(), ended: () => output };
}

/** A breaker that is told to trip; each of its calls ends with an error of its own, and the fan-out collects their outcomes. */
function trip(size) {
  const breaker = new CircuitBreaker();
  const { output } = fleet(size, guarded(breaker, call), undefined, 'settle');
  return { cancel: () => breaker.trip(), ended: () => output };
}

/** One call fails, and the breaker trips. As with the first failure of a fan-out, all has happened by the next microtask. */
function tripByFailure(size) {
  const breaker = new CircuitBreaker({ failures: 1 });
  let fail;
  const failing = new Promise((_, reject) => (fail = reject));
  const some = (x, index, ctx) => (x === 0 ? ctx.call(() => failing) : call(x, index, ctx));
  const { output } = fleet(size, guarded(breaker, some), undefined, 'settle');
  return {
    cancel: () => {
      fail(new Error('it is down'));
      return new Promise((resolve) => queueMicrotask(() => resolve(cpuNow())));
    },
    ended: () => output,
  };
}

const guarded = (breaker, project) => (x, index, ctx) => project(x, index, ctx).pipe(circuitBreak(breaker));

function mergeMapUnsubscribe(size) {
  const subscription = from(numbers(size))
    .pipe(mergeMap(() => abortable(hang)))
    .subscribe();
  return { cancel: () => subscription.unsubscribe(), ended: () => nextTurn() };
}

async function effectInterrupt(size) {
  const { Effect, Fiber } = await peer('effect');
  const each = () => Effect.promise((signal) => hang(signal));
  const fiber = Effect.runFork(Effect.forEach(numbers(size), each, { concurrency: 'unbounded', discard: true }));
  await nextTurn();
  return { cancel: () => Effect.runPromise(Fiber.interrupt(fiber)), ended: () => undefined, waits: true };
}

function timed(start) {
  return async ({ size, samples }) => {
    for (let i = 0; i < 5; i++) await once(start, 1000);
    const found = [];
    for (let i = 0; i < samples; i++) found.push(await once(start, size));
    return { sync: median(found.map(({ sync }) => sync)), all: median(found.map(({ all }) => all)) };
  };
}

async function once(start, size) {
  const { cancel, ended, waits = false } = await start(size);
  await nextTurn();
  globalThis.gc();
  const begin = cpuNow();
  const handed = cancel();
  const returned = cpuNow();
  const sync = handed === undefined || waits ? returned : ((await handed) ?? returned);
  await handed;
  await ended();
  const perCall = (until) => ((until - begin) * 1e6) / size;
  return { sync: perCall(sync), all: perCall(cpuNow()) };
}

export const contenders = {
  raw: timed(raw),
  unsubscribe: timed(unsubscribe),
  'first failure': timed(failure),
  deadline: timed(deadline),
  trip: timed(trip),
  'a failure that trips': timed(tripByFailure),
  mergeMap: timed(mergeMapUnsubscribe),
  effect: timed(effectInterrupt),
};

const byScope = ['unsubscribe', 'first failure', 'deadline'];
const byBreaker = ['trip', 'a failure that trips'];

const group = (size, samples, rounds) => ({
  title: `${size.toLocaleString('en-US')} calls in flight, the synchronous part of the cancel`,
  file,
  params: { size, samples },
  flags: ['--expose-gc'],
  rounds,
  contenders: [
    'raw',
    ...byScope,
    ...byBreaker.map((name) => ({ name, rounds: 3 })),
    { name: 'mergeMap', rounds: 3, params: { samples: 1 } },
    { name: 'effect', rounds: 3, params: { samples: 1 } },
  ],
  unit: 'ns a call',
  tell: (r, name) => r[name].sync,
  rows: [
    ...[...byScope, ...byBreaker].map((way) => ({
      what: `${way} over the raw loop`,
      figure: (r) => r[way]?.sync / r.raw.sync,
      atMost: 1.25,
    })),
    { what: 'unsubscribed mergeMap over the raw loop', figure: (r) => r.mergeMap?.sync / r.raw.sync },
    { what: 'until all have ended: unsubscribe over the raw loop', figure: (r) => r.unsubscribe.all / r.raw.all },
    { what: 'until all have ended: Effect 4 interrupt over the raw loop', figure: (r) => r.effect?.all / r.raw.all },
  ],
});

export const section = {
  goal: 'Goal 3: cancelling everything in flight, each call with a listener on its own signal, against a raw loop over controllers with one shared reason',
  groups: [group(10_000, 7, 7), group(100_000, 2, 5)],
};
