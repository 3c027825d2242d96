import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { from, lastValueFrom, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { PackageFiles } from '../../examples/dependency-audit/files.js';
import { Fleet } from '../../examples/dependency-audit/fleet.js';
import { agrees, classifyLicence, isCopyleft } from '../../examples/dependency-audit/licences.js';
import type { InstalledPackage } from '../../examples/dependency-audit/packages.js';
import { ceilingOf, costOf, Ledger } from '../../examples/dependency-audit/spend.js';
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

describe('Ledger', () => {
  const MODEL = 'claude-haiku-4-5';
  const request = { max_tokens: 1000, messages: [] };

  it('never lets what is spent and what is reserved pass the limit', () => {
    const ledger = new Ledger(MODEL, 20_000);
    ledger.reserve(0, request);
    ledger.reserve(1, request);
    ledger.reserve(2, request);
    expect(() => ledger.reserve(3, request)).toThrow(/could pass the limit of \$0\.0200/);
    expect(ledger.spent + ledger.reserved).toBeLessThanOrEqual(20_000);
    ledger.settle(0, 500, 100);
    expect(ledger.spent).toBe(1_000);
    ledger.reserve(3, request);
    ledger.forfeit(1);
    ledger.release(2);
    ledger.release(2);
    expect(ledger.spent).toBe(1_000 + ceilingOf(MODEL, Buffer.byteLength('{"messages":[]}'), 1000));
    expect(ledger.spent + ledger.reserved).toBeLessThanOrEqual(20_000);
  });

  it('knows that long prompts cost more', () => {
    expect(costOf('claude-haiku-5-5', 100_000, 1000)).toBe(10_500);
    expect(costOf('claude-haiku-5-5', 100_001, 1000)).toBe(52_501);
    expect(() => ceilingOf('claude-unknown', 1, 1)).toThrow('There is no price for claude-unknown.');
  });
});

describe('frame', () => {
  it.each([
    [80, 24],
    [100, 30],
    [40, 12],
  ])('fits into %i × %i', (columns, rows) => {
    const packages = Array.from({ length: 40 }, (_, i): InstalledPackage => ({
      name: `@a-long-scope/a-package-with-a-long-name-${i}`,
      version: '1.0.0',
      root: '/',
      kind: 'dependency',
    }));
    const fleet = new Fleet(packages, () => 1234);
    for (let i = 0; i < 30; i++) fleet.started(i);
    for (let i = 0; i < 10; i++)
      fleet.ended({ index: i, status: 'failed', reason: new Error('a reason that is longer than any line '.repeat(5)) });
    const lines = frame(fleet, 'A title that is much longer than forty columns are wide', ['SIGINT: cancelling …'], columns, rows).split(
      '\n',
    );
    expect(lines.length).toBeLessThan(rows);
    for (const line of lines) expect(line.length).toBeLessThan(columns);
    expect(lines.at(-1)).toBe('SIGINT: cancelling …');
  });
});
