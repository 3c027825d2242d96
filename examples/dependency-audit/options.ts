import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { DEFAULT_MODEL, PRICES } from './spend.js';

export const HELP = `Audits the installed dependencies of a project: one agent per package, all of them in one scope.

  npm start -- [options]

  --dir PATH        the project to audit (default: where you are)
  --max N           at most so many packages, direct dependencies first (default 30)
  --concurrency N   agents at once (default 6)
  --max-turns N     turns of one agent (default 8)
  --chaos           tools fail, hang and ignore their signal, replies break off
  --seed N          which chaos: the same seed breaks the same calls (default: a random one, which is printed)
  --live            asks the real API instead of the embedded model; needs ANTHROPIC_API_KEY and costs money
  --model NAME      the model of --live: ${Object.keys(PRICES).join(', ')}
                    (default ${DEFAULT_MODEL})
  --max-usd N       what --live may spend at most, in dollars (default 0.50)
  --help            this text

Ctrl-C cancels every agent, waits until all calls have stopped, and reports; a second Ctrl-C leaves at once.
Exit codes: 0 audited, 1 nothing could be audited, 2 wrong options, 130 or 143 interrupted.`;

export interface AuditOptions {
  readonly dir: string;
  readonly max: number;
  readonly concurrency: number;
  readonly maxTurns: number;
  /** The seed of the chaos, if there is any. */
  readonly chaos: number | undefined;
  readonly live: LiveOptions | undefined;
}

export interface LiveOptions {
  readonly apiKey: string;
  readonly model: string;
  readonly maxMicroDollars: number;
}

/** Says what is wrong with the options; exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

const SPEC = {
  dir: { type: 'string', default: '.' },
  max: { type: 'string', default: '30' },
  concurrency: { type: 'string', default: '6' },
  'max-turns': { type: 'string', default: '8' },
  chaos: { type: 'boolean', default: false },
  seed: { type: 'string' },
  live: { type: 'boolean', default: false },
  model: { type: 'string' },
  'max-usd': { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** Reads the command line; `help` if that is what was asked for. */
export function readOptions(args: readonly string[], env: NodeJS.ProcessEnv, cwd: string): AuditOptions | 'help' {
  const values = parse(args);
  if (values.help) return 'help';
  const chaos = values.chaos ? integer('seed', values.seed ?? String(Math.floor(Math.random() * 10_000)), 0, 2 ** 31) : undefined;
  if (values.seed !== undefined && !values.chaos) throw new UsageError('--seed goes with --chaos.');
  for (const name of ['model', 'max-usd'] as const)
    if (values[name] !== undefined && !values.live) throw new UsageError(`--${name} goes with --live.`);
  if (values.chaos && values.live) throw new UsageError('--chaos breaks the embedded model, so it does not go with --live.');
  return {
    dir: resolve(cwd, values.dir),
    max: integer('max', values.max, 1, 1000),
    concurrency: integer('concurrency', values.concurrency, 1, 64),
    maxTurns: integer('max-turns', values['max-turns'], 1, 50),
    chaos,
    live: values.live ? liveOptions(values, env) : undefined,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: SPEC, strict: true }).values;
  } catch (error) {
    throw new UsageError((error as Error).message.split('. ', 1)[0] ?? 'Wrong options');
  }
}

function liveOptions(
  values: { readonly model?: string | undefined; readonly 'max-usd'?: string | undefined },
  env: NodeJS.ProcessEnv,
): LiveOptions {
  const { model = DEFAULT_MODEL, 'max-usd': maxUsd = '0.50' } = values;
  const apiKey = env['ANTHROPIC_API_KEY'] ?? '';
  if (apiKey === '') throw new UsageError('--live needs the API key in the environment variable ANTHROPIC_API_KEY.');
  if (!(model in PRICES)) throw new UsageError(`--model must be one with a known price: ${Object.keys(PRICES).join(', ')}; got ${model}.`);
  const dollars = Number(maxUsd);
  if (maxUsd.trim() === '' || !(dollars > 0 && dollars <= 1000))
    throw new UsageError(`--max-usd must be a number above 0, at most 1000; got ${maxUsd}.`);
  return { apiKey, model, maxMicroDollars: Math.floor(dollars * 1e6) };
}

function integer(name: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) throw new UsageError(`--${name} must be a whole number from ${least} to ${most}; got ${text}.`);
  return value;
}
