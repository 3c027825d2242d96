import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** Colours text for standard output: not at all if that is no terminal, or if NO_COLOR is set. */
export const paint = (style: Style, text: string): string => styleText(style, text);

/** Package metadata and model text are other people's: what would move the cursor or change colours is taken out. */
export const clean = (text: string): string =>
  text
    .replace(/\p{Cc}+/gu, ' ')
    .replace(/\p{Cf}/gu, '')
    .trim();

/** Cut to a width, with an ellipsis. */
export const cut = (text: string, width: number): string => (text.length <= width ? text : width < 1 ? '' : `${text.slice(0, width - 1)}…`);

/** In lines of a width, broken between words where there are any; at most so many, the last of them cut. */
export function wrap(text: string, width: number, most: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width && lines.length < most - 1) {
    const at = rest.lastIndexOf(' ', width);
    const end = at > width / 2 ? at : width;
    lines.push(rest.slice(0, end).trimEnd());
    rest = rest.slice(end).trimStart();
  }
  return [...lines, cut(rest, width)];
}

/** Cut or padded to a width. A negative width aligns to the right. */
export const fit = (text: string, width: number): string =>
  width < 0 ? cut(text, -width).padStart(-width) : cut(text, width).padEnd(width);

export const count = (n: number): string => n.toLocaleString('en-US');

export const plural = (n: number, noun: string): string => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  const power = Math.min(3, Math.floor(Math.log10(n) / 3));
  const value = n / 1000 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${['B', 'kB', 'MB', 'GB'][power] ?? ''}`;
}

/** 34.1k */
export const compact = (n: number): string => (n < 1000 ? String(n) : n < 1e6 ? `${(n / 1e3).toFixed(1)}k` : `${(n / 1e6).toFixed(2)}M`);

/** Micro-dollars as dollars, for a screen on which they change. */
export const dollars = (microUsd: number): string => `$${(microUsd / 1e6).toFixed(microUsd < 1_000_000 ? 4 : 2)}`;

/** A bar that shows a share. */
export function meter(share: number, width: number): string {
  const full = Math.min(width, Math.round(share * width));
  return paint('green', '█'.repeat(full)) + paint('gray', '░'.repeat(width - full));
}

/** One line for any thrown value. */
export function words(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return clean(text.split('\n', 1)[0] ?? '');
}
