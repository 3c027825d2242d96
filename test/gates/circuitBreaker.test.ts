import { AsyncLocalStorage } from 'node:async_hooks';
import { asyncScheduler, concat, EMPTY, NEVER, Observable, of, throwError, type SchedulerLike } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { CircuitBreakerOptions, CircuitTrip } from '../../src/gates/breakerOptions.js';
import { CircuitBreaker } from '../../src/gates/circuitBreaker.js';
import { isCircuitIsolatedError, isCircuitOpenError, isGateError, isResourceDisposedError } from '../../src/gates/errors.js';
import type { Gate } from '../../src/gates/gate.js';
import type { GateEvent } from '../../src/gates/events.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { admit } from '../../src/operators/admit.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { circuitBreak } from '../../src/operators/circuitBreak.js';
import { failing, later, virtual } from '../support/virtual.js';

const boom = new Error('boom');
const fail = throwError(() => boom);
const quiet = { error: () => undefined };

function make(options: CircuitBreakerOptions = {}): CircuitBreaker {
  return new CircuitBreaker({ name: 'model', openMs: 10, ...(options.window === undefined && { failures: 1 }), ...options });
}

function call(circuit: CircuitBreaker, source: Observable<unknown> = of(1)): void {
  source.pipe(circuitBreak(circuit)).subscribe(quiet);
}

/** One line for each event. */
function eventsOf(circuit: CircuitBreaker): string[] {
  const lines: string[] = [];
  circuit.events$.subscribe((event) => lines.push(line(event)));
  return lines;
}

function line(event: GateEvent): string {
  switch (event.type) {
    case 'state':
      return `${event.from} > ${event.to}`;
    case 'tripped':
      return `tripped ${event.cancelled}: ${event.cause instanceof Error ? event.cause.message : String(event.cause)}`;
    case 'settled':
      return `settled ${event.end}`;
    case 'refused':
    case 'revoked':
      return `${event.type} ${event.error.name}`;
    default:
      return event.type;
  }
}

/** Tells the time, and fails a test that wants a timer. */
function clock(start = 1_700_000_000_000): SchedulerLike & { at: number } {
  return {
    at: start,
    now() {
      return this.at;
    },
    schedule: () => {
      throw new Error('a timer was asked for');
    },
  };
}

