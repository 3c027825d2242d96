import { z } from 'zod';
import { refuse } from './checks.js';
import type { JsonKind } from './partialJson.js';

type Schema = Readonly<Record<string, unknown>>;

/** What a value may look like, as far as that can be said while it is written: its types, not its checks. One form for every alternative. */
export class Shape {
  constructor(private readonly forms: readonly Form[]) {}

  /** What remains of it for a value of this kind. */
  taking(kind: JsonKind): Shape | undefined {
    return this.only((form) => form.takes(kind));
  }

  /** Whether a string may be shown before it is whole: not one of a fixed set. */
  get grows(): boolean {
    return this.forms.some((form) => form.grows);
  }

  allows(value: unknown): boolean {
    return this.forms.some((form) => form.allows(value));
  }

  property(key: string): Shape | undefined {
    return union(this.forms.map((form) => form.property(key)));
  }

  item(index: number): Shape | undefined {
    return union(this.forms.map((form) => form.item(index)));
  }

  /** Whether the place in the array has a meaning of its own. */
  isPlace(index: number): boolean {
    return this.forms.some((form) => form.places > index);
  }

  /** Without the alternatives that have the key and cannot have what was found there; unless that is all of them. */
  having(key: string, fits: (child: Shape) => boolean): Shape {
    if (this.forms.length === 1) return this;
    const kept = this.only((form) => {
      const child = form.property(key);
      return child === undefined || fits(child);
    });
    return kept ?? this;
  }

  private only(holds: (form: Form) => boolean): Shape | undefined {
    const kept = this.forms.filter(holds);
    if (kept.length === this.forms.length) return this;
    return kept.length === 0 ? undefined : new Shape(kept);
  }

  /** The shapes as alternatives. */
  or(other: Shape): Shape {
    return new Shape([...this.forms, ...other.forms]);
  }
}

function union(shapes: readonly (Shape | undefined)[]): Shape | undefined {
  return shapes.reduce((all, shape) => (all === undefined || shape === undefined ? (all ?? shape) : all.or(shape)), undefined);
}

/** One alternative: schemas without alternatives and references, all of which hold. None of them: anything. */
class Form {
  readonly grows: boolean;
  /** How many places of an array have a schema of their own. */
  readonly places: number;
  private readonly properties = new Map<string, Shape | undefined>();
  private readonly items = new Map<number, Shape | undefined>();

  constructor(
    private readonly parts: readonly Schema[],
    private readonly root: Schema,
  ) {
    this.grows = parts.every((part) => valuesOf(part) === undefined);
    this.places = Math.max(0, ...parts.map(({ prefixItems }) => (Array.isArray(prefixItems) ? prefixItems.length : 0)));
  }

  takes(kind: JsonKind): boolean {
    return this.parts.every((part) => typesOf(part)?.some((type) => (type === 'integer' ? 'number' : type) === kind) ?? true);
  }

  allows(value: unknown): boolean {
    return this.parts.every((part) => {
      const whole = typeof value !== 'number' || part['type'] !== 'integer' || Number.isInteger(value);
      return whole && (valuesOf(part)?.includes(value) ?? true);
    });
  }

  property(key: string): Shape | undefined {
    if (!this.properties.has(key)) this.properties.set(key, key === '__proto__' ? undefined : this.child((part) => propertyOf(part, key)));
    return this.properties.get(key);
  }

  item(index: number): Shape | undefined {
    const place = Math.min(index, this.places);
    if (!this.items.has(place))
      this.items.set(
        place,
        this.child((part) => itemOf(part, place)),
      );
    return this.items.get(place);
  }

  /** What all parts together say of a child. What none of them knows is not shown. */
  private child(of: (part: Schema) => unknown): Shape | undefined {
    const known = this.parts.map(of).filter((schema) => schema !== undefined);
    return this.parts.length > 0 && known.length === 0 ? undefined : shapeOf({ allOf: known }, this.root);
  }
}

function typesOf({ type }: Schema): readonly unknown[] | undefined {
  return type === undefined || Array.isArray(type) ? type : [type];
}

function valuesOf(part: Schema): readonly unknown[] | undefined {
  return 'const' in part ? [part['const']] : (part['enum'] as readonly unknown[] | undefined);
}

function propertyOf({ properties, propertyNames, additionalProperties }: Schema, key: string): unknown {
  if (isSchema(properties) && Object.hasOwn(properties, key)) return properties[key];
  const names = isSchema(propertyNames) ? valuesOf(propertyNames) : undefined;
  return names?.includes(key) === false ? undefined : additionalProperties;
}

function itemOf({ prefixItems, items }: Schema, index: number): unknown {
  return Array.isArray(prefixItems) && index < prefixItems.length ? prefixItems[index] : items;
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null;
}

function shapeOf(schema: unknown, root: Schema): Shape | undefined {
  const forms = formsOf(schema, root, []).map((parts) => new Form(parts, root));
  return forms.length === 0 ? undefined : new Shape(forms);
}

const OWN = ['type', 'enum', 'const', 'properties', 'additionalProperties', 'items', 'prefixItems'];

/** The alternatives of a schema, each as the schemas that must hold. */
function formsOf(schema: unknown, root: Schema, refs: readonly unknown[]): readonly (readonly Schema[])[] {
  if (!isSchema(schema)) return schema === false ? [] : [[]];
  const { $ref, anyOf, oneOf, allOf, not } = schema;
  if (not !== undefined || refs.includes($ref)) return [];
  const within = $ref === undefined ? refs : [...refs, $ref];
  const all = [...((allOf as unknown[] | undefined) ?? []), ...($ref === undefined ? [] : [resolve($ref, root)])];
  const parts = all.map((each) => formsOf(each, root, within));
  for (const either of [anyOf, oneOf]) {
    if (Array.isArray(either)) parts.push(either.flatMap((each) => formsOf(each, root, within)));
  }
  if (OWN.some((key) => key in schema)) parts.push([[schema]]);
  return parts.reduce((sofar, next) => sofar.flatMap((left) => next.map((right) => [...left, ...right])), [[]]);
}

/** `#`, or `#/$defs/name`. */
function resolve(ref: unknown, root: Schema): unknown {
  const steps = String(ref).split('/').slice(1);
  const named = (step: string): string => step.replaceAll('~1', '/').replaceAll('~0', '~');
  return steps.reduce<unknown>((at, step) => (isSchema(at) ? at[named(step)] : undefined), root);
}

/** The shape of what goes into a schema. */
export function inputShape(who: string, schema: z.ZodType): Shape | undefined {
  if (typeof (schema as Partial<z.ZodType> | null | undefined)?.safeParse !== 'function')
    refuse(TypeError, who, 'schema', 'a zod schema', schema);
  const root = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', override: anyIfCoerced }) as Schema;
  return shapeOf(root, root);
}

/** What is coerced may come as anything. */
function anyIfCoerced({ zodSchema, jsonSchema }: { readonly zodSchema: z.core.$ZodTypes; readonly jsonSchema: object }): void {
  const { coerce } = zodSchema._zod.def as { readonly coerce?: boolean };
  if (coerce === true) for (const key of Object.keys(jsonSchema)) Reflect.deleteProperty(jsonSchema, key);
}
