import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openScopes } from 'rxfleet/testing';

const root = join(import.meta.dirname, '../..');
const out = join(root, 'temp/examples');

interface Example {
  readonly name: string;
  readonly code: string;
}

function files(folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending))
    .map((file) => join(folder, file));
}

/** The fenced `ts` blocks of a page, and those of the doc comments of a source file. */
function examples(file: string): Example[] {
  const text = readFileSync(join(root, file), 'utf8');
  const plain = file.endsWith('.ts') ? (text.match(/\/\*\*[\s\S]*?\*\//g) ?? []).join('\n').replace(/^ *\* ?/gm, '') : text;
  return [...plain.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code = ''], at) => ({ name: `${relative('', file)} ${at + 1}`, code }));
}

const all = ['README.md', ...files('docs', '.md'), ...files('src', '.ts')].flatMap(examples);

describe('every example of the docs runs and leaves nothing open', () => {
  mkdirSync(out, { recursive: true });
  afterAll(() => rmSync(out, { recursive: true, force: true }));

  it.each(all)('$name', async ({ name, code }) => {
    const file = join(out, `${name.replace(/[^a-z0-9]+/gi, '-')}.ts`);
    writeFileSync(file, `${code}\nexport {};\n`);
    await import(file);
    await expect.poll(() => openScopes(), { timeout: 2000 }).toEqual([]);
  });

  it('there are some', () => expect(all.length).toBeGreaterThan(5));
});
