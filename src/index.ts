export { fanOutScoped, type FanOutOptions, type FanOutProject } from './operators/fanOutScoped.js';
export { takeWithin, type TakeWithinOptions } from './operators/takeWithin.js';
export { failWithin } from './operators/failWithin.js';
export { scoped } from './operators/scoped.js';
export type { DeadlineEnd } from './operators/deadline.js';
export type { ScopeOptions } from './core/options.js';
export { drawTree } from './core/drawTree.js';
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
export { awaitApproval, approved } from './operators/awaitApproval.js';
export { circuitBreak } from './operators/circuitBreak.js';
export { depthLimit, type DepthLimitOptions } from './operators/depthLimit.js';
export { fleetBudget, type FleetBudgetCallOptions } from './operators/fleetBudget.js';
export { guard, type Chosen, type Guard, type GuardAsk, type GuardOptions } from './operators/guard.js';
export { retryThrough, type RetryThroughOptions } from './operators/retryThrough.js';
export { serializeBy } from './operators/serializeBy.js';
export { tokenBucket, type TokenBucketCallOptions } from './operators/tokenBucket.js';
export { tripLog, type TripLogOptions, type TripScope, type TripSource } from './operators/tripLog.js';
export {
  ApprovalGate,
  type ApprovalGateOptions,
  type ApprovalRequest,
  type ApprovalSnapshot,
  type EditableRequest,
  type PendingApproval,
} from './gates/approvalGate.js';
export type { CircuitAsk, CircuitBreakerOptions, CircuitTrip, CircuitWindowOptions } from './gates/breakerOptions.js';
export type { BucketCost } from './gates/bucketCost.js';
export type { Refill } from './gates/bucketLevel.js';
export type { LimitFeedback } from './gates/bucketLimits.js';
export type { BucketFeedback, DrainOptions } from './gates/bucketFeedback.js';
export type { BucketLimitOptions, TokenBucketOptions } from './gates/bucketOptions.js';
export type { BucketLimitSnapshot, TokenBucketSnapshot } from './gates/bucketSnapshot.js';
export type { OnBucketCancel } from './gates/bucketUse.js';
export type { Charged, ChargeRules, Usage, UsageSoFar } from './gates/budgetCharge.js';
export type { BudgetAsk } from './gates/budgetStake.js';
export type { BudgetAmounts, BudgetLimits, ChildLimits } from './gates/budgetLimits.js';
export type { BudgetBooks, BudgetSnapshot } from './gates/budgetPicture.js';
export type { BreakerPhase } from './gates/breakerState.js';
export { CircuitBreaker, type CircuitSnapshot, type Isolation } from './gates/circuitBreaker.js';
export { classifyError, retryAfterOf, type ErrorKind } from './gates/classifyError.js';
export { DepthGate, type DepthAsk, type DepthGateOptions, type DepthSnapshot } from './gates/depthGate.js';
export { BudgetNode, FleetBudget, type BudgetChildOptions, type FleetBudgetOptions } from './gates/fleetBudget.js';
export { KeyedLock, type KeyedLockSnapshot, type KeyUse, type LockKeys } from './gates/keyedLock.js';
export { formatUsd, usd } from './gates/money.js';
export {
  CLAUDE_PRICES,
  CLAUDE_PRICES_DATE,
  costOf,
  isUnknownPriceError,
  priceOf,
  tokenCounts,
  totalTokens,
  UnknownPriceError,
  type MessageUsage,
  type Price,
  type PriceTable,
  type Rates,
  type TokenCounts,
} from './gates/prices.js';
export { RetryGate, type RetrySnapshot } from './gates/retryGate.js';
export type { Jitter } from './gates/backoff.js';
export type { RetryAsk, RetryBudgetOptions, RetryGateOptions } from './gates/retryOptions.js';
export { TokenBucket, type BucketAsk } from './gates/tokenBucket.js';
export type { QuietTripKind, TripKind, TripRecord } from './gates/tripRecord.js';
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
export { fromAsyncIterable, type FromAsyncIterableOptions, type IterableInput } from './sources/fromAsyncIterable.js';
export { fromNative } from './sources/fromNative.js';
export { toNative } from './sources/toNative.js';
export type { NativeObservable, NativeObservableConstructor, NativeObserver, NativeSubscriber } from './sources/nativeObservable.js';
export { fromSse } from './sources/fromSse.js';
export type { SseReconnectOptions } from './sources/sseBackoff.js';
export type { SseResponder } from './sources/sseConnection.js';
export type { FromSseOptions, SseRequestInit } from './sources/sseOptions.js';
export type { ServerSentEvent } from './sources/sseParser.js';
export {
  isSseConnectionError,
  isSseContentTypeError,
  isSseEventTooLargeError,
  isSseStalledError,
  isSseStatusError,
  SseConnectionError,
  SseContentTypeError,
  SseEventTooLargeError,
  SseStalledError,
  SseStatusError,
  type SseErrorInit,
  type SseResponseInit,
} from './sources/sseErrors.js';
