import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { defer, from, lastValueFrom, NEVER, of, throwError, toArray, type Observable } from 'rxjs';
import { CLAUDE_PRICES, costOf, type ScopeReport, type TripRecord } from 'rxfleet';
import type { MessageParams } from 'rxfleet/agents';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Approvals } from '../../examples/dependency-audit/approvals.js';
import { Chaos } from '../../examples/dependency-audit/chaos.js';
import { PackageFiles, PathError } from '../../examples/dependency-audit/files.js';
import { Findings } from '../../examples/dependency-audit/findings.js';
import { Fleet } from '../../examples/dependency-audit/fleet.js';
import { Guards } from '../../examples/dependency-audit/guards.js';
import { agrees, classifyLicence, isCopyleft } from '../../examples/dependency-audit/licences.js';
import type { InstalledPackage } from '../../examples/dependency-audit/packages.js';
import { readOptions, type AuditOptions } from '../../examples/dependency-audit/options.js';
import { fleetReport, guardReport } from '../../examples/dependency-audit/report.js';
import { Savings } from '../../examples/dependency-audit/savings.js';
import { ceilingOf } from '../../examples/dependency-audit/spend.js';
import { frame } from '../../examples/dependency-audit/view.js';
import { makeProject } from './demo.js';

const { signal } = new AbortController();

describe('PackageFiles', () => {
  it('refuses every way out of the package', async () => {
    const dir = await makeProject({ 'pkg/a.js': 'a', 'pkg-secret/b.js': 'b' });
    const files = new PackageFiles('pkg', join(dir, 'pkg'));
    await symlink('../pkg-secret', join(dir, 'pkg/link'));
    for (const path of ['..', '../pkg-secret/b.js', 'x/../../pkg-secret/b.js', join(dir, 'pkg/a.js'), '/etc/passwd', 'link/b.js', 'a.js\0'])
      await expect(files.read(path, 100, signal)).rejects.toThrow(/leads out of the package "pkg" and was refused\. Paths are relative/);
    expect((await files.read('./a.js', 100, signal)).text).toBe('a');
  });

  it('says what is not there, and what is no file', async () => {
    const dir = await makeProject({ 'a.js': 'a' });
    await mkdir(join(dir, 'lib'));
    const files = new PackageFiles('pkg', dir);
    await expect(files.read('b.js', 100, signal)).rejects.toThrow('There is no "b.js" in the package "pkg".');
    await expect(files.read('lib', 100, signal)).rejects.toThrow('"lib" in the package "pkg" is no file.');
    await expect(files.walk('a.js', signal).next()).rejects.toThrow('"a.js" in the package "pkg" is no folder.');
  });

  it('reads no more than it is asked for, and stops when it is told to', async () => {
    const dir = await makeProject({ 'a.txt': 'x'.repeat(200_000), 'node_modules/nested/b.js': 'b', 'lib/c.js': 'cc' });
    const files = new PackageFiles('pkg', dir);
    expect(await files.read('a.txt', 10, signal)).toEqual({ text: 'xxxxxxxxxx', bytes: 200_000 });
    const found = await lastValueFrom(from(files.walk('.', signal)).pipe(toArray()));
    expect(found.map(({ path }) => path).sort()).toEqual(['a.txt', 'lib/c.js']);
    const stopped = AbortSignal.abort(new Error('enough'));
    await expect(files.read('a.txt', 10, stopped)).rejects.toThrow('enough');
    await expect(files.walk('.', stopped).next()).rejects.toThrow('enough');
  });
});

