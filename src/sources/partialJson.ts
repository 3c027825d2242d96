import { MOST_NESTED } from './json.js';

export type JsonKind = 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null';

/** Is told what a text of JSON says while it comes. */
export interface JsonListener {
  /** The key of the next value. */
  key(key: string): void;
  /** A value begins. */
  begin(kind: JsonKind): void;
  /** What is there of the string that has begun. Never ends with half of a surrogate pair. */
  grow(soFar: string): void;
  /** The string, number, boolean or null that has begun is whole. */
  end(value: string | number | boolean | null): void;
  /** The object or array that has begun is whole. */
  close(): void;
}

type State = 'value' | 'first' | 'firstKey' | 'key' | 'colon' | 'next' | 'string' | 'number' | 'word' | 'whole' | 'broken';

const ESCAPED: Readonly<Record<string, string>> = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };
const WORDS = [
  ['true', 'boolean', true],
  ['false', 'boolean', false],
  ['null', 'null', null],
] as const;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const BLANK = ' \t\n\r';
const DIGITS = '-+.eE0123456789';

/**
 * Reads JSON that comes in pieces, cut anywhere, looking at every character once. Knows no time and no rxjs. At the first character that cannot be,
 * it stops; what was said before stays said.
 */
export class PartialJson {
  private state: State = 'value';
  private readonly open: ('object' | 'array')[] = [];
  /** What has come of a string, a number or a word. */
  private said = '';
  /** What has come of an escape sequence. */
  private escape = '';
  /** Half of a surrogate pair, until the other half is there. */
  private half = '';
  private inKey = false;
  private word: (typeof WORDS)[number] = WORDS[0];

  constructor(private readonly out: JsonListener) {}

  write(text: string): void {
    for (let at = 0; at < text.length && this.state !== 'broken';) at = this.step(text, at);
    if (this.state === 'string' && !this.inKey) this.out.grow(this.said);
  }

  /** There is no more. Returns whether it was one whole value. */
  finish(): boolean {
    if (this.state === 'number') this.endNumber();
    return this.state === 'whole';
  }

  /** Takes some of the text from `at` on. Returns where to go on. */
  private step(text: string, at: number): number {
    if (this.state === 'string') return this.escape === '' ? this.inString(text, at) : this.inEscape(text, at);
    if (this.state === 'number') return this.inNumber(text, at);
    const char = text.charAt(at);
    if (this.state === 'word') this.inWord(char);
    else if (!BLANK.includes(char)) this.mark(char);
    return at + 1;
  }

  /** A character between values, or the first of one. */
  private mark(char: string): void {
    const { state } = this;
    const inside = this.open.at(-1);
    if (state === 'value' || state === 'first') {
      if (state === 'first' && char === ']') this.close();
      else this.begin(char);
    } else if (state === 'firstKey' && char === '}') this.close();
    else if ((state === 'firstKey' || state === 'key') && char === '"') this.beginString(true);
    else if (state === 'colon' && char === ':') this.state = 'value';
    else if (state === 'next' && char === ',') this.state = inside === 'object' ? 'key' : 'value';
    else if (state === 'next' && char === (inside === 'object' ? '}' : ']')) this.close();
    else this.state = 'broken';
  }

  private begin(char: string): void {
    const word = WORDS.find(([letters]) => letters.startsWith(char));
    if (char === '{') this.nest('object', 'firstKey');
    else if (char === '[') this.nest('array', 'first');
    else if (char === '"') this.beginString(false);
    else if (char === '-' || (char >= '0' && char <= '9')) {
      this.state = 'number';
      this.said = char;
      this.out.begin('number');
    } else if (word !== undefined) {
      this.state = 'word';
      this.said = char;
      this.word = word;
      this.out.begin(word[1]);
    } else this.state = 'broken';
  }

  private nest(kind: 'object' | 'array', state: State): void {
    this.state = this.open.push(kind) > MOST_NESTED ? 'broken' : state;
    if (this.state === state) this.out.begin(kind);
  }

  private close(): void {
    this.open.pop();
    this.out.close();
    this.after();
  }

  /** A value has ended. */
  private after(): void {
    this.state = this.open.length === 0 ? 'whole' : 'next';
  }

  private beginString(inKey: boolean): void {
    this.state = 'string';
    this.said = '';
    this.inKey = inKey;
    if (!inKey) this.out.begin('string');
  }

  private inString(text: string, at: number): number {
    let end = at;
    while (end < text.length && isPlain(text.charCodeAt(end))) end++;
    if (end > at) this.append(text.slice(at, end));
    if (end === text.length) return end;
    const char = text.charAt(end);
    if (char === '"') this.endString();
    else if (char === '\\') this.escape = char;
    else this.state = 'broken';
    return end + 1;
  }

  /** `said` is never read here, only added to: so a long string costs what its pieces cost. */
  private append(piece: string): void {
    const whole = this.half + piece;
    const last = whole.charCodeAt(whole.length - 1);
    this.half = last >= 0xd800 && last <= 0xdbff ? whole.slice(-1) : '';
    this.said += this.half === '' ? whole : whole.slice(0, -1);
  }

  private inEscape(text: string, at: number): number {
    const char = text.charAt(at);
    const escape = (this.escape += char);
    if (escape.startsWith('\\u')) {
      if (escape.length > 2 && !/[0-9a-fA-F]/.test(char)) this.state = 'broken';
      else if (escape.length === 6) this.unescaped(String.fromCharCode(Number.parseInt(escape.slice(2), 16)));
    } else if (Object.hasOwn(ESCAPED, char)) this.unescaped(ESCAPED[char] as string);
    else this.state = 'broken';
    return at + 1;
  }

  private unescaped(char: string): void {
    this.escape = '';
    this.append(char);
  }

  private endString(): void {
    const text = this.said + this.half;
    this.half = '';
    if (this.inKey) {
      this.state = 'colon';
      this.out.key(text);
    } else {
      this.out.end(text);
      this.after();
    }
  }

  private inNumber(text: string, at: number): number {
    let end = at;
    while (end < text.length && DIGITS.includes(text.charAt(end))) end++;
    this.said += text.slice(at, end);
    if (end < text.length) this.endNumber();
    return end;
  }

  private endNumber(): void {
    if (!NUMBER.test(this.said)) return void (this.state = 'broken');
    this.out.end(Number(this.said));
    this.after();
  }

  private inWord(char: string): void {
    const [letters, , value] = this.word;
    this.said += char;
    if (this.said === letters) {
      this.out.end(value);
      this.after();
    } else if (!letters.startsWith(this.said)) this.state = 'broken';
  }
}

function isPlain(code: number): boolean {
  return code >= 0x20 && code !== 0x22 && code !== 0x5c;
}
