const graphemes = new Intl.Segmenter();

/** One line of text that moves no cursor, changes no colour and hides nothing. */
export function harmless(text: string): string {
  return text
    .replace(/\p{Cs}/gu, '\ufffd')
    .replace(/[\s\u0085]+/g, ' ')
    .replace(/(?!\u200d)[\p{Cc}\p{Cf}\p{Co}]/gu, escaped)
    .trim();
}

/** JSON whose every character is visible; it still means the same. */
export function harmlessJson(value: unknown): string {
  return JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029]|\p{Cf}/gu, (character) =>
    Array.from({ length: character.length }, (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''),
  );
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

const PLAIN = /^[\x20-\x7e]*$/;
const WIDE =
  /^(?:\p{Emoji_Presentation}|.\ufe0f|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}])/u;
const NONE = /^[\p{M}\u200d]+$/u;

/** Columns that a text takes in a terminal. */
export function columnsOf(text: string): number {
  if (PLAIN.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of graphemes.segment(text)) columns += columnsOfOne(segment);
  return columns;
}

function columnsOfOne(grapheme: string): number {
  if (NONE.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** Fills a text up with spaces, or cuts it off. */
export function fit(text: string, columns: number): string {
  const width = columnsOf(text);
  if (width <= columns) return text + ' '.repeat(columns - width);
  const [start] = splitAt(text, columns - 1);
  return fit(`${start}…`, columns);
}

/** Breaks a text into lines, between words where that is possible. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (columnsOf(longer) <= columns) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    line = word;
    while (columnsOf(line) > columns) {
      const [start, rest] = splitAt(line, columns);
      lines.push(start);
      line = rest;
    }
  }
  return [...lines, line];
}

/** At least one character goes to the start, however narrow it is. */
function splitAt(text: string, columns: number): [start: string, rest: string] {
  let width = 0;
  for (const { segment, index } of graphemes.segment(text)) {
    width += columnsOfOne(segment);
    if (width > columns && index > 0) return [text.slice(0, index), text.slice(index)];
  }
  return [text, ''];
}
