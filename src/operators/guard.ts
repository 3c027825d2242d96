import type { MonoTypeOperatorFunction, Observable } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { checkFunction } from '../core/options.js';
import type { ScopeContext } from '../core/types.js';
import type { ApprovalGate, ApprovalRequest } from '../gates/approvalGate.js';
import type { BucketCost } from '../gates/bucketCost.js';
import type { Charged, ChargeRules, Usage } from '../gates/budgetCharge.js';
import { refuse } from '../gates/checks.js';
import type { CircuitBreaker } from '../gates/circuitBreaker.js';
import type { DepthGate } from '../gates/depthGate.js';
import { BadAskError } from '../gates/errors.js';
import type { BudgetNode } from '../gates/fleetBudget.js';
import type { KeyedLock } from '../gates/keyedLock.js';
import type { RetryGate } from '../gates/retryGate.js';
import type { Semaphore } from '../gates/semaphore.js';
import type { TokenBucket } from '../gates/tokenBucket.js';
import { behind, isGate, type GuardedObservable } from './admit.js';
import { awaitApproval } from './awaitApproval.js';
import { bulkhead } from './bulkhead.js';
import { circuitBreak } from './circuitBreak.js';
import { depthLimit } from './depthLimit.js';
import { failWithin } from './failWithin.js';
import { fleetBudget } from './fleetBudget.js';
import { retryThrough } from './retryThrough.js';
import { serializeBy } from './serializeBy.js';
import { tokenBucket } from './tokenBucket.js';
import { WorkObservable } from './work.js';

/** Puts gates in front of the call that `req` describes. `ctx` is its enclosing scope where that is not seen by itself. */
export type Guard<Req> = <T>(req: Req, ctx?: ScopeContext) => MonoTypeOperatorFunction<T>;

/** A gate for all calls, or one for each: undefined lets the call pass. */
export type Chosen<G, Req> = G | ((req: Req) => G | undefined);

/** What one call asks of the gates in front of it. */
export interface GuardAsk extends ChargeRules {
  /** Of the bucket. */
  readonly cost?: BucketCost | undefined;
  /** Of the budget: the most that it can cost. Has to be given where there is a budget. */
  readonly estimate?: number | Usage | undefined;
  /** Of the budget: a call that was completed with this id is not charged again. */
  readonly chargeId?: string | undefined;
  /** What becomes of a call for which the budget has no room now: it errors, or waits until there is. Default 'error'. */
  readonly onExceed?: 'error' | 'wait' | undefined;
  /** Of the semaphore. Default 1. */
  readonly permits?: number | undefined;
  /** Callers of different keys take turns at the semaphore and the bucket. */
  readonly key?: string | undefined;
  /** Higher goes first at the semaphore and the bucket. Default 0. */
  readonly priority?: number | undefined;
  /** Of the lock. */
  readonly reads?: readonly string[] | undefined;
  readonly writes?: readonly string[] | undefined;
  /** Of a person; undefined if nobody needs to be asked. */
  readonly approval?: ApprovalRequest | undefined;
  /** What the call has used so far, read from a value: running totals, or undefined if the value does not tell. */
  readonly used?:
    ((value: unknown) => { readonly cost?: BucketCost | undefined; readonly charged?: Charged | undefined } | undefined) | undefined;
}

/** The gates of a guard, outermost first. */
export interface GuardOptions<Req> {
  readonly depth?: Chosen<DepthGate, Req> | undefined;
  readonly approval?: Chosen<ApprovalGate, Req> | undefined;
  readonly retry?: Chosen<RetryGate, Req> | undefined;
  readonly breaker?: Chosen<CircuitBreaker, Req> | undefined;
  readonly budget?: Chosen<BudgetNode, Req> | undefined;
  readonly lock?: Chosen<KeyedLock, Req> | undefined;
  readonly semaphore?: Chosen<Semaphore, Req> | undefined;
  readonly bucket?: Chosen<TokenBucket, Req> | undefined;
  /** Milliseconds that an attempt may take once it has started. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  /** What a call asks of them. Called once for each subscription; what it throws fails that call. */
  readonly ask?: ((req: Req) => GuardAsk) | undefined;
}

const WHO = 'guard';
const GATES = ['depth', 'approval', 'retry', 'breaker', 'budget', 'lock', 'semaphore', 'bucket'] as const;

