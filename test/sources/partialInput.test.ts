import type Anthropic from '@anthropic-ai/sdk';
import { EMPTY, filter, from, lastValueFrom, map, NEVER, take, throwError, toArray } from 'rxjs';
import { agent, messageStream, partialInput, tool, toolCalls, type PartialCall } from 'rxfleet/agents';
import { lastToolResults, reply } from 'rxfleet/testing';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { virtual } from '../support/virtual.js';
import { ask, start } from './harness.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

const open = (index: number, name: string, input: unknown = {}): StreamEvent =>
  ({ type: 'content_block_start', index, content_block: { type: 'tool_use', id: `id_${name}`, name, input } }) as StreamEvent;
const json = (index: number, partial_json: string): StreamEvent => ({
  type: 'content_block_delta',
  index,
  delta: { type: 'input_json_delta', partial_json },
});
const close = (index: number): StreamEvent => ({ type: 'content_block_stop', index });

/** What is shown of one call that comes in these pieces: all inputs, and whether the last is complete. */
async function shown(schema: z.ZodType, ...pieces: string[]): Promise<{ inputs: unknown[]; complete: boolean }> {
  const events = [open(0, 'a'), ...pieces.map((piece) => json(0, piece)), close(0)];
  const calls = await lastValueFrom(from(events).pipe(partialInput(schema), toArray()));
  return { inputs: calls.map(({ input }) => input), complete: calls.at(-1)?.complete === true };
}

async function inputsOf(schema: z.ZodType, ...pieces: string[]): Promise<unknown[]> {
  return (await shown(schema, ...pieces)).inputs.slice(1);
}

async function lastOf(schema: z.ZodType, ...pieces: string[]): Promise<unknown> {
  return (await shown(schema, ...pieces)).inputs.at(-1);
}

