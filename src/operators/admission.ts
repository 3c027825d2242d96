import type { Observable } from 'rxjs';
import { ambient, enter, leave } from '../core/ambient.js';
import { ScopeError } from '../core/errors.js';
import type { Sink } from '../core/direct.js';
import { Cancellation } from '../core/member.js';
import { CANCELLING, OPEN, type ScopeNode } from '../core/node.js';
import type { ScopeOptions } from '../core/options.js';
import { OutputScope } from '../core/output.js';
import type { CancelReason, ScopeContext } from '../core/types.js';
import type { Call, CallEnd, Lease, Withdraw } from '../gates/gate.js';
import { GRANTED, SETTLED, Stage, WAITING, type Stack } from './stage.js';
import type { Work } from './work.js';

/** What the calls share that one trip stops: an error for each signal would cost more than all the rest. */
type Sweep = (() => void)[] & { cancellation?: Cancellation };

/**
 * One call behind a stack of gates, outermost first: it passes them one by one, runs in a scope of its own, and when it has
 * ended they are settled from the inside out, before anybody downstream hears of it.
 */
export class Admission<T> extends OutputScope<T, T> implements Call {
  attempt = 1;
  started = false;
  private readonly stages: Stage[];
  /** How many gates have granted. */
  private passed = 0;
  /** Whether `subscribe` of the source runs right now. */
  private launching = false;
  /** Whether its work is known to have begun. Until then a guarded call below may show that it merely waits with that one. */
  private sure = false;
  /** Whether a guarded call below was made while this one is launched, and whether one ended without having started. */
  private asked = false;
  private missed = false;
  /** Stopped, and waits for nothing but to be told. */
  private held = false;
  /** Whether `settle` runs, and how many gates are to be pumped when it has. */
  private unwinding = false;
  private unpumped = 0;
  /** The gates are being told of the end. */
  private settling = false;
  private last: T | undefined = undefined;
  private source: (() => Observable<T>) | undefined = undefined;
  /** All that runs behind the gates, once it runs, where that tells of itself: see `single`. */
  work: Work | undefined = undefined;
  single = false;
  /** How the output ends, if it ends with an error that is not the scope's. */
  private failure: { readonly error: unknown } | undefined = undefined;
  private metered = false;
  /** The guarded call around this one: while this one waits, that has not started either. */
  private readonly outer: Admission<unknown> | undefined;

  constructor(out: Sink<T>, options: ScopeOptions, stack: Stack) {
    super(out, options);
    this.stages = new Array<Stage>(sizeOf(stack));
    let i = 0;
    for (let at: Stack | undefined = stack; at !== undefined; at = at.inner) {
      const { plan, single } = at;
      if (single === true) this.single = true;
      if (plan === undefined) continue;
      this.stages[i++] = new Stage(this.anybody, plan);
      if (plan.usage !== undefined) this.metered = true;
    }
    this.outer = enclosing(this.up);
    for (let node = this.outer; node !== undefined && !node.sure; node = node.outer) {
      node.asked = true;
      node.started = false;
    }
  }

  private get anybody(): Admission<unknown> {
    return this as unknown as Admission<unknown>;
  }

  /** What the innermost gate granted. */
  get grant(): unknown {
    return this.stages[this.stages.length - 1]?.grant;
  }

  get scope(): ScopeContext {
    return this;
  }

  heldAbove(gate: { readonly name: string }): readonly string[] | undefined {
    for (let node: Admission<unknown> | undefined = this.anybody; node !== undefined; node = node.outer)
      if (node.holds(gate)) return node.path;
    return undefined;
  }

  private holds(gate: unknown): boolean {
    for (const { phase, plan } of this.stages) if (plan.gate === gate && (phase === GRANTED || phase === SETTLED)) return true;
    return false;
  }

  // Passing the gates

  protected override startBody(source: () => Observable<T>): void {
    this.source = source;
    this.advance(undefined);
  }

  private advance(again: (() => Withdraw) | undefined): void {
    let entry = again;
    for (let stage = this.stages[this.passed]; stage !== undefined; stage = this.stages[this.passed]) {
      stage.enter(entry);
      entry = undefined;
      if (stage.phase !== GRANTED || this.state >= CANCELLING) return;
      this.passed++;
    }
    this.launch();
  }

