import { concat, defer, merge, NEVER, Observable, of, range, take, throwError } from 'rxjs';
import { failWithin, fanOutScoped, scoped, takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { BulkheadFullError, isResourceDisposedError, isRetryAfterTooLongError, RetryAfterTooLongError } from '../../src/gates/errors.js';
import { RetryGate } from '../../src/gates/retryGate.js';
import type { RetryGateOptions } from '../../src/gates/retryOptions.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { TokenBucket } from '../../src/gates/tokenBucket.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { retryThrough } from '../../src/operators/retryThrough.js';
import { tokenBucket } from '../../src/operators/tokenBucket.js';
import { keepsTheContract } from '../support/contract.js';
import { failing, later, torn, virtual, type Virtual } from '../support/virtual.js';

const DOWN = { status: 500, toString: () => 'down' };
const asked = (ms: number | string): object => ({ status: 429, headers: { 'retry-after-ms': String(ms) }, toString: () => 'busy' });
const BUSY = asked(5);

/** Waits that chance has nothing to do with: 5, 10, 20, … alone, and Retry-After for the gate. */
function gate(options: RetryGateOptions = {}): RetryGate {
  return new RetryGate({ name: 'api', baseMs: 5, jitter: (ceiling) => ceiling, jitterMs: 0, ...options });
}

/** A call whose first attempts are these; the last one comes again and again. */
function attempts<T>(...sources: readonly Observable<T>[]): Observable<T> {
  let made = 0;
  return defer(() => sources[Math.min(made++, sources.length - 1)] as Observable<T>);
}

const busy = throwError(() => BUSY);
const down = throwError(() => DOWN);

/** Runs a test, and looks whether anything is left that would keep a process alive. */
function idle(body: (test: Virtual) => void): void {
  virtual((test) => {
    body(test);
    test.flush();
    expect(test.scheduler.actions).toHaveLength(0);
  });
}

describe('retryThrough', () => {
  describe('while nothing fails', () => keepsTheContract(() => retryThrough(new RetryGate()), 'boom'));

  describe('a call that fails', () => {
    it('is tried again alone, after a wait that doubles #2.4', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const [one, two, three] = [cold('--#', undefined, DOWN), cold('-#', undefined, DOWN), cold('--a-b|')];
        const other = cold('---------x|');
        const shared = gate();
        expectObservable(attempts(one, two, three).pipe(retryThrough(shared))).toBe('--------------------a-b|');
        expectObservable(other.pipe(retryThrough(shared))).toBe('---------x|');
        expectSubscriptions(one.subscriptions).toBe('^-!');
        expectSubscriptions(two.subscriptions).toBe('-------^!');
        expectSubscriptions(three.subscriptions).toBe('------------------^----!');
        expectSubscriptions(other.subscriptions).toBe('^---------!');
      }));

    it('unsubscribed while it waits, is not tried again, and its timer is gone in that frame #22 #D3', () =>
      virtual(({ cold, expectObservable, expectSubscriptions, at, scheduler, flush }) => {
        const [one, two] = [cold('--#', undefined, DOWN), cold('a|')];
        const shared = gate({ baseMs: 300 });
        const call = attempts(one, two).pipe(retryThrough(shared));
        expectObservable(call, '^-------------------!').toBe('--------------------');
        at(20, () => {
          expect(shared.snapshot().backingOff).toBe(0);
          expect(scheduler.actions.filter(({ delay }) => delay >= 300)).toEqual([]);
        });
        flush();
        expect(scheduler.now()).toBe(20);
        expectSubscriptions(one.subscriptions).toBe('^-!');
        expectSubscriptions(two.subscriptions).toBe([]);
      }));

    it('is not subscribed at all when its subscriber has left before #24', () => {
      let made = 0;
      const closed = new Observable<never>(() => void made++).pipe(retryThrough(gate()));
      closed.pipe(take(0)).subscribe();
      new Observable((out) => {
        out.complete();
        closed.subscribe(out);
      }).subscribe();
      expect(made).toBe(0);
    });

    it('gives up after maxAttempts with the last error, unchanged #2.4', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const errors = [1, 2, 3].map((n) => ({ status: 500, n }));
        const sources = errors.map((error) => cold('#', undefined, error));
        expectObservable(attempts(...sources).pipe(retryThrough(gate({ maxAttempts: 3 })))).toBe('---------------#', undefined, errors[2]);
        expectSubscriptions((sources[2] as (typeof sources)[0]).subscriptions).toBe('---------------(^!)');
      }));

    it.each([
      ['an attempt is all there is', { maxAttempts: 1 }, 1],
      ['the operator allows less than the gate', { maxAttempts: 2 }, 2],
      ['the operator allows more than the gate', { maxAttempts: 5 }, 5],
      ['the operator says nothing', {}, 3],
      ['the operator says nothing by name', { maxAttempts: undefined }, 3],
    ])('%s', (_, options, made) =>
      idle(({ watch, lines, flush }) => {
        let count = 0;
        const call = defer(() => (count++, down));
        watch(call.pipe(retryThrough(gate({ maxAttempts: 3, baseMs: 0 }), options)));
        flush();
        expect(count).toBe(made);
        expect(lines).toEqual(['0 error down']);
      }),
    );

    it.each([
      ['a tool’s own error', new Error('own')],
      ['400', { status: 400 }],
      ['a refusal of another gate', new BulkheadFullError('other', 1, 1, 0)],
      ['no error at all', undefined],
      ['500 with x-should-retry: false', { status: 500, headers: { 'x-should-retry': 'false' } }],
      ['429 with x-should-retry: false', { status: 429, headers: { 'x-should-retry': 'false' } }],
    ])('passes %s through at once #2.4', (_, error) =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const source = cold('-#', undefined, error);
        const shared = gate();
        expectObservable(source.pipe(retryThrough(shared))).toBe('-#', undefined, error);
        expectSubscriptions(source.subscriptions).toBe('^!');
        expect(shared.snapshot().state).toBe('open');
      }),
    );

    it.each([
      ['408', { status: 408 }],
      ['a reset connection', Object.assign(new Error('reset'), { code: 'ECONNRESET' })],
      ['400 with x-should-retry: true', { status: 400, headers: { 'x-should-retry': 'true' } }],
    ])('tries again after %s #2.4', (_, error) =>
      virtual(({ cold, expectObservable }) => {
        expectObservable(attempts(cold('-#', undefined, error), cold('a|')).pipe(retryThrough(gate()))).toBe('------a|');
      }),
    );

    it('is of the kind that classify makes of it, the operator’s before the gate’s', () =>
      virtual(({ cold, expectObservable }) => {
        const shared = gate({ classify: () => 'transient' });
        const twice = (): Observable<string> => attempts(cold('#'), cold('a|'));
        expectObservable(twice().pipe(retryThrough(shared))).toBe('-----a|');
        expectObservable(twice().pipe(retryThrough(shared, { classify: () => 'fatal' }))).toBe('#');
        expectObservable(twice().pipe(retryThrough(shared, { classify: undefined }))).toBe('-----a|');
      }));

    it('waits at least as long as the server asks, also when it waits alone', () =>
      virtual(({ cold, expectObservable }) => {
        const error = { status: 500, headers: { 'retry-after-ms': '12' } };
        expectObservable(attempts(cold('#', undefined, error), cold('a|')).pipe(retryThrough(gate()))).toBe('------------a|');
      }));
  });

  describe('a value that has reached downstream', () => {
    it('rules a retry out #2.4', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const source = cold('-a-#', undefined, DOWN);
        expectObservable(source.pipe(retryThrough(gate()))).toBe('-a-#', undefined, DOWN);
        expectSubscriptions(source.subscriptions).toBe('^--!');
      }));

    it('does not with retryPartial: downstream sees it twice #2.4', () =>
      virtual(({ cold, expectObservable }) => {
        const call = attempts(cold('-a-#', undefined, DOWN), cold('-a-b|'));
        expectObservable(call.pipe(retryThrough(gate(), { retryPartial: true }))).toBe('-a-------a-b|');
      }));

    it('does not keep a throttle from closing the gate', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const shared = gate();
        const other = cold('x|');
        expectObservable(cold('a#', undefined, BUSY).pipe(retryThrough(shared))).toBe('a#', undefined, BUSY);
        expectObservable(other.pipe(retryThrough(shared)), '--^').toBe('------x|');
        expectSubscriptions(other.subscriptions).toBe('------^!');
      }));
  });

  describe('a throttle', () => {
    it('holds first attempts and retries of everybody back, first come first served, and lets one in, then more #2.4 #60', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const shared = gate();
        const one = [cold('--#', undefined, asked(6)), cold('--a|')] as const;
        const rest = ['b', 'c', 'd', 'e'].map((value) => cold(`--${value}|`));
        expectObservable(attempts(...one).pipe(retryThrough(shared))).toBe('----------a|');
        const outputs = ['-------------b|', '-------------c|', '----------------d|', '----------------e|'];
        rest.forEach((source, i) =>
          expectObservable(source.pipe(retryThrough(shared)), `${'-'.repeat(i + 3)}^`).toBe(outputs[i] as string),
        );
        expectSubscriptions(one[0].subscriptions).toBe('^-!');
        expectSubscriptions(one[1].subscriptions).toBe('--------^--!');
        const subscribed = ['-----------^--!', '-----------^--!', '--------------^--!', '--------------^--!'];
        rest.forEach((source, i) => expectSubscriptions(source.subscriptions).toBe(subscribed[i] as string));
      }));

    it('leaves calls in flight alone; their throttles make the pause longer, not the level higher #2.4', () =>
      idle(({ at, watch, lines, flush }) => {
        const shared = gate();
        watch(later(50, 'slow').pipe(retryThrough(shared)), 'slow');
        watch(attempts(failing(2, asked(10)), of('a')).pipe(retryThrough(shared)), 'a');
        watch(attempts(failing(4, asked(3)), of('b')).pipe(retryThrough(shared)), 'b');
        watch(attempts(failing(6, asked(20)), of('c')).pipe(retryThrough(shared)), 'c');
        at(7, () =>
          expect(shared.snapshot()).toMatchObject({ state: 'closed', retryAfterMs: 19, epoch: 1, level: 1, waiting: 3, inFlight: 1 }),
        );
        flush();
        expect(lines).toEqual([
          ...['a', 'b', 'c'].flatMap((name) => [`26 ${name} next ${name}`, `26 ${name} complete`]),
          '50 slow next slow',
          '50 slow complete',
        ]);
      }));

    it('of a probe sends it to the end of the line, and closes the gate for longer #2.4', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate({ baseMs: 10 });
        const plain = { status: 429 };
        const probe = throwError(() => plain);
        watch(attempts(probe, probe, later(1, 'a')).pipe(retryThrough(shared)), 'a');
        watch(attempts(later(1, 'b')).pipe(retryThrough(shared)), 'b');
        watch(attempts(later(1, 'c')).pipe(retryThrough(shared)), 'c');
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['31 b next b', '32 c next c', '32 a next a']);
      }));

    it('adds chance to Retry-After and takes nothing from it #2.4', () => {
      for (const [random, at] of [
        [0, 1_000],
        [0.5, 1_020],
        [1 - Number.EPSILON, 1_040],
      ] as const)
        idle(({ watch, lines, flush }) => {
          const shared = new RetryGate({ random: () => random, jitterMs: 40, baseMs: 500 });
          watch(
            attempts(
              throwError(() => asked(1_000)),
              of('a'),
            ).pipe(retryThrough(shared)),
          );
          flush();
          expect(lines[0]).toBe(`${at} next a`);
        });
    });

    it.each([
      ['0', '0'],
      ['no number', 'soon'],
      ['NaN', Number.NaN],
      ['negative', '-5'],
    ])('with a Retry-After that is %s waits as if it had none #2.4', (_, ms) =>
      virtual(({ cold, expectObservable }) => {
        expectObservable(attempts(cold('#', undefined, asked(ms)), cold('a|')).pipe(retryThrough(gate()))).toBe('-----a|');
      }),
    );

    it('with a Retry-After in the past waits as if it had none; a date is read by the scheduler’s clock #2.4', () =>
      virtual(({ cold, expectObservable }) => {
        const dated = (date: string): object => ({ status: 429, headers: { 'retry-after': date } });
        const [past, future] = [dated('Wed, 31 Dec 1969 23:59:59 GMT'), dated('Thu, 01 Jan 1970 00:00:02 GMT')];
        expectObservable(attempts(cold('#', undefined, past), cold('a|')).pipe(retryThrough(gate()))).toBe('-----a|');
        expectObservable(attempts(cold('#', undefined, future), cold('a|')).pipe(retryThrough(gate()))).toBe('2s a|');
      }));

    it('is waited for as the retryAfter option says, at least 1 ms; NaN, 0 and less mean nothing #2.4', () => {
      for (const [ms, at] of [
        [7, 7],
        [0.2, 5],
        [Number.NaN, 5],
        [0, 5],
        [-1, 5],
        [undefined, 5],
        ['7', 5],
      ] as const)
        idle(({ watch, lines, flush }) => {
          watch(attempts(busy, of('a')).pipe(retryThrough(gate({ retryAfter: () => ms as number }))));
          flush();
          expect(lines[0]).toBe(`${at} next a`);
        });
    });

    it('with a Retry-After that is too long fails that call at once, with the cause, and holds nobody else back #2.4', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const shared = gate({ maxRetryAfterMs: 60_000 });
        const cause = asked(60_001);
        const source = cold('--#', undefined, cause);
        const other = cold('a|');
        expectObservable(source.pipe(retryThrough(shared))).toBe(
          '--#',
          undefined,
          new RetryAfterTooLongError('api', 60_001, 60_000, cause),
        );
        expectObservable(other.pipe(retryThrough(shared)), '---^').toBe('---a|');
        expectSubscriptions(source.subscriptions).toBe('^-!');
        expectSubscriptions(other.subscriptions).toBe('---^!');
      }));

    it('is waited for over more than a timer can hold, if that is allowed #2.4', () =>
      idle(({ watch, lines, flush }) => {
        const errors: unknown[] = [];
        const long = 2 ** 31 + 5_000;
        throwError(() => asked(long))
          .pipe(retryThrough(gate()))
          .subscribe({ error: (error) => errors.push(error) });
        watch(
          attempts(
            throwError(() => asked(long)),
            of('a'),
          ).pipe(retryThrough(gate({ maxRetryAfterMs: Infinity }))),
        );
        flush();
        expect(lines).toEqual([`${long} next a`, `${long} complete`]);
        expect(errors.map(isRetryAfterTooLongError)).toEqual([true]);
      }));

    it('ends at once for whoever unsubscribes during a Retry-After #D15', () =>
      virtual(({ at, watch, flush, now, note, lines }) => {
        const shared = gate();
        let made = 0;
        const call = watch(defer(() => (made++, throwError(() => asked(3_000)))).pipe(retryThrough(shared)));
        at(100, () => {
          call.unsubscribe();
          note(`waiting ${shared.snapshot().waiting}`);
        });
        flush();
        expect([lines, now(), made]).toEqual([['100 waiting 0'], 100, 1]);
      }));

    it('counts neither against maxAttempts nor against the budget #2.4', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate({ maxAttempts: 1, budget: { ratio: 0, minPerSec: 0 } });
        watch(attempts(...Array.from({ length: 20 }, () => busy), of('a')).pipe(retryThrough(shared)));
        flush();
        expect(lines.map((line) => line.split(' ')[1])).toEqual(['next', 'complete']);
      }));
  });

  describe('the slow start', () => {
    /** Closed by one call, which comes again first, at 5. */
    const closed = (watch: Virtual['watch'], options: RetryGateOptions = {}, again: Observable<string> = NEVER): RetryGate => {
      const shared = gate(options);
      watch(attempts(busy, again).pipe(retryThrough(shared)), 'probe');
      return shared;
    };

    it('passes the place of a probe that is unsubscribed to the next in line, in the same frame #2.4', () =>
      virtual(({ at, watch, note, lines, flush }) => {
        const shared = gate();
        const probe = watch(attempts(busy, NEVER).pipe(retryThrough(shared)));
        const parked = ['a', 'b'].map((name) => watch(torn(() => note(`${name} torn`)).pipe(retryThrough(shared)), name));
        at(9, () => {
          expect(shared.snapshot()).toMatchObject({ state: 'reopening', allowed: 1, probing: 1, waiting: 2, level: 1 });
          probe.unsubscribe();
          expect(shared.snapshot()).toMatchObject({ probing: 0, waiting: 2 });
          at(0, () => expect(shared.snapshot()).toMatchObject({ allowed: 1, probing: 1, waiting: 1, level: 1 }));
        });
        at(12, () => parked[0]?.unsubscribe());
        at(13, () => {
          expect(shared.snapshot()).toMatchObject({ probing: 1, waiting: 0 });
          parked[1]?.unsubscribe();
        });
        flush();
        expect(lines).toEqual(['12 a torn', '13 b torn']);
      }));

    it('takes a probe that is left after a value for a success #2.4', () =>
      virtual(({ watch, lines, flush }) => {
        const shared = gate();
        watch(attempts<string>(busy, merge(later(1, 'p'), NEVER)).pipe(retryThrough(shared), take(1)), 'probe');
        for (const name of ['a', 'b']) watch(later(1, name).pipe(retryThrough(shared)), name);
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['6 probe next p', '7 a next a', '7 b next b']);
      }));

    it('does not take a probe for a success because of a value of an earlier attempt', () =>
      virtual(({ at, watch, flush }) => {
        const shared = gate();
        const call = attempts<string>(concat(of('a'), busy), NEVER);
        const probe = watch(call.pipe(retryThrough(shared, { retryPartial: true })));
        at(7, () => {
          expect(shared.snapshot()).toMatchObject({ probing: 1, level: 1 });
          probe.unsubscribe();
          expect(shared.snapshot()).toMatchObject({ state: 'reopening', probing: 0, level: 1 });
        });
        flush();
      }));

    it.each([
      ['fails', DOWN],
      ['is answered with a refusal', { status: 400 }],
    ])('goes on with the next in line when a probe %s #2.4', (_, error) =>
      virtual(({ watch, lines, flush }) => {
        const shared = closed(watch, { maxAttempts: 1 }, failing(2, error));
        for (const name of ['a', 'b', 'c']) watch(later(1, name).pipe(retryThrough(shared)), name);
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['8 a next a', '9 b next b', '9 c next c']);
      }),
    );

    it('goes on after probeMaxMs when a probe hangs #2.4', () =>
      virtual(({ at, watch, lines, flush }) => {
        const shared = gate({ probeMaxMs: 20 });
        const hung = watch(attempts(busy, NEVER).pipe(retryThrough(shared)));
        for (const name of ['a', 'b']) watch(later(1, name).pipe(retryThrough(shared)), name);
        at(40, () => hung.unsubscribe());
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['26 a next a', '27 b next b']);
        expect(shared.snapshot()).toMatchObject({ state: 'open', inFlight: 0 });
      }));

    it('begins with slowStart.initial and adds slowStart.step #2.4', () =>
      virtual(({ watch, lines, flush }) => {
        const shared = closed(watch, { slowStart: { initial: 2, step: 3 } }, later(1, 'p'));
        for (let i = 0; i < 9; i++) watch(later(1, `${i}`).pipe(retryThrough(shared)));
        flush();
        const at = (ms: number): number => lines.filter((line) => line.startsWith(`${ms} `) && line.includes('next')).length;
        expect([6, 7, 8].map(at)).toEqual([2, 8, 0]);
      }));

    it('hears of a throttle of the same frame before it lets the next in', () =>
      virtual(({ at, watch, flush }) => {
        const shared = closed(watch, {}, later(1, 'p'));
        let made = 0;
        const call = (source: Observable<string>): void => void watch(defer(() => (made++, source)).pipe(retryThrough(shared)));
        call(later(3, 'ok'));
        call(attempts(failing(3, asked(100)), of('late')));
        for (let i = 0; i < 5; i++) call(later(1, 'x'));
        at(10, () => {
          expect(made).toBe(2);
          expect(shared.snapshot()).toMatchObject({ state: 'closed', waiting: 6, level: 1 });
        });
        flush();
      }));

    it('ends when there is room to spare and nobody waits: then everybody passes again #2.4', () =>
      virtual(({ at, watch, flush }) => {
        const shared = closed(watch, {}, later(1, 'p'));
        at(20, () => {
          expect(shared.snapshot()).toMatchObject({ state: 'open', allowed: null, level: 0 });
          for (let i = 0; i < 50; i++) watch(later(1, 'x').pipe(retryThrough(shared)));
          expect(shared.snapshot()).toMatchObject({ inFlight: 50, waiting: 0 });
        });
        flush();
      }));

    it('ends also when the last one in line fails', () =>
      virtual(({ at, watch, flush }) => {
        const shared = closed(watch, {}, later(1, 'p'));
        watch(failing(3, new Error('own')).pipe(retryThrough(shared)));
        watch(later(9, 'a').pipe(retryThrough(shared)));
        at(8, () => expect(shared.snapshot()).toMatchObject({ state: 'reopening', allowed: 2, probing: 2 }));
        at(10, () => expect(shared.snapshot()).toMatchObject({ state: 'open', probing: 0, inFlight: 1 }));
        flush();
      }));

    it('begins with the first call after a pause that nobody waited for', () =>
      idle(({ at, watch, lines, flush }) => {
        const shared = gate({ maxAttempts: 1 });
        const left = watch(attempts(busy, NEVER).pipe(retryThrough(shared)));
        at(2, () => left.unsubscribe());
        at(100, () => {
          expect(shared.snapshot()).toMatchObject({ state: 'closed', retryAfterMs: 0, level: 1 });
          watch(later(2, 'a').pipe(retryThrough(shared)), 'a');
          watch(later(2, 'b').pipe(retryThrough(shared)), 'b');
        });
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['102 a next a', '104 b next b']);
      }));
  });

  describe('time', () => {
    it('a retry that could not begin before the deadline fails now, with the call’s own error #2.4', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const busy18 = asked(18);
        const [alone, throttled] = [cold('--#', undefined, DOWN), cold('--#', undefined, busy18)];
        expectObservable(alone.pipe(retryThrough(gate({ baseMs: 18 })), failWithin(20))).toBe('--#', undefined, DOWN);
        expectObservable(throttled.pipe(retryThrough(gate()), failWithin(20))).toBe('--#', undefined, busy18);
        expectSubscriptions(alone.subscriptions).toBe('^-!');
        expectSubscriptions(throttled.subscriptions).toBe('^-!');
        const intime = attempts(cold('--#', undefined, DOWN), cold('a|'));
        expectObservable(intime.pipe(retryThrough(gate({ baseMs: 17 })), failWithin(20))).toBe('-------------------a|');
      }));

    it('parked time counts against the deadline #2.4', () =>
      idle(({ watch, lines, flush, now }) => {
        const shared = gate();
        watch(throwError(() => asked(50)).pipe(retryThrough(shared), takeWithin(60)), 'one');
        watch(of('a').pipe(retryThrough(shared), failWithin(30)), 'two');
        watch(of('b').pipe(retryThrough(shared), takeWithin(30)), 'three');
        flush();
        expect(lines.slice(0, 2)).toEqual(['30 two error Deadline(30)', '30 three complete']);
        expect(now()).toBeLessThanOrEqual(110);
      }));

    it('no attempt begins maxElapsedMs after the first #2.4', () =>
      idle(({ watch, lines, flush }) => {
        let made = 0;
        const options = { maxElapsedMs: 15, maxAttempts: Infinity };
        watch(defer(() => (made++, down)).pipe(retryThrough(gate(), options)), 'alone');
        watch(throwError(() => asked(15)).pipe(retryThrough(gate({ maxElapsedMs: 15 }))), 'throttled');
        flush();
        expect(lines).toEqual(['0 throttled error busy', '5 alone error down']);
        expect(made).toBe(2);
      }));

    it('a retry leaves the line when its time is over, with its own last error #2.4', () =>
      idle(({ at, watch, lines, flush }) => {
        const shared = gate();
        watch(attempts(failing(1, asked(10)), of('a')).pipe(retryThrough(shared, { maxElapsedMs: 30 })), 'one');
        watch(failing(3, asked(100)).pipe(retryThrough(shared, { maxElapsedMs: 200 })), 'two');
        at(4, () => watch(of('b').pipe(retryThrough(shared)), 'three'));
        flush();
        expect(lines).toEqual(['30 one error busy', '106 two error busy', '206 three next b', '206 three complete']);
      }));

    it('a first attempt that is parked does not lose time for its retries', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate();
        watch(
          attempts(
            throwError(() => asked(50)),
            of('a'),
          ).pipe(retryThrough(shared)),
          'one',
        );
        watch(attempts(down, of('b')).pipe(retryThrough(shared, { maxElapsedMs: 20 })), 'two');
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['50 one next a', '55 two next b']);
      }));

    it('retries that are due in one frame go in the order in which they failed', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate({ jitter: () => 10, budget: null });
        for (let i = 0; i < 30; i++) watch(attempts(down, of(i)).pipe(retryThrough(shared)));
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(Array.from({ length: 30 }, (_, i) => `10 next ${i}`));
      }));

    it('a retry whose time comes during a pause stands in line behind those who came before it', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate({ baseMs: 10 });
        watch(attempts(failing(2, DOWN), later(1, 'alone')).pipe(retryThrough(shared)));
        watch(attempts(failing(3, asked(20)), later(1, 'busy')).pipe(retryThrough(shared)));
        watch(attempts(later(1, 'early')).pipe(retryThrough(shared)));
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['1 next early', '24 next busy', '25 next alone']);
      }));
  });

  describe('a synchronous source', () => {
    it('that throws 100,000 times uses no stack, and each retry goes through the scheduler #2.4', () =>
      idle(({ flush, now }) => {
        let made = 0;
        const call = defer(() => (++made <= 100_000 ? down : of('done')));
        const seen: unknown[] = [];
        const shared = gate({ baseMs: 0, maxAttempts: Infinity, budget: null });
        call.pipe(retryThrough(shared)).subscribe((value) => seen.push(value));
        expect(made).toBe(1);
        flush();
        expect([seen, made, now()]).toEqual([['done'], 100_001, 0]);
      }));

    it('that throws while it is being subscribed is tried again', () =>
      idle(({ watch, lines, flush }) => {
        let made = 0;
        const call = new Observable<string>((out) => {
          if (++made < 3) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' });
          out.next('a');
          out.complete();
        });
        watch(call.pipe(retryThrough(gate())));
        flush();
        expect(lines).toEqual(['15 next a', '15 complete']);
      }));

    it('that is throttled 10,000 times uses no stack', () =>
      idle(({ flush }) => {
        let made = 0;
        let seen = 0;
        const call = defer(() => (++made <= 10_000 ? throwError(() => ({ status: 429 })) : of('done')));
        call.pipe(retryThrough(gate({ baseMs: 0 }))).subscribe(() => seen++);
        flush();
        expect([made, seen]).toEqual([10_001, 1]);
      }));

    it('100,000 calls at once, and 100,000 that wait for one pause, use no stack #11', () =>
      idle(({ flush }) => {
        const shared = gate();
        let seen = 0;
        for (let i = 0; i < 100_000; i++)
          of(i)
            .pipe(retryThrough(shared))
            .subscribe(() => seen++);
        expect(seen).toBe(100_000);
        attempts(busy, of(0))
          .pipe(retryThrough(shared))
          .subscribe(() => seen++);
        for (let i = 0; i < 100_000; i++)
          of(i)
            .pipe(retryThrough(shared))
            .subscribe(() => seen++);
        expect(shared.snapshot().waiting).toBe(100_001);
        flush();
        expect(seen).toBe(200_001);
        expect(shared.snapshot()).toMatchObject({ state: 'open', inFlight: 0, waiting: 0 });
      }));

    it('100,000 that leave the line leave nothing behind #11 #17', () =>
      virtual(({ scheduler }) => {
        const shared = gate();
        const first = attempts(busy, NEVER).pipe(retryThrough(shared)).subscribe();
        const parked = Array.from({ length: 100_000 }, () => NEVER.pipe(retryThrough(shared)).subscribe());
        for (const call of parked) call.unsubscribe();
        first.unsubscribe();
        expect(shared.snapshot()).toMatchObject({ waiting: 0, backingOff: 0, inFlight: 0 });
        expect(scheduler.actions).toHaveLength(0);
      }));
  });

  describe('with others', () => {
    it('unsubscribing a fan-out of 5 that waits starts none of them', () =>
      virtual(({ at, flush, now }) => {
        const shared = gate();
        let made = 0;
        attempts(busy, NEVER).pipe(retryThrough(shared), takeWithin(30)).subscribe();
        const all = range(5)
          .pipe(fanOutScoped(() => defer(() => (made++, NEVER)).pipe(retryThrough(shared)), { concurrency: 5 }))
          .subscribe();
        at(4, () => all.unsubscribe());
        flush();
        expect(made).toBe(0);
        expect(now()).toBe(30);
        expect(shared.snapshot()).toMatchObject({ waiting: 0, inFlight: 0 });
      }));

    it('unsubscribing a fan-out sweeps the probe and those behind it together', () =>
      virtual(({ at, flush }) => {
        const shared = gate();
        let made = 0;
        const all = range(5)
          .pipe(
            fanOutScoped((i) => defer(() => (made++, i === 0 && made === 1 ? busy : NEVER)).pipe(retryThrough(shared)), { concurrency: 5 }),
          )
          .subscribe();
        at(7, () => all.unsubscribe());
        flush();
        expect(made).toBe(2);
        expect(shared.snapshot()).toMatchObject({ waiting: 0, inFlight: 0, probing: 0 });
      }));

    it('a failure of one child stops the others that wait', () =>
      virtual(({ watch, lines, flush }) => {
        const shared = gate();
        let made = 0;
        const child = (i: number): Observable<number> => {
          if (i === 0) return failing(2, new Error('first'));
          return defer(() => (made++, i === 1 && made === 1 ? busy : of(i))).pipe(retryThrough(shared));
        };
        watch(range(4).pipe(fanOutScoped(child, { concurrency: 4 })));
        flush();
        expect(lines).toEqual(['2 error ScopeError[first]']);
        expect(made).toBe(1);
      }));

    it('each attempt passes the gates further in: it takes tokens again #64', () =>
      idle(({ flush, watch, lines }) => {
        const bucket = new TokenBucket({ capacity: 10, refill: { tokens: 1, everyMs: 1_000_000 } });
        const call = attempts<string>(down, busy, of('a'));
        watch(call.pipe(tokenBucket(bucket, { cost: 3 }), retryThrough(gate())));
        flush();
        expect(lines[0]).toBe('10 next a');
        expect(Object.values(bucket.snapshot().limits)[0]?.tokens).toBe(1);
      }));

    it('gives back what the gates further in hold before it waits', () =>
      idle(({ watch, lines, flush, at }) => {
        const one = new Semaphore({ limit: 1 });
        watch(attempts(failing(1, DOWN), later(1, 'a')).pipe(bulkhead(one), retryThrough(gate())), 'a');
        at(2, () => {
          expect(one.snapshot().inUse).toBe(0);
          watch(later(1, 'b').pipe(bulkhead(one)), 'b');
        });
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['3 b next b', '7 a next a']);
      }));

    it('a refusal of a gate further in is not tried again, unless classify says so', () =>
      idle(({ watch, lines, flush, at }) => {
        const full = new Semaphore({ limit: 1, maxQueue: 0 });
        const holder = watch(NEVER.pipe(bulkhead(full)));
        at(7, () => holder.unsubscribe());
        watch(of('a').pipe(bulkhead(full), retryThrough(gate())), 'a');
        watch(of('b').pipe(bulkhead(full), retryThrough(gate(), { classify: () => 'transient' })), 'b');
        flush();
        expect(lines[0]).toMatch(/^0 a error Semaphore/);
        expect(lines.slice(1)).toEqual(['15 b next b', '15 b complete']);
      }));

    it('a call below a probe that asks the same gate does not wait for ever', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate({ probeMaxMs: 50 });
        const inner = defer(() => of('inner').pipe(retryThrough(shared)));
        watch(attempts(busy, inner).pipe(retryThrough(shared)));
        flush();
        expect(lines).toEqual(['55 next inner', '55 complete']);
      }));

    it('a scope that is cancelled while a call waits takes it out of the line', () =>
      virtual(({ watch, lines, flush, at }) => {
        const shared = gate();
        watch(
          scoped((scope) => (at(3, () => scope.cancel('enough')), attempts(busy, of('a')).pipe(retryThrough(shared)))),
          'one',
        );
        flush();
        expect(lines.map((line) => line.slice(0, 7))).toEqual(['3 one c']);
        expect(shared.snapshot().waiting).toBe(0);
      }));
  });

  describe('re-entrance', () => {
    it('whoever subscribes again when told of an error waits like everybody else', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate({ maxElapsedMs: 3 });
        const again = (): void => void watch(of('again').pipe(retryThrough(shared)), 'again');
        busy.pipe(retryThrough(shared)).subscribe({ error: again });
        flush();
        expect(lines).toEqual(['5 again next again', '5 again complete']);
      }));

    it('whoever subscribes while a value is told does not pass those who wait #16', () =>
      idle(({ watch, lines, flush }) => {
        const shared = gate();
        attempts(busy, later(1, 'p'))
          .pipe(retryThrough(shared))
          .subscribe({ complete: () => watch(of('new').pipe(retryThrough(shared)), 'new') });
        watch(of('old').pipe(retryThrough(shared)), 'old');
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['6 old next old', '6 new next new']);
      }));

    it('a waiting call that another one unsubscribes while it is being let in is skipped', () =>
      idle(({ watch, lines, flush, note }) => {
        const shared = gate({ slowStart: { initial: 9 } });
        const calls: (() => void)[] = [];
        attempts(
          busy,
          defer(() => (calls.forEach((stop) => stop()), of('p'))),
        )
          .pipe(retryThrough(shared))
          .subscribe();
        for (const name of ['a', 'b', 'c']) {
          const sub = watch(defer(() => (note(`${name} starts`), of(name))).pipe(retryThrough(shared)), name);
          if (name !== 'c') calls.push(() => sub.unsubscribe());
        }
        flush();
        expect(lines).toEqual(['5 c starts', '5 c next c', '5 c complete']);
      }));

    it('a subscriber that throws does not hold up the others', () => {
      const uncaught: unknown[] = [];
      expect(() =>
        virtual(({ watch, lines, flush }) => {
          const shared = gate();
          attempts(busy, of('p'))
            .pipe(retryThrough(shared))
            .subscribe(() => {
              throw new Error('mine');
            });
          watch(of('a').pipe(retryThrough(shared)), 'a');
          try {
            flush();
          } catch (error) {
            uncaught.push(error);
            flush();
          }
          expect(lines).toEqual(['5 a next a', '5 a complete']);
        }),
      ).not.toThrow();
      expect(String(uncaught[0])).toContain('mine');
    });
  });

  it('a disposed gate refuses whoever waits and whoever comes; an attempt in flight ends with its own error #C10', () =>
    idle(({ at, flush }) => {
      const shared = gate();
      const errors: unknown[] = [];
      const call = (source: Observable<unknown>): void =>
        void source.pipe(retryThrough(shared)).subscribe({ error: (error) => errors.push(error) });
      call(failing(10, DOWN));
      call(attempts(failing(1, DOWN), of('x')));
      call(busy);
      call(of('parked'));
      at(2, () => {
        shared.dispose();
        shared.dispose();
        call(of('late'));
        expect(errors.map(isResourceDisposedError)).toEqual([true, true, true, true]);
      });
      flush();
      expect(errors[4]).toBe(DOWN);
    }));

  it('options are checked by name when the operator is called #C9', () => {
    expect(() => retryThrough(gate(), { maxAttempts: 0 })).toThrow('retryThrough: maxAttempts must be an integer of at least 1');
    expect(() => retryThrough(gate(), { retryPartial: 1 as never })).toThrow('retryThrough: retryPartial must be true or false, got 1.');
    expect(() => retryThrough(gate(), { classify: 'x' as never })).toThrow(TypeError);
    expect(() => retryThrough({} as never)).toThrow('retryThrough: gate must be a gate');
  });
});
