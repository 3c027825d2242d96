import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isRecord, stringOf, type Json } from './json.js';
import { clean, cut, words } from './text.js';

/** An installed package: what one agent audits. */
export interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  /** Its folder, symbolic links resolved. */
  readonly root: string;
  /** Who asks for it. */
  readonly kind: 'dependency' | 'dev dependency' | 'optional dependency' | 'transitive dependency';
}

export interface Project {
  readonly packages: readonly InstalledPackage[];
  /** Declared and not there. */
  readonly missing: readonly string[];
}

/** There is nothing that could be audited; the message says why and what to do. */
export class ProjectError extends Error {
  override readonly name = 'ProjectError';
}

/** Sections of a manifest, most important first. Optional ones may be missing: they are for other platforms. */
const SECTIONS = [
  ['dependencies', 'dependency'],
  ['devDependencies', 'dev dependency'],
  ['optionalDependencies', 'optional dependency'],
] as const;

/** The installed packages of a project: those it declares first, then theirs, and so on, each once, at most `max`. */
export async function findPackages(dir: string, max: number): Promise<Project> {
  const manifest = await readProject(dir);
  const found = new Map<string, InstalledPackage>();
  const missing: string[] = [];
  let frontier: InstalledPackage[] = [];
  for (const [section, kind] of SECTIONS) {
    const names = namesOf(manifest[section]);
    const resolved = await Promise.all(names.map((name) => resolvePackage(dir, name, kind)));
    resolved.forEach((each, i) => {
      if (each !== undefined) frontier.push(each);
      else if (kind !== 'optional dependency') missing.push(names[i] ?? '');
    });
  }
  while (frontier.length > 0 && found.size < max) {
    for (const each of frontier) if (found.size < max && !found.has(each.root)) found.set(each.root, each);
    frontier = found.size < max ? await dependenciesOf(frontier, found) : [];
  }
  if (found.size === 0) throw new ProjectError(await whyNothing(dir, missing));
  return { packages: [...found.values()], missing };
}

async function dependenciesOf(packages: readonly InstalledPackage[], known: ReadonlyMap<string, unknown>): Promise<InstalledPackage[]> {
  const levels = await Promise.all(
    packages.map(async ({ root }) => {
      const { dependencies } = await readManifest(root);
      return Promise.all(namesOf(dependencies).map((name) => resolvePackage(root, name, 'transitive dependency')));
    }),
  );
  return levels.flat().filter((each) => each !== undefined && !known.has(each.root)) as InstalledPackage[];
}

async function readProject(dir: string): Promise<Json> {
  const folder = await stat(dir).catch(() => undefined);
  if (folder?.isDirectory() !== true) throw new ProjectError(`There is no folder ${dir}.`);
  try {
    return await readManifest(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new ProjectError(`There is no package.json in ${dir}, so there are no dependencies to audit.`);
    throw new ProjectError(`The package.json in ${dir} cannot be read: ${words(error)}`);
  }
}

async function whyNothing(dir: string, missing: readonly string[]): Promise<string> {
  if (missing.length === 0) return `The package.json in ${dir} declares no dependencies, so there is nothing to audit.`;
  const installed = await stat(join(dir, 'node_modules')).catch(() => undefined);
  const why = installed === undefined ? `There is no node_modules in ${dir}` : `None of the dependencies of ${dir} is installed`;
  return `${why}: run "npm install" there first.`;
}

async function readManifest(root: string): Promise<Json> {
  const manifest: unknown = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  if (!isRecord(manifest)) throw new TypeError('It holds no object.');
  return manifest;
}

/** Looks for a package as Node does: in `node_modules` here, then in the folders above. */
async function resolvePackage(from: string, name: string, kind: InstalledPackage['kind']): Promise<InstalledPackage | undefined> {
  for (let dir = from; ; dir = dirname(dir)) {
    try {
      const root = await realpath(join(dir, 'node_modules', name));
      const { version } = await readManifest(root);
      return { name, version: cut(clean(stringOf(version) ?? '?'), 40), root, kind };
    } catch {
      if (dir === dirname(dir)) return undefined;
    }
  }
}

/** What is installed of the dependencies that a package declares, the optional ones as well. */
export async function installedDependencies(root: string): Promise<InstalledPackage[]> {
  const { dependencies, optionalDependencies } = await readManifest(root);
  const names = new Set([...namesOf(dependencies), ...namesOf(optionalDependencies)]);
  const found = await Promise.all([...names].map((name) => resolvePackage(root, name, 'transitive dependency')));
  return found.filter((each) => each !== undefined);
}

/** A name is part of a path, so it must be one. */
const PACKAGE_NAME = /^(@[\w.~-]+\/)?[\w~-][\w.~-]*$/;

const namesOf = (section: unknown): string[] => Object.keys(isRecord(section) ? section : {}).filter((name) => PACKAGE_NAME.test(name));
