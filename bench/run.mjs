// The benchmark: every goal with its figure. See README.md.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measure } from './lib/measure.mjs';
import { absolutes, judge, printTable } from './lib/table.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '7' } },
});
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError(`--rounds must be an integer of at least 1, got ${values.rounds}.`);

if (changedAt(`${here}node_modules/.package-lock.json`) < changedAt(`${here}package-lock.json`))
  spawnSync('npm', ['ci', '--prefix', here], { stdio: 'inherit' });

const sections = {
  pieces: () => import('./sections/pieces.mjs'),
  fanOut: () => import('./sections/fanOut.mjs'),
  completion: () => import('./sections/completion.mjs'),
  signal: () => import('./sections/signal.mjs'),
  cancel: () => import('./sections/cancel.mjs'),
  memory: () => import('./sections/memory.mjs'),
  gates: () => import('./sections/gates.mjs'),
  gatesWaiting: () => import('./sections/gatesWaiting.mjs'),
  turn: () => import('./sections/turn.mjs'),
  eager: () => import('./sections/eager.mjs'),
  agents: () => import('./sections/agents.mjs'),
  close: () => import('./sections/close.mjs'),
  deadline: () => import('./sections/deadline.mjs'),
  size: () => import('./sections/size.mjs'),
  gatesPeers: () => import('./sections/gatesPeers.mjs'),
};
const names = Object.keys(sections);
const wanted = names.filter(
  (name) => positionals.length === 0 || positionals.some((part) => name.toLowerCase().includes(part.toLowerCase())),
);
if (wanted.length === 0) throw new RangeError(`No section matches ${positionals.join(' ')}. There are: ${names.join(', ')}.`);

console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${rounds} rounds: median (min – max)`);
const short = [];
for (const name of wanted) {
  const { section } = await sections[name]();
  console.log(`\n${section.goal}`);
  for (const group of section.groups) await runGroup(group);
}
if (short.length > 0) console.log(`\nShort of their goal:\n${short.map((line) => `  ${line}`).join('\n')}`);
else console.log('\nNo goal falls short.');
process.exitCode = short.length > 0 ? 1 : 0;

async function runGroup(group) {
  const found = await measure(group, Math.min(rounds, group.rounds ?? Infinity), progress);
  progress('');
  console.log(`\n  ${group.title}`);
  const judged = group.rows.map((row) => judge(row, found));
  if (judged.length > 0) {
    printTable(
      ['', 'median', 'spread', 'goal', ''],
      judged.map(({ cells }) => cells),
    );
  }
  const medians = absolutes(found, group);
  if (medians !== undefined) console.log(`  ${medians}`);
  for (const { cells, short: missed } of judged)
    if (missed) short.push(`${group.title}: ${cells[0]} ${cells[1]}, ${cells[3]}: ${cells[4]}`);
}

/** 0 for a file that is not there. */
function changedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
