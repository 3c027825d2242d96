import { tool, type AnyTool, type ToolCall } from 'rxfleet/agents';
import { z } from 'zod';
import { PackageFiles } from './files.js';
import {
  inspectCode,
  inspectExports,
  inspectFiles,
  inspectInstallScripts,
  inspectLicence,
  inspectManifest,
  inspectText,
} from './inspect.js';
import type { InstalledPackage } from './packages.js';

const path = z.string().min(1).max(500).describe('Relative to the folder of the package, as in "dist/index.js".');
const file = z.object({ path: z.string(), bytes: z.number() });

/** What each tool answers. The schemas check it, describe it to the rest of the program, and read it back from a history. */
export const results = {
  read_manifest: z.object({
    name: z.string(),
    version: z.string(),
    description: z.string(),
    licence: z.string().nullable(),
    engines: z.string().nullable(),
    scripts: z.array(z.string()),
    dependencies: z.number(),
    hasEntries: z.boolean(),
  }),
  list_files: z.object({
    files: z.number(),
    bytes: z.number(),
    largest: z.array(file),
    biggestFolder: file.nullable(),
    complete: z.boolean(),
  }),
  read_licence: z.object({
    declared: z.string().nullable(),
    texts: z.array(z.object({ path: z.string(), spdx: z.string().nullable(), begins: z.string() })),
    agrees: z.boolean().nullable(),
  }),
  find_install_scripts: z.object({
    scripts: z.array(z.object({ name: z.string(), command: z.string() })),
    sources: z.array(z.string()),
    nativeBuild: z.boolean(),
  }),
  count_exports: z.object({ entryPoints: z.number(), targets: z.number(), missing: z.array(z.string()), entry: z.string().nullable() }),
  scan_code: z.object({
    path: z.string(),
    bytes: z.number(),
    lines: z.number(),
    minified: z.boolean(),
    evaluates: z.number(),
    startsProcesses: z.number(),
    usesNetwork: z.number(),
    readsEnvironment: z.number(),
  }),
  read_text: z.object({ path: z.string(), bytes: z.number(), text: z.string(), complete: z.boolean() }),
};

export type ToolName = keyof typeof results;
export type ToolOutput<N extends ToolName> = z.output<(typeof results)[N]>;

/** Does the work of a call, or puts something in its way: see chaos.ts. */
export type Around = <T>(name: ToolName, call: ToolCall, work: () => Promise<T>) => Promise<T>;

export interface ToolLimits {
  readonly timeoutMs: number;
  readonly graceMs: number;
}

/** The tools of one agent: they read the files of its package, and of no other. */
export function auditTools(
  { name, root }: InstalledPackage,
  limits: ToolLimits,
  around: Around = (_name, _call, work) => work(),
): AnyTool[] {
  const files = new PackageFiles(name, root);
  const common = { effect: 'none', ...limits } as const;
  return [
    tool({
      ...common,
      name: 'read_manifest',
      description: 'Reads the package.json: version, declared licence, scripts, number of dependencies.',
      input: z.object({}),
      output: results.read_manifest,
      run: (_input, call) => around('read_manifest', call, () => inspectManifest(files, call.signal)),
    }),
    tool({
      ...common,
      name: 'list_files',
      description: 'Counts the files below a folder, adds up their sizes and names the largest. Nested packages are left out.',
      input: z.object({ path: path.default('.') }),
      output: results.list_files,
      run: (input, call) => around('list_files', call, () => inspectFiles(files, input.path, call.signal, call.progress)),
    }),
    tool({
      ...common,
      name: 'read_licence',
      description: 'Finds the licence texts, says which licence (SPDX) each is, and whether that is what the manifest declares.',
      input: z.object({}),
      output: results.read_licence,
      run: (_input, call) => around('read_licence', call, () => inspectLicence(files, call.signal)),
    }),
    tool({
      ...common,
      name: 'find_install_scripts',
      description: 'Finds what runs on installation: preinstall, install and postinstall scripts, and native builds.',
      input: z.object({}),
      output: results.find_install_scripts,
      run: (_input, call) => around('find_install_scripts', call, () => inspectInstallScripts(files, call.signal)),
    }),
    tool({
      ...common,
      name: 'count_exports',
      description: 'Counts the entry points in exports, main, types and bin, and names those whose files are missing.',
      input: z.object({}),
      output: results.count_exports,
      run: (_input, call) => around('count_exports', call, () => inspectExports(files, call.signal)),
    }),
    tool({
      ...common,
      name: 'scan_code',
      description: 'Looks in a source file for eval, child processes, network and environment access.',
      input: z.object({ path }),
      output: results.scan_code,
      run: (input, call) => around('scan_code', call, () => inspectCode(files, input.path, call.signal)),
    }),
    tool({
      ...common,
      name: 'read_text',
      description: 'Reads the beginning of a text file.',
      input: z.object({ path, maxChars: z.int().min(1).max(8000).default(2000) }),
      output: results.read_text,
      run: (input, call) => around('read_text', call, () => inspectText(files, input.path, input.maxChars, call.signal)),
    }),
  ];
}
