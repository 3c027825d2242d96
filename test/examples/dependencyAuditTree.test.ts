import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NEVER, of, Subject } from 'rxjs';
import { awaitApproval, DepthGate, depthLimit, type DepthLimitError, type ScopeReport } from 'rxfleet';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Approvals } from '../../examples/dependency-audit/approvals.js';
import { findDependency, inspectDependencies } from '../../examples/dependency-audit/dependencies.js';
import { Findings } from '../../examples/dependency-audit/findings.js';
import { Fleet, type Agent } from '../../examples/dependency-audit/fleet.js';
import { Guards } from '../../examples/dependency-audit/guards.js';
import type { InstalledPackage } from '../../examples/dependency-audit/packages.js';
import { auditTable } from '../../examples/dependency-audit/table.js';
import { wrap } from '../../examples/dependency-audit/text.js';
import { treeOf } from '../../examples/dependency-audit/tree.js';
import { frame } from '../../examples/dependency-audit/view.js';
import { makeProject } from './demo.js';

const { signal } = new AbortController();
const pkg = (name: string, root = `/${name}`): InstalledPackage => ({ name, version: '1.0.0', root, kind: 'dependency' });

describe('inspectDependencies', () => {
  const project = () =>
    makeProject({
      'package.json':
        '{ "dependencies": { "hooks": "1", "shell": "1", "broken": "1", "gone": "1", "plain": "1" }, "optionalDependencies": { "native": "1" } }',
      'node_modules/hooks/package.json': '{ "version": "1.0.0", "scripts": { "postinstall": "node x.js" } }',
      'node_modules/shell/package.json': '{ "version": "2.0.0", "main": "x.js" }',
      'node_modules/shell/x.js': 'require("child_process"); eval("1")',
      'node_modules/native/package.json': '{ "version": "3.0.0" }',
      'node_modules/native/build/x.node': '',
      'node_modules/broken/package.json': '{ "version": "4.0.0", "main": "lib/.." }',
      'node_modules/plain/package.json': '{ "version": "5.0.0" }',
      'node_modules/plain/notes': 'MZ is how this text begins, and it is short',
    });

  it('names those that somebody should read, and why', async () => {
    const root = await project();
    const found = await inspectDependencies(pkg('root', root), new Set(), signal, () => {});
    expect(found).toEqual({
      installed: 5,
      haveAgents: [],
      suspicious: [
        { name: 'hooks', version: '1.0.0', signs: ['runs scripts on installation'] },
        { name: 'shell', version: '2.0.0', signs: ['starts processes', 'evaluates code'] },
        { name: 'native', version: '3.0.0', signs: ['ships compiled code'] },
      ],
    });
  });

  it('leaves out those that have an agent already, and stops when it is told to', async () => {
    const root = await project();
    const known = new Set([join(root, 'node_modules/hooks'), join(root, 'node_modules/native')]);
    const { haveAgents, suspicious } = await inspectDependencies(pkg('root', root), known, signal, () => {});
    expect(haveAgents).toEqual(['hooks', 'native']);
    expect(suspicious.map(({ name }) => name)).toEqual(['shell']);
    await expect(inspectDependencies(pkg('root', root), known, AbortSignal.abort(new Error('enough')), () => {})).rejects.toThrow('enough');
  });

  it('takes a program without an ending for what it is', async () => {
    const root = await makeProject({
      'package.json': '{ "dependencies": { "tool": "1" } }',
      'node_modules/tool/package.json': '{ "version": "1.0.0" }',
      'node_modules/tool/bin/tool': `\u007fELF${'\0'.repeat(60_000)}`,
    });
    const { suspicious } = await inspectDependencies(pkg('root', root), new Set(), signal, () => {});
    expect(suspicious).toMatchObject([{ name: 'tool', signs: ['ships compiled code'] }]);
  });

  it('finds no folder but that of a declared dependency', async () => {
    const root = await project();
    expect(await findDependency(pkg('root', root), 'shell', new Set())).toMatchObject({
      version: '2.0.0',
      root: join(root, 'node_modules/shell'),
    });
    for (const name of ['gone', '../shell', 'shell/../hooks', 'root'])
      await expect(findDependency(pkg('root', root), name, new Set())).rejects.toThrow(`"${name}" is no installed dependency of "root".`);
    const known = new Set([join(root, 'node_modules/shell')]);
    await expect(findDependency(pkg('root', root), 'shell', known)).rejects.toThrow('"shell" has an agent of its own already.');
  });
});

