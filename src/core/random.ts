/** Chance where nobody passes `random`: the one place that asks the platform for it. */
// eslint-disable-next-line no-restricted-properties -- the default of every `random` option; all else takes it as an option
export const defaultRandom: () => number = Math.random;
