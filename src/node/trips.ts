import { once } from 'node:events';
import { readLines } from './readLines.js';
import { harmless, harmlessJson } from './terminalText.js';
import type { TripsArguments } from './tripsArguments.js';
import { TripsTable, type TripRow } from './tripsTable.js';

/** Rows that are awaited before the first is printed, to find out how wide the columns must be. */
const FIRST_ROWS = 1000;

/** Where the command prints to. */
export interface Terminal {
  readonly out: NodeJS.WriteStream;
  readonly err: NodeJS.WriteStream;
}

/** Prints a log; the exit code. */
export async function trips(wanted: TripsArguments, { out, err }: Terminal, signal: AbortSignal): Promise<number> {
  const name = harmless(wanted.file);
  const counts = { records: 0, printed: 0, unreadable: 0 };
  try {
    const read = await readLines(wanted.file, { follow: wanted.follow, signal });
    if (read === undefined) {
      err.write(`There is no trip log ${name}; an application writes one with jsonLines() of rxfleet/node.\n`);
      return 1;
    }
    const print = wanted.json ? jsonPrinter() : tablePrinter(out);
    for await (const { lines, idle } of read) {
      const records = lines.map(toRecord).filter((record) => record !== undefined);
      const chosen = records.filter((record) => isWanted(record, wanted));
      counts.records += records.length;
      counts.printed += chosen.length;
      counts.unreadable += lines.length - records.length;
      const text = print(chosen, idle);
      if (text !== '' && !out.write(text)) await once(out, 'drain', { signal });
    }
  } catch (error) {
    if (!signal.aborted) {
      err.write(`${name} cannot be read: ${harmless((error as Error).message)}\n`);
      return 1;
    }
  }
  const { records, printed, unreadable } = counts;
  if (unreadable > 0) err.write(`${unreadable === 1 ? '1 line was' : `${unreadable} lines were`} skipped: torn, or no records.\n`);
  if (signal.aborted) return 130;
  if (printed === 0) err.write(records === 0 ? `No trips in ${name}.\n` : `None of the ${records} trips in ${name} is asked for.\n`);
  return 0;
}

type Printer = (records: readonly TripRow[], idle: boolean) => string;

function jsonPrinter(): Printer {
  return (records) => records.map((record) => `${harmlessJson(record)}\n`).join('');
}

function tablePrinter(out: NodeJS.WriteStream): Printer {
  const table = new TripsTable({
    columns: () => (out.isTTY ? out.columns || 80 : undefined),
    colours: out.isTTY && out.hasColors(),
  });
  let first: TripRow[] | undefined = [];
  return (records, idle) => {
    if (first === undefined) return table.rows(records);
    first.push(...records);
    if (first.length === 0 || (!idle && first.length < FIRST_ROWS)) return '';
    const rows = first;
    first = undefined;
    return table.begin(rows);
  };
}

/** A line as a record; undefined if it is none. */
function toRecord(line: string): TripRow | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { at, kind, gate, message } = value as Partial<Record<keyof TripRow, unknown>>;
  if (typeof at !== 'number' || typeof kind !== 'string' || typeof message !== 'string') return undefined;
  return gate === undefined || typeof gate === 'string' ? (value as TripRow) : undefined;
}

function isWanted({ at, kind, gate = '' }: TripRow, { kinds, gates, since, until }: TripsArguments): boolean {
  return at >= since && at < until && (kinds.size === 0 || kinds.has(kind)) && (gates.size === 0 || gates.has(gate));
}
