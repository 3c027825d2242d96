import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import type { Reporter } from 'vitest/node';

const from = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const tally: Reporter = {
  onTestRunEnd(modules) {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) count[test.result().state] += 1;
    }
    const { passed, failed, skipped } = count;
    setImmediate(() => {
      console.log(`tests: ${passed} passed, ${failed} failed, ${skipped} skipped`);
    });
  },
};

export default defineConfig({
  resolve: {
    alias: [
      { find: /^rxfleet$/, replacement: from('./src/index.ts') },
      { find: /^rxfleet\/agents$/, replacement: from('./src/agents.ts') },
      { find: /^rxfleet\/node$/, replacement: from('./src/node/index.ts') },
      { find: /^rxfleet\/testing$/, replacement: from('./src/testing/index.ts') },
      { find: /^#context$/, replacement: from('./src/core/context.node.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    environment: 'node',
    pool: 'forks',
    maxWorkers: 2,
    execArgv: ['--expose-gc'],
    testTimeout: 20_000,
    reporters: ['default', tally],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text', 'html'],
    },
  },
});
