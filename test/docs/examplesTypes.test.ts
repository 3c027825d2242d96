import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { examples, moduleOf, root, type Example } from './examples.js';

const folder = join(root, 'temp/exampleTypes');

function settings(): ts.CompilerOptions {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.base.json'), (file) => ts.sys.readFile(file)) as { config: object };
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  return { ...options, incremental: false };
}

/** What the compiler says of modules that stand in no file, all in one program. */
function problems(all: readonly Example[]): string[] {
  const options = settings();
  const modules = new Map(all.map((example) => [join(folder, moduleOf(example)), example]));
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (file) => modules.has(file) || fileExists(file);
  host.getSourceFile = (file, target, ...rest) => {
    const example = modules.get(file);
    return example === undefined
      ? getSourceFile(file, target, ...rest)
      : ts.createSourceFile(file, `${example.code}\nexport {};\n`, {
          ...(target as object),
          languageVersion: ts.ScriptTarget.ES2022,
          impliedNodeFormat: ts.ModuleKind.ESNext,
        });
  };
  const program = ts.createProgram([...modules.keys()], options, host);
  return [...modules].flatMap(([file, { name }]) =>
    ts.getPreEmitDiagnostics(program, program.getSourceFile(file)).map((each) => {
      const line = each.file === undefined ? 0 : ts.getLineAndCharacterOfPosition(each.file, each.start ?? 0).line + 1;
      return `${name}, line ${line}: TS${each.code} ${ts.flattenDiagnosticMessageText(each.messageText, ' ')}`;
    }),
  );
}

describe('every example of the docs fits the types', () => {
  it('as strict as the code itself; what does not is found', { timeout: 120_000 }, () => {
    const code = "import { from } from 'rxjs';\nimport { fanOutScoped } from 'rxfleet';\nfrom([1]).pipe(fanOutScoped(5));\n";
    expect(problems([...examples(), { name: 'wrong 1', code }])).toEqual([expect.stringMatching(/^wrong 1, line 3: TS2345 /)]);
  });
});
