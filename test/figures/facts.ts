import type { Figures } from './figures.js';
import { count, dollars, seconds } from './words.js';

/** What docs/guide/limits.md says in bold, in its order. */
export function facts({ wave, longPauses, slowWave, extra, budgets, simple, trip, day, handovers }: Figures): string[] {
  return [
    ...[wave.jitter, wave.without, wave.with].flatMap(({ sent, doneMs }) => [count(sent.length), seconds(doneMs)]),
    ...[longPauses, slowWave.with, slowWave.without].flatMap(({ sent, doneMs }) => [count(sent.length), seconds(doneMs)]),
    ...[extra.without, extra.with].map(count),
    ...budgets.flatMap((budget) => [budget.without, budget.with].map(({ total }) => dollars(total))),
    ...[simple.wrongInFloats, simple.budgets, simple.wrongInIntegers].map(count),
    ...[trip.without.afterTrip, trip.with.errors.length, trip.with.afterTrip].map(count),
    ...[day.without.mostLive, day.with.mostLive].map(count),
    ...[handovers.without, handovers.with].flatMap(({ early, handovers }) => [count(early), count(handovers)]),
  ];
}
