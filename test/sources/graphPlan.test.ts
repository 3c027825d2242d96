import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isDependencyCycleError, isDependencyFailedError, isUnknownReferenceError } from '../../src/sources/graphErrors.js';
import { GraphPlan, type PlannedCall, type PlanNode } from '../../src/sources/graphPlan.js';
import { MOST_WRITTEN, piecesOf, referencesIn, substitute } from '../../src/sources/graphReferences.js';

const call = (id: string, needs: readonly string[] = [], input: unknown = {}): PlannedCall => ({ id, name: 't', input, dependsOn: needs });
const keys = (nodes: readonly PlanNode[]): string => nodes.map(({ key }) => key).join();
const outputs: Record<string, unknown> = { a: { hits: [{ url: 'u' }], n: 5, list: [] }, b: 'text', 'x-1_y': 1, none: undefined };
const put = (input: unknown): unknown => substitute('c', input, (id) => outputs[id]);

describe('references', () => {
  it.each([
    ['$a', outputs['a']],
    ['$a.n', 5],
    ['$a.hits[0].url', 'u'],
    ['$a.hits.0.url', 'u'],
    ['$a.hits.length', 1],
    ['$x-1_y', 1],
    ['$none', undefined],
    ['see ${a.hits[0].url} and ${b}!', 'see u and text!'],
    ['${b}', 'text'],
    ['${a.n}', '5'],
    ['${a.hits}', '[{"url":"u"}]'],
    ['${b}${b}', 'texttext'],
  ])('%s is put in', (text, expected) => expect(put({ deep: [{ text }] })).toEqual({ deep: [{ text: expected }] }));

  it.each([
    '$',
    '$$',
    'a $b',
    'costs $1 or $b',
    "awk '{ print $1 }' $b.log",
    'SELECT * FROM t WHERE id = $1',
    '$ b',
    '$b and more',
    '$b.',
    '$b[x]',
    '$b[0',
    '${',
    '${}',
    '${ b }',
    '${b',
    '{b}',
    '$.b',
    'costs 5$',
    '',
    '$$$',
  ])('%j is text', (text) => {
    expect(referencesIn({ text })).toEqual({ references: [], literal: true });
    expect(put(text)).toBe(text);
  });

  it.each([
    ['$$b', '$b'],
    ['$$$b', '$$b'],
    ['$${b}', '${b}'],
    ['$$${b}', '$text'],
    ['it is $${b} and ${b}', 'it is ${b} and text'],
    ['$$$$${b}', '$$text'],
  ])('doubled signs are signs: %s', (text, expected) => expect(put(text)).toBe(expected));

  it('only own fields are reached: nothing that every object has', () => {
    for (const path of ['__proto__', 'constructor', 'constructor.prototype', 'hits.__proto__', 'hits.map', 'n.toFixed', 'toString'])
      expect(() => put(`$a.${path}`), path).toThrow(/no such part/);
    const own = JSON.parse('{"__proto__":{"polluted":1}}') as unknown;
    expect(substitute('c', '$a.__proto__.polluted', () => own)).toBe(1);
  });

  it('a field "__proto__" of an input stays a field', () => {
    const made = put(JSON.parse('{"__proto__":{"x":"$b"},"constructor":"$b"}')) as object;
    expect(Object.getPrototypeOf(made)).toBe(Object.prototype);
    expect(JSON.stringify(made)).toBe('{"__proto__":{"x":"text"},"constructor":"text"}');
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  it('says what there is instead of a missing part, and how to say it literally', () => {
    const error = (text: string): unknown => {
      try {
        return put(text);
      } catch (each) {
        return each;
      }
    };
    expect(error('$a.nope')).toMatchObject({ call: 'c', reference: '$a.nope', missing: 'part', known: ['hits', 'n', 'list'] });
    expect(String(error('$a.nope'))).toContain('To say "$a.nope" itself, write "$$a.nope".');
    expect(isUnknownReferenceError(error('${a.list[0]}'))).toBe(true);
    expect(isUnknownReferenceError(error('$none.x'))).toBe(true);
  });

  it('leaves the input alone, and what is neither an array nor a plain object', () => {
    const date = new Date();
    const input = { at: date, map: new Map([['k', '$a']]), text: '$b' };
    const made = put(input) as typeof input;
    expect(made).toEqual({ ...input, text: 'text' });
    expect(made.at).toBe(date);
    expect(input.text).toBe('$b');
  });

  it('an input that contains itself, or is too deep, is refused; one that has parts in common is not', () => {
    const round: Record<string, unknown> = {};
    round['a'] = round['b'] = round;
    expect(() => referencesIn(round)).toThrow('nested deeper');
    let deep: unknown = '$a';
    for (let i = 0; i < 10_000; i++) deep = { deep };
    expect(() => referencesIn(deep)).toThrow('nested deeper');
    let wide: unknown = ['$b'];
    for (let i = 0; i < 100; i++) wide = [wide, wide];
    expect(referencesIn(wide).references).toHaveLength(1);
  });

  it('what references write is bounded', () => {
    const long = 'x'.repeat(MOST_WRITTEN / 10);
    expect(() => substitute('c', '${a}'.repeat(11), () => long)).toThrow('longer than');
  });

  it.each([
    ['signs', '$'.repeat(1_000_000)],
    ['openings', '${'.repeat(500_000)],
    ['one long name', `\${${'a'.repeat(1_000_000)}`],
    ['a long path', `$a${'.b'.repeat(500_000)}`],
    ['many references', '${a}'.repeat(200_000)],
    ['many nested signs', '$${a'.repeat(200_000)],
  ])('hostile text takes linear time: %s', (_name, text) => {
    const from = performance.now();
    piecesOf(text);
    expect(performance.now() - from).toBeLessThan(1500);
  });
});

describe('GraphPlan', () => {
  it('a call that needs nothing is ready at once, one that needs another when that has its result', () => {
    const plan = new GraphPlan();
    const a = plan.add(call('a'));
    const b = plan.add(call('b', ['a']));
    expect([keys(a.step.ready), keys(b.step.ready)]).toEqual(['a', '']);
    expect(keys(plan.resolve(a.node, 1).ready)).toBe('b');
    expect(keys(plan.add(call('late', ['a'], { v: '$a' })).step.ready)).toBe('late');
  });

  it('a call may come before those it needs', () => {
    const plan = new GraphPlan();
    const b = plan.add(call('b', [], { v: '$a.x' }));
    expect(b.step).toEqual({ failed: [], ready: [] });
    expect(keys(plan.resolve(plan.add(call('a')).node, { x: 7 }).ready)).toBe('b');
    expect(plan.inputOf(b.node)).toEqual({ v: 7 });
  });

  it('an input without references is passed on as it is', () => {
    const plan = new GraphPlan();
    const input = { x: ['y'] };
    expect(plan.inputOf(plan.add(call('a', [], input)).node)).toBe(input);
  });

  it('needing the same call twice counts once', () => {
    const plan = new GraphPlan();
    const a = plan.add(call('a'));
    plan.add(call('b', ['a', 'a'], ['$a', '$a.x', '${a}']));
    expect(keys(plan.resolve(a.node, 1).ready)).toBe('b');
  });

  it('failure goes down to all that needs it, each told of its own need and of the beginning', () => {
    const plan = new GraphPlan();
    const a = plan.add(call('a'));
    for (const each of [call('b', ['a']), call('c', ['b', 'z']), call('d', ['a', 'c'])]) plan.add(each);
    const { failed } = plan.fail(a.node, new Error('boom'));
    expect(keys(failed)).toBe('a,b,d,c');
    expect(failed[3]?.failure?.error).toMatchObject({ call: 'c', dependency: 'b', root: 'a', cause: new Error('boom') });
    const late = plan.add(call('late', ['c'])).step.failed;
    expect(late[0]?.failure?.error).toMatchObject({ dependency: 'c', root: 'a' });
    expect(String(late[0]?.failure?.error)).toBe(
      'DependencyFailedError: The call "late" needs "c", which has no result because "a" has none',
    );
    expect(plan.close().failed).toEqual([]);
  });

  it('a cycle is answered by the call that closes it; what needs one of them fails with it', () => {
    const plan = new GraphPlan();
    plan.add(call('a', ['b']));
    plan.add(call('x', ['a']));
    expect(plan.add(call('b', ['c'])).step.failed).toEqual([]);
    const { failed } = plan.add(call('c', ['q', 'a'])).step;
    expect(keys(failed)).toBe('c,a,b,x');
    expect(failed[1]?.failure?.error).toMatchObject({ call: 'a', cycle: ['c', 'a', 'b', 'c'] });
    expect(String(failed[0]?.failure?.error)).toContain('c -> a -> b -> c');
    expect(isDependencyFailedError(failed[3]?.failure?.error)).toBe(true);
  });

  it('a call that needs itself', () => {
    const { failed } = new GraphPlan().add(call('a', [], '$a')).step;
    expect(failed[0]?.failure?.error).toMatchObject({ cycle: ['a', 'a'] });
  });

  it('ids that objects have are ids like any other', () => {
    const plan = new GraphPlan();
    const ids = ['__proto__', 'constructor', 'hasOwnProperty'];
    const b = plan.add(
      call(
        'b',
        [],
        ids.map((id) => `$${id}`),
      ),
    );
    for (const id of ids) plan.resolve(plan.add(call(id)).node, id);
    expect(plan.inputOf(b.node)).toEqual(ids);
    expect(b.node.state).toBe('ready');
  });

  it('references that never came are answered when the plan is closed', () => {
    const plan = new GraphPlan();
    plan.add(call('a'));
    plan.add(call('b', [], { v: '${nope.x}' }));
    plan.add(call('c', ['b']));
    plan.add(call('d', ['gone']));
    const { failed } = plan.close();
    expect(keys(failed)).toBe('b,d,c');
    expect(failed[0]?.failure?.error).toMatchObject({ reference: '${nope.x}', missing: 'call', known: ['a', 'b', 'c', 'd'] });
    expect(failed[1]?.failure?.error).toMatchObject({ reference: 'gone' });
  });

  it('ref is what others call it by; both names are taken', () => {
    const plan = new GraphPlan();
    const a = plan.add({ ...call('toolu_1'), ref: '1' });
    plan.add(call('b', ['1']));
    expect(keys(plan.resolve(a.node, 1).ready)).toBe('b');
    for (const again of [
      { ...call('toolu_1'), ref: '2' },
      { ...call('other'), ref: '1' },
    ])
      expect(plan.add(again).step.failed[0]?.failure?.error).toMatchObject({ name: 'DuplicateCallError' });
  });

  it('the second call of an id fails, and the first is not touched', () => {
    const plan = new GraphPlan();
    const first = plan.add(call('a'));
    const second = plan.add(call('a', ['a']));
    expect(second.step.failed).toEqual([second.node]);
    expect(first.node.state).toBe('ready');
  });

  it.each([null, undefined, 5, 'a', [], {}, { id: true, name: 't' }, { id: NaN, name: 't' }, { id: '', name: 't' }, { id: 'a' }])(
    '%j is no call',
    (value) => {
      expect(new GraphPlan().add(value).step.failed[0]?.failure?.error).toMatchObject({ name: 'InvalidCallError' });
    },
  );

  it.each([{ dependsOn: 'a' }, { dependsOn: [true] }, { dependsOn: [null] }, { ref: '' }, { ref: true }])('%j is refused', (part) => {
    const { node } = new GraphPlan().add({ ...call('a'), ...part });
    expect(node.failure?.error).toMatchObject({ name: 'InvalidCallError', call: 'a' });
  });

  it.each<[unknown, string]>([
    [{ id: true, name: 't' }, 'A call of the plan cannot be made: its id must be a string that is not empty, got true.'],
    [{ name: 't' }, 'A call of the plan cannot be made: its id must be a string that is not empty, got undefined.'],
    [{ id: 'a', name: 5 }, 'The call "a" of the plan cannot be made: its name must be a string, got 5.'],
    [
      { id: 'a', name: 't', ref: {} },
      'The call "a" of the plan cannot be made: its ref must be a string that is not empty, got an object.',
    ],
  ])('%j: what is wrong is said, and what was given', (value, message) => {
    expect((new GraphPlan().add(value).node.failure?.error as Error).message).toBe(message);
  });

  it('numbers are names as well: models count their calls', () => {
    const plan = new GraphPlan();
    plan.add({ id: 3, name: 't', input: '$1', dependsOn: [2] });
    const one = plan.add({ id: 1, name: 't', input: {} });
    const two = plan.add({ id: 'two', ref: 2, name: 't', input: {} });
    expect([one.node.call?.id, two.node.key]).toEqual(['1', '2']);
    expect(keys(plan.resolve(one.node, 'x').ready)).toBe('');
    const { ready } = plan.resolve(two.node, 'y');
    expect(keys(ready)).toBe('3');
    expect(plan.inputOf(ready[0]!)).toBe('x');
  });

  it.each<[string, object]>([
    ['a name', { id: 'a', name: 5 }],
    ['a ref', { id: 'a', name: 't', ref: {} }],
    ['dependencies', { id: 'a', name: 't', dependsOn: 5 }],
    ['an id, but has a ref', { ref: 'a', name: 't' }],
  ])('what has no right %s is known as failed: those that need it hear of it at once, whenever they come', (_, bad) => {
    const plan = new GraphPlan();
    const early = plan.add(call('early', ['a']));
    const { node, step } = plan.add({ input: {}, ...bad });
    expect(step.failed).toEqual([node, early.node]);
    const late = plan.add(call('late', [], '$a'));
    for (const each of [early, late])
      expect(each.node.failure?.error).toMatchObject({
        name: 'DependencyFailedError',
        dependency: 'a',
        cause: { name: 'InvalidCallError' },
      });
    expect(plan.close().failed).toEqual([]);
  });

  it('several without an id are not taken for one', () => {
    const plan = new GraphPlan();
    for (let i = 0; i < 2; i++) expect(plan.add({ name: 't' }).node.failure?.error).toMatchObject({ name: 'InvalidCallError', call: '' });
    expect(isDependencyFailedError(plan.add(call('b', [''])).node.failure?.error)).toBe(false);
  });

  it('an invalid call with an id that is taken does not touch the one that has it', () => {
    const plan = new GraphPlan();
    const first = plan.add(call('a'));
    expect(plan.add({ id: 'a' }).node.failure?.error).toMatchObject({ name: 'InvalidCallError' });
    expect(plan.add(call('b', [], '$a')).node.state).toBe('waiting');
    expect(keys(plan.resolve(first.node, 1).ready)).toBe('b');
  });
});

describe('size', () => {
  const n = 10_000;
  const orders: Record<string, (ids: number[]) => number[]> = {
    'in order': (ids) => ids,
    backwards: (ids) => ids.reverse(),
    shuffled: (ids) => ids.map((id, i) => [Math.sin(i * 7919), id] as const).sort(([a], [b]) => a - b).map(([, id]) => id), // prettier-ignore
    'evens first': (ids) => [...ids.filter((id) => id % 2 === 0), ...ids.filter((id) => id % 2 === 1)],
  };

  it.each(Object.keys(orders))('a chain of 10,000, %s, runs through and fails through', (name) => {
    for (const fails of [false, true]) {
      const from = performance.now();
      const plan = new GraphPlan();
      const ready: PlanNode[] = [];
      let failed = 0;
      for (const i of orders[name]!([...Array(n).keys()])) ready.push(...plan.add(call(`c${i}`, i === 0 ? [] : [`c${i - 1}`])).step.ready);
      for (let node = ready.pop(); node !== undefined; node = ready.pop()) {
        const step = fails ? plan.fail(node, new Error('x')) : plan.resolve(node, 1);
        failed += step.failed.length;
        ready.push(...step.ready);
      }
      expect(failed).toBe(fails ? n : 0);
      expect(performance.now() - from).toBeLessThan(2000);
    }
  });

  it('a cycle of 10,000', () => {
    const plan = new GraphPlan();
    for (let i = 1; i < n; i++) plan.add(call(`c${i}`, [`c${i - 1}`]));
    const { failed } = plan.add(call('c0', [`c${n - 1}`])).step;
    expect(failed).toHaveLength(n);
    expect(String(failed[5]?.failure?.error).length).toBeLessThan(500);
  });

  it('one call that needs 10,000, and 10,000 that need one', () => {
    const plan = new GraphPlan();
    const ids = [...Array(n).keys()].map((i) => `c${i}`);
    plan.add(call('all', ids));
    for (const id of ids) plan.add(call(id, ['one']));
    const one = plan.add(call('one'));
    const { ready } = plan.resolve(one.node, 1);
    expect(ready).toHaveLength(n);
    expect(ready.map((node) => plan.resolve(node, 1).ready.length).filter(Boolean)).toEqual([1]);
  });
});

describe('property', () => {
  const graph = fc.integer({ min: 1, max: 9 }).chain((n) =>
    fc.record({
      needs: fc.array(fc.array(fc.integer({ min: 0, max: n }), { maxLength: 3 }), { minLength: n, maxLength: n, size: 'max' }),
      order: fc.shuffledSubarray([...Array(n).keys()], { minLength: n }),
      fails: fc.array(fc.integer({ min: 0, max: n - 1 }), { maxLength: 2 }),
      /** How many of those that are ready end before the next call comes. */
      pace: fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: n }),
    }),
  );

  it('exactly those run whose needs can be met, everything ends, and cycles are found when they are closed', () => {
    fc.assert(
      fc.property(graph, ({ needs, order, fails, pace }) => {
        const n = needs.length;
        const plan = new GraphPlan();
        const ended = new Map<string, string>();
        const ready: PlanNode[] = [];
        const came = new Set<number>();
        const take = ({ failed, ready: more }: { failed: readonly PlanNode[]; ready: readonly PlanNode[] }): void => {
          for (const node of failed) {
            if (ended.get(node.key) === 'failing') continue;
            expect(ended.has(node.key)).toBe(false);
            ended.set(node.key, 'failed');
            const error = node.failure?.error;
            if (!isDependencyCycleError(error)) continue;
            error.cycle.slice(1).forEach((next, i) => expect(needs[Number(error.cycle[i])]).toContain(Number(next)));
          }
          ready.push(...more);
        };
        const endOne = (): void => {
          const node = ready.shift();
          if (node === undefined) return;
          for (const each of needs[Number(node.key)]!) expect(ended.get(String(each))).toBe('done');
          const bad = fails.includes(Number(node.key));
          ended.set(node.key, bad ? 'failing' : 'done');
          take(bad ? plan.fail(node, new Error('x')) : plan.resolve(node, 1));
        };
        order.forEach((i, at) => {
          take(plan.add(call(String(i), needs[i]!.map(String))).step);
          came.add(i);
          expect(hasOpenCycle(needs, came, ended)).toBe(false);
          for (let k = pace[at] ?? 0; k > 0; k--) endOne();
        });
        take(plan.close());
        while (ready.length > 0) endOne();
        expect(ended.size).toBe(n);
        const good = runnable(needs, fails);
        for (let i = 0; i < n; i++) expect(ended.get(String(i)) === 'done', String(i)).toBe(good.has(i));
      }),
      { numRuns: 3000 },
    );
  });

  /** What can have a result: the least set that is closed under its needs. */
  function runnable(needs: readonly (readonly number[])[], fails: readonly number[]): Set<number> {
    const good = new Set<number>();
    for (let size = -1; size < good.size;) {
      size = good.size;
      needs.forEach((each, i) => {
        if (!fails.includes(i) && each.every((need) => good.has(need))) good.add(i);
      });
    }
    return good;
  }

  function hasOpenCycle(needs: readonly (readonly number[])[], came: ReadonlySet<number>, ended: ReadonlyMap<string, string>): boolean {
    const open = (i: number): boolean => came.has(i) && !ended.has(String(i));
    const seen = new Set<number>();
    const active = new Set<number>();
    const visit = (i: number): boolean => {
      if (active.has(i)) return true;
      if (seen.has(i)) return false;
      seen.add(i);
      active.add(i);
      const found = needs[i]!.some((need) => open(need) && visit(need));
      active.delete(i);
      return found;
    };
    return [...came].some((i) => open(i) && visit(i));
  }
});
