import type { Scope } from 'rxfleet';
import { agent, conversation, type UsageRecord } from 'rxfleet/agents';
import { expectNoOpenScopes, openScopes, reply, startMessagesServer, type Fault, type MessagesServer } from 'rxfleet/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ask, hello, sleep, start, watchProcess } from './harness.js';
import { Run, script, STOPS, type Stop } from './instantsRun.js';

/** All instants for all ways to stop, with more microtasks after each event: a minute or two. */
const EVERY = process.env['RXFLEET_EVERY_INSTANT'] !== undefined;
const MICROTASKS = EVERY ? 12 : 6;
const SAMPLE = EVERY ? Infinity : 160;
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

/** Half of them among events, gates, requests and calls, half among the ticks that follow events. */
function sampled(instants: readonly string[], size: number, seed: number): readonly string[] {
  const next = random(seed);
  const isTick = (instant: string): boolean => instant.includes(' + ');
  const keyed = instants.map((instant) => ({ instant, key: next() })).sort((a, b) => a.key - b.key);
  const [ticks, others] = [true, false].map((each) => keyed.filter(({ instant }) => isTick(instant) === each).slice(0, size / 2));
  return [...ticks!, ...others!].map(({ instant }) => instant);
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

  it.each(STOPS)(
    `%s: valid history, nothing open, books settled (RXFLEET_EVERY_INSTANT=1 for all instants)`,
    async (stop) => {
      const chosen = sampled(instants, SAMPLE, 7 + STOPS.indexOf(stop));
      const { wrong, outcomes, missed } = await stopAtEach(stop, chosen);
      if (EVERY) console.log(stop, chosen.length, outcomes, `${missed} not reached`);
      expect(wrong).toEqual([]);
      for (const outcome of outcomes.keys()) expect(outcome).toMatch(OUTCOMES[stop]);
      expect(missed).toBeLessThan(chosen.length / 10);
      expect(server.stats().open).toBe(0);
    },
    600_000,
  );
});

describe('a reply whose last events come together with the end of the connection, left at any of them', () => {
  const EVENTS = 7;
  const faults: readonly (readonly [string, Fault | undefined])[] = [
    ['that is whole', undefined],
    ['that is cut off', { kind: 'fin', after: 4 }],
  ];

  it.each(faults)('%s: the scope has closed at once', async (_, fault) => {
    for (let n = 1; n <= EVENTS; n++) {
      for (const microtasks of [0, 1, 3, 8]) {
        const { client, server } = await start([
          reply.text('hello world', { pace: { chunkChars: 6, eventMs: 1 }, ...(fault && { fault }) }),
        ]);
        const records: UsageRecord[] = [];
        const chat = conversation([hello]);
        let scope: Scope | undefined;
        let seen = 0;
        let leftAt = Infinity;
        await new Promise<void>((resolve) => {
          const leave = async (): Promise<void> => {
            for (let i = 0; i < microtasks; i++) await Promise.resolve();
            leftAt = performance.now();
            running.unsubscribe();
            resolve();
          };
          const running = agent({
            ...{ client, ...ask, messages: chat, onScope: (each: Scope) => (scope = each) },
            usage: { next: (record) => void records.push(record) },
          }).subscribe({
            next: ({ type }) => type === 'model' && ++seen === n && void leave(),
            error: () => resolve(),
          });
        });
        const report = await scope!.closed;
        expect([n, microtasks, report.abandoned]).toEqual([n, microtasks, []]);
        if (leftAt < Infinity) expect(performance.now() - leftAt).toBeLessThan(2_000);
        expect([n, microtasks, records.length]).toEqual([n, microtasks, 1]);
        await server.whenIdle();
        await client.messages.countTokens({ model: 'm', messages: [...chat.messages, hello] });
      }
    }
  });
});
