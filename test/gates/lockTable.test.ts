import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lockModes, LockTable, type Claim, type LockKeys } from '../../src/gates/lockTable.js';

/** A table whose claims are named; whoever comes to be granted is noted in order. */
class Desk {
  readonly table = new LockTable<string>();
  readonly granted: string[] = [];
  private readonly claims = new Map<string, Claim<string>>();

  ask(name: string, keys: LockKeys, above?: string): boolean | undefined {
    const claim = this.table.claim(name, lockModes(keys), above === undefined ? undefined : this.claims.get(above));
    if (claim === undefined) return undefined;
    this.claims.set(name, claim);
    if (claim.held) this.granted.push(name);
    return claim.held;
  }

  drop(...names: string[]): void {
    for (const name of names) this.table.drop(this.claims.get(name) as Claim<string>);
  }

  pump(): string[] {
    const before = this.granted.length;
    for (let claim = this.table.next(); claim !== undefined; claim = this.table.next()) this.granted.push(claim.owner);
    return this.granted.slice(before);
  }
}

describe('LockTable', () => {
  it('readers of a key share it, a writer has it alone', () => {
    const desk = new Desk();
    expect(desk.ask('r1', { reads: ['a'] })).toBe(true);
    expect(desk.ask('r2', { reads: ['a'] })).toBe(true);
    expect(desk.ask('w', { writes: ['a'] })).toBe(false);
    desk.drop('r1');
    expect(desk.pump()).toEqual([]);
    desk.drop('r2');
    expect(desk.pump()).toEqual(['w']);
  });

  it('a reader does not overtake a writer that waits for the same key, and other keys pass freely', () => {
    const desk = new Desk();
    desk.ask('r1', { reads: ['a'] });
    desk.ask('w', { writes: ['a'] });
    expect(desk.ask('r2', { reads: ['a'] })).toBe(false);
    expect(desk.ask('other', { writes: ['b'] })).toBe(true);
    desk.drop('r1');
    expect(desk.pump()).toEqual(['w']);
    desk.drop('w');
    expect(desk.pump()).toEqual(['r2']);
  });

  it('takes all keys or none, and whoever comes later for one of them waits behind', () => {
    const desk = new Desk();
    desk.ask('a', { writes: ['a'] });
    expect(desk.ask('ab', { writes: ['a', 'b'] })).toBe(false);
    expect(desk.ask('b', { writes: ['b'] })).toBe(false);
    desk.drop('a');
    expect(desk.pump()).toEqual(['ab']);
    desk.drop('ab');
    expect(desk.pump()).toEqual(['b']);
  });

  it('a waiting claim that leaves lets those behind it pass', () => {
    const desk = new Desk();
    desk.ask('a', { writes: ['a'] });
    desk.ask('ab', { writes: ['a', 'b'] });
    desk.ask('b', { writes: ['b'] });
    desk.drop('ab');
    expect(desk.pump()).toEqual(['b']);
    desk.ask('r', { reads: ['a'] });
    desk.drop('a', 'b');
    expect(desk.pump()).toEqual(['r']);
  });

  it('readers around a writer that leaves run together', () => {
    const desk = new Desk();
    desk.ask('r1', { reads: ['a'] });
    desk.ask('w', { writes: ['a'] });
    desk.ask('r2', { reads: ['a'] });
    desk.ask('r3', { reads: ['a'] });
    desk.drop('w');
    expect(desk.pump()).toEqual(['r2', 'r3']);
  });

  it('those that one release lets in go in order of arrival, whatever key they waited for', () => {
    const desk = new Desk();
    desk.ask('all', { writes: ['a', 'b', 'c'] });
    desk.ask('1', { reads: ['c'] });
    desk.ask('2', { writes: ['a'] });
    desk.ask('3', { reads: ['c', 'b'] });
    desk.drop('all');
    expect(desk.pump()).toEqual(['1', '2', '3']);
  });

  it('a key that is read and written is written, and named twice it counts once', () => {
    expect([...lockModes({ reads: ['a', 'a', 'b'], writes: ['b', 'b'] })]).toEqual([
      ['a', false],
      ['b', true],
    ]);
  });

  it('a claim of no keys is granted at once', () => {
    expect(new Desk().ask('none', {})).toBe(true);
  });

  it('between a release and its pump a newcomer stands behind those who wait #16', () => {
    const desk = new Desk();
    desk.ask('w1', { writes: ['a'] });
    desk.ask('w2', { writes: ['a'] });
    desk.drop('w1');
    expect(desk.ask('w3', { writes: ['a'] })).toBe(false);
    expect(desk.pump()).toEqual(['w2']);
  });

  it('a claim that leaves between its turn and its grant is skipped', () => {
    const desk = new Desk();
    desk.ask('w1', { writes: ['a'] });
    desk.ask('w2', { writes: ['a'] });
    desk.ask('r', { reads: ['a'] });
    desk.drop('w1', 'w2');
    expect(desk.pump()).toEqual(['r']);
    expect(desk.table.held).toBe(1);
  });

  it('forgets a key that nobody uses, and counts what it holds #17', () => {
    const desk = new Desk();
    desk.ask('w', { writes: ['a'] });
    desk.ask('r', { reads: ['a', 'b'] });
    expect(desk.table.uses()).toEqual([
      { key: 'a', mode: 'write', holders: 1, waiting: 1 },
      { key: 'b', mode: 'read', holders: 1, waiting: 0 },
    ]);
    expect([desk.table.held, desk.table.waiting]).toEqual([1, 1]);
    desk.drop('r', 'r', 'w');
    desk.pump();
    expect(desk.table.uses()).toEqual([]);
    expect([desk.table.held, desk.table.waiting]).toEqual([0, 0]);
  });

  describe('below a claim', () => {
    it('what is covered is granted at once, whoever waits', () => {
      const desk = new Desk();
      desk.ask('top', { reads: ['r'], writes: ['w'] });
      desk.ask('outside', { writes: ['r', 'w'] });
      expect(desk.ask('inner', { reads: ['r', 'w'] }, 'top')).toBe(true);
      expect(desk.ask('innermost', { writes: ['w'] }, 'inner')).toBe(true);
      desk.drop('innermost', 'inner');
      expect(desk.pump()).toEqual([]);
      desk.drop('top');
      expect(desk.pump()).toEqual(['outside']);
    });

    it('what is free is taken', () => {
      const desk = new Desk();
      desk.ask('top', { writes: ['a'] });
      desk.ask('reader', { reads: ['b'] });
      expect(desk.ask('inner', { reads: ['b'], writes: ['c', 'a'] }, 'top')).toBe(true);
      expect(desk.ask('other', { writes: ['c'] })).toBe(false);
      desk.drop('inner');
      expect(desk.pump()).toEqual(['other']);
    });

    it('what is held or waited for by others is refused, and nothing of it is kept', () => {
      const desk = new Desk();
      desk.ask('top', { reads: ['a'] });
      desk.ask('holder', { reads: ['b'] });
      desk.ask('waiter', { writes: ['b'] });
      expect(desk.ask('upgrade', { writes: ['a'] }, 'top')).toBeUndefined();
      expect(desk.ask('busy', { writes: ['c', 'b'] }, 'top')).toBeUndefined();
      expect(desk.ask('passing', { reads: ['b'] }, 'top')).toBeUndefined();
      expect(desk.table.uses().map(({ key }) => key)).toEqual(['a', 'b']);
    });
  });

  it('100,000 claims wait for one key and go one by one', () => {
    const desk = new Desk();
    const count = 100_000;
    for (let i = 0; i < count; i++) desk.ask(`${i}`, { writes: ['a'], reads: ['b'] });
    for (let i = count - 1; i >= 0; i -= 2) desk.drop(`${i}`);
    desk.pump();
    for (let i = 0; i < count; i += 2) {
      desk.drop(`${i}`);
      desk.pump();
    }
    expect(desk.granted.length).toBe(count / 2);
    expect(desk.table.uses()).toEqual([]);
  });
});

