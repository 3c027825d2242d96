import type { AsyncSubject } from 'rxjs';
import { ambient, enter, leave } from './ambient.js';
import type { Alarm, AlarmTarget } from './clock.js';
import { CallMember, Cancellation, Member, More, type Env } from './member.js';
import type { CancelReason, LateOutcome, ScopeFailure, ScopeReport, ScopeState, ScopeTree } from './types.js';

export const OPEN = 0;
export const CLOSING = 1;
export const CANCELLING = 2;
export const CLOSED = 3;
export const STATES: readonly ScopeState[] = ['open', 'closing', 'cancelling', 'closed'];

/**
 * A node of the tree: what runs below it, why it was cancelled, and the one routine that cancels and the one that closes.
 * Operators extend it with a body; `child()` makes nodes without one.
 */
export abstract class ScopeNode extends Member implements AlarmTarget {
  state: number = OPEN;
  head: Member | undefined = undefined;
  /** How many things below are alive, plus the hold of a sweep in progress. The scope cannot close before it is 0. */
  live = 0;
  cancellation: Cancellation | undefined = undefined;
  protected extra: More | undefined = undefined;

  constructor(up: ScopeNode | undefined) {
    super(up);
    if (up === undefined) ambient.registry?.opened(this);
  }

  abstract readonly env: Env;
  /** Whether the body still runs: a source, a child's Observable, a subscribe() call that has not returned. */
  protected abstract get running(): boolean;
  /** Tears the body down and drops what is queued. */
  protected abstract stopBody(): void;
  /** The scope has closed: tell downstream. */
  protected abstract onClosed(): void;

  get more(): More {
    return (this.extra ??= new More());
  }

  get deadline(): Alarm | undefined {
    return this.extra?.deadline;
  }

  set deadline(alarm: Alarm | undefined) {
    this.more.deadline = alarm;
  }

  get cancelled(): boolean {
    return this.state === CANCELLING;
  }

  get over(): boolean {
    return this.state === CLOSED;
  }

  /** The cancellation that refuses a newcomer, or undefined if the scope takes calls. */
  refusal(): Cancellation | undefined {
    if (this.state < CANCELLING) return undefined;
    return this.cancellation ?? new Cancellation({ kind: 'explicit', reason: 'the scope has closed' });
  }

  // Members

  /** Appends a member and counts it as alive. */
  enlist(member: Member): void {
    this.wake();
    this.link(member);
    this.live++;
  }

  delist(member: Member): void {
    this.unlink(member);
    this.live--;
  }

  link(member: Member): void {
    const { head } = this;
    if (head === undefined) {
      this.head = member.before = member;
      return;
    }
    const last = head.before as Member;
    last.after = member;
    member.before = last;
    head.before = member;
  }

  unlink(member: Member): void {
    const { before, after } = member;
    if (before === undefined) return;
    if (member === this.head) this.head = after;
    else before.after = after;
    if (after !== undefined) after.before = before;
    else if (this.head !== undefined) this.head.before = before;
    member.before = member.after = undefined;
  }

  /** What is on the list now: a copy, for whoever changes the list on the way. */
  private members(): Member[] {
    const members: Member[] = [];
    for (let member = this.head; member !== undefined; member = member.after) members.push(member);
    return members;
  }

  /** Something is about to run here. Only a `child()` cares: it is off its parent's list while it is idle. */
  wake(): void {}
  /** Nothing runs here any more; true if that may let the parent close. */
  protected rest(): boolean {
    return false;
  }

  calls(): CallMember[] {
    return sweepBelow(this, () => true).calls;
  }

  whenOver(task: () => void): void {
    (this.more.afterwards ??= []).push(task);
  }

  /** Waits for something that lives elsewhere but was torn down from here. */
  host(guest: Member): void {
    const guests = (this.more.guests ??= new Set());
    if (guests.has(guest)) return;
    guests.add(guest);
    this.live++;
    guest.whenOver(() => {
      if (guests.delete(guest)) this.live--;
      this.settle();
    });
  }

  // Cancelling

