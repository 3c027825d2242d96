import { from, isObservable, type ObservableInput, type Unsubscribable } from 'rxjs';
import { ambient, enter, leave } from './ambient.js';
import type { Alarm, AlarmTarget } from './clock.js';
import { isAbortShaped } from './errors.js';
import { IteratorRun } from './iterator.js';
import { Cancellation, CallMember, type ScopeNode } from './node.js';
import { relay, tearDown, type RelayTarget } from './relay.js';
import type { CallFunction, CallInfo, ScopeTree } from './types.js';

/** Where a call's notifications go. */
export interface Sink<T> {
  next(value: T): void;
  error(error: unknown): void;
  complete(): void;
}

/** What leases of one call share. */
export interface CallOrigin {
  readonly label: string;
  readonly shield: boolean;
  /** The latest attempt that was told to stop and has not: the next attempt waits for it. */
  stopping: Lease<unknown> | undefined;
}

/**
 * One run of a call, from subscription until the work itself has settled, whatever happened to the subscription in
 * between. Its scope does not close before it has, or before it is abandoned.
 */
export class Lease<T> extends CallMember implements RelayTarget<T>, AlarmTarget {
  private handle: Unsubscribable | undefined = undefined;
  private controller: AbortController | undefined = undefined;
  private cancellation: Cancellation | undefined = undefined;
  private successors: (() => void)[] | undefined = undefined;
  private done = false;
  private abandoned = false;
  private waiting = false;
  /** Cancelled by its own subscriber, not by its scope. */
  private single = false;
  private last: T | undefined = undefined;
  private readonly startedAt: number;
  declare readonly up: ScopeNode;

  constructor(
    up: ScopeNode,
    private readonly origin: CallOrigin,
    private sink: Sink<T> | undefined,
    private readonly cleanup = false,
  ) {
    super(up);
    this.startedAt = up.env.clock.scheduler.now();
    up.enlist(this);
  }

  get over(): boolean {
    return this.done;
  }

  get shielded(): boolean {
    return this.origin.shield;
  }

  get cancelled(): boolean {
    return this.cancellation !== undefined;
  }

  get deadline(): undefined {
    return undefined;
  }

  get signal(): AbortSignal {
    this.controller ??= new AbortController();
    if (this.cancellation !== undefined) this.controller.abort(this.cancellation.error);
    return this.controller.signal;
  }

  // Running

  /** Runs `fn` now, or as soon as an attempt of the same call that was told to stop is over. */
  begin(fn: CallFunction<T>): void {
    const { stopping } = this.origin;
    if (stopping === undefined || stopping.done) return this.run(fn);
    this.waiting = true;
    const { clock, graceMs } = this.up.env;
    const alarm = graceMs === Infinity ? undefined : clock.set(this, graceMs);
    (stopping.successors ??= []).push(() => {
      if (alarm !== undefined) clock.clear(alarm);
      if (this.done) return;
      this.waiting = false;
      this.run(fn);
    });
  }

  /** The attempt before this one did not end within the grace. */
  onAlarm(_alarm: Alarm): void {
    this.origin.stopping?.abandon();
  }

