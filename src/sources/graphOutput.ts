import { isBlocks } from './contentBlocks.js';

/** Fields of an output that an error names. */
const MOST_KEYS = 100;

/** Whether it is an array or an object without a class of its own. */
export function isPlain(value: object): boolean {
  const proto: unknown = Object.getPrototypeOf(value);
  return Array.isArray(value) || proto === Object.prototype || proto === null;
}

/**
 * Copies arrays and plain objects at any depth, so that no call changes what another one gets; all else stays as it is. What it is given twice it copies
 * once: outputs that hold each other twice do not double.
 */
export class Copier {
  private readonly copies = new Map<object, object>();

  copy(value: unknown): unknown {
    const open: { readonly from: object; readonly to: object }[] = [];
    const one = (inner: unknown): unknown => {
      if (typeof inner !== 'object' || inner === null || !isPlain(inner)) return inner;
      const known = this.copies.get(inner);
      if (known !== undefined) return known;
      const to = Array.isArray(inner) ? [] : {};
      this.copies.set(inner, to);
      open.push({ from: inner, to });
      return to;
    };
    const whole = one(value);
    // The list grows while it is gone through: nothing is nested too deep for it, and a circle is one.
    for (const { from, to } of open) fill(to, from, one);
    return whole;
  }
}

function fill(to: object, from: object, copy: (inner: unknown) => unknown): void {
  if (Array.isArray(to)) for (const each of from as readonly unknown[]) to.push(copy(each));
  else for (const [key, each] of Object.entries(from)) put(to as Record<string, unknown>, key, copy(each));
}

function put(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true });
  else object[key] = value;
}

/** Reads parts of outputs, each text that is JSON parsed once. */
export class OutputParts {
  private readonly parsed = new Map<string, unknown>();

  /** Own fields only: a path does not reach what every object has. Throws what `missing` makes of the fields that there are. */
  read(output: unknown, path: readonly string[], missing: (known: readonly string[]) => unknown): unknown {
    let value = output;
    for (const key of path) {
      const places = this.placesIn(value);
      const place = places.find((each) => Object.hasOwn(each, key));
      if (place === undefined) throw missing(keysOf(places));
      value = (place as Record<string, unknown>)[key];
    }
    return value;
  }

  /** What a path goes on in: the value itself, what a text says in JSON, and what the texts among content blocks say in JSON. */
  private placesIn(value: unknown): readonly object[] {
    if (typeof value === 'string') return this.jsonIn(value);
    if (typeof value !== 'object' || value === null) return [];
    if (!isBlocks(value)) return [value];
    return [value, ...value.flatMap((block) => (block.type === 'text' ? this.jsonIn(block.text) : []))];
  }

  private jsonIn(text: string): readonly object[] {
    if (!/^\s*[[{]/.test(text)) return [];
    if (!this.parsed.has(text)) this.parsed.set(text, parsed(text));
    const value = this.parsed.get(text);
    return typeof value === 'object' && value !== null ? [value] : [];
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function keysOf(places: readonly object[]): string[] {
  return [...new Set(places.flatMap((place) => Object.keys(place).slice(0, MOST_KEYS)))].slice(0, MOST_KEYS);
}
