import { concat, from, ignoreElements, ReplaySubject, tap, type Observable } from 'rxjs';
import { fanOutScoped, type Scope, type ScopeReport } from 'rxfleet';
import { agent, type AnyTool } from 'rxfleet/agents';
import { taskFor } from './auditor.js';
import type { Fleet } from './fleet.js';
import { guarded, metered, type Model } from './model.js';
import type { InstalledPackage } from './packages.js';

export interface AuditPlan {
  readonly packages: readonly InstalledPackage[];
  readonly model: Model;
  readonly fleet: Fleet;
  readonly toolsFor: (pkg: InstalledPackage) => readonly AnyTool[];
  readonly concurrency: number;
  readonly maxTurns: number;
  /** How long a cancelled call may take to acknowledge, in milliseconds. */
  readonly graceMs: number;
  /** Cancels the whole fleet when it is aborted. */
  readonly stop: AbortSignal;
}

/**
 * One agent per package, so many at once, all in one scope: cancelling that scope cancels every request and every call of every agent.
 * Emits the report of the scope once all of it is over.
 */
export function audit({ packages, model, fleet, toolsFor, concurrency, maxTurns, graceMs, stop }: AuditPlan): Observable<ScopeReport> {
  const { client, params, idleMs, ledger } = model;
  const report$ = new ReplaySubject<ScopeReport>(1);
  const onScope = (scope: Scope): void => {
    scope.closed$.subscribe(report$);
    stop.addEventListener('abort', () => scope.cancel(stop.reason));
  };
  const agents$ = from(packages).pipe(
    fanOutScoped(
      (pkg, index, ctx) => {
        const beforeEach = (request: unknown): void => {
          ledger?.reserve(index, request);
          fleet.requestSent(index);
        };
        return agent({
          ...params,
          name: pkg.name,
          within: ctx,
          client: guarded(client, beforeEach),
          tools: toolsFor(pkg),
          messages: [{ role: 'user', content: taskFor(pkg) }],
          maxTurns,
          maxResultChars: 20_000,
          idleMs,
        }).pipe(metered(ledger, index), tap({ subscribe: () => fleet.started(index), next: (event) => fleet.take(index, event) }));
      },
      { concurrency, policy: 'settle', label: 'audit', graceMs, onScope },
    ),
    tap((outcome) => fleet.ended(outcome)),
  );
  return concat(agents$.pipe(ignoreElements()), report$);
}
