import type { Scope, ScopeReport } from 'rxfleet';

/** An `onScope` that keeps the scope: `const group = handle(); fanOutScoped(f, { onScope: group.take })`. */
export function handle(): { readonly scope: Scope; readonly scopes: readonly Scope[]; take: (scope: Scope) => void } {
  const scopes: Scope[] = [];
  return {
    scopes,
    get scope() {
      const scope = scopes.at(-1);
      if (scope === undefined) throw new Error('No scope was handed out yet.');
      return scope;
    },
    take: (scope) => void scopes.push(scope),
  };
}

/** The report of a scope that has closed. */
export function reportOf(scope: Scope): ScopeReport {
  let report: ScopeReport | undefined;
  scope.closed$.subscribe((each) => (report = each)).unsubscribe();
  if (report === undefined) throw new Error('The scope has not closed.');
  return report;
}
