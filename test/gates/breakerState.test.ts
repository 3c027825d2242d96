import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BreakerState, DEFAULT_OPEN_MS, type BreakerPhase, type Ticket } from '../../src/gates/breakerState.js';
import { ConsecutiveWindow, CountWindow, TimeWindow, type BreakerWindow } from '../../src/gates/breakerWindow.js';
import { BreakerModel, type ModelRules } from './breakerModel.js';

const T0 = 1_700_000_000_000;

/** A machine with a clock of its own and named tickets. */
class Bench {
  now = T0;
  readonly machine: BreakerState;

  constructor(
    window: BreakerWindow = new ConsecutiveWindow(1),
    rules: { probes?: number; probeMaxMs?: number } = {},
    private readonly openMs = 1000,
  ) {
    this.machine = new BreakerState({ window, probes: rules.probes ?? 1, probeMaxMs: rules.probeMaxMs });
  }

  private after(phase: BreakerPhase | undefined): BreakerPhase {
    if (phase === 'open') this.machine.openFor(this.openMs);
    return this.machine.phase;
  }

  /** A ticket, or why there is none. */
  enter(begins = true): Ticket | BreakerPhase {
    this.after(this.machine.advance(this.now));
    if (!this.machine.room) return this.machine.phase;
    const ticket: Ticket = { generation: 0, grantedAt: 0, begunAt: undefined };
    this.machine.take(ticket, this.now);
    if (begins) ticket.begunAt = this.now;
    return ticket;
  }

  ticket(begins = true): Ticket {
    const ticket = this.enter(begins);
    if (typeof ticket === 'string') throw new Error(`refused: ${ticket}`);
    return ticket;
  }

  end(ticket: Ticket, outcome: 'success' | 'failure' | 'neutral', cancelled = false): BreakerPhase {
    return this.after(this.machine.end(ticket, { outcome, cancelled, cause: `${outcome} at ${this.now - T0}` }, this.now));
  }

  call(outcome: 'success' | 'failure' | 'neutral', ms = 0, cancelled = false): BreakerPhase {
    const ticket = this.ticket();
    this.now += ms;
    return this.end(ticket, outcome, cancelled);
  }

  trip(): void {
    this.after(this.machine.trip('by hand', this.now));
  }

  /** Half-open, with nothing in. */
  halfOpen(): this {
    this.trip();
    this.now += this.openMs;
    this.end(this.ticket(), 'neutral');
    return this;
  }

  counts(): object {
    return this.machine.counts(this.now);
  }
}

const rates = { min: 2, rate: 0.5, slowMs: Infinity, slowRate: 1 };

