import { concat, defer, EMPTY, firstValueFrom, from, merge, NEVER, Observable, of, Subject, take, throwError, timer } from 'rxjs';
import { fanOutScoped, failWithin, scoped, takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import type { CircuitBreakerOptions, CircuitWindowOptions } from '../../src/gates/breakerOptions.js';
import { CircuitBreaker } from '../../src/gates/circuitBreaker.js';
import { BulkheadFullError, isCircuitOpenError, isCircuitTrippedError } from '../../src/gates/errors.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { circuitBreak } from '../../src/operators/circuitBreak.js';
import { briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { failing, later, pause, torn, virtual, type Virtual } from '../support/virtual.js';

const boom = new Error('boom');
const fail = throwError(() => boom);

function breaker(options: CircuitBreakerOptions = {}): CircuitBreaker {
  return new CircuitBreaker({ name: 'model', openMs: 10, ...(options.window === undefined && { failures: 1 }), ...options });
}

/** One that has tripped in this frame. */
function tripped(options: CircuitBreakerOptions = {}): CircuitBreaker {
  const circuit = breaker(options);
  circuit.trip('test');
  return circuit;
}

const window: CircuitWindowOptions = { kind: 'count', size: 10, min: 2, rate: 0.5 };

/** What it says of a call in brief. */
const OPEN = (ms: number, why = 'open'): string => `Circuit breaker "model" is ${why}; it lets a probe through in ${ms} ms.`;
const TRIPPED = 'Circuit breaker "model" tripped while this call was in flight, so it was stopped: boom';

describe('circuitBreak', () => {
  describe('while it is closed', () => keepsTheContract(() => circuitBreak(new CircuitBreaker({ failures: 1000 })), 'boom'));

  it('#2.1 stops the calls in flight in the frame of the failure, and makes no others until it is half-open', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const circuit = breaker();
      const guilty = cold('---#', undefined, boom);
      const victim = cold('-a---b|');
      const refused = cold('-b|');
      const probe = cold('-c|');
      const protect = circuitBreak<string>(circuit);
      expectObservable(guilty.pipe(protect, briefly())).toBe('---#', undefined, 'boom');
      expectObservable(victim.pipe(protect, briefly())).toBe('-a-#', undefined, TRIPPED);
      expectObservable(refused.pipe(protect, briefly()), '------^').toBe('------#', undefined, OPEN(7));
      expectObservable(probe.pipe(protect), '-------------^').toBe('--------------c|');
      expectSubscriptions(guilty.subscriptions).toBe('^--!');
      expectSubscriptions(victim.subscriptions).toBe('^--!');
      expectSubscriptions(refused.subscriptions).toBe([]);
      expectSubscriptions(probe.subscriptions).toBe('-------------^-!');
    }));

  it('#6 an open breaker does not subscribe the source', () =>
    virtual(({ watch, lines, flush }) => {
      let subscribed = 0;
      watch(defer(() => of(++subscribed)).pipe(circuitBreak(tripped())));
      flush();
      expect([subscribed, lines]).toEqual([0, [`0 error ${OPEN(10)}`]]);
    }));

  it('#7 an open breaker refuses before the source could throw while it is being subscribed', () =>
    virtual(({ watch, lines, flush }) => {
      const throws = new Observable<string>(() => {
        throw boom;
      });
      watch(throws.pipe(circuitBreak(tripped())), 'open');
      watch(throws.pipe(circuitBreak(breaker())), 'closed');
      flush();
      expect(lines).toEqual([`0 open error ${OPEN(10)}`, '0 closed error boom']);
    }));

  it('#1 a half-open breaker gives a probe’s place back that is unsubscribed before a value', () =>
    virtual(({ at, watch, lines, flush }) => {
      const circuit = tripped();
      at(10, () => {
        const probe = watch(NEVER.pipe(circuitBreak(circuit)), 'probe');
        watch(of('x').pipe(circuitBreak(circuit)), 'other');
        at(5, () => probe.unsubscribe());
      });
      at(16, () => watch(later(1, 'x').pipe(circuitBreak(circuit)), 'next'));
      at(16, () => expect(circuit.state).toBe('halfOpen'));
      flush();
      expect(lines).toEqual([`10 other error ${OPEN(10, 'half-open and its probes are out')}`, '17 next next x', '17 next complete']);
      expect(circuit.state).toBe('closed');
    }));

  it('#2 take(1) on a probe is a success', () =>
    virtual(({ at, flush }) => {
      const circuit = tripped();
      at(10, () => concat(of('a'), NEVER).pipe(circuitBreak(circuit), take(1)).subscribe());
      flush();
      expect(circuit.state).toBe('closed');
    }));

  it('#2.1 firstValueFrom on a probe is a success, in real time', async () => {
    const circuit = breaker({ openMs: 1 });
    circuit.trip();
    await new Promise((resolve) => setTimeout(resolve, 3));
    await firstValueFrom(concat(of('a'), NEVER).pipe(circuitBreak(circuit)));
    expect(circuit.state).toBe('closed');
  });

  it('#3 a source that completes without a value is a success', () =>
    virtual(({ at, flush }) => {
      const circuit = tripped({ isFailureResult: () => true });
      at(10, () => EMPTY.pipe(circuitBreak(circuit)).subscribe());
      flush();
      expect(circuit.state).toBe('closed');
    }));

  it('#2.1 with cancelAfterValue neutral, for the breaker or for the call, a cancel after a value counts for nothing', () =>
    virtual(({ at, flush }) => {
      const one = tripped({ cancelAfterValue: 'neutral' });
      const two = tripped();
      at(10, () => {
        const source = concat(of('a'), NEVER);
        source.pipe(circuitBreak(one), take(1)).subscribe();
        source.pipe(circuitBreak(two, { cancelAfterValue: 'neutral' }), take(1)).subscribe();
        expect([one.state, two.state]).toEqual(['halfOpen', 'halfOpen']);
        source.pipe(circuitBreak(one, { cancelAfterValue: 'success' }), take(1)).subscribe();
        source.pipe(circuitBreak(two), take(1)).subscribe();
      });
      flush();
      expect([one.state, two.state]).toEqual(['closed', 'closed']);
    }));

  it('#2.1 a result may be a failure, as the breaker or the call has it; also where take(1) leaves after it', () =>
    virtual(({ watch, lines, flush }) => {
      const bad = (last: unknown): boolean => last === 'no';
      const circuits = [breaker({ isFailureResult: bad }), breaker(), breaker({ isFailureResult: bad }), breaker({ isFailureResult: bad })];
      const [own, perCall, left, fine] = circuits as [CircuitBreaker, CircuitBreaker, CircuitBreaker, CircuitBreaker];
      watch(of('yes', 'no').pipe(circuitBreak(own)), 'own');
      watch(of('yes', 'no').pipe(circuitBreak(perCall, { isFailureResult: bad })), 'per call');
      watch(concat(of('no'), NEVER).pipe(circuitBreak(left), take(1)), 'left');
      watch(of('no', 'yes').pipe(circuitBreak(fine)), 'fine');
      flush();
      expect(circuits.map(({ state }) => state)).toEqual(['open', 'open', 'open', 'closed']);
      expect(lines.filter((line) => line.includes('error'))).toEqual([]);
      expect(lines.filter((line) => line.includes('complete'))).toHaveLength(4);
    }));

  it('#C8 counts transient and unknown errors; throttles, refusals and what the other side will not do count for nothing', () =>
    virtual(() => {
      const states = (...errors: unknown[]): string => {
        const circuit = breaker({ failures: errors.length });
        for (const error of errors)
          throwError(() => error)
            .pipe(circuitBreak(circuit))
            .subscribe({ error: () => undefined });
        return circuit.state;
      };
      expect(states({ status: 500 })).toBe('open');
      expect(states(boom)).toBe('open');
      expect(states({ code: 'ECONNRESET' })).toBe('open');
      for (const status of [429, 400, 401, 404, 529])
        expect(states({ status }, { status }, { status }, { status }, { status })).toBe('closed');
      expect(states(new BulkheadFullError('pool', 1, 1, 0))).toBe('closed');
    }));

  it('#C8 five throttles or bad requests do not stop a healthy stream', () =>
    virtual(({ watch, lines, flush, at }) => {
      const circuit = new CircuitBreaker({ name: 'model' });
      watch(later(10, 'paid').pipe(circuitBreak(circuit)));
      for (let i = 0; i < 5; i++) {
        at(i, () =>
          throwError(() => ({ status: 429 }))
            .pipe(circuitBreak(circuit))
            .subscribe({ error: () => undefined }),
        );
        at(i, () =>
          throwError(() => ({ status: 400 }))
            .pipe(circuitBreak(circuit))
            .subscribe({ error: () => undefined }),
        );
      }
      flush();
      expect(lines).toEqual(['10 next paid', '10 complete']);
    }));

  it('#41 an error that tells nothing gives the probe’s place back and closes nothing', () =>
    virtual(({ at, flush }) => {
      const circuit = tripped();
      at(10, () => {
        throwError(() => ({ status: 400 }))
          .pipe(circuitBreak(circuit))
          .subscribe({ error: () => undefined });
        expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 0, total: 0 });
        of(1).pipe(circuitBreak(circuit)).subscribe();
      });
      flush();
      expect(circuit.state).toBe('closed');
    }));

  it('classify may say otherwise, for the breaker or for the call', () =>
    virtual(({ flush }) => {
      const one = breaker({ classify: () => 'fatal' });
      const two = breaker({ classify: () => 'fatal' });
      fail.pipe(circuitBreak(one)).subscribe({ error: () => undefined });
      fail.pipe(circuitBreak(two, { classify: () => 'transient' })).subscribe({ error: () => undefined });
      flush();
      expect([one.state, two.state]).toEqual(['closed', 'open']);
    }));

  it('#48 #D6 calls that a bulkhead below refuses count for nothing', () =>
    virtual(({ flush }) => {
      const circuit = breaker({ window });
      const pool = new Semaphore({ name: 'pool', limit: 1, maxQueue: 0 });
      const errors: string[] = [];
      const call = (): Observable<never> => NEVER.pipe(bulkhead(pool), circuitBreak(circuit));
      const running = call().subscribe();
      for (let i = 0; i < 20; i++) call().subscribe({ error: (error: Error) => errors.push(error.name) });
      expect(new Set(errors)).toEqual(new Set(['BulkheadFullError']));
      expect(circuit.snapshot()).toMatchObject({ state: 'closed', total: 0, inFlight: 1 });
      running.unsubscribe();
      flush();
      expect(circuit.snapshot()).toMatchObject({ total: 0, inFlight: 0 });
    }));

  it('#D7 a timeout is the failure of one call, and stops no other before the breaker trips', () =>
    virtual(({ watch, lines, flush, now }) => {
      const circuit = breaker({ failures: 2 });
      watch(NEVER.pipe(failWithin(5), circuitBreak(circuit)), 'slow');
      watch(later(9, 'ok').pipe(circuitBreak(circuit)), 'other');
      flush();
      expect(lines).toEqual(['5 slow error Deadline(5)', '9 other next ok', '9 other complete']);
      expect([circuit.state, now()]).toEqual(['closed', 9]);
    }));

  it('#C8 #C12 a deadline below it is a failure', () =>
    virtual(({ flush }) => {
      const circuit = breaker();
      NEVER.pipe(failWithin(5), circuitBreak(circuit)).subscribe({ error: () => undefined });
      flush();
      expect(circuit.state).toBe('open');
    }));

  it('#45 slow successes trip it', () =>
    virtual(({ flush, watch, lines }) => {
      const circuit = breaker({ window: { ...window, slowMs: 5, slowRate: 1 }, openMs: 100 });
      for (const ms of [5, 6, 20]) watch(later(ms, ms).pipe(circuitBreak(circuit)), `${ms}`);
      flush();
      expect(lines).toEqual([
        '5 5 next 5',
        '5 5 complete',
        '6 6 next 6',
        '6 20 error Circuit breaker "model" tripped while this call was in flight, so it was stopped: "2 of 2 calls took 5 ms or more"',
        '6 6 complete',
      ]);
    }));

  it('#2.1 #45 an outer timeout trips it: an unsubscribe counts as slow from slowMs on, whatever was emitted', () =>
    virtual(({ flush }) => {
      const trippedBy = (ms: number, source: Observable<unknown>, options: CircuitBreakerOptions = {}): CircuitBreaker => {
        const circuit = breaker({ window: { ...window, slowMs: 5 }, ...options });
        for (let i = 0; i < 2; i++) source.pipe(circuitBreak(circuit), takeWithin(ms)).subscribe();
        return circuit;
      };
      const value = concat(of('a'), NEVER);
      const circuits = [
        trippedBy(5, NEVER),
        trippedBy(5, value),
        trippedBy(5, value, { cancelAfterValue: 'neutral' }),
        trippedBy(4, NEVER),
        trippedBy(4, value, { cancelAfterValue: 'neutral' }),
        trippedBy(4, value),
      ];
      flush();
      expect(circuits.map(({ state }) => state)).toEqual(['open', 'open', 'open', 'closed', 'closed', 'closed']);
      expect(circuits.slice(3).map((circuit) => circuit.snapshot().total)).toEqual([0, 0, 2]);
    }));

  it('#C12 the time that a call waits further in is not its time', () =>
    virtual(({ flush }) => {
      const circuit = breaker({ window: { kind: 'count', size: 10, min: 1, rate: 1, slowMs: 5 } });
      const pool = new Semaphore({ limit: 1 });
      for (let i = 0; i < 4; i++) later(4, i).pipe(bulkhead(pool), circuitBreak(circuit)).subscribe();
      const waiting = NEVER.pipe(bulkhead(pool), circuitBreak(circuit)).subscribe();
      timer(15).subscribe(() => waiting.unsubscribe());
      flush();
      expect(circuit.snapshot()).toMatchObject({ state: 'closed', total: 4, slow: 0, failed: 0 });
    }));

  it('#C12 a trip also takes out calls that still wait further in, and they are never made', () =>
    virtual(({ at, watch, lines, flush }) => {
      const circuit = breaker();
      const pool = new Semaphore({ name: 'pool', limit: 2 });
      let made = 0;
      const waiting = defer(() => of(++made)).pipe(bulkhead(pool), circuitBreak(circuit));
      watch(failing(3, boom).pipe(bulkhead(pool), circuitBreak(circuit)), 'guilty');
      watch(NEVER.pipe(bulkhead(pool), circuitBreak(circuit)), 'running');
      watch(waiting, 'waiting');
      at(5, () => expect(pool.snapshot()).toMatchObject({ inUse: 0, waiting: 0 }));
      flush();
      expect(lines).toEqual([`3 running error ${TRIPPED}`, `3 waiting error ${TRIPPED}`, '3 guilty error boom']);
      expect(made).toBe(0);
    }));

  it('#C2 each subscription is a call of its own', () =>
    virtual(({ flush }) => {
      const circuit = breaker({ failures: 3 });
      const call = fail.pipe(circuitBreak(circuit));
      expect(circuit.snapshot().total).toBe(0);
      call.subscribe({ error: () => undefined });
      call.subscribe({ error: () => undefined });
      expect(circuit.state).toBe('closed');
      call.subscribe({ error: () => undefined });
      expect(circuit.state).toBe('open');
      flush();
    }));

  it('#C4 downstream hears of an end after the source is torn down and the outcome is counted', () =>
    virtual(({ note, watch, lines, flush }) => {
      const circuit = breaker({ failures: 3 });
      watch(torn(() => note(`torn down, ${circuit.snapshot().inFlight} in flight`), fail).pipe(circuitBreak(circuit)));
      circuit.state$.subscribe(({ failed, inFlight }) => note(`${failed} failed, ${inFlight} in flight`));
      watch(torn(() => note('torn down'), failing(1, boom)).pipe(circuitBreak(circuit)));
      flush();
      expect(lines).toEqual([
        '0 torn down, 1 in flight',
        '0 error boom',
        '0 1 failed, 0 in flight',
        '0 1 failed, 1 in flight',
        '1 torn down',
        '1 2 failed, 0 in flight',
        '1 error boom',
      ]);
    }));

  it('#C6 a classify or an isFailureResult that throws fails its own call only, and gives its place back', () =>
    virtual(({ at, watch, lines, flush }) => {
      const bad = (): never => {
        throw new Error('bad callback');
      };
      const circuit = tripped();
      at(10, () => {
        watch(fail.pipe(circuitBreak(circuit, { classify: bad })), 'classify');
        watch(of('a').pipe(circuitBreak(circuit, { isFailureResult: bad })), 'result');
        watch(fail.pipe(circuitBreak(circuit, { classify: () => 'wrong' as never })), 'wrong');
        expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 0, inFlight: 0 });
        watch(of('ok').pipe(circuitBreak(circuit)), 'next');
      });
      flush();
      expect(lines).toEqual([
        '10 classify error bad callback',
        '10 result next a',
        '10 result error bad callback',
        '10 wrong error Gate "model": what classify returned of this call must be one of throttle, transient, fatal, local, unknown, got "wrong".',
        '10 next next ok',
        '10 next complete',
      ]);
    }));

  it('#C6 an isFailureResult that throws where nobody listens any more is reported', () => {
    expect(() =>
      virtual(({ at, flush }) => {
        const circuit = tripped();
        const bad = (): never => {
          throw new Error('bad callback');
        };
        at(10, () =>
          concat(of('a'), NEVER)
            .pipe(circuitBreak(circuit, { isFailureResult: bad }), take(1))
            .subscribe(),
        );
        at(11, () => expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 0, inFlight: 0 }));
        flush();
      }),
    ).toThrow('bad callback');
  });

  it('#C6 100,000 synchronous calls, good, bad and refused, use no stack', () =>
    virtual(({ flush }) => {
      const circuit = new CircuitBreaker({ failures: 100_001 });
      let [seen, failed, refused] = [0, 0, 0];
      const again = (left: number): void => {
        if (left === 0) return;
        of(left)
          .pipe(circuitBreak(circuit))
          .subscribe(() => seen++);
        fail.pipe(circuitBreak(circuit)).subscribe({ error: () => failed++ });
      };
      for (let i = 0; i < 100_000; i++) again(1);
      circuit.trip();
      for (let i = 0; i < 100_000; i++)
        of(i)
          .pipe(circuitBreak(circuit))
          .subscribe({ error: () => refused++ });
      expect([seen, failed, refused]).toEqual([100_000, 100_000, 100_000]);
      from(new Array(10_000).keys())
        .pipe(fanOutScoped(() => of(1).pipe(circuitBreak(new CircuitBreaker()))))
        .subscribe(() => seen++);
      expect(seen).toBe(110_000);
      flush();
    }));

  it('#35 100,000 refusals hold one cause, and their chain does not grow', () =>
    virtual(({ flush }) => {
      const circuit = breaker({ openMs: 1_000_000 });
      fail.pipe(circuitBreak(circuit)).subscribe({ error: () => undefined });
      let last: unknown;
      const first: unknown[] = [];
      for (let i = 0; i < 100_000; i++) {
        throwError(() => last)
          .pipe(circuitBreak(circuit))
          .subscribe({ error: (error: unknown) => (last = error) });
        if (i === 0) first.push(last);
      }
      const chain = (error: unknown): unknown[] => (error instanceof Error ? [error.message, ...chain(error.cause)] : []);
      expect(chain(last)).toEqual([OPEN(1_000_000), 'boom']);
      expect((last as Error).stack?.length).toBe((first[0] as Error).stack?.length);
      flush();
    }));

  it('#C7 works in virtual time after it tripped in real time, and the other way round', () => {
    const circuit = breaker({ openMs: 30 });
    circuit.trip();
    expect(circuit.snapshot()).toMatchObject({ state: 'open' });
    virtual(({ at, flush }) => {
      const errors: unknown[] = [];
      of(1)
        .pipe(circuitBreak(circuit))
        .subscribe({ error: (error: unknown) => errors.push(error) });
      expect(errors.filter(isCircuitOpenError)).toHaveLength(1);
      at(31, () => of(1).pipe(circuitBreak(circuit)).subscribe());
      flush();
      expect(circuit.state).toBe('closed');
    });
    virtual(() => circuit.trip());
    of(1).pipe(circuitBreak(circuit)).subscribe();
    expect(circuit.state).toBe('closed');
  });

  it('#2.1 an end after the end and a second unsubscribe change nothing', () =>
    virtual(({ flush }) => {
      const circuit = breaker({ window });
      const rude = new Observable<string>((out) => {
        const { error, complete } = out;
        for (const end of [error, error, complete]) end.call(out, boom);
      });
      const call = rude.pipe(circuitBreak(circuit)).subscribe({ error: () => undefined });
      call.unsubscribe();
      call.unsubscribe();
      flush();
      expect(circuit.snapshot()).toMatchObject({ total: 1, failed: 1, inFlight: 0 });
    }));

  it('a call that its scope cancels is neither success nor failure', () =>
    virtual(({ at, flush }) => {
      const circuit = breaker({ window });
      scoped((scope) => {
        at(3, () => scope.cancel());
        return merge(NEVER, NEVER).pipe(circuitBreak(circuit));
      }).subscribe();
      const source = new Subject<never>();
      from([0, 1, 2])
        .pipe(fanOutScoped((n) => (n === 2 ? failing(5, 'sibling') : source.pipe(circuitBreak(circuit)))))
        .subscribe({ error: () => undefined });
      flush();
      expect(circuit.snapshot()).toMatchObject({ total: 0, inFlight: 0, state: 'closed' });
    }));

  it('a victim that is slow to stop is told once it has stopped; everybody else at once', () =>
    virtual(({ at, watch, lines, flush }: Virtual) => {
      const circuit = breaker();
      const deaf = scoped((scope) => torn(() => scope.track(pause(4)), NEVER));
      watch(deaf.pipe(circuitBreak(circuit)), 'deaf');
      watch(NEVER.pipe(circuitBreak(circuit)), 'quick');
      watch(failing(2, boom).pipe(circuitBreak(circuit)), 'guilty');
      at(3, () => expect(circuit.snapshot()).toMatchObject({ inFlight: 0, lateResults: 0 }));
      flush();
      expect(lines).toEqual([`2 quick error ${TRIPPED}`, '2 guilty error boom', `6 deaf error ${TRIPPED}`]);
    }));

  it('what fails while a victim is being stopped comes with its error', () =>
    virtual(({ flush }) => {
      const circuit = breaker();
      const errors: unknown[] = [];
      const clumsy = new Observable<never>(() => () => {
        throw new Error('clumsy');
      });
      clumsy.pipe(circuitBreak(circuit)).subscribe({ error: (error: unknown) => errors.push(error) });
      circuit.trip(boom);
      flush();
      expect(errors.every(isCircuitTrippedError)).toBe(true);
      expect(errors).toMatchObject([{ gate: 'model', cause: boom, suppressed: [{ message: 'clumsy' }] }]);
    }));

  it('bad options throw when the operator is called', () => {
    const circuit = breaker();
    expect(() => circuitBreak(circuit, { classify: 5 as never })).toThrow(
      new TypeError('circuitBreak: classify must be a function, got 5.'),
    );
    expect(() => circuitBreak(circuit, { isFailureResult: true as never })).toThrow(TypeError);
    expect(() => circuitBreak(circuit, { cancelAfterValue: 'failure' as never })).toThrow(RangeError);
    expect(() => circuitBreak({} as never)).toThrow('circuitBreak: gate must be a gate');
  });
});
