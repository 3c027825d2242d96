import Anthropic from '@anthropic-ai/sdk';
import { lastValueFrom, NEVER, throwError } from 'rxjs';
import { CircuitBreaker, circuitBreak, isCircuitTrippedError, tripLog, type TripRecord } from 'rxfleet';
import { fromTool, message, messageStream, tool, toToolResult } from 'rxfleet/agents';
import { reply, type Reply } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { wordsOf } from '../../src/gates/apiError.js';
import { ask, start } from '../sources/harness.js';

const KEY = 'sk-ant-api03-abcdefghijklmnop';

async function failing(answer: Reply, stream = false): Promise<Error> {
  const { client } = await start([answer]);
  const source = stream ? messageStream(client, ask) : message(client, ask);
  return (await lastValueFrom<unknown>(source).catch((each: unknown) => each)) as Error;
}

describe('the error of an API in words', () => {
  it('status, type, what it said, the request, and when to come back', async () => {
    const error = await failing(reply.error(429, { retryAfter: 7, message: 'Slow down, please.' }));
    expect(error).toBeInstanceOf(Anthropic.RateLimitError);
    expect(error.message).toContain('{"type":"error"');
    expect(wordsOf(error)).toBe('The API answered 429 rate_limit_error: Slow down, please (request req_0001, retry after 7 s)');
  });

  it.each([
    [reply.error(529), 'The API answered 529 overloaded_error: Overloaded (request req_0001)'],
    [reply.error(500, { message: 'two\nlines' }), 'The API answered 500 api_error: two lines (request req_0001)'],
    [reply.error(401, { message: `bad key ${KEY}` }), 'The API answered 401 authentication_error: bad key [redacted] (request req_0001)'],
  ])('%#', async (answer, words) => {
    expect(wordsOf(await failing(answer))).toBe(words);
  });

  it('an event in the middle of a stream', async () => {
    const { cause } = await failing(reply.text('hello', { fault: { kind: 'error', after: 2 } }), true);
    expect(wordsOf(cause)).toBe('The API reported overloaded_error: Overloaded (request req_0001)');
  });

  it('is one line of a bounded length, also when the API is hostile', async () => {
    const said = wordsOf(await failing(reply.error(400, { message: `x\n${'y'.repeat(50_000)}`, type: 'z'.repeat(5_000) })));
    expect(said.length).toBeLessThan(500);
    expect(said).not.toContain('\n');
    expect(said).toContain('req_0001');
  });

  it.each([
    [Object.assign(new Error('502 <html>'), { status: 502 }), '502 <html>'],
    [Object.assign(new Error('mine'), { error: { error: { message: 5 } } }), 'mine'],
    [Object.assign(new Error('mine'), { error: { error: { message: '' } }, status: 500 }), 'The API answered 500'],
    [Object.assign(new Error('mine'), { status: 429, headers: { get: 5 }, error: { error: { message: 'm' } } }), 'mine'],
    [
      Object.assign(new Error('mine'), { status: 429, requestID: 'a b', headers: { get: () => KEY }, error: { error: { message: 'm' } } }),
      'The API answered 429: m',
    ],
    [
      Object.defineProperty(new Error('mine'), 'error', {
        get: () => {
          throw new Error('no');
        },
      }),
      'mine',
    ],
  ])('of what has another shape its own message: %#', (error, words) => {
    expect(wordsOf(error)).toBe(words);
  });
});

describe('where it is read', () => {
  it('a trip, its record, and the calls that it stops', async () => {
    const error = await failing(reply.error(500));
    const breaker = new CircuitBreaker({ name: 'model', failures: 1 });
    const records: TripRecord[] = [];
    const log = tripLog({ gates: [breaker] }).subscribe((record) => records.push(record));
    let stopped: unknown;
    const running = circuitBreak<never>(breaker)(NEVER).subscribe({
      error: (each: unknown) => (stopped = each),
    });
    throwError(() => error)
      .pipe(circuitBreak(breaker))
      .subscribe({ error: () => undefined });
    log.unsubscribe();
    running.unsubscribe();
    const words = 'The API answered 500 api_error: Internal server error (request req_0001)';
    expect(isCircuitTrippedError(stopped) && stopped.message).toContain(words);
    expect(records.find(({ kind }) => kind === 'tripped')?.message).toContain(words);
    expect(JSON.stringify(records)).not.toContain('{\\"type');
  });

  it('the result of a tool that called an API', async () => {
    const error = await failing(reply.error(429, { retryAfter: 2 }));
    const call = tool({
      name: 'call',
      description: 'calls',
      input: z.object({}),
      run: (): Promise<string> => Promise.reject(new Error('no luck', { cause: error })),
    });
    const block = await lastValueFrom(fromTool(call, { id: 'toolu_1', name: 'call', input: {} }).pipe(toToolResult()));
    expect(block.content).toMatch(
      /^The tool "call" failed: no luck: The API answered 429 rate_limit_error: .* \(request req_0001, retry after 2 s\)$/,
    );
  });
});