interface Step {
  readonly do: 'ask' | 'nest' | 'drop' | 'pump';
  readonly pick: number;
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

const key = fc.constantFrom('a', 'b', 'c', 'd');
const step: fc.Arbitrary<Step> = fc.record({
  do: fc.constantFrom('ask', 'ask', 'ask', 'nest', 'drop', 'drop', 'pump'),
  pick: fc.nat(),
  reads: fc.array(key, { maxLength: 3 }),
  writes: fc.array(key, { maxLength: 2 }),
});

/** The rule itself, spelled out over the list of all claims in order of arrival. */
class Model {
  readonly table = new LockTable<number>();
  readonly claims: Claim<number>[] = [];

  conflict(a: Claim<number>, b: Claim<number>): boolean {
    return [...a.modes].some(([key, write]) => b.modes.has(key) && (write || b.modes.get(key) === true));
  }

  related(a: Claim<number>, b: Claim<number>): boolean {
    for (let claim = a.above; claim !== undefined; claim = claim.above) if (claim === b) return true;
    for (let claim = b.above; claim !== undefined; claim = claim.above) if (claim === a) return true;
    return this.root(a) === this.root(b);
  }

  root(claim: Claim<number>): Claim<number> {
    return claim.above === undefined ? claim : this.root(claim.above);
  }

