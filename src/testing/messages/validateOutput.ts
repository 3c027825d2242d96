import { checkFields, isRecord } from './shape.js';
import type { Fields, Problems } from './shape.js';

/** What a schema of this type may say besides `description`, `title`, `default` and the like. */
const UNSUPPORTED: Readonly<Record<string, readonly string[]>> = {
  object: ['minProperties', 'maxProperties', 'patternProperties', 'propertyNames'],
  array: ['maxItems', 'uniqueItems', 'prefixItems', 'contains'],
  string: ['minLength', 'maxLength'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
};
const TYPES: readonly unknown[] = [...Object.keys(UNSUPPORTED), 'boolean', 'null'];
const INSTEAD = ['$ref', 'anyOf', 'allOf', 'enum', 'const'];

/** The form that a reply is to have, as far as the API takes it. */
export function* checkOutput(config: unknown): Problems {
  const format = isRecord(config) ? config['format'] : undefined;
  if (format === undefined || format === null) return;
  if (!isRecord(format)) return yield 'output_config.format: Input should be a valid dictionary';
  if (format['type'] !== 'json_schema') return yield "output_config.format.type: Input should be 'json_schema'";
  yield* checkFields(format, { type: 'string', schema: 'object' }, 'output_config.format');
  yield* checkSchema(format['schema']);
}

function* checkSchema(schema: unknown): Problems {
  const where = 'output_config.format.schema';
  if (!isRecord(schema)) return yield `${where}: Input should be a valid dictionary`;
  const { type } = schema;
  if (type === undefined && !INSTEAD.some((key) => key in schema)) yield `${where}: Schema type is required`;
  const types: readonly unknown[] = type === undefined ? [] : Array.isArray(type) ? type : [type];
  for (const each of types) if (!TYPES.includes(each)) yield `${where}: Schema type '${String(each)}' is not supported`;
  for (const key of ['oneOf', 'not', 'if']) if (key in schema) yield `${where}: Schema keyword '${key}' is not supported`;
  if (type === 'object' && schema['additionalProperties'] !== false)
    yield `${where}: For 'object' type, 'additionalProperties' must be explicitly set to false`;
  if (type === 'array' && Number(schema['minItems'] ?? 0) > 1)
    yield `${where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported`;
  const found = (UNSUPPORTED[String(type)] ?? []).filter((key) => key in schema);
  if (found.length > 0) yield `${where}: For '${String(type)}' type, properties ${found.join(', ')} are not supported`;
  for (const child of childrenOf(schema)) yield* checkSchema(child);
}

function childrenOf({ $defs, properties, items, anyOf, allOf }: Fields): readonly unknown[] {
  const named = [$defs, properties].flatMap((each) => (isRecord(each) ? Object.values(each) : []));
  const listed = [anyOf, allOf].flatMap((each): readonly unknown[] => (Array.isArray(each) ? each : []));
  return [...named, ...listed, ...(items === undefined ? [] : [items])];
}
