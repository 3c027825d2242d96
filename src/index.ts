export { fanOutScoped, type FanOutOptions, type FanOutProject } from './operators/fanOutScoped.js';
export { takeWithin, type TakeWithinOptions } from './operators/takeWithin.js';
export { failWithin } from './operators/failWithin.js';
export { scoped } from './operators/scoped.js';
export type { DeadlineEnd } from './operators/deadline.js';
export type { ScopeOptions } from './core/options.js';
export {
  DeadlineExceededError,
  isDeadlineExceededError,
  isScopeCancelledError,
  isScopeError,
  rootReason,
  ScopeCancelledError,
  ScopeError,
} from './core/errors.js';
export type {
  CallFunction,
  CallInfo,
  CallOptions,
  CancelReason,
  LateOutcome,
  Outcome,
  Scope,
  ScopeContext,
  ScopeFailure,
  ScopeReport,
  ScopeState,
  ScopeTree,
} from './core/types.js';
export { admit, admitted, type AdmitOptions } from './operators/admit.js';
export { bulkhead } from './operators/bulkhead.js';
export type { Guard } from './operators/guard.js';
export type { Call, CallEnd, Caller, Gate, Lease, Withdraw } from './gates/gate.js';
export type { GateEvent } from './gates/events.js';
export { Semaphore, type PermitAsk, type SemaphoreOptions, type SemaphoreSnapshot } from './gates/semaphore.js';
export type { AimdOptions } from './gates/aimd.js';
export type { DisposeOptions } from './gates/gateBase.js';
export type { GateOptions } from './gates/checks.js';
export {
  ApprovalDeniedError,
  ApprovalExpiredError,
  BadAskError,
  BudgetExceededError,
  BudgetTrippedError,
  BulkheadFullError,
  CircuitIsolatedError,
  CircuitOpenError,
  CircuitTrippedError,
  CostExceedsCapacityError,
  DepthLimitError,
  GateError,
  isApprovalDeniedError,
  isApprovalExpiredError,
  isBadAskError,
  isBudgetExceededError,
  isBudgetTrippedError,
  isBulkheadFullError,
  isCircuitIsolatedError,
  isCircuitOpenError,
  isCircuitTrippedError,
  isCostExceedsCapacityError,
  isDepthLimitError,
  isGateError,
  isPermitsExceedLimitError,
  isRateLimitQueueFullError,
  isRateLimitWaitError,
  isReentrantAcquireError,
  isResourceDisposedError,
  isRetryAfterTooLongError,
  PermitsExceedLimitError,
  RateLimitQueueFullError,
  RateLimitWaitError,
  ReentrantAcquireError,
  ResourceDisposedError,
  RetryAfterTooLongError,
} from './gates/errors.js';
