import type { Sink } from '../core/direct.js';
import type { ScopeNode } from '../core/node.js';
import type { ScopeOptions } from '../core/options.js';
import { CallScope } from './callScope.js';
import type { TurnPlan } from './turnPlan.js';

/** The scope of one run of a turn or an agent, which hands its gates down. */
export class TurnScope<T> extends CallScope<T> {
  constructor(
    out: Sink<T>,
    options: ScopeOptions,
    readonly plan: TurnPlan,
  ) {
    super(out, options);
  }
}

/** The plan of the innermost turn or agent that a scope is in. */
export function planAround(scope: ScopeNode | undefined): TurnPlan | undefined {
  for (let node = scope; node !== undefined; node = node.up) if (node instanceof TurnScope) return (node as TurnScope<unknown>).plan;
  return undefined;
}
