import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSseEventTooLargeError } from '../../src/sources/sseErrors.js';
import { SseParser, type ServerSentEvent } from '../../src/sources/sseParser.js';

const encoder = new TextEncoder();
const bytes = (text: string): Uint8Array => encoder.encode(text);

/** Everything that comes out of a document in these chunks. */
function parse(chunks: readonly Uint8Array[], parser = new SseParser()): ServerSentEvent[] {
  const events: ServerSentEvent[] = [];
  for (const chunk of chunks) {
    parser.push(chunk);
    for (let event = parser.next(); event !== undefined; event = parser.next()) events.push(event);
  }
  return events;
}

const of = (text: string): ServerSentEvent[] => parse([bytes(text)]);
const data = (text: string): string[] => of(text).map((event) => event.data);
const each = (document: Uint8Array): Uint8Array[] => Array.from(document, (_, i) => document.subarray(i, i + 1));

/** The same format written the other way round: the whole document at once, cut by a pattern. */
function model(document: Uint8Array): ServerSentEvent[] {
  const text = new TextDecoder().decode(document);
  const lines = text.split(/\r\n|\n|\r/).slice(0, -1);
  const events: ServerSentEvent[] = [];
  let id = '';
  let block: string[] = [];
  for (const line of lines) {
    if (line !== '') {
      block.push(line);
      continue;
    }
    const fields = block.filter((each) => !each.startsWith(':')).map((each) => /^([^:]*)(?::? ?)([^]*)$/.exec(each)!);
    const valuesOf = (name: string): string[] => fields.filter((field) => field[1] === name).map((field) => field[2]!);
    id = valuesOf('id').findLast((value) => !value.includes('\0')) ?? id;
    const retry = valuesOf('retry').findLast((value) => /^\d+$/.test(value));
    const lines = valuesOf('data');
    if (lines.length > 0) {
      const event = valuesOf('event').at(-1) || 'message';
      events.push({ event, data: lines.join('\n'), id, ...(retry !== undefined && { retry: Number(retry) }) });
    }
    block = [];
  }
  return events;
}