/**
 * Puts several gates in front of a call, each in its place: nobody has to remember the order.
 *
 * ```
 * depth -> approval -> retry -> breaker -> budget -> lock -> semaphore -> bucket -> time limit -> call
 * ```
 *
 * So a call that is too deep asks nobody; a person is asked once, not for each attempt; every attempt passes breaker, budget
 * and limits; an open breaker reserves nothing; and waiting for permits and tokens is not taken for slowness.
 *
 * Use it as the `modelGuard` or `toolGuard` of an agent, or on any call in a `pipe()`.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { guard, Semaphore, TokenBucket } from 'rxfleet';
 *
 * const polite = guard<{ readonly host: string }>({
 *   semaphore: new Semaphore({ limit: 4 }),
 *   bucket: new TokenBucket({ capacity: 10, refill: { tokens: 10, everyMs: 1_000 } }),
 *   timeoutMs: 5_000,
 *   ask: ({ host }) => ({ key: host }),
 * });
 * of('page').pipe(polite({ host: 'example.org' })).subscribe((page) => console.log(page));
 * ```
 *
 * @param options - the gates, each one for all calls or a function that picks one for a call; `timeoutMs`; and `ask`, which
 * tells what a call asks of them. TypeError for what is not a gate
 * @returns a function of a request and optionally its scope that returns an operator; that errors with the error of the gate
 * that refused or stopped the call, with DeadlineExceededError after `timeoutMs`, or with the call's own. Unsubscribing leaves
 * whichever line the call waits in, or stops it
 * @see admit for a gate of your own
 */
export function guard<Req = void>(options: GuardOptions<Req>): Guard<Req> {
  checkOptions(options);
  return (req, ctx) => (source) =>
    new DirectObservable((sink) => {
      const stack = assemble(options, req, ctx, source);
      stack.begin(sink);
    });
}

function checkOptions(options: GuardOptions<never>): void {
  if (typeof options !== 'object' || options === null) refuse(TypeError, WHO, 'options', 'an object', options);
  for (const name of GATES) {
    const gate: unknown = options[name];
    if (gate !== undefined && typeof gate !== 'function' && !isGate(gate))
      refuse(TypeError, WHO, name, 'a gate, or a function that picks one', gate);
  }
  if (options.ask !== undefined) checkFunction(WHO, 'ask', options.ask);
  if (options.timeoutMs !== undefined) failWithin(options.timeoutMs);
}

/** The gate for one call. */
export function pick<G, Req>(chosen: Chosen<G, Req> | undefined, req: Req): G | undefined {
  return typeof chosen === 'function' ? (chosen as (req: Req) => G | undefined)(req) : chosen;
}

/** The call behind its gates, from the inside out. */
function assemble<T, Req>(
  options: GuardOptions<Req>,
  req: Req,
  ctx: ScopeContext | undefined,
  source: Observable<T>,
): GuardedObservable<T> {
  const asked = options.ask?.(req) ?? {};
  const { cost, priority, key, permits, reads, writes, approval, chargeId, onExceed, onCancel, chargeOnError } = asked;
  const used = lastAnswer(asked.used);
  const { timeoutMs } = options;
  const add = <G>(gate: G | undefined, operator: (gate: G) => MonoTypeOperatorFunction<T>): void => {
    if (gate !== undefined) call = operator(gate)(call);
  };
  const limited = timeoutMs === undefined ? source : source.pipe(failWithin(timeoutMs));
  let call = behind(limited, undefined, ctx === undefined ? {} : { within: ctx }, source instanceof WorkObservable);
  add(pick(options.bucket, req), (bucket) =>
    tokenBucket(bucket, { cost: cost === undefined ? undefined : () => cost, priority, key, settle: (value) => used(value)?.cost }),
  );
  add(pick(options.semaphore, req), (semaphore) => bulkhead(semaphore, () => ({ permits, priority, key })));
  if (reads !== undefined || writes !== undefined) add(pick(options.lock, req), (lock) => serializeBy(lock, () => ({ reads, writes })));
  add(pick(options.budget, req), (budget) =>
    fleetBudget(budget, {
      estimate: () => asked.estimate ?? missing(budget.name),
      chargeId,
      onExceed,
      onCancel,
      chargeOnError,
      actual: (value) => used(value)?.charged,
    }),
  );
  add(pick(options.breaker, req), (breaker) => circuitBreak(breaker));
  add(pick(options.retry, req), (gate) => retryThrough(gate));
  if (approval !== undefined) add(pick(options.approval, req), (gate) => awaitApproval(gate, approval));
  add(pick(options.depth, req), (gate) => depthLimit(gate, ctx));
  return call as GuardedObservable<T>;
}

function missing(budget: string): never {
  throw new BadAskError(budget, 'the estimate', 'given by the `ask` of the guard', undefined);
}

/** Bucket and budget ask about the same value. */
function lastAnswer<A>(read: ((value: unknown) => A | undefined) | undefined): (value: unknown) => A | undefined {
  let last: { readonly value: unknown; readonly answer: A | undefined } | undefined;
  return (value) => {
    if (read === undefined) return undefined;
    if (last === undefined || last.value !== value) last = { value, answer: read(value) };
    return last.answer;
  };
}
