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
