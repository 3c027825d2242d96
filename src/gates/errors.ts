import { brandError, describeError, hasBrand } from '../core/errors.js';
import { wordsOf } from './apiError.js';

const LOCAL = 'GateError';

/**
 * A gate of ours refused or stopped a call. All of these are local: the remote side never failed, so a breaker does not
 * count them, a retry gate does not repeat them, and what had not started is paid back.
 */
export abstract class GateError extends Error {
  abstract readonly code: string;
  /** Name of the gate. */
  readonly gate: string;
  /** What failed while the call was being stopped. */
  declare readonly suppressed?: readonly unknown[];

  constructor(gate: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.gate = gate;
    brandError(this, LOCAL);
  }
}

/** Whether `error` is any GateError of any copy of this package. */
export function isGateError(error: unknown): error is GateError {
  return hasBrand(error, LOCAL);
}

function isCode<E extends GateError>(error: unknown, code: E['code']): error is E {
  return isGateError(error) && error.code === code;
}

function ms(duration: number): string {
  return `${Math.ceil(duration)} ms`;
}

function at(path: readonly string[]): string {
  return path.length === 0 ? 'at the root' : `at ${path.join(' > ')}`;
}

/** The breaker is open: the call was not made. */
export class CircuitOpenError extends GateError {
  override readonly name = 'CircuitOpenError';
  readonly code = 'CIRCUIT_OPEN';
  /** Milliseconds until it lets a probe through. */
  readonly retryAfterMs: number;

  constructor(gate: string, retryAfterMs: number, why: string, cause?: unknown) {
    super(gate, `Circuit breaker "${gate}" is ${why}; it lets a probe through in ${ms(retryAfterMs)}.`, { cause });
    this.retryAfterMs = retryAfterMs;
  }
}

/** The breaker tripped while the call was in flight: it was stopped. */
export class CircuitTrippedError extends GateError {
  override readonly name = 'CircuitTrippedError';
  readonly code = 'CIRCUIT_TRIPPED';

  constructor(gate: string, cause: unknown) {
    super(gate, `Circuit breaker "${gate}" tripped while this call was in flight, so it was stopped: ${wordsOf(cause)}`, { cause });
  }
}

/** Somebody isolated the breaker by hand. */
export class CircuitIsolatedError extends GateError {
  override readonly name = 'CircuitIsolatedError';
  readonly code = 'CIRCUIT_ISOLATED';

  constructor(gate: string, inFlight: boolean) {
    super(gate, `Circuit breaker "${gate}" is isolated by hand${inFlight ? ', so this call was stopped' : ''}.`);
  }
}

/** Too many calls, or too much cost, wait for the bucket. */
export class RateLimitQueueFullError extends GateError {
  override readonly name = 'RateLimitQueueFullError';
  readonly code = 'RATE_LIMIT_QUEUE_FULL';
  readonly retryAfterMs: number;
  /** How many may wait, or how much cost. */
  readonly limit: number;
  readonly waiting: number;

