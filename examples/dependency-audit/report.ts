import type { ScopeReport } from 'rxfleet';
import type { ServerStats } from 'rxfleet/testing';
import type { Agent, Fleet, Tally } from './fleet.js';
import type { Ledger } from './spend.js';
import { bytes, clean, count, cut, dollars, fit, paint, plural, seconds, words } from './text.js';
import type { Risk } from './verdict.js';

const COLOURS = { low: 'green', medium: 'yellow', high: 'red' } as const;

interface Column {
  readonly title: string;
  /** Negative: aligned to the right. */
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
  return names.length === 0 ? 'nothing' : names.join(', ');
}

/** A row for every package, then what is worth a look, worst first. */
export function auditTable(fleet: Fleet, columns: number): string {
  const rest = COLUMNS.reduce((sum, { width }) => sum + Math.abs(width) + 1, 0);
  const longest = Math.max(...fleet.agents.map(({ pkg }) => pkg.name.length), 7);
  const nameWidth = Math.max(12, Math.min(longest, columns - 1 - rest));
  const started = fleet.agents.filter(({ status }) => status !== 'not started' && status !== 'waiting');
  const head = paint('bold', [fit('package', nameWidth), ...COLUMNS.map(({ title, width }) => fit(title, width))].join(' '));
  const rows = started.map((agent) => rowOf(agent, nameWidth, columns - 1));
  const left = fleet.agents.length - started.length;
  if (left > 0) rows.push(paint('gray', `and ${plural(left, 'package')} whose agents had not started`));
  return [head, ...rows, ...findings(started, columns - 1)].join('\n');
}

function rowOf(agent: Agent, nameWidth: number, width: number): string {
  const name = fit(agent.pkg.name, nameWidth);
  if (agent.verdict === undefined) {
    const said = `${agent.status === 'done' ? 'no verdict' : agent.status} in turn ${agent.turn}${agent.problem === undefined ? '' : `: ${agent.problem}`}`;
    return `${name} ${fit(agent.pkg.version, 10)} ${paint('red', cut(said, width - nameWidth - 12))}`;
  }
  const cells = COLUMNS.map(({ width: cellWidth, cell, colour }) => {
    const text = fit(clean(cell(agent)), cellWidth);
    const style = colour?.(agent);
    return style === undefined ? text : paint(style, text);
  });
  return [name, ...cells].join(' ');
}

function findings(agents: readonly Agent[], width: number): string[] {
  const lines = (['high', 'medium'] as const).flatMap((risk) =>
    agents
      .filter(({ verdict }) => verdict?.risk === risk)
      .flatMap((agent) => [paint(COLOURS[risk], agent.pkg.name), ...reasonsOf(agent, width)]),
  );
  return lines.length === 0 ? [] : ['', paint('bold', 'Worth a look'), ...lines];
}

const reasonsOf = ({ verdict }: Agent, width: number): string[] =>
  (verdict?.reasons ?? []).map((reason) => `  ${cut(clean(reason), width - 2)}`);

/** How the run ended, besides what the fleet knows. */
export interface Ending {
  readonly report: ScopeReport;
  readonly ledger: Ledger | undefined;
  /** What the server saw, when nothing was in flight any more. */
  readonly server: ServerStats | undefined;
  /** Connections that were still open once the server had closed. */
  readonly sockets: number;
  readonly openScopes: number;
}

/** The accounts: what was started is what settled, failed, was cancelled or abandoned. */
export function fleetReport(fleet: Fleet, { report, ledger, server, sockets, openScopes }: Ending): string {
  const unstarted = fleet.number('not started', 'waiting');
  const agents = [`${fleet.number('done')} done`, `${fleet.number('failed')} failed`, `${fleet.number('cancelled')} cancelled`];
  const lines: [string, string][] = [
    [
      'agents',
      `${count(fleet.agents.length - unstarted)} started = ${agents.join(' + ')}${unstarted > 0 ? `; ${unstarted} never started` : ''}`,
    ],
    ['tool calls', accounts(fleet.toolCalls) + (fleet.refused > 0 ? `; ${fleet.refused} refused` : '')],
    ['model calls', accounts(fleet.modelCalls)],
    ...fleet.abandoned.map(({ call, agent }): [string, string] => [
      'abandoned',
      `${call.label} of ${agent}, ${seconds(call.ageMs)} after it started`,
    ]),
    ...report.late.map((late): [string, string] => [
      'late',
      `${late.label} of ${late.path.at(1) ?? '?'} settled after all, ${late.status}`,
    ]),
    ...report.errors.filter(({ index }) => index === undefined).map(({ error }): [string, string] => ['error', words(error)]),
    ['tokens', `${count(fleet.inputTokens)} in, ${count(fleet.outputTokens)} out`],
  ];
  if (ledger !== undefined)
    lines.push(['spent', `${dollars(ledger.spent)} of ${dollars(ledger.limit)}, ${dollars(ledger.reserved)} still reserved`]);
  lines.push(['time', seconds(fleet.elapsed)]);
  if (server !== undefined) {
    const seen = `${count(server.requests)} seen, ${count(server.closedByClient)} closed by us`;
    lines.push(['server', `${server.open} requests open (${seen}), ${sockets} sockets open`]);
  }
  lines.push(['open scopes', paint(openScopes === 0 ? 'green' : 'red', String(openScopes))]);
  return [paint('bold', 'Fleet report'), ...lines.map(([label, text]) => `${label.padStart(13)}: ${text}`)].join('\n');
}

function accounts({ started, settled, failed, cancelled, abandoned }: Tally): string {
  return `${count(started)} started = ${count(settled)} settled + ${failed} failed + ${cancelled} cancelled + ${abandoned} abandoned`;
}
