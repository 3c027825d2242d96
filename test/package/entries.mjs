// Every entry of the built package, by its own name, as ESM and as CommonJS.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const expected = {
  rxfleet: ['failWithin', 'fanOutScoped', 'scoped', 'takeWithin'],
  'rxfleet/agents': ['tool'],
  'rxfleet/node': ['jsonLines'],
  'rxfleet/testing': [],
};

for (const [entry, names] of Object.entries(expected)) {
  const esm = await import(entry);
  const cjs = require(entry);
  assert.match(import.meta.resolve(entry), /\/dist\/.*\.js$/);
  assert.match(require.resolve(entry), /[\\/]dist[\\/].*\.cjs$/);
  assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort(), `${entry}: ESM and CommonJS export the same names`);
  for (const name of names) assert.equal(typeof esm[name], 'function', `${entry} exports ${name}`);
}
