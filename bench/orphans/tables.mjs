import { KINDS } from './kinds.mjs';

const SCENARIOS = ['fail', 'abort', 'leave'];

const ms = (value) => (value < 1 ? '<1' : Math.round(value).toLocaleString('en-US'));

function range(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? `${low}` : `${low}–${high}`;
}

function middle(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

const perKind = (cell, show) => KINDS.map((kind) => show(cell.kinds[kind])).join(' / ');

/** Calls that still ran, of those that had started if these were not five, and what else came after control was back. */
function orphans(cell) {
  if (cell === undefined) return '–';
  const counts = perKind(cell, (runs) => {
    const started = range(runs.map((run) => run.started));
    return range(runs.map((run) => run.orphans)) + (started === '5' ? '' : ` of ${started}`);
  });
  const runs = KINDS.flatMap((kind) => cell.kinds[kind]);
  const more = [
    [Math.max(...runs.map(({ startedLater }) => startedLater)), 'calls begun later'],
    [Math.max(...runs.map(({ moreRequests }) => moreRequests)), 'more LLM call'],
    [cell.unhandled, 'unhandled rejections'],
  ];
  return [counts, ...more.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`)].join('; ');
}

const waited = (cell) => (cell === undefined ? '–' : perKind(cell, (runs) => ms(middle(runs.map((run) => run.waitedMs)))));

function ranOn(cells) {
  const times = SCENARIOS.flatMap((scenario) => KINDS.flatMap((kind) => cells[scenario]?.kinds[kind].map((run) => run.orphanMs) ?? []));
  const longest = Math.max(...times);
  return longest === 0 ? '–' : ms(longest);
}

function closed(cell) {
  if (cell === undefined) return '–';
  const runs = cell.kinds.coop;
  const open = runs.filter((run) => run.closedMs === undefined).length;
  if (open > 0) return `still open after 1.5 s${open < runs.length ? `, ${open} of ${runs.length}` : ''}`;
  return ms(Math.max(...runs.map((run) => run.closedMs)));
}

/** What was found, as three tables: a head and rows. */
export function tables(peers) {
  const rows = peers.flatMap((peer) => peer.rows);
  const withModel = rows.filter(({ cells }) => cells.abortQuiet ?? cells.leaveQuiet);
  return [
    {
      title: 'Calls still running when control is back with the caller, of five (coop / cleanup / deaf)',
      head: ['', 'one call fails at 50 ms', 'the caller aborts at 100 ms', 'the consumer leaves at 100 ms', 'they ran on for, ms'],
      rows: rows.map(({ name, cells }) => [name, ...SCENARIOS.map((scenario) => orphans(cells[scenario])), ranOn(cells)]),
    },
    {
      title: 'Milliseconds until control is back, from the failure, the abort or the leave (coop / cleanup / deaf)',
      head: ['', 'one call fails', 'the caller aborts', 'the consumer leaves'],
      rows: rows.map(({ name, cells }) => [name, ...SCENARIOS.map((scenario) => waited(cells[scenario]))]),
    },
    {
      title: 'Milliseconds until the connection to a model that has fallen silent is closed',
      head: ['', 'the caller aborts', 'the consumer leaves'],
      rows: withModel.map(({ name, cells }) => [name, closed(cells.abortQuiet), closed(cells.leaveQuiet)]),
    },
  ];
}
