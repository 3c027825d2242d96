import { Subscription } from 'rxjs';
import { FleetBudget, KeyedLock, RetryGate, Semaphore, TokenBucket } from './fleet.mjs';

/*
 * Gates with nothing in front of them: calls enter through the port, as `admit` has them do it. Each of `lines` makes a gate
 * that lets one call in at a time.
 */

/** A clock that stands still, and at most one task. */
export class ManualScheduler {
  time = 0;
  task = undefined;

  now() {
    return this.time;
  }

  schedule(work, delay) {
    const task = (this.task = { work, at: this.time + delay });
    return new Subscription(() => {
      if (this.task === task) this.task = undefined;
    });
  }

  /** Goes on to the time of the task, and runs it. */
  run() {
    const { work, at } = this.task;
    this.task = undefined;
    this.time = Math.max(this.time, at);
    work();
  }
}

const completed = { kind: 'completed', started: true, emitted: 1 };

/** What a gate is told of a call. */
export const newCall = () => ({ scope: { path: [], remaining: () => Infinity }, attempt: 1, started: true, heldAbove: () => undefined });

/** Calls at one gate: what was granted is held until it is ended. */
export class Callers {
  held = [];
  granted = 0;

  constructor(gate, { ask = {}, use, scheduler } = {}) {
    Object.assign(this, { gate, ask, use, scheduler });
    this.caller = {
      granted: (lease) => {
        this.granted++;
        this.held.push(lease);
      },
      refused: (error) => {
        throw error;
      },
      revoked: () => {},
    };
  }

  /** @returns how to withdraw it */
  enter(call) {
    return this.gate.enter(this.ask, call, this.caller);
  }

  end(how = completed) {
    const lease = this.held.pop();
    if (this.use !== undefined) lease.report(this.use);
    const again = lease.settle(how);
    lease.release?.();
    again?.();
    lease.pump?.();
  }

  /** Ends one call after the other until so many have been granted and nobody waits. */
  drain(total) {
    while (this.granted < total) {
      if (this.held.length > 0) this.end();
      else this.scheduler.run();
    }
    while (this.held.length > 0) this.end();
  }
}

const throttled = { kind: 'failed', started: true, emitted: 0, error: { status: 429, headers: { 'retry-after': '1' } } };

export const lines = {
  semaphore: () => occupied(new Callers(new Semaphore({ limit: 1 }))),

  bucket: () => {
    const scheduler = new ManualScheduler();
    return occupied(new Callers(new TokenBucket({ capacity: 1, refill: { tokens: 1, everyMs: 1 }, scheduler }), { scheduler }));
  },

  /** It has met a throttle: whoever comes now is parked, and comes in after the pause, first one, then two, and so on. */
  'retry gate': () => {
    const scheduler = new ManualScheduler();
    const callers = occupied(new Callers(new RetryGate({ scheduler, random: () => 0 }), { scheduler }));
    callers.end(throttled);
    return callers;
  },

  'keyed lock': () => occupied(new Callers(new KeyedLock(), { ask: { writes: ['key'] } })),

  /** Each call reserves all there is, and spends nothing. */
  budget: () => {
    const agent = new FleetBudget({ name: 'fleet', usd: 1 }).child('agent', { usd: 1 });
    return occupied(new Callers(agent, { ask: { estimate: 1_000_000, onExceed: 'wait' }, use: { microUsd: 0 } }));
  },
};

function occupied(callers) {
  callers.enter(newCall());
  return callers;
}
