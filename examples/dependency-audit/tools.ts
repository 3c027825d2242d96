import type { Observable } from 'rxjs';
import { tool, type AnyTool, type ToolCall } from 'rxfleet/agents';
import { z } from 'zod';
import { inspectDependencies } from './dependencies.js';
import { PackageFiles } from './files.js';
import type { Findings } from './findings.js';
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
import { clean } from './text.js';
import { verdictSchema, type Verdict } from './verdict.js';

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
    compiled: z.string().nullable(),
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
  check_dependencies: z.object({
    installed: z.number(),
    haveAgents: z.array(z.string()),
    suspicious: z.array(z.object({ name: z.string(), version: z.string(), signs: z.array(z.string()) })),
  }),
  audit_dependency: verdictSchema,
  file_finding: z.object({ filed: z.number() }),
};

export type ToolName = keyof typeof results;
export type ToolOutput<N extends ToolName> = z.output<(typeof results)[N]>;

/** Does the work of a call, or puts something in its way: see chaos.ts. */
export type Around = <T>(name: ToolName, call: ToolCall, work: () => Promise<T>) => Promise<T>;

export interface ToolLimits {
  readonly timeoutMs: number;
  readonly graceMs: number;
}

/** Has a dependency audited; its signs are what speaks against it. */
export type Delegate = (name: string, signs: readonly string[], call: ToolCall) => Observable<Verdict>;

/** Whose tools they are. */
export interface ToolPlace {
  readonly pkg: InstalledPackage;
  /** The folders of packages that have an agent already. */
  readonly known: ReadonlySet<string>;
  /** Starts an agent for a dependency; undefined if there are to be none. */
  readonly delegate: Delegate | undefined;
  /** Whether it files what somebody should look at. An agent below another tells that one instead. */
  readonly files: boolean;
}

export interface AuditToolsOptions extends Omit<ToolPlace, 'files'> {
  readonly limits: ToolLimits;
  /** For a dependency that has an agent of its own. */
  readonly agentLimits: ToolLimits;
  readonly around?: Around | undefined;
  /** Where findings go; undefined if it files none. */
  readonly findings: Findings | undefined;
}

/** The tools of one agent: they read the files of its package, look at its dependencies, and write nothing but what somebody has approved. */
export function auditTools({ pkg, delegate, ...options }: AuditToolsOptions): AnyTool[] {
  const { limits, agentLimits, around = (_name, _call, work) => work(), known, findings } = options;
  const { name, version, root } = pkg;
  const files = new PackageFiles(name, root);
  const common = { effect: 'none', ...limits } as const;
  const delegating = delegate && [
    tool({
      effect: 'none',
      ...agentLimits,
      name: 'audit_dependency',
      description: 'Has a suspicious dependency audited by an agent of its own, which may take a while, and answers with its verdict.',
      input: z.object({ name: z.string().min(1).max(214), signs: z.array(z.string().max(100)).max(10).default([]) }),
      output: results.audit_dependency,
      run: (input, call) => delegate(input.name, input.signs, call),
    }),
  ];
  const filing = findings && [
    tool({
      ...limits,
      name: 'file_finding',
      description: 'Files what the developer should look at. A person is asked first, and may say no.',
      input: z.object({ risk: z.enum(['medium', 'high']), text: z.string().min(1).max(2000) }),
      output: results.file_finding,
      effect: 'unsafe',
      needsApproval: true,
      run: ({ risk, text }, call) =>
        around('file_finding', call, async () => ({ filed: await findings.file({ package: name, version, risk, text: clean(text) }) })),
    }),
  ];
  return [
    ...(delegating ?? []),
    tool({
      ...common,
      name: 'check_dependencies',
      description:
        'Looks at the installed dependencies: which of them run scripts on installation, start processes, evaluate or hide code.',
      input: z.object({}),
      output: results.check_dependencies,
      run: (_input, call) => around('check_dependencies', call, () => inspectDependencies(pkg, known, call.signal, call.progress)),
    }),
    ...(filing ?? []),
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
