import type { ScopeNode } from '../core/node.js';
import type { GateOptions } from './checks.js';
import { BadAskError, ReentrantAcquireError } from './errors.js';
import { nothing, type Call, type CallEnd, type Caller, type Gate, type Withdraw } from './gate.js';
import { GateBase, guarded } from './gateBase.js';
import { LiveList } from './liveList.js';
import { lockModes, LockTable, type Claim, type KeyUse, type LockKeys } from './lockTable.js';
import { Turn } from './turn.js';

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
type LockTurn = Turn<LockHold>;
interface LockHold {
  claim: Claim<LockTurn> | undefined;
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
export class KeyedLock extends GateBase<KeyedLockSnapshot, LockHold> implements Gate<LockKeys> {
  private readonly table = new LockTable<LockTurn>();
  private readonly line = new LiveList<LockTurn>();
  /** The innermost claim of each call in flight, by its scope. */
  private readonly claims = new WeakMap<object, Claim<LockTurn>>();
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
    const turn: LockTurn = new Turn(this, call, caller, { claim: undefined });
    const claim = this.table.claim(turn, lockModes(ask), holder && this.claimAbove(call));
    if (claim === undefined) throw new ReentrantAcquireError(this.name, call.scope.path, holder ?? []);
    turn.hold.claim = claim;
    if (!claim.held) return this.wait(turn);
    this.grant(turn);
    return nothing;
  }

  snapshot(): KeyedLockSnapshot {
    const { name, live, line } = this;
    return { name, held: live.length, waiting: line.length, keys: this.table.uses() };
  }

  /** @internal Gives the keys back; whoever waits comes in after downstream was told, or in this frame if the call was cancelled. */
  override left(turn: LockTurn, end: CallEnd): void {
    const { hold, call } = turn;
    const { claim } = hold;
    if (claim === undefined || !this.live.remove(turn)) return;
    this.table.drop(claim);
    if (claim.above?.owner.call === call) this.claims.set(call.scope, claim.above);
    else this.claims.delete(call.scope);
    this.tellSettled(turn, end);
    if (end.kind === 'cancelled') this.pumpSoon();
  }

  /** @internal Lets in whoever has nobody in front any more. A loop: what a grant starts may end at once and call back in. */
  override pump(): void {
    if (this.granting || this.disposed) return;
    this.granting = true;
    try {
      for (let turn = this.next(); turn !== undefined; turn = this.next()) {
        const granted = turn;
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
    for (const turn of this.line.all()) if (this.leave(turn)) this.refuse(turn.call, turn.caller, error());
  }

  private next(): LockTurn | undefined {
    if (this.disposed) return undefined;
    const turn = this.table.next()?.owner;
    if (turn !== undefined) this.line.remove(turn);
    return turn;
  }

  private grant(turn: LockTurn): void {
    this.claims.set(turn.call.scope, turn.hold.claim as Claim<LockTurn>);
    this.pass(turn);
  }

  private wait(turn: LockTurn): Withdraw {
    turn.since = this.timer.now();
    this.line.add(turn);
    this.tellQueued(turn, this.line.length);
    return () => this.withdraw(turn);
  }

  private withdraw(turn: LockTurn): void {
    if (!this.leave(turn)) return;
    if (this.line.length === 0) this.timer.stop();
    else this.pumpSoon();
    this.tellWithdrawn(turn);
  }

  /** Takes a waiter out; whether it was waiting. */
  private leave(turn: LockTurn): boolean {
    if (!this.line.remove(turn)) return false;
    this.table.drop(turn.hold.claim as Claim<LockTurn>);
    return true;
  }

  private pumpSoon(): void {
    if (this.table.moved && !this.granting) this.timer.wakeSoon();
  }

  private claimAbove(call: Call): Claim<LockTurn> | undefined {
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
