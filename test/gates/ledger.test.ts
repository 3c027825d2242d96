import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Amounts, type Limit, NOTHING, type Unit } from '../../src/gates/budgetAccount.js';
import { type Finding, LedgerNode, Reservation } from '../../src/gates/ledger.js';

const FRACTIONS = [0.8, 1];

function node(name: string, limits: Partial<Record<Unit, Limit>>, parent?: LedgerNode): LedgerNode {
  return new LedgerNode(name, parent, { microUsd: 'unbounded', tokens: 'unbounded', calls: 'unbounded', ...limits }, FRACTIONS);
}

function amounts(microUsd: number, tokens = 0, calls = 0): Amounts {
  return { microUsd, tokens, calls };
}

function reserved(from: LedgerNode, what: Amounts, id?: string): Reservation {
  const reservation = from.reserve(what, id);
  if (!(reservation instanceof Reservation)) throw new Error(`refused by ${reservation.node.path.join(' > ')}`);
  return reservation;
}

/** `spent+reserved` of each node. */
function books(unit: Unit, ...nodes: readonly LedgerNode[]): string[] {
  return nodes.map(({ accounts }) => `${accounts[unit].spent}+${accounts[unit].reserved}`);
}

function lines(findings: readonly Finding[]): string[] {
  return findings.map((each) => {
    const at = `${each.node.path.join('/')} ${each.unit}`;
    return each.kind === 'alert' ? `${at} ${each.fraction} at ${each.used} of ${each.limit}` : `${at} over by ${each.amount}`;
  });
}

describe('reserving', () => {
  it('#2.3 adds to the whole path, and settling moves it to what was spent', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const agent = node('agent', { microUsd: 60, tokens: 1000 }, fleet);
    const task = node('task', {}, agent);
    const call = reserved(task, amounts(50, 400, 1));
    expect(books('microUsd', fleet, agent, task)).toEqual(['0+50', '0+50', '0+50']);
    expect(books('tokens', fleet, agent, task)).toEqual(['0+400', '0+400', '0+400']);
    call.settle(amounts(20, 300, 1));
    expect(books('microUsd', fleet, agent, task)).toEqual(['20+0', '20+0', '20+0']);
    expect(books('tokens', fleet, agent, task)).toEqual(['300+0', '300+0', '300+0']);
    expect(books('calls', fleet, agent, task)).toEqual(['1+0', '1+0', '1+0']);
  });

  it('#2.3 adds nowhere when one node of the path refuses, and names the innermost that does', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const agent = node('agent', { microUsd: 200, tokens: 10 }, fleet);
    const other = node('other', { microUsd: 100 }, fleet);
    reserved(other, amounts(60));
    expect(agent.reserve(amounts(41, 5))).toMatchObject({
      node: fleet,
      unit: 'microUsd',
      limit: 100,
      spent: 0,
      reserved: 60,
      requested: 41,
    });
    expect(agent.reserve(amounts(41, 11))).toMatchObject({ node: agent, unit: 'tokens', requested: 11 });
    expect(books('microUsd', fleet, agent, other)).toEqual(['0+60', '0+0', '0+60']);
    expect(books('tokens', fleet, agent)).toEqual(['0+0', '0+0']);
    expect(agent.reserve(amounts(40, 10))).toBeInstanceOf(Reservation);
  });

  it('a limit of 0 allows what costs nothing', () => {
    const free = node('free', { microUsd: 0, calls: 2 });
    expect(free.reserve(amounts(0, 0, 1))).toBeInstanceOf(Reservation);
    expect(free.reserve(amounts(1, 0, 1))).toMatchObject({ unit: 'microUsd', limit: 0 });
  });

  it('shortage says what could never be allowed', () => {
    const fleet = node('fleet', { microUsd: 100 });
    reserved(fleet, amounts(100));
    expect(fleet.shortage(amounts(100))).toBeDefined();
    expect(fleet.shortage(amounts(100), true)).toBeUndefined();
    expect(fleet.shortage(amounts(101), true)).toMatchObject({ requested: 101, limit: 100 });
  });

  it('without a limit sums stay exact: they end at what a number can hold', () => {
    const most = Number.MAX_SAFE_INTEGER;
    const fleet = node('fleet', {});
    reserved(fleet, amounts(most - 1));
    expect(fleet.reserve(amounts(2))).toMatchObject({ limit: Infinity, requested: 2 });
    reserved(fleet, amounts(1)).settle(amounts(most));
    expect(books('microUsd', fleet)).toEqual([`${most}+${most - 1}`]);
  });
});