describe('CircuitBreaker', () => {
  it('#27 trips on the fifth failure in a row by default, for 30 s, and lets one probe in', () => {
    const scheduler = clock();
    const circuit = new CircuitBreaker({ scheduler });
    for (let n = 0; n < 4; n++) call(circuit, fail);
    call(circuit);
    for (let n = 0; n < 4; n++) call(circuit, fail);
    expect(circuit.state).toBe('closed');
    call(circuit, fail);
    expect(circuit.snapshot()).toMatchObject({ name: 'circuit', state: 'open', retryAfterMs: 30_000 });
    scheduler.at += 29_999;
    call(circuit);
    expect(circuit.state).toBe('open');
    scheduler.at += 1;
    call(circuit, NEVER);
    call(circuit);
    expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 1, inFlight: 1 });
  });

  it('#28 trips on a share of failures once there are enough calls', () => {
    const circuit = make({ window: { kind: 'count', size: 10, min: 4, rate: 0.5 } });
    for (const source of [fail, fail, of(1)]) call(circuit, source);
    expect(circuit.snapshot()).toMatchObject({ state: 'closed', total: 3, failed: 2, slow: 0 });
    call(circuit);
    expect(circuit.snapshot()).toMatchObject({ state: 'open', total: 0, failed: 0 });
  });

  it('#29 #D1 after an idle hour a failure is the only one in a time window', () => {
    const scheduler = clock();
    const circuit = make({ window: { kind: 'time', size: 5000, min: 22, rate: 0.5 }, scheduler });
    for (let n = 0; n < 21; n++) call(circuit, fail);
    scheduler.at += 3_600_000;
    expect(circuit.snapshot().total).toBe(0);
    call(circuit, fail);
    expect(circuit.snapshot()).toMatchObject({ state: 'closed', total: 1, failed: 1 });
  });

  it('#31 #D2 #D9 ends of calls from before the trip neither open nor close a half-open breaker', () => {
    const scheduler = clock();
    const circuit = make({ cancelInFlight: false, scheduler });
    const ends: (() => void)[] = [];
    const held = new Observable<never>((out) => void ends.push(() => out.error(boom)));
    const fine = new Observable<never>((out) => void ends.push(() => out.complete()));
    call(circuit, held);
    call(circuit, fine);
    call(circuit, fail);
    scheduler.at += 10;
    call(circuit, fine);
    for (const end of ends.slice(0, 2)) end();
    expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 1, lateResults: 2, inFlight: 1 });
    ends[2]?.();
    expect(circuit.state).toBe('closed');
  });

  it('#C12 a gate further in that throws or refuses gives a probe’s place back', () => {
    const scheduler = clock();
    const circuit = make({ scheduler });
    const pool = new Semaphore({ limit: 1, scheduler });
    circuit.trip();
    scheduler.at += 10;
    pool.dispose();
    call(circuit, of(1).pipe(bulkhead(pool)));
    expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 0, inFlight: 0 });
    call(circuit);
    expect(circuit.state).toBe('closed');
  });

  it('#C12 a call that was never made is no failure, whatever the gate further in refused it with', () => {
    const circuit = make();
    const gate: Gate<void> = {
      name: 'own',
      enter: (_ask, _call, caller) => {
        caller.refused(boom);
        return () => undefined;
      },
    };
    call(circuit, of(1).pipe(admit(gate, undefined)));
    expect(circuit.snapshot()).toMatchObject({ state: 'closed', total: 0, inFlight: 0 });
  });

  describe('openMs', () => {
    it('may be a function that knows the attempt and the cause', () => {
      const scheduler = clock();
      const trips: CircuitTrip[] = [];
      const circuit = make({ scheduler, openMs: (trip) => trips.push(trip) * 100 });
      call(circuit, fail);
      expect(circuit.snapshot()).toMatchObject({ retryAfterMs: 100 });
      scheduler.at += 100;
      call(circuit, fail);
      expect(circuit.snapshot()).toMatchObject({ retryAfterMs: 200, attempt: 2 });
      circuit.reset();
      circuit.trip('x');
      expect(trips).toEqual([
        { attempt: 1, cause: boom },
        { attempt: 2, cause: boom },
        { attempt: 1, cause: 'x' },
      ]);
    });

    it('jitter adds up to jitterMs to it', () => {
      const scheduler = clock();
      const values = [0, 0.5, 1 - Number.EPSILON];
      const circuit = make({ scheduler, openMs: 100, jitterMs: 50, random: () => values.shift() ?? 0 });
      const seen = [0, 0, 0].map(() => {
        circuit.trip();
        return circuit.snapshot().retryAfterMs;
      });
      expect(seen).toEqual([100, 125, 150]);
    });

    it.each<[string, () => number]>([
      ['throws', () => JSON.parse('no') as number],
      ['gives NaN', () => NaN],
      ['gives a negative number', () => -1],
      ['gives Infinity', () => Infinity],
      ['gives no number', () => 'soon' as never],
      ['gives a number in words', () => '5' as never],
    ])('a function that %s is reported; the breaker is open for 30 s and the calls in flight are stopped', (_, openMs) => {
      const reported: string[] = [];
      const scheduler: SchedulerLike = {
        now: () => 5,
        schedule: ((work: (this: never) => void) => {
          expect(() => work.call(undefined as never)).toThrow();
          reported.push('reported');
          return EMPTY.subscribe();
        }) as SchedulerLike['schedule'],
      };
      const circuit = make({ scheduler, openMs });
      let victim = '';
      NEVER.pipe(circuitBreak(circuit)).subscribe({ error: (error: Error) => (victim = error.name) });
      call(circuit, fail);
      expect([victim, reported]).toEqual(['CircuitTrippedError', ['reported']]);
      expect(circuit.snapshot()).toMatchObject({ state: 'open', retryAfterMs: 30_000 });
    });

    it('jitter takes Math.random by default, and a random that is out of range is reported', () => {
      const circuit = make({ openMs: 100, jitterMs: 50 });
      circuit.trip();
      expect(circuit.snapshot().retryAfterMs).toBeGreaterThan(90);
      expect(circuit.snapshot().retryAfterMs).toBeLessThanOrEqual(150);
      expect(() =>
        virtual(({ flush }) => {
          make({ openMs: 100, jitterMs: 50, random: () => -1 }).trip();
          flush();
        }),
      ).toThrow('openMs with its jitter of this call must be a number of milliseconds, 0 or more, got 50');
    });

    it('a function that trips the breaker again leaves the time of the later trip', () => {
      const circuit: CircuitBreaker = make({
        scheduler: clock(),
        openMs: ({ attempt }) => {
          if (attempt === 1) circuit.trip();
          return attempt * 100;
        },
      });
      circuit.trip();
      expect(circuit.snapshot()).toMatchObject({ attempt: 2, retryAfterMs: 200 });
    });

    it('a function that resets the breaker is not overruled', () => {
      const circuit: CircuitBreaker = make({
        openMs: () => {
          circuit.reset();
          return 100;
        },
      });
      call(circuit, fail);
      expect(circuit.snapshot()).toMatchObject({ state: 'closed', attempt: 0, retryAfterMs: 0 });
      circuit.trip();
      call(circuit, of(1));
      expect(circuit.state).toBe('closed');
    });
  });

  describe('isolate', () => {
    it('#38 holds until every handle is disposed; disposing one twice counts once', () => {
      const circuit = make();
      const [one, two] = [circuit.isolate(), circuit.isolate()];
      one.dispose();
      one.dispose();
      expect(circuit.state).toBe('isolated');
      two[Symbol.dispose]();
      two.dispose();
      expect(circuit.snapshot()).toMatchObject({ state: 'closed', generation: 2 });
      const three = circuit.isolate();
      one.dispose();
      expect(circuit.state).toBe('isolated');
      three.dispose();
      expect(circuit.state).toBe('closed');
    });

    it('refuses with CircuitIsolatedError, stops what is in flight with the same, and begins with a fresh window', () => {
      const circuit = make({ failures: 2 });
      const errors: unknown[] = [];
      const watch = (source: Observable<unknown>): void =>
        void source.pipe(circuitBreak(circuit)).subscribe({ error: (error: unknown) => errors.push(error) });
      call(circuit, fail);
      watch(NEVER);
      const events = eventsOf(circuit);
      const handle = circuit.isolate();
      watch(of(1));
      expect(errors.map(isCircuitIsolatedError)).toEqual([true, true]);
      expect(errors.map((error) => (error as Error).message)).toEqual([
        'Circuit breaker "model" is isolated by hand, so this call was stopped.',
        'Circuit breaker "model" is isolated by hand.',
      ]);
      handle.dispose();
      call(circuit, fail);
      expect(circuit.state).toBe('closed');
      expect(events).toEqual([
        'closed > isolated',
        'tripped 1: isolated by hand',
        'revoked CircuitIsolatedError',
        'settled cancelled',
        'refused CircuitIsolatedError',
        'isolated > closed',
        'admitted',
        'settled failed',
      ]);
    });

    it('lets calls in flight go on where it is told to, or where the breaker is; their ends are late', () =>
      virtual(({ watch, lines, flush, at }) => {
        const [one, two] = [make(), make({ cancelInFlight: false })];
        watch(later(5, 'one').pipe(circuitBreak(one)));
        watch(later(5, 'two').pipe(circuitBreak(two)));
        one.isolate({ cancelInFlight: false });
        two.isolate();
        at(6, () => expect([one.snapshot().lateResults, two.snapshot().lateResults]).toEqual([1, 1]));
        flush();
        expect(lines).toEqual(['5 next one', '5 complete', '5 next two', '5 complete']);
        const three = make({ cancelInFlight: false });
        watch(NEVER.pipe(circuitBreak(three)), 'three');
        three.isolate();
        three.isolate({ cancelInFlight: true });
        expect(lines.slice(4)).toEqual(['6 three error Circuit breaker "model" is isolated by hand, so this call was stopped.']);
      }));

    it('neither trip nor reset nor time ends it', () => {
      const scheduler = clock();
      const circuit = make({ scheduler });
      const handle = circuit.isolate();
      circuit.trip();
      circuit.reset();
      scheduler.at += 1e9;
      call(circuit);
      expect(circuit.state).toBe('isolated');
      handle.dispose();
      expect(circuit.snapshot()).toMatchObject({ state: 'closed', attempt: 0 });
      circuit.trip();
      circuit.isolate().dispose();
      expect(circuit.state).toBe('closed');
    });

    it('checks its options', () => {
      expect(() => make().isolate({ cancelInFlight: 1 as never })).toThrow(
        new TypeError('isolate: cancelInFlight must be true or false, got 1.'),
      );
    });
  });

  it('reset closes it with nothing counted', () => {
    const circuit = make({ failures: 2 });
    call(circuit, fail);
    circuit.reset();
    call(circuit, fail);
    expect(circuit.state).toBe('closed');
    circuit.trip();
    circuit.reset();
    call(circuit);
    expect(circuit.snapshot()).toMatchObject({ state: 'closed', attempt: 0, total: 0 });
  });

  describe('whileProbing queue', () => {
    const halfOpen = (options: CircuitBreakerOptions = {}): CircuitBreaker => make({ whileProbing: 'queue', ...options });

    it('#2.1 calls wait for the verdict, and go in together when the probe succeeds', () =>
      virtual(({ at, watch, lines, flush }) => {
        const circuit = halfOpen();
        circuit.trip();
        watch(of('x').pipe(circuitBreak(circuit)), 'open');
        at(10, () => {
          watch(later(5, 'p').pipe(circuitBreak(circuit)), 'probe');
          watch(of('1').pipe(circuitBreak(circuit)), 'one');
          watch(of('2').pipe(circuitBreak(circuit)), 'two');
          expect(circuit.snapshot()).toMatchObject({ waiting: 2, inFlight: 1, probing: 1 });
        });
        flush();
        expect(lines).toEqual([
          '0 open error Circuit breaker "model" is open; it lets a probe through in 10 ms.',
          '15 probe next p',
          '15 probe complete',
          '15 one next 1',
          '15 one complete',
          '15 two next 2',
          '15 two complete',
        ]);
        expect(circuit.snapshot()).toMatchObject({ waiting: 0, inFlight: 0 });
      }));

    it('when the probe fails they are refused, and never made', () =>
      virtual(({ at, watch, lines, flush }) => {
        const circuit = halfOpen();
        circuit.trip();
        at(10, () => {
          watch(failing(5, boom).pipe(circuitBreak(circuit)), 'probe');
          watch(of('1').pipe(circuitBreak(circuit)), 'one');
        });
        flush();
        expect(lines).toEqual(['15 one error Circuit breaker "model" is open; it lets a probe through in 10 ms.', '15 probe error boom']);
      }));

    it('a probe that is unsubscribed passes its place to the next in this frame, unless they leave together', () =>
      virtual(({ at, watch, lines, flush }) => {
        const circuit = halfOpen();
        circuit.trip();
        at(10, () => {
          const probe = watch(NEVER.pipe(circuitBreak(circuit)));
          watch(later(1, '1').pipe(circuitBreak(circuit)), 'one');
          at(2, () => probe.unsubscribe());
        });
        at(20, () => circuit.trip());
        at(30, () => {
          const all = [0, 1, 2].map(() => watch(NEVER.pipe(circuitBreak(circuit))));
          at(2, () => all.forEach((each) => each.unsubscribe()));
          at(3, () => expect(circuit.snapshot()).toMatchObject({ waiting: 0, inFlight: 0, probing: 0 }));
        });
        flush();
        expect(lines).toEqual(['13 one next 1', '13 one complete']);
      }));

    it('#44 whoever waits behind a hung probe does not hang: it is given up after probeMaxMs, with the one timer there is', () =>
      virtual(({ at, watch, lines, flush, now }) => {
        const circuit = halfOpen({ probeMaxMs: 7 });
        circuit.trip();
        at(10, () => {
          watch(NEVER.pipe(circuitBreak(circuit)), 'hung');
          watch(of('1').pipe(circuitBreak(circuit)), 'one');
        });
        flush();
        expect(lines).toEqual([
          '17 hung error Circuit breaker "model" tripped while this call was in flight, so it was stopped: "a probe ran for 7 ms without an end"',
          '17 one error Circuit breaker "model" is open; it lets a probe through in 10 ms.',
        ]);
        expect(now()).toBe(17);
      }));

    it('#44 when giving up a probe closes it, those who wait go in before the newcomer that found out', () =>
      virtual(({ at, flush }) => {
        const circuit = halfOpen({ window: { kind: 'count', size: 9, min: 9, rate: 0.6 }, probes: 2 });
        const made: string[] = [];
        const start = (name: string): void =>
          void of(name)
            .pipe(circuitBreak(circuit))
            .subscribe((each) => made.push(each));
        circuit.trip();
        at(20, () => start('newcomer'));
        at(10, () => {
          call(circuit);
          call(circuit, NEVER);
          start('one');
          start('two');
          expect(circuit.snapshot()).toMatchObject({ state: 'halfOpen', probing: 1, waiting: 2, retryAfterMs: 10 });
        });
        at(21, () => circuit.dispose({ cancelInFlight: true }));
        flush();
        expect(made).toEqual(['one', 'two', 'newcomer']);
      }));

    it('#C6 10,000 calls that wait go in without a deep stack', () =>
      virtual(({ at, flush }) => {
        const circuit = halfOpen();
        let made = 0;
        circuit.trip();
        at(10, () => {
          call(circuit, later(1, 0));
          for (let n = 0; n < 10_000; n++)
            of(n)
              .pipe(circuitBreak(circuit))
              .subscribe(() => made++);
        });
        flush();
        expect(made).toBe(10_000);
      }));

    it('no timer is left when those who waited have gone', () =>
      virtual(({ at, watch, flush, now }) => {
        const circuit = halfOpen({ probeMaxMs: 1000 });
        circuit.trip();
        at(10, () => {
          const probe = watch(NEVER.pipe(circuitBreak(circuit)));
          const one = watch(NEVER.pipe(circuitBreak(circuit)));
          at(1, () => one.unsubscribe());
          at(2, () => probe.unsubscribe());
        });
        flush();
        expect(now()).toBe(12);
      }));

    it.each(['isolate', 'dispose', 'reset', 'trip'] as const)('%s reaches those who wait', (what) =>
      virtual(({ at, flush, now }) => {
        const circuit = halfOpen();
        const ends: string[] = [];
        circuit.trip();
        at(10, () => {
          const probe = NEVER.pipe(circuitBreak(circuit)).subscribe({ error: (error: Error) => ends.push(error.name) });
          for (let n = 0; n < 2; n++)
            of(n)
              .pipe(circuitBreak(circuit))
              .subscribe({ next: () => ends.push('made'), error: (error: Error) => ends.push(error.name) });
          circuit[what]();
          expect(circuit.snapshot().waiting).toBe(0);
          probe.unsubscribe();
        });
        flush();
        expect(ends).toEqual(
          {
            isolate: ['CircuitIsolatedError', 'CircuitIsolatedError', 'CircuitIsolatedError'],
            dispose: ['ResourceDisposedError', 'ResourceDisposedError'],
            reset: ['made', 'made'],
            trip: ['CircuitTrippedError', 'CircuitOpenError', 'CircuitOpenError'],
          }[what],
        );
        expect(now()).toBe(10);
      }),
    );

    it('#C5 a newcomer does not pass those who wait, also between the verdict and their turn', () =>
      virtual(({ at, flush }) => {
        const circuit = halfOpen();
        const made: string[] = [];
        circuit.trip();
        const start = (name: string): void =>
          void of(name)
            .pipe(circuitBreak(circuit))
            .subscribe((each) => made.push(each));
        at(10, () => {
          later(1, 'probe')
            .pipe(circuitBreak(circuit))
            .subscribe({ complete: () => start('newcomer') });
          start('one');
          start('two');
        });
        flush();
        expect(made).toEqual(['one', 'two', 'newcomer']);
      }));

    it('each caller keeps its async context', async () => {
      const users = new AsyncLocalStorage<string>();
      const circuit = halfOpen({ openMs: 1, probeMaxMs: 1000 });
      const seen: string[] = [];
      circuit.trip();
      await new Promise((resolve) => setTimeout(resolve, 3));
      users.run('probe', () => call(circuit, later(5, 0)));
      for (const user of ['ann', 'bob'])
        users.run(user, () => {
          const who = new Observable<string>((out) => {
            out.next(`${user} is ${users.getStore()}`);
            out.complete();
          });
          who.pipe(circuitBreak(circuit)).subscribe((each) => seen.push(`${each}, told ${users.getStore()}`));
        });
      await new Promise((resolve) => setTimeout(resolve, 10));
      expect(seen).toEqual(['ann is ann, told ann', 'bob is bob, told bob']);
    });
  });

  describe('what it shows', () => {
    it('#C11 events tell of every step, the trip after the victims have been told', () =>
      virtual(({ at, watch, lines, flush, note }) => {
        const circuit = make();
        circuit.events$.subscribe((event) => note(line(event)));
        watch(NEVER.pipe(circuitBreak(circuit)), 'victim');
        watch(failing(3, boom).pipe(circuitBreak(circuit)), 'guilty');
        at(4, () => watch(of(1).pipe(circuitBreak(circuit)), 'refused'));
        at(13, () => watch(of(1).pipe(circuitBreak(circuit)), 'probe'));
        flush();
        expect(lines.filter((each) => !each.includes('next'))).toEqual([
          '0 admitted',
          '0 admitted',
          '3 victim error Circuit breaker "model" tripped while this call was in flight, so it was stopped: boom',
          '3 closed > open',
          '3 tripped 1: boom',
          '3 revoked CircuitTrippedError',
          '3 settled cancelled',
          '3 settled failed',
          '3 guilty error boom',
          '4 refused CircuitOpenError',
          '4 refused error Circuit breaker "model" is open; it lets a probe through in 9 ms.',
          '13 open > halfOpen',
          '13 admitted',
          '13 halfOpen > closed',
          '13 settled completed',
          '13 probe complete',
        ]);
      }));

    it('#C11 the snapshot is plain JSON with what remains, not with points in time', () => {
      const scheduler = clock();
      const circuit = make({ scheduler });
      call(circuit, NEVER);
      expect(JSON.parse(JSON.stringify(circuit.snapshot()))).toEqual({
        name: 'model',
        state: 'closed',
        generation: 0,
        attempt: 0,
        retryAfterMs: 0,
        inFlight: 1,
        waiting: 0,
        probing: 0,
        total: 0,
        failed: 0,
        slow: 0,
        lateResults: 0,
      });
      circuit.trip();
      scheduler.at += 4;
      expect(circuit.snapshot()).toMatchObject({ state: 'open', generation: 1, attempt: 1, retryAfterMs: 6, inFlight: 0 });
      scheduler.at += 4000;
      expect(circuit.snapshot()).toMatchObject({ state: 'open', retryAfterMs: 0 });
    });

    it('#C11 state$ begins with now and follows every change', () => {
      const circuit = make();
      const states: string[] = [];
      circuit.state$.subscribe(({ state, inFlight }) => states.push(`${state} ${inFlight}`));
      call(circuit, NEVER);
      call(circuit, fail);
      circuit.reset();
      expect(states[0]).toBe('closed 0');
      expect(states.filter((each, at) => each !== states[at - 1])).toEqual(['closed 0', 'closed 1', 'closed 2', 'open 0', 'closed 0']);
    });

    it('#C6 an observer that calls back in finds a consistent state', () =>
      virtual(({ flush }) => {
        const circuit = make();
        const events: string[] = [];
        circuit.events$.subscribe((event) => {
          events.push(line(event));
          if (event.type === 'tripped') circuit.reset();
          if (event.type === 'state' && event.to === 'closed') call(circuit);
        });
        call(circuit, fail);
        flush();
        expect(circuit.snapshot()).toMatchObject({ state: 'closed', inFlight: 0, lateResults: 0 });
        expect(events).toEqual([
          'admitted',
          'closed > open',
          'tripped 0: boom',
          'open > closed',
          'admitted',
          'settled completed',
          'settled failed',
        ]);
      }));

    it('#C6 an observer that trips the breaker as a call is admitted stops that call before it is made', () => {
      const circuit = make();
      const errors: unknown[] = [];
      let made = 0;
      const events = eventsOf(circuit);
      circuit.events$.subscribe((event) => event.type === 'admitted' && circuit.trip());
      new Observable<never>(() => void made++).pipe(circuitBreak(circuit)).subscribe({ error: (error: Error) => errors.push(error.name) });
      expect([made, errors]).toEqual([0, ['CircuitTrippedError']]);
      expect(events).toEqual([
        'admitted',
        'closed > open',
        'tripped 1: tripped by hand',
        'revoked CircuitTrippedError',
        'settled cancelled',
      ]);
      expect(circuit.snapshot()).toMatchObject({ state: 'open', inFlight: 0, lateResults: 0 });
    });

    it('#C6 an observer that throws is reported and disturbs nothing', () => {
      expect(() =>
        virtual(({ flush, watch, lines }) => {
          const circuit = make();
          circuit.events$.subscribe(() => {
            throw new Error('bad observer');
          });
          watch(of(1).pipe(circuitBreak(circuit)));
          expect(lines).toEqual(['0 next 1', '0 complete']);
          flush();
        }),
      ).toThrow('bad observer');
    });
  });

  describe('dispose', () => {
    it('#C10 refuses later calls, leaves those in flight alone, and may be called again', () =>
      virtual(({ watch, lines, flush }) => {
        const circuit = make();
        const events = eventsOf(circuit);
        watch(later(3, 'a').pipe(circuitBreak(circuit)), 'running');
        watch(failing(4, boom).pipe(circuitBreak(circuit)), 'failing');
        circuit.dispose();
        circuit[Symbol.dispose]();
        watch(of('b').pipe(circuitBreak(circuit)), 'late');
        flush();
        expect(lines).toEqual([
          '0 late error Gate "model" has been disposed.',
          '3 running next a',
          '3 running complete',
          '4 failing error boom',
        ]);
        expect(events.filter((event) => event === 'disposed')).toHaveLength(1);
        expect(circuit.snapshot()).toMatchObject({ state: 'closed', inFlight: 0 });
      }));

    it('#C10 with cancelInFlight it stops them, in any state, also the second time', () => {
      for (const state of ['closed', 'halfOpen', 'isolated'] as const) {
        const scheduler = clock();
        const circuit = make({ scheduler, window: { kind: 'count', size: 2, min: 1, rate: 1, slowMs: 1 } });
        const errors: unknown[] = [];
        const start = (): void =>
          void concat(of(1), NEVER)
            .pipe(circuitBreak(circuit))
            .subscribe({ error: (error: unknown) => errors.push(error) });
        if (state === 'halfOpen') circuit.trip();
        scheduler.at += 10;
        start();
        if (state === 'isolated') circuit.isolate({ cancelInFlight: false });
        scheduler.at += 10;
        circuit.dispose();
        circuit.dispose({ cancelInFlight: true });
        expect(errors.map(isResourceDisposedError)).toEqual([true]);
        expect(circuit.snapshot()).toMatchObject({ state, inFlight: 0, total: 0 });
      }
    });
  });

  describe('options', () => {
    const window = { kind: 'count', size: 10, min: 5, rate: 0.5 } as const;

    it.each<[string, unknown, typeof TypeError | typeof RangeError, string]>([
      ['options', null, TypeError, 'options must be'],
      ['name', { name: '' }, TypeError, 'name must be'],
      ['name', { name: 5 }, TypeError, 'name must be'],
      ['failures 0', { failures: 0 }, RangeError, 'failures must be an integer of at least 1, got 0'],
      ['failures fraction', { failures: 1.5 }, RangeError, 'failures must be'],
      ['failures Infinity', { failures: Infinity }, RangeError, 'failures must be'],
      ['failures text', { failures: '5' }, TypeError, 'failures must be an integer of at least 1, got "5"'],
      ['failures and window', { failures: 5, window }, TypeError, 'window must be left out where there is failures'],
      ['window text', { window: 'count' }, TypeError, 'window must be an object'],
      ['window null', { window: null }, TypeError, 'window must be an object'],
      ['kind', { window: { ...window, kind: 'sliding' } }, RangeError, 'window.kind must be one of "count", "time"'],
      ['size 0', { window: { ...window, size: 0 } }, RangeError, 'window.size must be'],
      ['size under 1 ms', { window: { ...window, kind: 'time', size: 0.5 } }, RangeError, 'window.size must be'],
      ['size missing', { window: { ...window, size: undefined } }, TypeError, 'window.size must be'],
      ['min above size', { window: { ...window, min: 11 } }, RangeError, 'window.min must be at most window.size (10), got 11'],
      ['min 0', { window: { ...window, min: 0 } }, RangeError, 'window.min must be'],
      ['rate 0', { window: { ...window, rate: 0 } }, RangeError, 'window.rate must be'],
      ['rate above 1', { window: { ...window, rate: 1.1 } }, RangeError, 'window.rate must be'],
      ['rate NaN', { window: { ...window, rate: NaN } }, RangeError, 'window.rate must be'],
      ['slowMs 0', { window: { ...window, slowMs: 0 } }, RangeError, 'window.slowMs must be'],
      ['slowMs text', { window: { ...window, slowMs: '5' } }, TypeError, 'window.slowMs must be'],
      ['slowRate alone', { window: { ...window, slowRate: 0.5 } }, TypeError, 'window.slowMs must be given where there is window.slowRate'],
      ['slowRate 2', { window: { ...window, slowMs: 5, slowRate: 2 } }, RangeError, 'window.slowRate must be'],
      ['openMs negative', { openMs: -1 }, RangeError, 'openMs must be'],
      ['openMs Infinity', { openMs: Infinity }, RangeError, 'openMs must be'],
      ['openMs text', { openMs: '30' }, TypeError, 'openMs must be'],
      ['jitterMs', { jitterMs: -1, random: () => 0 }, RangeError, 'jitterMs must be'],
      ['random', { random: 5 }, TypeError, 'random must be a function'],
      ['probes', { probes: 0 }, RangeError, 'probes must be'],
      ['probeMaxMs', { probeMaxMs: 0 }, RangeError, 'probeMaxMs must be'],
      ['whileProbing', { whileProbing: 'wait' }, RangeError, 'whileProbing must be'],
      ['cancelInFlight', { cancelInFlight: 'yes' }, TypeError, 'cancelInFlight must be true or false'],
      ['classify', { classify: 'all' }, TypeError, 'classify must be a function'],
      ['isFailureResult', { isFailureResult: 5 }, TypeError, 'isFailureResult must be a function'],
      ['cancelAfterValue', { cancelAfterValue: 'failure' }, RangeError, 'cancelAfterValue must be'],
      ['scheduler', { scheduler: {} }, TypeError, 'scheduler must be'],
    ])('#47 #C9 %s: %j', (_, options, kind, words) => {
      expect(() => new CircuitBreaker(options as never)).toThrow(kind);
      expect(() => new CircuitBreaker(options as never)).toThrow(`CircuitBreaker: ${words}`);
    });

    it('a time window may need more calls than it has milliseconds, and undefined is as good as nothing', () => {
      expect(new CircuitBreaker({ window: { ...window, kind: 'time', size: 1, min: 5 } }).state).toBe('closed');
      expect(new CircuitBreaker({ failures: undefined, window: undefined, openMs: undefined, name: undefined }).name).toBe('circuit');
      expect(new CircuitBreaker().state).toBe('closed');
    });
  });

  it('#C1 #C7 needs no timer in any state, and does not look at the clock when it is made', () => {
    const looks: number[] = [];
    const still = clock();
    const scheduler: SchedulerLike = {
      now: () => {
        looks.push(still.at);
        return still.at;
      },
      schedule: still.schedule,
    };
    const circuit = make({ scheduler, window: { kind: 'time', size: 1000, min: 1, rate: 1, slowMs: 5 } });
    expect(looks).toEqual([]);
    call(circuit);
    call(circuit, NEVER);
    call(circuit, fail);
    still.at += 10;
    NEVER.pipe(circuitBreak(circuit)).subscribe(quiet).unsubscribe();
    call(circuit, NEVER);
    circuit.isolate().dispose();
    circuit.dispose({ cancelInFlight: true });
    expect(circuit.snapshot().inFlight).toBe(0);
  });

  it('#C7 a clock that jumps back or ahead makes it wait once more at most', () => {
    const scheduler = clock();
    const circuit = make({ scheduler, openMs: 1000 });
    circuit.trip();
    scheduler.at -= 1e12;
    expect(circuit.snapshot().retryAfterMs).toBe(1000);
    scheduler.at += 999;
    call(circuit);
    expect(circuit.state).toBe('open');
    scheduler.at += 1;
    call(circuit);
    expect(circuit.state).toBe('closed');
    circuit.trip();
    scheduler.at += 1e13;
    call(circuit);
    expect(circuit.state).toBe('closed');
  });

  it('errors are of its family, and say when to come again', () => {
    const scheduler = clock();
    const circuit = make({ scheduler });
    let error: unknown;
    const start = (): void =>
      void of(1)
        .pipe(circuitBreak(circuit))
        .subscribe({ error: (reason: unknown) => (error = reason) });
    call(circuit, fail);
    scheduler.at += 3;
    start();
    expect(isGateError(error) && isCircuitOpenError(error)).toBe(true);
    expect(error).toMatchObject({ name: 'CircuitOpenError', code: 'CIRCUIT_OPEN', gate: 'model', retryAfterMs: 7, cause: boom });
    scheduler.at += 7;
    call(circuit, NEVER);
    scheduler.at += 4;
    start();
    expect(error).toMatchObject({ retryAfterMs: 6, cause: boom });
  });

  it('the default clock is asyncScheduler', () => {
    const circuit = new CircuitBreaker({ failures: 1 });
    let at = 0;
    circuit.events$.subscribe((event) => (at = event.at));
    call(circuit);
    expect(Math.abs(at - asyncScheduler.now())).toBeLessThan(1000);
  });
});
