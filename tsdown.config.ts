import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    agents: 'src/agents.ts',
    'node/index': 'src/node/index.ts',
    'node/cli': 'src/node/cli.ts',
    'testing/index': 'src/testing/index.ts',
    'core/context.node': 'src/core/context.node.ts',
    'core/context.default': 'src/core/context.default.ts',
  },
  format: ['esm', 'cjs'],
  platform: 'neutral',
  target: 'es2022',
  tsconfig: 'tsconfig.build.json',
  unbundle: true,
  sourcemap: true,
  dts: { sourcemap: true },
  deps: { neverBundle: ['#context', /^node:/], skipNodeModulesBundle: true },
  checks: { legacyCjs: false },
  report: false,
  logLevel: 'warn',
});
