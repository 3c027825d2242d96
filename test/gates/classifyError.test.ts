import { APIConnectionError, APIConnectionTimeoutError, APIError, APIUserAbortError } from '@anthropic-ai/sdk';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeadlineExceededError, ScopeCancelledError, ScopeError } from '../../src/core/errors.js';
import type { ScopeFailure, ScopeReport } from '../../src/core/types.js';
import { classifyError, retryAfterOf, type ErrorKind } from '../../src/gates/classifyError.js';
import {
  BulkheadFullError,
  CircuitOpenError,
  CircuitTrippedError,
  ResourceDisposedError,
  RetryAfterTooLongError,
} from '../../src/gates/errors.js';
import {
  ConnectionLostError,
  ModelStreamError,
  StreamStalledError,
  StreamTruncatedError,
  ToolInputError,
  ToolOutputError,
} from '../../src/sources/errors.js';

const report = (...errors: unknown[]): ScopeReport => ({
  fulfilled: 0,
  outcomes: [],
  errors: errors.map((error): ScopeFailure => ({ error, phase: 'run' })),
  late: [],
  abandoned: [],
});
const scopeError = (...errors: unknown[]): ScopeError => new ScopeError(report(...errors), 'scope');
const api = (status: number, headers: Record<string, string> = {}, body: object = {}): APIError =>
  APIError.generate(status, body, undefined, new Headers(headers));
const spend = (code: string): object => ({ error: { type: 'rate_limit_error', message: 'spent', details: { error_code: code } } });
const init = { requestId: 'req_1', events: 3 };
const coded = (code: string): Error => Object.assign(new Error('socket'), { code });
const fetchFailed = (cause: unknown): TypeError => new TypeError('fetch failed', { cause });

/** Everything throws. */
function hostile(): object {
  const explode = (): never => {
    throw new Error('hands off');
  };
  return new Proxy({}, { get: explode, has: explode, ownKeys: explode, getPrototypeOf: explode, getOwnPropertyDescriptor: explode });
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  return proxy;
}

