import type { ScopeNode } from '../core/node.js';
import type { ToolRules } from './toolGates.js';
import { turnAround } from './turnScope.js';

/** The rules of calls in a scope: who is asked, and what orders them, are those of the turn or agent around it, where they were not given. */
export function rulesWithin(scope: ScopeNode | undefined, given: ToolRules): ToolRules {
  const around = given.approvals !== undefined && given.lock !== undefined ? undefined : turnAround(scope)?.plan.rules;
  if (around === undefined) return given;
  const { approvals = around.approvals, lock = around.lock } = given;
  return { ...given, approvals, lock };
}
