import { constants } from 'node:os';

/** Ctrl-C and its kin, told once. */
export interface Interruption {
  /** Aborted by the first SIGINT or SIGTERM; its reason is the name of the signal. */
  readonly signal: AbortSignal;
  /** 0, or 128 plus the number of the signal. */
  readonly exitCode: number;
}

/** npm passes on the Ctrl-C that the terminal has sent to everybody already: that is not a second one. */
const ECHO_MS = 250;

/** The first signal is for the program to act upon; the second one ends it at once, after `lastWords`. */
export function catchSignals(lastWords: () => void): Interruption {
  const controller = new AbortController();
  const { signal } = controller;
  let exitCode = 0;
  let at = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    if (!signal.aborted) {
      at = performance.now();
      exitCode = 128 + (constants.signals[name] ?? 0);
      controller.abort(name);
    } else if (performance.now() - at > ECHO_MS) {
      lastWords();
      process.exit(exitCode);
    }
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    signal,
    get exitCode() {
      return exitCode;
    },
  };
}
