import type { Due } from './dueQueue.js';
import type { Call, CallEnd, Caller, Withdraw } from './gate.js';
import type { RetryRecord } from './retryJudge.js';
import type { RetryAsk } from './retryOptions.js';
import { Waiter } from './waitingLine.js';

/** What a lease needs of its gate. */
export interface RetryKeeper {
  ended(lease: RetryLease, end: CallEnd): (() => Withdraw) | void;
  letIn(): void;
}

/** One call through all of its attempts: in the line, in flight, or waiting for the time of its retry. */
export class RetryLease extends Waiter implements RetryRecord, Due {
  epoch = 0;
  grantedAt = 0;
  dueAt = 0;
  slot = -1;
  turn = 0;
  attempts = 0;
  failures = 0;
  throttles = 0;
  giveUpAt: number = Infinity;
  /** Values of earlier attempts. */
  emitted = 0;
  /** Of the last attempt. */
  error: unknown = undefined;

  constructor(
    private readonly keeper: RetryKeeper,
    readonly ask: RetryAsk,
    call: Call,
    caller: Caller,
  ) {
    super(call, caller, 0, undefined);
  }

  settle(end: CallEnd): (() => Withdraw) | void {
    return this.keeper.ended(this, end);
  }

  pump(): void {
    this.keeper.letIn();
  }
}
