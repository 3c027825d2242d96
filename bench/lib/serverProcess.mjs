// The Messages server in a process of its own, so that what it costs is not counted as the client's. Answers every message with what it has seen.
import { inner } from './fleet.mjs';

const { reply, startMessagesServer } = await inner('testing/index.js');

const scripts = {
  /** Ten calls in every reply. */
  tools: () => reply.toolUse(Array.from({ length: 10 }, (_, i) => ({ name: 'noop', input: { n: i } }))),
  /** A stream that says nothing more after its first block has begun. */
  quiet: () => reply.text('never said', { fault: { kind: 'stall', after: 2 } }),
};

const server = await startMessagesServer({ script: scripts[process.argv[2]], logSize: 10_000 });

process.on('message', () => {
  const closedAt = server.requests.map(({ closedByClientAt }) => closedByClientAt && performance.timeOrigin + closedByClientAt);
  process.send({ stats: server.stats(), closedAt });
});
process.on('disconnect', () => process.exit());
process.send({ url: server.url });
