// The Messages server in a process of its own, so that what it costs is not counted as the client's. Answers every message with what it has seen.
import { inner } from './fleet.mjs';

const { lastToolResults, reply, startMessagesServer } = await inner('testing/index.js');

const five = (pace) =>
  reply.toolUse(
    [600, 450, 300, 150, 10].map((ms) => ({ name: 'read', input: { ms } })),
    { pace },
  );

const scripts = {
  /** Ten calls in every reply. */
  tools: () => reply.toolUse(Array.from({ length: 10 }, (_, i) => ({ name: 'noop', input: { n: i } }))),
  /** A stream that says nothing more after its first block has begun. */
  quiet: () => reply.text('never said', { fault: { kind: 'stall', after: 2 } }),
  /** Five calls, the slowest first: five deltas with two characters each, and 30 ms for each of them. */
  five: () => five({ deltaMs: 30, chunkChars: 2 }),
  /** The same five in four events each, and 32 ms for every event. */
  evenly: () => five({ eventMs: 32 }),
  /** A call, and an answer when it has its result; each after 40 ms. */
  twoTurns: (request) => {
    const pace = { headersMs: 40 };
    return lastToolResults(request).length > 0
      ? reply.text('It is done.', { pace })
      : reply.toolUse([{ name: 'look', input: {} }], { pace });
  },
};

const server = await startMessagesServer({ script: scripts[process.argv[2]], logSize: 10_000 });

process.on('message', () => {
  const closedAt = server.requests.map(({ closedByClientAt }) => closedByClientAt && performance.timeOrigin + closedByClientAt);
  process.send({ stats: server.stats(), closedAt });
});
process.on('disconnect', () => process.exit());
process.send({ url: server.url });
