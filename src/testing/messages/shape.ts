/** Problems are found lazily, worst first: whoever asks takes the first and leaves the rest unlooked at. */
export type Problems = Generator<string, void, undefined>;

export type Fields = Readonly<Record<string, unknown>>;

/** What a field holds; a `?` at the end allows it to be absent or null. */
export type FieldKind = 'string' | 'integer' | 'boolean' | 'object' | 'array' | 'any';
export type Schema = Readonly<Record<string, FieldKind | `${FieldKind}?`>>;

export function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const KINDS: Readonly<Record<FieldKind, readonly [(value: unknown) => boolean, string]>> = {
  string: [(value) => typeof value === 'string', 'Input should be a valid string'],
  integer: [Number.isInteger, 'Input should be a valid integer'],
  boolean: [(value) => typeof value === 'boolean', 'Input should be a valid boolean'],
  object: [isRecord, 'Input should be a valid dictionary'],
  array: [Array.isArray, 'Input should be a valid list'],
  any: [() => true, ''],
};

/** Missing fields, fields of the wrong kind, fields nobody knows. */
export function* checkFields(fields: Fields, schema: Schema, path: string): Problems {
  for (const [name, spec] of Object.entries(schema)) {
    const optional = spec.endsWith('?');
    const [holds, complaint] = KINDS[(optional ? spec.slice(0, -1) : spec) as FieldKind];
    const value = fields[name];
    if (value === undefined && !optional) yield `${at(path, name)}: Field required`;
    if (value !== undefined && !(optional && value === null) && !holds(value)) yield `${at(path, name)}: ${complaint}`;
  }
  for (const name of Object.keys(fields)) {
    if (!Object.hasOwn(schema, name)) yield `${at(path, name)}: Extra inputs are not permitted`;
  }
}

export function at(path: string, name: string | number): string {
  return path === '' ? String(name) : `${path}.${name}`;
}
