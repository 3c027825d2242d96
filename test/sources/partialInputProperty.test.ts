import type Anthropic from '@anthropic-ai/sdk';
import fc from 'fast-check';
import { from, lastValueFrom, toArray } from 'rxjs';
import { partialInput, type PartialCall } from 'rxfleet/agents';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

function picturesOf(schema: z.ZodType, pieces: readonly string[]): Promise<PartialCall[]> {
  const events = [
    { type: 'content_block_start', index: 0, content_block: { type: 'tool_use', id: 'i', name: 'n', input: {} } },
    ...pieces.map((partial_json) => ({ type: 'content_block_delta', index: 0, delta: { type: 'input_json_delta', partial_json } })),
    { type: 'content_block_stop', index: 0 },
  ];
  return lastValueFrom(from(events as StreamEvent[]).pipe(partialInput(schema), toArray()));
}

/** Cuts a text at arbitrary places, also within escapes and surrogate pairs. */
const cut = (text: string): fc.Arbitrary<string[]> =>
  fc.array(fc.nat(text.length), { maxLength: 12 }).map((places) => {
    const ends = [...places].sort((a, b) => a - b);
    return [...ends, text.length].map((end, n) => text.slice(ends[n - 1] ?? 0, end));
  });

const letter = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 3 }),
  fc.constantFrom('"', '\\', '/', '\n', '\u0000', '\ud83d', '\ude00', '\u{1f600}', '\u2028', '__proto__'),
);
const text = fc.array(letter, { maxLength: 5 }).map((letters) => letters.join(''));
const { value: anyJson } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.oneof(text, fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean(), fc.constant(null)),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(fc.tuple(text, tie('value')), { maxLength: 4 }).map((entries) => Object.fromEntries(entries)),
  ),
}));

/** Writes JSON as a model might: with blanks anywhere, and any character of a string as an escape. */
function write(value: unknown, choose: () => number): string {
  const blank = (): string => ['', '', '', ' ', '\n\t', '\r'][choose() % 6] as string;
  const char = (each: string): string =>
    choose() % 4 === 0 ? `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}` : JSON.stringify(each).slice(1, -1);
  const string = (each: string): string => `"${each.split('').map(char).join('')}"`;
  const inner = (each: unknown): string => blank() + write(each, choose) + blank();
  if (typeof value === 'string') return string(value);
  if (Array.isArray(value)) return `[${value.map(inner).join() || blank()}]`;
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '-0' : JSON.stringify(value);
  const entries = Object.entries(value).map(([key, each]) => `${blank()}${string(key)}${blank()}:${inner(each)}`);
  return `{${entries.join() || blank()}}`;
}

const written = (value: unknown): fc.Arbitrary<string> =>
  fc.array(fc.nat(1_000), { minLength: 1, maxLength: 20 }).map((choices) => {
    let n = 0;
    return write(value, () => choices[n++ % choices.length] as number);
  });

/** Without keys that are never shown. */
function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== '__proto__')
      .map(([key, each]) => [key, plain(each)]),
  );
}

/** Whether what was shown is a beginning of what came later. */
function begins(early: unknown, late: unknown): boolean {
  if (early === undefined) return true;
  if (typeof early === 'string') return typeof late === 'string' && late.startsWith(early);
  if (typeof early !== 'object' || early === null) return Object.is(early, late);
  if (typeof late !== 'object' || late === null || Array.isArray(early) !== Array.isArray(late)) return false;
  return Object.entries(early).every(([key, each]) => Object.hasOwn(late, key) && begins(each, (late as Record<string, unknown>)[key]));
}

const parsed = (said: string): { value: unknown } | undefined => {
  try {
    return { value: JSON.parse(said) as unknown };
  } catch {
    return undefined;
  }
};