  /**
   * Cancels everything below, except what `spares` picks. Reasons first, then signals from the top down, then bodies from
   * the bottom up; what is left is waited for, and only then does anybody hear of it.
   */
  cancelWith(reason: CancelReason | Cancellation, spares?: (scope: ScopeNode) => boolean): void {
    if (this.refusal() !== undefined) return;
    this.mark(reason instanceof Cancellation ? reason : new Cancellation(reason));
    const marked: ScopeNode[] = [this];
    const { scopes, calls } = sweepBelow(this, (scope, above) => {
      // One that has closed may be on the list while it tells so: nothing is below it.
      if (scope.over || spares?.(scope)) return false;
      if (scope.state < CANCELLING) {
        scope.mark(scope.inherit(above.cancellation as Cancellation));
        marked.push(scope);
      }
      return true;
    });
    this.abortSignal();
    for (const scope of scopes) scope.abortSignal();
    const stoppable = calls.filter((call) => call.abort((call.up as ScopeNode).cancellation as Cancellation));
    for (let i = marked.length - 1; i >= 0; i--) (marked[i] as ScopeNode).stop();
    stopCalls(stoppable);
    for (let i = marked.length - 1; i >= 0; i--) {
      const scope = marked[i] as ScopeNode;
      scope.live--;
      scope.settle();
    }
    if (this.cancelled) armGraces(marked);
  }

  private mark(cancellation: Cancellation): void {
    this.wake();
    this.state = CANCELLING;
    this.cancellation = cancellation;
    this.live++;
  }

  /** How a cancel above looks from here. A fan-out's children share the reason of their group. */
  protected inherit(above: Cancellation): Cancellation {
    return above.below();
  }

  abortSignal(): void {
    this.extra?.controller?.abort((this.cancellation as Cancellation).error);
  }

  stop(): void {
    const outer = enter(this);
    try {
      this.stopBody();
    } finally {
      leave(outer);
    }
  }

  /** Starts the grace, unless one that ends no later runs further up. */
  armGrace(now: number, outermost: number): number {
    const { clock, graceMs } = this.env;
    const at = now + graceMs;
    if (at >= outermost || (this.cancelled && this.up?.cancellation === this.cancellation)) return outermost;
    const { more } = this;
    if (more.grace !== undefined) clock.clear(more.grace);
    more.grace = clock.set(this, graceMs);
    return at;
  }

  onAlarm(alarm: Alarm): void {
    if (alarm === this.deadline) {
      this.deadline = undefined;
      this.expire(alarm.ms);
    } else {
      this.more.grace = undefined;
      this.abandon();
    }
  }

  /** The deadline of this scope passed. */
  protected expire(ms: number): void {
    const { label } = this.env;
    this.cancelWith({ kind: 'deadline', ms, ...(label === undefined ? {} : { label }) });
  }

  /** The grace is over: what has not settled is named and let go. */
  private abandon(): void {
    const whole = this.state === CANCELLING;
    const scopes: ScopeNode[] = [this];
    if (whole) scopes.push(...sweepBelow(this, (scope) => scope.cancelled).scopes);
    for (const scope of scopes) scope.abandonCalls(whole);
    for (let i = scopes.length - 1; i >= 0; i--) (scopes[i] as ScopeNode).settle();
  }

  protected abandonCalls(whole: boolean): void {
    if (whole) for (let close = this.extra?.closers?.pop(); close !== undefined; close = this.extra?.closers?.pop()) close();
    for (const member of this.members()) {
      if (member instanceof CallMember && !member.shielded && (whole || member.cancelled)) member.abandon();
    }
    const guests = whole ? this.extra?.guests : undefined;
    for (const guest of guests ?? []) this.letGo(guest);
  }

  private letGo(guest: Member): void {
    const calls = guest.calls();
    for (const call of calls) if (!call.shielded) this.addOrphan(call);
    if (calls.some((call) => call.shielded)) return;
    this.more.guests?.delete(guest);
    this.live--;
  }

  addOrphan(call: CallMember): void {
    (this.more.orphans ??= new Set()).add(call);
  }

  /** Counts calls that were cancelled one by one and have not settled: a closing scope gives them its grace. */
  noteStopping(by: 1 | -1): void {
    this.more.stopping += by;
  }

  // Closing

  /** The body ended by itself: the scope closes once everything below has. */
  bodyEnded(): void {
    if (this.state === OPEN) this.state = CLOSING;
    this.settle();
  }

  /** Closes this scope, and those above it, as far as nothing is left to wait for. */
  settle(): void {
    let node: ScopeNode | undefined = this;
    while (node !== undefined) {
      if (node.ripe()) node.close();
      else if (node.live > 0 || !node.rest()) return;
      node = node.up;
    }
  }

  private ripe(): boolean {
    if (this.state === OPEN || this.state === CLOSED || this.running) return false;
    const { extra } = this;
    if (this.live > 0) {
      if (this.state === CLOSING && this.live === extra?.stopping && extra.grace === undefined)
        this.armGrace(this.env.clock.now(), Infinity);
      return false;
    }
    if (this.head !== undefined) {
      this.endIdle();
      return this.ripe();
    }
    const close = extra?.closers?.pop();
    if (close === undefined) return true;
    close();
    return this.ripe();
  }

