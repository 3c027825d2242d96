import type { Due } from './dueQueue.js';
import type { Call, Caller } from './gate.js';
import type { RetryRecord } from './retryJudge.js';
import type { RetryAsk } from './retryOptions.js';
import { type Keeper, Visit } from './visit.js';

/** One call through all of its attempts: in the line, in flight, or waiting for the time of its retry. */
export class RetryVisit extends Visit<undefined> implements RetryRecord, Due {
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
    gate: Keeper<never>,
    readonly ask: RetryAsk,
    call: Call,
    caller: Caller,
  ) {
    super(gate, call, caller, undefined);
  }
}
