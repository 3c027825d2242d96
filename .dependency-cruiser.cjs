const SDK_OR_ZOD = 'node_modules/(@anthropic-ai/|zod/)';
const layers = ['core', 'gates', 'operators', 'sources'];

/** A layer may import itself and those before it. */
const upward = layers.slice(0, -1).map((layer, i) => ({
  name: `${layer}-looks-up`,
  comment: `core <- gates <- operators <- sources <- integrations and testing: ${layer} may not import what comes after it.`,
  severity: 'error',
  from: { path: `^src/${layer}/` },
  to: { path: '^src/', pathNot: `^src/(${layers.slice(0, i + 1).join('|')})/` },
}));

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...upward,
    {
      name: 'sources-look-up',
      comment: 'Sources know core, gates and operators.',
      severity: 'error',
      from: { path: '^src/sources/' },
      to: { path: '^src/', pathNot: `^src/(${layers.join('|')})/` },
    },
    {
      name: 'integrations-know-each-other',
      comment: 'An integration knows the pack, not another integration.',
      severity: 'error',
      from: { path: '^src/(?!core/|gates/|operators/|sources/)([^/]+)/' },
      to: { path: '^src/', pathNot: `^src/(${layers.join('|')}|$1)/` },
    },
    {
      name: 'root-needs-rxjs-alone',
      comment: 'The root entry reaches neither the SDK nor zod, not even by a type.',
      severity: 'error',
      from: { path: '^src/index\\.ts$' },
      to: { path: SDK_OR_ZOD, reachable: true },
    },
    {
      name: 'root-without-testing',
      comment: 'The root entry reaches neither testing nor integrations.',
      severity: 'error',
      from: { path: '^src/index\\.ts$' },
      to: { path: `^src/(?!${layers.join('/|')}/)[^/]+/`, reachable: true },
    },
    {
      name: 'sdk-behind-its-entry',
      comment: 'The SDK and zod begin in sources and testing.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(sources|testing)/|^src/agents\\.ts$' },
      to: { path: SDK_OR_ZOD },
    },
    {
      name: 'entries-imported-from-inside',
      comment: 'Entries are faces: inside, import the module itself.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^src/([^/]+|(node|testing)/index|node/cli)\\.ts$' },
    },
    {
      name: 'rxjs-root-only',
      comment: 'Only the rxjs root entry; tests may import rxjs/testing.',
      severity: 'error',
      from: { path: '^(src|examples)/' },
      to: { path: 'node_modules/rxjs/', pathNot: 'node_modules/rxjs/dist/(types|cjs|esm|esm5)/index\\.' },
    },
    {
      name: 'runs-in-browsers',
      comment: 'Node modules only where the `node` condition or a Node entry leads.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(testing|nestjs|node)/|^src/core/context\\.node\\.ts$' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'context-by-its-name',
      comment: 'Import #context: the condition picks the file.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/core/context\\.' },
      to: { path: '^src/core/context\\.', dependencyTypesNot: ['aliased'] },
    },
    {
      name: 'value-cycle',
      comment: 'Values form no cycle; what closes one must be `import type`.',
      severity: 'error',
      from: { path: '^src/' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'dev-dependency-shipped',
      comment: 'What is published runs on peers alone.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['npm-peer'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.cjs'],
    },
  },
};