describe('SseParser', () => {
  describe('fields', () => {
    it('an event has a name, data and the last id', () => {
      expect(of('event: add\nid: 7\ndata: x\n\n')).toEqual([{ event: 'add', data: 'x', id: '7' }]);
    });

    it('an event without a name, or with an empty one, is a message; a name is for one event only', () => {
      expect(of('data: a\n\nevent:\ndata: b\n\nevent: c\ndata: c\n\ndata: d\n\n').map(({ event }) => event)).toEqual([
        'message',
        'message',
        'c',
        'message',
      ]);
    });

    it('lines of data are joined by LF, empty ones too', () => {
      expect(data('data: YHOO\ndata: +2\ndata: 10\n\n')).toEqual(['YHOO\n+2\n10']);
      expect(data('data\n\ndata\ndata\n\ndata:\n\n')).toEqual(['', '\n', '']);
    });

    it('one space after the colon is dropped, and only one', () => {
      expect(data('data:test\n\ndata: test\n\ndata:  test\n\ndata:\ttest\n\n')).toEqual(['test', 'test', ' test', '\ttest']);
    });

    it('a value may hold colons', () => expect(data('data:a:b: c\n\ndata: http://x:1/\n\n')).toEqual(['a:b: c', 'http://x:1/']));

    it('a comment, an unknown field and a field with a space or other letters are nothing', () => {
      expect(data(': ping\n\n:\n\nfoo: x\n\nDATA: x\n\n data: x\n\ndata : x\n\ndata: y\n:in between\n\n')).toEqual(['y']);
    });

    it('a block without data is no event, and its name does not stay', () => {
      expect(of('event: a\n\nid: 3\n\ndata: x\n\n')).toEqual([{ event: 'message', data: 'x', id: '3' }]);
    });

    it('an id stays until another comes; an empty one ends it', () => {
      expect(of('id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\ndata: d\n\n').map(({ id }) => id)).toEqual(['1', '1', '', '']);
    });

    it('an id with NUL is ignored', () => {
      expect(of('id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n').map(({ id }) => id)).toEqual(['1', '1']);
    });

    it('retry is digits and nothing else, and counts from the moment it is read', () => {
      const parser = new SseParser();
      const events = parse(
        [bytes('retry: 20\ndata: a\n\nretry: 1e3\nretry: -1\nretry:\nretry: 5 \ndata: b\n\nretry: 30\n\nretry: 40')],
        parser,
      );
      expect(events).toEqual([
        { event: 'message', data: 'a', id: '', retry: 20 },
        { event: 'message', data: 'b', id: '' },
      ]);
      expect(parser.retry).toBe(30);
      expect(of(`retry: ${'9'.repeat(400)}\ndata: a\n\n`)[0]?.retry).toBe(Number.MAX_SAFE_INTEGER);
    });

    it('names that every object has are no fields', () => {
      expect(data('__proto__: x\nconstructor: y\ndata: ok\n\n')).toEqual(['ok']);
    });
  });

  describe('lines', () => {
    it.each([
      ['LF', '\n'],
      ['CR', '\r'],
      ['CRLF', '\r\n'],
    ])('end with %s', (_, end) => expect(data(['data: a', 'data: b', '', 'data: c', '', ''].join(end))).toEqual(['a\nb', 'c']));

    it('end with each of them in one document', () => {
      expect(data('data: a\rdata: b\ndata: c\r\n\rdata: d\n\r\ndata: e\r\r\n')).toEqual(['a\nb\nc', 'd', 'e']);
    });

    it('a CRLF that is cut in the middle is one end', () => {
      expect(parse([bytes('data: a\r'), bytes('\ndata: b\r'), bytes('\n\r'), bytes('\n')]).map((event) => event.data)).toEqual(['a\nb']);
    });

    it('a CR ends the line at once, without waiting for what follows', () => {
      expect(parse([bytes('data: a\r\r')]).map((event) => event.data)).toEqual(['a']);
    });

    it('after CR and an empty chunk, LF still belongs to it', () => {
      const empty = new Uint8Array(0);
      expect(parse([bytes('data: a\r'), empty, bytes('\n'), empty, bytes('data: b\r\n\r\n')]).map((event) => event.data)).toEqual(['a\nb']);
    });

    it('other line breaks of Unicode are text', () => expect(data('data: a\u2028b\u0085c\vd\fe\n\n')).toEqual(['a\u2028b\u0085c\vd\fe']));
  });

  describe('text', () => {
    it('is UTF-8, wherever it is cut', () => {
      const text = 'äß€😀𐍈';
      const document = bytes(`event: ${text}\nid: ${text}\ndata: ${text}\n\n`);
      expect(parse(each(document))).toEqual([{ event: text, data: text, id: text }]);
      for (let at = 0; at <= document.length; at++) {
        expect(parse([document.subarray(0, at), document.subarray(at)])).toEqual([{ event: text, data: text, id: text }]);
      }
    });

    it('what is no UTF-8 becomes U+FFFD, also before a line end', () => {
      const broken = Uint8Array.from([...bytes('data: '), 0xff, 0x61, 0xe2, 0x82, ...bytes('\n\n')]);
      expect(parse([broken]).map((event) => event.data)).toEqual(['\ufffda\ufffd']);
      expect(parse(each(broken)).map((event) => event.data)).toEqual(['\ufffda\ufffd']);
    });

    it('a BOM is dropped at the start, once, and only there', () => {
      expect(data('\ufeffdata: a\n\n')).toEqual(['a']);
      expect(parse(each(bytes('\ufeffdata: a\n\n'))).map((event) => event.data)).toEqual(['a']);
      expect(data('\ufeff\ufeffdata: a\n\n')).toEqual([]);
      expect(data('data: a\n\n\ufeffdata: b\n\ndata: \ufeffc\n\n')).toEqual(['a', '\ufeffc']);
      expect(data('\n\ufeffdata: a\n\n')).toEqual([]);
    });
  });

  describe('the end', () => {
    it.each(['data: x', 'data: x\n', 'data: x\r', 'data: x\r\n'])('of a document in the middle of an event drops it: %j', (rest) => {
      expect(data(`data: a\n\n${rest}`)).toEqual(['a']);
    });

    it('the id of an event that was cut off is not taken', () => {
      const parser = new SseParser();
      parse([bytes('id: 1\ndata: a\n\nid: 2\ndata: b\n')], parser);
      expect(parser.lastEventId).toBe('1');
    });

    it('another connection starts afresh, but knows the last id and retry', () => {
      const parser = new SseParser();
      parse([bytes('retry: 9\nid: 1\ndata: a\n\nevent: x\nid: 2\ndata: b\r')], parser);
      parser.restart();
      expect(parse([bytes('\ufeff'), bytes('\ndata: c\n\nid: 3\ndata: d\n\n')], parser)).toEqual([
        { event: 'message', data: 'c', id: '1' },
        { event: 'message', data: 'd', id: '3' },
      ]);
      expect([parser.lastEventId, parser.retry, parser.events]).toEqual(['3', 9, 3]);
    });
  });

  describe('maxEventBytes', () => {
    const failure = (document: string, most: number, cut: (document: Uint8Array) => Uint8Array[]): [number, unknown] => {
      const parser = new SseParser(most);
      const seen: ServerSentEvent[] = [];
      try {
        for (const chunk of cut(bytes(document))) {
          parser.push(chunk);
          for (let event = parser.next(); event !== undefined; event = parser.next()) seen.push(event);
        }
      } catch (error) {
        return [seen.length, error];
      }
      return [seen.length, undefined];
    };
    const whole = (document: Uint8Array): Uint8Array[] => [document];

    it.each([
      ['a line that never ends', `data: ok\n\ndata: ${'x'.repeat(100)}`],
      ['a line that ends', `data: ok\n\ndata: ${'x'.repeat(100)}\n\n`],
      ['many lines of one event', `data: ok\n\n${'data: xxxxx\n'.repeat(20)}`],
      ['many lines without anything', `data: ok\n\n${'data\n'.repeat(60)}`],
      ['a comment', `data: ok\n\n: ${'x'.repeat(100)}\n\n`],
    ])('%s is too long, however it is cut, and events before it are seen', (_, document) => {
      for (const cut of [whole, each]) {
        const [seen, error] = failure(document, 50, cut);
        expect(seen).toBe(1);
        expect(isSseEventTooLargeError(error) && error).toMatchObject({ maxEventBytes: 50, events: 1, lastEventId: '' });
      }
    });

    it('any number of short events, comments and names are not', () => {
      expect(failure('data: 0123456789\n\n: ping\n'.repeat(1000), 16, each)).toEqual([1000, undefined]);
      expect(failure('event: abc\n'.repeat(1000), 16, each)).toEqual([0, undefined]);
    });

    it('counts bytes, not characters', () => {
      expect(failure('data: €€€\n\n', 14, whole)[1]).toBeDefined();
      expect(failure('data: €€€\n\n', 15, whole)).toEqual([1, undefined]);
    });

    it('holds no more than that of a line that comes byte by byte', () => {
      const parser = new SseParser(1000);
      const byte = bytes('x');
      let fed = 0;
      expect(() => {
        for (; fed < 5000; fed++) {
          parser.push(byte);
          parser.next();
        }
      }).toThrow(/longer than 1000 bytes/);
      expect(fed).toBe(1000);
    });
  });

  it('a megabyte in one line, byte by byte or whole, takes no time to speak of', () => {
    const document = bytes(`data: ${'x'.repeat(1_000_000)}\n\n`);
    const started = performance.now();
    expect(parse(each(document))[0]?.data).toHaveLength(1_000_000);
    expect(parse([document])[0]?.data).toHaveLength(1_000_000);
    expect(performance.now() - started).toBeLessThan(3000);
  });

  it.each([['\n'], ['\r'], ['\r\n']])('100,000 short events in one chunk that end with %j take no time to speak of', (end) => {
    const document = bytes(`data: x${end}${end}`.repeat(100_000));
    const started = performance.now();
    expect(parse([document])).toHaveLength(100_000);
    expect(performance.now() - started).toBeLessThan(3000);
  });

  const piece = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom('data', 'event', 'id', 'retry', 'other', '', ':', ': ', ' ', '\0', '12', '\ufeff', '€', '😀', 'x'),
    },
    {
      weight: 6,
      arbitrary: fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n', 'data: a\n', 'id: 5\n', 'event: e\r', 'retry: 7\n'),
    },
    { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 5 }) },
  );
  const text = fc.array(piece, { maxLength: 40 }).map((pieces) => bytes(pieces.join('')));
  const raw = fc.uint8Array({ maxLength: 60 });
  const mixed = fc.array(fc.oneof(text, raw), { maxLength: 3 }).map((parts) => Uint8Array.from(parts.flatMap((part) => [...part])));

  /** Cuts a document at these places. */
  const cut = (document: Uint8Array, places: readonly number[]): Uint8Array[] => {
    const ends = [...places.map((place) => place % (document.length + 1)), document.length].sort((a, b) => a - b);
    return ends.map((end, i) => document.subarray(ends[i - 1] ?? 0, end));
  };

  it('any document in any chunks gives the events of the document', () => {
    fc.assert(
      fc.property(fc.oneof(text, mixed), fc.array(fc.nat(), { maxLength: 12 }), (document, places) => {
        const expected = model(document);
        expect(parse(cut(document, places))).toEqual(expected);
        expect(parse(each(document))).toEqual(expected);
      }),
      { numRuns: 3000 },
    );
  });

  it('any limit holds at the same place in any chunks', () => {
    const outcome = (chunks: readonly Uint8Array[], most: number): unknown => {
      const parser = new SseParser(most);
      const events: ServerSentEvent[] = [];
      try {
        for (const chunk of chunks) {
          parser.push(chunk);
          for (let event = parser.next(); event !== undefined; event = parser.next()) events.push(event);
        }
        return { events };
      } catch (error) {
        return { events, tooLarge: isSseEventTooLargeError(error) };
      }
    };
    fc.assert(
      fc.property(mixed, fc.array(fc.nat(), { maxLength: 12 }), fc.integer({ min: 1, max: 40 }), (document, places, most) => {
        const expected = outcome([document], most);
        expect(outcome(cut(document, places), most)).toEqual(expected);
        expect(outcome(each(document), most)).toEqual(expected);
      }),
      { numRuns: 2000 },
    );
  });
});
