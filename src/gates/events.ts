/** What happens at a gate. `at` is the gate's own scheduler's time in milliseconds. */
export type GateEvent = { readonly gate: string; readonly at: number } &
  /** A call may run; `waitedMs` is how long it stood in the line. */
  (
    | { readonly type: 'admitted'; readonly path: readonly string[]; readonly waitedMs: number }
    /** A call waits; `waiting` counts it. */
    | { readonly type: 'queued'; readonly path: readonly string[]; readonly waiting: number }
    /** A waiting call left the line by itself. */
    | { readonly type: 'withdrawn'; readonly path: readonly string[] }
    | { readonly type: 'refused'; readonly path: readonly string[]; readonly error: Error }
    | { readonly type: 'revoked'; readonly path: readonly string[]; readonly error: Error }
    | { readonly type: 'settled'; readonly path: readonly string[]; readonly end: 'completed' | 'failed' | 'cancelled' }
    /** A breaker or a budget stopped what was in flight; `cancelled` counts the calls, `cause` says why; `path` names the node of a budget. */
    | { readonly type: 'tripped'; readonly path: readonly string[]; readonly cancelled: number; readonly cause: unknown }
    /** A breaker changed its state. */
    | { readonly type: 'state'; readonly from: string; readonly to: string }
    /** A limit comes near or is passed: `fraction` of `limit` is `used`; `path` names the node of a budget. */
    | {
        readonly type: 'alert';
        readonly path: readonly string[];
        readonly fraction: number;
        readonly unit: string;
        readonly used: number;
        readonly limit: number;
      }
    /** A rate limit or a retry gate holds everybody back for `ms`; `waiting` counts who stands in the line now. */
    | { readonly type: 'paused'; readonly ms: number; readonly waiting: number; readonly cause?: unknown }
    | { readonly type: 'resumed' }
    /** A limit was changed while calls ran. */
    | { readonly type: 'limit'; readonly limit: number }
    /** A retry was scheduled, or not allowed: `refused` says by what. */
    | {
        readonly type: 'retry';
        readonly path: readonly string[];
        readonly attempt: number;
        readonly delayMs: number;
        readonly refused?: 'budget' | 'attempts' | 'elapsed' | 'deadline' | 'fatal' | 'value' | 'retry-after';
        readonly error: unknown;
      }
    /** Something to know about the books: usage that was missing, passed its reservation or stays uncertain, a dropped debt. */
    | { readonly type: 'note'; readonly path: readonly string[]; readonly note: string; readonly amount: number; readonly unit: string }
    /** A person is asked, or has answered. */
    | {
        readonly type: 'approval';
        readonly id: string;
        readonly path: readonly string[];
        readonly outcome: 'asked' | 'approved' | 'denied' | 'expired';
      }
    | { readonly type: 'disposed' }
  );

/** An event before its gate and time are filled in. */
export type GateEventBody = GateEvent extends infer Each ? (Each extends GateEvent ? Omit<Each, 'gate' | 'at'> : never) : never;