  protected close(): void {
    this.state = CLOSED;
    const { extra, up, deadline } = this;
    if (deadline !== undefined) {
      this.env.clock.clear(deadline);
      this.deadline = undefined;
    }
    if (extra !== undefined) this.wrapUp(extra);
    if (up === undefined) ambient.registry?.closed(this);
    try {
      this.onClosed();
    } finally {
      up?.delist(this);
      if (extra?.afterwards !== undefined) for (const task of extra.afterwards) task();
    }
  }

  private wrapUp(extra: More): void {
    const { grace, orphans, report$ } = extra;
    if (grace !== undefined) this.env.clock.clear(grace);
    extra.grace = undefined;
    if (orphans !== undefined) extra.abandoned = [...orphans].map((call) => call.info());
    if (report$ !== undefined) publish(report$, this.report());
  }

  /** Child scopes in which nothing runs end with their parent. */
  private endIdle(): void {
    this.live++;
    for (const idle of this.members()) {
      if (!(idle instanceof ScopeNode)) continue;
      idle.wake();
      idle.bodyEnded();
    }
    this.live--;
  }

  // What is known

  /** Takes note of a failure that is not a cancellation. Scopes with a policy override it. */
  failed(failure: ScopeFailure): void {
    (this.more.errors ??= []).push(failure);
  }

  /** A teardown threw. */
  torn(error: unknown): void {
    this.failed({ error, phase: 'cleanup' });
  }

  /** A value or an error that came after nobody waited for it any more. */
  noteLate(late: LateOutcome): void {
    (this.more.late ??= []).push(late);
  }

  /** The index of the fan-out child that this is, or is in. */
  get childIndex(): number | undefined {
    return this.up?.childIndex;
  }

  get depth(): number {
    return this.up?.depth ?? 0;
  }

  get path(): readonly string[] {
    const above = this.up?.path ?? [];
    return this.env.label === undefined || this.env === this.up?.env ? above : [...above, this.env.label];
  }

  report(): ScopeReport {
    const { more, cancellation } = this;
    const outcomes = [...(more.outcomes ?? [])].sort((a, b) => a.index - b.index);
    return {
      ...(cancellation === undefined ? {} : { reason: cancellation.reason }),
      fulfilled: 0,
      outcomes,
      errors: (more.errors ??= []),
      late: (more.late ??= []),
      abandoned: more.abandoned,
    };
  }

  dump(): ScopeTree {
    const running = this.members().filter((member) => !member.over);
    const calls = running.filter((member) => member instanceof CallMember);
    const scopes = running.filter((member) => member instanceof ScopeNode);
    return {
      label: this.name,
      path: this.path,
      state: STATES[this.state] as ScopeState,
      ...(this.cancellation === undefined ? {} : { reason: this.cancellation.reason }),
      waiting: this.waiting,
      calls: calls.map((call) => call.describe()),
      scopes: scopes.map((scope) => scope.dump()),
    };
  }

  protected get name(): string {
    return (this.env === this.up?.env ? undefined : this.env.label) ?? 'scope';
  }

  protected get waiting(): number {
    return 0;
  }
}

/** The scopes below `root` that `into` accepts, from the top down, and the calls of those and of the root. */
function sweepBelow(
  root: ScopeNode,
  into: (scope: ScopeNode, above: ScopeNode) => boolean,
): { readonly scopes: ScopeNode[]; readonly calls: CallMember[] } {
  const scopes: ScopeNode[] = [];
  const calls: CallMember[] = [];
  let at = 0;
  for (let above: ScopeNode | undefined = root; above !== undefined; above = scopes[at++]) {
    for (let member = above.head; member !== undefined; member = member.after) {
      if (member instanceof CallMember) calls.push(member);
      else if (into(member as ScopeNode, above)) scopes.push(member as ScopeNode);
    }
  }
  return { scopes, calls };
}

function stopCalls(calls: readonly CallMember[]): void {
  for (const call of calls) {
    const outer = enter(call.up);
    try {
      call.stop();
    } finally {
      leave(outer);
    }
  }
}

/** One clock for the whole sweep, and one more for every scope in it whose own grace is shorter. */
function armGraces(sweep: readonly ScopeNode[]): void {
  const [root] = sweep;
  if (root === undefined || root.over) return;
  const now = root.env.clock.now();
  const outermost = root.armGrace(now, Infinity);
  for (const scope of sweep) if (scope !== root && !scope.over) scope.armGrace(now, outermost);
}

function publish(report$: AsyncSubject<ScopeReport>, report: ScopeReport): void {
  report$.next(report);
  report$.complete();
}
