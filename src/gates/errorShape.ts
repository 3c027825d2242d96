/** How far down a chain of causes anybody looks. */
const MAX_CAUSES = 8;

/** A property of anything at all. A getter or a proxy that throws has none. */
export function read(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  try {
    return (value as Readonly<Record<string, unknown>>)[key];
  } catch {
    return undefined;
  }
}

/** The error and its causes, outermost first. */
export function causesOf(error: unknown): readonly object[] {
  const chain: object[] = [];
  for (let each = error; typeof each === 'object' && each !== null; each = read(each, 'cause')) {
    if (chain.length === MAX_CAUSES || chain.includes(each)) break;
    chain.push(each);
  }
  return chain;
}

/** The HTTP status of an error, wherever the client in use has put it. */
export function statusOf(error: unknown): number | undefined {
  const response = read(error, 'response');
  for (const each of [read(error, 'status'), read(error, 'statusCode'), read(response, 'status'), read(response, 'statusCode')]) {
    if (typeof each === 'number') return each;
  }
  return undefined;
}

/** A header of the response that an error tells of; `name` in lower case. */
export function headerOf(error: unknown, name: string): string | undefined {
  return header(read(error, 'headers'), name) ?? header(read(read(error, 'response'), 'headers'), name);
}

function header(headers: unknown, name: string): string | undefined {
  try {
    const found = typeof read(headers, 'get') === 'function' ? (headers as Headers).get(name) : inRecord(headers, name);
    const value: unknown = Array.isArray(found) ? found[0] : found;
    return typeof value === 'string' || typeof value === 'number' ? String(value).trim() : undefined;
  } catch {
    return undefined;
  }
}

/** Plain records keep the case in which somebody wrote the name. */
function inRecord(headers: unknown, name: string): unknown {
  if (typeof headers !== 'object' || headers === null) return undefined;
  const key = Object.keys(headers).find((each) => each.toLowerCase() === name);
  return key === undefined ? undefined : read(headers, key);
}
