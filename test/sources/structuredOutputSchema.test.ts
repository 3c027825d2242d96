import type Anthropic from '@anthropic-ai/sdk';
import { transformJSONSchema } from '@anthropic-ai/sdk/lib/transform-json-schema';
import { lastValueFrom } from 'rxjs';
import { message } from 'rxfleet/agents';
import { reply } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, start } from './harness.js';

/** The schema as the server was given it, which takes only what the API takes. */
async function sent(output: z.ZodType, text: string): Promise<{ schema: Record<string, unknown> | undefined; output: unknown }> {
  const { server, client } = await start([reply.text(text)]);
  const said = await lastValueFrom(message(client, ask, { output }));
  const body = server.requests[0]?.body as Anthropic.Messages.MessageCreateParams;
  return { schema: body.output_config?.format?.schema, output: said.output };
}

const cases: [string, z.ZodType, unknown][] = [
  [
    'bounds',
    z.object({ a: z.string().min(2).max(5), b: z.number().gt(1).multipleOf(2), c: z.array(z.boolean()).max(3) }),
    { a: 'xy', b: 4, c: [true] },
  ],
  [
    'formats',
    z.object({ a: z.iso.datetime(), b: z.url(), c: z.string().regex(/^x/), d: z.string().startsWith('y') }),
    { a: '2026-01-01T00:00:00Z', b: 'https://x.org', c: 'x', d: 'y' },
  ],
  ['optional and nullable', z.object({ a: z.string().optional(), b: z.number().nullable() }), { b: null }],
  ['alternatives', z.object({ a: z.union([z.string(), z.object({ b: z.number() })]) }), { a: { b: 1 } }],
  [
    'told apart by a key',
    z.object({ a: z.discriminatedUnion('t', [z.object({ t: z.literal('x') }), z.object({ t: z.literal('y'), n: z.number() })]) }),
    { a: { t: 'y', n: 1 } },
  ],
  [
    'fixed values',
    z.object({ a: z.literal(5), b: z.enum(['x', 'y']), c: z.literal(['p', 'q']), d: z.null() }),
    { a: 5, b: 'x', c: 'q', d: null },
  ],
  ['descriptions', z.object({ a: z.string().describe('What').min(1) }).describe('Whole'), { a: 'x' }],
  ['at least one', z.object({ a: z.array(z.string()).min(1), b: z.array(z.string()).min(2) }), { a: ['x'], b: ['x', 'y'] }],
  ['nested', z.object({ a: z.array(z.object({ b: z.object({ c: z.string() }) })) }), { a: [{ b: { c: 'x' } }] }],
];

describe('the schema that the API is given', () => {
  it.each(cases)('%s: is what the SDK makes of it, and the server takes it', async (_, output, value) => {
    const { schema, output: read } = await sent(output, JSON.stringify(value));
    expect(read).toEqual(value);
    const theirs = transformJSONSchema(z.toJSONSchema(output, { io: 'input' })) as object;
    expect(withoutWords(schema)).toEqual(withoutWords(theirs));
  });

  it('says in words what has no keyword', async () => {
    const output = z.object({ a: z.string().describe('What').min(2), b: z.int(), c: z.email(), d: z.string().regex(/^x/) });
    const { schema } = await sent(output, '{"a":"xx","b":1,"c":"a@b.org","d":"x"}');
    expect(schema?.['properties']).toEqual({
      a: { type: 'string', description: 'What\n\n{minLength: 2}' },
      b: { type: 'integer' },
      c: { type: 'string', format: 'email' },
      d: { type: 'string', description: '{pattern: "^x"}' },
    });
  });

  it('is of what goes in, where a transform makes something else of it', async () => {
    const { schema, output } = await sent(z.object({ n: z.string().transform(Number), d: z.stringbool().default(true) }), '{"n":"5"}');
    expect(schema?.['properties']).toMatchObject({ n: { type: 'string' }, d: { type: 'string' } });
    expect(schema?.['required']).toEqual(['n']);
    expect(output).toEqual({ n: 5, d: true });
  });

  it('closes objects, and those with keys of a fixed set are written out', async () => {
    const output = z.object({
      a: z.looseObject({ x: z.string() }),
      b: z.record(z.enum(['p', 'q']), z.number()),
      c: z.object({}).optional(),
    });
    const { schema } = await sent(output, '{"a":{"x":"1"},"b":{"p":1,"q":2}}');
    expect(schema?.['properties']).toEqual({
      a: { type: 'object', properties: { x: { type: 'string' } }, required: ['x'], additionalProperties: false },
      b: {
        type: 'object',
        properties: { p: { type: 'number' }, q: { type: 'number' } },
        required: ['p', 'q'],
        additionalProperties: false,
      },
      c: { type: 'object', properties: {}, additionalProperties: false },
    });
  });

  it('an intersection of objects is one object, for closed ones have nothing in common', async () => {
    const output = z.intersection(z.object({ a: z.string() }), z.object({ b: z.number().optional() }));
    const { schema, output: read } = await sent(output, '{"a":"x","b":1}');
    expect(schema).toEqual({
      type: 'object',
      properties: { a: { type: 'string' }, b: { type: 'number' } },
      required: ['a'],
      additionalProperties: false,
    });
    expect(read).toEqual({ a: 'x', b: 1 });
  });

  it('a tuple is an array of what may stand in it', async () => {
    const { schema } = await sent(z.object({ a: z.tuple([z.string(), z.number()]) }), '{"a":["x",1]}');
    expect(schema?.['properties']).toMatchObject({ a: { type: 'array', items: { anyOf: [{ type: 'string' }, { type: 'number' }] } } });
  });

  it('a schema that contains itself refers to itself', async () => {
    const tree = z.object({
      name: z.string(),
      get below() {
        return z.array(tree);
      },
    });
    const { schema } = await sent(tree, '{"name":"a","below":[{"name":"b","below":[]}]}');
    expect(schema).toMatchObject({ properties: { below: { type: 'array', items: { $ref: '#' } } }, additionalProperties: false });
  });
});

describe('the server refuses what the API refuses', () => {
  it.each<[unknown, RegExp]>([
    [{ type: 'text' }, /output_config\.format\.type: Input should be 'json_schema'/],
    [{ type: 'json_schema' }, /output_config\.format\.schema: Field required/],
    [{ type: 'json_schema', schema: { type: 'object', properties: {} } }, /'additionalProperties' must be explicitly set to false/],
    [
      { type: 'json_schema', schema: { type: 'array', items: { type: 'object' } } },
      /'additionalProperties' must be explicitly set to false/,
    ],
    [{ type: 'json_schema', schema: { type: 'integer', minimum: 1 } }, /For 'integer' type, properties minimum are not supported/],
    [{ type: 'json_schema', schema: { type: 'array', minItems: 2 } }, /'minItems' values other than 0 or 1/],
    [{ type: 'json_schema', schema: {} }, /type is required/],
    [{ type: 'json_schema', schema: { oneOf: [{ type: 'string' }], type: 'string' } }, /'oneOf' is not supported/],
  ])('%j', async (format, words) => {
    const { client } = await start([reply.text('x')]);
    const run = message(client, { ...ask, output_config: { format: format as never } });
    await expect(lastValueFrom(run)).rejects.toThrow(words);
  });
});

function withoutWords(schema: unknown): unknown {
  return JSON.parse(
    JSON.stringify(schema, (key, value: unknown) => (key === 'description' && typeof value === 'string' ? undefined : value)),
  );
}
