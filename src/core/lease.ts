import { from, isObservable, type ObservableInput, type Unsubscribable } from 'rxjs';
import { captureContext } from '#context';
import { ambient, enter, leave } from './ambient.js';
import type { AlarmTarget } from './clock.js';
import type { RelayTarget, Sink } from './direct.js';
import { isAbortShaped } from './errors.js';
import { IteratorRun } from './iterator.js';
import { Cancellation, CallMember } from './member.js';
import { type ScopeNode } from './node.js';
import { relay, tearDown } from './relay.js';
import type { CallFunction, CallInfo, LateOutcome, ScopeTree } from './types.js';

const DONE = 1;
export const ABANDONED = 2;
/** For the attempt before it to end. */
const WAITING = 4;
/** Cancelled by its own subscriber, not by its scope. */
const SINGLE = 8;
/** Never told to stop, and waited for without a grace. */
export const SHIELDED = 16;
/** Never told to stop, and its value is nobody's. */
export const CLEANUP = 32;
/** Settled after it was abandoned. */
const LATE = 64;
/** `subscribe` of what it follows has not returned. */
const RELAYING = 128;
/** Flags from here on belong to subclasses. */
export const FREE_FLAG = 256;

/** What a promise never needs. */
class Rare {
  handle: Unsubscribable | undefined = undefined;
  last: unknown = undefined;
  afterwards: (() => void)[] | undefined = undefined;
  held: (() => void) | undefined = undefined;
}

/**
 * One run of a call, from subscription until the work itself has settled, whatever happened to the subscription in
 * between. Its scope does not close before it has, or before it is abandoned.
 */
export class Lease<T> extends CallMember implements RelayTarget<T> {
  protected flags: number;
  private extra: Rare | undefined = undefined;
  private controller: AbortController | undefined = undefined;
  private cancellation: Cancellation | undefined = undefined;
  private readonly startedAt: number;
  declare readonly up: ScopeNode;

  constructor(
    up: ScopeNode,
    protected label: string,
    private sink: Sink<T> | undefined,
    flags: number,
  ) {
    super(up);
    this.flags = flags;
    this.startedAt = up.env.clock.elapsed();
    up.enlist(this);
  }

  protected get rare(): Rare {
    return (this.extra ??= new Rare());
  }

  get over(): boolean {
    return (this.flags & DONE) !== 0;
  }

  /** What has not begun needs no shield. */
  get shielded(): boolean {
    return (this.flags & (SHIELDED | WAITING)) === SHIELDED;
  }

  get cancelled(): boolean {
    return this.cancellation !== undefined;
  }

  private get cleanup(): boolean {
    return (this.flags & CLEANUP) !== 0;
  }

  get signal(): AbortSignal {
    this.controller ??= new AbortController();
    if (this.cancellation !== undefined) this.controller.abort(this.cancellation.error);
    return this.controller.signal;
  }

  whenOver(task: () => void): void {
    (this.rare.afterwards ??= []).push(task);
  }

  // Running

  /** Whether its subscriber has left while the work goes on. */
  get left(): boolean {
    return !this.over && (this.cancelled || (this.shielded && this.sink === undefined));
  }

  /** Calls `start` once `before`, an attempt of the same call that was left, is over or has used up its grace. */
  startAfter(before: Lease<T>, start: () => void): void {
    const { clock, graceMs } = this.up.env;
    const target: AlarmTarget = { up: this.up, deadline: undefined, onAlarm: () => before.abandon() };
    const alarm = graceMs === Infinity || before.shielded ? undefined : clock.set(target, graceMs);
    const binding = captureContext();
    const go = (): void => {
      if (alarm !== undefined) clock.clear(alarm);
      if (this.over) return;
      this.flags &= ~WAITING;
      start();
    };
    this.flags |= WAITING;
    if (alarm !== undefined) this.whenOver(() => clock.clear(alarm));
    before.whenOver(binding === undefined ? go : () => binding.run(go, undefined));
  }

  run(fn: CallFunction<T>): void {
    const outer = enter(this.up);
    try {
      this.invoke(fn);
    } finally {
      leave(outer);
    }
  }

