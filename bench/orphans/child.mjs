// All rows of one peer in a process of its own: what it prints and what it leaves unhandled is its own.
import { setMaxListeners } from 'node:events';
import { Job, sleep } from './job.mjs';
import { KINDS } from './kinds.mjs';

const SCENARIOS = ['fail', 'abort', 'leave', 'abortQuiet', 'leaveQuiet'];
/** Control that is not back by then counts as back. */
const CAP_MS = 6_000;
const { file, rounds } = JSON.parse(process.argv[2]);
setMaxListeners(0);

let unhandled = 0;
process.on('unhandledRejection', () => unhandled++);

const { rows } = await import(file);
const found = [];
for (const row of rows) found.push(await measure(row));
process.send(found, () => process.exit(0));

async function measure(row) {
  const cells = {};
  // The first request of a process is slow, whoever makes it.
  if (row.abortQuiet !== undefined) await once(row, 'abortQuiet', 'coop');
  for (const scenario of SCENARIOS) {
    if (row[scenario] === undefined) continue;
    const kinds = scenario.endsWith('Quiet') ? ['coop'] : KINDS;
    unhandled = 0;
    const ended = await Promise.all(kinds.map((kind) => Promise.all(Array.from({ length: rounds }, () => once(row, scenario, kind)))));
    cells[scenario] = { kinds: Object.fromEntries(kinds.map((kind, n) => [kind, ended[n]])), unhandled };
  }
  return { name: row.name, with: row.with, cells };
}

async function once(row, scenario, kind) {
  const job = new Job(scenario, kind);
  if (row.model !== undefined) await job.open(row.model);
  await Promise.race([row[scenario](job), sleep(CAP_MS)]);
  await job.controlIsBack(row);
  return job.close();
}
