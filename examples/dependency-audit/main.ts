import { setTimeout as sleep } from 'node:timers/promises';
import { lastValueFrom } from 'rxjs';
import { openScopes, type ServerStats } from 'rxfleet/testing';
import { audit } from './audit.js';
import { Chaos } from './chaos.js';
import { Fleet } from './fleet.js';
import { catchSignals } from './interrupt.js';
import { embeddedModel, liveModel, type Model } from './model.js';
import { HELP, readOptions, UsageError, type AuditOptions } from './options.js';
import { findPackages, ProjectError, type InstalledPackage } from './packages.js';
import { auditTable, fleetReport } from './report.js';
import { describeSpending } from './spend.js';
import { plural } from './text.js';
import { auditTools } from './tools.js';
import { openView } from './view.js';

/** How long cancelled calls may take to acknowledge. */
const GRACE_MS = 3_000;
const TOOL_LIMITS = { timeoutMs: 20_000, graceMs: 2_000 };
/** Under chaos calls hang on purpose, and nobody wants to wait for that. */
const CHAOS_LIMITS = { timeoutMs: 1_000, graceMs: 300 };
const THINK_AGAIN_MS = 3_000;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2), process.env, process.env['INIT_CWD'] ?? process.cwd());
  if (options === 'help') {
    say(HELP);
    return 0;
  }
  const { dir, max, concurrency, maxTurns, live } = options;
  const { packages, missing } = await findPackages(dir, max);
  let close = (): void => {};
  const interruption = catchSignals(() => close());
  const chaos = options.chaos === undefined ? undefined : new Chaos(options.chaos);
  const model = live === undefined ? await embeddedModel(chaos) : liveModel(live);
  if (!(await mayStart(model, options, packages.length, interruption.signal))) return interruption.exitCode;

  const fleet = new Fleet(packages);
  const breaking = chaos === undefined ? '' : `, chaos with seed ${chaos.seed}`;
  const view = openView(fleet, `Auditing ${plural(packages.length, 'package')} of ${dir}, ${concurrency} at a time${breaking}`);
  close = () => {
    view.close();
    say(`Left without waiting for ${plural(fleet.inFlight, 'call')}.`);
  };
  if (missing.length > 0) view.say(`Declared, but not installed: ${missing.join(', ')}`);

  const { signal } = interruption;
  signal.addEventListener('abort', () => view.say(`${String(signal.reason)}: cancelling ${plural(fleet.inFlight, 'call')} …`));
  const toolsFor = (pkg: InstalledPackage) => auditTools(pkg, chaos ? CHAOS_LIMITS : TOOL_LIMITS, chaos?.around(pkg.name));
  const report = await lastValueFrom(audit({ packages, model, fleet, toolsFor, concurrency, maxTurns, graceMs: GRACE_MS, stop: signal }));
  fleet.close(report);
  const { server, sockets } = await closeServer(model);
  view.close();
  const open = openScopes().length;
  say(`${auditTable(fleet, process.stdout.columns || 100)}\n`);
  say(fleetReport(fleet, { report, ledger: model.ledger, server, sockets, openScopes: open }));
  if (signal.aborted) return leave(interruption.exitCode);
  return open === 0 && fleet.number('done') > 0 ? 0 : 1;
}

/** Says what a run that costs money may cost, and waits for a moment. */
async function mayStart(
  { ledger, params }: Model,
  { concurrency, maxTurns }: AuditOptions,
  agents: number,
  signal: AbortSignal,
): Promise<boolean> {
  if (ledger === undefined) return true;
  say(describeSpending({ ledger, maxTokens: params.max_tokens, agents, concurrency, maxTurns }));
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
