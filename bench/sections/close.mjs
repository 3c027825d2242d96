import { from, mergeMap } from 'rxjs';
import { fanOutScoped, inner } from '../lib/fleet.mjs';
import { connect, request } from '../lib/server.mjs';
import { percentile } from '../lib/stats.mjs';
import { numbers } from '../lib/steady.mjs';

const file = import.meta.url;
const STREAMS = 100;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => performance.timeOrigin + performance.now();

/** Opens quiet streams, leaves them in one of two ways, and asks the server when it saw each go. */
async function quiet(leave) {
  const { messageStream } = await inner('agents.js');
  const { client, look, close } = await connect('quiet');
  const open = () => messageStream(client, request);
  const leftAt = await leave(open, async () => {
    while ((await look()).stats.open < STREAMS) await pause(20);
    await pause(100);
    return (await look()).stats.socketsOpened;
  });
  await pause(500);
  const { stats, closedAt } = await look();
  close();
  const seen = closedAt.filter((at) => at !== undefined).sort((a, b) => a - b);
  const late = seen.map((at, index) => at - leftAt.times[index % leftAt.times.length]);
  return { closed: (100 * seen.length) / STREAMS, p50: percentile(late, 0.5), p99: percentile(late, 0.99), sockets: stats.socketsOpened - leftAt.sockets };
}

async function together(open, settled) {
  const subscription = from(numbers(STREAMS))
    .pipe(fanOutScoped(open, { concurrency: Infinity }))
    .subscribe();
  const sockets = await settled();
  const times = [now()];
  subscription.unsubscribe();
  return { times, sockets };
}

async function oneByOne(open, settled) {
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

/** The same without us: an iterator that is dropped. */
async function bare(open, settled, client) {
  const subscription = from(numbers(STREAMS))
    .pipe(mergeMap(() => client.messages.create({ ...request, stream: true })))
    .subscribe();
  const sockets = await settled();
  const times = [now()];
  subscription.unsubscribe();
  return { times, sockets };
}

export const contenders = { together: () => quiet(together), 'one by one': () => quiet(oneByOne), bare: () => quiet(bare) };

const rowsOf = (name) => [
  { what: `${name}: closes that the server saw`, figure: (r) => r[name].closed, unit: '%', atLeast: 100 },
  { what: `${name}: unsubscribe until it saw them, p99`, figure: (r) => r[name].p99, unit: 'ms', atMost: 10 },
  { what: `${name}: the same, p50`, figure: (r) => r[name].p50, unit: 'ms' },
  { what: `${name}: connections opened meanwhile`, figure: (r) => r[name].sockets, unit: '' },
];

export const section = {
  name: 'close',
  goal: 'Goal 6: unsubscribing closes the connection, also while the stream is quiet',
  groups: [
    {
      title: `${STREAMS} quiet streams open`,
      file,
      contenders: ['together', 'one by one'],
      rows: [...rowsOf('together'), ...rowsOf('one by one')],
    },
  ],
};
