// The whole check behind `npm test`, phase by phase; `node scripts/check.mjs lint types` runs the named steps alone.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const packed = 'node_modules/.cache/pack';
const tarball = `${packed}/rxfleet-${version}.tgz`;

const phases = [
  {
    lint: 'eslint .',
    types: 'tsc -p tsconfig.json',
    declarations: 'tsc -p tsconfig.build.json',
    browser: 'tsc -p tsconfig.browser.json',
    format: 'prettier --check --cache --log-level warn .',
    imports: 'depcruise src test examples',
    unused: 'knip --no-progress --no-config-hints',
  },
  { build: 'tsdown' },
  { pack: `node scripts/pack.mjs ${packed}` },
  {
    api: 'node scripts/api.mjs',
    consumer: `node test/package/consumer.mjs ${tarball}`,
    attw: `attw ${tarball}`,
    publint: `publint ${tarball} --strict`,
    entries: 'node test/package/entries.mjs',
    size: 'size-limit',
  },
  { tests: 'vitest run' },
];
const live = new Set(['tests']);
const only = process.argv.slice(2);
const env = { ...process.env, PATH: `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH}` };

function run(name, command) {
  const started = performance.now();
  if (live.has(name)) console.log(`▶ ${name}`);
  return new Promise((resolve) => {
    const child = spawn(command, { cwd: root, env, shell: true, stdio: live.has(name) ? 'inherit' : ['ignore', 'pipe', 'pipe'] });
    const output = [];
    child.stdout?.on('data', (chunk) => output.push(chunk));
    child.stderr?.on('data', (chunk) => output.push(chunk));
    child.on('close', (code) => {
      const ok = code === 0;
      if (!live.has(name) || !ok) console.log(`${ok ? '✓' : '✗'} ${name.padEnd(13)}${((performance.now() - started) / 1000).toFixed(1)} s`);
      if (!ok && output.length > 0) console.log(`  ${command}\n${Buffer.concat(output).toString().trimEnd()}\n`);
      resolve(ok ? [] : [name]);
    });
  });
}

async function runPhase(steps) {
  const waiting = Object.entries(steps).filter(([name]) => only.length === 0 || only.includes(name));
  const lanes = Array.from({ length: Math.min(availableParallelism(), 4) }, async () => {
    const failed = [];
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) failed.push(...(await run(...step)));
    return failed;
  });
  return (await Promise.all(lanes)).flat();
}

for (const phase of phases) {
  const failed = await runPhase(phase);
  if (failed.length > 0) {
    console.error(`failed: ${failed.join(', ')}`);
    process.exit(1);
  }
}