  constructor(gate: string, what: 'calls' | 'cost', limit: number, waiting: number, retryAfterMs: number) {
    const line = what === 'calls' ? `${waiting} calls wait of at most ${limit}` : `a cost of ${waiting} waits of at most ${limit}`;
    super(gate, `The queue of rate limit "${gate}" is full: ${line}; it drains in about ${ms(retryAfterMs)}.`);
    this.limit = limit;
    this.waiting = waiting;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The call would wait, or has waited, longer than the bucket allows. */
export class RateLimitWaitError extends GateError {
  override readonly name = 'RateLimitWaitError';
  readonly code = 'RATE_LIMIT_WAIT';
  /** Milliseconds until the call would have been admitted. */
  readonly retryAfterMs: number;
  readonly maxWaitMs: number;

  constructor(gate: string, maxWaitMs: number, retryAfterMs: number) {
    super(gate, `Rate limit "${gate}" would admit this call in ${ms(retryAfterMs)}; it may wait at most ${ms(maxWaitMs)}.`);
    this.maxWaitMs = maxWaitMs;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The call asks for more than the bucket can ever hold. */
export class CostExceedsCapacityError extends GateError {
  override readonly name = 'CostExceedsCapacityError';
  readonly code = 'COST_EXCEEDS_CAPACITY';
  /** Name of the limit, where there are several. */
  readonly limitName: string;
  readonly cost: number;
  readonly capacity: number;

  constructor(gate: string, limitName: string, cost: number, capacity: number) {
    super(gate, `Rate limit "${gate}" can never admit a cost of ${cost} ${limitName}: its capacity is ${capacity}.`);
    this.limitName = limitName;
    this.cost = cost;
    this.capacity = capacity;
  }
}

/** The bulkhead and its queue are full. */
export class BulkheadFullError extends GateError {
  override readonly name = 'BulkheadFullError';
  readonly code = 'BULKHEAD_FULL';
  readonly limit: number;
  readonly inUse: number;
  readonly maxQueue: number;

  constructor(gate: string, limit: number, inUse: number, maxQueue: number) {
    super(gate, `Semaphore "${gate}" is full: ${inUse} of ${limit} permits are taken and ${maxQueue} calls wait, which is as many as may.`);
    this.limit = limit;
    this.inUse = inUse;
    this.maxQueue = maxQueue;
  }
}

/** The call asks for more permits than there are. */
export class PermitsExceedLimitError extends GateError {
  override readonly name = 'PermitsExceedLimitError';
  readonly code = 'PERMITS_EXCEED_LIMIT';
  readonly permits: number;
  readonly limit: number;

  constructor(gate: string, permits: number, limit: number) {
    super(gate, `Semaphore "${gate}" can never admit ${permits} permits: its limit is ${limit}.`);
    this.permits = permits;
    this.limit = limit;
  }
}

/** A call below a holder asks for the same gate: waiting would be for ever. */
export class ReentrantAcquireError extends GateError {
  override readonly name = 'ReentrantAcquireError';
  readonly code = 'REENTRANT_ACQUIRE';
  /** Labels from the root to the call that asked. */
  readonly path: readonly string[];
  /** Labels from the root to the call above it that holds the gate. */
  readonly holder: readonly string[];

  constructor(gate: string, path: readonly string[], holder: readonly string[]) {
    super(
      gate,
      `"${gate}" is held ${at(holder)} and asked for again below it, ${at(path)}: that would be a deadlock. ` +
        'Permits and locks are for leaf calls.',
    );
    this.path = path;
    this.holder = holder;
  }
}

/** The budget does not allow the call. */
export class BudgetExceededError extends GateError {
  override readonly name = 'BudgetExceededError';
  readonly code = 'BUDGET_EXCEEDED';
  /** The node of the budget that refused. */
  readonly path: readonly string[];
  /** What is counted: micro-dollars, tokens or calls. */
  readonly unit: 'microUsd' | 'tokens' | 'calls';
  readonly limit: number;
  readonly spent: number;
  readonly reserved: number;
  readonly requested: number;

  constructor(
    gate: string,
    path: readonly string[],
    books: {
      readonly unit: 'microUsd' | 'tokens' | 'calls';
      readonly limit: number;
      readonly spent: number;
      readonly reserved: number;
      readonly requested: number;
      /** Calls that wait in front of this one. Default 0. */
      readonly waiting?: number;
    },
  ) {
    const { unit, limit, spent, reserved, requested, waiting = 0 } = books;
    const words = (amount: number): string => (unit === 'microUsd' ? `$${(amount / 1e6).toFixed(6)}` : `${amount} ${unit}`);
    super(
      gate,
      `Budget "${path.join(' > ') || gate}" refuses ${words(requested)}: ` +
        `${words(spent)} spent and ${words(reserved)} reserved of ${words(limit)}${waiting > 0 ? `, and ${waiting} calls wait in front` : ''}.`,
    );
    this.path = path;
    this.unit = unit;
    this.limit = limit;
    this.spent = spent;
    this.reserved = reserved;
    this.requested = requested;
  }
}

/** A budget's node was tripped while the call was in flight: it was stopped. */
export class BudgetTrippedError extends GateError {
  override readonly name = 'BudgetTrippedError';
  readonly code = 'BUDGET_TRIPPED';
  readonly path: readonly string[];

  constructor(gate: string, path: readonly string[], cause: unknown) {
    super(gate, `Budget "${path.join(' > ') || gate}" was tripped, so this call was stopped: ${wordsOf(cause)}`, { cause });
    this.path = path;
  }
}

/** The tree of calls is too deep, too wide or too large. */
export class DepthLimitError extends GateError {
  override readonly name = 'DepthLimitError';
  readonly code = 'DEPTH_LIMIT';
  readonly path: readonly string[];
  /** Which of the limits. */
  readonly limit: 'maxDepth' | 'maxFanOut' | 'maxLive' | 'maxTotal' | 'cycle';
  readonly max: number;

  constructor(gate: string, limit: DepthLimitError['limit'], max: number, path: readonly string[]) {
    const why = {
      maxDepth: `it is deeper than ${max}`,
      maxFanOut: `${max} calls run under the same parent already`,
      maxLive: `${max} calls run in the tree already`,
      maxTotal: `${max} calls were started in the tree already`,
      cycle: 'its label is above it already',
    };
    super(gate, `Depth limit "${gate}" refuses the call ${at(path)}: ${why[limit]}.`);
    this.limit = limit;
    this.max = max;
    this.path = path;
  }
}

/** The server asks for a longer wait than the retry gate allows. */
export class RetryAfterTooLongError extends GateError {
  override readonly name = 'RetryAfterTooLongError';
  readonly code = 'RETRY_AFTER_TOO_LONG';
  readonly retryAfterMs: number;
  readonly maxRetryAfterMs: number;

  constructor(gate: string, retryAfterMs: number, maxRetryAfterMs: number, cause: unknown) {
    super(gate, `The server asks to wait ${ms(retryAfterMs)}; retry gate "${gate}" waits at most ${ms(maxRetryAfterMs)}.`, { cause });
    this.retryAfterMs = retryAfterMs;
    this.maxRetryAfterMs = maxRetryAfterMs;
  }
}

/** A person said no. */
export class ApprovalDeniedError extends GateError {
  override readonly name = 'ApprovalDeniedError';
  readonly code = 'APPROVAL_DENIED';
  readonly id: string;
  readonly reason: string | undefined;

  constructor(gate: string, id: string, reason: string | undefined) {
    super(gate, `Approval "${id}" of "${gate}" was denied${reason === undefined ? '' : `: ${reason}`}.`);
    this.id = id;
    this.reason = reason;
  }
}

/** Nobody decided in time. */
export class ApprovalExpiredError extends GateError {
  override readonly name = 'ApprovalExpiredError';
  readonly code = 'APPROVAL_EXPIRED';
  readonly id: string;
  readonly expiresMs: number;

  constructor(gate: string, id: string, expiresMs: number) {
    super(gate, `Nobody decided on approval "${id}" of "${gate}" within ${ms(expiresMs)}.`);
    this.id = id;
    this.expiresMs = expiresMs;
  }
}

/** The gate was disposed. */
export class ResourceDisposedError extends GateError {
  override readonly name = 'ResourceDisposedError';
  readonly code = 'RESOURCE_DISPOSED';

  constructor(gate: string) {
    super(gate, `Gate "${gate}" has been disposed.`);
  }
}

/** A value that a callback gave for this call cannot be used: only this call fails. */
export class BadAskError extends GateError {
  override readonly name = 'BadAskError';
  readonly code = 'BAD_ASK';

  constructor(gate: string, what: string, range: string, got: unknown) {
    super(gate, `Gate "${gate}": ${what} of this call must be ${range}, got ${describeError(got)}.`);
  }
}

export function isCircuitOpenError(error: unknown): error is CircuitOpenError {
  return isCode(error, 'CIRCUIT_OPEN');
}
export function isCircuitTrippedError(error: unknown): error is CircuitTrippedError {
  return isCode(error, 'CIRCUIT_TRIPPED');
}
export function isCircuitIsolatedError(error: unknown): error is CircuitIsolatedError {
  return isCode(error, 'CIRCUIT_ISOLATED');
}
export function isRateLimitQueueFullError(error: unknown): error is RateLimitQueueFullError {
  return isCode(error, 'RATE_LIMIT_QUEUE_FULL');
}
export function isRateLimitWaitError(error: unknown): error is RateLimitWaitError {
  return isCode(error, 'RATE_LIMIT_WAIT');
}
export function isCostExceedsCapacityError(error: unknown): error is CostExceedsCapacityError {
  return isCode(error, 'COST_EXCEEDS_CAPACITY');
}
export function isBulkheadFullError(error: unknown): error is BulkheadFullError {
  return isCode(error, 'BULKHEAD_FULL');
}
export function isPermitsExceedLimitError(error: unknown): error is PermitsExceedLimitError {
  return isCode(error, 'PERMITS_EXCEED_LIMIT');
}
export function isReentrantAcquireError(error: unknown): error is ReentrantAcquireError {
  return isCode(error, 'REENTRANT_ACQUIRE');
}
export function isBudgetExceededError(error: unknown): error is BudgetExceededError {
  return isCode(error, 'BUDGET_EXCEEDED');
}
export function isBudgetTrippedError(error: unknown): error is BudgetTrippedError {
  return isCode(error, 'BUDGET_TRIPPED');
}
export function isDepthLimitError(error: unknown): error is DepthLimitError {
  return isCode(error, 'DEPTH_LIMIT');
}
export function isRetryAfterTooLongError(error: unknown): error is RetryAfterTooLongError {
  return isCode(error, 'RETRY_AFTER_TOO_LONG');
}
export function isApprovalDeniedError(error: unknown): error is ApprovalDeniedError {
  return isCode(error, 'APPROVAL_DENIED');
}
export function isApprovalExpiredError(error: unknown): error is ApprovalExpiredError {
  return isCode(error, 'APPROVAL_EXPIRED');
}
export function isResourceDisposedError(error: unknown): error is ResourceDisposedError {
  return isCode(error, 'RESOURCE_DISPOSED');
}
export function isBadAskError(error: unknown): error is BadAskError {
  return isCode(error, 'BAD_ASK');
}