describe('settling', () => {
  it('#2.3 happens once', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const call = reserved(fleet, amounts(50));
    call.settle(amounts(30));
    expect(call.settle(amounts(30))).toEqual([]);
    expect(call.report(amounts(90))).toBeUndefined();
    expect(books('microUsd', fleet)).toEqual(['30+0']);
  });

  it('#2.3 a replay with the same id is not charged again, also when it began before the first had ended', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const agent = node('agent', { microUsd: 50 }, fleet);
    const [first, twin] = [reserved(agent, amounts(25), 'a'), reserved(agent, amounts(25), 'a')];
    first.settle(amounts(20));
    twin.settle(amounts(25));
    expect(books('microUsd', fleet, agent)).toEqual(['20+0', '20+0']);
    reserved(agent, amounts(30), 'b').settle(amounts(30));
    const replay = reserved(agent, amounts(1000), 'a');
    expect(replay.replayed).toBe(true);
    expect(replay.report(amounts(2000))).toBeUndefined();
    replay.settle(amounts(1000));
    expect(books('microUsd', fleet, agent)).toEqual(['50+0', '50+0']);
    expect(fleet.reserve(amounts(1), 'a')).toBeInstanceOf(Reservation);
  });

  it('a call that was not completed is charged again when it is made again', () => {
    const fleet = node('fleet', { microUsd: 100 });
    reserved(fleet, amounts(50), 'a').settle(amounts(10), NOTHING, false);
    reserved(fleet, amounts(50), 'a').settle(amounts(40));
    expect(books('microUsd', fleet)).toEqual(['50+0']);
  });

  it('#2.3 what exceeds the reservation is recorded in full, is flagged where it passes a limit, and blocks what comes next', () => {
    const fleet = node('fleet', { microUsd: 1000 });
    const agent = node('agent', { microUsd: 100 }, fleet);
    const call = reserved(agent, amounts(100));
    expect(lines(call.settle(amounts(130)))).toEqual([
      'fleet/agent microUsd over by 30',
      'fleet/agent microUsd 0.8 at 130 of 100',
      'fleet/agent microUsd 1 at 130 of 100',
    ]);
    expect([fleet, agent].map(({ accounts }) => accounts.microUsd.overrun)).toEqual([0, 30]);
    expect(agent.reserve(NOTHING)).toMatchObject({ node: agent, spent: 130, limit: 100 });
    expect(fleet.reserve(amounts(870))).toBeInstanceOf(Reservation);
  });

  it('what exceeds the reservation but no limit is no overrun', () => {
    const fleet = node('fleet', { microUsd: 1000 });
    expect(reserved(fleet, amounts(100)).settle(amounts(130))).toEqual([]);
    expect(fleet.accounts.microUsd.overrun).toBe(0);
  });

  it('#2.3 keeps apart what is uncertain', () => {
    const fleet = node('fleet', { microUsd: 1000 });
    reserved(fleet, amounts(100)).settle(amounts(100), amounts(80));
    expect(fleet.accounts.microUsd).toMatchObject({ spent: 100, uncertain: 80 });
  });
});

describe('reporting', () => {
  it('#2.3 takes the largest of the running totals and does not add them up', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const call = reserved(fleet, amounts(50, 0, 1));
    for (const microUsd of [10, 30, 20, 30]) expect(call.report({ microUsd })).toBeUndefined();
    expect(call.report({ tokens: 0, microUsd: undefined })).toBeUndefined();
    expect(call.seen).toEqual({ microUsd: 30, tokens: 0 });
    expect(books('microUsd', fleet)).toEqual(['0+50']);
  });

  it('#2.3 above the reservation extends it on the whole path, or nowhere', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const agent = node('agent', { microUsd: 80, tokens: 10 }, fleet);
    const call = reserved(agent, amounts(50, 10));
    expect(call.report({ microUsd: 70 })).toBeUndefined();
    expect(books('microUsd', fleet, agent)).toEqual(['0+70', '0+70']);
    expect(call.report({ microUsd: 75, tokens: 11 })).toMatchObject({ node: agent, unit: 'tokens', requested: 1 });
    expect(call.report({ microUsd: 81 })).toMatchObject({ node: agent, unit: 'microUsd', requested: 11, reserved: 70 });
    expect(books('microUsd', fleet, agent)).toEqual(['0+70', '0+70']);
    call.settle(amounts(81, 11));
    expect(books('microUsd', fleet, agent)).toEqual(['81+0', '81+0']);
  });
});

