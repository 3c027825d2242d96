import { describeError } from '../core/errors.js';
import { shown } from './checks.js';
import { cycleOf } from './graphCycle.js';
import { DependencyCycleError, DependencyFailedError, DuplicateCallError, InvalidCallError, UnknownReferenceError } from './graphErrors.js';
import { referencesIn, substitute, type Reference } from './graphReferences.js';

/** A call of a plan. Numbers that a model gives as `id`, `ref` or in `dependsOn` are taken for texts. */
export interface PlannedCall {
  /** What its events and its answer carry. */
  readonly id: string;
  /** Of the tool. */
  readonly name: string;
  /** May refer to the outputs of other calls. */
  readonly input: unknown;
  /** Calls that it waits for besides those it refers to. */
  readonly dependsOn?: readonly string[] | undefined;
  /** What other calls refer to it by. Default: its id. */
  readonly ref?: string | undefined;
}

/** A call and where it stands. */
export class PlanNode {
  /** `expected`: others need it and it has not come. `ready`: all that it needs is there. */
  state: 'expected' | 'waiting' | 'ready' | 'done' | 'failed' = 'expected';
  /** Position in the plan. */
  index = -1;
  call: PlannedCall | undefined = undefined;
  references: readonly Reference[] = [];
  /** Whether its input is to be taken as it is. */
  literal = true;
  needs: readonly PlanNode[] = [];
  readonly neededBy: PlanNode[] = [];
  /** How many of those that it needs have no result yet. */
  missing = 0;
  output: unknown = undefined;
  /** What it ended with instead of a result, and the call in which that began. */
  failure: { readonly error: unknown; readonly root: PlanNode } | undefined = undefined;

  constructor(readonly key: string) {}
}

/** What a change of a plan led to. */
export interface PlanStep {
  /** Never ran and never will, in the order in which that was found out. */
  readonly failed: readonly PlanNode[];
  readonly ready: readonly PlanNode[];
}

/** What needs what, and what can run now: a state machine that knows neither tools nor time. No change costs more than what it reaches. */
export class GraphPlan {
  private readonly nodes = new Map<string, PlanNode>();
  private readonly ids = new Set<string>();
  private count = 0;

  /** Something has come; what is no call fails at once. `refuse` may have an error for a call that is one. */
  add(value: unknown, refuse: (call: PlannedCall) => unknown = () => undefined): { readonly node: PlanNode; readonly step: PlanStep } {
    const given = fieldsOf(value);
    const problem = problemOf(given);
    const call = problem === undefined ? (given as PlannedCall) : standIn(given);
    const { id, ref: key = id } = call;
    const again = this.ids.has(id) ? id : this.has(key) ? key : undefined;
    const fits = again === undefined && key !== '';
    const node = fits ? this.node(key) : new PlanNode(key);
    node.call = call;
    node.index = this.count++;
    if (fits && id !== '') this.ids.add(id);
    const error = problem === undefined ? undefined : new InvalidCallError(key, problem);
    const refused = error ?? (again === undefined ? refuse(call) : new DuplicateCallError(again));
    return { node, step: refused === undefined ? this.enter(node, call) : this.fail(node, refused) };
  }

  /** No more calls will come. */
  close(): PlanStep {
    const nodes = [...this.nodes.values()];
    const known = nodes.filter(({ state }) => state !== 'expected').map(({ key }) => key);
    const failed: PlanNode[] = [];
    for (const absent of nodes) {
      if (absent.state !== 'expected') continue;
      for (const node of absent.neededBy) {
        const written = node.references.find(({ id }) => id === absent.key)?.text ?? absent.key;
        if (node.state === 'waiting') fail(node, new UnknownReferenceError(node.key, written, 'call', known), node, failed);
      }
    }
    return spread(failed);
  }

  /** A call has its result. */
  resolve(node: PlanNode, output: unknown): PlanStep {
    node.state = 'done';
    node.output = output;
    const ready = node.neededBy.filter((each) => each.state === 'waiting' && --each.missing === 0);
    for (const each of ready) each.state = 'ready';
    return { failed: [], ready };
  }

  /** A call has ended without a result: it comes first among the failed, and then all that needs it. */
  fail(node: PlanNode, error: unknown): PlanStep {
    const failed: PlanNode[] = [];
    fail(node, error, node, failed);
    return spread(failed);
  }