  /** A gate granted later: go on in the async context of whoever subscribed. */
  resume(): void {
    this.passed++;
    this.inContext(() => {
      const outer = enter(this);
      this.opening = true;
      try {
        this.advance(undefined);
      } finally {
        this.opening = false;
        leave(outer);
        this.settle();
      }
    });
  }

  private inContext(task: () => void): void {
    if (this.binding === undefined) task();
    else this.binding.run(task, undefined);
  }

  private launch(): void {
    this.begun();
    if (this.state >= CANCELLING) return;
    this.launching = true;
    this.asked = this.missed = false;
    try {
      this.subscribe(this.source as () => Observable<T>);
    } finally {
      this.launching = false;
      if (!this.asked || (this.missed && this.state === OPEN)) this.beSure();
    }
  }

  private begun(): void {
    for (let node: Admission<unknown> | undefined = this.anybody; node !== undefined && !node.started; node = node.outer) {
      node.started = true;
      for (const stage of node.stages) stage.begin();
    }
  }

  private beSure(): void {
    this.begun();
    for (let node: Admission<unknown> | undefined = this.anybody; node !== undefined && !node.sure; node = node.outer) node.sure = true;
  }

  /** The next may come in when everybody further out has been told as well. */
  override settle(): void {
    const { unwinding } = this;
    this.unwinding = true;
    try {
      super.settle();
    } finally {
      this.unwinding = unwinding;
      if (!unwinding && this.unpumped > 0) this.pumpFrom(0, this.unpumped);
    }
    this.tellOuter();
  }

  /** Where the call around this one goes on although this one has ended without starting, it does work of its own. */
  private tellOuter(): void {
    const { outer } = this;
    if (outer === undefined || this.started || !this.over) return;
    if (outer.launching) outer.missed = true;
    else if (outer.asked && outer.state === OPEN) outer.beSure();
  }

  // While it runs

  next(value: T): void {
    if (this.state >= CANCELLING) return;
    if (!this.sure) this.beSure();
    if (this.metered && !this.meter(value)) return;
    this.last = value;
    this.emit(value);
  }

  /** Whether the call may go on. */
  private meter(value: T): boolean {
    for (const { plan, lease } of this.stages) if (plan.usage !== undefined && !this.charge(plan.usage, lease, value)) return false;
    return true;
  }

  /** What the work tells where it is not passed on, as its subscriber has left. */
  overhears(value: unknown): void {
    for (const { plan, lease } of this.stages) if (plan.usage !== undefined) this.charge(plan.usage, lease, value as T);
  }

  private charge(usage: (value: unknown) => unknown, lease: Lease<unknown> | undefined, value: T): boolean {
    try {
      const used = usage(value);
      if (used !== undefined) lease?.report?.(used);
    } catch (error) {
      this.error(error);
    }
    return this.state < CANCELLING;
  }

  protected override sourceFailed(error: unknown): void {
    this.failed({ error, phase: 'source' });
  }

  /** A gate said no. */
  turnAway(error: unknown): void {
    if (this.state >= CANCELLING) return;
    this.failure = { error };
    this.endSource();
    this.bodyEnded();
  }

  /** A gate takes its permission back. */
  revoke(error: Error, gate: string, tell: (() => void)[] | undefined): void {
    if (this.settling || this.refusal() !== undefined) return;
    this.failure = { error };
    this.live++;
    this.held = true;
    const sweep = tell as Sweep | undefined;
    const cancellation = sweep?.cancellation ?? new Cancellation({ kind: 'tripped', gate });
    if (sweep !== undefined) sweep.cancellation = cancellation;
    this.inContext(() => this.cancelWith(cancellation));
    const done = (): void => {
      this.held = false;
      this.live--;
      this.settle();
      // What was added to the scope while it was held back has a grace as well.
      if (this.cancelled && this.extra?.grace === undefined) this.armGrace(this.env.clock.now(), Infinity);
    };
    if (tell === undefined) done();
    else tell.push(done);
  }

  override armGrace(now: number, outermost: number): number {
    return this.held && this.live === 1 ? outermost : super.armGrace(now, outermost);
  }

  // The end

  protected override stopBody(): void {
    super.stopBody();
    this.stages[this.passed]?.leave();
    if (this.settling || this.cancellation?.reason.kind === 'source-error' || this.work?.finishing) return;
    this.settleCancelled();
  }

  private settleCancelled(): void {
    const end = this.ending('cancelled');
    for (let i = this.passed - 1; i >= 0; i--) this.stages[i]?.settle(end);
  }

