import { ApprovalBook, type Decision, type Entry } from './approvalBook.js';
import {
  checkRequest,
  pictureOf,
  sameRequest,
  validated,
  type ApprovalAsk,
  type PendingApproval,
  type StandingRequest,
} from './approvalRequest.js';
import { checkCount, checkMs, refuse, type GateOptions } from './checks.js';
import { ApprovalDeniedError, ApprovalExpiredError, BadAskError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase, guarded } from './gateBase.js';
import { Visit } from './visit.js';

export type { ApprovalRequest, EditableRequest, PendingApproval } from './approvalRequest.js';

export interface ApprovalGateOptions extends GateOptions {
  /** Milliseconds in which somebody must decide. Default Infinity. */
  readonly expiresMs?: number | undefined;
  /** Milliseconds for which a decision is remembered whose asker had left (see `keep` of a request). Default 3,600,000. */
  readonly keepMs?: number | undefined;
  /** How many such decisions are remembered, and how many requests may wait without an asker. Default 1000. */
  readonly maxKept?: number | undefined;
}

export interface ApprovalSnapshot {
  readonly name: string;
  /** In the order in which they were asked. */
  readonly pending: readonly PendingApproval[];
  /** Decisions that wait for their id to be asked again. */
  readonly remembered: number;
}

const WHO = 'ApprovalGate';

/** What was decided for a call. */
interface Answer {
  page: Page | undefined;
  decision: Decision | undefined;
  /** Of the request: with whoever asked it goes, for it may hold on to much. */
  readonly isOver: (() => boolean) | undefined;
}

type ApprovalVisit = Visit<Answer, never, unknown>;
type Page = Entry<StandingRequest, ApprovalVisit>;

/**
 * Calls that wait for a person. Each request has an id of its own, and they are decided in any order.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { ApprovalGate, awaitApproval } from 'rxfleet';
 *
 * const desk = new ApprovalGate({ name: 'desk', expiresMs: 600_000 });
 * of('sent').pipe(awaitApproval(desk, { id: 'toolu_1', title: 'Send the mail?' })).subscribe((word) => console.log(word));
 * for (const { id, title } of desk.pending()) console.log(id, title);
 * desk.approve('toolu_1');
 * ```
 *
 * One timer serves all due times. Bad options throw TypeError or RangeError.
 */
export class ApprovalGate extends GateBase<ApprovalSnapshot, ApprovalVisit> implements Gate<ApprovalAsk, unknown> {
  private readonly book: ApprovalBook<StandingRequest, ApprovalVisit>;
  private readonly expiresMs: number;
  /** Of what keys belong to. */
  private readonly owners = new WeakMap<object, number>();
  private numbered = 0;

  constructor(options: ApprovalGateOptions = {}) {
    super(WHO, 'approval', options);
    const { expiresMs = Infinity, keepMs = 3_600_000, maxKept = 1_000 } = options;
    checkMs(WHO, 'expiresMs', expiresMs, 0, true);
    checkMs(WHO, 'keepMs', keepMs, 0, true);
    checkCount(WHO, 'maxKept', maxKept, 0);
    this.expiresMs = expiresMs;
    const onUseless = (page: Page): void =>
      this.tellDropped(page, page.decision === undefined ? 'request' : 'decision', 'its id came again for something else');
    this.book = new ApprovalBook<StandingRequest, ApprovalVisit>(this.name, { keepMs, maxKept }, sameRequest, onUseless);
  }

  /** What waits for a decision, in the order in which it was asked; `state$` tells when it changes. */
  pending(): PendingApproval[] {
    const now = this.timer.now();
    return Array.from(this.book.entries(), (page) => pictureOf(page, now));
  }

  /**
   * Lets the call go, with an edited input if one is given; false if nothing waits under that id. An edit that the request
   * does not take throws here, and the request goes on waiting.
   */
  approve(id: string, edit: { readonly input?: unknown } = {}): boolean {
    const page = this.book.find(id);
    if (page === undefined) return false;
    const input = edit.input === undefined ? page.request.input : validated(WHO, page.request, edit.input);
    return this.decide(page, { kind: 'approved', input });
  }

  /** Refuses the call, which errors with ApprovalDeniedError; false if nothing waits under that id. */
  deny(id: string, reason?: string): boolean {
    if (reason !== undefined && typeof reason !== 'string') refuse(TypeError, WHO, 'reason', 'a string', reason);
    const page = this.book.find(id);
    return page !== undefined && this.decide(page, { kind: 'denied', reason });
  }

