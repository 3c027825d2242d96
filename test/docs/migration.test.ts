import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const folder = join(root, 'docs/migration');
const pages = readdirSync(folder).filter((file) => file.endsWith('.md') && file !== 'README.md');
const read = (file: string): string => readFileSync(join(folder, file), 'utf8');
const blocks = (text: string, kind: string): string[] =>
  [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```/gm)].filter(([, found]) => found === kind).map(([, , code = '']) => code);

const { dependencies } = JSON.parse(readFileSync(join(root, 'bench/orphans/package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
};

/** The rows of the first table below a line that begins so, as cells. */
function rowsBelow(text: string, begin: string): string[][] {
  const lines = text.slice(text.indexOf(`\n${begin}`)).split('\n');
  const first = lines.findIndex((line) => line.startsWith('|'));
  const rest = lines.slice(first + 2);
  return rest
    .slice(
      0,
      rest.findIndex((line) => !line.startsWith('|')),
    )
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

describe('the migration pages', () => {
  it('are all in the index', () => {
    expect(pages).toHaveLength(5);
    for (const page of pages) expect(read('README.md')).toContain(`](${page})`);
  });

  it.each(pages)('%s has the job both ways, what happens to it, and where the other is the better choice', (page) => {
    const text = read(page);
    expect(text).toMatch(/^# From /);
    expect(blocks(text, 'ts').length + blocks(text, 'js').length).toBeGreaterThanOrEqual(2);
    expect(blocks(text, 'ts').some((code) => code.includes("from 'rxfleet"))).toBe(true);
    expect(text).toMatch(/^## Where .* is the better choice$/m);
    const rows = rowsBelow(text, '## What happens to it').map(([first = '']) => first);
    for (const what of [/^a call fails/, /^the caller aborts/, /^the consumer leaves/, /tokens/, /^who hears|^what fails/])
      expect(rows.some((row) => what.test(row))).toBe(true);
  });

  it.each(pages)('%s links to files that are there', (page) => {
    for (const [, target = ''] of read(page).matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g))
      expect([target, existsSync(join(folder, target))]).toEqual([target, true]);
  });

  it.each(pages)('%s: what is not executed here is JavaScript, and imports only what the orphan benchmark pins', (page) => {
    for (const code of blocks(read(page), 'js')) {
      const { diagnostics } = ts.transpileModule(code, {
        reportDiagnostics: true,
        fileName: 'block.mjs',
        compilerOptions: { allowJs: true, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
      });
      expect(diagnostics?.map(({ messageText }) => messageText)).toEqual([]);
      for (const [, name = ''] of code.matchAll(/from '((?:@[^/']+\/)?[^/']+)[^']*'/g)) expect(Object.keys(dependencies)).toContain(name);
    }
  });

  it('the published figures of rxfleet are 0 in every cell', () => {
    const rows = rowsBelow(read('README.md'), 'Calls still running').filter(([name]) => name?.startsWith('rxfleet'));
    expect(rows).toHaveLength(4);
    const cells = rows.flatMap((row) => row.slice(1, 4)).filter((cell) => cell !== '–');
    expect(cells.map((cell) => cell.replace(/ of \d(–\d)?/g, ''))).toEqual(cells.map(() => '0 / 0 / 0'));
  });

  it('the published versions are those that the benchmark pins', () => {
    for (const [name, pinned] of Object.entries(dependencies)) {
      const [, real = name, version = pinned] = /^npm:(.+)@(.+)$/.exec(pinned) ?? [];
      if (name !== 'zod') expect(read('README.md')).toContain(`${real} ${version}`);
    }
  });
});