describe('alerts', () => {
  it('#2.3 come once for each upward crossing of a node, lowest first when one settlement crosses several', () => {
    const fleet = node('fleet', { microUsd: 200 });
    const agent = node('agent', { microUsd: 100, calls: 5 }, fleet);
    const spend = (what: number): string[] => lines(reserved(agent, amounts(what, 0, 1)).settle(amounts(what, 0, 1)));
    expect(spend(79)).toEqual([]);
    expect(spend(1)).toEqual(['fleet/agent microUsd 0.8 at 80 of 100']);
    expect(spend(5)).toEqual([]);
    expect(spend(15)).toEqual(['fleet/agent microUsd 1 at 100 of 100', 'fleet/agent calls 0.8 at 4 of 5']);
    fleet.raise(amounts(10));
    expect(lines(reserved(fleet, amounts(110)).settle(amounts(110)))).toEqual([
      'fleet microUsd 0.8 at 210 of 210',
      'fleet microUsd 1 at 210 of 210',
    ]);
  });

  it('#2.3 are armed again by raising the limit or beginning anew, and by nothing else', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const spend = (what: number): string[] => lines(reserved(fleet, amounts(what)).settle(amounts(what)));
    expect(spend(90)).toEqual(['fleet microUsd 0.8 at 90 of 100']);
    fleet.raise(amounts(5));
    expect(spend(1)).toEqual([]);
    fleet.raise(amounts(95));
    expect(spend(68)).toEqual([]);
    expect(spend(1)).toEqual(['fleet microUsd 0.8 at 160 of 200']);
    fleet.reset();
    expect(spend(200)).toEqual(['fleet microUsd 0.8 at 200 of 200', 'fleet microUsd 1 at 200 of 200']);
  });

  it('come when the fraction is reached, not before', () => {
    const fleet = node('fleet', { calls: 3 });
    const once = (): string[] => lines(reserved(fleet, amounts(0, 0, 1)).settle(amounts(0, 0, 1)));
    expect([once(), once(), once()]).toEqual([[], [], ['fleet calls 0.8 at 3 of 3', 'fleet calls 1 at 3 of 3']]);
  });

  it('a limit of 0 has none', () => {
    const fleet = node('fleet', { microUsd: 0 });
    expect(reserved(fleet, NOTHING).settle(NOTHING)).toEqual([]);
  });
});