  /** A function that declares no parameter is not given a signal, so none is made. */
  protected invoke(fn: CallFunction<T>): void {
    try {
      this.follow(fn.length === 0 ? (fn as () => ReturnType<CallFunction<T>>)() : fn(this.signal));
    } catch (error) {
      this.error(error);
    }
  }

  /** Follows a promise, an async iterable or any other ObservableInput until it has ended. */
  follow(input: PromiseLike<T> | ObservableInput<T>): void {
    if (input instanceof Promise) this.await(input as Promise<T>);
    else if (isObservable(input)) this.relay(input);
    else if (isPromiseLike(input)) this.await(Promise.resolve(input));
    else if (Symbol.asyncIterator in Object(input)) new IteratorRun(input as AsyncIterable<T>, this).start();
    else this.relay(input);
  }

  private await(promise: Promise<T>): void {
    promise.then(this.fulfilled.bind(this), this.error.bind(this));
  }

  private relay(input: ObservableInput<T>): void {
    if (this.cancelled) return this.ended();
    const source = from(input);
    this.flags |= RELAYING;
    try {
      relay(source, this);
    } finally {
      this.flags &= ~RELAYING;
      this.extra?.held?.();
    }
  }

  /** An end that comes while `subscribe` still runs is held until it has returned, and the teardown with it. */
  protected hold(end: () => void): boolean {
    if ((this.flags & RELAYING) === 0) return false;
    this.rare.held ??= end;
    return true;
  }

  attach(handle: Unsubscribable): void {
    this.rare.handle = handle;
  }

  stopFailed(error: unknown): void {
    if (!this.isCancellation(error)) this.torn(error);
  }

  torn(error: unknown): void {
    this.up.failed({ error, phase: 'cleanup' });
  }

  // Settling

  private fulfilled(value: T): void {
    if (this.over) return this.noteLate({ status: 'fulfilled', value });
    const heard = this.heard;
    this.end();
    if (!heard) {
      if (this.shielded || (this.up.cancelled && !this.cleanup)) this.up.noteLate({ ...this.info(), status: 'fulfilled', value });
      this.tellCancelled();
    } else this.tellResult(value);
    this.release();
  }

  next(value: T): void {
    if (this.over) return;
    if (this.shielded) this.rare.last = value;
    if (!this.heard) return;
    const outer = enter(this.up);
    try {
      this.tellValue(value);
    } finally {
      leave(outer);
    }
  }

  error(error: unknown): void {
    if (this.over) return this.noteLate({ status: 'failed', reason: error });
    if (this.hold(() => this.error(error))) return;
    const heard = this.heard;
    this.end();
    if (heard) this.tellError(error);
    else {
      if (!this.cancelled || !this.isCancellation(error)) this.torn(error);
      this.tellCancelled();
    }
    this.release();
  }

  complete(): void {
    if (this.over || this.hold(() => this.complete())) return;
    const heard = this.heard;
    this.end();
    if (!heard) {
      if (this.shielded) this.up.noteLate({ ...this.info(), status: 'fulfilled', value: this.extra?.last });
      this.tellCancelled();
    } else {
      const outer = enter(this.up);
      try {
        this.tellComplete();
      } finally {
        leave(outer);
      }
    }
    this.release();
  }

  /** It stopped as it was told to. */
  ended(): void {
    if (this.over) return this.settledLate();
    this.end();
    this.tellCancelled();
    this.release();
  }

  /** Whether somebody still wants to hear of values and of the end. */
  protected get heard(): boolean {
    return this.sink !== undefined && !this.cancelled;
  }

  protected tellResult(value: T): void {
    const outer = enter(this.up);
    try {
      this.tellValue(value);
      this.tellComplete();
    } finally {
      leave(outer);
    }
  }

  protected tellValue(value: T): void {
    this.sink?.next(value);
  }

  protected tellComplete(): void {
    this.sink?.complete();
  }

  protected tellError(error: unknown): void {
    const outer = enter(this.up);
    try {
      this.sink?.error(error);
    } finally {
      leave(outer);
    }
  }

