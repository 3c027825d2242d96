import type { Sink } from '../core/direct.js';
import type { ScopeNode } from '../core/node.js';
import type { ScopeOptions } from '../core/options.js';
import { CallScope } from './callScope.js';
import type { Ledger } from './conversation.js';
import type { TurnPlan } from './turnPlan.js';

/** The scope of one run of a turn or an agent, which hands its gates down. */
export class TurnScope<T> extends CallScope<T> {
  /** What it continues. */
  ledger: Ledger | undefined = undefined;

  constructor(
    out: Sink<T>,
    options: ScopeOptions,
    readonly plan: TurnPlan,
  ) {
    super(out, options);
  }
}

/** The innermost turn or agent that a scope is in. */
export function turnAround(scope: ScopeNode | undefined): TurnScope<unknown> | undefined {
  for (let node = scope; node !== undefined; node = node.up) if (node instanceof TurnScope) return node as TurnScope<unknown>;
  return undefined;
}