describe('shares, raises and resets', () => {
  it('#2.3 a share is exact, rounded down, and follows the parent', () => {
    const fleet = node('fleet', { microUsd: 100, calls: 7 });
    const agent = node('agent', { microUsd: { share: 570_000 }, calls: { share: 500_000 } }, fleet);
    const task = node('task', { microUsd: { share: 333_333 } }, agent);
    const limits = (): number[] => [agent.accounts.microUsd.limit, agent.accounts.calls.limit, task.accounts.microUsd.limit];
    expect(limits()).toEqual([57, 3, 18]);
    fleet.raise(amounts(100, 0, 1));
    expect(limits()).toEqual([114, 4, 37]);
    agent.raise(amounts(6));
    expect(limits()).toEqual([120, 4, 39]);
    fleet.raise(amounts(Number.MAX_SAFE_INTEGER));
    expect(fleet.accounts.microUsd.limit).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('a reset counts from 0, here and below; the nodes above keep their count, and reservations stay', () => {
    const fleet = node('fleet', { microUsd: 100 });
    const agent = node('agent', { microUsd: 60 }, fleet);
    const task = node('task', {}, agent);
    reserved(task, amounts(40), 'a').settle(amounts(40), amounts(10));
    const open = reserved(task, amounts(20));
    agent.reset();
    expect(books('microUsd', fleet, agent, task)).toEqual(['40+20', '0+20', '0+20']);
    expect(agent.accounts.microUsd.uncertain).toBe(0);
    open.settle(amounts(15));
    expect(books('microUsd', fleet, agent, task)).toEqual(['55+0', '15+0', '15+0']);
    expect(reserved(task, amounts(1), 'a').replayed).toBe(true);
    fleet.reset();
    expect(reserved(task, amounts(1), 'a').replayed).toBe(false);
  });
});

describe('figures', () => {
  it('#2.3 5,000 simple budgets: integers admit the right number of calls each time, floats do not', () => {
    let [wrong, wrongInFloats] = [0, 0];
    for (let cents = 1; cents <= 50; cents++) {
      for (let calls = 1; calls <= 100; calls++) {
        const fleet = node('fleet', { microUsd: cents * calls * 10_000 });
        let admitted = 0;
        for (
          let call = fleet.reserve(amounts(cents * 10_000));
          call instanceof Reservation;
          call = fleet.reserve(amounts(cents * 10_000))
        ) {
          call.settle(amounts(cents * 10_000));
          admitted++;
        }
        if (admitted !== calls) wrong++;
        const [price, limit] = [cents / 100, (cents * calls) / 100];
        let [spent, inFloats] = [0, 0];
        for (; spent + price <= limit; inFloats++) spent += price;
        if (inFloats !== calls) wrongInFloats++;
      }
    }
    expect(wrong).toBe(0);
    expect(wrongInFloats).toBeGreaterThan(1000);
  });

  it('#2.3 a limit of $1.00 and calls of up to $0.05: check-then-record passes it, reserve-then-settle never', () => {
    const limit = 1_000_000;
    for (const agents of [10, 50, 200]) {
      const costs = Array.from({ length: 4000 }, (_, i) => 1 + ((i * 7919 + agents) % 50_000));
      expect(naive(agents, costs, limit)).toBeGreaterThan(limit + (agents - 1) * 10_000);
      const fleet = node('fleet', { microUsd: limit });
      let worst = 0;
      const open: { readonly call: Reservation; readonly cost: number }[] = [];
      for (const cost of costs) {
        const call = open.length < agents ? fleet.reserve(amounts(50_000)) : undefined;
        if (call instanceof Reservation) open.push({ call, cost });
        else {
          const first = open.shift();
          first?.call.settle(amounts(first.cost));
        }
        worst = Math.max(worst, fleet.accounts.microUsd.spent + fleet.accounts.microUsd.reserved);
      }
      expect(worst).toBeLessThanOrEqual(limit);
      expect(fleet.accounts.microUsd.spent).toBeGreaterThan(limit - 50_000 * 2);
    }
  });
});

/** What agents spend that look before each call whether the limit is reached, and add up what it has cost afterwards. */
function naive(agents: number, costs: readonly number[], limit: number): number {
  let [spent, next] = [0, 0];
  const running: number[] = [];
  for (;;) {
    while (running.length < agents && spent < limit) running.push(costs[next++]!);
    const ended = running.shift();
    if (ended === undefined) return spent;
    spent += ended;
  }
}

interface Made {
  readonly call: Reservation;
  readonly path: readonly number[];
  held: number;
  seen: number;
  spent: number | undefined;
}

describe('properties', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('reserve' as const), at: fc.nat(5), what: fc.nat(60) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('report' as const), at: fc.nat(30), what: fc.nat(90) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('settle' as const), at: fc.nat(30), what: fc.nat(60) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('raise' as const), at: fc.nat(5), what: fc.nat(60) }) },
  );
  const parents = [undefined, 0, 0, 1, 1, 3];

  it('#2.3 the ledger is the sum of its leaves, no limit is ever passed, and each reservation is settled once', () =>
    fc.assert(
      fc.property(
        fc.array(fc.nat(200), { minLength: 6, maxLength: 6 }),
        fc.array(step, { maxLength: 150, size: 'max' }),
        (limits, steps) => {
          const nodes: LedgerNode[] = [];
          for (const [i, parent] of parents.entries())
            nodes.push(
              node(`${i}`, { microUsd: i === 2 ? { share: 400_000 } : limits[i]! }, parent === undefined ? undefined : nodes[parent]),
            );
          const made: Made[] = [];
          for (const { do: what, at, what: amount } of steps) {
            const target = nodes[at % 6]!;
            const one = made[at % Math.max(1, made.length)];
            if (what === 'raise') target.raise(amounts(amount));
            else if (what === 'reserve') {
              const call = target.reserve(amounts(amount));
              const path: number[] = [];
              for (let i: number | undefined = at % 6; i !== undefined; i = parents[i]) path.push(i);
              const fits = path.every((i) => used(i, made) + amount <= nodes[i]!.accounts.microUsd.limit);
              if (call instanceof Reservation !== fits) expect(call instanceof Reservation).toBe(fits);
              if (call instanceof Reservation) made.push({ call, path, held: amount, seen: 0, spent: undefined });
            } else if (one === undefined) continue;
            else if (what === 'report') {
              const refused = one.call.report({ microUsd: amount });
              one.seen = Math.max(one.seen, amount);
              if (one.spent === undefined && refused === undefined) one.held = Math.max(one.held, one.seen);
            } else {
              const spent = Math.min(amount, one.held);
              one.call.settle(amounts(spent));
              one.spent ??= spent;
            }
            const actual = nodes.map(
              ({ accounts: { microUsd: each } }) => `${each.spent}+${each.reserved}+${each.overrun} ${each.free >= 0}`,
            );
            const expected = nodes.map((_, i) => {
              const mine = made.filter(({ path }) => path.includes(i));
              const open = mine.filter(({ spent }) => spent === undefined);
              return `${mine.reduce((sum, { spent = 0 }) => sum + spent, 0)}+${open.reduce((sum, { held }) => sum + held, 0)}+0 true`;
            });
            if (actual.join() !== expected.join()) expect(actual).toEqual(expected);
          }
        },
      ),
    ));

  function used(i: number, made: readonly Made[]): number {
    return made.filter(({ path }) => path.includes(i)).reduce((sum, { spent, held }) => sum + (spent ?? held), 0);
  }
});
