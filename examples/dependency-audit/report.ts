import { formatUsd, type ScopeReport } from 'rxfleet';
import type { ServerStats } from 'rxfleet/testing';
import type { Approvals } from './approvals.js';
import type { Findings } from './findings.js';
import { agentIn, type Fleet, type Tally } from './fleet.js';
import type { Passage, Savings } from './savings.js';
import { count, paint, plural, seconds, words } from './text.js';
import type { TripFile } from './trips.js';

/** How the run ended, besides what the fleet knows. */
export interface Ending {
  readonly report: ScopeReport;
  readonly approvals: Pick<Approvals, 'tally' | 'automatic'>;
  readonly findings: Findings;
  /** In micro-dollars; `uncertain` is the part of `spent` that is assumed, for requests that were stopped. */
  readonly money: { readonly spent: number; readonly uncertain: number; readonly limit: number };
  /** The file of trips, if there is one. */
  readonly tripFile: TripFile | undefined;
  /** What the server saw, when nothing was in flight any more. */
  readonly server: ServerStats | undefined;
  /** Connections that were still open once the server had closed. */
  readonly sockets: number;
  readonly openScopes: number;
}

type Line = readonly [label: string, text: string];

const when = (it: boolean, line: Line): Line[] => (it ? [line] : []);

const block = (title: string, lines: readonly Line[]): string =>
  [paint('bold', title), ...lines.map(([label, text]) => `${label.padStart(13)}: ${text}`)].join('\n');

/** The accounts: what was started is what settled, failed, was cancelled or abandoned. */
export function fleetReport(fleet: Fleet, { report, approvals, findings, money, tripFile, server, sockets, openScopes }: Ending): string {
  return block('Fleet report', [
    ['agents', agentsOf(fleet)],
    ...below(fleet),
    ['tool calls', accounts(fleet.toolCalls)],
    ['model calls', accounts(fleet.modelCalls)],
    ...when(fleet.refused > 0, ['refused', `${plural(fleet.refused, 'call')} of no such tool, or with a wrong input`]),
    ...fleet.abandoned.map(
      ({ label, path, ageMs }) => ['abandoned', `${label} of ${ownerOf(path)}, ${seconds(ageMs)} after it started`] as const,
    ),
    ...report.late.map(
      ({ label, path, status }) => ['late', `${label} of ${ownerOf(path)} ended after it was told to stop (${status})`] as const,
    ),
    ...report.errors.filter(({ index }) => index === undefined).map(({ error }) => ['error', words(error)] as const),
    ...when(approvals.tally.asked > 0, ['approvals', approvalsOf(approvals)]),
    ...when(approvals.tally.asked > 0, ['findings', findingsOf(findings)]),
    ['tokens', `${count(fleet.inputTokens)} in, ${count(fleet.outputTokens)} out`],
    ['spent', `${formatUsd(money.spent)} of at most ${formatUsd(money.limit)}`],
    ...when(money.uncertain > 0, ['assumed', `${formatUsd(money.uncertain)} of that, for requests that were stopped`]),
    ['time', seconds(fleet.elapsed)],
    ...(tripFile === undefined ? [] : [['trips', tripsOf(tripFile)] as const]),
    ...(server === undefined ? [] : [['server', serverOf(server, sockets)] as const]),
    ['open scopes', paint(openScopes === 0 ? 'green' : 'red', String(openScopes))],
  ]);
}

