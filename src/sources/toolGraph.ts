import type { OperatorFunction } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { checkConcurrency, checkScopeOptions, type ScopeOptions } from '../core/options.js';
import { checkGate, checkGuard, checkMilliseconds, checkOneOf, refuse } from './checks.js';
import { definitionOf } from './fromTool.js';
import type { PlannedCall } from './graphPlan.js';
import type { SdkTool } from './fromSdkTool.js';
import { GraphRun, type GraphEvent, type GraphSettings } from './graphRun.js';
import type { AnyTool } from './tool.js';
import type { ToolDefinition } from './toolDefinition.js';
import { checkOrder } from './toolOrder.js';
import type { ToolRules } from './toolGates.js';

export interface ToolGraphOptions extends ScopeOptions, ToolRules {
  /** What the calls may name. */
  readonly tools: AnyTool | SdkTool | readonly (AnyTool | SdkTool)[];
  /** How many calls may run at once. Default 16. */
  readonly concurrency?: number | undefined;
  /**
   * What a call that fails does: with `answer`, what needs it fails as well and the rest goes on; with `failFast` everything is stopped, and the
   * output errors with what the call failed with. Default `answer`.
   */
  readonly policy?: 'answer' | 'failFast' | undefined;
}

const WHO = 'toolGraph';

/**
 * Runs a plan of calls that need each other's outputs: each call as soon as all that it needs is there, the rest at the same time.
 *
 * ```
 * plan      a-b-c----|                   plan      a-b-c----|
 * a         ----1|                       a         ----#              fails
 * b           ----2|                     b           ----2|
 * c                3--|   needs a, b     c                            needs a, b
 * output    s-s-1-2s--3|                 output    s-s-f-2-|          f: a failed, and so did c
 * ```
 *
 * In an input, the text `"$a"` stands for the output of the call `a`, `"$a.hits[0].url"` for a part of it, and `"See ${a.title}."` has it as
 * text; without braces a `$` inside of a text is no reference. `dependsOn` names calls to wait for without using their outputs. A call may come before
 * those that it refers to.
 *
 * *When to use*: for a plan that a model made in one go, also while it is still being written. For calls that do not need each other use `turn`.
 *
 * @example
 * ```ts
 * import { from, lastValueFrom } from 'rxjs';
 * import { z } from 'zod';
 * import { tool, toolGraph, toolGraphResults } from 'rxfleet/agents';
 *
 * const add = tool({ name: 'add', description: 'Adds', input: z.object({ a: z.number(), b: z.number() }), run: async ({ a, b }) => a + b });
 * const plan = [
 *   { id: 'both', name: 'add', input: { a: '$left', b: '$right' } },
 *   { id: 'left', name: 'add', input: { a: 1, b: 2 } },
 *   { id: 'right', name: 'add', input: { a: 3, b: 4 } },
 * ];
 * const [both] = await lastValueFrom(from(plan).pipe(toolGraph({ tools: add }), toolGraphResults()));
 * if (both?.content !== '10') throw new Error('unexpected');
 * ```
 *
 * @param options - `tools`, `concurrency` (default 16), `policy` (default `answer`), `guard`, `timeoutMs`, `approvals` and `lock` (default: those of the
 * turn or agent around), and those of every scope. Throws a TypeError or RangeError for a wrong one
 * @returns an operator that emits the events of `fromTool` with the `index` of the call in the plan. Every call gets exactly one `result`, `failed`
 * or `cancelled`, also when the graph is stopped; the output ends when everything has settled. It errors with what the plan errors with, with
 * `failFast` with what a call failed with, and with ScopeCancelledError or DeadlineExceededError when it is cancelled from above. Unsubscribing cancels all calls
 * @see {@link toolGraphResults} for the answer to the model
 */
export function toolGraph(options: ToolGraphOptions): OperatorFunction<PlannedCall, GraphEvent> {
  const settings = checked(options);
  return (source) => new DirectObservable((sink) => new GraphRun(sink, settings).start(source));
}

function checked(options: ToolGraphOptions): GraphSettings {
  if (typeof options !== 'object' || options === null) refuse(TypeError, WHO, 'options', 'an object', options);
  const { tools, concurrency = 16, policy = 'answer', guard, timeoutMs, approvals, lock, ...scope } = options;
  checkConcurrency(WHO, concurrency);
  checkOneOf(WHO, 'policy', policy, ['answer', 'failFast']);
  checkGuard(WHO, 'guard', guard);
  checkGate(WHO, 'approvals', approvals);
  checkGate(WHO, 'lock', lock);
  if (timeoutMs !== undefined) checkMilliseconds(WHO, 'timeoutMs', timeoutMs);
  checkScopeOptions(WHO, scope);
  return { tools: byName(tools), concurrency, policy, rules: { guard, timeoutMs, approvals, lock }, scope };
}

function byName(tools: ToolGraphOptions['tools']): Map<string, ToolDefinition> {
  const found = new Map<string, ToolDefinition>();
  for (const each of [tools].flat() as readonly unknown[]) {
    const definition = definitionOf(WHO, each);
    const { name } = definition;
    if (found.has(name)) throw new TypeError(`${WHO}: tools must have names of their own, and two are called "${name}".`);
    found.set(name, definition);
  }
  checkOrder(WHO, found, new Set(found.keys()));
  return found;
}