describe('partialInput', () => {
  const mail = z.object({ to: z.string(), count: z.number(), tags: z.array(z.string()) });

  it('shows what is there whenever there is more, and once more at the end', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('o-abcdefg-(z|)', {
        o: open(1, 'mail'),
        a: json(1, '{"t'),
        b: json(1, 'o": "an'),
        c: json(1, 'na"'),
        d: json(1, ' , '),
        e: json(1, '"count": 12'),
        f: json(1, '3, "tags": ["x", "y'),
        g: json(1, '"]}'),
        z: close(1),
      });
      const at = (input: unknown, complete = false): PartialCall => ({ index: 1, id: 'id_mail', name: 'mail', input, complete });
      const values = {
        o: at(undefined),
        a: at({}),
        b: at({ to: 'an' }),
        c: at({ to: 'anna' }),
        f: at({ to: 'anna', count: 123, tags: ['x', 'y'] }),
        z: at({ to: 'anna', count: 123, tags: ['x', 'y'] }, true),
      };
      expectObservable(source.pipe(partialInput(mail))).toBe('o-abc--f--(z|)', values);
      expectSubscriptions(source.subscriptions).toBe('^---------!');
    }));

  it('leaving stops the source', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('o-a-b|', { o: open(0, 'x'), a: json(0, '{"to":"'), b: json(0, 'y') });
      const call = { index: 0, id: 'id_x', name: 'x', complete: false };
      expectObservable(source.pipe(partialInput(mail), take(2))).toBe('o-(a|)', {
        o: { ...call, input: undefined },
        a: { ...call, input: { to: '' } },
      });
      expectObservable(source.pipe(partialInput(mail)), '^!').toBe('o', { o: { ...call, input: undefined } });
      expectSubscriptions(source.subscriptions).toBe(['^-!', '^!']);
    }));

  it('is over, silent or in error when its source is', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold<StreamEvent>('--#', {}, new Error('lost'));
      expectObservable(source.pipe(partialInput(mail))).toBe('--#', {}, new Error('lost'));
      expectObservable(EMPTY.pipe(partialInput(mail))).toBe('|');
      expectObservable(NEVER.pipe(partialInput(mail))).toBe('');
      expectObservable(throwError(() => 'x').pipe(partialInput(mail))).toBe('#', {}, 'x');
      expectSubscriptions(source.subscriptions).toBe('^-!');
    }));

  it('can be stopped in the middle of a synchronous source', async () => {
    let seen = 0;
    const pieces = from([open(0, 'a'), json(0, '{"to":"'), ...Array.from({ length: 1_000 }, () => json(0, 'x'))]);
    const counted = pieces.pipe(
      map((event) => {
        seen++;
        return event;
      }),
    );
    await lastValueFrom(counted.pipe(partialInput(mail), take(5)));
    expect(seen).toBe(5);
  });

  it('keeps nothing between two subscriptions', async () => {
    const operator = partialInput(mail);
    const one = from([open(0, 'a'), json(0, '{"to":"x')]).pipe(operator);
    const two = from([json(0, '"}'), open(0, 'b'), json(0, '{"to":"y')]).pipe(operator);
    for (const source of [one, one, two]) {
      const last = await lastValueFrom(source);
      expect(last.input).toEqual({ to: last.name === 'a' ? 'x' : 'y' });
    }
  });

  it('tells calls apart that are written at the same time, and forgets them with their reply', async () => {
    const begin = { type: 'message_start', message: {} } as StreamEvent;
    const events = [
      begin,
      open(0, 'a'),
      open(2, 'b'),
      json(2, '{"to":"2'),
      json(0, '{"to":"0'),
      json(2, '"}'),
      begin,
      json(0, '"}'),
      close(0),
    ];
    const calls = await lastValueFrom(from(events).pipe(partialInput(mail), toArray()));
    expect(calls.map(({ index, input }) => [index, input])).toEqual([
      [0, undefined],
      [2, undefined],
      [2, { to: '2' }],
      [0, { to: '0' }],
    ]);
  });

  it('looks only at the calls of one tool, and at no other blocks', async () => {
    const server = { type: 'content_block_start', index: 1, content_block: { type: 'server_tool_use', id: 's', name: 'a', input: {} } };
    const events = [
      open(0, 'b'),
      json(0, '{}'),
      close(0),
      server as StreamEvent,
      json(1, '{}'),
      close(1),
      open(2, 'a'),
      json(2, '{}'),
      close(2),
    ];
    const calls = await lastValueFrom(from(events).pipe(partialInput(mail, { tool: 'a' }), toArray()));
    expect(calls.map(({ index, complete }) => [index, complete])).toEqual([
      [2, false],
      [2, false],
      [2, true],
    ]);
  });

  it('takes the input that the block began with, if nothing follows', async () => {
    const events = [open(0, 'a', { to: 'x', other: 1 }), json(0, ''), close(0)];
    expect(await lastValueFrom(from(events).pipe(partialInput(mail)))).toMatchObject({ input: { to: 'x' }, complete: true });
  });

  it('what is whole stays the same object, and pictures do not change', async () => {
    const schema = z.object({ list: z.array(z.object({ n: z.number() })) });
    const { inputs } = await shown(schema, '{"list":[{"n":1}', ',{"n":2', '}', ']', '}');
    const lists = inputs.map((input) => (input as { list?: object[] } | undefined)?.list);
    expect(lists).toEqual([undefined, [{ n: 1 }], [{ n: 1 }, {}], [{ n: 1 }, { n: 2 }], [{ n: 1 }, { n: 2 }]]);
    expect(lists[2]?.[0]).toBe(lists[1]?.[0]);
    expect(lists[4]?.[0]).toBe(lists[1]?.[0]);
  });

  it('refuses wrong options', () => {
    expect(() => partialInput('x' as never)).toThrow(new TypeError('partialInput: schema must be a zod schema, got "x".'));
    expect(() => partialInput(mail, { tool: 5 as never })).toThrow(new TypeError('partialInput: tool must be a string, got 5.'));
    expect(() => partialInput(mail, null as never)).toThrow(TypeError);
  });
});