describe('the breaker’s machine', () => {
  it('#32 goes from closed to open to half-open to closed, and counts generations', () => {
    const bench = new Bench();
    const { machine } = bench;
    expect([machine.phase, machine.generation]).toEqual(['closed', 0]);
    expect(bench.call('failure')).toBe('open');
    expect([machine.generation, machine.attempt, machine.cause]).toEqual([1, 1, 'failure at 0']);
    bench.now += 999;
    expect(bench.enter()).toBe('open');
    expect(machine.retryAfterMs(bench.now)).toBe(1);
    bench.now += 1;
    expect(bench.call('success')).toBe('closed');
    expect([machine.generation, machine.attempt, machine.cause]).toEqual([3, 0, undefined]);
  });

  it('#32 a failed probe opens it again, with the next attempt; the time begins anew', () => {
    const bench = new Bench().halfOpen();
    expect(bench.call('failure')).toBe('open');
    expect(bench.machine.attempt).toBe(2);
    expect(bench.machine.retryAfterMs(bench.now)).toBe(1000);
    bench.now += 1000;
    expect(bench.call('failure')).toBe('open');
    expect(bench.machine.attempt).toBe(3);
  });

  it('is open for the default time until it is told for how long', () => {
    const machine = new BreakerState({ window: new ConsecutiveWindow(1), probes: 1, probeMaxMs: undefined });
    machine.trip('x', T0);
    expect(machine.retryAfterMs(T0)).toBe(DEFAULT_OPEN_MS);
    machine.openFor(5);
    expect(machine.retryAfterMs(T0)).toBe(5);
    expect(machine.advance(T0 + 4)).toBeUndefined();
    expect(machine.advance(T0 + 5)).toBe('halfOpen');
  });

  it('#36 lets one probe in, and the others not', () => {
    const bench = new Bench().halfOpen();
    const probe = bench.ticket();
    expect(bench.enter()).toBe('halfOpen');
    expect(bench.enter()).toBe('halfOpen');
    expect(bench.end(probe, 'success')).toBe('closed');
  });

  it('#37 #43 lets as many probes in as it wants outcomes, counting those that have ended', () => {
    const bench = new Bench(new CountWindow(10, rates), { probes: 4 }).halfOpen();
    const probes = [bench.ticket(), bench.ticket(), bench.ticket()];
    expect(bench.end(probes[0] as Ticket, 'success')).toBe('halfOpen');
    expect(bench.end(probes[1] as Ticket, 'success')).toBe('halfOpen');
    const last = bench.ticket();
    expect(bench.enter()).toBe('halfOpen');
    bench.end(probes[2] as Ticket, 'success');
    expect(bench.enter()).toBe('halfOpen');
    expect(bench.end(last, 'success')).toBe('closed');
  });

  it('#37 #40 the probes’ share of failures decides, with no least number; it closes below the rate and opens at it at once', () => {
    const probing = (): Bench => new Bench(new CountWindow(10, { ...rates, min: 10 }), { probes: 4 }).halfOpen();
    const bad = probing();
    expect([bad.call('failure'), bad.call('failure')]).toEqual(['halfOpen', 'open']);
    const good = probing();
    expect([good.call('failure'), good.call('success'), good.call('success'), good.call('success')]).toEqual([
      'halfOpen',
      'halfOpen',
      'halfOpen',
      'closed',
    ]);
  });

  it('#40 a single probe that fails opens it however many outcomes the window needs', () => {
    const bench = new Bench(new CountWindow(100, { ...rates, min: 100 })).halfOpen();
    expect(bench.call('failure')).toBe('open');
  });

  it('#1 #D5 #41 a neutral probe gives its place back and decides nothing', () => {
    const bench = new Bench().halfOpen();
    expect(bench.call('neutral', 5, true)).toBe('halfOpen');
    expect(bench.call('neutral', 5)).toBe('halfOpen');
    expect(bench.counts()).toEqual({ total: 0, failed: 0, slow: 0 });
    expect(bench.call('success')).toBe('closed');
  });

  it('#31 #D2 #D9 the end of a call from before the trip changes nothing but the number of late results', () => {
    for (const outcome of ['success', 'failure', 'neutral'] as const) {
      const bench = new Bench(new ConsecutiveWindow(2));
      const [one, two] = [bench.ticket(), bench.ticket()];
      bench.halfOpen();
      const probe = bench.ticket();
      expect(bench.end(one, outcome)).toBe('halfOpen');
      expect([bench.machine.lateResults, bench.counts()]).toEqual([1, { total: 0, failed: 0, slow: 0 }]);
      expect(bench.end(probe, 'success')).toBe('closed');
      expect(bench.end(two, outcome)).toBe('closed');
      expect([bench.machine.lateResults, bench.counts()]).toEqual([2, { total: 0, failed: 0, slow: 0 }]);
    }
  });

  it('#43 a call from before the trip that is cancelled now gives no probe’s place back', () => {
    const bench = new Bench(new CountWindow(10, rates), { probes: 4 });
    const old = [bench.ticket(), bench.ticket()];
    bench.halfOpen();
    for (let i = 0; i < 4; i++) bench.ticket();
    for (const each of old) bench.end(each, 'neutral', true);
    expect(bench.enter()).toBe('halfOpen');
  });

  it('#44 #D8 a probe that does not end counts as failed at the next admission, and its end is late', () => {
    const bench = new Bench(undefined, {}, 1000).halfOpen();
    const hung = bench.ticket();
    bench.now += 999;
    expect(bench.enter()).toBe('halfOpen');
    expect(bench.machine.retryAfterMs(bench.now)).toBe(1);
    bench.now += 1;
    expect(bench.enter()).toBe('open');
    expect([bench.machine.attempt, bench.machine.cause]).toEqual([2, 'a probe ran for 1000 ms without an end']);
    expect(bench.end(hung, 'success')).toBe('open');
    expect(bench.machine.lateResults).toBe(1);
    bench.now += 1000;
    expect(bench.call('success')).toBe('closed');
  });

  it('#44 probeMaxMs may be longer or shorter than the breaker was open', () => {
    const bench = new Bench(undefined, { probeMaxMs: 5000 }, 1000).halfOpen();
    const slow = bench.ticket();
    bench.now += 4999;
    expect(bench.enter()).toBe('halfOpen');
    expect(bench.end(slow, 'success')).toBe('closed');
  });

  it('#44 with an open time of 0 a probe has the default time', () => {
    const bench = new Bench(undefined, {}, 0).halfOpen();
    bench.ticket();
    expect(bench.enter()).toBe('halfOpen');
    bench.now += DEFAULT_OPEN_MS;
    expect(bench.enter()).toBe('open');
  });

  it('#44 of several probes each hung one is one failure; enough others close it, too many open it', () => {
    const rules = { ...rates, rate: 0.6 };
    const good = new Bench(new CountWindow(10, rules), { probes: 2 }).halfOpen();
    const hung = good.ticket();
    good.call('success');
    good.now += 1000;
    expect(good.enter()).not.toBe('open');
    expect(good.machine.phase).toBe('closed');
    expect(good.end(hung, 'failure')).toBe('closed');
    expect(good.machine.lateResults).toBe(1);
    const bad = new Bench(new CountWindow(10, rules), { probes: 2 }).halfOpen();
    bad.ticket();
    bad.ticket();
    bad.now += 1000;
    expect(bad.enter()).toBe('open');
  });

  it('a probe that never began, because a gate further in holds it, loses its place but has not failed', () => {
    const bench = new Bench().halfOpen();
    const held = bench.ticket(false);
    bench.now += 1000;
    const next = bench.ticket();
    held.begunAt = bench.now;
    expect(bench.end(held, 'failure')).toBe('halfOpen');
    expect(bench.machine.lateResults).toBe(1);
    expect(bench.end(next, 'success')).toBe('closed');
  });

  it('a probe’s time begins when its work does', () => {
    const bench = new Bench().halfOpen();
    const probe = bench.ticket(false);
    bench.now += 900;
    probe.begunAt = bench.now;
    bench.now += 900;
    expect(bench.enter()).toBe('halfOpen');
    expect(bench.end(probe, 'success')).toBe('closed');
  });

  it('#45 a slow success, a slow failure and a slow cancel are slow; a slow neutral error is not', () => {
    const slow = (): Bench => new Bench(new CountWindow(10, { min: 2, rate: 1, slowMs: 100, slowRate: 1 }));
    for (const [outcome, cancelled] of [
      ['success', false],
      ['success', true],
      ['neutral', true],
      ['failure', false],
    ] as const) {
      const bench = slow();
      bench.call(outcome, 100, cancelled);
      expect(bench.call('success', 100)).toBe('open');
    }
    const bench = slow();
    expect([bench.call('neutral', 100), bench.call('neutral', 100)]).toEqual(['closed', 'closed']);
    expect(bench.counts()).toEqual({ total: 0, failed: 0, slow: 0 });
    expect([bench.call('success', 99), bench.call('neutral', 99, true)]).toEqual(['closed', 'closed']);
    expect(bench.counts()).toEqual({ total: 1, failed: 0, slow: 0 });
    expect(bench.machine.cause).toBeUndefined();
  });

  it('#45 says in words that calls were slow', () => {
    const bench = new Bench(new CountWindow(10, { min: 2, rate: 1, slowMs: 100, slowRate: 0.5 }));
    bench.call('success', 5);
    bench.call('success', 100);
    expect(bench.machine.cause).toBe('1 of 2 calls took 100 ms or more');
  });

  it('what waited further in was not slow, however long it waited', () => {
    const bench = new Bench(new CountWindow(10, { min: 1, rate: 1, slowMs: 100, slowRate: 1 }));
    const ticket = bench.ticket(false);
    bench.now += 1000;
    expect(bench.end(ticket, 'neutral', true)).toBe('closed');
  });

  it('a slow probe opens it again', () => {
    const bench = new Bench(new CountWindow(10, { min: 2, rate: 1, slowMs: 100, slowRate: 1 })).halfOpen();
    expect(bench.call('success', 100)).toBe('open');
  });

  it('a success that completes the least number of outcomes trips because of the last failure', () => {
    const bench = new Bench(new CountWindow(10, { ...rates, min: 3 }));
    bench.call('failure', 1);
    bench.call('failure', 1);
    expect(bench.call('success')).toBe('open');
    expect(bench.machine.cause).toBe('failure at 2');
  });

  it('#38 stays isolated until the last handle is given back, and is closed then with nothing counted', () => {
    const bench = new Bench(new ConsecutiveWindow(2));
    bench.call('failure');
    const { machine } = bench;
    const old = bench.ticket();
    expect(machine.isolate()).toBe('isolated');
    expect(machine.isolate()).toBeUndefined();
    expect(bench.enter()).toBe('isolated');
    expect(machine.trip('x', bench.now)).toBeUndefined();
    expect(machine.reset()).toBeUndefined();
    bench.now += 1e9;
    expect(bench.enter()).toBe('isolated');
    expect(machine.restore()).toBeUndefined();
    expect(machine.restore()).toBe('closed');
    expect(bench.end(old, 'failure')).toBe('closed');
    expect(bench.call('failure')).toBe('closed');
    expect(bench.call('failure')).toBe('open');
  });

  it('reset closes it from anywhere with nothing counted; what runs is late then', () => {
    const bench = new Bench(new ConsecutiveWindow(2));
    bench.call('failure');
    const old = bench.ticket();
    expect(bench.machine.reset()).toBe('closed');
    expect(bench.end(old, 'failure')).toBe('closed');
    expect(bench.call('failure')).toBe('closed');
    bench.trip();
    expect(bench.machine.reset()).toBe('closed');
    expect([bench.machine.attempt, bench.counts()]).toEqual([0, { total: 0, failed: 0, slow: 0 }]);
  });

  it('a trip by hand while it is open begins its time anew', () => {
    const bench = new Bench();
    bench.trip();
    bench.now += 900;
    bench.trip();
    expect([bench.machine.attempt, bench.machine.retryAfterMs(bench.now)]).toEqual([2, 1000]);
  });

  it('a call that the breaker stopped itself is no late result', () => {
    const bench = new Bench();
    const ticket = bench.ticket();
    bench.machine.dismiss(ticket);
    bench.trip();
    bench.end(ticket, 'neutral', true);
    expect(bench.machine.lateResults).toBe(0);
  });

  it('#29 #D1 an idle hour leaves one failure of 22 in a window of 5 s', () => {
    const bench = new Bench(new TimeWindow(5000, { ...rates, min: 22 }));
    for (let i = 0; i < 21; i++) bench.call('failure');
    bench.now += 3_600_000;
    expect(bench.call('failure')).toBe('closed');
    expect(bench.counts()).toEqual({ total: 1, failed: 1, slow: 0 });
  });
});

