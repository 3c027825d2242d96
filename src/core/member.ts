import type { AsyncSubject } from 'rxjs';
import type { Alarm, Clock } from './clock.js';
import { ScopeCancelledError } from './errors.js';
import type { ScopeNode } from './node.js';
import type { CallInfo, CancelReason, LateOutcome, Outcome, ScopeFailure, ScopeReport, ScopeTree } from './types.js';

/** One cancel: its reason, and the one error that every signal below is aborted with. */
export class Cancellation {
  private made: ScopeCancelledError | undefined;
  constructor(readonly reason: CancelReason) {}

  get error(): ScopeCancelledError {
    return (this.made ??= new ScopeCancelledError(this.reason));
  }

  below(): Cancellation {
    return new Cancellation({ kind: 'parent-cancelled', cause: this.reason });
  }
}

/** Something that a scope waits for: a call, or a nested scope. Linked into the scope's list while it lives. */
export abstract class Member {
  before: Member | undefined = undefined;
  after: Member | undefined = undefined;

  constructor(readonly up: ScopeNode | undefined) {}

  abstract get over(): boolean;
  /** The calls that still run, here or below. */
  abstract calls(): CallMember[];
  /** Runs `task` once this is over. */
  abstract whenOver(task: () => void): void;

  /** Called when it is torn down: a scope that did this and is neither above nor below waits for it as well. */
  protected tornDownBy(stopper: ScopeNode | undefined): void {
    if (stopper === undefined || !stopper.cancelled || this.over) return;
    for (let node = this.up; node !== undefined; node = node.up) if (node === stopper) return;
    for (let node: Member | undefined = stopper; node !== undefined; node = node.up) if (node === this) return;
    stopper.host(this);
  }
}

/** A call or a cleanup that runs in a scope. `Lease` implements it. */
export abstract class CallMember extends Member {
  abstract readonly shielded: boolean;
  abstract readonly cancelled: boolean;
  /** Tells it to stop; true if there is something to tear down as well. */
  abstract abort(cancellation: Cancellation): boolean;
  abstract stop(): void;
  abstract abandon(): void;
  abstract info(): CallInfo;
  abstract describe(): ScopeTree['calls'][number];

  calls(): CallMember[] {
    return this.over ? [] : [this];
  }
}

/** The settings that a scope shares with its children. */
export interface Env {
  readonly clock: Clock;
  readonly graceMs: number;
  readonly label: string | undefined;
}

/** What most scopes never need. */
export class More {
  deadline: Alarm | undefined = undefined;
  grace: Alarm | undefined = undefined;
  controller: AbortController | undefined = undefined;
  report$: AsyncSubject<ScopeReport> | undefined = undefined;
  promise: Promise<ScopeReport> | undefined = undefined;
  /** Calls that were cancelled one by one and have not settled. */
  stopping = 0;
  abandoned: readonly CallInfo[] = [];
  errors: ScopeFailure[] | undefined = undefined;
  outcomes: Outcome<unknown>[] | undefined = undefined;
  late: LateOutcome[] | undefined = undefined;
  /** Abandoned calls, here or below, that still run. */
  orphans: Set<CallMember> | undefined = undefined;
  /** What lives elsewhere but was torn down from here. */
  guests: Set<Member> | undefined = undefined;
  /** Open resources; run last opened first when nothing else is left. */
  closers: (() => void)[] | undefined = undefined;
  afterwards: (() => void)[] | undefined = undefined;
}