  /** What a call that is ready is to be made with. Throws when an output does not have what the call refers to. */
  inputOf({ key, call, literal }: PlanNode): unknown {
    return literal ? call?.input : substitute(key, call?.input, (id) => this.nodes.get(id)?.output);
  }

  private has(key: string): boolean {
    return (this.nodes.get(key)?.state ?? 'expected') !== 'expected';
  }

  private node(key: string): PlanNode {
    let node = this.nodes.get(key);
    if (node === undefined) this.nodes.set(key, (node = new PlanNode(key)));
    return node;
  }

  private enter(node: PlanNode, { input, dependsOn = [] }: PlannedCall): PlanStep {
    try {
      Object.assign(node, referencesIn(input));
    } catch (error) {
      return this.fail(node, new InvalidCallError(node.key, describeError(error)));
    }
    const keys = new Set([...node.references.map(({ id }) => id), ...dependsOn]);
    const needs = [...keys].map((key) => this.node(key));
    const cycle = cycleOf(node, needs);
    if (cycle !== undefined) return inCycle(cycle);
    node.state = 'waiting';
    const lost = needs.find(({ state }) => state === 'failed');
    if (lost !== undefined) return this.fail(node, dependencyError(node, lost));
    return link(node, needs);
  }
}

function link(node: PlanNode, needs: readonly PlanNode[]): PlanStep {
  node.needs = needs.filter(({ state }) => state !== 'done');
  node.missing = node.needs.length;
  for (const needed of node.needs) needed.neededBy.push(node);
  if (node.missing > 0) return { failed: [], ready: [] };
  node.state = 'ready';
  return { failed: [], ready: [node] };
}

function inCycle(cycle: readonly PlanNode[]): PlanStep {
  const keys = [...cycle, ...cycle.slice(0, 1)].map(({ key }) => key);
  const failed: PlanNode[] = [];
  for (const node of cycle) fail(node, new DependencyCycleError(node.key, keys), node, failed);
  return spread(failed);
}

function fail(node: PlanNode, error: unknown, root: PlanNode, failed: PlanNode[]): void {
  node.state = 'failed';
  node.failure = { error, root };
  failed.push(node);
}

/** Fails all that needs what has failed: the list grows while it is gone through. */
function spread(failed: PlanNode[]): PlanStep {
  for (const node of failed) {
    const root = node.failure?.root ?? node;
    for (const each of node.neededBy) if (each.state === 'waiting') fail(each, dependencyError(each, node), root, failed);
  }
  return { failed, ready: [] };
}

function dependencyError({ key }: PlanNode, needed: PlanNode): DependencyFailedError {
  const root = needed.failure?.root ?? needed;
  return new DependencyFailedError(key, needed.key, root.key, root.failure?.error);
}

type Given = { readonly [K in keyof PlannedCall]?: unknown };

function fieldsOf(value: unknown): Given {
  const { id, name, input, dependsOn, ref } = (value ?? {}) as Given;
  return { id: keyOf(id), name, input, dependsOn: Array.isArray(dependsOn) ? dependsOn.map(keyOf) : dependsOn, ref: keyOf(ref) };
}

function keyOf(given: unknown): unknown {
  return typeof given === 'number' && Number.isFinite(given) ? String(given) : given;
}

/** Why it is no call. */
function problemOf({ id, name, dependsOn = [], ref = '_' }: Given): string | undefined {
  if (!isKey(id)) return `its id must be a string that is not empty, got ${shown(id)}`;
  if (typeof name !== 'string') return `its name must be a string, got ${shown(name)}`;
  if (!isKey(ref)) return `its ref must be a string that is not empty, got ${shown(ref)}`;
  if (!Array.isArray(dependsOn) || !dependsOn.every((each) => typeof each === 'string')) return 'its dependsOn must be an array of strings';
  return undefined;
}

function isKey(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** Something to answer to, and for others to refer to. */
function standIn({ id, name, ref }: Given): PlannedCall {
  const call = { id: isKey(id) ? id : '', name: typeof name === 'string' ? name : '', input: undefined };
  return isKey(ref) ? { ...call, ref } : call;
}
