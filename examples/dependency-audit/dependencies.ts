import { PackageFiles } from './files.js';
import { inspectCode, inspectExports, inspectInstallScripts, isCompiled } from './inspect.js';
import { installedDependencies, type InstalledPackage } from './packages.js';

/** Why a dependency cannot be audited, in words for the model. */
export class DependencyError extends Error {
  override readonly name = 'DependencyError';
}

const MANY_DEPENDENCIES = 100;
const MANY_FILES = 5_000;

/** What of the dependencies of a package looks as if somebody should read it. Those in `known`, by their folders, have an agent already. */
export async function inspectDependencies(
  { root }: InstalledPackage,
  known: ReadonlySet<string>,
  signal: AbortSignal,
  progress: (value: unknown) => void,
) {
  const installed = await installedDependencies(root);
  const suspicious = [];
  let looked = 0;
  for (const dependency of installed.filter((each) => !known.has(each.root)).slice(0, MANY_DEPENDENCIES)) {
    signal.throwIfAborted();
    const signs = await signsOf(new PackageFiles(dependency.name, dependency.root), signal);
    if (signs.length > 0) suspicious.push({ name: dependency.name, version: dependency.version, signs });
    progress({ dependencies: ++looked });
  }
  return { installed: installed.length, haveAgents: installed.filter((each) => known.has(each.root)).map(({ name }) => name), suspicious };
}

/** The dependency that a model asks for: a declared one, and no other folder; one that has no agent already, so that nothing goes in circles. */
export async function findDependency(
  { name, root }: InstalledPackage,
  wanted: string,
  known: ReadonlySet<string>,
): Promise<InstalledPackage> {
  const found = (await installedDependencies(root)).find((each) => each.name === wanted);
  if (found === undefined) throw new DependencyError(`"${wanted}" is no installed dependency of "${name}".`);
  if (known.has(found.root)) throw new DependencyError(`"${wanted}" has an agent of its own already.`);
  return found;
}

/** What speaks against a package at first sight. One that cannot be read is no better. */
async function signsOf(files: PackageFiles, signal: AbortSignal): Promise<string[]> {
  try {
    const [install, exports, compiled] = [
      await inspectInstallScripts(files, signal),
      await inspectExports(files, signal),
      await hasCompiled(files, signal),
    ];
    const code = exports.entry === null ? undefined : await inspectCode(files, exports.entry, signal);
    const signs: readonly (readonly [string, boolean])[] = [
      ['runs scripts on installation', install.scripts.length > 0 || install.nativeBuild],
      ['starts processes', (code?.startsProcesses ?? 0) > 0],
      ['evaluates code', (code?.evaluates ?? 0) > 0],
      ['ships compiled code', compiled],
    ];
    return signs.flatMap(([sign, there]) => (there ? [sign] : []));
  } catch {
    signal.throwIfAborted();
    return ['cannot be read'];
  }
}

async function hasCompiled(files: PackageFiles, signal: AbortSignal): Promise<boolean> {
  let seen = 0;
  for await (const file of files.walk('.', signal)) {
    if (await isCompiled(files, file, signal)) return true;
    if (++seen === MANY_FILES) break;
  }
  return false;
}
