/** A captured async context. Browsers have none to carry, so running in it is a plain call. */
export interface AsyncBinding {
  run<A>(task: (argument: A) => void, argument: A): void;
}

/** Captures the async context of the caller, or undefined where the platform has none. */
export function captureContext(): AsyncBinding | undefined {
  return undefined;
}

/** Lets one signal have any number of listeners without a warning. */
export function manyListeners(_signal: AbortSignal): void {
  // Browsers do not count listeners.
}
