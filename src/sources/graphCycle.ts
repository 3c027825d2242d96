import type { PlanNode } from './graphPlan.js';

type Edges = (node: PlanNode) => readonly PlanNode[];

/** Everything that waits and can be reached, one edge at a time. `from` tells by which neighbour. */
function* walk(from: Map<PlanNode, PlanNode>, edges: Edges): Generator<PlanNode> {
  const queue = [...from.keys()];
  for (const node of queue) {
    for (const next of edges(node)) {
      if (next.state === 'waiting' && !from.has(next)) {
        from.set(next, node);
        queue.push(next);
      }
      yield next;
    }
  }
}

function beside(start: PlanNode, nodes: readonly PlanNode[]): Map<PlanNode, PlanNode> {
  return new Map(nodes.filter(({ state }) => state === 'waiting').map((node) => [node, start]));
}

function chain(node: PlanNode, from: ReadonlyMap<PlanNode, PlanNode>, start: PlanNode): PlanNode[] {
  const nodes: PlanNode[] = [];
  for (let at: PlanNode | undefined = node; at !== undefined && at !== start; at = from.get(at)) nodes.push(at);
  return nodes;
}

/**
 * The cycle that `start` closes with what it needs and what already needs it, each needing the next; undefined if there is none.
 * It is looked for from both sides in turn, and the smaller side decides: a chain costs O(n log n) in whatever order it comes.
 */
export function cycleOf(start: PlanNode, needs: readonly PlanNode[]): readonly PlanNode[] | undefined {
  if (needs.includes(start)) return [start];
  if (start.neededBy.length === 0) return undefined;
  const below = beside(start, needs);
  const above = beside(start, start.neededBy);
  const cycle = (at: PlanNode): PlanNode[] => [start, ...chain(at, below, start).reverse(), ...chain(at, above, start).slice(1)];
  for (const node of below.keys()) if (above.has(node)) return cycle(node);
  const down = walk(below, (node) => node.needs);
  const up = walk(above, (node) => node.neededBy);
  for (;;) {
    const under = down.next();
    if (under.done === true) return undefined;
    if (above.has(under.value) && below.has(under.value)) return cycle(under.value);
    const over = up.next();
    if (over.done === true) return undefined;
    if (below.has(over.value) && above.has(over.value)) return cycle(over.value);
  }
}
