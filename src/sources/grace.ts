import type { ScopeNode } from '../core/node.js';
import type { ScopeContext } from '../core/types.js';

/**
 * The grace of something that has a limit of its own: whoever waits for it needs time to go on when it does not stop, so it gets at most half of
 * what remains of the limits around it after its own. Undefined for that of the scope around it.
 */
export function graceWithin(scope: ScopeContext, graceMs: number | undefined, limitMs: number | undefined): number | undefined {
  const own = graceMs ?? (scope as unknown as ScopeNode).env.graceMs;
  if (limitMs === undefined || own === Infinity) return graceMs;
  const rest = scope.remaining() - limitMs;
  return rest > 0 && rest < Infinity ? Math.min(own, rest / 2) : graceMs;
}
