import type { Agent, Fleet } from './fleet.js';
import { bytes, clean, count, cut, fit, paint, plural } from './text.js';
import { treeOf, type Row } from './tree.js';
import type { Risk } from './verdict.js';

const COLOURS = { low: 'green', medium: 'yellow', high: 'red' } as const;

interface Column {
  readonly title: string;
  /** The most that it may take; less if its cells need less. Negative: aligned to the right. */
  readonly width: number;
  readonly cell: (agent: Agent) => string;
  readonly colour?: (agent: Agent) => (typeof COLOURS)[Risk] | undefined;
}

const NONE = '–';

const COLUMNS: readonly Column[] = [
  { title: 'version', width: 10, cell: ({ pkg }) => pkg.version },
  { title: 'licence', width: 12, cell: ({ facts }) => licenceOf(facts) },
  { title: 'files', width: -6, cell: ({ facts: { list_files: found } }) => (found === undefined ? NONE : count(found.files)) },
  { title: 'size', width: -6, cell: ({ facts: { list_files: found } }) => (found === undefined ? NONE : bytes(found.bytes)) },
  { title: 'on install', width: 11, cell: ({ facts }) => installOf(facts) },
  {
    title: 'risk',
    width: 6,
    cell: ({ verdict }) => verdict?.risk ?? '?',
    colour: ({ verdict }) => COLOURS[verdict?.risk ?? 'high'],
  },
  { title: 'turns', width: -5, cell: ({ turn }) => String(turn) },
];

function licenceOf({ read_licence: licence, read_manifest: manifest }: Agent['facts']): string {
  return licence?.declared ?? licence?.texts[0]?.spdx ?? manifest?.licence ?? (licence === undefined ? NONE : 'none');
}

function installOf({ find_install_scripts: found }: Agent['facts']): string {
  if (found === undefined) return NONE;
  const names = [...found.scripts.map(({ name }) => name), ...(found.nativeBuild ? ['native'] : [])];
  return names.length > 1 ? `${names.length} hooks` : (names[0] ?? 'nothing');
}

/** A row for every package, then what is worth a look, worst first. */
export function auditTable(fleet: Fleet, width: number): string {
  const tree = treeOf(fleet.agents, ({ status }) => status !== 'not started' && status !== 'waiting');
  const started = tree.map(({ agent }) => agent);
  const columns = COLUMNS.map((column) => ({ ...column, width: widthOf(column, started) }));
  const rest = columns.reduce((sum, column) => sum + Math.abs(column.width) + 1, 0);
  const longest = Math.max(...tree.map(({ agent, stem }) => stem.length + agent.pkg.name.length), 7);
  const nameWidth = Math.max(12, Math.min(longest, width - 1 - rest));
  const head = paint('bold', [fit('package', nameWidth), ...columns.map((column) => fit(column.title, column.width))].join(' '));
  const rows = tree.map((row) => rowOf(row, columns, nameWidth));
  const left = fleet.all.length - started.length;
  if (left > 0) rows.push(paint('gray', `and ${plural(left, 'package')} whose agents had not started`));
  return [head, ...rows, ...findings(started, width - 1)].join('\n');
}

function widthOf({ title, width, cell }: Column, agents: readonly Agent[]): number {
  const needed = Math.max(title.length, ...agents.map((agent) => clean(cell(agent)).length));
  return Math.sign(width) * Math.min(Math.abs(width), needed);
}

function rowOf({ agent, stem }: Row, columns: readonly Column[], nameWidth: number): string {
  const name = fit(`${stem}${agent.pkg.name}`, nameWidth);
  if (agent.verdict === undefined) {
    if (agent.status === 'refused')
      return `${name} ${fit(agent.pkg.version, columns[0]?.width ?? 10)} ${paint('yellow', 'no agent of its own')}`;
    const when = agent.turn === 0 ? 'before its first turn' : `in turn ${agent.turn}`;
    const said = `${agent.status === 'done' ? 'no verdict' : agent.status} ${when}`;
    return `${name} ${fit(agent.pkg.version, columns[0]?.width ?? 10)} ${paint('red', said)}`;
  }
  const cells = columns.map(({ width, cell, colour }) => {
    const text = fit(clean(cell(agent)), width);
    const style = colour?.(agent);
    return style === undefined ? text : paint(style, text);
  });
  return [name, ...cells].join(' ');
}

/** What is worth a look, worst first; and in full what a row had no room for. */
function findings(agents: readonly Agent[], width: number): string[] {
  const risky = (['high', 'medium'] as const).flatMap((risk) =>
    agents
      .filter(({ verdict }) => verdict?.risk === risk)
      .flatMap((agent) => [
        `${paint(COLOURS[risk], agent.pkg.name)}${below(agent)}`,
        ...(agent.verdict?.reasons ?? []).map((reason) => `  ${cut(clean(reason), width - 2)}`),
      ]),
  );
  const unclear = agents.flatMap((agent) =>
    agent.problem === undefined ? [] : [`${paint('red', agent.pkg.name)}${below(agent)}`, `  ${cut(agent.problem, width - 2)}`],
  );
  return [...section('Worth a look', risky), ...section('Without a verdict', unclear)];
}

const below = ({ above }: Agent): string => (above === undefined ? '' : `, a dependency of ${above.pkg.name}`);

const section = (title: string, lines: readonly string[]): string[] => (lines.length === 0 ? [] : ['', paint('bold', title), ...lines]);
