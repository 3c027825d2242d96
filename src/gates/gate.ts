import type { ScopeContext } from '../core/types.js';

/**
 * Whatever may hold a call back. A gate admits calls: it may make one wait, refuse it, or take its permission back. Write
 * one and `admit` makes an operator of it.
 */
export interface Gate<Ask, Grant = void, Use = never> {
  /** Name in errors, events and cancel reasons. */
  readonly name: string;
  /**
   * A call asks to pass. The gate answers once, at once if there is room: `granted` or `refused`. What it returns takes a
   * waiting caller out of the line, and does nothing once it was answered. What it throws refuses this call.
   */
  enter(ask: Ask, call: Call, caller: Caller<Grant, Use>): Withdraw;
  /** Is told of what `enter` threw, or the function that says what a call asks: the call is refused with it. */
  threw?(error: Error, call: Call): void;
}

/** Takes a waiting caller out of the line. */
export type Withdraw = () => void;

/** How a gate answers. After a withdrawal nothing more may be called. */
export interface Caller<Grant = void, Use = never> {
  /** Go: the call may start now. `grant` is what the gate adds to it, such as an edited input. */
  granted(lease: Lease<Use>, grant: Grant): void;
  /** Never: the call ends with this error, and its source is not subscribed. */
  refused(error: Error): void;
  /**
   * Stop, after `granted`: the call is cancelled in its scope and ends with this error once that is acknowledged. With
   * `tell` it is only torn down, and what tells it is put there: so that of many calls all are stopped before any hears.
   */
  revoked(error: Error, tell?: (() => void)[]): void;
}

/** What every gate in front of one call knows of it. */
export interface Call {
  /** The call's own node in the scope tree: its path, its depth, the time that remains. */
  readonly scope: ScopeContext;
  /** Which attempt this is: 1 until the source has been subscribed once. */
  readonly attempt: number;
  /** Whether the innermost gate has granted it in this attempt, so that the source was subscribed. */
  readonly started: boolean;
  /** The path of the enclosing call that holds a lease of `gate`, if there is one. */
  heldAbove(gate: { readonly name: string }): readonly string[] | undefined;
}

/** One admission, from its grant until nothing of the call runs any more. */
export interface Lease<Use = never> {
  /** The work begins: the innermost gate has granted. Clocks start here, for waiting in an inner queue is not running. */
  begin?(): void;
  /** What the call has used so far: running totals, never added up. */
  report?(usage: Use): void;
  /**
   * The call has ended as far as its subscriber is concerned; called exactly once. A function that is returned enters the
   * gate once more instead of telling downstream; it answers the same caller, and is ignored after a cancel.
   */
  settle(end: CallEnd): (() => Withdraw) | void;
  /** Nothing of the call runs any more, or it was abandoned: what it holds is free. Called once, after `settle`. */
  release?(): void;
  /** Downstream has been told of a completion or an error: the next may come in. Not called after a cancel. */
  pump?(): void;
}

/** How a call ended. */
export interface CallEnd {
  /** `cancelled` is neither the source's doing nor this gate's: unsubscribed, swept with its scope, or revoked. */
  readonly kind: 'completed' | 'failed' | 'cancelled';
  /** Whether the source was subscribed, and did not say that its work has not begun. */
  readonly started: boolean;
  /** Values that were forwarded. */
  readonly emitted: number;
  /** The last of them. */
  readonly last?: unknown;
  readonly error?: unknown;
  /** Whether a call that was cancelled had done all that it was to do, so that what it reported is what it has used. */
  readonly done?: boolean;
}

/** A withdrawal with nothing to take back. */
export const nothing: Withdraw = () => undefined;
