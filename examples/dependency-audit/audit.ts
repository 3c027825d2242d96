import { concat, concatMap, filter, from, ignoreElements, map, ReplaySubject, tap, type Observable } from 'rxjs';
import { fanOutScoped, type Scope, type ScopeContext, type ScopeReport } from 'rxfleet';
import { agent, type AgentEvent, type AgentOptions, type AnyTool, type ToolCall } from 'rxfleet/agents';
import type { Approvals } from './approvals.js';
import { taskBelow, taskFor } from './auditor.js';
import { findDependency } from './dependencies.js';
import type { Agent, Fleet } from './fleet.js';
import type { AgentGuard, Guards } from './guards.js';
import type { Model } from './model.js';
import type { InstalledPackage } from './packages.js';
import type { Delegate, ToolPlace } from './tools.js';
import { parseVerdict, type Verdict } from './verdict.js';

export interface AuditPlan {
  readonly packages: readonly InstalledPackage[];
  readonly model: Model;
  readonly guards: Guards;
  readonly approvals: Approvals;
  readonly fleet: Fleet;
  /** The tools of one agent. */
  readonly toolsFor: (place: ToolPlace) => readonly AnyTool[];
  readonly concurrency: number;
  readonly maxTurns: number;
  /** Bounds of the tree of agents below the one of a package, which counts as well. */
  readonly limits: { readonly maxDepth: number; readonly maxFanOut: number; readonly maxTotal: number };
  /** How long a cancelled call may take to acknowledge, in milliseconds. */
  readonly graceMs: number;
  /** Cancels the whole fleet when it is aborted. */
  readonly stop: AbortSignal;
  /** Is given the scope of the whole fleet. */
  readonly onScope: (scope: Scope) => void;
}

/**
 * One agent per package, so many at once, all in one scope and behind the same guards: cancelling that scope cancels every request and every call
 * of every agent. An agent may start others for dependencies that look suspicious. Emits the report of the scope once all of it is over.
 */
export function audit(plan: AuditPlan): Observable<ScopeReport> {
  const { packages, guards, fleet, concurrency, graceMs, stop, onScope, limits } = plan;
  const report$ = new ReplaySubject<ScopeReport>(1);
  const opened = (scope: Scope): void => {
    onScope(scope);
    scope.closed$.subscribe(report$);
    stop.addEventListener('abort', () => scope.cancel(stop.reason));
  };
  const known = new Set(packages.map(({ root }) => root));
  const agents$ = from(packages).pipe(
    fanOutScoped(
      (pkg, index, within) => {
        const guard = guards.forAgent(`#${index + 1} ${pkg.name}`);
        return auditor(plan, { record: fleet.agent(index), task: taskFor(pkg), within, guard, known, limits });
      },
      { concurrency, policy: 'settle', label: 'audit', graceMs, onScope: opened },
    ),
    tap((outcome) => fleet.ended(outcome)),
  );
  return concat(agents$.pipe(ignoreElements()), report$);
}

/** One agent in its place. */
interface Place {
  readonly record: Agent;
  readonly task: string;
  readonly within: ScopeContext;
  readonly guard: AgentGuard;
  /** The folders of packages that have agents already: those of the fleet, and those above. */
  readonly known: ReadonlySet<string>;
  /** Of the tree below; agents in the tree inherit them. */
  readonly limits?: AgentOptions['limits'];
}

function auditor(plan: AuditPlan, place: Place): Observable<AgentEvent> {
  const { model, guards, approvals, fleet, toolsFor, maxTurns } = plan;
  const { record, task, within, guard, known, limits } = place;
  const delegate: Delegate = (name, signs, call) => auditBelow(plan, place, { name, signs, call });
  return agent({
    ...model.params,
    name: record.pkg.name,
    within,
    limits,
    client: model.client,
    tools: toolsFor({
      pkg: record.pkg,
      known,
      delegate: plan.limits.maxDepth === 0 ? undefined : delegate,
      files: record.above === undefined,
    }),
    messages: [{ role: 'user', content: task }],
    maxTurns,
    maxResultChars: 20_000,
    idleMs: model.idleMs,
    modelGuard: guard.modelGuard,
    toolGuard: guards.toolGuard,
    approvals: approvals.gate,
    onScope: ({ path }) => fleet.started(record, path),
  }).pipe(tap((event) => fleet.take(record, event)));
}

interface Delegation {
  readonly name: string;
  readonly signs: readonly string[];
  readonly call: ToolCall;
}

/** An agent inside of a tool of another: it lives in the scope of that call, spends from the budget of the agent above, and counts in its tree. */
function auditBelow(plan: AuditPlan, { record: above, guard, known }: Place, { name, signs, call }: Delegation): Observable<Verdict> {
  const { fleet, guards } = plan;
  const run = (pkg: InstalledPackage): Observable<AgentEvent> => {
    const record = fleet.below(above, pkg);
    const own = guards.forAgent(`#${above.below.length} ${pkg.name}`, guard.budget);
    const task = taskBelow(pkg, above.pkg, signs);
    return auditor(plan, { record, task, within: call.scope, guard: own, known: new Set([...known, pkg.root]) }).pipe(
      tap({
        complete: () => fleet.endedBelow(record, 'done'),
        error: (error: unknown) => fleet.failedBelow(record, error),
        unsubscribe: () => fleet.endedBelow(record, 'cancelled'),
      }),
    );
  };
  return from(findDependency(above.pkg, name, known)).pipe(
    concatMap(run),
    filter((event) => event.type === 'done'),
    map(({ text }) => parseVerdict(text) ?? fail(`The agent for "${name}" ended without a verdict.`)),
  );
}

function fail(message: string): never {
  throw new Error(message);
}
