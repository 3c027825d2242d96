const limits = { fanOutScoped: '2.5 kB', takeWithin: '2.5 kB', failWithin: '2.5 kB', scoped: '2.5 kB' };

const common = {
  path: 'dist/index.js',
  gzip: true,
  // Without the paths of tsconfig.json, which lead back to src.
  modifyEsbuildConfig: (config) => ({ ...config, tsconfigRaw: {} }),
};

export default [
  ...Object.entries(limits).map(([name, limit]) => ({ ...common, name, import: `{ ${name} }`, limit })),
  { ...common, name: 'all of rxfleet', import: '*', limit: '9 kB' },
];
