import type { FileEntry, PackageFiles } from './files.js';
import { isRecord, stringOf, stringsOf, type Json } from './json.js';
import { agrees, classifyLicence } from './licences.js';

const MANIFEST_BYTES = 1_000_000;
const LICENCE_BYTES = 100_000;
const SOURCE_BYTES = 1_000_000;
const MANY_FILES = 50_000;

async function readManifest(files: PackageFiles, signal: AbortSignal): Promise<Json> {
  const { text } = await files.read('package.json', MANIFEST_BYTES, signal);
  const manifest: unknown = JSON.parse(text);
  if (!isRecord(manifest)) throw new TypeError('The package.json holds no object.');
  return manifest;
}

function declaredLicence({ license, licenses }: Json): string | null {
  const named = (value: unknown): string | undefined => stringOf(value) ?? (isRecord(value) ? stringOf(value['type']) : undefined);
  const many = Array.isArray(licenses) ? licenses.map(named).filter((each) => each !== undefined) : [];
  return named(license) ?? (many.length > 0 ? many.join(' OR ') : null);
}

const sectionOf = (section: unknown): Json => (isRecord(section) ? section : {});
const sizeOf = (section: unknown): number => Object.keys(sectionOf(section)).length;

export async function inspectManifest(files: PackageFiles, signal: AbortSignal) {
  const manifest = await readManifest(files, signal);
  return {
    name: stringOf(manifest['name']) ?? files.name,
    version: stringOf(manifest['version']) ?? '?',
    description: (stringOf(manifest['description']) ?? '').slice(0, 300),
    licence: declaredLicence(manifest),
    engines: stringOf(stringsOf(manifest['engines'])['node']) ?? null,
    scripts: Object.keys(stringsOf(manifest['scripts'])),
    dependencies: sizeOf({ ...sectionOf(manifest['dependencies']), ...sectionOf(manifest['optionalDependencies']) }),
    hasEntries: ['exports', 'main', 'module', 'types', 'typings', 'bin'].some((key) => Boolean(manifest[key])),
  };
}

/** Counts the files below a folder; tells how far it is now and then, since there may be many. */
export async function inspectFiles(files: PackageFiles, path: string, signal: AbortSignal, progress: (value: unknown) => void) {
  const largest: FileEntry[] = [];
  const folders = new Map<string, number>();
  let total = 0;
  let bytes = 0;
  let compiled: string | null = null;
  for await (const file of files.walk(path, signal)) {
    total++;
    bytes += file.bytes;
    largest.push(file);
    if (largest.length > 100) trim(largest);
    const [top = '', ...rest] = file.path.split('/');
    if (rest.length > 0) folders.set(top, (folders.get(top) ?? 0) + file.bytes);
    if (compiled === null && (await isCompiled(files, file, signal))) compiled = file.path;
    if (total % 250 === 0) progress({ files: total });
    if (total === MANY_FILES) break;
  }
  trim(largest);
  const biggest = [...folders].sort((a, b) => b[1] - a[1])[0];
  return {
    files: total,
    bytes,
    largest,
    biggestFolder: biggest === undefined ? null : { path: biggest[0], bytes: biggest[1] },
    compiled,
    complete: total < MANY_FILES,
  };
}

const COMPILED = /\.(node|so|dll|dylib|exe)$/i;
/** How programs begin on Linux, Windows and macOS. */
const PROGRAM = /^(\u007fELF|MZ|\ufffd\ufffd\ufffd\ufffd)/;
const PROGRAM_BYTES = 50_000;

/** Whether a file is machine code, by its name, or by how it begins if it has no ending and is large. */
export async function isCompiled(files: PackageFiles, { path, bytes }: FileEntry, signal: AbortSignal): Promise<boolean> {
  if (COMPILED.test(path)) return true;
  if (bytes < PROGRAM_BYTES || /\.[^/]*$/.test(path)) return false;
  return PROGRAM.test((await files.read(path, 4, signal)).text);
}

function trim(largest: FileEntry[]): void {
  largest.sort((a, b) => b.bytes - a.bytes).length = Math.min(largest.length, 5);
}

const LICENCE_FILE = /^(licen[cs]e|copying|unlicense)([-._].*)?$/i;

export async function inspectLicence(files: PackageFiles, signal: AbortSignal) {
  const declared = declaredLicence(await readManifest(files, signal));
  const names = (await files.names('.', signal)).filter((name) => LICENCE_FILE.test(name)).slice(0, 5);
  const found = [];
  for (const name of names) {
    const { text } = await files.read(name, LICENCE_BYTES, signal);
    found.push({ path: name, spdx: classifyLicence(text) ?? null, begins: text.replace(/\s+/g, ' ').trim().slice(0, 120) });
  }
  const known = found.flatMap(({ spdx }) => spdx ?? []);
  const agreed = declared === null || known.length === 0 ? null : known.some((spdx) => agrees(declared, spdx));
  return { declared, texts: found, agrees: agreed };
}

