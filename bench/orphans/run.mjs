// The orphan experiment: what still runs when control is back with the caller, ours beside that of others. See README.md.
import { fork, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { tables } from './tables.mjs';

const CAP_MS = 90_000;
const here = fileURLToPath(new URL('.', import.meta.url));
const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' }, json: { type: 'boolean', default: false } },
});
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError(`--rounds must be an integer of at least 1, got ${values.rounds}.`);

const dist = process.env.RXFLEET_DIST ?? fileURLToPath(new URL('../../dist', import.meta.url));
if (!existsSync(`${dist}/agents.js`)) throw new Error('There is no build to measure. Run `npm run build` first.');

const peers = ['rxfleet', 'promises', 'toolRunner', 'vercel', 'langgraph', 'openai'];
const wanted = peers.filter(
  (name) => positionals.length === 0 || positionals.some((part) => name.toLowerCase().includes(part.toLowerCase())),
);
if (wanted.length === 0) throw new RangeError(`No peer matches ${positionals.join(' ')}. There are: ${peers.join(', ')}.`);
const notRun = ['Mastra: declares Node 22.13, and is not installed.'];

if (!existsSync(`${here}node_modules`)) {
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const { status } = spawnSync('npm', ['ci', '--prefix', here, ...flags], { stdio: ['ignore', 'ignore', 'inherit'], timeout: 300_000 });
  if (status !== 0) notRun.unshift('What is missing below could not be installed.');
}

const found = [];
for (const peer of wanted) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${peer} …`);
  const { rows, why } = await measure(peer);
  if (rows === undefined) notRun.push(`${peer}: ${why}`);
  else found.push({ peer, rows });
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');

if (values.json) console.log(JSON.stringify(found));
else report();

const ours = found.filter(({ peer }) => peer === 'rxfleet').flatMap(({ rows }) => rows);
const left = ours.filter(({ cells }) =>
  Object.values(cells).some(({ kinds }) =>
    Object.values(kinds)
      .flat()
      .some(({ orphans }) => orphans > 0),
  ),
);
if (left.length > 0) console.error(`\nOrphans of our own: ${left.map(({ name }) => name).join(', ')}`);
process.exitCode = left.length > 0 || notRun.some((line) => line.startsWith('rxfleet:')) ? 1 : 0;

/** One peer in a process of its own, and not for longer than the cap. */
function measure(peer) {
  return new Promise((resolve) => {
    const file = new URL(`peers/${peer}.mjs`, import.meta.url).href;
    const child = fork(`${here}child.mjs`, [JSON.stringify({ file, rounds })], { silent: true });
    let said = '';
    child.stderr.on('data', (chunk) => (said = `${said}${chunk}`.slice(-4_000)));
    child.stdout.resume();
    const cap = setTimeout(() => {
      resolve({ why: `stopped after ${CAP_MS / 1_000} s.` });
      child.kill('SIGKILL');
    }, CAP_MS);
    child.once('message', (rows) => resolve({ rows }));
    child.once('exit', () => {
      clearTimeout(cap);
      resolve({ why: said.match(/^\w*Error.*$/m)?.[0] ?? 'ended without a result.' });
    });
  });
}

function report() {
  const date = new Date().toISOString().slice(0, 10);
  console.log(`${date}, Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${rounds} rounds`);
  for (const { title, head, rows } of tables(found)) {
    if (rows.length === 0) continue;
    console.log(`\n${title}\n`);
    print(head, rows);
  }
  console.log(`\nRun with: ${[...new Set(found.flatMap(({ rows }) => rows.flatMap((row) => row.with.split(', '))))].join(', ')}`);
  console.log(`Not run: ${notRun.join(' ')}`);
}

/** A table that can be pasted into a page. */
function print(head, rows) {
  const widths = head.map((title, column) => Math.max(3, title.length, ...rows.map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  console.log(line(head));
  console.log(line(widths.map((width) => '-'.repeat(width))));
  for (const row of rows) console.log(line(row));
}
