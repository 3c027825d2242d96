import type { ScopeNode } from '../core/node.js';
import type { GateOptions } from './checks.js';
import { BadAskError, ReentrantAcquireError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase, guarded } from './gateBase.js';
import { LiveList } from './liveList.js';
import { lockModes, LockTable, type Claim, type KeyUse, type LockKeys } from './lockTable.js';
import { Visit } from './visit.js';

export type { KeyUse, LockKeys };

export interface KeyedLockSnapshot {
  readonly name: string;
  /** Calls that hold their keys. */
  readonly held: number;
  readonly waiting: number;
  /** Every key that somebody holds or waits for. */
  readonly keys: readonly KeyUse[];
}

/** One caller: first in the lines of its keys, then their holder. */
type LockVisit = Visit<LockHold>;
interface LockHold {
  claim: Claim<LockVisit> | undefined;
}

/**
 * Readers-writer locks by key: calls whose keys conflict run one after the other in order of arrival, all others at once.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { KeyedLock, serializeBy } from 'rxfleet';
 *
 * const files = new KeyedLock({ name: 'files' });
 * of('saved')
 *   .pipe(serializeBy(files, { writes: ['notes.md'] }))
 *   .subscribe((word) => console.log(word, files.snapshot().keys));
 * ```
 *
 * A call gets all of its keys or none, so locks taken in any order cannot deadlock. It keeps them until nothing of it runs any
 * more. Bad options throw TypeError or RangeError.
 */
export class KeyedLock extends GateBase<KeyedLockSnapshot, LockVisit> implements Gate<LockKeys> {
  private readonly table = new LockTable<LockVisit>();
  private readonly line = new LiveList<LockVisit>();
  /** The innermost claim of each call in flight, by its scope. */
  private readonly claims = new WeakMap<object, Claim<LockVisit>>();
  private granting = false;

  constructor(options: GateOptions = {}) {
    super('KeyedLock', 'lock', options);
  }

  enter(ask: LockKeys, call: Call, caller: Caller): Withdraw {
    this.checkOpen();
    checkKeys(ask, (what, range, got) => {
      throw new BadAskError(this.name, what, range, got);
    });
    const holder = call.heldAbove(this);
    const visit: LockVisit = new Visit(this, call, caller, { claim: undefined });
    const claim = this.table.claim(visit, lockModes(ask), holder && this.claimAbove(call));
    if (claim === undefined) throw new ReentrantAcquireError(this.name, call.scope.path, holder ?? []);
    visit.hold.claim = claim;
    if (!claim.held) return this.wait(visit);
    this.grant(visit);
    return nothing;
  }

  snapshot(): KeyedLockSnapshot {
    const { name, live, line } = this;
    return { name, held: live.length, waiting: line.length, keys: this.table.uses() };
  }

  /** @internal Gives the keys back; whoever waits comes in after downstream was told, or in this frame if the call was cancelled. */
  override left(visit: LockVisit, end: CallEnd): void {
    const { hold, call } = visit;
    const { claim } = hold;
    if (claim === undefined || !this.live.remove(visit)) return;
    this.table.drop(claim);
    if (claim.above?.owner.call === call) this.claims.set(call.scope, claim.above);
    else this.claims.delete(call.scope);
    this.tellSettled(visit, end);
    if (end.kind === 'cancelled') this.pumpSoon();
  }

  /** @internal Lets in whoever has nobody in front any more. A loop: what a grant starts may end at once and call back in. */
  override pump(): void {
    if (this.granting || this.disposed) return;
    this.granting = true;
    try {
      for (let visit = this.next(); visit !== undefined; visit = this.next()) {
        const granted = visit;
        guarded(this.scheduler, () => this.grant(granted));
      }
    } finally {
      this.granting = false;
    }
    if (this.line.length === 0) this.timer.stop();
  }

  protected override onWake(): void {
    this.pump();
  }

  protected override refuseWaiting(error: () => Error): void {
    for (const visit of this.line.all()) if (this.leave(visit)) this.refuse(visit.call, visit.caller, error());
  }

  private next(): LockVisit | undefined {
    if (this.disposed) return undefined;
    const visit = this.table.next()?.owner;
    if (visit !== undefined) this.line.remove(visit);
    return visit;
  }

  private grant(visit: LockVisit): void {
    this.claims.set(visit.call.scope, visit.hold.claim as Claim<LockVisit>);
    this.pass(visit);
  }

  private wait(visit: LockVisit): Withdraw {
    visit.since = this.timer.now();
    this.line.add(visit);
    this.tellQueued(visit, this.line.length);
    return () => this.withdraw(visit);
  }

  private withdraw(visit: LockVisit): void {
    if (!this.leave(visit)) return;
    if (this.line.length === 0) this.timer.stop();
    else this.pumpSoon();
    this.tellWithdrawn(visit);
  }

  /** Takes a waiter out; whether it was waiting. */
  private leave(visit: LockVisit): boolean {
    if (!this.line.remove(visit)) return false;
    this.table.drop(visit.hold.claim as Claim<LockVisit>);
    return true;
  }

  private pumpSoon(): void {
    if (this.table.moved && !this.granting) this.timer.wakeSoon();
  }

  private claimAbove(call: Call): Claim<LockVisit> | undefined {
    for (let scope: ScopeNode | undefined = call.scope as unknown as ScopeNode; scope !== undefined; scope = scope.up) {
      const claim = this.claims.get(scope);
      if (claim !== undefined) return claim;
    }
    return undefined;
  }
}

/** Hands whatever is wrong with the keys of a call to `bad`. */
export function checkKeys(keys: unknown, bad: (what: string, range: string, got: unknown) => never): void {
  if (typeof keys !== 'object' || keys === null) bad('keys', 'an object', keys);
  for (const which of ['reads', 'writes'] as const) {
    const list: unknown = (keys as LockKeys)[which];
    const fits = list === undefined || (Array.isArray(list) && list.every((key) => typeof key === 'string'));
    if (!fits) bad(which, 'an array of strings', list);
  }
}
