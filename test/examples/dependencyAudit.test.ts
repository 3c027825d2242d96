import { readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { usd, type TripRecord } from 'rxfleet';
import { startMessagesServer } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { auditor } from '../../examples/dependency-audit/auditor.js';
import { hasTerminals, makeProject, runDemo, startDemo, startInTerminal, type Demo } from './demo.js';

/** The accounts close: what was started is what is accounted for, and nothing is open. */
function expectClosedAccounts({ stdout, stderr }: Demo): void {
  expect(stderr).toBe('');
  expect(stdout).toMatch(/open scopes: 0$/m);
  const accounts = [...stdout.matchAll(/([\w ]+): (\d+) (?:started|admitted|asked) = (.+?)(?:;.*)?$/gm)];
  for (const [, , begun, parts = ''] of accounts) {
    const sum = [...parts.matchAll(/\d+/g)].reduce((total, [n]) => total + Number(n), 0);
    expect(sum).toBe(Number(begun));
  }
  const begun = Object.fromEntries(accounts.map(([, label = '', n]) => [label.trim(), Number(n)]));
  expect(Object.keys(begun).filter((label) => label !== 'approvals')).toEqual([
    'rate limit',
    'retry gate',
    'breakers',
    'budget',
    'agents',
    'tool calls',
    'model calls',
  ]);
  // What the guards have counted is what the agents have seen.
  expect(begun['rate limit']).toBe(begun['model calls']);
  expect(begun['budget']).toBe(begun['model calls']);
  expect(begun['breakers']).toBe(begun['tool calls']);
  const [, setAside = '', spent = '', givenBack = ''] = /money: (\S+) set aside = (\S+) spent \+ (\S+) given back$/m.exec(stdout) ?? [];
  expect(microUsd(spent) + microUsd(givenBack)).toBe(microUsd(setAside));
  const [, paid = '', limit = ''] = /spent: (\$\S+) of at most (\$[\d.]+)/.exec(stdout) ?? [];
  expect(paid).toBe(spent);
  expect(microUsd(paid)).toBeLessThanOrEqual(microUsd(limit));
}

const microUsd = (dollars: string): number => usd(dollars.replace('$', ''));

const KEY = 'sk-test-0123456789';

/** All of these run at once. */
const PATIENCE = { timeout: 60_000 };

describe.concurrent('npm start', PATIENCE, () => {
  it('audits the packages of this checkout', async ({ expect }) => {
    const demo = await runDemo(['--max', '4']);
    expect(demo.code).toBe(0);
    expect(demo.stdout).toMatch(/^package +version +licence/m);
    expect(demo.stdout).toMatch(/^@anthropic-ai\/sdk +1\.11\.0 .* (low|medium|high) +\d$/m);
    expect(demo.stdout).toMatch(/agents: 5 started = 5 done \+ 0 failed \+ 0 cancelled/);
    expect(demo.stdout).toMatch(/server: 0 requests open .* 0 sockets open/);
    expect(demo.stdout).toMatch(/\(\d+ seen, 0 got 429, 0 closed by us\)/);
    expect(demo.stdout).not.toMatch(/^ +!|held back:|spared:|alerts:/m);
    expectClosedAccounts(demo);
  });

  it('closes its accounts under chaos as well', async ({ expect }) => {
    const demo = await runDemo(['--chaos', '--seed', '7', '--max', '8']);
    expect(demo.code).toBe(0);
    expect(demo.stdout).toMatch(/chaos with seed 7/);
    expect(demo.stdout).toMatch(/abandoned: \w+ of \S+, 1\.\d s after it started/);
    expect(demo.stdout).toMatch(/server: 0 requests open/);
    expectClosedAccounts(demo);
  });

  it('is held back by its guards while the API throttles and a tool is down', async ({ expect }) => {
    const file = join(await makeProject({}), 'logs/trips.jsonl');
    const demo = await runDemo(['--chaos', '--seed', '3', '--max', '8', '--trips', file]);
    const { stdout } = demo;
    expect(demo.code).toBe(0);
    // The breaker of the tool that is down trips, and closes again.
    expect(stdout).toMatch(/^ +! read_manifest: Tripped and stopped \d+ calls? in flight: ECONNREFUSED/m);
    expect(stdout).toMatch(/^ +! read_manifest: Is closed now; it was half-open\.$/m);
    expect(stdout).toMatch(/cancelled: \d+ calls? in flight when a breaker tripped \(.*read_manifest/);
    expect(stdout).toMatch(/spared: \d+ calls? refused by open breakers/);
    // Of all agents, a few requests meet the 429s.
    expect(stdout).toMatch(/^ +! retry gate: Holds every call back for 1 s.*: .*\b429 /m);
    expect(stdout).toMatch(/^ +! retry gate: Lets calls through again\.$/m);
    const [, heldBack, throttled] = /held back: (\d+) requests in \d pauses of \d\.\d s in all; (\d+) throttled/.exec(stdout) ?? [];
    expect(Number(heldBack)).toBeGreaterThan(0);
    expect(stdout).toMatch(new RegExp(`${throttled} got 429`));
    expectClosedAccounts(demo);

    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(stdout).toContain(`trips: ${lines.length} written; to read them: npx rxfleet trips ${file}\n`);
    const kinds = new Set(lines.map((line) => (JSON.parse(line) as TripRecord).kind));
    expect([...kinds]).toEqual(expect.arrayContaining(['state', 'tripped', 'retry-storm']));
  });

  it('says so when it cannot write the trips', async ({ expect }) => {
    const dir = await makeProject({ file: '' });
    const demo = await runDemo(['--chaos', '--seed', '3', '--max', '1', '--trips', join(dir, 'file/trips.jsonl')]);
    expect(demo.stdout.match(/Trips cannot be written: ENOTDIR/g)).toHaveLength(1);
    expect(demo.stdout).toMatch(/trips: 0 written, \d+ could not be;/);
    expectClosedAccounts(demo);
  });

  it('spends no more than it may', async ({ expect }) => {
    const demo = await runDemo(['--max', '8', '--max-usd', '0.05']);
    expect(demo.stdout).toMatch(/^ {2}Budget "fleet" refuses \$\S+: \$\S+ spent and \$\S+ reserved of \$0\.050000\.$/m);
    expect(demo.stdout).toMatch(/budget: .*; [1-9]\d* refused$/m);
    expectClosedAccounts(demo);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('cancels everything on %s, says what it cancelled, and leaves', async (signal) => {
    const demo = startDemo(['--chaos', '--seed', '3']);
    await demo.says(/^\[ 1\/30]/m);
    const before = performance.now();
    demo.child.kill(signal);
    const code = await demo.ended;
    expect(performance.now() - before).toBeLessThan(3_000);
    expect(code).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(demo.stdout).toMatch(new RegExp(`${signal}: cancelling \\d+ calls? …`));
    expect(demo.stdout).toMatch(/cancelled in turn \d/);
    expect(demo.stdout).toMatch(/\d+ never started/);
    expect(demo.stdout).toMatch(/server: 0 requests open/);
    expectClosedAccounts(demo);
  });

  it('trusts nothing that a package says', async ({ expect }) => {
    const dir = await makeProject({
      'package.json': '{ "dependencies": { "bad": "1", "good": "1", "gone": "1", "../../up": "1" } }',
      'node_modules/bad/package.json': JSON.stringify({
        name: 'bad',
        version: '1.0.0\u001b[2J',
        license: 'MIT\u001b[31m',
        scripts: { postinstall: 'node evil.js' },
        exports: './missing.js',
      }),
      'node_modules/bad/evil.js': 'require("child_process").exec("true")',
      'node_modules/good/package.json': '{ "name": "good", "version": "2.0.0", "license": "ISC" }',
      'node_modules/good/LICENSE':
        'Permission to use, copy, modify, and/or distribute this software for any purpose is granted, provided that …',
    });
    await symlink('/etc/passwd', join(dir, 'node_modules/bad/LICENSE'));
    const demo = await runDemo(['--dir', dir]);
    expect(demo.code).toBe(0);
    expect(demo.stdout).not.toMatch(/\u001b|root:/);
    expect(demo.stdout).toMatch(/Declared, but not installed: gone$/m);
    expect(demo.stdout).toMatch(/^bad +1\.0\.0 .* postinstall +high/m);
    expect(demo.stdout).toMatch(/runs "node evil\.js" on postinstall, which starts processes/);
    expect(demo.stdout).toMatch(/1 of 1 files it exports are missing, such as missing\.js/);
    expect(demo.stdout).toMatch(/^good +2\.0\.0 +ISC .* low/m);
    expectClosedAccounts(demo);
  });

  it('says what is missing where nothing can be audited', async ({ expect }) => {
    const dir = await makeProject({ 'package.json': '{ "dependencies": { "one": "1" } }', 'empty/package.json': '{}' });
    const runs = await Promise.all([dir, join(dir, 'empty'), join(dir, 'nowhere')].map((each) => runDemo(['--dir', each])));
    expect(runs.map(({ code }) => code)).toEqual([1, 1, 1]);
    expect(runs.map(({ stderr }) => stderr.trim())).toEqual([
      `There is no node_modules in ${dir}: run "npm install" there first.`,
      `The package.json in ${dir}/empty declares no dependencies, so there is nothing to audit.`,
      `There is no folder ${dir}/nowhere.`,
    ]);
  });
});

/** A package with an install script, whose dependency is suspicious, as is the dependency of that, and so on: four in a row. */
const chain = (): Promise<string> =>
  makeProject({
    'package.json': '{ "dependencies": { "bad": "1" } }',
    'node_modules/bad/package.json': JSON.stringify({
      version: '1.0.0',
      license: 'MIT',
      scripts: { postinstall: 'node evil.js \u001b[2J\u009b31m' },
      dependencies: { shell: '1' },
    }),
    'node_modules/bad/evil.js': 'require("child_process").exec("true")',
    'node_modules/shell/package.json':
      '{ "version": "2.0.0", "license": "MIT", "main": "x.js", "optionalDependencies": { "native": "1" } }',
    'node_modules/shell/x.js': 'require("child_process")',
    'node_modules/native/package.json': '{ "version": "3.0.0", "license": "MIT", "dependencies": { "odd": "1" } }',
    'node_modules/native/x.node': '',
    'node_modules/odd/package.json': '{ "version": "4.0.0", "license": "MIT", "main": "x.js", "dependencies": { "bad": "1" } }',
    'node_modules/odd/x.js': 'eval("1")',
  });

describe.concurrent('npm start, with agents that start agents', PATIENCE, () => {
  it('gives a suspicious dependency its own, down to the limit, which is an answer to the model', async ({ expect }) => {
    const dir = await chain();
    const file = join(dir, 'logs/findings.jsonl');
    const demo = await runDemo(['--dir', dir, '--max', '1', '--findings', file]);
    const { stdout } = demo;
    expect(demo.code).toBe(0);
    expect(stdout).toMatch(/^ +└─ native 3\.0\.0 of shell: medium risk \(/m);
    expect(stdout).toMatch(/^ +└─ shell 2\.0\.0 of bad: \w+ risk \(/m);
    expect(stdout).toMatch(
      /^bad +1\.0\.0 .* high +\d\n└─ shell +2\.0\.0 .*\n {2}└─ native +3\.0\.0 .*\n {4}└─ odd +4\.0\.0 +no agent of its own$/m,
    );
    expect(stdout).toMatch(/^ {2}its dependency odd, which evaluates code, was not audited: it is deeper than 2$/m);
    expect(stdout).toMatch(/agents: 3 started = 3 done/);
    expect(stdout).toMatch(/of these: 2 sub-agents for suspicious dependencies, at most 2 levels deep/);
    expect(stdout).toMatch(/not started: 1 sub-agent that the limits of its tree refused/);
    // One that would be too deep has asked for nothing.
    expect(stdout).not.toMatch(/! /);
    expect(stdout).not.toMatch(/[\u001b\u009b]/);
    expectClosedAccounts(demo);
    // The agent of the package asked before it filed, and nobody was there.
    expect(stdout).toMatch(
      /^ {2}\? bad asks: file_finding, risk: high, text: runs "node evil\.js .* \(approved, because there is nobody to ask\)$/m,
    );
    expect(stdout).toMatch(/approvals: 1 asked = 1 approved \+ 0 denied \+ 0 expired \+ 0 withdrawn; 1 approved automatically/);
    expect(stdout).toContain(`findings: 1 filed in ${file}`);
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([{ package: 'bad', version: '1.0.0', risk: 'high' }]);
  });

  it.each([
    [1, 2, /its dependency native, which ships compiled code, was not audited: it is deeper than 1$/m],
    [3, 4, /^ {4}└─ odd +4\.0\.0/m],
  ])('goes as deep as --max-depth %i lets them', async (depth, agents, words) => {
    const demo = await runDemo(['--dir', await chain(), '--max', '1', '--max-depth', String(depth)]);
    expect(demo.stdout).toMatch(new RegExp(`agents: ${agents} started = ${agents} done`));
    expect(demo.stdout).toMatch(words);
    expectClosedAccounts(demo);
  });

  it('starts none with --max-depth 0', async ({ expect }) => {
    const demo = await runDemo(['--dir', await chain(), '--max', '1', '--max-depth', '0']);
    expect(demo.stdout).toMatch(/agents: 1 started = 1 done/);
    expect(demo.stdout).not.toMatch(/sub-agent|shell/);
    expectClosedAccounts(demo);
  });

  it('holds them within the budget of the agent above, which says what it could not see', async ({ expect }) => {
    const demo = await runDemo(['--dir', await chain(), '--max', '1', '--max-usd', '0.07']);
    const refusal = 'Budget "fleet > #1 bad > #1 shell > #1 native" refuses $';
    expect(demo.stdout).toContain(`└─ native 3.0.0 of shell: failed, ${refusal}`);
    expect(demo.stdout).toContain(`\n  its dependency native, which ships compiled code, was not audited: ${refusal.slice(0, 20)}`);
    expect(demo.stdout).toMatch(/agents: 3 started = 2 done \+ 1 failed/);
    expectClosedAccounts(demo);
  });

  it('says so when a finding cannot be filed', async ({ expect }) => {
    const dir = await chain();
    const demo = await runDemo(['--dir', dir, '--max', '1', '--max-depth', '0', '--findings', join(dir, 'package.json/findings')]);
    expect(demo.stdout).toMatch(/^ {2}this was not filed: .*(EEXIST|ENOTDIR)/m);
    expect(demo.stdout).toMatch(/findings: none filed$/m);
    expectClosedAccounts(demo);
  });
});

describe.runIf(hasTerminals)('npm start in a terminal', { ...PATIENCE, concurrent: true }, () => {
  const QUESTION = /\? bad asks: file_finding\r\n {2}risk: high, text: runs "node evil\.js[^]* y yes {3}n no {3}a yes to all/;
  const start = async (): Promise<ReturnType<typeof startInTerminal>> =>
    startInTerminal(['--dir', await chain(), '--max', '1', '--max-depth', '1']);
  /** A key that comes at once is not taken for an answer. */
  const read = (): Promise<unknown> => new Promise((resolve) => void setTimeout(resolve, 400));
  /** Without what moves the cursor, as it is on the screen in the end; and the terminal is as it was. */
  function expectRestored(demo: Demo): Demo {
    const stdout = demo.stdout.replaceAll('\r\n', '\n');
    expect(stdout.lastIndexOf('\u001b[?25h')).toBeGreaterThan(stdout.lastIndexOf('\u001b[?25l'));
    expect(stdout).toMatch(/isig icanon echo\n$/);
    return { ...demo, stdout, stderr: demo.stderr };
  }

  it('draws the tree, asks, and takes a key for an answer', async () => {
    const demo = await start();
    await demo.says(QUESTION);
    await read();
    demo.press('y');
    expect(await demo.ended).toBe(0);
    expect(demo.stdout).toMatch(/▸ bad +turn 3 +\d\.\d s {2}.*audit_dependency.*\r\n {2}└─ shell +turn \d/);
    expect(demo.stdout).toMatch(/▸ bad .* waits for your answer/);
    const told = expectRestored(demo);
    expect(told.stdout).toMatch(/approvals: 1 asked = 1 approved \+ 0 denied \+ 0 expired \+ 0 withdrawn$/m);
    expect(told.stdout).toMatch(/findings: 1 filed/);
    expectClosedAccounts(told);
  });

  it('tells the model that the answer was no', async () => {
    const demo = await start();
    await demo.says(QUESTION);
    await read();
    // An arrow is no answer, and neither is a word.
    demo.press('\u001b[A');
    await read();
    demo.press('yes');
    await read();
    demo.press('n');
    expect(await demo.ended).toBe(0);
    const told = expectRestored(demo);
    expect(told.stdout).toMatch(/^ {2}this was not filed: the user said no$/m);
    expect(told.stdout).toMatch(/approvals: 1 asked = 0 approved \+ 1 denied/);
    expect(told.stdout).toMatch(/findings: none filed$/m);
    expectClosedAccounts(told);
  });

  it('ends cleanly on Ctrl-C while a question is open', async () => {
    const demo = await start();
    await demo.says(QUESTION);
    const before = performance.now();
    demo.press('\u0003');
    expect(await demo.ended).toBe(130);
    expect(performance.now() - before).toBeLessThan(3_000);
    const told = expectRestored(demo);
    expect(told.stdout).toMatch(/SIGINT: cancelling \d calls? …/);
    expect(told.stdout).toMatch(/approvals: 1 asked = 0 approved \+ 0 denied \+ 0 expired \+ 1 withdrawn$/m);
    expect(told.stdout).toMatch(/server: 0 requests open .* 0 sockets open/);
    expectClosedAccounts(told);
  });

  it('goes on without an answer after a while', async () => {
    const demo = await start();
    expect(await demo.ended).toBe(0);
    const told = expectRestored(demo);
    expect(told.stdout).toMatch(/^ {2}this was not filed: Nobody decided within 10000 ms$/m);
    expect(told.stdout).toMatch(/approvals: 1 asked = 0 approved \+ 0 denied \+ 1 expired/);
    expectClosedAccounts(told);
  });
});

describe.concurrent('npm start -- --live', PATIENCE, () => {
  it('needs a key', async ({ expect }) => {
    const demo = await runDemo(['--live']);
    expect(demo.code).toBe(2);
    expect(demo.stderr).toMatch(/needs the API key in the environment variable ANTHROPIC_API_KEY/);
  });

  it('says what it may cost, and never shows the key', async ({ expect }) => {
    await using api = await startMessagesServer({ script: auditor(undefined), apiKey: KEY });
    const demo = await runDemo(['--live', '--max', '2', '--max-usd', '0.10'], { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: api.url });
    expect(demo.code).toBe(0);
    expect(demo.stdout).toMatch(/2, 6 at a time, each with at most 5 below it, at most 8 turns each: at most 96 requests/);
    expect(demo.stdout).toMatch(/worst case +\$\d\.\d+, but a request that could pass \$0\.10 in all is not sent/);
    expect(demo.stdout).toMatch(/spent: \$0\.00\d+ of at most \$0\.10$/m);
    expect(demo.stdout + demo.stderr).not.toContain(KEY);
    expectClosedAccounts(demo);
  });

  it('sends nothing that could pass the limit', async ({ expect }) => {
    await using api = await startMessagesServer({ script: auditor(undefined) });
    const demo = await runDemo(['--live', '--max', '2', '--max-usd', '0.001'], { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: api.url });
    expect(demo.code).toBe(1);
    expect(demo.stdout).toMatch(/refuses \$\S+: \$0\.0+ spent and \$\S+ reserved of \$0\.00\d+\./);
    expect(api.stats().requests).toBe(0);
    expectClosedAccounts(demo);
  });

  it('sends nothing if it is interrupted before it starts', async ({ expect }) => {
    await using api = await startMessagesServer({ script: auditor(undefined) });
    const demo = startDemo(['--live'], { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: api.url });
    await demo.says(/press Ctrl-C, and nothing is sent/);
    demo.child.kill('SIGINT');
    expect(await demo.ended).toBe(130);
    expect(api.stats().requests).toBe(0);
  });
});