  ask(keys: LockKeys, above: Claim<number> | undefined): void {
    const claim = this.table.claim(this.claims.length, lockModes(keys), above);
    if (claim !== undefined) this.claims.push(claim);
  }

  drop(claim: Claim<number>): void {
    for (const below of this.claims.filter((each) => each.above === claim)) this.drop(below);
    this.table.drop(claim);
    this.claims.splice(this.claims.indexOf(claim), 1);
  }

  pump(): void {
    while (this.table.next() !== undefined);
    for (const [i, claim] of this.claims.entries()) {
      const blocked = this.claims.slice(0, i).some((earlier) => this.conflict(claim, earlier) && !this.related(claim, earlier));
      // A nested claim that took a free key may have come later than one that waits for another key, never for this one.
      const taken = this.claims.slice(i + 1).some((later) => later.held && later.above !== undefined && this.conflict(claim, later));
      if (claim.above === undefined) expect(claim.held).toBe(!blocked && (claim.held || !taken));
      else expect(claim.held).toBe(true);
    }
  }

  check(): void {
    const held = this.claims.filter((claim) => claim.held);
    for (const [i, a] of held.entries()) for (const b of held.slice(i + 1)) expect(this.conflict(a, b) && !this.related(a, b)).toBe(false);
    expect(this.table.held).toBe(held.length);
    expect(this.table.waiting).toBe(this.claims.length - held.length);
  }
}

describe('LockTable, whatever is asked', () => {
  it('never has two holders that conflict, grants in order of arrival, and lets nobody wait without a reason', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const model = new Model();
        for (const { do: action, pick, reads, writes } of steps) {
          const held = model.claims.filter((claim) => claim.held);
          if (action === 'ask') model.ask({ reads, writes }, undefined);
          else if (action === 'nest' && held.length > 0) model.ask({ reads, writes }, held[pick % held.length]);
          else if (action === 'drop' && model.claims.length > 0) model.drop(model.claims[pick % model.claims.length] as Claim<number>);
          else if (action === 'pump') model.pump();
          model.check();
        }
        model.pump();
        // No deadlock: as long as holders end, everybody gets their turn.
        while (model.claims.length > 0) {
          const held = model.claims.find((claim) => claim.held);
          expect(held).toBeDefined();
          model.drop(held as Claim<number>);
          model.pump();
          model.check();
        }
        expect(model.table.uses()).toEqual([]);
      }),
      { numRuns: 2_000 },
    );
  });
});
