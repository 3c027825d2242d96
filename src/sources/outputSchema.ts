import { z } from 'zod';

type Schema = Readonly<Record<string, unknown>>;

/** As the SDK has them: formats that a reply can be held to. */
const FORMATS: readonly unknown[] = ['date-time', 'time', 'date', 'duration', 'email', 'hostname', 'uri', 'ipv4', 'ipv6', 'uuid'];

/**
 * The JSON schema of what goes into a zod schema, as the API takes it for a reply: objects are closed, few keywords are left, and what the others
 * say is told to the model in the descriptions. Throws an Error in words for a schema of which too little would be left.
 */
export function outputSchema(schema: z.ZodType): Schema {
  const { $schema: _, ...root } = z.toJSONSchema(schema, { io: 'input', reused: 'inline' });
  return close(root, '');
}

function close(schema: unknown, at: string): Schema {
  const { $defs, $ref, ...own } = schema as Schema;
  const defs = $defs === undefined ? {} : { $defs: each($defs, (def) => close(def, at)) };
  if ($ref !== undefined) return { ...defs, $ref };
  const { description, title, ...rest } = own;
  const { kept, told } = split(rest, at);
  const more = Object.entries(told).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  const words = [description, more.length > 0 && `{${more.join(', ')}}`].filter(Boolean).join('\n\n');
  return { ...defs, ...kept, ...(title !== undefined && { title }), ...(words !== '' && { description: words }) };
}

interface Split {
  readonly kept: Schema;
  /** What the API takes no keyword for. */
  readonly told: Schema;
}

function split(schema: Schema, at: string): Split {
  const { anyOf, oneOf, allOf, ...rest } = schema;
  const either = anyOf ?? oneOf;
  if (Array.isArray(either)) return { kept: { anyOf: either.map((one) => close(one, at)) }, told: rest };
  if (Array.isArray(allOf)) return { kept: together(allOf.map((one) => close(one, at))), told: rest };
  if ('enum' in rest || 'const' in rest) return splitValues(rest);
  if (rest['type'] === 'object') return splitObject(rest, at);
  if (rest['type'] === 'array') return splitArray(rest, at);
  if (rest['type'] === 'string') return splitString(rest);
  if (rest['type'] === undefined) throw new Error(`${place(at)} may be anything, and the API wants a type`);
  const { type, ...bounds } = rest;
  return { kept: { type }, told: Object.fromEntries(Object.entries(bounds).filter(([, bound]) => !isWidest(bound))) };
}

function splitValues({ type: _, ...rest }: Schema): Split {
  const { enum: values, const: value, ...told } = rest;
  return { kept: 'const' in rest ? { const: value } : { enum: values }, told };
}

function splitObject(schema: Schema, at: string): Split {
  const { type, properties = {}, required, additionalProperties: others, propertyNames, ...told } = schema;
  const names = (propertyNames as Schema | undefined)?.['enum'] as readonly string[] | undefined;
  const open = others !== undefined && others !== false;
  const listed = names === undefined ? properties : Object.fromEntries(names.map((name) => [name, others]));
  if (open && Object.keys(listed as Schema).length === 0)
    throw new Error(`${place(at)} has keys of any name, and the API wants them named`);
  const kept = each(listed, (property, key) => close(property, at === '' ? key : `${at}.${key}`));
  return { kept: { type, properties: kept, additionalProperties: false, ...(required !== undefined && { required }) }, told };
}

/** Places of their own are told, and what may stand in any of them is kept. */
function splitArray({ type, items, prefixItems, minItems, ...rest }: Schema, at: string): Split {
  const places = (prefixItems ?? []) as readonly unknown[];
  const all = items === undefined || items === false ? places : [...places, items];
  const closed = all.map((one) => close(one, `${at}[]`));
  const some = closed.length === 0 ? {} : { items: closed.length === 1 ? closed[0] : { anyOf: closed } };
  const few = minItems === 0 || minItems === 1;
  const told = { ...(prefixItems !== undefined && { prefixItems }), ...(!few && minItems !== undefined && { minItems }), ...rest };
  return { kept: { type, ...some, ...(few && { minItems }) }, told };
}

function splitString({ type, format, pattern, ...rest }: Schema): Split {
  if (FORMATS.includes(format)) return { kept: { type, format }, told: rest };
  return { kept: { type }, told: { ...(format !== undefined && { format }), ...(pattern !== undefined && { pattern }), ...rest } };
}

/** Closed objects have nothing in common but the object that has all their keys. */
function together(parts: readonly Schema[]): Schema {
  if (!parts.every(({ type }) => type === 'object')) return { allOf: parts };
  const properties = Object.assign({}, ...parts.map((part) => part['properties'])) as Schema;
  const required = [...new Set(parts.flatMap((part) => (part['required'] as string[] | undefined) ?? []))];
  return { type: 'object', properties, additionalProperties: false, ...(required.length > 0 && { required }) };
}

function each(schemas: unknown, change: (schema: unknown, key: string) => Schema): Schema {
  return Object.fromEntries(Object.entries(schemas as Schema).map(([key, schema]) => [key, change(schema, key)]));
}

/** The bounds that every integer has. */
function isWidest(bound: unknown): boolean {
  return bound === Number.MAX_SAFE_INTEGER || bound === Number.MIN_SAFE_INTEGER;
}

function place(at: string): string {
  return at === '' ? 'it' : `"${at}"`;
}
