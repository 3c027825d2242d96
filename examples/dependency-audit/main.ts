import { setTimeout as sleep } from 'node:timers/promises';
import { lastValueFrom } from 'rxjs';
import { usd } from 'rxfleet';
import { openScopes, type ServerStats } from 'rxfleet/testing';
import { Approvals } from './approvals.js';
import { audit } from './audit.js';
import { Chaos } from './chaos.js';
import { Findings } from './findings.js';
import { Fleet } from './fleet.js';
import { Guards } from './guards.js';
import { catchSignals } from './interrupt.js';
import { keys } from './keys.js';
import { embeddedModel, liveModel, type Model } from './model.js';
import { HELP, readOptions, UsageError } from './options.js';
import { findPackages, ProjectError } from './packages.js';
import { fleetReport, guardReport } from './report.js';
import { Savings } from './savings.js';
import { describeSpending, type SpendingPlan } from './spend.js';
import { auditTable } from './table.js';
import { plural } from './text.js';
import { auditTools, type ToolPlace } from './tools.js';
import { Trips } from './trips.js';
import { isLive, openView } from './view.js';

/** How long cancelled calls may take to acknowledge. */
const GRACE_MS = 3_000;
const TOOL_LIMITS = { timeoutMs: 20_000, graceMs: 2_000 };
/** Under chaos calls hang on purpose, and nobody wants to wait for that. */
const CHAOS_LIMITS = { timeoutMs: 1_000, graceMs: 300 };
/** Calls that are agents take as long as agents do, and stop once what is below them has stopped or was abandoned. */
const AGENT_LIMITS = { timeoutMs: 120_000, graceMs: 2_500 };
const CHAOS_AGENT_LIMITS = { timeoutMs: 20_000, graceMs: 1_500 };
/** Of the agents for one package: its own, and those below. */
const MOST_BELOW = 5;
const TREE = { maxFanOut: 4, maxTotal: 1 + MOST_BELOW };
const THINK_AGAIN_MS = 3_000;
/** What may be spent where money is only counted: nearly half as much again as most packages need, and one large tree. */
const enoughFor = (agents: number): number => usd('0.20') + agents * usd('0.022');

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2), process.env, process.env['INIT_CWD'] ?? process.cwd());
  if (options === 'help') {
    say(HELP);
    return 0;
  }
  const { dir, max, concurrency, maxTurns, maxDepth, live } = options;
  const { packages, missing } = await findPackages(dir, max);
  const agents = packages.length;
  let close = (): void => {};
  const interruption = catchSignals(() => close());
  const { signal } = interruption;
  const chaos = options.chaos === undefined ? undefined : new Chaos(options.chaos, agents);
  const model = live === undefined ? await embeddedModel(chaos) : liveModel(live);
  const limit = options.microUsd ?? enoughFor(agents);
  const below = maxDepth === 0 ? 0 : MOST_BELOW;
  if (live !== undefined && !(await mayStart({ ...model.params, limit, agents, below, concurrency, maxTurns }, signal)))
    return interruption.exitCode;

  const guards = new Guards({ limits: model.limits, microUsd: limit, agents, ceiling: model.ceiling });
  const savings = new Savings(guards);
  const fleet = new Fleet(packages);
  guards.events$.subscribe((event) => fleet.hear(event));
  const breaking = chaos === undefined ? '' : `, chaos with seed ${chaos.seed}`;
  const title = `Auditing ${plural(agents, 'package')} of ${dir}, ${concurrency} at a time${breaking}`;
  const approvals = new Approvals(isLive(process.stdout) && process.stdin.isTTY ? keys(process.stdin) : undefined);
  const findings = new Findings(options.findings);
  const view = openView({ fleet, guards, approvals, title });
  const trips = new Trips(guards, options.trips, view);
  close = () => {
    approvals.close();
    view.close();
    say(`Left without waiting for ${plural(fleet.inFlight, 'call')}.`);
  };
  if (missing.length > 0) view.say(`Declared, but not installed: ${missing.join(', ')}`);

  signal.addEventListener('abort', () => view.say(`${String(signal.reason)}: cancelling ${plural(fleet.inFlight, 'call')} …`));
  const times = chaos ? { limits: CHAOS_LIMITS, agentLimits: CHAOS_AGENT_LIMITS } : { limits: TOOL_LIMITS, agentLimits: AGENT_LIMITS };
  const toolsFor = ({ files, ...place }: ToolPlace) =>
    auditTools({ ...place, ...times, around: chaos?.around(place.pkg.name), findings: files ? findings : undefined });
  const limits = { ...TREE, maxDepth };
  const plan = { packages, model, guards, approvals, fleet, toolsFor, concurrency, maxTurns, limits, graceMs: GRACE_MS, stop: signal };
  const report = await lastValueFrom(audit({ ...plan, onScope: (scope) => trips.scopes.next(scope) }));
  fleet.close(report);
  approvals.close();
  const { server, sockets } = await closeServer(model);
  const tripFile = await trips.close();
  view.close();
  const { spent, uncertain } = guards.budget.snapshot().microUsd;
  const open = openScopes().length;
  say(`${auditTable(fleet, process.stdout.columns || 100)}\n`);
  say(`${guardReport(savings)}\n`);
  say(fleetReport(fleet, { report, approvals, findings, money: { spent, uncertain, limit }, tripFile, server, sockets, openScopes: open }));
  if (signal.aborted) return leave(interruption.exitCode);
  return open === 0 && fleet.number('done') > 0 ? 0 : 1;
}

/** Says what a run that costs money may cost, and waits for a moment. */
async function mayStart(plan: SpendingPlan, signal: AbortSignal): Promise<boolean> {
  say(describeSpending(plan));
  say(`It starts in ${THINK_AGAIN_MS / 1000} s; press Ctrl-C, and nothing is sent.`);
  return sleep(THINK_AGAIN_MS, true, { signal }).catch(() => false);
}

/** What the server saw once it had nothing left to do, and whether a connection outlived it. */
async function closeServer({ server }: Model): Promise<{ readonly server: ServerStats | undefined; readonly sockets: number }> {
  if (server === undefined) return { server: undefined, sockets: 0 };
  await Promise.race([server.whenIdle(), sleep(1_000, undefined, { ref: false })]);
  const stats = server.stats();
  await server.close();
  return { server: stats, sockets: server.stats().sockets };
}

/** Whoever interrupts does not want to wait for what was abandoned; otherwise the process ends by itself, since nothing is left. */
const leave = (code: number): Promise<never> => new Promise(() => process.stdout.write('', () => process.exit(code)));

function explain(error: unknown): number {
  if (!(error instanceof UsageError || error instanceof ProjectError)) throw error;
  process.stderr.write(`${error.message}\n${error instanceof UsageError ? 'Try --help.\n' : ''}`);
  return error instanceof UsageError ? 2 : 1;
}

// Whoever reads the output may leave early, as `head` does.
process.stdout.on('error', () => process.exit(0));
process.exitCode = await main().catch(explain);
