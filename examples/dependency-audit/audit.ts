import { concat, from, ignoreElements, ReplaySubject, tap, type Observable } from 'rxjs';
import { fanOutScoped, type Scope, type ScopeReport } from 'rxfleet';
import { agent, type AnyTool } from 'rxfleet/agents';
import { taskFor } from './auditor.js';
import type { Fleet } from './fleet.js';
import type { Guards } from './guards.js';
import type { Model } from './model.js';
import type { InstalledPackage } from './packages.js';

export interface AuditPlan {
  readonly packages: readonly InstalledPackage[];
  readonly model: Model;
  readonly guards: Guards;
  readonly fleet: Fleet;
  readonly toolsFor: (pkg: InstalledPackage) => readonly AnyTool[];
  readonly concurrency: number;
  readonly maxTurns: number;
  /** How long a cancelled call may take to acknowledge, in milliseconds. */
  readonly graceMs: number;
  /** Cancels the whole fleet when it is aborted. */
  readonly stop: AbortSignal;
  /** Is given the scope of the whole fleet. */
  readonly onScope: (scope: Scope) => void;
}

/**
 * One agent per package, so many at once, all in one scope and behind the same guards: cancelling that scope cancels every request and every call
 * of every agent. Emits the report of the scope once all of it is over.
 */
export function audit({
  packages,
  model,
  guards,
  fleet,
  toolsFor,
  concurrency,
  maxTurns,
  graceMs,
  stop,
  onScope,
}: AuditPlan): Observable<ScopeReport> {
  const { client, params, idleMs } = model;
  const { toolGuard } = guards;
  const report$ = new ReplaySubject<ScopeReport>(1);
  const opened = (scope: Scope): void => {
    onScope(scope);
    scope.closed$.subscribe(report$);
    stop.addEventListener('abort', () => scope.cancel(stop.reason));
  };
  const agents$ = from(packages).pipe(
    fanOutScoped(
      (pkg, index, ctx) =>
        agent({
          ...params,
          name: pkg.name,
          within: ctx,
          client,
          tools: toolsFor(pkg),
          messages: [{ role: 'user', content: taskFor(pkg) }],
          maxTurns,
          maxResultChars: 20_000,
          idleMs,
          modelGuard: guards.modelGuard(`#${index + 1} ${pkg.name}`),
          toolGuard,
        }).pipe(tap({ subscribe: () => fleet.started(index), next: (event) => fleet.take(index, event) })),
      { concurrency, policy: 'settle', label: 'audit', graceMs, onScope: opened },
    ),
    tap((outcome) => fleet.ended(outcome)),
  );
  return concat(agents$.pipe(ignoreElements()), report$);
}
