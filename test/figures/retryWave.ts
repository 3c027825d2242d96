import { defer, map, merge, mergeMap, type MonoTypeOperatorFunction, retry, throwError, timer } from 'rxjs';
import { RetryGate, type RetryGateOptions, retryThrough } from '../../src/index.js';
import { chance, simulate } from './virtualTime.js';

export const CALLERS = 200;
export const OUTAGE_MS = 10_000;
export const SERVED_PER_SECOND = 10;
const THROTTLED = { status: 429, headers: { 'retry-after': '1' } };

/** How the calls of all callers are tried again. */
export type Client = MonoTypeOperatorFunction<string>;

export interface Wave {
  /** When each request was sent, in milliseconds. */
  readonly sent: readonly number[];
  readonly answered: number;
  readonly doneMs: number;
}

/** All callers at once; the server answers 429 during the outage and serves ten requests in each second after it. */
export function retryWave(client: Client, answerMs = 5): Wave {
  const sent: number[] = [];
  let [answered, doneMs] = [0, 0];
  simulate((now) => {
    const serves = makeServer();
    const call = defer(() => {
      sent.push(now());
      const served = serves(now());
      return timer(answerMs).pipe(mergeMap(() => (served ? ['answer'] : throwError(() => THROTTLED))));
    });
    merge(...Array.from({ length: CALLERS }, () => call.pipe(client))).subscribe(() => {
      answered++;
      doneMs = now();
    });
  });
  return { sent, answered, doneMs };
}

function makeServer(): (now: number) => boolean {
  let [second, served] = [-1, 0];
  return (now) => {
    if (Math.floor(now / 1_000) !== second) [second, served] = [Math.floor(now / 1_000), 0];
    return now >= OUTAGE_MS && served++ < SERVED_PER_SECOND;
  };
}

/** Each caller alone waits a chance time, up to 1 s, 2 s, 4 s, … 60 s. */
export function fullJitter(seed = 1): Client {
  const random = chance(seed);
  return retry({ delay: (_, attempt) => timer(random() * Math.min(60_000, 1_000 * 2 ** (attempt - 1))) });
}

/** Each caller alone waits as long as the server asks. */
export function plainRetryAfter(): Client {
  return retry({ delay: () => timer(1_000) });
}

/** All callers wait together. The server names the pause, so the gate need not make longer ones. */
export function sharedGate(seed = 1, options: RetryGateOptions = { capMs: 1_000 }): Client {
  return retryThrough(new RetryGate({ random: chance(seed), ...options }));
}

const AGENTS = 20;
const PAUSE_MS = 30_000;

/** Twenty agents meet one 429 that asks for half a minute: how many requests follow until one is answered. */
export function extraRequests(client: Client): number {
  let [sent, until] = [0, Infinity];
  simulate((now) => {
    const call = defer(() => {
      if (now() < until) sent++;
      const throttled = now() < PAUSE_MS;
      return timer(5).pipe(
        mergeMap(() => (throttled ? throwError(() => ({ status: 429, headers: { 'retry-after': '30' } })) : ['answer'])),
      );
    });
    const answer = call.pipe(
      client,
      map((value) => ((until = Math.min(until, now())), value)),
    );
    for (let agent = 0; agent < AGENTS; agent++) answer.subscribe({ error: () => {} });
  });
  return sent - AGENTS;
}

/** Five retries, each agent alone, after a chance time up to 0.5 s, 1 s, … 8 s. */
export function fiveRetries(): Client {
  const random = chance(1);
  return retry({ count: 5, delay: (_, attempt) => timer(random() * 500 * 2 ** (attempt - 1)) });
}
