import rxjsX from 'eslint-plugin-rxjs-x';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const rxjsRootOnly = { group: ['rxjs/*', '!rxjs/package.json'], message: 'Import from the rxjs root entry.' };
const noEnum = { selector: 'TSEnumDeclaration', message: 'Use a union of string literals.' };
const noNamespace = { selector: "TSModuleDeclaration[kind='namespace']", message: 'Use a module.' };
const noDefaultExport = { selector: 'ExportDefaultDeclaration', message: 'Use a named export.' };
const promiseAtTheEdge = 'Promises exist only at the edge: sources, the call files of core and the lazy `closed` getter.';
const notOurClock = 'Time is the scheduler: scheduler.now() and scheduler.schedule().';

export default defineConfig(
  globalIgnores(['dist/', 'coverage/', 'temp/', 'docs/.vitepress/cache/', 'docs/.vitepress/dist/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },

  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, rxjsX.configs.recommended],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: 'error',
      'no-restricted-imports': ['error', { patterns: [rxjsRootOnly] }],
      'no-restricted-syntax': ['error', noEnum, noNamespace],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      // A callback may have changed what the compiler still believes narrowed; an index inside its bounds is there.
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-meaningless-void-operator': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      '@typescript-eslint/no-this-alias': ['error', { allowedNames: ['node', 'scope'] }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' }],
      // Whatever a callback throws or a signal carries is passed on as it is.
      '@typescript-eslint/only-throw-error': 'off',
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/unified-signatures': 'off',
      // Operators subscribe inside a subscription for a living.
      'rxjs-x/no-nested-subscribe': 'off',
      'rxjs-x/throw-error': 'off',
    },
  },

  {
    files: ['src/**/*.ts'],
    rules: {
      'no-console': 'error',
      'no-restricted-syntax': ['error', noEnum, noNamespace, noDefaultExport],
    },
  },

  {
    files: ['src/{core,gates,operators}/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        {
          checkGlobalObject: true,
          globals: [
            { name: 'Date', message: notOurClock },
            { name: 'performance', message: notOurClock },
            { name: 'setTimeout', message: notOurClock },
            { name: 'setInterval', message: notOurClock },
            { name: 'setImmediate', message: notOurClock },
            { name: 'requestAnimationFrame', message: notOurClock },
            { name: 'queueMicrotask', message: promiseAtTheEdge },
            { name: 'process', message: 'The core runs in browsers.' },
            { name: 'Buffer', message: 'The core runs in browsers.' },
          ],
        },
      ],
      'no-restricted-properties': ['error', { object: 'Math', property: 'random', message: 'Take `random` as an option.' }],
    },
  },

  {
    files: ['src/{core,gates,operators}/**/*.ts'],
    ignores: ['src/core/{acquire,call,iterator,lease,readIterable}.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        noEnum,
        noNamespace,
        noDefaultExport,
        { selector: "NewExpression[callee.name='Promise']", message: promiseAtTheEdge },
        { selector: "MemberExpression[object.name='Promise']", message: promiseAtTheEdge },
        { selector: "CallExpression[callee.property.name='then']", message: promiseAtTheEdge },
        { selector: ':function[async=true]', message: promiseAtTheEdge },
        { selector: 'CallExpression[callee.name=/^(firstValueFrom|lastValueFrom)$/]', message: promiseAtTheEdge },
      ],
    },
  },

  {
    files: ['test/**/*.ts', 'examples/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-empty-function': 'off',
      '@typescript-eslint/unbound-method': 'off',
      'rxjs-x/no-ignored-notifier': 'off',
      'rxjs-x/no-implicit-any-catch': 'off',
      'rxjs-x/no-subscribe-in-pipe': 'off',
      'no-restricted-imports': 'off',
      'rxjs-x/no-unsafe-takeuntil': 'off',
    },
  },

  {
    files: ['**/*.{js,mjs,cjs}'],
    extends: [tseslint.configs.base],
    rules: { eqeqeq: 'error', 'no-var': 'error', 'prefer-const': 'error', 'no-unused-vars': ['error', { argsIgnorePattern: '^_' }] },
  },
);
