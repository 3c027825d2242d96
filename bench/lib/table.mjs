import { median } from './stats.mjs';

const digits = (value) => {
  const size = Math.abs(value);
  if (size === Infinity) return '∞';
  if (size >= 100) return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
  return value.toFixed(size >= 10 ? 1 : 2);
};

/** One row of a goal: the median of its figure over the rounds, its spread, its limit and whether it is kept. */
export function judge(row, rounds) {
  const figures = rounds.map((round) => row.figure(round)).filter((figure) => !Number.isNaN(figure));
  if (figures.length === 0) throw new Error(`No figure for "${row.what}".`);
  const unit = row.unit ?? '×';
  const middle = median(figures);
  return {
    cells: [
      row.what,
      `${digits(middle)} ${unit}`,
      figures.length > 1 ? `${digits(Math.min(...figures))} – ${digits(Math.max(...figures))}` : 'one round',
      limitOf(row, unit),
      verdict(row, middle),
    ],
    short: shortBy(row, middle) > 0,
  };
}

function limitOf({ atMost, below, atLeast }, unit) {
  if (atMost !== undefined) return `≤ ${atMost} ${unit}`;
  if (below !== undefined) return `< ${below} ${unit}`;
  return atLeast === undefined ? '' : `≥ ${atLeast} ${unit}`;
}

function verdict(row, figure) {
  if (limitOf(row, '') === '') return '';
  const short = shortBy(row, figure);
  return short > 0 ? `SHORT BY ${digits(short * 100)} %` : 'ok';
}

/** By which share of the limit it is missed, 0 if it is kept. */
function shortBy({ atMost, below, atLeast }, figure) {
  if (atLeast !== undefined) return Math.max(0, 1 - figure / atLeast);
  const limit = atMost ?? below;
  if (limit === undefined || figure < limit || figure === atMost) return 0;
  return limit === 0 ? Infinity : Math.max(figure / limit - 1, Number.EPSILON);
}

/** The median of every contender of a group, in the order in which they run. */
export function absolutes(rounds, { unit, tell = (round, name) => round[name] }) {
  if (unit === undefined) return undefined;
  const told = Object.keys(rounds[0] ?? {}).map((name) => {
    const figures = rounds.filter((round) => name in round).map((round) => tell(round, name));
    return `${name} ${digits(median(figures))}`;
  });
  return `${unit}: ${told.join(' · ')}`;
}

export function printTable(head, rows) {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join('   ')
      .trimEnd();
  console.log(`  ${line(head)}`);
  for (const row of rows) console.log(`  ${line(row)}`);
}
