import { wordsOfApiError } from '../gates/apiError.js';
import type { Problem } from './errors.js';
import { toJson } from './json.js';

const MOST_CAUSES = 4;

/** What a thrown value says, with its causes. Empty if it says nothing. */
export function saidBy(error: unknown): string {
  const words: string[] = [];
  let each = error;
  for (let step = 0; step < MOST_CAUSES && each !== undefined; step++) {
    const said = each instanceof Error ? (wordsOfApiError(each) ?? named(each)) : plainly(each);
    if (said !== '' && !words.includes(said)) words.push(said);
    if (each instanceof AggregateError && Array.isArray(each.errors)) words.push(...severally(each.errors));
    each = each instanceof Error ? each.cause : undefined;
  }
  return words.join(': ');
}

/** What each of several errors says, of the first few. */
function severally(errors: readonly unknown[]): string[] {
  const said = errors.slice(0, MOST_CAUSES).map((each) => (each instanceof Error ? (wordsOfApiError(each) ?? named(each)) : plainly(each)));
  const more = errors.length > MOST_CAUSES ? [`and ${errors.length - MOST_CAUSES} more`] : [];
  const all = [...said.filter((each) => each !== ''), ...more];
  return all.length === 0 ? [] : [all.join('; ')];
}

/** Name and message are whatever somebody put there. */
function named(error: Error): string {
  const [name, message] = [plainly(error.name), plainly(error.message)];
  const speaks = name === 'Error' || name.includes('Tool') || message.startsWith(name);
  return speaks && message !== '' ? message : [name, message].filter(Boolean).join(': ');
}

function plainly(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'string' ? value : toJson(value);
}

/** The part of a zod issue that is put into words. */
interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly errors?: unknown;
}

const MOST = 20;

/** The issues of a failed parse, each with its path as one writes it in code. */
export function problemsOf(issues: readonly Issue[]): readonly Problem[] {
  const told = issues.slice(0, MOST).map((issue) => ({ path: pathOf(issue.path), message: messageOf(issue) }));
  return issues.length > MOST ? [...told, { path: '', message: `and ${issues.length - MOST} more` }] : told;
}

/** A union fails with what each of its options has against the value. */
function messageOf({ message, errors }: Issue): string {
  if (!Array.isArray(errors) || errors.length === 0) return message;
  const options = (errors as readonly (readonly Issue[])[]).map((issues, n) => {
    const first = issues[0];
    return first === undefined ? '' : `(${n + 1}) ${[pathOf(first.path), messageOf(first)].filter(Boolean).join(': ')}`;
  });
  return `${message}, it fits none of the alternatives: ${options.filter(Boolean).join('; ')}`;
}

function pathOf(path: readonly PropertyKey[]): string {
  return path.reduce<string>((so, key) => {
    if (typeof key === 'number') return `${so}[${key}]`;
    return so === '' ? String(key) : `${so}.${String(key)}`;
  }, '');
}
