// Packs what would be published into the given folder and fails on what should not be in it.
import { execSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

const [destination] = process.argv.slice(2);
mkdirSync(destination, { recursive: true });
const [{ files }] = JSON.parse(
  execSync(`npm pack --json --ignore-scripts --loglevel=error --pack-destination ${destination}`, { encoding: 'utf8' }),
);
const expected = /^(dist\/.+|src\/.+|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/;
const stray = files.map(({ path }) => path).filter((path) => !expected.test(path));
if (stray.length > 0) throw new Error(`not to be published: ${stray.join(', ')}`);
