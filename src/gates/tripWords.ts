import { wordsOf } from './apiError.js';
import { withoutSecrets } from '../core/redact.js';
import type { CallInfo } from '../core/types.js';
import type { GateEvent } from './events.js';
import { formatUsd } from './money.js';
import type { TripKind, TripRecord } from './tripRecord.js';

const LONGEST_NAME = 100;
const LONGEST_REASON = 300;
/** How many labels of a path are kept: the first, and as many of the last as fit. */
const MOST_LABELS = 20;

type Told = { readonly message: string } & Readonly<Record<string, string | number>>;
type Event<Type extends GateEvent['type']> = Extract<GateEvent, { readonly type: Type }>;

/** What the notes of our own gates mean. */
const NOTES: Readonly<Record<string, string>> = {
  missingUsage: 'No usage was told, so what was reserved is charged',
  overrun: 'Used beyond the limit',
  uncertain: 'Charged without being sure',
  'debt dropped': 'More was used than can be paid back, and forgotten',
  raised: 'The limit was raised by',
};

/** The record of `count` events of one sort, of which `event` is the last; `amount` is their sum. */
export function gateTrip(kind: TripKind, event: GateEvent, at: number, count: number, amount: number): TripRecord {
  const path = 'path' in event ? labels(event.path) : [];
  return { kind, at, gate: name(event.gate), path, ...told(kind, event, count, amount, place(path)) } as unknown as TripRecord;
}

/** The record of calls that did not end within their grace; `rest` counts those that are not told one by one. */
export function abandonedTrip(call: CallInfo, at: number, rest: number): TripRecord {
  const path = labels(call.path);
  const label = name(call.label);
  const one = `"${label}" did not end within its grace and was abandoned after ${time(call.ageMs)}`;
  const message =
    rest === 0 ? `${one}${place(path)}; it may still complete.` : `and ${calls(rest)} more in the same scope; they may still complete.`;
  return { kind: 'abandoned', at, path, message, label, ageMs: finite(call.ageMs), count: Math.max(1, rest) };
}

/** The record of something that the log itself could not read. */
export function unreadableTrip(gate: string, what: string, error: unknown, at: number): TripRecord {
  const message = `${what}: ${reason(error)}`;
  return { kind: 'note', at, gate: name(gate), path: [], message, note: 'unreadable', amount: 0, unit: 'events', count: 1 };
}

function told(kind: TripKind, event: GateEvent, count: number, amount: number, where: string): Told {
  switch (event.type) {
    case 'alert':
      return alert(event, where);
    case 'tripped':
      return tripped(event, where);
    case 'state':
      return { message: `Is ${state(event.to)} now; it was ${state(event.from)}.`, from: name(event.from), to: name(event.to) };
    case 'paused':
      return held(event, count);
    case 'resumed':
      return kind === 'state'
        ? resumed()
        : { message: `Lets calls through again${often(count)}.`, phase: 'over', ms: 0, waiting: 0, count };
    case 'retry':
      return noRetry(event, count, where);
    case 'refused':
    case 'revoked':
      return stopped(event, count, where);
    case 'note':
      return note(event, count, amount, where);
    case 'approval':
      return approval(event, where);
    default:
      return { message: `${name(event.type)}.` };
  }
}

function alert({ fraction, unit, used, limit }: Event<'alert'>, where: string): Told {
  const percent = Math.round(fraction * 1000) / 10;
  const message = `${percent} % of ${quantity(limit, unit)} is used: ${quantity(used, unit)}${where}.`;
  return { message, fraction: finite(fraction), unit: name(unit), used: finite(used), limit: finite(limit) };
}

function tripped({ cancelled, cause }: Event<'tripped'>, where: string): Told {
  return { message: `Tripped${where} and stopped ${calls(cancelled)} in flight: ${reason(cause)}`, cancelled: finite(cancelled) };
}

function resumed(): Told {
  return { message: 'Lets calls through again after it was tripped.', from: 'tripped', to: 'resumed' };
}

function held({ ms, waiting, cause }: Event<'paused'>, count: number): Told {
  const why = cause === undefined ? '.' : `: ${reason(cause)}`;
  const line = waiting === 0 ? '' : `, ${calls(waiting)} waiting`;
  const message = `Holds every call back for ${time(ms)}${line}${often(count)}${why}`;
  return { message, phase: 'held', ms: finite(ms), waiting: finite(waiting), count };
}

function noRetry({ error, delayMs }: Event<'retry'>, count: number, where: string): Told {
  const what = count === 1 ? 'Did not retry a call' : `Did not retry ${count} calls within a second, the last`;
  const message = `${what}${where}: too many retries already: ${reason(error)}`;
  return { message, phase: 'refused', ms: finite(delayMs), waiting: 0, count };
}

function stopped({ type, error }: Event<'refused' | 'revoked'>, count: number, where: string): Told {
  const did = type === 'refused' ? 'Refused' : 'Stopped';
  const what = count === 1 ? `${did} a call` : `${did} ${count} calls within a second, the last`;
  const { code } = error as { readonly code?: unknown };
  return { message: `${what}${where}: ${reason(error)}`, code: typeof code === 'string' ? name(code) : '', count };
}

function note(event: Event<'note'>, count: number, amount: number, where: string): Told {
  const what = name(event.note);
  const message = `${NOTES[what] ?? what}: ${quantity(amount, event.unit)}${count === 1 ? '' : ` in ${count} calls within a second, the last`}${where}.`;
  return { message, note: what, amount: finite(amount), unit: name(event.unit), count };
}

function approval(event: Event<'approval'>, where: string): Told {
  const id = name(event.id);
  const message = event.outcome === 'expired' ? `Nobody decided on "${id}" in time${where}.` : `Somebody has to decide on "${id}"${where}.`;
  return { message, id, outcome: event.outcome };
}

function often(count: number): string {
  return count === 1 ? '' : ` (${count} times within a second)`;
}

function calls(count: number): string {
  return count === 1 ? '1 call' : `${count} calls`;
}

function state(word: string): string {
  return word === 'halfOpen' ? 'half-open' : name(word);
}

function quantity(amount: number, unit: string): string {
  if (unit === 'microUsd' && Number.isSafeInteger(amount)) return formatUsd(amount);
  return `${amount} ${name(unit)}`;
}

function time(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)} ms`;
  return ms < 120_000 ? `${Math.round(ms / 100) / 10} s` : `${Math.round(ms / 6000) / 10} min`;
}

function place(path: readonly string[]): string {
  return path.length === 0 ? '' : ` at ${path.join(' > ')}`;
}

function labels(path: readonly string[]): string[] {
  const kept = path.length <= MOST_LABELS ? path : [path[0]!, '…', ...path.slice(2 - MOST_LABELS)];
  return kept.map(name);
}

function name(text: unknown): string {
  return withoutSecrets(String(text), LONGEST_NAME);
}

function reason(error: unknown): string {
  return withoutSecrets(wordsOf(error), LONGEST_REASON);
}

/** JSON knows no infinity. */
function finite(n: number): number {
  return Number.isFinite(n) ? n : n > 0 ? Number.MAX_SAFE_INTEGER : 0;
}
