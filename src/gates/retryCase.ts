import type { Due } from './dueQueue.js';
import type { RetryRecord } from './retryJudge.js';
import type { RetryAsk } from './retryOptions.js';
import type { Turn } from './turn.js';

/** A call through all of its attempts: in the line, in flight, or waiting for the time of its retry. */
export type RetryTurn = Turn<RetryCase>;

/** What the gate knows of it. */
export class RetryCase implements RetryRecord, Due {
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
  /** Whose case it is. */
  declare of: RetryTurn;

  constructor(readonly ask: RetryAsk) {}
}