describe('licences', () => {
  it.each([
    ['MIT', 'MIT License\n\nPermission is hereby granted, free of charge,\nto any person obtaining a copy'],
    ['Apache-2.0', '   Apache License\n   Version 2.0, January 2004'],
    ['BSD-3-Clause', 'Redistribution and use in source and binary forms, …\n* Neither the name of …'],
    ['BSD-2-Clause', 'Redistribution and use in source and binary forms, with or without modification, are permitted'],
    ['GPL-3.0', 'GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007'],
    // What is bundled comes after it.
    [
      'ISC',
      `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided\n
      --- bundled: Apache License Version 2.0`,
    ],
    [undefined, 'All rights reserved.'],
  ])('knows %s by its words', (spdx, text) => {
    expect(classifyLicence(text)).toBe(spdx);
  });

  it('compares them with what is declared', () => {
    expect(agrees('(MIT OR Apache-2.0)', 'Apache-2.0')).toBe(true);
    expect(agrees('GPL-3.0-or-later', 'GPL-3.0')).toBe(true);
    expect(agrees('MIT', 'ISC')).toBe(false);
    expect(isCopyleft('GPL-3.0-or-later')).toBe(true);
    expect(isCopyleft('(MIT OR GPL-3.0)')).toBe(false);
  });
});

describe('ceilingOf', () => {
  const request = (content: string): MessageParams => ({
    model: 'claude-haiku-5-5',
    max_tokens: 1000,
    messages: [{ role: 'user', content }],
  });

  it('is what a request costs if every byte of it is a token', () => {
    const { messages } = request('x');
    const bytes = Buffer.byteLength(JSON.stringify({ messages }));
    expect(ceilingOf(request('x'))).toBe(costOf(CLAUDE_PRICES, 'claude-haiku-5-5', { input: bytes + 1000, output: 1000 }));
    expect(ceilingOf(request('é'.repeat(10_000)))).toBeGreaterThan(2_000);
  });

  it('knows no ceiling for a prompt that has grown too long', () => {
    expect(() => ceilingOf(request('x'.repeat(90_000)))).toThrow(/has grown to 90,\d{3} bytes, 90,000 are allowed/);
  });
});

describe('readOptions', () => {
  const read = (...args: string[]) => readOptions(args, {}, '/home') as AuditOptions;

  it('takes money and a file with any model', () => {
    expect(read()).toMatchObject({ microUsd: undefined, trips: undefined });
    expect(read('--max-usd', '0.30', '--trips', 'logs/a.jsonl')).toMatchObject({ microUsd: 300_000, trips: '/home/logs/a.jsonl' });
    expect(readOptions(['--live'], { ANTHROPIC_API_KEY: 'key' }, '/')).toMatchObject({
      microUsd: 500_000,
      live: { model: 'claude-haiku-5-5' },
    });
  });

  it.each(['0', '-1', 'much', '1001', '0.1234567', ''])('refuses %j dollars', (dollars) => {
    expect(() => read(`--max-usd=${dollars}`)).toThrow(/--max-usd must be an amount above 0 such as 0\.50, at most 1000/);
  });

  it('refuses a model without a price, and a file without a name', () => {
    expect(() => readOptions(['--live', '--model', 'gpt'], { ANTHROPIC_API_KEY: 'key' }, '/')).toThrow(
      /--model: .*"gpt"; it knows .*claude/,
    );
    expect(() => read('--trips=')).toThrow('--trips needs the name of a file.');
  });
});

const LIMITS = {
  requests: { limit: 10, perMs: 1_000 },
  inputTokens: { limit: 50_000, perMs: 1_000 },
  outputTokens: { limit: 5_000, perMs: 1_000 },
};
const guardsFor = (agents: number, microUsd = 100_000): Guards => new Guards({ limits: LIMITS, microUsd, agents });
/** Nobody is asked anything. */
const nobody = new Approvals(undefined);
const listTool = { id: '1', name: 'list_files', input: {}, effect: 'none' } as const;
const request: MessageParams = { model: 'claude-haiku-5-5', max_tokens: 1_000, messages: [] };
const fails = (error: Error): Observable<never> => throwError(() => error);
/** Throttled once, with a Retry-After of a second. */
const failsOnce = <T>(then: Observable<T>): Observable<T> => {
  const error = Object.assign(new Error('slow down'), { status: 429, headers: { 'retry-after': '1' } });
  let attempts = 0;
  return defer(() => (attempts++ === 0 ? fails(error) : then));
};

