import { from, NEVER } from 'rxjs';
import { collected } from '../lib/contenders.mjs';
import { bulkhead, fanOutScoped, Semaphore, TokenBucket, tokenBucket } from '../lib/fleet.mjs';
import { Callers, lines, newCall } from '../lib/port.mjs';
import { median } from '../lib/stats.mjs';
import { cpuNow, nextTurn, nsPer, numbers } from '../lib/steady.mjs';

const file = import.meta.url;

// The line itself

/** Nanoseconds of one call that queues and one that ends, so that the next is let in; `waiting` stand in the line all the while. */
function pairs({ waiting }) {
  const call = newCall();
  const callers = new Callers(new Semaphore({ limit: 1 }));
  for (let i = 0; i <= waiting; i++) callers.enter(call);
  return nsPer(100_000, () => {
    for (let i = 0; i < 100_000; i++) {
      callers.enter(call);
      callers.end();
    }
  });
}

const inOrder = {
  'arrival order': (list) => list,
  'reverse order': (list) => list.reverse(),
  'random order': (list) => shuffled(list),
};

/** The same order in every run. */
function shuffled(list) {
  let seed = 1;
  for (let i = list.length - 1; i > 0; i--) {
    seed = (seed * 48_271) % 2_147_483_647;
    const j = seed % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

/** Nanoseconds of taking one out of a line in which `size` wait: of the first tenth that leaves. */
const leaving =
  (queue) =>
  async ({ order, size, samples }) => {
    const found = [];
    for (let i = 0; i < samples; i++) {
      const leave = queue(size);
      const leavers = inOrder[order](leave).slice(0, size / 10);
      const start = cpuNow();
      for (const each of leavers) each();
      found.push(((cpuNow() - start) * 1e6) / leavers.length);
      await nextTurn();
    }
    return median(found.slice(samples >> 1));
  };

function atPort(size) {
  const callers = lines.semaphore();
  const call = newCall();
  return Array.from({ length: size }, () => callers.enter(call));
}

function inPipe(size) {
  const semaphore = new Semaphore({ limit: 0 });
  return Array.from({ length: size }, () => {
    const subscription = NEVER.pipe(bulkhead(semaphore)).subscribe();
    return () => subscription.unsubscribe();
  });
}

/** Nanoseconds of a call from its arrival in the line to its end: `size` queue in each of the lines, then they are let in one by one. */
const through = (queue) => (params) => {
  const { size, count = 1, ...time } = params;
  const calls = Array.from({ length: size * count }, newCall);
  return nsPer(size * count, () => queue(size, count, calls), { warmMs: 150, sampleMs: 250, ...time });
};

const gateOf = (make) => (size, count, calls) => {
  const all = Array.from({ length: count }, make);
  const before = all[0].granted;
  let next = 0;
  for (const callers of all) for (let i = 0; i < size; i++) callers.enter(calls[next++]);
  for (const callers of all) callers.drain(before + size);
};

/** What a queue costs that knows neither gates nor calls: a linked list of records as large as those of a gate. */
function byHand(size, count, calls) {
  const all = Array.from({ length: count }, () => ({ first: undefined, last: undefined }));
  let next = 0;
  for (const list of all) {
    for (let i = 0; i < size; i++) {
      const record = {
        call: calls[next++],
        after: undefined,
        key: undefined,
        end: undefined,
        priority: 0,
        permits: 1,
        since: 0,
        ticket: i,
      };
      if (list.last === undefined) list.first = record;
      else list.last.after = record;
      list.last = record;
    }
  }
  for (const list of all) {
    for (let { first } = list; first !== undefined; { first } = list) {
      list.first = first.after;
      first.end = first.after = undefined;
    }
  }
}

// Whole calls

/** `size` calls of a fan-out are started at once, and ten of them run; or all of them where there is no gate. */
const whole = (guard) => (params) => {
  const operator = guard();
  const items = numbers(params.size);
  const project = (x, _, ctx) => operator(ctx.call(() => turn(x)));
  return nsPer(params.size, () => collected(from(items).pipe(fanOutScoped(project, { concurrency: Infinity }))));
};

const turn = (x) => new Promise((resolve) => setImmediate(resolve, x));

function behindTen() {
  const semaphore = new Semaphore({ limit: 10 });
  return (call) => call.pipe(bulkhead(semaphore));
}

/** Neither is let in for a long time. */
const closed = {
  semaphore: () => bulkhead(new Semaphore({ limit: 0 })),
  bucket: () => tokenBucket(new TokenBucket({ capacity: 1, refill: { tokens: 1, everyMs: 86_400_000 }, initial: 0 })),
};

const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

/** CPU milliseconds until `size` waiting calls have gone, one by one or all at once, and the timers meanwhile and afterwards. */
async function abort({ gate, order, size, samples }) {
  const found = [];
  for (let i = 0; i < samples; i++) {
    const leave = waitingCalls(closed[gate](), order, size);
    const meanwhile = timers();
    const start = cpuNow();
    for (const each of leave) each();
    const ms = cpuNow() - start;
    await nextTurn();
    found.push({ ms, meanwhile, afterwards: timers() });
  }
  const warm = found.slice(samples >> 1).map(({ ms }) => ms);
  const most = (what) => Math.max(...found.map((each) => each[what]));
  return { ms: median(warm), meanwhile: most('meanwhile'), afterwards: most('afterwards') };
}

function waitingCalls(gate, order, size) {
  if (order === 'all at once') {
    const fleet = from(numbers(size)).pipe(
      fanOutScoped((_, __, ctx) => ctx.call(() => new Promise(() => {})).pipe(gate), { concurrency: Infinity }),
    );
    const subscription = fleet.subscribe();
    return [() => subscription.unsubscribe()];
  }
  const subscriptions = Array.from({ length: size }, () => NEVER.pipe(gate).subscribe());
  return inOrder[order](subscriptions).map((subscription) => () => subscription.unsubscribe());
}

export const contenders = {
  pairs,
  leaving: leaving(atPort),
  unsubscribing: leaving(inPipe),
  abort,
  'by hand': through(byHand),
  'whole calls at a semaphore': whole(behindTen),
  'whole calls without a gate': whole(() => (call) => call),
  ...Object.fromEntries(Object.entries(lines).map(([name, make]) => [name, through(gateOf(make))])),
};

const orders = Object.keys(inOrder);

const perSecond = (waiting) => ({ name: `${waiting.toLocaleString('en-US')} waiting`, contender: 'pairs', params: { waiting } });

const leavers = (contender) => orders.map((order) => ({ name: `${contender}, ${order}`, contender, params: { order } }));

const aborts = ['semaphore', 'bucket'].flatMap((gate) =>
  [...orders, 'all at once'].map((order) => ({ name: `${gate}, ${order}`, contender: 'abort', params: { gate, order } })),
);

const grown = (name) => [
  { name: `${name}, 1,000`, contender: name, params: { size: 1000 } },
  { name: `${name}, 100,000`, contender: name, params: { size: 100_000 } },
];
const inMany = (name) => ({ name: `${name}, 100 × 1,000`, contender: name, params: { size: 1000, count: 100 } });
const growth = (name) => ({ what: `${name}, over that with 1,000`, figure: (r) => r[`${name}, 100,000`] / r[`${name}, 1,000`] });

const names = Object.keys(lines);
const wholes = ['whole calls at a semaphore', 'whole calls without a gate'];

export const section = {
  goal: 'Goal 5: calls that wait at a gate',
  groups: [
    {
      title: 'a semaphore with one permit, through the port: one call queues and one ends, so that the next is let in',
      file,
      rounds: 5,
      contenders: [1, 1000, 100_000].map(perSecond),
      unit: 'ns a pair',
      rows: [
        { what: 'pairs a second, 1,000 waiting', figure: (r) => 1e3 / r['1,000 waiting'], unit: 'M', atLeast: 5 },
        { what: 'pairs a second, 1 waiting', figure: (r) => 1e3 / r['1 waiting'], unit: 'M' },
        { what: 'pairs a second, 100,000 waiting', figure: (r) => 1e3 / r['100,000 waiting'], unit: 'M' },
      ],
    },
    {
      title: 'one of 100,000 waiting calls is cancelled',
      file,
      params: { size: 100_000, samples: 6 },
      rounds: 3,
      contenders: [...leavers('leaving'), ...leavers('unsubscribing')],
      rows: [
        ...orders.map((order) => ({ what: `leaving the line, ${order}`, figure: (r) => r[`leaving, ${order}`], unit: 'ns', atMost: 300 })),
        ...orders.map((order) => ({
          what: `unsubscribing the whole call, ${order}`,
          figure: (r) => r[`unsubscribing, ${order}`],
          unit: 'ns',
          atMost: 300,
        })),
      ],
    },
    {
      title: '10,000 waiting calls are unsubscribed',
      file,
      params: { size: 10_000, samples: 12 },
      rounds: 3,
      contenders: aborts,
      rows: [
        ...aborts.map(({ name }) => ({ what: name, figure: (r) => r[name].ms, unit: 'ms', atMost: 10 })),
        {
          what: 'timers while they wait',
          figure: (r) => Math.max(...aborts.map(({ name }) => r[name].meanwhile)),
          unit: 'timers',
          atMost: 1,
        },
        { what: 'timers afterwards', figure: (r) => Math.max(...aborts.map(({ name }) => r[name].afterwards)), unit: 'timers', atMost: 0 },
      ],
    },
    {
      title: 'so many queue, then they are let in one by one, through the port: the cost of a call with 100,000 in the line',
      file,
      rounds: 3,
      contenders: [...names, 'by hand'].flatMap((name) => [...grown(name), inMany(name)]),
      unit: 'ns a call',
      rows: [
        ...names.map((name) => ({ ...growth(name), atMost: 1.5 })),
        { ...growth('by hand'), what: 'a linked list by hand, over that with 1,000' },
        ...names.map((name) => ({
          what: `${name}, one line of 100,000 over 100 lines of 1,000`,
          figure: (r) => r[`${name}, 100,000`] / r[`${name}, 100 × 1,000`],
        })),
      ],
    },
    {
      title: 'the same for whole calls: a fan-out starts all at once, ten run',
      file,
      rounds: 3,
      contenders: wholes.flatMap(grown),
      unit: 'ns a call',
      rows: [{ ...growth(wholes[0]), atMost: 1.5 }, growth(wholes[1])],
    },
  ],
};
