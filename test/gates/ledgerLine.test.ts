import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Amounts } from '../../src/gates/budgetAccount.js';
import { BudgetLine, type Place } from '../../src/gates/budgetLine.js';
import { LedgerNode, Reservation } from '../../src/gates/ledger.js';

function node(name: string, microUsd: number, parent?: LedgerNode): LedgerNode {
  return new LedgerNode(name, parent, { microUsd, tokens: 'unbounded', calls: 'unbounded' }, []);
}

function amounts(microUsd: number): Amounts {
  return { microUsd, tokens: 0, calls: 0 };
}

/** A ledger, its line and what was granted, as a gate drives them. */
class Desk {
  readonly line = new BudgetLine<string>();
  readonly granted: string[] = [];
  readonly places = new Map<string, Place<string>>();
  private readonly held = new Map<string, { readonly call: Reservation; readonly what: number }>();

  ask(who: string, from: LedgerNode, what: number): void {
    const obstacle = this.line.obstacle(from, amounts(what));
    if (obstacle === undefined) this.grant(who, from, what);
    else this.places.set(who, this.line.join(who, from, amounts(what), obstacle));
  }

  end(who: string, spent: number): void {
    const { call, what } = this.held.get(who)!;
    this.held.delete(who);
    call.settle(amounts(Math.min(what, spent)));
    this.line.freed(call.node);
    this.open();
  }

  leave(who: string): void {
    this.line.leave(this.places.get(who)!);
    this.places.delete(who);
    this.open();
  }

  open(): void {
    for (let place = this.line.next(); place !== undefined; place = this.line.next()) {
      this.places.delete(place.who);
      this.grant(place.who, place.node, place.amounts.microUsd);
    }
  }

  get running(): string[] {
    return [...this.held.keys()];
  }

  private grant(who: string, from: LedgerNode, what: number): void {
    const call = from.reserve(amounts(what));
    if (!(call instanceof Reservation)) throw new Error(`no room for ${who}`);
    this.held.set(who, { call, what });
    this.granted.push(who);
  }
}