const ON_INSTALL = ['preinstall', 'install', 'postinstall'];

export async function inspectInstallScripts(files: PackageFiles, signal: AbortSignal) {
  const all = stringsOf((await readManifest(files, signal))['scripts']);
  const scripts = ON_INSTALL.flatMap((name) => (all[name] === undefined ? [] : [{ name, command: all[name] }]));
  const sources = new Set<string>();
  for (const { command } of scripts) {
    for (const [path] of command.matchAll(/[\w./-]+\.[cm]?js\b/g)) if (await files.exists(path)) sources.add(path);
  }
  return { scripts, sources: [...sources], nativeBuild: await files.exists('binding.gyp') };
}

/** A path that the manifest points at, and how exactly it must be there. */
interface Target {
  readonly path: string;
  readonly loose: boolean;
}

export async function inspectExports(files: PackageFiles, signal: AbortSignal) {
  const manifest = await readManifest(files, signal);
  const targets = targetsOf(manifest);
  const missing: string[] = [];
  let entry: string | null = null;
  for (const target of targets) {
    signal.throwIfAborted();
    const there = await find(files, target);
    if (there === undefined) missing.push(target.path);
    else if (entry === null && /\.[cm]?js$/.test(there)) entry = there;
  }
  if (targets.length === 0 && (await files.exists('index.js'))) entry = 'index.js';
  return {
    entryPoints: isRecord(manifest['exports']) ? sizeOf(manifest['exports']) : Number(targets.length > 0),
    targets: targets.length,
    missing: missing.slice(0, 10),
    entry,
  };
}

function targetsOf(manifest: Json): Target[] {
  const exact = [...leaves(manifest['exports']), ...leaves(manifest['bin'])];
  const loose = ['main', 'module', 'types', 'typings'].flatMap((key) => stringOf(manifest[key]) ?? []);
  const all = new Map([...exact.map((path) => [path, false] as const), ...loose.map((path) => [path, true] as const)]);
  return [...all].map(([path, isLoose]) => ({ path: path.replace(/^\.\//, ''), loose: isLoose }));
}

/** The targets in `exports`, whatever conditions lead to them. */
function leaves(value: unknown): string[] {
  if (typeof value === 'string') return value === '' ? [] : [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(leaves) : [];
}

/** The file that a target means: a pattern needs its folder, and `main` may leave out the extension. */
async function find(files: PackageFiles, { path, loose }: Target): Promise<string | undefined> {
  if (path.includes('*')) {
    const folder = path.slice(0, path.indexOf('*')).replace(/[^/]*$/, '') || '.';
    return (await files.exists(folder)) ? path : undefined;
  }
  const endings = loose ? ['.js', '.json', '.node', '.d.ts', '/index.js', '/index.d.ts', ''] : [''];
  if (loose && /\.\w+$/.test(path)) endings.unshift('');
  for (const ending of endings) {
    const candidate = `${path.replace(/\/$/, '')}${ending}`;
    if (await files.exists(candidate)) return candidate;
  }
  return undefined;
}

const SIGNS = {
  evaluates: /\beval\s*\(|\bnew Function\s*\(/g,
  startsProcesses: /['"](?:node:)?child_process['"]/g,
  usesNetwork: /['"](?:node:)?(?:https?|net|tls|dgram)['"]|\bfetch\s*\(|\bnew WebSocket\s*\(/g,
  readsEnvironment: /\bprocess\.env\b/g,
} as const;

export async function inspectCode(files: PackageFiles, path: string, signal: AbortSignal) {
  const { text, bytes } = await files.read(path, SOURCE_BYTES, signal);
  const lines = text.split('\n').length;
  const times = (sign: RegExp): number => [...text.matchAll(sign)].length;
  return {
    path,
    bytes,
    lines,
    minified: text.length / lines > 500,
    evaluates: times(SIGNS.evaluates),
    startsProcesses: times(SIGNS.startsProcesses),
    usesNetwork: times(SIGNS.usesNetwork),
    readsEnvironment: times(SIGNS.readsEnvironment),
  };
}

export async function inspectText(files: PackageFiles, path: string, maxChars: number, signal: AbortSignal) {
  const { text, bytes } = await files.read(path, maxChars * 4, signal);
  return { path, bytes, text: text.slice(0, maxChars), complete: text.length <= maxChars && bytes <= maxChars * 4 };
}
