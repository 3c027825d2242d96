import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CLAUDE_PRICES, priceOf, usd } from 'rxfleet';
import { words } from './text.js';

const DEFAULT_MODEL = 'claude-haiku-5-5';
const DEFAULT_LIVE_USD = '0.50';

export const HELP = `Audits the installed dependencies of a project: one agent per package, all of them in one scope.

  npm start -- [options]

  --dir PATH        the project to audit (default: where you are)
  --max N           at most so many packages, direct dependencies first (default 30)
  --concurrency N   agents at once (default 6)
  --max-turns N     turns of one agent (default 8)
  --max-depth N     how deep agents may start agents, for dependencies that look suspicious: 0 to 5 (default 2)
  --findings FILE   appends what agents file, and you approve, to a file (default: it is only shown)
  --chaos           tools fail, hang and ignore their signal, one of them is down for a while, replies break off,
                    and for a while the API answers 429 to everybody
  --seed N          which chaos: the same seed breaks the same calls (default: a random one, which is printed)
  --max-usd N       what the fleet may spend at most, in dollars (default ${DEFAULT_LIVE_USD} with --live; otherwise, where money is
                    only counted, enough)
  --trips FILE      appends what somebody should be woken for to a file; "npx rxfleet trips FILE" prints it
  --live            asks the real API instead of the embedded model; needs ANTHROPIC_API_KEY and costs money
  --model NAME      the model of --live (default ${DEFAULT_MODEL})
  --help            this text

Before an agent files a finding, it asks: answer with y (yes), n (no) or a (yes to all). Without a terminal the answer is yes.
Ctrl-C cancels every agent, waits until all calls have stopped, and reports; a second Ctrl-C leaves at once.
Exit codes: 0 audited, 1 nothing could be audited, 2 wrong options, 130 or 143 interrupted.`;

export interface AuditOptions {
  readonly dir: string;
  readonly max: number;
  readonly concurrency: number;
  readonly maxTurns: number;
  /** How many levels of agents there may be below those of the packages. */
  readonly maxDepth: number;
  /** The seed of the chaos, if there is any. */
  readonly chaos: number | undefined;
  readonly live: LiveOptions | undefined;
  /** What may be spent, in micro-dollars; undefined if nobody said. */
  readonly microUsd: number | undefined;
  /** The file for trips. */
  readonly trips: string | undefined;
  /** The file for findings. */
  readonly findings: string | undefined;
}

export interface LiveOptions {
  readonly apiKey: string;
  readonly model: string;
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
  'max-depth': { type: 'string', default: '2' },
  findings: { type: 'string' },
  chaos: { type: 'boolean', default: false },
  seed: { type: 'string' },
  live: { type: 'boolean', default: false },
  model: { type: 'string' },
  'max-usd': { type: 'string' },
  trips: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** Reads the command line; `help` if that is what was asked for. */
export function readOptions(args: readonly string[], env: NodeJS.ProcessEnv, cwd: string): AuditOptions | 'help' {
  const values = parse(args);
  if (values.help) return 'help';
  const chaos = values.chaos ? integer('seed', values.seed ?? String(Math.floor(Math.random() * 10_000)), 0, 2 ** 31) : undefined;
  if (values.seed !== undefined && !values.chaos) throw new UsageError('--seed goes with --chaos.');
  if (values.model !== undefined && !values.live) throw new UsageError('--model goes with --live.');
  for (const name of ['trips', 'findings'] as const) if (values[name] === '') throw new UsageError(`--${name} needs the name of a file.`);
  if (values.chaos && values.live) throw new UsageError('--chaos breaks the embedded model, so it does not go with --live.');
  return {
    dir: resolve(cwd, values.dir),
    max: integer('max', values.max, 1, 1000),
    concurrency: integer('concurrency', values.concurrency, 1, 64),
    maxTurns: integer('max-turns', values['max-turns'], 1, 50),
    maxDepth: integer('max-depth', values['max-depth'], 0, 5),
    chaos,
    live: values.live ? liveOptions(values.model, env) : undefined,
    microUsd: money(values['max-usd'] ?? (values.live ? DEFAULT_LIVE_USD : undefined)),
    trips: values.trips === undefined ? undefined : resolve(cwd, values.trips),
    findings: values.findings === undefined ? undefined : resolve(cwd, values.findings),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: SPEC, strict: true }).values;
  } catch (error) {
    throw new UsageError((error as Error).message.split('. ', 1)[0] ?? 'Wrong options');
  }
}

function liveOptions(model = DEFAULT_MODEL, env: NodeJS.ProcessEnv): LiveOptions {
  const apiKey = env['ANTHROPIC_API_KEY'] ?? '';
  if (apiKey === '') throw new UsageError('--live needs the API key in the environment variable ANTHROPIC_API_KEY.');
  try {
    priceOf(CLAUDE_PRICES, model);
  } catch (error) {
    throw new UsageError(`--model: ${words(error)}`);
  }
  return { apiKey, model };
}

const MOST_USD = 1_000;

function money(dollars: string | undefined): number | undefined {
  if (dollars === undefined) return undefined;
  const refuse = (): never => {
    throw new UsageError(`--max-usd must be an amount above 0 such as 0.50, at most ${MOST_USD}; got ${dollars}.`);
  };
  try {
    const microUsd = usd(dollars);
    return microUsd > 0 && microUsd <= usd(MOST_USD) ? microUsd : refuse();
  } catch {
    return refuse();
  }
}

function integer(name: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) throw new UsageError(`--${name} must be a whole number from ${least} to ${most}; got ${text}.`);
  return value;
}
