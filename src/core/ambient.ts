import { captureContext } from '#context';
import type { ScopeNode } from './node.js';
import { Ring } from './ring.js';

/**
 * The one piece of module state: which scope the code that runs right now belongs to, and what keeps the stack short.
 * Everything here is restored before the outermost call returns.
 */
interface Ambient {
  scope: ScopeNode | undefined;
  /** How deep our own frames are nested. */
  depth: number;
  /** Subscriptions that were put off until the stack has unwound. */
  readonly starts: Ring<() => void>;
  /** The depth at which the notification that is on its way out set off, or -1. */
  base: number;
  /** The rest of its way: run where it set off, so that whoever emits sees the effects before it emits again. */
  readonly climb: Ring<() => void>;
  /** Installed by `rxfleet/testing`; told of every root scope. */
  registry: { opened(node: ScopeNode): void; closed(node: ScopeNode): void } | undefined;
}

export const ambient: Ambient = { scope: undefined, depth: 0, starts: new Ring(), base: -1, climb: new Ring(), registry: undefined };

/** How many of our own frames may be nested before the rest is put off. */
const MAX_DEPTH = 24;

/** Makes `scope` the enclosing one; pass what this returns to `leave`, in a `finally`. */
export function enter(scope: ScopeNode | undefined): ScopeNode | undefined {
  const outer = ambient.scope;
  ambient.scope = scope;
  ambient.depth++;
  return outer;
}

export function leave(outer: ScopeNode | undefined): void {
  if (ambient.depth === 1 && ambient.starts.length > 0) drain(ambient.starts);
  ambient.scope = outer;
  ambient.depth--;
}

/** Whether a new subscription must be put off: the stack is deep, or something waits that must not be overtaken. */
export function tooDeep(): boolean {
  return ambient.depth > MAX_DEPTH || ambient.starts.length > 0 || ambient.climb.length > 0;
}

/** Puts a subscription off until the outermost call is about to return. It keeps its order, scope and async context. */
export function defer(start: () => void): void {
  ambient.starts.push(bound(start));
}

/** Notifies a subscriber under `scope`. However many scopes the notification passes on its way out, the stack stays short. */
export function notify<S, A>(scope: ScopeNode | undefined, tell: (to: S, what: A) => void, to: S, what: A): void {
  if (ambient.base >= 0) {
    if (ambient.climb.length > 0 || ambient.depth - ambient.base > MAX_DEPTH)
      ambient.climb.push(bound(() => notifyNow(scope, tell, to, what)));
    else notifyNow(scope, tell, to, what);
    return;
  }
  ambient.base = ambient.depth;
  const outer = enter(scope);
  try {
    tell(to, what);
    if (ambient.climb.length > 0) drain(ambient.climb);
  } finally {
    ambient.base = -1;
    leave(outer);
  }
}

function notifyNow<S, A>(scope: ScopeNode | undefined, tell: (to: S, what: A) => void, to: S, what: A): void {
  const outer = enter(scope);
  try {
    tell(to, what);
  } finally {
    leave(outer);
  }
}

function drain(tasks: Ring<() => void>): void {
  for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) task();
}

function bound(task: () => void): () => void {
  const binding = captureContext();
  const { scope } = ambient;
  const scoped = (): void => {
    const outer = ambient.scope;
    ambient.scope = scope;
    try {
      task();
    } finally {
      ambient.scope = outer;
    }
  };
  return binding === undefined ? scoped : () => binding.run(scoped, undefined);
}
