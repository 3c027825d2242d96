import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openScopes } from 'rxfleet/testing';
import { examples, moduleOf, root } from './examples.js';

const out = join(root, 'temp/examples');
const all = examples();

describe('every example of the docs runs and leaves nothing open', () => {
  mkdirSync(out, { recursive: true });
  afterAll(() => rmSync(out, { recursive: true, force: true }));

  it.each(all)('$name', async (example) => {
    const file = join(out, moduleOf(example));
    writeFileSync(file, `${example.code}\nexport {};\n`);
    await import(file);
    await expect.poll(() => openScopes(), { timeout: 2000 }).toEqual([]);
  });

  it('there are some', () => expect(all.length).toBeGreaterThan(5));
});