type Step =
  | { readonly do: 'enter'; readonly begins: boolean }
  | { readonly do: 'begin'; readonly which: number }
  | { readonly do: 'end'; readonly which: number; readonly outcome: 'success' | 'failure' | 'neutral'; readonly cancelled: boolean }
  | { readonly do: 'dismiss'; readonly which: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'trip' | 'reset' | 'isolate' | 'restore' };

const which = fc.nat(30);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('enter' as const), begins: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('begin' as const), which }) },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      which,
      outcome: fc.constantFrom('success' as const, 'failure' as const, 'failure' as const, 'neutral' as const),
      cancelled: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('dismiss' as const), which }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 3, 7, 10, 25, 60, 1000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('trip' as const, 'reset' as const, 'isolate' as const, 'restore' as const) }) },
);

const rulesOf: fc.Arbitrary<ModelRules> = fc
  .record({
    kind: fc.constantFrom('consecutive' as const, 'count' as const, 'time' as const),
    size: fc.integer({ min: 1, max: 60 }),
    min: fc.integer({ min: 1, max: 6 }),
    rate: fc.constantFrom(0.1, 0.34, 0.5, 1),
    slowMs: fc.constantFrom(5, 20, 1000, Infinity),
    slowRate: fc.constantFrom(0.25, 0.5, 1),
    probes: fc.integer({ min: 1, max: 4 }),
    probeMaxMs: fc.constantFrom(10, 40),
    openMs: fc.constantFrom(5, 30),
  })
  .map((rules) => ({ ...rules, size: rules.kind === 'consecutive' ? 1 + (rules.size % 4) : rules.size }));

