import type { ScopeNode } from '../core/node.js';
import type { GateOptions } from './checks.js';
import { BadAskError, ReentrantAcquireError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase, guarded } from './gateBase.js';
import { LiveList } from './liveList.js';
import { lockModes, LockTable, type Claim, type KeyUse, type LockKeys } from './lockTable.js';
import { Waiter } from './waitingLine.js';

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
class LockLease extends Waiter {
  claim: Claim<LockLease> | undefined = undefined;
  private end: CallEnd | undefined = undefined;

  constructor(
    private readonly lock: KeyedLock,
    call: Call,
    caller: Caller,
  ) {
    super(call, caller, 0, undefined);
  }

  settle(end: CallEnd): void {
    this.end = end;
  }

  release(): void {
    this.lock.free(this, this.end as CallEnd);
  }

  pump(): void {
    this.lock.pump();
  }
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
export class KeyedLock extends GateBase<KeyedLockSnapshot> implements Gate<LockKeys> {
  private readonly table = new LockTable<LockLease>();
  private readonly line = new LiveList<LockLease>();
  /** The innermost claim of each call in flight, by its scope. */
  private readonly claims = new WeakMap<object, Claim<LockLease>>();
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
    const lease = new LockLease(this, call, caller);
    const claim = this.table.claim(lease, lockModes(ask), holder && this.claimAbove(call));
    if (claim === undefined) throw new ReentrantAcquireError(this.name, call.scope.path, holder ?? []);
    lease.claim = claim;
    if (!claim.held) return this.wait(lease);
    this.grant(lease);
    return nothing;
  }

  snapshot(): KeyedLockSnapshot {
    const { name, live, line } = this;
    return { name, held: live.length, waiting: line.length, keys: this.table.uses() };
  }

  /** Gives the keys back; whoever waits comes in after downstream was told, or in this frame if the call was cancelled. */
  free(lease: LockLease, end: CallEnd): void {
    const { claim, call } = lease;
    if (claim === undefined || !this.live.remove(lease)) return;
    this.table.drop(claim);
    if (claim.above?.owner.call === call) this.claims.set(call.scope, claim.above);
    else this.claims.delete(call.scope);
    this.tellSettled(lease, end);
    if (end.kind === 'cancelled') this.pumpSoon();
  }

  /** Lets in whoever has nobody in front any more. A loop: what a grant starts may end at once and call back in. */
  pump(): void {
    if (this.granting || this.disposed) return;
    this.granting = true;
    try {
      for (let lease = this.next(); lease !== undefined; lease = this.next()) {
        const granted = lease;
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
    for (const lease of this.line.all()) if (this.leave(lease)) this.refuse(lease.call, lease.caller, error());
  }

  private next(): LockLease | undefined {
    if (this.disposed) return undefined;
    const lease = this.table.next()?.owner;
    if (lease !== undefined) this.line.remove(lease);
    return lease;
  }

  private grant(lease: LockLease): void {
    const { call, caller, claim } = lease;
    this.live.add(lease);
    this.claims.set(call.scope, claim as Claim<LockLease>);
    this.tellAdmitted(lease);
    caller.granted(lease);
  }

  private wait(lease: LockLease): Withdraw {
    lease.since = this.timer.now();
    this.line.add(lease);
    if (this.watched) this.tell({ type: 'queued', path: lease.call.scope.path, waiting: this.line.length });
    return () => this.withdraw(lease);
  }

  private withdraw(lease: LockLease): void {
    if (!this.leave(lease)) return;
    if (this.line.length === 0) this.timer.stop();
    else this.pumpSoon();
    if (this.watched) this.tell({ type: 'withdrawn', path: lease.call.scope.path });
  }

  /** Takes a waiter out; whether it was waiting. */
  private leave(lease: LockLease): boolean {
    if (!this.line.remove(lease)) return false;
    this.table.drop(lease.claim as Claim<LockLease>);
    return true;
  }

  private pumpSoon(): void {
    if (this.table.moved && !this.granting) this.timer.wakeSoon();
  }

  private claimAbove(call: Call): Claim<LockLease> | undefined {
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