  private tellCancelled(): void {
    const { cancellation } = this;
    if (cancellation !== undefined && this.sink !== undefined) this.tellError(cancellation.error);
  }

  /** The work has settled: its own teardown runs, and its scope no longer counts it. */
  protected end(): void {
    this.flags |= DONE;
    tearDown(this.extra?.handle, this);
    this.detach();
  }

  protected detach(): void {
    if (this.flags & SINGLE) this.up.noteStopping(-1);
    this.up.delist(this);
    this.runAfterwards();
  }

  protected runAfterwards(): void {
    const afterwards = this.extra?.afterwards;
    if (afterwards !== undefined) for (const task of afterwards) task();
  }

  /** Everybody has been told: the scope may close. */
  protected release(): void {
    this.up.settle();
  }

  // Cancelling

  /** The subscriber left. */
  unsubscribe(): void {
    if (this.over) return;
    this.sink = undefined;
    const stopper = ambient.scope;
    this.tornDownBy(stopper);
    if (this.shielded) return;
    if (this.cancelled) return this.stop();
    this.abort(stopper?.cancelled ? (stopper.cancellation as Cancellation) : new Cancellation({ kind: 'unsubscribed' }));
    this.stop();
    if (this.over) return;
    this.flags |= SINGLE;
    this.up.noteStopping(1);
    this.up.settle();
  }

  abort(cancellation: Cancellation): boolean {
    if (this.over || this.cancelled || this.shielded || this.cleanup) return false;
    this.cancellation = cancellation;
    this.controller?.abort(cancellation.error);
    return this.extra?.handle !== undefined || (this.flags & WAITING) !== 0;
  }

  stop(): void {
    if (this.over || !this.cancelled) return;
    if (this.flags & WAITING) return this.ended();
    const { extra } = this;
    const handle = extra?.handle;
    if (extra === undefined || handle === undefined) return;
    extra.handle = undefined;
    tearDown(handle, this);
    if (!(handle instanceof IteratorRun) && !this.hold(() => this.ended())) this.ended();
  }

  abandon(): void {
    if (this.over) return;
    this.flags |= ABANDONED;
    for (let scope: ScopeNode | undefined = this.up; scope !== undefined; scope = scope.up) scope.addOrphan(this);
    this.ended();
  }

  private noteLate(end: { status: 'fulfilled'; value: T } | { status: 'failed'; reason: unknown }): void {
    this.settledLate({ ...this.info(), ...end });
  }

  /** It settled after it was abandoned: scopes that are still open need not name it any more. */
  private settledLate(late?: LateOutcome): void {
    if ((this.flags & (ABANDONED | LATE)) !== ABANDONED) return;
    this.flags |= LATE;
    for (let scope: ScopeNode | undefined = this.up; scope !== undefined; scope = scope.up) {
      if (!scope.over) scope.more.orphans?.delete(this);
      if (late !== undefined && (scope.over || scope.cancelled)) (scope.more.late ??= []).push(late);
    }
  }

  private isCancellation(error: unknown): boolean {
    return isAbortShaped(error) || error === this.cancellation?.error;
  }

  // Telling

  /** A wall clock that was set back makes nothing younger than new. */
  private get ageMs(): number {
    return Math.max(0, this.up.env.clock.elapsed() - this.startedAt);
  }

  protected get name(): string {
    return this.label;
  }

  protected get childIndex(): number | undefined {
    return this.up.childIndex;
  }

  info(): CallInfo {
    const { up } = this;
    const index = this.childIndex;
    return { label: this.name, path: up.path, ageMs: this.ageMs, ...(index === undefined ? {} : { index }) };
  }

  describe(): ScopeTree['calls'][number] {
    const state = this.cleanup ? 'cleanup' : this.shielded ? 'shielded' : this.cancelled ? 'cancelling' : 'running';
    return { label: this.name, state, ageMs: this.ageMs };
  }
}

export function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

export function ignoreRejection(input: unknown): void {
  if (isPromiseLike(input)) input.then(undefined, () => undefined);
}