  private run(fn: CallFunction<T>): void {
    const outer = enter(this.up);
    try {
      this.follow(fn.length === 0 ? (fn as () => ReturnType<CallFunction<T>>)() : fn(this.signal));
    } catch (error) {
      this.error(error);
    } finally {
      leave(outer);
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
    promise.then(
      (value) => this.fulfilled(value),
      (error: unknown) => this.error(error),
    );
  }

  private relay(input: ObservableInput<T>): void {
    if (this.cancelled) this.ended();
    else relay(from(input), this);
  }

  attach(handle: Unsubscribable): void {
    this.handle = handle;
  }

  torn(error: unknown): void {
    this.up.failed({ error, phase: 'cleanup' });
  }

  // Settling

  private fulfilled(value: T): void {
    if (this.done) return this.noteLate({ status: 'fulfilled', value });
    this.done = true;
    this.detach();
    if (this.cancelled || this.sink === undefined) {
      if (!this.cleanup) this.up.noteLate({ ...this.info(), status: 'fulfilled', value });
      this.tellCancelled();
    } else {
      const outer = enter(this.up);
      try {
        this.sink.next(value);
        this.sink.complete();
      } finally {
        leave(outer);
      }
    }
    this.up.settle();
  }

  next(value: T): void {
    if (this.done || this.cancelled) return;
    if (this.shielded) this.last = value;
    const outer = enter(this.up);
    try {
      this.sink?.next(value);
    } finally {
      leave(outer);
    }
  }

  error(error: unknown): void {
    if (this.done) return this.noteLate({ status: 'failed', reason: error });
    this.done = true;
    tearDown(this.handle, this);
    this.detach();
    if (this.cancelled) {
      if (!this.isCancellation(error)) this.torn(error);
      this.tellCancelled();
    } else if (this.sink === undefined) this.torn(error);
    else this.tell(this.sink, error);
    this.up.settle();
  }

  complete(): void {
    if (this.done) return;
    this.done = true;
    tearDown(this.handle, this);
    this.detach();
    const { sink } = this;
    if (this.cancelled) this.tellCancelled();
    else if (sink === undefined) {
      if (!this.cleanup) this.up.noteLate({ ...this.info(), status: 'fulfilled', value: this.last });
    } else {
      const outer = enter(this.up);
      try {
        sink.complete();
      } finally {
        leave(outer);
      }
    }
    this.up.settle();
  }

  /** It stopped as it was told to. */
  ended(): void {
    if (this.done) return;
    this.done = true;
    this.detach();
    this.tellCancelled();
    this.up.settle();
  }

  private tellCancelled(): void {
    if (this.sink !== undefined && this.cancellation !== undefined) this.tell(this.sink, this.cancellation.error);
  }

  private tell(sink: Sink<T>, error: unknown): void {
    const outer = enter(this.up);
    try {
      sink.error(error);
    } finally {
      leave(outer);
    }
  }

  private detach(): void {
    if (this.single) this.up.noteStopping(-1);
    if (this.origin.stopping === this) this.origin.stopping = undefined;
    this.up.delist(this);
    this.releaseHosts();
    const { successors } = this;
    this.successors = undefined;
    if (successors !== undefined) for (const start of successors) start();
  }

  // Cancelling

  /** The subscriber left. */
  unsubscribe(): void {
    if (this.done) return;
    this.sink = undefined;
    const stopper = ambient.scope;
    this.tornDownBy(stopper);
    if (this.shielded) return;
    if (this.cancelled) return this.stop();
    this.abort(stopper?.cancelled ? (stopper.cancellation as Cancellation) : new Cancellation({ kind: 'unsubscribed' }));
    this.stop();
    if (this.done) return;
    this.single = true;
    this.origin.stopping = this;
    this.up.noteStopping(1);
    this.up.settle();
  }

  abort(cancellation: Cancellation): void {
    if (this.done || this.cancelled || this.shielded || this.cleanup) return;
    this.cancellation = cancellation;
    this.controller?.abort(cancellation.error);
  }

  stop(): void {
    if (this.done || !this.cancelled) return;
    if (this.waiting) return this.ended();
    const { handle } = this;
    if (handle === undefined) return;
    this.handle = undefined;
    tearDown(handle, this);
    if (!(handle instanceof IteratorRun)) this.ended();
  }

  abandon(): void {
    if (this.done) return;
    this.done = this.abandoned = true;
    for (let scope: ScopeNode | undefined = this.up; scope !== undefined; scope = scope.up) scope.more.orphans.add(this);
    this.detach();
    this.tellCancelled();
    this.up.settle();
  }

  private noteLate(end: { status: 'fulfilled'; value: T } | { status: 'failed'; reason: unknown }): void {
    if (!this.abandoned) return;
    this.abandoned = false;
    for (let scope: ScopeNode | undefined = this.up; scope !== undefined; scope = scope.up) {
      if (!scope.over) scope.more.orphans.delete(this);
      if (scope.over || scope.cancelled) scope.more.late.push({ ...this.info(), ...end });
    }
  }

  private isCancellation(error: unknown): boolean {
    return isAbortShaped(error) || error === this.cancellation?.error;
  }

  // Telling

  info(): CallInfo {
    const { up, origin } = this;
    const index = up.childIndex;
    const ageMs = up.env.clock.scheduler.now() - this.startedAt;
    return { label: origin.label, path: up.path, ageMs, ...(index === undefined ? {} : { index }) };
  }

  describe(): ScopeTree['calls'][number] {
    const state = this.cleanup ? 'cleanup' : this.shielded ? 'shielded' : this.cancelled ? 'cancelling' : 'running';
    return { label: this.origin.label, state, ageMs: this.up.env.clock.scheduler.now() - this.startedAt };
  }
}

export function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

export function ignoreRejection(input: unknown): void {
  if (isPromiseLike(input)) input.then(undefined, () => undefined);
}
