import { startMessagesServer, expectNoOpenScopes, openScopes, type MessagesServer } from 'rxfleet/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { sleep, watchProcess } from './harness.js';
import { Run, script, STOPS, type Stop } from './instantsRun.js';

/** All instants for all ways to stop, with more microtasks after each event: several minutes. */
const EVERY = process.env['RXFLEET_EVERY_INSTANT'] !== undefined;
const MICROTASKS = EVERY ? 24 : 6;
const SAMPLE = EVERY ? Infinity : 150;
const AT_ONCE = 24;

let server: MessagesServer;
beforeAll(async () => {
  server = await startMessagesServer({ script, logSize: 50 });
});
afterAll(() => server.close());

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

/** Small and repeatable. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
}

/** Events, gates, requests and calls always; of the ticks after events as many as there is room for. */
function sampled(instants: readonly string[], size: number, seed: number): readonly string[] {
  const next = random(seed);
  const keyed = instants.map((instant) => ({ instant, key: next() }));
  return keyed
    .sort((a, b) => a.key - b.key)
    .slice(0, size)
    .map(({ instant }) => instant);
}

async function inParallel<T>(items: readonly T[], work: (item: T, index: number) => Promise<void>): Promise<void> {
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) await work(item, index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

interface Found {
  readonly wrong: readonly string[];
  readonly outcomes: ReadonlyMap<string, number>;
  readonly missed: number;
}

let named = 0;

async function stopAtEach(stop: Stop, instants: readonly string[]): Promise<Found> {
  const wrong: string[] = [];
  const outcomes = new Map<string, number>();
  let missed = 0;
  await inParallel(instants, async (at) => {
    const name = `run ${++named}`;
    const run = await new Run(name, server, stop, at, MICROTASKS).run();
    if (openScopes().some(({ label }) => label === name)) run.complaints.push('its scope is open');
    wrong.push(...run.complaints.map((each) => `${stop} at ${at}: ${each}`));
    outcomes.set(run.outcome, (outcomes.get(run.outcome) ?? 0) + 1);
    if (!run.wasStopped) missed++;
  });
  return { wrong, outcomes, missed };
}

const OUTCOMES: Readonly<Record<Stop, RegExp>> = {
  unsubscribe: /^(left|done)$/,
  abort: /^(ScopeCancelledError|done)$/,
  deadline: /^(DeadlineExceededError|done)$/,
  'model breaker': /^(CircuitTrippedError|CircuitOpenError|done)$/,
  'tool breaker': /^done$/,
  budget: /^(BudgetTrippedError|done)$/,
};

describe('a conversation of three turns that is stopped at any instant', () => {
  let instants: readonly string[] = [];

  it('runs to its end if nobody stops it', async () => {
    const run = await new Run('whole', server, undefined, undefined, MICROTASKS).run();
    expect(run.complaints).toEqual([]);
    expect(run.outcome).toBe('done');
    expect(run.records.map(({ phase }) => phase)).toEqual(['final', 'failed', 'final', 'final']);
    ({ instants } = run);
    expect(instants.length).toBeGreaterThan(300);
  });

  it.each(STOPS)(`%s: valid history, nothing open, books settled (RXFLEET_EVERY_INSTANT=1 for all instants)`, async (stop) => {
    const chosen = sampled(instants, SAMPLE, 7 + STOPS.indexOf(stop));
    const { wrong, outcomes, missed } = await stopAtEach(stop, chosen);
    console.log(stop, instants.length, chosen.length, outcomes, missed);
    expect(wrong).toEqual([]);
    for (const outcome of outcomes.keys()) expect(outcome).toMatch(OUTCOMES[stop]);
    expect(missed).toBeLessThan(chosen.length / 10);
    expect(server.stats().open).toBe(0);
  }, 600_000);
});
