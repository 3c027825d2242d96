import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { columnsOf, fit, harmless, harmlessJson, wrap } from '../../src/node/terminalText.js';

describe('harmless', () => {
  it.each([
    ['plain', 'plain'],
    [' a\n\tb\r\n c ', 'a b c'],
    ['\u001b[31mred\u001b[0m', '\\x1b[31mred\\x1b[0m'],
    ['\u001b]0;title\u0007', '\\x1b]0;title\\x07'],
    ['\u009b2J', '\\x9b2J'],
    ['a\bb\u007f\0', 'a\\x08b\\x7f\\x00'],
    ['user\u202egpj.exe', 'user\\u{202e}gpj.exe'],
    ['a\u200bb\ufeffc', 'a\\u{200b}b c'],
    ['\ud800x', '\ufffdx'],
    ['漢字 ü 👩‍💻', '漢字 ü 👩‍💻'],
    ['a\u2028b', 'a b'],
  ])('%j', (text, expected) => expect(harmless(text)).toBe(expected));

  it('whatever the text, no control or format character is left', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(harmless(text)).not.toMatch(/(?!\u200d)[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
});

describe('harmlessJson', () => {
  it('means the same and shows every character', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
        const text = harmlessJson(value);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
        expect(text).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      }),
    );
    expect(harmlessJson('\u001b[0m\u009b\u202e\u{e0001}')).toBe('"\\u001b[0m\\u009b\\u202e\\udb40\\udc01"');
  });
});

describe('columns', () => {
  it.each([
    ['abc', 3],
    ['', 0],
    ['ü', 1],
    ['u\u0308', 1],
    ['漢字', 4],
    ['ﾊﾝ', 2],
    ['한글', 4],
    ['😀', 2],
    ['👩‍💻', 2],
    ['❤️', 2],
    ['…', 1],
    ['\u0301', 0],
  ])('%j takes %i', (text, columns) => expect(columnsOf(text)).toBe(columns));

  it('fit fills up and cuts off', () => {
    expect(fit('abc', 5)).toBe('abc  ');
    expect(fit('abcdef', 5)).toBe('abcd…');
    expect(fit('漢字漢字', 6)).toBe('漢字… ');
  });

  it('wrap breaks between words, and words that are too long', () => {
    expect(wrap('one two three', 7)).toEqual(['one two', 'three']);
    expect(wrap('abcdefghij kl', 4)).toEqual(['abcd', 'efgh', 'ij', 'kl']);
    expect(wrap('', 4)).toEqual(['']);
    expect(wrap('漢字漢字', 5)).toEqual(['漢字', '漢字']);
  });

  it('whatever the text, lines fit and nothing is lost', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), fc.integer({ min: 2, max: 40 }), (text, columns) => {
        const words = harmless(text);
        const lines = wrap(words, columns);
        for (const line of lines) expect(columnsOf(line)).toBeLessThanOrEqual(columns);
        expect(lines.join('').replace(/ /g, '')).toBe(words.replace(/ /g, ''));
        if (columns >= 4) expect(columnsOf(fit(words, columns))).toBe(columns);
      }),
    );
  });
});
