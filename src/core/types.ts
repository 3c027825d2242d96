import type { Observable, ObservableInput } from 'rxjs';

/** Why a scope was cancelled. The first reason wins and is never overwritten. */
export type CancelReason =
  | { readonly kind: 'sibling-failed'; readonly index: number; readonly error: unknown }
  | { readonly kind: 'source-error'; readonly error: unknown }
  | { readonly kind: 'deadline'; readonly ms: number; readonly label?: string }
  | { readonly kind: 'race-lost'; readonly winner: number }
  | { readonly kind: 'tripped'; readonly gate: string }
  | { readonly kind: 'unsubscribed' }
  | { readonly kind: 'explicit'; readonly reason?: unknown }
  | { readonly kind: 'signal'; readonly reason: unknown }
  | { readonly kind: 'parent-cancelled'; readonly cause: CancelReason };

/** What became of one child of a fan-out. `index` is the position of its value in the source. */
export type Outcome<R> = { readonly index: number } & (
  | { readonly status: 'fulfilled'; readonly value: R }
  | { readonly status: 'failed'; readonly reason: unknown }
  /** Stopped here and acknowledged; a remote side may still have finished. */
  | { readonly status: 'cancelled' }
  /** Abandoned after the grace: it may still complete, so check before repeating it. */
  | { readonly status: 'unknown' }
  | { readonly status: 'not-started' }
);

/** One call, named. */
export interface CallInfo {
  readonly label: string;
  /** Labels from the root scope down to the call's scope. */
  readonly path: readonly string[];
  /** Index of the fan-out child that made the call, if one did. */
  readonly index?: number;
  /** Milliseconds since the call started. */
  readonly ageMs: number;
}

/** How a call ended after nobody waited for its value any more. */
export type LateOutcome = CallInfo &
  ({ readonly status: 'fulfilled'; readonly value: unknown } | { readonly status: 'failed'; readonly reason: unknown });

/** One failure that was not a cancellation. */
export interface ScopeFailure {
  readonly error: unknown;
  /**
   * Where it came from: `project` (the callback threw), `source` (the outer Observable), `run` (a child or the body),
   * `cleanup` (a teardown, a tracked cleanup, or a call that was already told to stop).
   */
  readonly phase: 'project' | 'source' | 'run' | 'cleanup';
  readonly index?: number;
}

/** What a scope tells when it has closed. `late` may still grow afterwards, when an abandoned call settles after all. */
export interface ScopeReport {
  /** Why it was cancelled; absent when it ended by itself. */
  readonly reason?: CancelReason;
  /** How many children were fulfilled. */
  readonly fulfilled: number;
  /** Children by index: those that were not fulfilled, or all of them with `outcomes: 'all'`. */
  readonly outcomes: readonly Outcome<unknown>[];
  /** Failures in order of occurrence. */
  readonly errors: readonly ScopeFailure[];
  readonly late: readonly LateOutcome[];
  /** Calls that had not settled when the grace ended. */
  readonly abandoned: readonly CallInfo[];
}

export type ScopeState = 'open' | 'closing' | 'cancelling' | 'closed';

/** A picture of what runs now. */
export interface ScopeTree {
  readonly label: string;
  readonly path: readonly string[];
  readonly state: ScopeState;
  readonly reason?: CancelReason;
  /** Values that wait for a free slot. */
  readonly waiting: number;
  readonly calls: readonly {
    readonly label: string;
    readonly state: 'running' | 'cancelling' | 'shielded' | 'cleanup';
    readonly ageMs: number;
  }[];
  readonly scopes: readonly ScopeTree[];
}

export interface CallOptions {
  /** Name in reports and dumps. Default: the function's name, else `call`. */
  readonly label?: string | undefined;
  /** A shielded call is never aborted and is waited for without a grace. Default false. */
  readonly shield?: boolean | undefined;
}

/** What a call gets: the function is given an AbortSignal of its own if it declares a parameter for it. */
export type CallFunction<T> = (signal: AbortSignal) => PromiseLike<T> | ObservableInput<T>;

/** What code that runs inside a scope may do with it. */
export interface ScopeContext {
  /** Aborted with a ScopeCancelledError when the scope is cancelled. Created on first use. */
  readonly signal: AbortSignal;
  /** 0 at the root; counts agents and `child()`, never operators. */
  readonly depth: number;
  /** Labels from the root. */
  readonly path: readonly string[];
  /** A cold Observable of a call that the scope waits for, whatever happens to the subscription in between. */
  call<T>(fn: CallFunction<T>, options?: CallOptions): Observable<T>;
  /** Asynchronous cleanup that the scope waits for; allowed until the scope has closed. */
  track(cleanup: PromiseLike<unknown> | Observable<unknown>, label?: string): void;
  /** Emits the opened resource and completes; `close` runs when the scope ends, last opened first, and is waited for. */
  acquire<R>(open: () => PromiseLike<R>, close: (resource: R) => unknown): Observable<R>;
  /** Milliseconds until the nearest deadline among this scope and its ancestors; Infinity if there is none. */
  remaining(): number;
}

export interface Scope extends ScopeContext {
  /** The owner's quiet end: everything below is cancelled, and the output completes once that is acknowledged. */
  cancel(reason?: unknown): void;
  /** A node of the tree: an agent, a sub-agent. Ends with its parent or by its own `cancel()`; an idle one holds nobody up. */
  child(label: string): Scope;
  /** Moves the deadline to `ms` milliseconds from now; null removes it. */
  setDeadline(ms: number | null): void;
  /** One report, synchronously when the scope closes; replayed to later subscribers. */
  readonly closed$: Observable<ScopeReport>;
  /** The same as a promise, made on first use. Never rejects. */
  readonly closed: Promise<ScopeReport>;
  /** What runs now. */
  dump(): ScopeTree;
}