describe('what is shown of JSON that is cut off', () => {
  const any = z.any();

  it.each([
    ['a number only when it cannot grow', ['[1', '2.', '5e', '1', ',-0.0', ']'], [[], [125], [125, -0]]],
    ['a word only when it is whole', ['[t', 'rue,fal', 'se,n', 'ull]'], [[], [true], [true, false], [true, false, null]]],
    ['a key only with its value', ['{"a', 'b"', ' :', ' "', '"}'], [{}, { ab: '' }]],
    ['an escape only when it is whole', ['"a\\', 'n\\', 'u00', '4', '1"'], ['a', 'a\n', 'a\nA']],
    ['no half of a surrogate pair', ['"x\\ud83d', '\\ude00', '\ud83d', '\ude00y', '\ud83d"'], ['x', 'x😀', 'x😀😀y', 'x😀😀y\ud83d']],
    ['an object and an array as soon as they begin', ['[', '{', '"a":', '[', ']', '}', ']'], [[], [{}], [{ a: [] }]]],
    ['the later of two values of one key', ['{"a":1,', '"a":{"b":2', '}}'], [{ a: 1 }, { a: {} }, { a: { b: 2 } }]],
  ])('%s', async (_, pieces, expected) => {
    const { inputs, complete } = await shown(any, ...pieces);
    expect(inputs.slice(1, -1)).toEqual(expected);
    expect(complete).toBe(true);
    expect(inputs.at(-1)).toEqual(JSON.parse(pieces.join('')));
  });

  it('a number alone is whole when its block ends', async () => {
    expect(await shown(any, '1', '2')).toEqual({ inputs: [undefined, 12], complete: true });
  });

  it.each([
    '{"a":1,}',
    '{"a":1}x',
    '[1 2]',
    '{"a" 1}',
    '{1:2}',
    '["\n"]',
    '["\\x"]',
    '["\\u00g0"]',
    '[01]',
    '[1.]',
    '[-]',
    '[tru]',
    '}',
    ']',
    '[}',
    "{'a':1}",
    '{"a":1',
    '',
    ' ',
    '[NaN]',
    '\ufeff[]',
  ])('is never complete for %j', async (text) => {
    const events = [open(0, 'a'), json(0, ' '), ...Array.from(text, (char) => json(0, char)), close(0)];
    const calls = await lastValueFrom(from(events).pipe(partialInput(any), toArray()));
    expect(calls.filter(({ complete }) => complete)).toEqual([]);
  });

  it('shows no more after what cannot be, and what was there stays', async () => {
    expect(await shown(any, '{"a":1,"b":[2', ',,', '3],"c":4}')).toEqual({
      inputs: [undefined, { a: 1, b: [] }, { a: 1, b: [2] }],
      complete: false,
    });
  });

  it('goes as deep as a call may be, and no deeper', async () => {
    const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
    const events = (levels: number): StreamEvent[] => [open(0, 'a'), json(0, deep(levels)), close(0), open(1, 'b')];
    for (const [levels, whole] of [
      [200, 1],
      [201, 0],
      [100_000, 0],
    ] as const) {
      const calls = await lastValueFrom(
        from(events(levels)).pipe(
          partialInput(any),
          filter(({ complete }) => complete),
          toArray(),
        ),
      );
      expect(calls).toHaveLength(whole);
      expect(await lastValueFrom(from(events(levels)).pipe(toolCalls(), toArray()))).toHaveLength(whole);
    }
  });

  it('"__proto__" is never shown and changes no prototype', async () => {
    const text = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"a":{"__proto__":"x"}}';
    for (const schema of [z.any(), z.record(z.string(), z.any()), z.looseObject({}), z.object({ a: z.any() }).catchall(z.any())]) {
      const input = (await lastOf(schema, ...Array.from(text))) as object;
      expect(Object.getPrototypeOf(input)).toBe(Object.prototype);
      expect(input).toEqual({ constructor: { prototype: { polluted: 1 } }, a: {} });
      expect(Object.hasOwn(input, '__proto__')).toBe(false);
    }
    expect('polluted' in {}).toBe(false);
    expect(await lastOf(z.object({ a: z.any() }), '{"constructor":1,"toString":2,"hasOwnProperty":3}')).toEqual({});
  });

  it('costs what the text costs, however small the pieces are', async () => {
    const rows = `{"rows":[${Array.from({ length: 5_000 }, (_, n) => `{"id":${n},"name":"row ${n}"}`).join()}]}`;
    const long = `{"text":"${'lorem ipsum '.repeat(80_000)}"}`;
    const keys = `{"keys":{${Array.from({ length: 20_000 }, (_, n) => `"key ${n}":${n}`).join()}}}`;
    const schema = z.object({
      rows: z.array(z.object({ id: z.number(), name: z.string() })),
      text: z.string(),
      keys: z.record(z.string(), z.number()),
    });
    for (const text of [rows, long, keys]) {
      const events = [open(0, 'a'), ...(text.match(/[^]{1,8}/g) ?? []).map((piece) => json(0, piece)), close(0)];
      const begun = performance.now();
      const last = await lastValueFrom(from(events).pipe(partialInput(schema)));
      expect(performance.now() - begun).toBeLessThan(8_000);
      expect(last.input).toEqual(JSON.parse(text));
    }
  });

  it('one picture stands for several pieces where each would cost too much', async () => {
    const text = `{${Array.from({ length: 3_000 }, (_, n) => `"${n}":${n}`).join()}}`;
    const pieces = text.match(/[^]{1,6}/g) ?? [];
    const { inputs, complete } = await shown(z.record(z.string(), z.number()), ...pieces);
    expect(complete).toBe(true);
    expect(inputs.at(-1)).toEqual(JSON.parse(text));
    const sizes = inputs.map((input) => Object.keys(input ?? {}).length);
    expect(sizes.slice(2, 60)).toEqual(Array.from({ length: 58 }, (_, n) => n + 1));
    expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(pieces.length * 70 + 3_000);
    expect(inputs.length).toBeGreaterThan(100);
  });
});

