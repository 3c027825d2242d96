import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { facts } from '../figures/facts.js';
import { type Figures, figures } from '../figures/figures.js';
import { LIMIT } from '../figures/fleetSpend.js';
import { pictures } from '../figures/pictures.js';
import { CALLERS, retryWave, sharedGate } from '../figures/retryWave.js';

const read = (file: string): string => readFileSync(join(import.meta.dirname, '../../docs', file), 'utf8');
let now: Figures;
beforeAll(() => {
  now = figures();
});

describe('limits that hold', () => {
  it('a retry wave of 200 callers is over after at most 520 requests and 30 s, whatever chance does', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const { sent, answered, doneMs } = retryWave(sharedGate(seed));
      expect(answered).toBe(CALLERS);
      expect(sent.length).toBeLessThanOrEqual(520);
      expect(doneMs).toBeLessThanOrEqual(30_000);
    }
  });

  it('the same wave without a gate: twice the requests, or eight times', () => {
    const { jitter, without } = now.wave;
    expect([jitter.answered, without.answered]).toEqual([CALLERS, CALLERS]);
    expect(jitter.sent.length).toBeGreaterThan(1_200);
    expect(jitter.doneMs).toBeGreaterThan(60_000);
    expect(without.sent.length).toBeGreaterThan(4_000);
  });

  it('20 agents that meet one 429 send one probe instead of 100 calls', () => {
    expect(now.extra).toEqual({ without: 100, with: 1 });
  });

  it('10, 50 and 200 agents never spend and set aside more than the limit, and use nearly all of it', () => {
    for (const { agents, ...spending } of now.budgets) {
      expect(spending.without.total).toBeGreaterThan(LIMIT + agents * 20_000);
      expect(spending.with.peak).toBeLessThanOrEqual(LIMIT);
      expect(spending.with.total).toBeLessThanOrEqual(LIMIT);
      expect(spending.with.total).toBeGreaterThan(LIMIT * 0.95 - 1);
    }
  });

  it('none of 5,000 integer budgets lets in a wrong number of calls', () => {
    expect(now.simple).toEqual({ budgets: 5_000, wrongInIntegers: 0, wrongInFloats: 2_529 });
  });

  it('15 calls in flight are stopped in the turn of the trip, before its failure is told', () => {
    const { without, with: stopped } = now.trip;
    expect(stopped).toMatchObject({ inFlightWhenTold: 0, afterTrip: 0, errors: Array.from({ length: 15 }, () => 'CircuitTrippedError') });
    expect(without).toMatchObject({ inFlightWhenTold: 15, errors: [], trippedMs: stopped.trippedMs });
    expect(without.afterTrip).toBeGreaterThan(0);
  });

  it('behind one permit two calls are never live', () => {
    expect([now.day.with.mostLive, now.day.without.mostLive]).toEqual([1, 2]);
    expect(now.day.with.spans.map(({ name, from, to }) => [name, from, to])).toEqual([
      ['A', 0, 3_000],
      ['B', 3_000, 7_000],
      ['C', 7_000, 10_000],
    ]);
    expect(now.handovers).toEqual({ without: { handovers: 99, early: 99 }, with: { handovers: 99, early: 0 } });
  });
});

describe('the guide shows what the simulations give now: `npm run figures` draws and prints it', () => {
  it('every figure in bold, in its order', () => {
    const bold = [...read('guide/limits.md').matchAll(/\*\*(.+?)\*\*/g)].map(([, figure]) => figure);
    expect(bold).toEqual(facts(now));
  });

  it('every picture', () => {
    const drawn = pictures(now);
    expect(Object.keys(drawn)).toHaveLength(4);
    for (const [name, svg] of Object.entries(drawn)) {
      expect(read(`img/${name}`), name).toBe(svg);
      expect(read('guide/limits.md')).toContain(`(../img/${name})`);
    }
  });
});