describe('partialInput, for any text', () => {
  it('every picture is a beginning of the next, and the last is what the text says', async () => {
    const cases = anyJson.chain((value) => written(value)).chain((said) => fc.tuple(fc.constant(said), cut(said)));
    await fc.assert(
      fc.asyncProperty(cases, async ([said, pieces]) => {
        const calls = await picturesOf(z.any(), pieces);
        const last = calls.at(-1);
        expect(last?.complete).toBe(true);
        expect(last?.input).toEqual(plain(JSON.parse(said)));
        calls.forEach((call, n) => expect(begins(call.input, calls[n + 1]?.input ?? call.input)).toBe(true));
        calls.forEach((call) => expect(begins(call.input, last?.input)).toBe(true));
      }),
      { numRuns: 1_500 },
    );
  });

  it('how it is cut makes no difference to the end', async () => {
    const cases = anyJson.chain((value) => written(value)).chain((said) => fc.tuple(fc.constant(said), fc.nat(said.length)));
    await fc.assert(
      fc.asyncProperty(cases, async ([said, end]) => {
        const some = said.slice(0, end);
        const whole = await picturesOf(z.any(), [some]);
        const letters = await picturesOf(z.any(), some.split(''));
        expect(letters.at(-1)?.input).toEqual(whole.at(-1)?.input);
      }),
      { numRuns: 500 },
    );
  });

  it('is complete for exactly what JSON.parse takes, and never throws', async () => {
    const broken = fc
      .tuple(
        anyJson.chain((value) => written(value)),
        fc.nat(),
        fc.nat(3),
        fc.oneof(fc.constantFrom(...Array.from('{}[]",:\\0-1.eEtfnu \n\u0001\ufeff')), text),
      )
      .map(([said, at, gone, put]) => said.slice(0, at % (said.length + 1)) + put + said.slice((at % (said.length + 1)) + gone));
    const garbage = fc.array(fc.constantFrom(...Array.from('{}[]",:\\0-1.eE '), '"a":', 'true', 'null', '\\u00'), { maxLength: 15 });
    const cases = fc.oneof(broken.chain(cut), garbage, text.chain(cut));
    await fc.assert(
      fc.asyncProperty(cases, async (pieces) => {
        const said = pieces.join('');
        const calls = await picturesOf(z.any(), pieces);
        const right = said === '' ? { value: {} } : parsed(said);
        expect(calls.at(-1)?.complete).toBe(right !== undefined);
        if (right !== undefined) expect(calls.at(-1)?.input).toEqual(plain(right.value));
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('partialInput, for any text and a schema', () => {
  const item = z.object({ id: z.number(), label: z.string().nullable(), flags: z.array(z.boolean()) });
  const circle = z.object({ shape: z.literal('circle'), size: z.number() });
  const box = z.object({ shape: z.literal('box'), size: z.array(z.number()) });
  const schema = z.object({
    name: z.string(),
    mode: z.enum(['on', 'off']).optional(),
    items: z.array(item),
    shape: z.discriminatedUnion('shape', [circle, box]),
    more: z.record(z.string(), z.union([z.number(), z.array(z.string())])),
  });
  const partial = z.strictObject({
    name: z.string().optional(),
    mode: z.enum(['on', 'off']).optional(),
    items: z.array(z.strictObject(item.partial().shape)).optional(),
    shape: z.union([z.strictObject(circle.partial().shape), z.strictObject(box.partial().shape)]).optional(),
    more: z.record(z.string(), z.union([z.number(), z.array(z.string())])).optional(),
  });
  const number = fc.integer();
  const key = text.filter((each) => each !== '__proto__');
  const fitting = fc.record(
    {
      name: text,
      mode: fc.constantFrom('on', 'off'),
      items: fc.array(fc.record({ id: number, label: fc.option(text), flags: fc.array(fc.boolean(), { maxLength: 3 }) }), { maxLength: 3 }),
      shape: fc.oneof(
        fc.record({ shape: fc.constant('circle'), size: number }),
        fc.record({ size: fc.array(number, { maxLength: 3 }), shape: fc.constant('box') }),
      ),
      more: fc.dictionary(key, fc.oneof(number, fc.array(text, { maxLength: 2 })), { maxKeys: 3 }),
    },
    { requiredKeys: ['name', 'items', 'shape', 'more'] },
  );

  it('what fits is shown whole, and every picture is a beginning of the next', async () => {
    const cases = fitting.chain((value) => written(value)).chain((said) => fc.tuple(fc.constant(said), cut(said)));
    await fc.assert(
      fc.asyncProperty(cases, async ([said, pieces]) => {
        const calls = await picturesOf(schema, pieces);
        expect(calls.at(-1)?.input).toEqual(schema.parse(JSON.parse(said)));
        for (const { input } of calls) {
          if (input !== undefined) partial.parse(input);
          expect(begins(input, calls.at(-1)?.input)).toBe(true);
        }
      }),
      { numRuns: 700 },
    );
  });

  it('what does not fit is left out of every picture', async () => {
    const wrong = fc.oneof(anyJson, fitting);
    const near = fc.record(
      {
        name: fc.oneof(text, anyJson),
        mode: fc.oneof(fc.constantFrom('on', 'of'), anyJson),
        items: fc.oneof(fc.array(fc.oneof(anyJson, fc.record({ id: anyJson, label: anyJson, flags: anyJson, other: anyJson })))),
        shape: fc.record(
          { size: anyJson, shape: fc.oneof(fc.constantFrom('box', 'circle', 'line'), anyJson), radius: anyJson },
          { requiredKeys: [] },
        ),
        more: fc.dictionary(text, wrong, { maxKeys: 3 }),
        other: anyJson,
      },
      { requiredKeys: [] },
    );
    const cases = fc
      .oneof(wrong, near)
      .chain((value) => written(value))
      .chain(cut);
    await fc.assert(
      fc.asyncProperty(cases, async (pieces) => {
        for (const { input } of await picturesOf(schema, pieces)) if (input !== undefined) partial.parse(input);
      }),
      { numRuns: 1_500 },
    );
  });
});
