import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Copier, OutputParts } from '../../src/sources/graphOutput.js';

const copyOf = (value: unknown): unknown => new Copier().copy(value);
const absent = (known: readonly string[]): Error => new Error(`there is ${known.join()}`);
const read = (output: unknown, ...path: string[]): unknown => new OutputParts().read(output, path, absent);

/** Every array and plain object in a value, itself included. */
function inside(value: unknown, found: Set<object> = new Set()): Set<object> {
  if (typeof value !== 'object' || value === null || found.has(value)) return found;
  found.add(value);
  for (const inner of Object.values(value)) inside(inner, found);
  return found;
}

describe('Copier', () => {
  it('is the same again, and has nothing in common with what it is a copy of', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const copy = copyOf(value);
        expect(copy).toEqual(value);
        const own = inside(value);
        for (const each of inside(copy)) expect(own.has(each)).toBe(false);
      }),
    );
  });

  it('keeps what is neither an array nor a plain object, a field "__proto__", and what is there twice', () => {
    const part = { x: 1 };
    const value = { at: new Date(), map: new Map(), run: () => 1, parts: [part, part], ...(JSON.parse('{"__proto__":{"p":1}}') as object) };
    Object.defineProperty(value, '__proto__', { value: { p: 1 }, enumerable: true });
    const copy = copyOf(value) as typeof value;
    expect([copy.at, copy.map, copy.run]).toEqual([value.at, value.map, value.run]);
    expect(copy.at).toBe(value.at);
    expect(copy.parts[0]).toBe(copy.parts[1]);
    expect(copy.parts[0]).not.toBe(part);
    expect(Object.getPrototypeOf(copy)).toBe(Object.prototype);
    expect(Object.keys(copy)).toContain('__proto__');
  });

  it('what contains itself does so in the copy, and nothing is too deep', () => {
    const round: Record<string, unknown> = { n: 1 };
    round['self'] = round;
    const copy = copyOf(round) as typeof round;
    expect(copy['self']).toBe(copy);
    expect(copy).not.toBe(round);
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i++) deep = [deep];
    expect(copyOf(deep) === deep).toBe(false);
  });

  it('what it is given twice is copied once, also as a part of something else', () => {
    const copier = new Copier();
    const part = { x: 1 };
    const copy = copier.copy(part);
    expect(copier.copy({ part })).toEqual({ part: { x: 1 } });
    expect((copier.copy([part]) as unknown[])[0]).toBe(copy);
  });

  it.each([undefined, null, 0, '', 'text', true, 5n])('%s is itself', (value) => expect(copyOf(value)).toBe(value));
});

describe('parts of outputs', () => {
  it.each<[unknown, string[], unknown]>([
    ['{"sum":2,"rows":[{"n":5}]}', ['sum'], 2],
    ['{"sum":2,"rows":[{"n":5}]}', ['rows', '0', 'n'], 5],
    [' \n[1,[2]]', ['1', '0'], 2],
    [{ body: '{"ok":true}' }, ['body', 'ok'], true],
    ['{"inner":"{\\"x\\":\\"y\\"}"}', ['inner', 'x'], 'y'],
    ['{"sum":2}', [], '{"sum":2}'],
    [
      [
        { type: 'text', text: 'Two.' },
        { type: 'text', text: '{"sum":2}' },
      ],
      ['sum'],
      2,
    ],
    [
      [
        { type: 'text', text: 'Two.' },
        { type: 'text', text: '{"sum":2}' },
      ],
      ['1', 'text', 'sum'],
      2,
    ],
    [[{ type: 'text', text: '{"0":"text"}' }], ['0', 'type'], 'text'],
    ['{"__proto__":{"x":1}}', ['__proto__', 'x'], 1],
  ])('%j: %j', (output, path, expected) => expect(read(output, ...path)).toEqual(expected));

  it.each<[unknown, string[], string]>([
    ['no JSON', ['length'], 'there is '],
    ['{"a":1', ['a'], 'there is '],
    ['"text"', ['length'], 'there is '],
    ['5', ['toFixed'], 'there is '],
    ['{"sum":2}', ['nope'], 'there is sum'],
    ['{"sum":2}', ['constructor'], 'there is sum'],
    ['{"sum":2}', ['__proto__'], 'there is sum'],
    [[{ type: 'text', text: '{"sum":2}' }], ['nope'], 'there is 0,sum'],
    [[{ kind: 'text', text: '{"sum":2}' }], ['sum'], 'there is 0'],
    [null, ['x'], 'there is '],
  ])('%j has no %j', (output, path, message) => expect(() => read(output, ...path)).toThrow(message));

  it('a long text is parsed once, however many of its parts are asked for', () => {
    const text = JSON.stringify({ rows: Array.from({ length: 100_000 }, (_, n) => ({ n })) });
    const parts = new OutputParts();
    const from = performance.now();
    for (let n = 0; n < 10_000; n++) expect(parts.read(text, ['rows', String(n), 'n'], absent)).toBe(n);
    expect(performance.now() - from).toBeLessThan(3000);
  });

  it.each(['[', '{"a":'])('hostile text is no JSON: %s', (text) => {
    const from = performance.now();
    expect(() => read(text.repeat(1_000_000), 'x')).toThrow('there is');
    expect(performance.now() - from).toBeLessThan(3000);
  });
});