describe('Guards', () => {
  it('stay a little below the limits of the API', () => {
    const { requests, inputTokens, outputTokens } = guardsFor(3).bucket.snapshot().limits;
    expect([requests?.capacity, inputTokens?.capacity, outputTokens?.capacity]).toEqual([8, 40_000, 4_000]);
  });

  it('have a breaker for each tool, which a model that asks for the wrong file does not trip', () => {
    const { toolGuard, breakers } = guardsFor(3);
    const call = (error: Error): void =>
      void fails(error)
        .pipe(toolGuard(listTool))
        .subscribe({ error: () => {} });
    for (let i = 0; i < 5; i++) call(new PathError('There is no such file.'));
    expect(breakers.get('list_files')?.state).toBe('closed');
    for (let i = 0; i < 3; i++) call(new Error('EIO'));
    expect([...breakers.values()].map(({ state }) => state).filter((state) => state === 'open')).toEqual(['open']);
    expect(breakers.get('list_files')?.state).toBe('open');
  });

  it('give each agent a budget of its own, below that of the agent above', () => {
    const guards = guardsFor(2, 100_000);
    const { budget } = guards.forAgent('#1 one');
    guards.forAgent('#1 below', budget);
    guards.forAgent('#2 one');
    expect(guards.budget.snapshot().children).toMatchObject([
      { name: '#1 one', microUsd: { limit: 50_000 }, children: [{ name: '#1 below', microUsd: { limit: 25_000 } }] },
      { name: '#2 one', microUsd: { limit: 50_000 } },
    ]);
    const alone = guardsFor(1, 100_000);
    alone.forAgent('#1 one');
    expect(alone.budget.snapshot().children).toMatchObject([{ microUsd: { limit: 100_000 } }]);
  });
});