  private ending(kind: CallEnd['kind']): CallEnd {
    const { seen, failure, last, work } = this;
    const started = this.started && (work?.begun ?? !this.single);
    const done = kind === 'cancelled' && work?.done === true;
    return { kind, started, emitted: seen, last, error: kind === 'failed' ? failure?.error : undefined, done };
  }

  /** By itself, rather than because somebody stopped it. */
  private get natural(): boolean {
    const { cancellation } = this;
    return cancellation === undefined || cancellation.reason.kind === 'source-error';
  }

  protected override close(): void {
    const { natural, passed } = this;
    this.settling = true;
    this.live++;
    const again = natural ? this.settleAll() : this.releaseAll();
    this.live--;
    if (again !== undefined) return this.repeat(again, passed);
    try {
      super.close();
    } finally {
      this.last = undefined;
      if (natural && this.unwinding) this.unpumped = passed;
      else if (natural) this.pumpFrom(0, passed);
    }
  }

  private settleAll(): (() => Withdraw) | undefined {
    this.failure ??= this.ownFailure();
    const end = this.ending(this.failure === undefined ? 'completed' : 'failed');
    for (let i = this.passed - 1; i >= 0; i--) {
      const stage = this.stages[i] as Stage;
      const again = stage.settle(end);
      stage.release();
      if (again === undefined || this.silent || !this.natural) continue;
      this.passed = i;
      return again;
    }
    return undefined;
  }

  private releaseAll(): undefined {
    if (this.work?.finishing) this.settleCancelled();
    for (let i = this.passed - 1; i >= 0; i--) this.stages[i]?.release();
  }

  private pumpFrom(first: number, end: number): void {
    this.unpumped = 0;
    for (let i = end - 1; i >= first; i--) this.stages[i]?.pump();
  }

  /** The source's own error as it is; what went wrong while it was cleaned up comes with it. */
  private ownFailure(): { readonly error: unknown } | undefined {
    const errors = this.extra?.errors;
    const first = errors?.[0];
    if (first === undefined) return undefined;
    return { error: first.phase === 'source' && errors?.length === 1 ? first.error : new ScopeError(this.report(), this.name) };
  }

  /** A gate wants another attempt: nothing of this one is left, so the call enters that gate once more. */
  private repeat(again: () => Withdraw, passed: number): void {
    this.reopen();
    this.failure = this.work = undefined;
    this.settling = this.started = this.sure = this.asked = false;
    this.attempt++;
    this.opening = true;
    this.pumpFrom(this.passed, passed);
    this.inContext(() => {
      const outer = enter(this);
      try {
        if (this.state < CANCELLING) this.advance(again);
      } finally {
        leave(outer);
      }
    });
    this.opening = false;
    this.settle();
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const { failure } = this;
    if (failure === undefined || (reason !== undefined && reason.kind !== 'source-error' && reason.kind !== 'tripped'))
      return super.conclude(reason);
    this.blame(failure.error);
    this.out.error(failure.error);
  }

  /** What failed while a revoked call was being stopped travels with the error that stopped it. */
  private blame(error: unknown): void {
    const errors = this.extra?.errors ?? [];
    if (this.cancellation?.reason.kind !== 'tripped' || errors.length === 0) return;
    const suppressed = errors.map((failure) => failure.error);
    if (error instanceof Object) Reflect.defineProperty(error, 'suppressed', { value: suppressed, configurable: true });
  }

  protected override get waiting(): number {
    return this.stages[this.passed]?.phase === WAITING ? 1 : 0;
  }
}

/**
 * Lets the gates in front of a WorkObservable, whose run calls this as it begins, know how far it has come. Returns what takes in values that
 * nobody is told any more; undefined where there are no gates.
 */
export function attend(work: Work): ((value: unknown) => void) | undefined {
  const admission = enclosing(ambient.scope);
  if (admission === undefined || !admission.single) return undefined;
  admission.work = work;
  return (value) => admission.overhears(value);
}

function sizeOf(stack: Stack): number {
  let size = 0;
  for (let at: Stack | undefined = stack; at !== undefined; at = at.inner) if (at.plan !== undefined) size++;
  return size;
}

/** The guarded call around `scope`, if there is one. */
function enclosing(scope: ScopeNode | undefined): Admission<unknown> | undefined {
  for (let node = scope; node !== undefined; node = node.up) if (node instanceof Admission) return node as Admission<unknown>;
  return undefined;
}
