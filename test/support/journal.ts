import type { Observable, Subscription } from 'rxjs';
import { brief } from './brief.js';

/** What happened, in order, each with its time: `5 error boom`. */
export interface Journal {
  readonly lines: string[];
  note(what: string): void;
  /** Subscribes and notes every notification. */
  watch(source: Observable<unknown>, name?: string): Subscription;
}

export function journal(now: () => number): Journal {
  const lines: string[] = [];
  const note = (what: string): void => void lines.push(`${now()} ${what}`);
  const watch = (source: Observable<unknown>, name = ''): Subscription => {
    const prefix = name === '' ? '' : `${name} `;
    return source.subscribe({
      next: (value) => note(`${prefix}next ${show(value)}`),
      error: (error: unknown) => note(`${prefix}error ${brief(error)}`),
      complete: () => note(`${prefix}complete`),
    });
  };
  return { lines, note, watch };
}

function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(',')}]`;
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}
