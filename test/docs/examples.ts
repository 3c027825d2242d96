import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const root: string = join(import.meta.dirname, '../..');

export interface Example {
  /** The file that it stands in, and which one of that it is. */
  readonly name: string;
  readonly code: string;
}

function files(folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending))
    .map((file) => join(folder, file));
}

/** The fenced `ts` blocks of a page, and those of the doc comments of a source file. */
function examplesIn(file: string): Example[] {
  const text = readFileSync(join(root, file), 'utf8');
  const plain = file.endsWith('.ts') ? (text.match(/\/\*\*[\s\S]*?\*\//g) ?? []).join('\n').replace(/^ *\* ?/gm, '') : text;
  return [...plain.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code = ''], at) => ({ name: `${file} ${at + 1}`, code }));
}

/** All that there are. */
export function examples(): Example[] {
  return ['README.md', ...files('docs', '.md'), ...files('src', '.ts')].flatMap(examplesIn);
}

/** The name of the module that an example is. */
export function moduleOf({ name }: Example): string {
  return `${name.replace(/[^a-z0-9]+/gi, '-')}.ts`;
}