function windowOf({ kind, size, ...thresholds }: ModelRules): BreakerWindow {
  if (kind === 'consecutive') return new ConsecutiveWindow(size);
  return kind === 'count' ? new CountWindow(size, thresholds) : new TimeWindow(size, thresholds);
}

describe('the breaker’s machine against a model that remembers everything', () => {
  it(
    'they agree after every step',
    () =>
      fc.assert(
        fc.property(rulesOf, fc.array(step, { maxLength: 120, size: 'max' }), (rules, steps) => {
          const model = new BreakerModel(rules);
          const machine = new BreakerState({ window: windowOf(rules), probes: rules.probes, probeMaxMs: rules.probeMaxMs });
          const tickets: (Ticket & { over?: boolean })[] = [];
          let now = T0;
          let handles = 0;
          const after = (phase: BreakerPhase | undefined): void => {
            if (phase === 'open') machine.openFor(rules.openMs);
            if (phase !== undefined) expect(phase).toBe(machine.phase);
          };
          const pick = (n: number): number | undefined => {
            const running = [...tickets.keys()].filter((at) => tickets[at]?.over !== true);
            return running.length === 0 ? undefined : running[n % running.length];
          };
          const perform = (each: Step): void => {
            const at = 'which' in each ? pick(each.which) : undefined;
            const ticket = at === undefined ? undefined : tickets[at];
            if (each.do === 'wait') now += each.ms;
            else if (each.do === 'enter') {
              after(machine.advance(now));
              const entered = model.enter(tickets.length, now);
              expect(machine.room).toBe(entered);
              if (!entered) return;
              const fresh: Ticket = { generation: 0, grantedAt: 0, begunAt: undefined };
              machine.take(fresh, now);
              tickets.push(fresh);
              if (each.begins) perform({ do: 'begin', which: tickets.length - 1 });
            } else if (each.do === 'trip') {
              after(machine.trip('x', now));
              model.trip(now);
            } else if (each.do === 'reset') {
              after(machine.reset());
              model.reset();
            } else if (each.do === 'isolate') {
              handles++;
              after(machine.isolate());
              model.isolate();
            } else if (each.do === 'restore') {
              if (handles === 0) return;
              handles--;
              after(machine.restore());
              model.restore();
            } else if (ticket === undefined || at === undefined || !('which' in each)) return;
            else if (each.do === 'begin') {
              ticket.begunAt ??= now;
              model.begin(at, ticket.begunAt);
            } else if (each.do === 'dismiss') {
              machine.dismiss(ticket);
              model.dismiss(at);
              machine.end(ticket, { outcome: 'neutral', cancelled: true, cause: undefined }, now);
              model.end(at, 'neutral', true, now);
              ticket.over = true;
            } else {
              ticket.over = true;
              after(machine.end(ticket, { outcome: each.outcome, cancelled: each.cancelled, cause: 'x' }, now));
              model.end(at, each.outcome, each.cancelled, now);
            }
          };
          for (const each of steps) {
            perform(each);
            const { phase, generation, attempt, lateResults, probesOut } = machine;
            expect({ phase, generation, attempt, lateResults, probesOut, counts: machine.counts(now) }).toEqual({
              phase: model.phase,
              generation: model.generation,
              attempt: model.attempt,
              lateResults: model.late,
              probesOut: model.probesOut,
              counts: model.counts(now),
            });
            expect(probesOut).toBeLessThanOrEqual(rules.probes);
            expect(machine.retryAfterMs(now)).toBeLessThanOrEqual(Math.max(rules.openMs, rules.probeMaxMs));
          }
        }),
        { numRuns: 400 },
      ),
    60_000,
  );
});
