/** What is nested deeper could not be written out again. */
export const MOST_NESTED = 200;

/** Parts that hold each other twice double with each level. */
const MOST_VALUES = 1_000_000;

/** JSON of any value: what JSON cannot say, and what would be too long, is said in words. Never throws. */
export function toJson(value: unknown): string {
  if (typeof value !== 'object' && typeof value !== 'string') return inWords(value as bigint | symbol | undefined);
  try {
    return JSON.stringify(value, replacer()) ?? 'undefined';
  } catch {
    return flat(value);
  }
}

function inWords(value: bigint | symbol | undefined): string {
  return String(value);
}

/** A `toJSON` or a getter threw, or it is nested too deep or has too many values: the first level, without its methods. */
function flat(value: unknown): string {
  try {
    const entries = Object.entries(value as object).filter(([, each]) => typeof each !== 'object' && typeof each !== 'function');
    return JSON.stringify(Object.fromEntries(entries), (_key, each: unknown) => (typeof each === 'bigint' ? String(each) : each));
  } catch {
    return '[a value that cannot be written as JSON]';
  }
}

/** `this` is the object that holds the value: those that are open now are the value's ancestors. */
function replacer(): (this: unknown, key: string, value: unknown) => unknown {
  const sources: unknown[] = [];
  const written: unknown[] = [];
  let values = 0;
  return function replace(this: unknown, key: string, value: unknown): unknown {
    if (++values > MOST_VALUES) throw new RangeError('too many values');
    const source = (this as Record<string, unknown>)[key];
    if (typeof source === 'bigint') return source.toString();
    if (typeof value !== 'object' || value === null || typeof source !== 'object') return value;
    while (written.length > 0 && written.at(-1) !== this) {
      written.pop();
      sources.pop();
    }
    if (sources.includes(source)) return '[circular]';
    const said = structured(source as object, value);
    sources.push(source);
    written.push(said);
    return said;
  };
}

function structured(source: object, value: object): unknown {
  if (source instanceof Map) return Object.fromEntries([...source].map(([key, each]) => [String(key), each as unknown]));
  if (source instanceof Set) return [...source];
  if (source instanceof Error) return Object.assign({ name: source.name, message: source.message }, source);
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) return `[${source.byteLength} bytes]`;
  return value;
}
