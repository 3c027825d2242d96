// What each import costs today, rounded up: a guard against growth. The goals are in docs/performance.md.
const limits = {
  fanOutScoped: '11 kB',
  takeWithin: '8.9 kB',
  failWithin: '8.9 kB',
  scoped: '8.8 kB',
  'bulkhead, Semaphore': '16 kB',
  'tokenBucket, TokenBucket': '18 kB',
  'circuitBreak, CircuitBreaker': '18 kB',
  'fleetBudget, FleetBudget': '19.5 kB',
  'retryThrough, RetryGate': '17.5 kB',
};

const common = {
  path: 'dist/index.js',
  gzip: true,
  // Without the paths of tsconfig.json, which lead back to src.
  modifyEsbuildConfig: (config) => ({ ...config, tsconfigRaw: {} }),
};

export default [
  ...Object.entries(limits).map(([name, limit]) => ({ ...common, name, import: `{ ${name} }`, limit })),
  { ...common, name: 'all of rxfleet', import: '*', limit: '52.9 kB' },
];