describe('what does not fit the schema so far', () => {
  it('a field of another type, or of no name that the schema has', async () => {
    const schema = z.object({ n: z.number(), s: z.string(), o: z.object({ b: z.boolean() }) });
    expect(await inputsOf(schema, '{"n":"1', '","x":[1],', '"s":{"a":1}', ',"o":{"b":1,"c":"d"', '}}')).toEqual([{}, { o: {} }, { o: {} }]);
  });

  it('a fixed value is shown when it is whole', async () => {
    const schema = z.object({ kind: z.enum(['approve', 'deny']), level: z.literal(3), note: z.union([z.literal('auto'), z.number()]) });
    expect(await inputsOf(schema, '{"kind":"app', 'rove"', ',"level":3', ',"note":"aut', 'o"', '}')).toEqual([
      {},
      { kind: 'approve' },
      { kind: 'approve', level: 3 },
      { kind: 'approve', level: 3, note: 'auto' },
      { kind: 'approve', level: 3, note: 'auto' },
    ]);
    expect(await lastOf(schema, '{"kind":"other","level":4,"note":"x"}')).toEqual({});
    expect(await lastOf(z.object({ a: z.union([z.literal('auto'), z.string()]) }), '{"a":"au')).toEqual({ a: 'au' });
  });

  it('alternatives are told apart by what is whole, and what fitted only the others goes', async () => {
    const schema = z.discriminatedUnion('type', [
      z.object({ type: z.literal('a'), x: z.string() }),
      z.object({ type: z.literal('b'), x: z.number(), y: z.array(z.number()) }),
    ]);
    expect(await inputsOf(schema, '{"type":"a"', ',"x":5,"y":[1]', ',"x":"s"}')).toEqual([
      { type: 'a' },
      { type: 'a', x: 's' },
      { type: 'a', x: 's' },
    ]);
    expect(await inputsOf(schema, '{"y":[1]', ',"type":"a"', '}')).toEqual([{ y: [1] }, { type: 'a' }, { type: 'a' }]);
    expect(await lastOf(schema, '{"x":"5","type":"b","y":[1]}')).toEqual({ x: '5' });
    const nested = z.object({ list: z.array(schema) });
    expect(await lastOf(nested, '{"list":[{"type":"b","x":1,"y":[1,"2",3]},{"type":"a","x":"s","y":[1]},{"type":"c","x":')).toEqual({
      list: [{ type: 'b', x: 1, y: [1, 3] }, { type: 'a', x: 's' }, {}],
    });
  });

  it.each<[string, z.ZodType, string, unknown]>([
    [
      'optional, nullable, default',
      z.object({ a: z.string().optional(), b: z.number().nullable(), c: z.number().default(5) }),
      '{"a":"x","b":null}',
      { a: 'x', b: null },
    ],
    ['a transform is not run', z.object({ a: z.string().transform(Number) }), '{"a":"5"}', { a: '5' }],
    ['checks are not run', z.object({ a: z.email().min(50) }), '{"a":"x@"}', { a: 'x@' }],
    ['preprocess, as the model is told', z.object({ a: z.preprocess(String, z.string()) }), '{"a":"5"}', { a: '5' }],
    [
      'what is coerced comes as anything',
      z.object({ a: z.coerce.number(), b: z.coerce.boolean() }),
      '{"a":"5","b":{"x":1}}',
      { a: '5', b: { x: 1 } },
    ],
    ['integers', z.array(z.int()), '[1,2.5,3]', [1, 3]],
    ['a record', z.record(z.string(), z.number()), '{"a":1,"b":"2"}', { a: 1 }],
    ['a record with fixed keys', z.partialRecord(z.enum(['a', 'b']), z.number()), '{"a":1,"c":2}', { a: 1 }],
    ['a tuple keeps places', z.tuple([z.string(), z.number()]).rest(z.boolean()), '["a","b",true,5]', ['a', undefined, true]],
    ['a tuple ends', z.tuple([z.string()]), '["a","b"]', ['a']],
    [
      'an intersection',
      z.intersection(z.object({ a: z.string() }), z.object({ b: z.number() })),
      '{"a":"x","b":1,"c":2}',
      { a: 'x', b: 1 },
    ],
    ['a union of types', z.array(z.union([z.string(), z.boolean()])), '["a",1,true,null]', ['a', true]],
    ['unknown', z.object({ a: z.unknown() }), '{"a":{"b":[1,null]},"c":1}', { a: { b: [1, null] } }],
    ['never', z.object({ a: z.never().optional() }), '{"a":1}', {}],
    ['what JSON cannot say', z.object({ a: z.date(), b: z.bigint().optional() }), '{"a":"2020"}', { a: '2020' }],
    [
      'strict and loose',
      z.object({ a: z.strictObject({ x: z.any() }), b: z.looseObject({}) }),
      '{"a":{"y":1},"b":{"y":1}}',
      { a: {}, b: { y: 1 } },
    ],
    ['catchall', z.object({ a: z.string() }).catchall(z.number()), '{"a":"x","b":1,"c":"no"}', { a: 'x', b: 1 }],
    ['another root', z.string(), '{"a":1}', undefined],
    ['keys with slashes', z.object({ 'a/b~c': z.lazy(() => z.string()) }), '{"a/b~c":"x"}', { 'a/b~c': 'x' }],
  ])('%s', async (_, schema, text, expected) => {
    expect(await lastOf(schema, text)).toEqual(expected);
    expect(await lastOf(schema, ...Array.from(text))).toEqual(expected);
  });

  it('a schema that contains itself', async () => {
    const tree = z.object({
      name: z.string(),
      get below() {
        return z.array(tree).optional();
      },
    });
    expect(await lastOf(tree, '{"name":"a","below":[{"name":"b","x":1,"below":[{"name":"c')).toEqual({
      name: 'a',
      below: [{ name: 'b', below: [{ name: 'c' }] }],
    });
    type Json = string | Json[];
    const loop: z.ZodType<Json> = z.lazy(() => z.union([loop, z.string(), z.array(loop)]));
    expect(await lastOf(z.object({ a: loop }), '{"a":["x",["y",5,["z')).toEqual({ a: ['x', ['y', ['z']]] });
  });

  it('has the type of what goes into the schema, in parts', () => {
    const schema = z.object({
      kind: z.enum(['a', 'b']),
      n: z.string().transform(Number),
      list: z.array(z.object({ x: z.string() })),
      pair: z.tuple([z.string(), z.number()]),
      any: z.any(),
      unknown: z.unknown(),
    });
    const calls = EMPTY.pipe(partialInput(schema));
    void calls.pipe(
      map(({ input }) => {
        expectTypeOf(input?.kind).toEqualTypeOf<'a' | 'b' | undefined>();
        expectTypeOf(input?.n).toEqualTypeOf<string | undefined>();
        expectTypeOf(input?.list?.[0]?.x).toEqualTypeOf<string | undefined>();
        expectTypeOf(input?.pair?.[1]).toEqualTypeOf<number | undefined>();
        expectTypeOf(input?.any).toBeAny();
        expectTypeOf(input?.unknown).toEqualTypeOf<unknown>();
        // @ts-expect-error: pictures are not written to
        if (input) input.n = 'x';
      }),
    );
  });
});

