import { styleText } from 'node:util';
import { columnsOf, fit, harmless, wrap } from './terminalText.js';

/** What the command needs to know of a record. */
export interface TripRow {
  readonly at: number;
  readonly kind: string;
  readonly gate?: string;
  readonly message: string;
}

export interface TableOptions {
  /** Columns of the terminal; undefined where the output is no terminal. */
  readonly columns: () => number | undefined;
  readonly colours: boolean;
}

type Colour = Parameters<typeof styleText>[0];

const COLOURS: Readonly<Record<string, Colour>> = {
  tripped: 'red',
  alert: 'yellow',
  'retry-storm': 'yellow',
  abandoned: 'magenta',
  approval: 'cyan',
  dropped: 'magenta',
};
const GAP = '  ';
/** Columns of a time: `2026-01-31T14:00:00.000Z`, `2026-01-31 14:00:00` and `01-31 14:00:00`. */
const ISO = 24;
const LONG = 19;
const SHORT = 14;
const KIND = 11;
const WIDEST_GATE = 24;
/** In a terminal of so many columns there is room for the year. */
const ROOMY = 100;
/** A message with less room than this goes below the rest. */
const LEAST_MESSAGE = 24;
const HEAD = { at: NaN, kind: 'KIND', gate: 'GATE', message: 'MESSAGE' } as const;

/** Where the columns of a table stand. */
interface Layout {
  readonly time: number;
  readonly gate: number;
  /** Columns for the message, beside the rest or below it. Infinity where the output is no terminal. */
  readonly message: number;
  readonly indent: number;
}

/** Turns records into the lines of a table. Its gate column is as wide as the rows that it begins with need. */
export class TripsTable {
  private gate = 0;

  constructor(private readonly options: TableOptions) {}

  /** The head and the first rows. */
  begin(rows: readonly TripRow[]): string {
    this.gate = rows.reduce<number>((widest, row) => Math.max(widest, columnsOf(harmless(row.gate ?? '-'))), HEAD.gate.length);
    const layout = this.layout();
    const head = this.line(HEAD, 'TIME', layout).trimEnd();
    return `${this.paint('bold', head)}\n${this.rows(rows)}`;
  }

  rows(rows: readonly TripRow[]): string {
    const layout = this.layout();
    return rows.map((row) => this.line(row, timeOf(row.at, layout.time), layout)).join('');
  }

  private layout(): Layout {
    const columns = this.options.columns();
    if (columns === undefined) return { time: ISO, gate: this.gate, message: Infinity, indent: 0 };
    const time = columns < ROOMY ? SHORT : LONG;
    const gate = Math.min(this.gate, WIDEST_GATE, Math.max(4, Math.floor(columns / 6)));
    const indent = time + KIND + gate + 3 * GAP.length;
    if (columns - indent >= LEAST_MESSAGE) return { time, gate, message: columns - indent, indent };
    return { time, gate, message: Math.max(8, columns - GAP.length), indent: GAP.length };
  }

  private line(row: TripRow, time: string, { time: width, gate, message, indent }: Layout): string {
    const name = harmless(row.gate ?? '-');
    const cells = [
      fit(time, width),
      this.paint(COLOURS[row.kind], fit(harmless(row.kind), KIND)),
      message === Infinity ? name.padEnd(gate) : fit(name, gate),
    ];
    const words = harmless(row.message);
    if (message === Infinity) return `${[...cells, words].join(GAP)}\n`;
    const lines = wrap(words, message);
    const beside = indent > GAP.length ? (lines.shift() ?? '') : '';
    return [[...cells, beside].join(GAP).trimEnd(), ...lines.map((line) => ' '.repeat(indent) + line)].map((line) => `${line}\n`).join('');
  }

  private paint(colour: Colour | undefined, text: string): string {
    return this.options.colours && colour !== undefined ? styleText(colour, text) : text;
  }
}

/** In a terminal the local time, elsewhere ISO 8601 in UTC. */
function timeOf(at: number, width: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return String(at);
  if (width === ISO) return date.toISOString();
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return width === LONG ? `${date.getFullYear()}-${day}` : day;
}
