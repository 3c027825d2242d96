import { defer, from, mergeMap } from 'rxjs';
import { fanOutScoped, inner } from '../lib/fleet.mjs';
import { connect, request } from '../lib/server.mjs';
import { percentile } from '../lib/stats.mjs';
import { numbers } from '../lib/steady.mjs';

const file = import.meta.url;
const STREAMS = 100;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => performance.timeOrigin + performance.now();

/** The second time, when the code is warm. */
async function warm(leave) {
  await quiet(leave);
  return quiet(leave);
}

/** Opens quiet streams, leaves them, and asks the server when it saw each go. */
async function quiet(leave) {
  const { messageStream } = await inner('agents.js');
  const { client, look, close } = await connect('quiet');
  const open = () => messageStream(client, request);
  const raw = (signal) => client.messages.create({ ...request, stream: true }, { signal });
  const leftAt = await leave({ open, raw }, async () => {
    while ((await look()).stats.open < STREAMS) await pause(20);
    await pause(100);
    return (await look()).stats.socketsOpened;
  });
  await pause(500);
  const { stats, closedAt } = await look();
  close();
  const seen = closedAt.filter((at) => typeof at === 'number').sort((a, b) => a - b);
  const late = seen.map((at, index) => at - leftAt.times[index % leftAt.times.length]);
  return {
    closed: (100 * seen.length) / STREAMS,
    p50: percentile(late, 0.5),
    p99: percentile(late, 0.99),
    sockets: stats.socketsOpened - leftAt.sockets,
  };
}

async function together({ open }, settled) {
  const subscription = from(numbers(STREAMS))
    .pipe(fanOutScoped(open, { concurrency: Infinity }))
    .subscribe();
  const sockets = await settled();
  const times = [now()];
  subscription.unsubscribe();
  return { times, sockets };
}

async function oneByOne({ open }, settled) {
  const subscriptions = numbers(STREAMS).map(() => open().subscribe());
  const sockets = await settled();
  const times = [];
  for (const subscription of subscriptions) {
    times.push(now());
    subscription.unsubscribe();
    await pause(10);
  }
  return { times, sockets };
}

/** A controller for each stream and a loop over them: what is there to gain. */
async function byHand({ raw }, settled) {
  const controllers = numbers(STREAMS).map(() => new AbortController());
  controllers.forEach(async ({ signal }) => {
    for await (const event of await raw(signal)) void event;
  });
  const sockets = await settled();
  const times = [now()];
  for (const controller of controllers) controller.abort();
  return { times, sockets };
}

/** The streams as rxjs takes them. */
async function rxjsFrom({ raw }, settled) {
  const subscription = from(numbers(STREAMS))
    .pipe(mergeMap(() => defer(() => raw()).pipe(mergeMap((stream) => from(stream)))))
    .subscribe();
  const sockets = await settled();
  const times = [now()];
  subscription.unsubscribe();
  return { times, sockets };
}

const ways = { together, 'one by one': oneByOne, 'by hand': byHand, 'rxjs from': rxjsFrom };

export const contenders = Object.fromEntries(Object.entries(ways).map(([name, leave]) => [name, () => warm(leave)]));

const goalsOf = (name) => [
  { what: `${name}: closes that the server saw`, figure: (r) => r[name].closed, unit: '%', atLeast: 100 },
  { what: `${name}: unsubscribe until it saw them, p99`, figure: (r) => r[name].p99, unit: 'ms', atMost: 10 },
  { what: `${name}: the same, p50`, figure: (r) => r[name].p50, unit: 'ms' },
  { what: `${name}: connections opened by it`, figure: (r) => r[name].sockets, unit: '' },
];

export const section = {
  goal: 'Goal 6: unsubscribing closes the connection, also while the stream is quiet',
  groups: [
    {
      title: `${STREAMS} quiet streams open`,
      file,
      rounds: 5,
      contenders: ['together', 'one by one', 'by hand', 'rxjs from'],
      rows: [
        ...goalsOf('together'),
        ...goalsOf('one by one'),
        { what: 'a loop over controllers by hand: p99', figure: (r) => r['by hand'].p99, unit: 'ms' },
        { what: 'a loop over controllers by hand: connections opened by it', figure: (r) => r['by hand'].sockets, unit: '' },
        { what: 'from(stream) in rxjs: closes that the server saw', figure: (r) => r['rxjs from'].closed, unit: '%' },
      ],
    },
  ],
};
