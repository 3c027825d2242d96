import { CANCELLING } from '../core/node.js';
import type { CallEnd, Caller, Gate, Lease, Withdraw } from '../gates/gate.js';
import type { Admission } from './admission.js';

/** One gate of a stack, and what each call asks of it. */
export interface Plan {
  readonly gate: Gate<unknown, unknown, unknown>;
  /** A function is called once for each entry. */
  readonly ask: unknown;
  readonly usage?: ((value: unknown) => unknown) | undefined;
}

/** Gates in front of one call: this one, and those further in. */
export interface Stack {
  readonly plan: Plan | undefined;
  readonly inner?: Stack | undefined;
  /** Whether all that runs behind them is one WorkObservable. */
  readonly single?: boolean | undefined;
}

const IDLE = 0;
const ENTERING = 1;
export const WAITING = 2;
export const GRANTED = 3;
export const SETTLED = 4;
const OVER = 5;

/** One gate in front of one call. */
export class Stage implements Caller<unknown, unknown> {
  phase: number = IDLE;
  lease: Lease<unknown> | undefined = undefined;
  grant: unknown = undefined;
  private withdraw: Withdraw | undefined = undefined;

  constructor(
    private readonly owner: Admission<unknown>,
    readonly plan: Plan,
  ) {}

  /** Asks to pass; with `again`, where an attempt ended that is to be repeated. */
  enter(again: (() => Withdraw) | undefined): void {
    const { owner, plan } = this;
    this.phase = ENTERING;
    this.lease = undefined;
    try {
      const withdraw =
        again === undefined
          ? plan.gate.enter(typeof plan.ask === 'function' ? (plan.ask as () => unknown)() : plan.ask, owner, this)
          : again();
      if (this.phase !== ENTERING) return;
      this.withdraw = withdraw;
      this.phase = WAITING;
      if (owner.state >= CANCELLING) this.leave();
    } catch (error) {
      if (this.phase !== ENTERING) return this.report(error);
      this.attempt(() => plan.gate.threw?.(error as Error, owner));
      this.refused(error as Error);
    }
  }

  granted(lease: Lease<unknown>, grant: unknown): void {
    const { phase } = this;
    if (lease === this.lease) return;
    if (phase === GRANTED || phase === SETTLED) return this.giveBack(lease);
    this.lease = lease;
    if (phase === OVER || this.owner.state >= CANCELLING) {
      this.phase = OVER;
      return this.giveBack(lease);
    }
    this.phase = GRANTED;
    this.grant = grant;
    if (phase === WAITING) this.owner.resume();
  }

  refused(error: Error): void {
    if (this.phase !== ENTERING && this.phase !== WAITING) return;
    this.phase = OVER;
    this.owner.turnAway(error);
  }

  revoked(error: Error, tell?: (() => void)[]): void {
    if (this.phase === GRANTED) this.owner.revoke(error, this.plan.gate.name, tell);
    else this.refused(error);
  }

  /** The call is no longer wanted. While it enters, what the gate answers shows what is to be done. */
  leave(): void {
    const { phase, withdraw, lease } = this;
    if (phase === ENTERING) return;
    this.phase = OVER;
    if (phase === GRANTED && lease !== undefined) this.giveBack(lease);
    else if (phase === WAITING && withdraw !== undefined) this.attempt(withdraw);
  }

  /** A grant that came too late, or twice, or to a call that was cancelled meanwhile. */
  private giveBack(lease: Lease<unknown>): void {
    this.attempt(() => {
      lease.settle({ kind: 'cancelled', started: false, emitted: 0 });
      lease.release?.();
    });
  }

  private attempt(task: () => void): void {
    try {
      task();
    } catch (error) {
      this.report(error);
    }
  }

  settle(end: CallEnd): (() => Withdraw) | void {
    if (this.phase !== GRANTED) return;
    this.phase = SETTLED;
    try {
      return (this.lease as Lease<unknown>).settle(end);
    } catch (error) {
      this.report(error);
    }
  }

  begin(): void {
    try {
      this.lease?.begin?.();
    } catch (error) {
      this.report(error);
    }
  }

  release(): void {
    this.phase = OVER;
    try {
      this.lease?.release?.();
    } catch (error) {
      this.report(error);
    }
  }

  pump(): void {
    try {
      this.lease?.pump?.();
    } catch (error) {
      this.report(error);
    }
  }

  /** What a gate does wrong is reported as uncaught: the call and the other gates go on. */
  private report(error: unknown): void {
    this.owner.env.clock.scheduler.schedule(() => {
      throw error;
    });
  }
}
