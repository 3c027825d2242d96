import { InvalidCallError, UnknownReferenceError } from './graphErrors.js';
import { Copier, isPlain, OutputParts } from './graphOutput.js';
import { MOST_NESTED, toJson } from './json.js';

/** `id.path.to[0]`, taken apart. */
export interface Reference {
  /** As it was written, with its sign. */
  readonly text: string;
  readonly id: string;
  readonly path: readonly string[];
}

/** Characters of one reference. What is longer is text. */
const MOST_REFERENCE = 1000;
/** Characters that references may write into one input: outputs that repeat each other grow fast. */
export const MOST_WRITTEN = 10_000_000;

const ID = String.raw`[A-Za-z0-9_-]+`;
const WRITTEN = String.raw`${ID}(?:\.${ID}|\[\d+\])*`;
const WHOLE = new RegExp(`^${WRITTEN}$`);
const INSIDE = new RegExp(`^${WRITTEN}\\}`);

/** What a text consists of: a reference alone, or text and references in turn. */
type Piece = string | Reference;

function taken(text: string, body: string): Reference {
  const [id = '', ...path] = body.split(/[.[\]]+/).filter(Boolean);
  return { text, id, path };
}

/** Takes a text apart. One piece that is a reference means the value itself. `$$` says `$` where `$` would begin a reference. */
export function piecesOf(text: string): readonly Piece[] {
  if (!text.includes('$')) return [text];
  if (text.startsWith('$') && text.length <= MOST_REFERENCE) {
    let from = 1;
    while (text[from] === '$') from++;
    if (WHOLE.test(text.slice(from))) return from === 1 ? [taken(text, text.slice(1))] : [text.slice(1)];
  }
  return template(text);
}

function template(text: string): readonly Piece[] {
  const pieces: Piece[] = [];
  let done = 0;
  for (let at = text.indexOf('${'); at >= 0; at = text.indexOf('${', at + 2)) {
    const found = INSIDE.exec(text.slice(at + 2, at + 2 + MOST_REFERENCE))?.[0];
    if (found === undefined) continue;
    let first = at;
    while (first > done && text[first - 1] === '$') first--;
    const end = at + 2 + found.length;
    const before = at - first;
    pieces.push(text.slice(done, first), '$'.repeat(Math.floor(before / 2)));
    pieces.push(before % 2 === 1 ? text.slice(at, end) : taken(text.slice(at, end), found.slice(0, -1)));
    done = end;
  }
  // A text in front keeps a reference in braces from being taken for a value.
  return done === 0 ? [text] : [...pieces, text.slice(done)];
}

/** Calls `each` for every text in an input and returns a copy with what that returned. Only arrays and plain objects are entered. */
function rewrite(value: unknown, each: (text: string) => unknown, done: Map<object, unknown>, depth: number): unknown {
  if (typeof value === 'string') return each(value);
  if (typeof value !== 'object' || value === null || !isPlain(value)) return value;
  if (depth > MOST_NESTED) throw new RangeError(`it is nested deeper than ${MOST_NESTED} levels`);
  if (done.has(value)) return done.get(value);
  const into = (inner: unknown): unknown => rewrite(inner, each, done, depth + 1);
  // fromEntries defines fields, and so does not take a field "__proto__" for the prototype.
  const copy = Array.isArray(value) ? value.map(into) : Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, into(inner)]));
  done.set(value, copy);
  return copy;
}

/** The references in an input, in the order in which they stand there, and whether a copy has to be made for the call. */
export function referencesIn(input: unknown): { readonly references: readonly Reference[]; readonly literal: boolean } {
  const references: Reference[] = [];
  let literal = true;
  const note = (text: string): void => {
    const pieces = piecesOf(text);
    literal &&= pieces.length === 1 && pieces[0] === text;
    for (const piece of pieces) if (typeof piece !== 'string') references.push(piece);
  };
  rewrite(input, note, new Map(), 0);
  return { references, literal };
}

/** A copy of an input with outputs in the place of references. */
export function substitute(call: string, input: unknown, outputOf: (id: string) => unknown): unknown {
  let written = 0;
  const parts = new OutputParts();
  const copier = new Copier();
  const read = ({ text, id, path }: Reference): unknown =>
    parts.read(outputOf(id), path, (known) => new UnknownReferenceError(call, text, 'part', known));
  const write = (piece: Piece): string => {
    const text = typeof piece === 'string' ? piece : textOf(read(piece));
    written += text.length;
    if (written > MOST_WRITTEN) throw new InvalidCallError(call, `what it refers to is longer than ${MOST_WRITTEN} characters`);
    return text;
  };
  const each = (text: string): unknown => {
    const pieces = piecesOf(text);
    const [only] = pieces;
    return pieces.length === 1 && typeof only === 'object' ? copier.copy(read(only)) : pieces.map(write).join('');
  };
  return rewrite(input, each, new Map(), 0);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : toJson(value);
}
