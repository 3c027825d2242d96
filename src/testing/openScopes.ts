import { ambient } from '../core/ambient.js';
import type { ScopeNode } from '../core/node.js';
import type { ScopeTree } from '../core/types.js';

const open = new Set<ScopeNode>();

ambient.registry = { opened: (node) => void open.add(node), closed: (node) => void open.delete(node) };

/** What is open now, from the root scopes down: everything that started after this module was imported. */
export function openScopes(): readonly ScopeTree[] {
  return [...open].map((node) => node.dump());
}

/** Throws with a drawing of every scope that is still open. */
export function expectNoOpenScopes(): void {
  const trees = openScopes();
  if (trees.length === 0) return;
  throw new Error(
    `${trees.length} scope${trees.length === 1 ? ' is' : 's are'} still open:\n${trees.map((tree) => draw(tree, '  ')).join('\n')}`,
  );
}

function draw(tree: ScopeTree, indent: string): string {
  const head = `${indent}${tree.label} (${tree.state}${tree.waiting > 0 ? `, ${tree.waiting} waiting` : ''})`;
  const calls = tree.calls.map((call) => `${indent}  - ${call.label} ${call.state} for ${call.ageMs} ms`);
  return [head, ...calls, ...tree.scopes.map((scope) => draw(scope, `${indent}  `))].join('\n');
}