describe('Savings', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const reply = { type: 'message', usage: { input_tokens: 100, output_tokens: 10 } };

  it('count whom a pause holds back, and not who caused it', () => {
    const guards = guardsFor(3);
    const savings = new Savings(guards);
    const guard = guards.forAgent('#1 one').modelGuard;
    failsOnce(of(reply)).pipe(guard(request)).subscribe();
    for (let i = 0; i < 4; i++) of(reply).pipe(guard(request)).subscribe();
    vi.advanceTimersByTime(500);
    expect(guards.retry.snapshot()).toMatchObject({ state: 'closed', waiting: 5 });
    expect(savings).toMatchObject({ throttled: 1, heldBack: 4, pauses: 1 });
    vi.advanceTimersByTime(10_000);
    expect(savings).toMatchObject({ throttled: 1, heldBack: 4, pauses: 1 });
    expect(savings.pausedMs).toBeGreaterThanOrEqual(1_000);
    expect(savings.pausedMs).toBeLessThan(1_600);
    expect(savings.retry).toMatchObject({ admitted: 6, ended: { completed: 5, failed: 1, cancelled: 0 } });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('close the books on the money, whatever becomes of a request', () => {
    const guards = guardsFor(3);
    const savings = new Savings(guards);
    const guard = guards.forAgent('#1 one').modelGuard;
    of(reply).pipe(guard(request)).subscribe();
    NEVER.pipe(guard(request)).subscribe().unsubscribe();
    fails(Object.assign(new Error('no'), { status: 400 }))
      .pipe(guard(request))
      .subscribe({ error: () => {} });
    const { spent, reserved } = guards.budget.snapshot().microUsd;
    expect(reserved).toBe(0);
    expect(spent).toBeGreaterThan(0);
    expect(savings.setAside).toBe(spent + savings.givenBack);
    expect(savings.budget).toMatchObject({ admitted: 3, ended: { completed: 1, failed: 1, cancelled: 1 } });
  });

  it('count what a trip stopped, what was refused after it, and alerts', () => {
    const guards = guardsFor(1, 600);
    const savings = new Savings(guards);
    for (let i = 0; i < 2; i++) NEVER.pipe(guards.toolGuard(listTool)).subscribe({ error: () => {} });
    for (let i = 0; i < 4; i++)
      fails(new Error('EIO'))
        .pipe(guards.toolGuard(listTool))
        .subscribe({ error: () => {} });
    expect(savings).toMatchObject({ stopped: 2, breakers: { admitted: 5, refused: 1, ended: { failed: 3, cancelled: 2 } } });
    expect([...savings.trips]).toEqual([['list_files', 1]]);
    of({ type: 'message', usage: { input_tokens: 10, output_tokens: 960 } })
      .pipe(guards.forAgent('#1 one').modelGuard(request))
      .subscribe();
    expect(savings.alerts.map(({ path, fraction }) => [path.length, fraction])).toEqual([
      [2, 0.8],
      [1, 0.8],
    ]);
    expect(guardReport(savings)).toMatch(/alerts: 80 % of \$0\.0006 \(fleet > #1 one\), 80 % of \$0\.0006 \(fleet\)$/);
  });
});

describe('fleetReport', () => {
  const report: ScopeReport = { fulfilled: 0, outcomes: [], errors: [], late: [], abandoned: [] };
  const tally = { asked: 0, approved: 0, denied: 0, expired: 0, withdrawn: 0 };
  const ending = {
    report,
    approvals: { tally, automatic: 0 },
    findings: new Findings(undefined),
    server: undefined,
    sockets: 0,
    openScopes: 0,
  };

  it('says what of the money is assumed, and what of the trips is missing', () => {
    const money = { spent: 300_000, uncertain: 20_000, limit: 500_000 };
    const tripFile = { type: 'closed', path: '/my logs/trips.jsonl', written: 3, missing: 2 } as const;
    const text = fleetReport(new Fleet([]), { ...ending, money, tripFile });
    expect(text).toMatch(/ spent: \$0\.30 of at most \$0\.50\n +assumed: \$0\.02 of that, for requests that were stopped\n/);
    expect(text).toMatch(/ trips: 3 written, 2 could not be; to read them: npx rxfleet trips '\/my logs\/trips\.jsonl'\n/);
  });

  it('lists a call that a breaker cancelled and that would not stop among the abandoned', () => {
    const pkg: InstalledPackage = { name: 'one', version: '1.0.0', root: '/', kind: 'dependency' };
    const fleet = new Fleet([pkg]);
    fleet.toolCalls.started = 2;
    fleet.toolCalls.cancelled = 2;
    const deaf = { label: 'list_files', path: ['audit', 'one', 'list_files'], ageMs: 1_200 };
    fleet.close({ ...report, abandoned: [deaf] });
    expect(fleet.toolCalls).toMatchObject({ cancelled: 1, abandoned: 1 });
    const money = { spent: 0, uncertain: 0, limit: 1 };
    const text = fleetReport(fleet, { ...ending, report, money, tripFile: undefined });
    expect(text).toMatch(/abandoned: list_files of one, 1\.2 s after it started/);
    expect(text).not.toMatch(/assumed|trips/);
  });
});

describe('Chaos', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('breaks the same tool for the same seed, from the same call on, for a while', () => {
    const course = (seed: number): string => {
      const chaos = new Chaos(seed, 30);
      const requests = Array.from({ length: 150 }, () => {
        vi.advanceTimersByTime(50);
        return chaos.throttles() ? 'x' : '.';
      });
      return requests.join('') + chaos.backend;
    };
    const courses = [1, 2, 3, 4, 5].map(course);
    expect(course(1)).toBe(courses[0]);
    expect(new Set(courses).size).toBeGreaterThan(3);
    for (const each of courses) expect(each).toMatch(/^\.{59,89}x{36}\.*[a-z_]+$/);
  });
});

describe('frame', () => {
  const packages = Array.from({ length: 40 }, (_, i): InstalledPackage => ({
    name: `@a-long-scope/a-package-with-a-long-name-${i}`,
    version: '1.0.0',
    root: '/',
    kind: 'dependency',
  }));
  const trip: TripRecord = { kind: 'tripped', at: 0, gate: 'list_files', path: [], message: 'Tripped. '.repeat(20), cancelled: 3 };

  it.each([
    [80, 24],
    [100, 30],
    [120, 40],
    [40, 12],
    [40, 20],
  ])('fits into %i × %i', (columns, rows) => {
    const fleet = new Fleet(packages, () => 1234);
    for (let i = 0; i < 30; i++) fleet.started(fleet.agent(i), ['audit', `${i}`]);
    for (let i = 0; i < 10; i++)
      fleet.ended({ index: i, status: 'failed', reason: new Error('a reason that is longer than any line '.repeat(5)) });
    const guards = guardsFor(40);
    for (const breaker of guards.breakers.values()) breaker.trip();
    const scene = { fleet, guards, approvals: nobody, title: 'A title that is much longer than forty columns are wide' };
    const lines = frame(scene, { said: ['SIGINT: cancelling …'], trips: [trip], columns, rows }).split('\n');
    expect(lines.length).toBeLessThan(rows);
    for (const line of lines) expect(line.length).toBeLessThan(columns);
    expect(lines.at(-1)).toBe('SIGINT: cancelling …');
  });

  it('shows what every guard is at', () => {
    vi.useFakeTimers();
    const guards = guardsFor(40);
    const rows = (): string => {
      const picture = frame(
        { fleet: new Fleet(packages), guards, approvals: nobody, title: '' },
        { said: [], trips: [trip], columns: 80, rows: 24 },
      );
      return `\n${picture.split('\n').slice(6, 11).join('\n')}\n`;
    };
    expect(rows()).toMatchInlineSnapshot(`
      "
      limit   0 waiting  requests 8/8  input 40.0k/40.0k  output 4.0k/4.0k
      retry   lets everybody through
      tools   ●manifest  ●files  ●licence  ●scripts  ●exports  ●code  ●text
      budget  $0.0000 of $0.1000  $0.0000 set aside  ░░░░░░░░░░░░░░░░░░░░
      trips   1  list_files: Tripped. Tripped. Tripped. Tripped. Tripped. Tripped…
      "
    `);
    const guard = guards.forAgent('#1 one').modelGuard;
    failsOnce(NEVER).pipe(guard(request)).subscribe();
    NEVER.pipe(guard(request)).subscribe();
    guards.breakers.get('read_licence')?.trip();
    vi.advanceTimersByTime(100);
    guards.bucket.pause(500);
    expect(rows()).toMatchInlineSnapshot(`
      "
      limit   paused 0.5 s  0 waiting  requests 7/8  input 40.0k/40.0k
      retry   holds everybody back for 0.9 s  2 waiting
      tools   ○licence 0.9 s  ●manifest  ●files  ●scripts  ●exports  ●code  ●text
      budget  $0.0000 of $0.1000  $0.0000 set aside  ░░░░░░░░░░░░░░░░░░░░
      trips   1  list_files: Tripped. Tripped. Tripped. Tripped. Tripped. Tripped…
      "
    `);
    vi.advanceTimersByTime(1_500);
    expect(rows()).toMatchInlineSnapshot(`
      "
      limit   0 waiting  requests 8/8  input 40.0k/40.0k  output 4.0k/4.0k
      retry   re-opens slowly  1 of 1 in flight  1 waiting
      tools   ○licence  ●manifest  ●files  ●scripts  ●exports  ●code  ●text
      budget  $0.0000 of $0.1000  $0.0005 set aside  ░░░░░░░░░░░░░░░░░░░░
      trips   1  list_files: Tripped. Tripped. Tripped. Tripped. Tripped. Tripped…
      "
    `);
    vi.useRealTimers();
  });
});
