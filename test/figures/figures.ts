import { breakerTrip, type Trip } from './breakerTrip.js';
import { checkThenRecord, reserveThenSettle, simpleBudgets, type SimpleBudgets, type Spending } from './fleetSpend.js';
import { type Day, type Handovers, hundredCalls, releaseThenForward, threeCalls, throughSemaphore } from './oneAtATime.js';
import { extraRequests, fiveRetries, fullJitter, plainRetryAfter, retryWave, sharedGate, type Wave } from './retryWave.js';

/** The same thing without the pack and with it. */
export interface Pair<T> {
  readonly without: T;
  readonly with: T;
}

export interface Figures {
  readonly wave: Pair<Wave> & { readonly jitter: Wave };
  /** The same through a gate with the pauses of its defaults. */
  readonly longPauses: Wave;
  /** The same with answers that take 200 ms. */
  readonly slowWave: Pair<Wave>;
  readonly extra: Pair<number>;
  readonly budgets: readonly (Pair<Spending> & { readonly agents: number })[];
  readonly simple: SimpleBudgets;
  readonly trip: Pair<Trip>;
  readonly day: Pair<Day>;
  readonly handovers: Pair<Handovers>;
}

/** All simulations, from the same chance each time. */
export function figures(): Figures {
  return {
    wave: { jitter: retryWave(fullJitter()), without: retryWave(plainRetryAfter()), with: retryWave(sharedGate()) },
    longPauses: retryWave(sharedGate(1, {})),
    slowWave: { without: retryWave(plainRetryAfter(), 200), with: retryWave(sharedGate(), 200) },
    extra: { without: extraRequests(fiveRetries()), with: extraRequests(sharedGate()) },
    budgets: [10, 50, 200].map((agents) => ({ agents, without: checkThenRecord(agents), with: reserveThenSettle(agents) })),
    simple: simpleBudgets(),
    trip: { without: breakerTrip(false), with: breakerTrip(true) },
    day: { without: threeCalls(releaseThenForward()), with: threeCalls(throughSemaphore()) },
    handovers: { without: hundredCalls(releaseThenForward()), with: hundredCalls(throughSemaphore()) },
  };
}