describe('BudgetLine', () => {
  it('#2.3 first come, first served: a big one is not overtaken by small ones', () => {
    const fleet = node('fleet', 100);
    const desk = new Desk();
    desk.ask('a', fleet, 60);
    desk.ask('b', fleet, 90);
    desk.ask('c', fleet, 10);
    expect(desk.granted).toEqual(['a']);
    desk.end('a', 5);
    expect(desk.granted).toEqual(['a', 'b']);
    desk.end('b', 0);
    expect(desk.granted).toEqual(['a', 'b', 'c']);
    expect(desk.line.length).toBe(0);
  });

  it('a full agent does not hold up the others', () => {
    const fleet = node('fleet', 100);
    const [one, two] = [node('one', 10, fleet), node('two', 50, fleet)];
    const desk = new Desk();
    desk.ask('a', one, 10);
    desk.ask('b', one, 5);
    desk.ask('c', two, 40);
    expect(desk.granted).toEqual(['a', 'c']);
    desk.end('a', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b']);
  });

  it('whoever waits at an agent and then for the fleet keeps the place of its arrival, and holds up its agent', () => {
    const fleet = node('fleet', 100);
    const [one, two] = [node('one', 30, fleet), node('two', 100, fleet)];
    const desk = new Desk();
    desk.ask('a', one, 30);
    desk.ask('b', one, 30);
    desk.ask('b2', one, 1);
    desk.ask('c', two, 70);
    desk.ask('d', two, 40);
    desk.end('a', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b']);
    desk.end('b', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b', 'b2']);
    desk.end('c', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b', 'b2', 'd']);
  });

  it('goes on with the next when the one whose turn it is leaves, wherever it stands', () => {
    const fleet = node('fleet', 100);
    const [one, two] = [node('one', 50, fleet), node('two', 100, fleet)];
    const desk = new Desk();
    desk.ask('a', one, 50);
    desk.ask('b', one, 50);
    desk.ask('c', one, 10);
    desk.ask('d', two, 40);
    desk.ask('e', two, 30);
    desk.end('a', 10);
    expect(desk.granted).toEqual(['a', 'd', 'e']);
    desk.leave('b');
    expect(desk.granted).toEqual(['a', 'd', 'e', 'c']);
  });

  it('goes down again to an agent that has become short meanwhile, and lets the fleet’s line go on', () => {
    const fleet = node('fleet', 100);
    const [one, two] = [node('one', 50, fleet), node('two', 100, fleet)];
    const desk = new Desk();
    desk.ask('a', two, 60);
    desk.ask('b', one, 50);
    desk.ask('c', two, 60);
    one.hold(amounts(10));
    desk.end('a', 0);
    expect(desk.granted).toEqual(['a', 'c']);
    one.book(amounts(10), amounts(0), amounts(0));
    desk.line.freed(one);
    desk.open();
    expect(desk.granted).toEqual(['a', 'c']);
    desk.end('c', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b']);
  });

  it('those behind it at its agent wait for whoever has gone up, and are not looked at again and again', () => {
    const fleet = node('fleet', 110);
    const [one, two] = [node('one', 60, fleet), node('two', 100, fleet)];
    const desk = new Desk();
    desk.ask('a', one, 50);
    desk.ask('c', two, 60);
    for (let i = 0; i < 1000; i++) desk.ask(`b${i}`, one, 50);
    let looks = 0;
    one.shortage = function (...args): ReturnType<LedgerNode['shortage']> {
      looks++;
      return LedgerNode.prototype.shortage.apply(this, args);
    };
    desk.end('a', 5);
    expect([desk.line.countAt(one), desk.line.countAt(fleet), desk.granted]).toEqual([999, 1, ['a', 'c']]);
    expect(looks).toBeLessThan(5);
    desk.end('c', 0);
    desk.end('b0', 0);
    desk.leave('b2');
    desk.end('b1', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b0', 'b1', 'b3']);
    expect(looks).toBeLessThan(20);
  });

  it('among those who wait at the same node, also those who came there later, the first to arrive goes first', () => {
    const fleet = node('fleet', 110);
    const [one, two] = [node('one', 60, fleet), node('two', 110, fleet)];
    const desk = new Desk();
    desk.ask('a', one, 50);
    desk.ask('c', two, 60);
    desk.ask('b', one, 50);
    desk.ask('d', two, 50);
    desk.end('a', 5);
    expect([desk.granted, desk.line.all()]).toEqual([
      ['a', 'c'],
      ['b', 'd'],
    ]);
    desk.end('c', 0);
    expect(desk.granted).toEqual(['a', 'c', 'b', 'd']);
  });

  it('#17 whoever leaves is gone, once, and a raise reaches those below', () => {
    const fleet = node('fleet', 0);
    const agent = node('agent', 0, fleet);
    const desk = new Desk();
    desk.ask('a', agent, 5);
    desk.ask('b', agent, 5);
    const place = desk.places.get('a')!;
    expect([desk.line.leave(place), desk.line.leave(place), desk.line.length]).toEqual([true, false, 1]);
    agent.raise(amounts(5));
    desk.line.opened(agent);
    desk.open();
    expect(desk.granted).toEqual([]);
    fleet.raise(amounts(5));
    desk.line.opened(fleet);
    desk.open();
    expect(desk.granted).toEqual(['b']);
  });

  it('100,000 that wait and leave in any order cost the same each', () => {
    const fleet = node('fleet', 1);
    const desk = new Desk();
    desk.ask('first', fleet, 1);
    for (let i = 0; i < 100_000; i++) desk.ask(`${i}`, fleet, 1);
    for (let i = 0; i < 100_000; i += 2) desk.leave(`${(i * 7) % 100_000}`);
    expect([desk.line.length, desk.line.countAt(fleet), desk.line.all()[0]]).toEqual([50_000, 50_000, '1']);
  });

  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('ask' as const), at: fc.nat(5), what: fc.nat(60) }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('end' as const), at: fc.nat(20), what: fc.nat(60) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('leave' as const), at: fc.nat(20), what: fc.nat(60) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('raise' as const), at: fc.nat(5), what: fc.nat(60) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('hold' as const), at: fc.nat(5), what: fc.nat(10) }) },
  );
  const parents = [undefined, 0, 0, 1, 1, 3];

  it('#2.3 nobody waits who could go, nobody is overtaken at its own node, and everybody goes in the end', () =>
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 60, max: 200 }), { minLength: 6, maxLength: 6 }),
        fc.array(step, { maxLength: 120, size: 'max' }),
        (limits, steps) => {
          const nodes: LedgerNode[] = [];
          for (const [i, parent] of parents.entries())
            nodes.push(node(`${i}`, limits[i]!, parent === undefined ? undefined : nodes[parent]));
          const desk = new Desk();
          let asked = 0;
          for (const { do: what, at, what: amount } of steps) {
            if (what === 'ask') desk.ask(`${asked++}@${at}`, nodes[at]!, amount);
            else if (what === 'end' && desk.running.length > 0) desk.end(desk.running[at % desk.running.length]!, amount);
            else if (what === 'leave' && desk.places.size > 0) desk.leave([...desk.places.keys()][at % desk.places.size]!);
            else if (what === 'hold' && nodes[at]!.shortage(amounts(amount)) === undefined) nodes[at]!.hold(amounts(amount));
            else if (what === 'raise') {
              nodes[at]!.raise(amounts(amount));
              desk.line.opened(nodes[at]!);
              desk.open();
            }
            const idle = [...desk.places.values()].filter((each) => desk.line.obstacle(each.node, each.amounts, each.visit) === undefined);
            if (idle.length > 0) expect(idle.map(({ who }) => who)).toEqual([]);
            if (nodes.some((each) => each.accounts.microUsd.free < 0)) expect('a limit').toBe('kept');
          }
          for (const [i] of nodes.entries()) {
            const mine = desk.granted.filter((who) => who.endsWith(`@${i}`)).map((who) => parseInt(who));
            expect(mine).toEqual([...mine].sort((one, other) => one - other));
          }
          for (const each of nodes) {
            each.raise(amounts(100_000));
            desk.line.opened(each);
          }
          desk.open();
          expect([desk.line.length, desk.line.stirred]).toEqual([0, false]);
        },
      ),
      { numRuns: 500 },
    ));
});