describe('with the real client', () => {
  const input = { to: 'anna', count: 123, tags: ['x', 'y'], note: 'a "quoted" \u{1f600} line\n' };
  const schema = z.object({ to: z.string(), count: z.number(), tags: z.array(z.string()), note: z.string() });

  it('every picture is the beginning of the input', async () => {
    const { client } = await start([reply.toolUse([{ name: 'mail', input }], { text: 'I write.', pace: { chunkChars: 3 } })]);
    const calls = await lastValueFrom(messageStream(client, ask).pipe(partialInput(schema), toArray()));
    expect(calls.length).toBeGreaterThan(15);
    expect(calls.at(-1)).toEqual({ index: 1, id: 'toolu_0001', name: 'mail', input, complete: true });
    expect(calls.filter(({ complete }) => complete)).toHaveLength(1);
    const notes = calls.map((call) => call.input?.note ?? '');
    expect(notes.every((note, n) => note.startsWith(notes[n - 1] ?? ''))).toBe(true);
  });

  it('a call that max_tokens cuts off is not complete', async () => {
    const { client } = await start([reply.toolUse([{ name: 'mail', input }], { fault: { kind: 'max_tokens' }, pace: { chunkChars: 3 } })]);
    const calls = await lastValueFrom(messageStream(client, ask).pipe(partialInput(schema), toArray()));
    expect(calls.at(-1)).toMatchObject({ complete: false, input: { to: 'anna' } });
  });

  it('reads the events of an agent, turn after turn', async () => {
    const { client } = await start((request) => {
      const results = lastToolResults(request).length > 0;
      return results && request.messages.length > 4
        ? reply.text('done')
        : reply.toolUse([{ name: 'mail', input: { ...input, count: request.messages.length } }]);
    });
    const mail = tool({ name: 'mail', description: '', input: schema, run: () => 'sent' });
    const calls = agent({ ...ask, client, tools: [mail] }).pipe(
      filter((event) => event.type === 'model'),
      map(({ event }) => event),
      partialInput(schema, { tool: 'mail' }),
      filter(({ complete }) => complete),
      map((call) => call.input?.count),
      toArray(),
    );
    expect(await lastValueFrom(calls)).toEqual([1, 3]);
  });
});
