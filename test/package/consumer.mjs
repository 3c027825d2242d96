// A project that installed the packed tarball and rxjs, nothing else: the root entry compiles, runs and bundles for browsers.
// With the SDK and zod beside them, the other entries compile too.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import ts from 'typescript';

const { ModuleKind, ModuleResolutionKind } = ts;

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const tarball = resolve(process.argv[2]);
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'rxfleet-consumer-')));

const run = (file) => execFileSync(process.execPath, [file], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
const install = (name) => {
  mkdirSync(dirname(join(folder, 'node_modules', name)), { recursive: true });
  symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), 'junction');
};
/** Checks the project's files and the package's declarations, not those of the symlinked neighbours. */
const compile = (files, options) => {
  process.chdir(folder);
  const { ScriptTarget, createProgram, formatDiagnostics } = ts;
  const lib = ['lib.es2022.d.ts', 'lib.dom.d.ts'];
  const program = createProgram(files, { target: ScriptTarget.ES2022, lib, strict: true, noEmit: true, types: [], ...options });
  const own = program.getSourceFiles().filter(({ fileName }) => fileName.includes(basename(folder)) || !isAbsolute(fileName));
  const problems = [
    ...program.getOptionsDiagnostics(),
    ...program.getGlobalDiagnostics(),
    ...own.flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]),
  ];
  const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: () => folder, getNewLine: () => '\n' };
  assert.equal(problems.length, 0, `a consumer of the package does not compile:\n${formatDiagnostics(problems, host)}`);
  assert.ok(own.some(({ fileName }) => /rxfleet\/dist\/index\.d\.c?ts$/.test(fileName)));
};
const bundle = async (entry, platform, external) => {
  const { outputFiles, metafile } = await build({
    stdin: { contents: `export * from '${entry}';`, resolveDir: folder },
    bundle: true,
    format: 'esm',
    platform,
    external,
    metafile: true,
    write: false,
    logLevel: 'silent',
  });
  const context = Object.keys(metafile.inputs).filter((path) => /core\/context\./.test(path));
  return { text: outputFiles[0].text, context: context.map((path) => path.replace(/.*context\./, '')) };
};

try {
  mkdirSync(join(folder, 'node_modules/rxfleet'), { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '-C', 'node_modules/rxfleet', '--strip-components=1'], { cwd: folder });
  writeFileSync(join(folder, 'package.json'), '{ "name": "consumer", "private": true }');
  const { bin, version } = JSON.parse(readFileSync(join(folder, 'node_modules/rxfleet/package.json'), 'utf8'));
  const command = join('node_modules/rxfleet', bin.rxfleet);
  assert.equal(
    execFileSync(process.execPath, [command, '--version'], { cwd: folder, encoding: 'utf8' }),
    `${version}\n`,
    'the command needs no rxjs',
  );
  install('rxjs');

  copyFileSync(join(root, 'test/types/root.ts'), join(folder, 'root.mts'));
  copyFileSync(join(root, 'test/types/root.ts'), join(folder, 'root.cts'));
  compile(['root.mts', 'root.cts'], { module: ModuleKind.NodeNext });
  compile(['root.mts'], { module: ModuleKind.ESNext, moduleResolution: ModuleResolutionKind.Bundler });

  writeFileSync(
    join(folder, 'run.mjs'),
    "import { fanOutScoped } from 'rxfleet';\nif (typeof fanOutScoped !== 'function') process.exit(1);\n",
  );
  writeFileSync(join(folder, 'run.cjs'), "if (typeof require('rxfleet').fanOutScoped !== 'function') process.exit(1);\n");
  run('run.mjs');
  run('run.cjs');

  for (const [entry, external] of [
    ['rxfleet', ['rxjs']],
    ['rxfleet/agents', ['rxjs', 'zod', '@anthropic-ai/sdk']],
  ]) {
    const browser = await bundle(entry, 'browser', external);
    assert.deepEqual(browser.context, ['default.js'], `${entry} for browsers takes the context without a Node module`);
    assert.doesNotMatch(browser.text, /async_hooks|["']node:/, `${entry} for browsers names no Node module`);
    assert.deepEqual((await bundle(entry, 'node', external)).context, ['node.js'], `${entry} for Node takes the context with async_hooks`);
  }

  ['zod', '@anthropic-ai/sdk', '@types/node', 'undici-types'].forEach(install);
  writeFileSync(join(folder, 'all.mts'), ['', '/agents', '/node', '/testing'].map((path) => `export * from 'rxfleet${path}';\n`).join(''));
  copyFileSync(join(folder, 'all.mts'), join(folder, 'all.cts'));
  compile(['all.mts', 'all.cts'], { module: ModuleKind.NodeNext, types: ['node'] });
} finally {
  process.chdir(root);
  rmSync(folder, { recursive: true, force: true });
}
