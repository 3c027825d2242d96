import { parseArgs } from 'node:util';
import { TRIP_KINDS } from '../gates/tripRecord.js';

/** What the command was asked for. */
export interface TripsArguments {
  readonly help: boolean;
  readonly file: string;
  readonly kinds: ReadonlySet<string>;
  readonly gates: ReadonlySet<string>;
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly until: number;
  readonly json: boolean;
  readonly follow: boolean;
}

/** The arguments make no sense; the message says why. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const TRIPS_HELP: string = `Usage: rxfleet trips [file] [options]

Prints a trip log that jsonLines() wrote, with the files that it was renamed to, oldest first.

  file             the log; default ./trips.jsonl
  --kind KIND      only this kind; may be repeated, or a list with commas:
                   ${TRIP_KINDS.slice(0, 6).join(', ')},
                   ${TRIP_KINDS.slice(6).join(', ')}
  --gate NAME      only this gate; may be repeated
  --since TIME     only from this time on: 2026-01-31T14:00 or, counted back from now, 15m, 2h, 1d12h
  --until TIME     only before this time
  -f, --follow     goes on with what is appended, until Ctrl+C
  --json           prints the records as JSON, one a line
  -h, --help       prints this

Exit codes: 0 printed, 1 the file cannot be read, 2 bad arguments, 130 Ctrl+C.
`;

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  kind: { type: 'string', multiple: true },
  gate: { type: 'string', multiple: true },
  since: { type: 'string' },
  until: { type: 'string' },
  json: { type: 'boolean', default: false },
  follow: { type: 'boolean', short: 'f', default: false },
} as const;

/** Throws a UsageError when they make no sense. */
export function tripsArguments(args: readonly string[], now: number): TripsArguments {
  const { values, positionals } = parse(args);
  const { help, kind = [], gate = [], since, until, json, follow } = values;
  if (positionals.length > 1) throw new UsageError(`One file at a time: ${positionals.join(', ')}.`);
  const kinds = kind.flatMap((list) => list.split(',')).map((each) => each.trim());
  const unknown = kinds.find((each) => !(TRIP_KINDS as readonly string[]).includes(each));
  if (unknown !== undefined) throw new UsageError(`There is no kind "${unknown}", only ${TRIP_KINDS.join(', ')}.`);
  return {
    help,
    file: positionals[0] ?? 'trips.jsonl',
    kinds: new Set(kinds),
    gates: new Set(gate),
    since: since === undefined ? -Infinity : timeOf('--since', since, now),
    until: until === undefined ? Infinity : timeOf('--until', until, now),
    json,
    follow,
  };
}

function parse(args: readonly string[]): ReturnType<typeof parsed> {
  try {
    return parsed(args);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function parsed(args: readonly string[]) {
  return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

function timeOf(option: string, text: string, now: number): number {
  if (/^(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+$/.test(text)) {
    const parts = text.matchAll(/([\d.]+)(ms|[smhdw])/g);
    return [...parts].reduce((at, [, amount, unit]) => at - Number(amount) * (UNITS[unit!] ?? NaN), now);
  }
  const at = /^\d{4}-\d\d(?:-\d\d(?:[T ]|$)|$)/.test(text) ? Date.parse(text) : NaN;
  if (Number.isNaN(at)) throw new UsageError(`${option} takes a time such as 2026-01-31T14:00 or 15m, got "${text}".`);
  return at;
}
