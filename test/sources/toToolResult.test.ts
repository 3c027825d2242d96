import { concat, EMPTY, lastValueFrom, of, throwError, toArray, type Observable } from 'rxjs';
import { fromTool, tool, toToolResult, type ToolEvent } from 'rxfleet/agents';
import { expectNoOpenScopes } from 'rxfleet/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { virtual } from '../support/virtual.js';

afterEach(expectNoOpenScopes);

const who = { id: 'toolu_1', name: 't' };
const started: ToolEvent = { ...who, type: 'started', input: {}, attempt: 1, path: [] };
const blocksOf = (events: Observable<ToolEvent>, options = {}) => lastValueFrom(events.pipe(toToolResult(options), toArray()));

async function textOf(event: ToolEvent): Promise<unknown> {
  const [block, ...rest] = await blocksOf(of(event));
  expect(rest).toEqual([]);
  return block?.is_error === true ? `! ${block.content as string}` : block?.content;
}

const result = (output: unknown): ToolEvent => ({ ...who, type: 'result', output });

describe('toToolResult', () => {
  it('is one block per call, when its end is told', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const other = { id: 'toolu_2', name: 'u' };
      const events = cold<ToolEvent>('s-p-t-r-o-r-|', {
        s: started,
        p: { ...who, type: 'progress', value: 1 },
        t: { ...other, type: 'started', input: {}, attempt: 1, path: [] },
        r: result('done'),
        o: { ...other, type: 'result', output: 'too' },
      });
      const block = (id: string, content: string): object => ({ type: 'tool_result', tool_use_id: id, content });
      expectObservable(events.pipe(toToolResult()) as Observable<unknown>).toBe('------r-o---|', {
        r: block('toolu_1', 'done'),
        o: block('toolu_2', 'too'),
      });
      expectSubscriptions(events.subscriptions).toBe('^-----------!');
    }));

  it.each([
    ['text as it is', 'plain "text"', 'plain "text"'],
    ['empty text as it is', '', ''],
    ['undefined in words', undefined, 'The call completed without output.'],
    ['null', null, 'null'],
    ['a number', 1.5, '1.5'],
    ['an object as JSON', { a: [1, { b: null }] }, '{"a":[1,{"b":null}]}'],
    ['an empty list', [], '[]'],
    ['a bigint', { n: 10n ** 20n }, '{"n":"100000000000000000000"}'],
    ['a bare bigint', 5n, '5'],
    ['a Map and a Set', { m: new Map([['k', new Set([1])]]) }, '{"m":{"k":[1]}}'],
    ['an Error', { error: new TypeError('bad') }, '{"error":{"name":"TypeError","message":"bad"}}'],
    ['bytes', Buffer.from('abc'), '"[3 bytes]"'],
    ['a function', () => 1, '() => 1'],
    ['a symbol', Symbol('s'), 'Symbol(s)'],
    ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ])('writes %s', async (_, output, expected) => {
    expect(await textOf(result(output))).toBe(expected);
  });

  it('writes what JSON cannot', async () => {
    const circle: Record<string, unknown> = { name: 'loop', list: [{ deep: 1 }] };
    circle['self'] = circle;
    (circle['list'] as unknown[]).push(circle);
    expect(await textOf(result(circle))).toBe('{"name":"loop","list":[{"deep":1},"[circular]"],"self":"[circular]"}');
    const ring = new Map<string, unknown>();
    ring.set('me', ring);
    expect(await textOf(result(ring))).toBe('{"me":"[circular]"}');
    const twice = { x: 1 };
    expect(await textOf(result([twice, twice]))).toBe('[{"x":1},{"x":1}]');
    const angry = {
      a: 1,
      toJSON: () => {
        throw new Error('no');
      },
    };
    expect(await textOf(result(angry))).toBe('{"a":1}');
    const throwing = Object.defineProperty({}, 'x', {
      enumerable: true,
      get: () => {
        throw new Error('no');
      },
    });
    expect(await textOf(result(throwing))).toMatch(/cannot be written as JSON/);
    let deep: unknown = 0;
    for (let i = 0; i < 50_000; i++) deep = { deep };
    expect(typeof (await textOf(result(deep)))).toBe('string');
    expect(typeof (await textOf(result(Object.create(null))))).toBe('string');
  });

  it('passes valid content blocks on, and writes anything else as JSON', async () => {
    const source = { type: 'base64', media_type: 'image/png', data: 'AA==' };
    const blocks = [
      { type: 'text', text: 'a picture:' },
      { type: 'image', source },
    ];
    expect(await textOf(result(blocks))).toBe(blocks);
    for (const wrong of [
      [{ type: 'text', text: '' }],
      [{ type: 'text' }],
      [{ type: 'text', text: 'a', extra: 1 }],
      [{ type: 'image', source: {} }],
      [{ type: 'tool_use', id: 'x' }],
      [blocks[0], 'text'],
    ]) {
      expect(await textOf(result(wrong))).toBe(JSON.stringify(wrong));
    }
  });

  it('cuts what is too long, between characters, and says so', async () => {
    const [block] = await blocksOf(of(result('ab😀cd')), { maxChars: 3 });
    expect(block?.content).toBe('ab\n[cut off: these are the first 2 of 6 characters]');
    const [long] = await blocksOf(of(result('x'.repeat(300_000))));
    expect((long?.content as string).length).toBeLessThan(200_100);
  });

  const failed = (error: unknown, phase: 'input' | 'run' | 'output' | 'timeout' = 'run'): ToolEvent => ({
    ...who,
    type: 'failed',
    phase,
    error,
    effect: 'unknown',
  });

  it.each([
    ['an Error', new Error('disk full'), '! The tool "t" failed: disk full'],
    ['a named Error', new RangeError('too big'), '! The tool "t" failed: RangeError: too big'],
    [
      'an Error with a cause',
      new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') }),
      '! The tool "t" failed: TypeError: fetch failed: connect ECONNREFUSED',
    ],
    ['an Error without a message', new Error(''), '! The tool "t" failed: Error'],
    ['a string', 'boom', '! The tool "t" failed: boom'],
    ['an object', { code: 5 }, '! The tool "t" failed: {"code":5}'],
    ['undefined', undefined, '! The tool "t" failed without giving a reason.'],
    ['null', null, '! The tool "t" failed without giving a reason.'],
    ['an empty string', '', '! The tool "t" failed without giving a reason.'],
    ['0', 0, '! The tool "t" failed: 0'],
  ])('says what it failed with: %s', async (_, error, expected) => {
    expect(await textOf(failed(error))).toBe(expected);
  });

  it.each([
    [false, 'unknown', '! The tool "t" did not run: too much.'],
    [true, 'unknown', '! The tool "t" was stopped before it finished: too much. It may have completed, check before repeating it.'],
    [true, 'none', '! The tool "t" was stopped before it finished: too much. It changes nothing, so it can be called again.'],
  ] as const)('tells the truth about a call that was stopped (ran: %s, effect: %s)', async (ran, effect, expected) => {
    const reason = { kind: 'parent-cancelled', cause: { kind: 'explicit', reason: 'too much.' } } as const;
    expect(await textOf({ ...who, type: 'cancelled', ran, effect, reason })).toBe(expected);
  });

  it('does not write out what has too many parts', async () => {
    let output: unknown = 1;
    for (let i = 0; i < 60; i++) output = [output, output];
    expect(await textOf({ ...who, type: 'result', output: { output, note: 'large' } })).toBe('{"note":"large"}');
  });

  it('says what each of several errors says', async () => {
    const error = new AggregateError([new Error('no route'), new TypeError('bad'), 'odd'], 'All promises were rejected');
    const event: ToolEvent = { ...who, type: 'failed', phase: 'run', error, effect: 'none' };
    expect(await textOf(event)).toContain('All promises were rejected: no route; TypeError: bad; odd');
  });

  it('of an agent that a tool returned as it is, says what it said', async () => {
    const output = { type: 'done', text: 'the answer', history: [{ role: 'user', content: 'long' }], turns: 1 };
    expect(await textOf({ ...who, type: 'result', output })).toBe('the answer');
  });

  it('names the time of a deadline above', async () => {
    const event: ToolEvent = { ...who, type: 'cancelled', ran: true, effect: 'none', reason: { kind: 'deadline', ms: 500 } };
    expect(await textOf(event)).toContain('before it finished: the time of 500 ms for the task was up.');
  });

  it('says that a timed-out call may have completed', async () => {
    const slow = tool({ ...who, description: '', input: z.object({}), timeoutMs: 5, run: () => new Promise(() => {}), graceMs: 5 });
    const [block] = await blocksOf(fromTool(slow, { ...who, input: {} }));
    expect(block).toEqual({
      type: 'tool_result',
      tool_use_id: 'toolu_1',
      is_error: true,
      content: 'The tool "t" did not finish within 5 ms and did not stop when told to. It may have completed, check before repeating it.',
    });
  });

  it('answers bad input with each problem and what to do', async () => {
    const strict = tool({ ...who, description: '', input: z.object({ n: z.number() }), run: () => 1 });
    const [block] = await blocksOf(fromTool(strict, { ...who, input: { n: 'x' } }));
    expect(block?.content).toBe(
      'The input of the tool "t" does not fit its schema:\n- n: Invalid input: expected number, received string\n' +
        'The tool did not run. Correct the input and call it again.',
    );
  });

  it('never errors: a source that fails is a call that failed', async () => {
    const boom = throwError(() => new Error('boom'));
    const failure = { type: 'tool_result', tool_use_id: 'toolu_1', content: 'The tool "t" failed: boom', is_error: true };
    expect(await blocksOf(concat(of(started), boom))).toEqual([failure]);
    expect(await blocksOf(boom)).toEqual([]);
    expect(await blocksOf(boom, { toolUse: who })).toMatchObject([{ content: 'The tool "t" failed: boom' }]);
  });

  it('a source that tells no end still has its block', async () => {
    expect(await blocksOf(EMPTY)).toEqual([]);
    expect(await blocksOf(EMPTY, { toolUse: who })).toMatchObject([{ content: 'The tool "t" did not run.', is_error: true }]);
    expect(await blocksOf(of(started))).toMatchObject([
      { content: expect.stringContaining('It may have completed, check before') as string },
    ]);
    expect(await blocksOf(of(started, result('x')), { toolUse: who })).toHaveLength(1);
  });

  it('one operator serves two sources', async () => {
    const operator = toToolResult();
    expect(await lastValueFrom(of(result(1)).pipe(operator))).toMatchObject({ content: '1' });
    expect(await lastValueFrom(of(result(2)).pipe(operator))).toMatchObject({ content: '2' });
  });

  it('refuses a wrong maxChars', () => {
    expect(() => toToolResult({ maxChars: 0 })).toThrow(RangeError);
  });
});