describe('classifyError', () => {
  it.each<[ErrorKind, string, unknown]>([
    ['throttle', '429', api(429)],
    ['throttle', '529', api(529)],
    ['throttle', '503 with retry-after', api(503, { 'retry-after': '2' })],
    ['throttle', '503 with retry-after-ms', api(503, { 'retry-after-ms': '2' })],
    ['transient', '503 without', api(503)],
    ['transient', '500', api(500)],
    ['transient', '504', api(504)],
    ['transient', '599', { status: 599 }],
    ['transient', '408', api(408)],
    ['transient', '409, a lock that was not given', api(409)],
    ['fatal', '400', api(400)],
    ['fatal', '401', api(401)],
    ['fatal', '404', api(404)],
    ['fatal', '422', api(422)],
    ['unknown', '200', { status: 200 }],
    ['unknown', 'a status in words', { status: 'failed' }],
    ['transient', 'statusCode', { statusCode: 502 }],
    ['throttle', 'the response of another client', { response: { status: 429 } }],
    ['throttle', 'the response of another client with headers', { response: { statusCode: 503, headers: { 'Retry-After': '1' } } }],
  ])('#2.4 #C8 %s: %s', (kind, _, error) => expect(classifyError(error)).toBe(kind));

  it.each<[ErrorKind, string, unknown]>([
    ['transient', 'true on 400', api(400, { 'x-should-retry': 'true' })],
    ['transient', 'true on 500', api(500, { 'x-should-retry': 'true' })],
    ['throttle', 'true on 429', api(429, { 'x-should-retry': 'true' })],
    ['fatal', 'false on 429', api(429, { 'x-should-retry': 'false' })],
    ['fatal', 'false on 529', api(529, { 'x-should-retry': 'false' })],
    ['fatal', 'false on 500', api(500, { 'x-should-retry': 'false' })],
    ['transient', 'neither on 500', api(500, { 'x-should-retry': 'maybe' })],
    ['fatal', 'false in a plain record', { status: 500, headers: { 'X-Should-Retry': 'False' } }],
    ['fatal', 'false in a list', { status: 500, headers: { 'x-should-retry': ['false'] } }],
  ])('#2.4 honours x-should-retry, %s: %s', (kind, _, error) => expect(classifyError(error)).toBe(kind));

  it.each(['enforced_spend_limit_reached', 'contract_spend_limit_reached'])('#2.4 a 429 that is a spend limit is fatal: %s', (code) => {
    expect(classifyError(api(429, {}, spend(code)))).toBe('fatal');
    expect(classifyError(api(429, { 'x-should-retry': 'true' }, spend(code)))).toBe('fatal');
    expect(classifyError({ status: 429, errorCode: code })).toBe('fatal');
    expect(classifyError({ status: 429, error: spend(code) })).toBe('fatal');
    expect(classifyError(new ModelStreamError('rate_limit_error', 'spent', { ...init, cause: api(429, {}, spend(code)) }))).toBe('fatal');
    expect(classifyError(new Error('a tool', { cause: api(429, {}, spend(code)) }))).toBe('fatal');
  });

  it('a 429 with another code is a throttle', () => {
    expect(classifyError(api(429, {}, spend('tokens_per_minute')))).toBe('throttle');
  });

  it.each<[ErrorKind, string, unknown]>([
    ['local', 'a gate is full', new BulkheadFullError('pool', 1, 1, 0)],
    ['local', 'a breaker is open', new CircuitOpenError('model', 5, 'open', api(500))],
    ['local', 'a breaker tripped', new CircuitTrippedError('model', api(500))],
    ['local', 'a gate is disposed', new ResourceDisposedError('model')],
    ['local', 'a retry gate gave up on a 429', new RetryAfterTooLongError('retry', 9, 1, api(429))],
    ['local', 'a scope was cancelled', new ScopeCancelledError({ kind: 'explicit' })],
    ['local', 'the SDK was told to abort', new APIUserAbortError()],
    ['local', 'a fetch was told to abort', new DOMException('stop', 'AbortError')],
    ['local', 'a Node API was told to abort', Object.assign(new Error('stop'), { code: 'ABORT_ERR' })],
    ['local', 'an abort with a reason of the user', new Error('stop', { cause: new DOMException('stop', 'AbortError') })],
    ['local', 'a tool that met a gate', new Error('lookup', { cause: new BulkheadFullError('pool', 1, 1, 0) })],
    [
      'transient',
      'an abort because of a timeout',
      Object.assign(new Error('stop', { cause: new DOMException('late', 'TimeoutError') }), { name: 'AbortError' }),
    ],
    ['transient', 'our own deadline below the gate', new DeadlineExceededError(5, undefined, 0, report())],
    ['transient', 'a timeout of rxjs', Object.assign(new Error('late'), { name: 'TimeoutError' })],
    ['transient', 'a timeout of the platform', new DOMException('late', 'TimeoutError')],
    ['transient', 'a stream that was cut off', new StreamTruncatedError(init)],
    ['transient', 'a connection that was lost', new ConnectionLostError({ ...init, cause: coded('ECONNRESET') })],
    ['transient', 'a stream that fell silent', new StreamStalledError('body', 5, init)],
    ['transient', 'no connection', new APIConnectionError({ message: 'no' })],
    ['transient', 'no response in time', new APIConnectionTimeoutError()],
    ['fatal', 'input that does not fit', new ToolInputError('search', [])],
    ['unknown', 'output that does not fit', new ToolOutputError('search', [])],
    ['unknown', 'a tool’s own error', new Error('boom')],
  ])('#C8 %s: %s', (kind, _, error) => expect(classifyError(error)).toBe(kind));

  it.each<[ErrorKind, string]>([
    ['throttle', 'overloaded_error'],
    ['throttle', 'rate_limit_error'],
    ['transient', 'api_error'],
    ['transient', 'timeout_error'],
    ['fatal', 'invalid_request_error'],
    ['fatal', 'authentication_error'],
    ['fatal', 'permission_error'],
    ['fatal', 'not_found_error'],
    ['fatal', 'billing_error'],
    ['unknown', 'some_new_error'],
    ['unknown', 'constructor'],
    ['unknown', '__proto__'],
  ])('#C8 %s: the model reports %s in mid-stream', (kind, type) => {
    expect(classifyError(new ModelStreamError(type, 'said', init))).toBe(kind);
    expect(classifyError(new APIError(undefined, { error: { type } }, undefined, undefined))).toBe(kind);
  });

  it.each<[ErrorKind, string]>([
    ['transient', 'ECONNRESET'],
    ['transient', 'ECONNREFUSED'],
    ['transient', 'ETIMEDOUT'],
    ['transient', 'EPIPE'],
    ['transient', 'EAI_AGAIN'],
    ['transient', 'ENOTFOUND'],
    ['transient', 'UND_ERR_CONNECT_TIMEOUT'],
    ['transient', 'UND_ERR_HEADERS_TIMEOUT'],
    ['transient', 'UND_ERR_BODY_TIMEOUT'],
    ['transient', 'UND_ERR_SOCKET'],
    ['unknown', 'UND_ERR_INVALID_ARG'],
    ['unknown', 'ENOENT'],
    ['unknown', 'XECONNRESET'],
  ])('#C8 %s: the code %s, also as a cause', (kind, code) => {
    expect(classifyError(coded(code))).toBe(kind);
    expect(classifyError(fetchFailed(coded(code)))).toBe(kind);
    expect(classifyError(new Error('a tool', { cause: fetchFailed(coded(code)) }))).toBe(kind);
  });

  it('looks at the outermost error that says something', () => {
    expect(classifyError(new Error('a', { cause: Object.assign(new Error('b', { cause: api(400) }), { status: 503 }) }))).toBe('transient');
    expect(classifyError(Object.assign(new Error('a', { cause: new BulkheadFullError('pool', 1, 1, 0) }), { status: 500 }))).toBe(
      'transient',
    );
  });

  it.each<[ErrorKind, string, unknown[]]>([
    ['transient', 'all transient', [api(500), new DeadlineExceededError(5, undefined, 0, report())]],
    ['local', 'all local', [new BulkheadFullError('pool', 1, 1, 0), new ScopeCancelledError({ kind: 'explicit' })]],
    ['unknown', 'mixed', [api(500), api(400)]],
    ['unknown', 'mixed, the first is its cause', [api(400), api(400), new Error('boom')]],
    ['unknown', 'all unknown', [new Error('boom'), new Error('bang')]],
    ['unknown', 'none', []],
    ['throttle', 'nested', [scopeError(api(429)), scopeError(scopeError(api(529)), api(429))]],
    ['unknown', 'nested and mixed', [scopeError(api(429)), scopeError(scopeError(api(500)), api(429))]],
  ])('#C8 a scope’s failures have the kind that they share, %s: %s', (kind, _, errors) => {
    expect(classifyError(scopeError(...errors))).toBe(kind);
  });

  it('an aggregate of the platform has the kind of its code, or the one that its errors share', () => {
    const refused = [coded('ECONNREFUSED'), coded('ECONNREFUSED')];
    expect(classifyError(new AggregateError(refused))).toBe('transient');
    expect(classifyError(Object.assign(new AggregateError([new Error('::1')]), { code: 'ECONNREFUSED' }))).toBe('transient');
    expect(classifyError(Object.assign(new Error('invalid'), { errors: ['name is missing'], cause: api(400) }))).toBe('fatal');
  });

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a string', 'ECONNRESET'],
    ['a number', 429],
    ['a function', () => 429],
    ['a proxy that throws', hostile()],
    ['a revoked proxy', revoked()],
    ['a hostile cause', new Error('a', { cause: hostile() })],
    ['hostile headers', { status: 200, headers: hostile() }],
    ['a hostile response', { response: hostile(), error: hostile(), details: hostile() }],
    ['hostile errors', { errors: revoked() }],
    ['errors that are hostile', new AggregateError([hostile(), revoked()])],
    ['errors that cannot be listed', { errors: new Proxy([], { get: () => hostile() }) }],
    ['a header function that throws', { headers: { get: hostile } }],
  ])('nothing is known of %s, and nothing is thrown', (_, error) => {
    expect(classifyError(error)).toBe('unknown');
    expect(retryAfterOf(error, 0)).toBeUndefined();
  });

  it('a getter that throws hides nothing else', () => {
    const error = Object.defineProperty({ status: 500 }, 'headers', {
      get: () => {
        throw new Error('hands off');
      },
    });
    expect(classifyError(error)).toBe('transient');
  });

  it('cycles and endless chains come to an end', () => {
    const cycle: { cause?: unknown; errors?: unknown } = {};
    cycle.cause = { cause: cycle };
    cycle.errors = [cycle, cycle];
    expect(classifyError(cycle)).toBe('unknown');
    const endless = (): object => Object.defineProperties({}, { cause: { get: endless }, errors: { get: () => [endless(), endless()] } });
    expect(classifyError(endless())).toBe('unknown');
    expect(retryAfterOf(endless(), 0)).toBeUndefined();
    let deep: unknown = api(500);
    for (let i = 0; i < 100_000; i++) deep = { errors: [deep] };
    expect(classifyError(deep)).toBe('unknown');
    let wide: unknown = api(500);
    for (let i = 0; i < 40; i++) wide = { errors: [wide, wide] };
    expect(classifyError(wide)).toBe('unknown');
  });

  it('a kind comes of anything at all', () => {
    fc.assert(
      fc.property(fc.anything({ withDate: true, withMap: true, withNullPrototype: true }), fc.anything(), (error, cause) => {
        const wrapped = { status: error, type: cause, errors: [error, cause], headers: cause, cause: error };
        for (const each of [error, wrapped]) {
          expect(['throttle', 'transient', 'fatal', 'local', 'unknown']).toContain(classifyError(each));
          retryAfterOf(each, 0);
        }
      }),
    );
  });
});

