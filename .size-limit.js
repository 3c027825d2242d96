// What each import costs today, rounded up: a guard against growth. The goals are in docs/performance.md.
const limits = {
  fanOutScoped: '11.2 kB',
  takeWithin: '9.1 kB',
  failWithin: '9.1 kB',
  scoped: '8.9 kB',
  'bulkhead, Semaphore': '16.2 kB',
  'tokenBucket, TokenBucket': '18.6 kB',
  'circuitBreak, CircuitBreaker': '19.2 kB',
  'fleetBudget, FleetBudget': '20.8 kB',
  'retryThrough, RetryGate': '17.9 kB',
};

const common = {
  path: 'dist/index.js',
  gzip: true,
  // Without the paths of tsconfig.json, which lead back to src.
  modifyEsbuildConfig: (config) => ({ ...config, tsconfigRaw: {} }),
};

export default [
  ...Object.entries(limits).map(([name, limit]) => ({ ...common, name, import: `{ ${name} }`, limit })),
  { ...common, name: 'all of rxfleet', import: '*', limit: '54 kB' },
];
