import { readFileSync } from 'node:fs';

/** Control comes back whether it ends well or not. */
export async function swallow(promise) {
  try {
    await promise;
  } catch {
    // what it ended with is not what is counted here
  }
}

/** Name and version of an installed package. */
export function version(name) {
  const folders = [new URL('node_modules/', import.meta.url), new URL('../../node_modules/', import.meta.url)];
  for (const folder of folders) {
    try {
      const found = JSON.parse(readFileSync(new URL(`${name}/package.json`, folder), 'utf8'));
      return `${found.name} ${found.version}`;
    } catch {
      // not in this one
    }
  }
  throw new Error(`${name} is not installed.`);
}

/** A package of this directory's own package.json. */
export function peer(name) {
  return import(name);
}
