import { asyncScheduler, map, mergeMap, NEVER, Observable, of, from, Subject, takeUntil, timeout, timer } from 'rxjs';
import { inner } from '../lib/fleet.mjs';
import { median } from '../lib/stats.mjs';
import { cpuNow, numbers, settledHeap } from '../lib/steady.mjs';

const file = import.meta.url;
const noop = () => {};
const kept = new Array(1024);

/** Nanoseconds of one `piece`, whose results are kept for a while so that none is optimised away. */
function loop(piece, times = 20_000) {
  return () => {
    const found = [];
    for (let sample = 0; sample < 7; sample++) {
      const start = cpuNow();
      for (let i = 0; i < times; i++) kept[i & 1023] = piece(i);
      found.push(((cpuNow() - start) * 1e6) / times);
    }
    return median(found);
  };
}

/** Nanoseconds of taking one out of `size`, over all of them. `fill` returns how. */
function emptied(fill) {
  return ({ size }) => {
    fill(1000)();
    const found = [];
    for (let sample = 0; sample < 3; sample++) {
      const empty = fill(size);
      const start = cpuNow();
      empty();
      found.push(((cpuNow() - start) * 1e6) / size);
    }
    return median(found);
  };
}

const listened = () => {
  const controller = new AbortController();
  controller.signal.addEventListener('abort', noop);
  return controller;
};
const shared = new Error('shared');

const signals = {
  untouched: loop(() => new AbortController()),
  'signal read': loop(() => new AbortController().signal),
  '+ listener': loop(listened),
  '+ abort()': loop(() => listened().abort()),
  '+ abort(shared reason)': loop(() => listened().abort(shared)),
};

/** Megabytes that 20,000 followers of one long-lived signal leave behind. */
const followers = (follow) => async () => {
  const parent = new AbortController();
  const before = await settledHeap();
  for (let i = 0; i < 20_000; i++) follow(parent.signal);
  const left = ((await settledHeap()) - before) / 1e6;
  parent.abort();
  return left;
};

const leaks = {
  'AbortSignal.any, dropped': followers((signal) => AbortSignal.any([signal])),
  'AbortSignal.any + listener, dropped': followers((signal) => AbortSignal.any([signal]).addEventListener('abort', noop)),
  'linked by hand and unlinked': followers((signal) => {
    const controller = new AbortController();
    const follow = () => controller.abort(signal.reason);
    signal.addEventListener('abort', follow);
    controller.signal.addEventListener('abort', noop);
    signal.removeEventListener('abort', follow);
  }),
};

/** Nanoseconds of adding one listener to a signal that has `size` already. */
const listeners = ({ size }) => {
  const { signal } = new AbortController();
  const start = cpuNow();
  for (let i = 0; i < size; i++) signal.addEventListener('abort', () => {});
  return ((cpuNow() - start) * 1e6) / size;
};

const children = {
  mergeMap: emptied((size) => {
    const inners = numbers(size).map(() => new Subject());
    from(inners)
      .pipe(mergeMap((each) => each))
      .subscribe();
    return () => inners.forEach((each) => each.complete());
  }),
  'takeUntil, one Subject': emptied((size) => {
    const end = new Subject();
    const subscriptions = numbers(size).map(() => NEVER.pipe(takeUntil(end)).subscribe());
    return () => subscriptions.forEach((each) => each.unsubscribe());
  }),
  Set: emptied((size) => {
    const set = new Set(numbers(size).map((i) => ({ i })));
    const members = [...set];
    return () => members.forEach((each) => set.delete(each));
  }),
  list: emptied((size) => {
    const { list, members } = linked(size);
    return () => members.forEach((each) => list.unlink(each));
  }),
};

const { ScopeNode } = await inner('core/node.js');

/** The list of a scope, as it is kept for calls and nested scopes. */
function linked(size) {
  const list = Object.create(ScopeNode.prototype);
  list.head = undefined;
  const members = numbers(size).map(() => ({ before: undefined, after: undefined }));
  members.forEach((each) => list.link(each));
  return { list, members };
}

const { Ring } = await inner('core/ring.js');

const full = (queue, size) => {
  for (let i = 0; i < size; i++) queue.push(i);
  return queue;
};

/** One in and one out of a queue in which `size` wait. */
const passing =
  (make) =>
  ({ size }) => {
    const queue = full(make(), size);
    let passed = 0;
    const start = cpuNow();
    for (; cpuNow() - start < 200; passed += 1000) {
      for (let i = 0; i < 1000; i++) {
        queue.push(i);
        kept[i & 1023] = queue.shift();
      }
    }
    return ((cpuNow() - start) * 1e6) / passed;
  };

const queues = { 'array.shift': passing(() => []), ring: passing(() => new Ring()) };

const { Clock } = await inner('core/clock.js');

function deadlines() {
  const clock = new Clock(asyncScheduler);
  const target = { up: undefined, deadline: undefined, onAlarm: noop };
  clock.set(target, 60_000);
  const cost = loop(() => clock.clear(clock.set(target, 60_001)))();
  return cost;
}

const timers = {
  'asyncScheduler.schedule + cancel': loop(() => asyncScheduler.schedule(noop, 60_000).unsubscribe()),
  'timer() + unsubscribe': loop(() => timer(60_000).subscribe().unsubscribe()),
  'timeout() + unsubscribe': loop(() => NEVER.pipe(timeout(60_000)).subscribe().unsubscribe()),
  'alarm of a scope set + cleared': deadlines,
};

const rxjs = {
  'of(1) subscribed': loop(() => of(1).subscribe(noop)),
  '+ map': loop(() =>
    of(1)
      .pipe(map((x) => x))
      .subscribe(noop),
  ),
  'new Observable, teardown, unsubscribe': loop(() => new Observable(() => noop).subscribe(noop).unsubscribe()),
  'new Error with its stack': loop(() => new Error('x')),
};

export const contenders = { ...signals, ...leaks, listeners, ...children, ...queues, ...timers, ...rxjs };

const each = (pieces) => Object.keys(pieces);
const sized = (pieces, sizes) =>
  each(pieces).flatMap((name) => sizes.map((size) => ({ name: `${name} ${size / 1000}k`, contender: name, params: { size } })));

const group = (title, unit, contenders) => ({ title, file, rounds: 3, flags: ['--expose-gc'], contenders, unit, rows: [] });

export const section = {
  goal: 'Where the time goes: what the parts cost of which rxjs, AbortController and a scope are made (no goals)',
  groups: [
    group('an AbortController for every call', 'ns', each(signals)),
    group('following one signal from 20,000 places', 'MB left', each(leaks)),
    group('one more listener on the same signal', 'ns', sized({ listeners }, [1000, 10_000])),
    group('taking one child out, in order of arrival', 'ns', sized(children, [1000, 50_000])),
    group('one value into a queue and one out, so many waiting', 'ns', sized(queues, [10_000, 100_000, 400_000])),
    group('a time limit that is not reached', 'ns', each(timers)),
    group('rxjs itself', 'ns', each(rxjs)),
  ],
};