  enter(ask: ApprovalAsk, call: Call, caller: Caller<unknown>): Withdraw {
    this.checkOpen();
    checkRequest(ask, (what, range, got) => {
      throw new BadAskError(this.name, what, range, got);
    });
    const { isOver, onAsked, owner, ...kept } = ask;
    const { id, keep = false, expiresMs = this.expiresMs, idTaken } = kept;
    const now = this.timer.now();
    const visit: ApprovalVisit = new Visit(this, call, caller, { page: undefined, decision: undefined, isOver });
    const request = { ...kept, path: call.scope.path };
    const key = keep === true ? id : keep === false ? undefined : `${this.numberOf(owner)}${keep}`;
    const asked = { request, key, waiter: visit, dueAt: now + expiresMs };
    const page = this.book.ask({ ...asked, id: idTaken === 'another' ? this.book.free(id, key) : id }, now);
    if (page === undefined) throw new BadAskError(this.name, 'id', 'one that nobody waits under', id);
    if (page.decision === undefined) {
      onAsked?.(page.id);
      return this.wait(visit, page, now);
    }
    this.answer(visit, page, page.decision);
    return nothing;
  }

  snapshot(): ApprovalSnapshot {
    return { name: this.name, pending: this.pending(), remembered: this.book.remembered };
  }

  /** @internal Approved, but never started: a request that is kept need not be decided again. */
  override ended({ hold: { page, decision, isOver } }: ApprovalVisit, { started }: CallEnd): void {
    if (started || page?.key === undefined || decision === undefined || this.disposed) return;
    if (isOver?.() === true) return;
    page.waiter = undefined;
    this.tellDropped(this.book.remember(page, decision, this.timer.now()), 'decision');
  }

  /** @internal */
  override left(visit: ApprovalVisit, end: CallEnd): void {
    if (this.live.remove(visit)) this.tellSettled(visit, end);
  }

  protected override onWake(): void {
    for (let page = this.book.expire(this.timer.now()); page !== undefined; page = this.book.expire(this.timer.now())) this.expired(page);
    this.arm();
  }

  protected override refuseWaiting(error: () => Error): void {
    const waiting = [...this.book.entries()];
    this.book.clear();
    for (const { waiter } of waiting) if (waiter !== undefined) this.refuse(waiter.call, waiter.caller, error());
  }

  private numberOf(owner: object | undefined): string {
    if (owner === undefined) return '';
    let number = this.owners.get(owner);
    if (number === undefined) this.owners.set(owner, (number = ++this.numbered));
    return `${number} `;
  }

  private wait(visit: ApprovalVisit, page: Page, now: number): Withdraw {
    visit.since = now;
    this.arm();
    if (this.watched) {
      const { path } = page.request;
      this.tell({ type: 'queued', path, waiting: this.book.size });
      this.tell({ type: 'approval', id: page.id, path, outcome: 'asked' });
    }
    return () => this.withdraw(visit, page);
  }

  private withdraw(visit: ApprovalVisit, page: Page): void {
    if (page.waiter !== visit || !this.book.has(page)) return;
    if (visit.hold.isOver?.() === true) page.key = undefined;
    const dropped = this.book.leave(page);
    this.arm();
    if (this.watched) this.tell({ type: 'withdrawn', path: page.request.path });
    this.tellDropped(dropped, 'request');
  }

  private decide(page: Page, decision: Decision): boolean {
    // Checking an edit may have decided it in between.
    if (!this.book.has(page)) return false;
    const dropped = this.book.decide(page, decision, this.timer.now());
    this.arm();
    this.tell({ type: 'approval', id: page.id, path: page.request.path, outcome: decision.kind });
    this.tellDropped(dropped, 'decision');
    if (page.waiter !== undefined) this.answer(page.waiter, page, decision);
    return true;
  }

  private answer(visit: ApprovalVisit, page: Page, decision: Decision): void {
    const { call, caller, hold } = visit;
    if (decision.kind === 'denied') return this.refuse(call, caller, new ApprovalDeniedError(this.name, page.id, decision.reason));
    hold.page = page;
    hold.decision = decision;
    guarded(this.scheduler, () => this.pass(visit, decision.input));
  }

  private expired({ id, request, waiter, dueAt, askedAt }: Page): void {
    this.tell({ type: 'approval', id, path: request.path, outcome: 'expired' });
    if (waiter !== undefined) this.refuse(waiter.call, waiter.caller, new ApprovalExpiredError(this.name, id, dueAt - askedAt));
  }

  /** The timer is left alone as long as something is due: it looks at the clock again when it rings. */
  private arm(): void {
    const { nextDue } = this.book;
    if (nextDue < Infinity) this.timer.wakeBy(nextDue);
    else this.timer.stop();
  }

  private tellDropped(page: Page | undefined, what: string, why = 'too many are kept'): void {
    if (page === undefined) return;
    this.tell({ type: 'note', path: page.request.path, note: `dropped ${what} "${page.id}": ${why}`, amount: 1, unit: what });
  }
}
