import { captureContext } from '#context';
import type { ScopeNode } from './node.js';
import { Ring } from './ring.js';

/**
 * The one piece of module state: which scope the code that runs right now belongs to, how deep our own calls are nested,
 * and what was put off to keep the stack short. Everything here is restored before the outermost call returns.
 */
interface Ambient {
  scope: ScopeNode | undefined;
  depth: number;
  deferred: Ring<() => void>;
  /** Installed by `rxfleet/testing`; told of every root scope. */
  registry: { opened(node: ScopeNode): void; closed(node: ScopeNode): void } | undefined;
}

export const ambient: Ambient = { scope: undefined, depth: 0, deferred: new Ring(), registry: undefined };

/** Deeper than this, starts and notifications are put off until the stack has unwound. */
const MAX_DEPTH = 24;

/** Makes `scope` the enclosing one; pass what this returns to `leave`, in a `finally`. */
export function enter(scope: ScopeNode | undefined): ScopeNode | undefined {
  const outer = ambient.scope;
  ambient.scope = scope;
  ambient.depth++;
  return outer;
}

export function leave(outer: ScopeNode | undefined): void {
  ambient.scope = outer;
  if (ambient.depth === 1 && ambient.deferred.length > 0) drain();
  ambient.depth--;
}

/** Whether the next start or notification must be put off with `defer`: once one is, all later ones queue behind it. */
export function tooDeep(): boolean {
  return ambient.depth > MAX_DEPTH || ambient.deferred.length > 0;
}

/** Puts a task off until the outermost call is about to return. It keeps its order, its scope and its async context. */
export function defer(task: () => void): void {
  const binding = captureContext();
  const scope = ambient.scope;
  const scoped = (): void => {
    const outer = ambient.scope;
    ambient.scope = scope;
    try {
      task();
    } finally {
      ambient.scope = outer;
    }
  };
  ambient.deferred.push(binding === undefined ? scoped : () => binding.run(scoped, undefined));
}

function drain(): void {
  for (let task = ambient.deferred.shift(); task !== undefined; task = ambient.deferred.shift()) task();
}