/** What the guards let through, and what they saved. */
export function guardReport(savings: Savings): string {
  const { bucket, retry, breakers, budget, heldBack, throttled, pauses, pausedMs, trips, stopped, alerts, setAside, givenBack } = savings;
  const tripped = [...trips].map(([name, times]) => (times === 1 ? name : `${name} ${times} times`)).join(', ');
  const told = alerts.map(({ path, fraction, limit }) => `${Math.round(100 * fraction)} % of ${formatUsd(limit)} (${path.join(' > ')})`);
  return block('Guards', [
    ['rate limit', passage(bucket)],
    ['retry gate', passage(retry)],
    ['breakers', passage(breakers)],
    ['budget', `${passage(budget)}; ${budget.refused} refused`],
    ['waited', `${plural(bucket.queued, 'request')} for the rate limit, ${seconds(bucket.waitedMs)} in all`],
    ...when(pauses > 0, [
      'held back',
      `${plural(heldBack, 'request')} in ${plural(pauses, 'pause')} of ${seconds(pausedMs)} in all; ${throttled} throttled`,
    ]),
    ...when(trips.size > 0, ['cancelled', `${plural(stopped, 'call')} in flight when a breaker tripped (${tripped})`]),
    ...when(breakers.refused > 0, ['spared', `${plural(breakers.refused, 'call')} refused by open breakers`]),
    ['money', `${formatUsd(setAside)} set aside = ${formatUsd(setAside - givenBack)} spent + ${formatUsd(givenBack)} given back`],
    ...when(told.length > 0, ['alerts', told.join(', ')]),
  ]);
}

function passage({ admitted, ended: { completed, failed, cancelled } }: Passage): string {
  return `${count(admitted)} admitted = ${count(completed)} completed + ${failed} failed + ${cancelled} cancelled`;
}

function agentsOf(fleet: Fleet): string {
  const unstarted = fleet.number('not started', 'waiting');
  const ended = (['done', 'failed', 'cancelled'] as const).map((status) => `${fleet.number(status)} ${status}`);
  const started = fleet.all.length - unstarted - fleet.number('refused');
  return `${started} started = ${ended.join(' + ')}${unstarted > 0 ? `; ${unstarted} never started` : ''}`;
}

/** Agents that were started by agents. */
function below(fleet: Fleet): Line[] {
  const all = fleet.all.filter(({ above }) => above !== undefined);
  const refused = all.filter(({ status }) => status === 'refused');
  const started = all.filter(({ status }) => status !== 'refused' && status !== 'not started');
  const deepest = Math.max(0, ...started.map(({ depth }) => depth));
  return [
    ...when(started.length > 0, [
      'of these',
      `${plural(started.length, 'sub-agent')} for suspicious dependencies, at most ${plural(deepest, 'level')} deep`,
    ]),
    ...when(refused.length > 0, [
      'not started',
      `${plural(refused.length, 'sub-agent')} that the limits of ${refused.length === 1 ? 'its' : 'their'} tree refused`,
    ]),
  ];
}

const ownerOf = (path: readonly string[]): string => agentIn(path) ?? '?';

function approvalsOf({ tally: { asked, approved, denied, expired, withdrawn }, automatic }: Ending['approvals']): string {
  const auto = automatic > 0 ? `; ${automatic} approved automatically` : '';
  return `${asked} asked = ${approved} approved + ${denied} denied + ${expired} expired + ${withdrawn} withdrawn${auto}`;
}

function findingsOf({ filed, path }: Findings): string {
  if (filed.length === 0) return 'none filed';
  if (path === undefined) return `${filed.length} filed, in memory only: --findings FILE keeps them`;
  return `${filed.length} filed in ${path}`;
}

function tripsOf({ written, missing, path }: TripFile): string {
  const lost = missing > 0 ? `, ${missing} could not be` : '';
  const file = /[^\w@./-]/.test(path) ? `'${path}'` : path;
  return `${written} written${lost}; to read them: npx rxfleet trips ${file}`;
}

const serverOf = ({ open, requests, statuses, closedByClient }: ServerStats, sockets: number): string =>
  `${open} requests open (${count(requests)} seen, ${statuses[429] ?? 0} got 429, ${closedByClient} closed by us), ${sockets} sockets open`;

function accounts({ started, settled, failed, cancelled, abandoned }: Tally): string {
  return `${count(started)} started = ${count(settled)} settled + ${failed} failed + ${cancelled} cancelled + ${abandoned} abandoned`;
}
