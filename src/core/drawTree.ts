import type { ScopeTree } from './types.js';

/**
 * A picture of what runs now, as text: one line for each scope and call, with its state and age.
 *
 * ```ts
 * import { drawTree, scoped } from 'rxfleet';
 *
 * scoped((scope) => {
 *   const lookup = scope.call(async () => console.log(drawTree(scope.dump())), { label: 'lookup' });
 *   return lookup;
 * }, { label: 'agent' }).subscribe();
 * ```
 *
 * @param tree - what `scope.dump()` gives
 * @returns lines, joined by line breaks; labels come without control characters
 */
export function drawTree(tree: ScopeTree): string {
  const lines = [head(tree)];
  drawBelow(tree, '', lines);
  return lines.join('\n');
}

function drawBelow({ calls, scopes }: ScopeTree, indent: string, lines: string[]): void {
  const last = calls.length + scopes.length - 1;
  calls.forEach(({ label, state, ageMs }, i) => lines.push(`${indent}${i === last ? '└─' : '├─'} ${plain(label)} (${state}, ${ageMs} ms)`));
  scopes.forEach((scope, i) => {
    const end = calls.length + i === last;
    lines.push(`${indent}${end ? '└─' : '├─'} ${head(scope)}`);
    drawBelow(scope, `${indent}${end ? '  ' : '│ '} `, lines);
  });
}

function head({ label, state, waiting }: ScopeTree): string {
  return `${plain(label)} (${state}${waiting > 0 ? `, ${waiting} waiting` : ''})`;
}

/** Labels may come from a model. */
function plain(label: string): string {
  return label.replace(/\p{Cc}/gu, ' ');
}
