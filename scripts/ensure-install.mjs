// Runs `npm ci` when node_modules is missing or is not what package-lock.json says.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`rxfleet needs Node 20.19 or newer; this is ${process.versions.node}.`);
  process.exit(1);
}

function packagesOf(lock) {
  return JSON.parse(readFileSync(join(root, lock), 'utf8')).packages;
}

/** npm leaves a lock of what it really installed inside node_modules. */
function isInstalled() {
  if (!existsSync(join(root, 'node_modules/.package-lock.json'))) return false;
  const installed = packagesOf('node_modules/.package-lock.json');
  return Object.entries(packagesOf('package-lock.json')).every(([path, { version, integrity, optional }]) => {
    const found = installed[path];
    if (path === '' || (found === undefined && optional)) return true;
    return found?.version === version && found.integrity === integrity && existsSync(join(root, path));
  });
}

if (!isInstalled()) {
  console.log('Installing dependencies from package-lock.json …');
  const { status } = spawnSync('npm ci --ignore-scripts --no-audit --no-fund', { cwd: root, stdio: 'inherit', shell: true });
  process.exitCode = status ?? 1;
}