describe('Findings', () => {
  const finding = { package: 'one', version: '1', risk: 'high', text: 'it "is"\u001b odd' };

  it('are lines of JSON in a file, and in memory without one', async () => {
    const path = join(await makeProject({}), 'logs/findings.jsonl');
    const findings = new Findings(path);
    expect(await Promise.all([findings.file(finding), findings.file(finding)])).toHaveLength(2);
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([finding, finding]);
    expect(await new Findings(undefined).file(finding)).toBe(1);
  });

  it('count only those that were written', async () => {
    const dir = await makeProject({});
    await mkdir(join(dir, 'folder'));
    const findings = new Findings(join(dir, 'folder'));
    await expect(findings.file(finding)).rejects.toThrow('EISDIR');
    expect(findings.filed).toEqual([]);
  });
});

describe('Approvals', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const ask = (approvals: Approvals, ...ids: string[]) =>
    ids.map((id) => {
      const told: string[] = [];
      const subscription = of('done')
        .pipe(awaitApproval(approvals.gate, { id, title: 'file', input: { id }, keep: true }))
        .subscribe({ next: (word) => told.push(word), error: (error: Error) => told.push(error.message) });
      return { told, subscription };
    });

  function person() {
    const keys$ = new Subject<string>();
    const approvals = new Approvals(keys$, () => Date.now());
    const press = (...keys: string[]): void => {
      for (const key of keys) {
        vi.advanceTimersByTime(300);
        keys$.next(key);
      }
    };
    return { keys$, approvals, press };
  }

  it('are given where there is nobody to ask', () => {
    const approvals = new Approvals(undefined);
    const told: string[] = [];
    approvals.onAutomatic = ({ id }) => told.push(id);
    const calls = ask(approvals, '1', '2');
    expect(calls.map((call) => call.told)).toEqual([['done'], ['done']]);
    expect(told).toEqual(['1', '2']);
    expect(approvals).toMatchObject({ automatic: 2, tally: { asked: 2, approved: 2 } });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('are asked for one at a time, and keys are heard only as long as there is a question', () => {
    const { approvals, keys$, press } = person();
    expect(keys$.observed).toBe(false);
    const calls = ask(approvals, '1', '2', '3');
    expect(keys$.observed).toBe(true);
    expect(approvals.questions.map(({ id }) => id)).toEqual(['1', '2', '3']);
    press('x', 'y', 'N', 'q');
    expect(calls.map((call) => call.told)).toEqual([['done'], ['Approval "2" of "approval" was denied: the user said no.'], []]);
    press('Y');
    expect(keys$.observed).toBe(false);
    expect(approvals).toMatchObject({ automatic: 0, tally: { asked: 3, approved: 2, denied: 1, expired: 0, withdrawn: 0 } });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('take no key that was meant for the question before', () => {
    const { approvals, keys$, press } = person();
    const [, second] = ask(approvals, '1', '2');
    press('y');
    keys$.next('y');
    vi.advanceTimersByTime(200);
    keys$.next('y');
    expect(second?.told).toEqual([]);
    press('y');
    expect(second?.told).toEqual(['done']);
  });

  it('are given to all, now and later, after "a"; not after the "A" of an arrow', () => {
    const { approvals, keys$, press } = person();
    const calls = ask(approvals, '1', '2');
    press('A');
    expect(approvals.tally.approved).toBe(0);
    press('a');
    expect([...calls, ...ask(approvals, '3')].map(({ told }) => told)).toEqual([['done'], ['done'], ['done']]);
    expect(approvals).toMatchObject({ automatic: 3, tally: { asked: 3, approved: 3 } });
    expect(keys$.observed).toBe(false);
  });

  it('expire, and are withdrawn with whoever asked: each question is counted once', () => {
    const { approvals, keys$ } = person();
    const [first, second] = ask(approvals, '1', '2');
    vi.advanceTimersByTime(5_000);
    first?.subscription.unsubscribe();
    expect(approvals.questions.map(({ id }) => id)).toEqual(['2']);
    vi.advanceTimersByTime(10_000);
    expect(second?.told[0]).toMatch(/^Nobody decided on approval "2"/);
    expect(approvals.tally).toEqual({ asked: 2, approved: 0, denied: 0, expired: 1, withdrawn: 1 });
    expect(keys$.observed).toBe(false);
    approvals.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('let go of the terminal when they are closed while a question is open', () => {
    const { approvals, keys$ } = person();
    ask(approvals, '1');
    approvals.close();
    expect(keys$.observed).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });
});

/** knip, with two agents below it, one of which has one itself; and another. */
function family() {
  const fleet = new Fleet([pkg('knip'), pkg('zod')], () => 1000);
  const start = (agent: Agent, ...path: string[]): Agent => {
    fleet.started(agent, ['audit', ...path]);
    return agent;
  };
  const [knip, zod] = [start(fleet.agent(0), 'knip'), start(fleet.agent(1), 'zod')];
  const resolver = start(fleet.below(knip, pkg('oxc-resolver')), 'knip', 'audit_dependency', 'oxc-resolver');
  const binding = start(fleet.below(resolver, pkg('binding')), 'knip', 'audit_dependency', 'oxc-resolver', 'audit_dependency', 'binding');
  const parser = start(fleet.below(knip, pkg('oxc-parser')), 'knip', 'audit_dependency', 'oxc-parser');
  return { fleet, knip, zod, resolver, binding, parser };
}

async function refusal(): Promise<DepthLimitError> {
  return new Promise((resolve) => {
    of(1)
      .pipe(depthLimit(new DepthGate({ maxTotal: 0 })))
      .subscribe({ error: resolve });
  });
}

describe('Fleet', () => {
  const report: ScopeReport = { fulfilled: 0, outcomes: [], errors: [], late: [], abandoned: [] };

  it('counts agents below others, and what they had in flight when they were stopped', () => {
    const { fleet, resolver, parser } = family();
    const call = { type: 'started', id: '1', name: 'list_files', input: {}, attempt: 1, path: [] } as const;
    fleet.take(resolver, { type: 'tool', turn: 1, event: call });
    expect(fleet.number('running')).toBe(5);
    expect(fleet.inFlight).toBe(1);
    fleet.endedBelow(resolver, 'cancelled');
    fleet.endedBelow(parser, 'done');
    // Whoever was told that it ended may be told again.
    fleet.endedBelow(parser, 'cancelled');
    expect(fleet.inFlight).toBe(0);
    expect(fleet.toolCalls).toMatchObject({ started: 1, cancelled: 1 });
    expect([fleet.number('cancelled'), fleet.number('done')]).toEqual([1, 1]);
    // It would not stop: the report of the whole says so.
    const deaf = { label: 'list_files', path: ['audit', 'knip', 'audit_dependency', 'oxc-resolver', 'list_files'], ageMs: 1_200 };
    fleet.close({ ...report, abandoned: [deaf] });
    expect(fleet.toolCalls).toMatchObject({ started: 1, cancelled: 0, abandoned: 1 });
  });

  it('knows a refused agent from one that failed', async () => {
    const { fleet, knip } = family();
    const before = fleet.number('running');
    const refused = fleet.below(knip, pkg('one'));
    fleet.failedBelow(refused, await refusal());
    expect(refused).toMatchObject({ status: 'refused', problem: 'its tree had 0 agents already' });
    expect(fleet.number('running', 'failed', 'cancelled', 'done')).toBe(before);
    fleet.failedBelow(knip, new Error('no'));
    expect(knip).toMatchObject({ status: 'failed', problem: 'no' });
  });

  it('hears of the requests of each agent by its path', () => {
    const { fleet, resolver, binding } = family();
    const path = ['audit', 'knip', 'audit_dependency', 'oxc-resolver'];
    fleet.hear({ type: 'queued', gate: 'rate limit', at: 0, path, waiting: 1 });
    expect([resolver.heldBy, binding.heldBy]).toEqual(['rate limit', undefined]);
    fleet.hear({ type: 'admitted', gate: 'rate limit', at: 0, path, waitedMs: 1 });
    expect(fleet.modelCalls.started).toBe(1);
  });
});

describe('the tree', () => {
  it('is drawn as drawTree draws it', () => {
    const { fleet } = family();
    expect(treeOf(fleet.agents, () => true).map(({ agent, stem }) => stem + agent.pkg.name)).toEqual([
      'knip',
      '├─ oxc-resolver',
      '│ └─ binding',
      '└─ oxc-parser',
      'zod',
    ]);
  });

  it('has a row for every agent in the table, refused ones as well', async () => {
    const { fleet, resolver } = family();
    fleet.failedBelow(fleet.below(resolver, pkg('too-deep')), await refusal());
    const text = auditTable(fleet, 80);
    expect(text).toMatch(/^├─ oxc-resolver +1\.0\.0 +running in turn 1$/m);
    expect(text).toMatch(/^│ └─ too-deep +1\.0\.0 +no agent of its own$/m);
    expect(text).toMatch(/^too-deep, a dependency of oxc-resolver\n {2}its tree had 0 agents already$/m);
  });
});

describe('frame', () => {
  const text = `runs "${'node install.js '.repeat(30)}\u001b[2J\u009b31m\u202e" on postinstall`;

  function scene(questions: number) {
    const { fleet, knip } = family();
    for (let i = 0; i < 30; i++) fleet.started(fleet.below(knip, pkg(`a-dependency-with-a-long-name-${i}`)), ['audit', `${i}`]);
    const limit = { limit: 10, perMs: 1_000 };
    const guards = new Guards({ limits: { requests: limit, inputTokens: limit, outputTokens: limit }, microUsd: 1, agents: 1 });
    const approvals = new Approvals(NEVER);
    for (let i = 0; i < questions; i++)
      of(1)
        .pipe(awaitApproval(approvals.gate, { id: `${i}`, title: 'file_finding', input: { risk: 'high', text } }))
        .subscribe({ error: () => {} });
    return { fleet, guards, approvals, title: 'A title' };
  }

  it.each([
    [40, 12],
    [40, 20],
    [80, 24],
    [120, 40],
  ])('fits into %i × %i, with the tree and a question', (columns, rows) => {
    const stage = scene(3);
    const lines = frame(stage, { said: ['SIGINT: cancelling …'], trips: [], columns, rows }).split('\n');
    stage.approvals.close();
    expect(lines.length).toBeLessThan(rows);
    for (const line of lines) {
      expect(line.length).toBeLessThan(columns);
      expect(line).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    }
    expect(lines.some((line) => line.startsWith('? '))).toBe(true);
    expect(lines.join('\n')).toContain('risk: high, text: runs "node');
    expect(lines.join('\n')).toMatch(/y yes {3}n no {3}a yes to all/);
    expect(lines.join('\n')).toMatch(/^▸ knip/m);
    expect(lines.join('\n')).toMatch(/^ {2}and \d+ more$/m);
  });

  it('draws those below an agent below it, and says what waits for an answer', () => {
    const { fleet, zod } = family();
    const call = { type: 'approval', id: '1', request: '1', name: 'file_finding', input: {}, path: [] } as const;
    fleet.take(zod, { type: 'tool', turn: 1, event: call });
    const stage = scene(0);
    const lines = frame({ ...stage, fleet }, { said: [], trips: [], columns: 80, rows: 24 }).split('\n');
    stage.approvals.close();
    const tree = lines.slice(lines.findIndex((line) => line.startsWith('▸')));
    expect(tree.map((line) => line.slice(0, 26).trimEnd())).toEqual([
      '▸ knip',
      '  ├─ oxc-resolver',
      '  │ └─ binding',
      '  └─ oxc-parser',
      '▸ zod',
    ]);
    expect(tree.at(-1)).toContain('waits for your answer');
    fleet.take(zod, { type: 'tool', turn: 1, event: { ...call, type: 'started', attempt: 1 } });
    expect(zod.asking.size).toBe(0);
  });
});

describe('wrap', () => {
  it.each([
    ['one two three four', 9, 3, ['one two', 'three', 'four']],
    ['one two three four', 9, 2, ['one two', 'three fo…']],
    ['abcdefghijkl', 5, 3, ['abcde', 'fghij', 'kl']],
    ['', 5, 3, ['']],
  ])('%j in %i columns and %i lines', (text, width, most, lines) => {
    expect(wrap(text, width, most)).toEqual(lines);
  });
});
