import type { Agent } from './fleet.js';

/** An agent, and what is drawn in front of its name. */
export interface Row {
  readonly agent: Agent;
  readonly stem: string;
}

/** Agents that are to be seen, each followed by those below it, as `drawTree` draws a scope. */
export function treeOf(agents: readonly Agent[], seen: (agent: Agent) => boolean, indent?: string): Row[] {
  const rows = agents.filter(seen);
  return rows.flatMap((agent, i) => {
    const last = i === rows.length - 1;
    const stem = indent === undefined ? '' : `${indent}${last ? '└─' : '├─'} `;
    return [{ agent, stem }, ...treeOf(agent.below, seen, indent === undefined ? '' : `${indent}${last ? '  ' : '│ '}`)];
  });
}
