import { pathToFileURL } from 'node:url';

/** The build under test: this checkout's, or another one to compare it with (RXFLEET_DIST=/path/to/dist). */
export const dist = process.env.RXFLEET_DIST ? pathToFileURL(`${process.env.RXFLEET_DIST}/`) : new URL('../../dist/', import.meta.url);

export const {
  bulkhead,
  circuitBreak,
  CircuitBreaker,
  fanOutScoped,
  FleetBudget,
  fleetBudget,
  KeyedLock,
  RetryGate,
  retryThrough,
  scoped,
  Semaphore,
  takeWithin,
  TokenBucket,
  tokenBucket,
} = await import(new URL('index.js', dist));

/** A module of the build that no entry exports. */
export function inner(path) {
  return import(new URL(path, dist));
}