describe('retryAfterOf', () => {
  const after = (value: unknown, now = 0): number | undefined => retryAfterOf({ headers: { 'Retry-After': value } }, now);

  it.each<[string, unknown, number | undefined]>([
    ['seconds', '3', 3000],
    ['a fraction of a second', '0.5', 500],
    ['less than a millisecond', '0.0001', 1],
    ['a number', 2, 2000],
    ['with spaces', ' 3 ', 3000],
    ['a list', ['4', '5'], 4000],
    ['0', '0', undefined],
    ['negative', '-1', undefined],
    ['nothing', '', undefined],
    ['words', 'soon', undefined],
    ['NaN', NaN, undefined],
    ['seconds with words', '3 s', undefined],
    ['more than a number holds', '9'.repeat(400), Number.MAX_SAFE_INTEGER],
    ['an object', {}, undefined],
  ])('#2.4 reads %s', (_, value, ms) => expect(after(value)).toBe(ms));

  it('#2.4 prefers retry-after-ms, unless it is no use', () => {
    expect(retryAfterOf(api(429, { 'retry-after-ms': '1500', 'retry-after': '9' }), 0)).toBe(1500);
    expect(retryAfterOf(api(429, { 'retry-after-ms': '0.2', 'retry-after': '9' }), 0)).toBe(1);
    expect(retryAfterOf(api(429, { 'retry-after-ms': '0', 'retry-after': '9' }), 0)).toBe(9000);
    expect(retryAfterOf(api(429, { 'retry-after-ms': 'x', 'retry-after': '9' }), 0)).toBe(9000);
  });

  it('#2.4 reads a date relative to now, in the three forms of HTTP; the past counts for nothing', () => {
    const at = Date.UTC(1994, 10, 6, 8, 49, 37);
    for (const text of ['Sun, 06 Nov 1994 08:49:37 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994']) {
      expect(after(text, at - 5000)).toBe(5000);
      expect(after(text, at - 0.5)).toBe(1);
      expect(after(text, at)).toBeUndefined();
      expect(after(text, at + 5000)).toBeUndefined();
    }
    expect(after('Wed, 01 Jan 2069 00:00:00 GMT', Date.UTC(2068, 11, 31))).toBe(86_400_000);
    expect(after('Tuesday, 01-Jan-69 00:00:00 GMT', Date.UTC(2068, 11, 31))).toBe(86_400_000);
  });

  it('reads every date that JavaScript writes', () => {
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date(Date.UTC(9999, 11, 31)), noInvalidDate: true }), (date) => {
        const at = Math.floor(date.getTime() / 1000) * 1000;
        expect(after(date.toUTCString(), at - 1)).toBe(1);
      }),
    );
  });

  it.each([
    'Sun, 06 Xov 1994 08:49:37 GMT',
    'Sun, 06 anF 1994 08:49:37 GMT',
    'Sun, 32 Nov 1994 08:49:37 GMT',
    'Sun, 06 Nov 1994 24:00:00 GMT',
    '1994-11-06',
    '2099',
  ])('takes no date from %s', (text) => expect(after(text, -1e15)).toBe(text === '2099' ? 2_099_000 : undefined));

  it('looks down the causes', () => {
    expect(retryAfterOf(new Error('a tool', { cause: api(429, { 'retry-after': '7' }) }), 0)).toBe(7000);
    expect(retryAfterOf({ response: { headers: new Headers({ 'retry-after': '7' }) } }, 0)).toBe(7000);
  });
});
