import { AsyncLocalStorage } from 'node:async_hooks';
import {
  asyncScheduler,
  concat,
  defer,
  NEVER,
  type Observable,
  of,
  type SchedulerLike,
  Subscription,
  throwError,
  VirtualTimeScheduler,
} from 'rxjs';
import { failWithin, scoped, type ScopeContext } from 'rxfleet';
import { describe, expect, it, vi } from 'vitest';
import { BadAskError } from '../../src/gates/errors.js';
import type { GateEvent } from '../../src/gates/events.js';
import { RetryGate } from '../../src/gates/retryGate.js';
import type { RetryGateOptions } from '../../src/gates/retryOptions.js';
import { admit } from '../../src/operators/admit.js';
import { retryThrough } from '../../src/operators/retryThrough.js';
import { failing, later, virtual } from '../support/virtual.js';

const DOWN = { status: 500 };
const BUSY = { status: 429, headers: { 'retry-after-ms': '10' } };
const down = throwError(() => DOWN);
const busy = throwError(() => BUSY);

function gate(options: RetryGateOptions = {}): RetryGate {
  return new RetryGate({ name: 'api', baseMs: 5, jitter: (ceiling) => ceiling, jitterMs: 0, ...options });
}

function attempts<T>(...sources: readonly Observable<T>[]): Observable<T> {
  let made = 0;
  return defer(() => sources[Math.min(made++, sources.length - 1)] as Observable<T>);
}

/** Fails after a value. */
const partly = concat(of('a'), down);

/** Events in one line each, without what all of them have. */
function record(shared: RetryGate): string[] {
  const lines: string[] = [];
  shared.events$.subscribe((event) => lines.push(`${event.at} ${brief(event)}`));
  return lines;
}

function brief(event: GateEvent): string {
  switch (event.type) {
    case 'admitted':
      return `admitted after ${event.waitedMs}`;
    case 'queued':
      return `queued ${event.waiting}`;
    case 'settled':
      return `settled ${event.end}`;
    case 'paused':
      return `paused ${event.ms} with ${event.waiting} waiting, cause ${event.cause === BUSY ? 'busy' : String(event.cause)}`;
    case 'retry':
      return `retry ${event.attempt} in ${event.delayMs}${event.refused === undefined ? '' : ` refused: ${event.refused}`}`;
    default:
      return event.type;
  }
}

describe('RetryGate', () => {
  it.each([
    ['options', null],
    ['name', { name: 5 }],
    ['name', { name: '' }],
    ['scheduler', { scheduler: {} }],
    ['maxAttempts', { maxAttempts: '4' }],
    ['maxElapsedMs', { maxElapsedMs: '4' }],
    ['baseMs', { baseMs: '4' }],
    ['capMs', { capMs: null }],
    ['jitter', { jitter: 'none' }],
    ['random', { random: 0.5 }],
    ['jitterMs', { jitterMs: '5' }],
    ['classify', { classify: 'transient' }],
    ['retryAfter', { retryAfter: 5 }],
    ['maxRetryAfterMs', { maxRetryAfterMs: '5' }],
    ['budget', { budget: 0.2 }],
    ['budget.ratio', { budget: { ratio: '0.2' } }],
    ['slowStart', { slowStart: 1 }],
    ['slowStart', { slowStart: null }],
    ['slowStart.initial', { slowStart: { initial: '1' } }],
    ['probeMaxMs', { probeMaxMs: '1' }],
  ])('%s of a wrong type throws a TypeError #C9', (option, options) => {
    expect(() => new RetryGate(options as never)).toThrow(TypeError);
    expect(() => new RetryGate(options as never)).toThrow(`RetryGate: ${option} must be`);
  });

  it.each([
    ['maxAttempts', [0, -1, 1.5, Number.NaN]],
    ['maxElapsedMs', [-1, Number.NaN]],
    ['baseMs', [-1, Number.NaN, Infinity]],
    ['capMs', [-1, Number.NaN, Infinity]],
    ['jitterMs', [-1, Number.NaN, Infinity]],
    ['maxRetryAfterMs', [0, -1, Number.NaN]],
    ['probeMaxMs', [0, -1, Number.NaN]],
  ])('%s out of range throws a RangeError #C9', (option, values) => {
    for (const value of values) {
      expect(() => new RetryGate({ [option]: value })).toThrow(RangeError);
      expect(() => new RetryGate({ [option]: value })).toThrow(`RetryGate: ${option} must be`);
    }
  });

  it.each([
    ['budget.ratio', { budget: { ratio: 1.1 } }],
    ['budget.ratio', { budget: { ratio: -0.1 } }],
    ['budget.ratio', { budget: { ratio: Number.NaN } }],
    ['budget.minPerSec', { budget: { minPerSec: -1 } }],
    ['budget.minPerSec', { budget: { minPerSec: Infinity } }],
    ['budget.ttlMs', { budget: { ttlMs: 0 } }],
    ['slowStart.initial', { slowStart: { initial: 0 } }],
    ['slowStart.step', { slowStart: { step: 1.5 } }],
  ])('%s out of range throws a RangeError #C9', (option, options) => {
    expect(() => new RetryGate(options)).toThrow(RangeError);
    expect(() => new RetryGate(options)).toThrow(`RetryGate: ${option} must be`);
  });

  it('needs no options, and reads no clock before its first call #C7', () => {
    const now = vi.fn(() => 5);
    const scheduler = { now, schedule: () => Subscription.EMPTY } as SchedulerLike;
    new RetryGate({ scheduler });
    expect(now).not.toHaveBeenCalled();
    expect(new RetryGate().name).toBe('retry');
  });

  it('options are read once', () =>
    virtual(({ watch, lines, flush }) => {
      const options = { maxAttempts: 2, baseMs: 5, jitter: (ceiling: number) => ceiling };
      const shared = new RetryGate(options);
      options.maxAttempts = 10;
      watch(throwError(() => new Error('down')).pipe(retryThrough(shared, { classify: () => 'transient' })));
      flush();
      expect(lines).toEqual(['5 error down']);
    }));

  describe('events', () => {
    it('tell of attempts, retries, pauses and the slow start, in order #C11', () =>
      virtual(({ at, watch, flush }) => {
        const shared = gate();
        const lines = record(shared);
        watch(attempts(failing(1, DOWN), failing(2, BUSY), later(3, 'a')).pipe(retryThrough(shared)));
        at(9, () => watch(later(1, 'b').pipe(retryThrough(shared))));
        at(9, () => watch(NEVER.pipe(retryThrough(shared))).unsubscribe());
        flush();
        expect(lines).toEqual([
          '0 admitted after 0',
          '1 settled failed',
          '1 retry 1 in 5',
          '6 admitted after 5',
          '8 settled failed',
          '8 paused 10 with 0 waiting, cause busy',
          '8 retry 2 in 10',
          '8 queued 1',
          '9 queued 2',
          '9 queued 3',
          '9 withdrawn',
          '18 resumed',
          '18 admitted after 10',
          '21 settled completed',
          '21 admitted after 12',
          '22 settled completed',
        ]);
      }));

    it.each([
      ['budget', down, { budget: { ratio: 0, minPerSec: 0 } }],
      ['attempts', down, { maxAttempts: 1 }],
      ['elapsed', down, { maxElapsedMs: 5 }],
      ['fatal', throwError(() => ({ status: 400 })), {}],
      ['value', partly, {}],
      ['retry-after', busy, { maxRetryAfterMs: 9 }],
    ])('tell why a retry is not made: %s #2.4', (reason, source: Observable<unknown>, options: RetryGateOptions) =>
      virtual(({ flush }) => {
        const shared = gate(options);
        const lines = record(shared);
        source.pipe(retryThrough(shared)).subscribe({ error: () => undefined });
        flush();
        expect(lines).toEqual(['0 admitted after 0', '0 settled failed', `0 retry 1 in 0 refused: ${reason}`]);
      }),
    );

    it('tell why a retry is not made: deadline #2.4', () =>
      virtual(({ flush }) => {
        const shared = gate();
        const lines = record(shared);
        for (const source of [down, busy]) source.pipe(retryThrough(shared), failWithin(5)).subscribe({ error: () => undefined });
        flush();
        expect(lines.filter((line) => line.includes('retry'))).toEqual([
          '0 retry 1 in 0 refused: deadline',
          '0 retry 1 in 0 refused: deadline',
        ]);
      }));

    it('cost nothing while nobody listens, and carry the error and the path', () =>
      virtual(({ flush }) => {
        const shared = gate();
        const events: GateEvent[] = [];
        const sub = shared.events$.subscribe((event) => events.push(event));
        scoped(() => attempts(down, of('a')).pipe(retryThrough(shared)), { label: 'agent' }).subscribe();
        sub.unsubscribe();
        flush();
        const retry = events.find((event) => event.type === 'retry');
        expect(retry).toEqual({ type: 'retry', gate: 'api', at: 0, path: ['agent'], attempt: 1, delayMs: 5, error: DOWN });
        expect(events.map((event) => event.type)).toEqual(['admitted', 'settled', 'retry']);
      }));

    it('are told when the state is what they say: a listener may call back in #C6', () =>
      virtual(({ flush, at }) => {
        const shared = gate();
        const seen: string[] = [];
        const made: string[] = [];
        shared.events$.subscribe(({ type }) => {
          const { state, inFlight, waiting, level } = shared.snapshot();
          seen.push(`${type} ${state} ${inFlight} ${waiting} ${level}`);
          if (type === 'paused')
            defer(() => of(made.push('from paused')))
              .pipe(retryThrough(shared))
              .subscribe();
          if (type === 'resumed')
            defer(() => of(made.push('from resumed')))
              .pipe(retryThrough(shared))
              .subscribe();
        });
        at(0, () =>
          attempts(busy, of(0))
            .pipe(retryThrough(shared))
            .subscribe(() => made.push('first')),
        );
        flush();
        expect(made).toEqual(['from paused', 'first', 'from resumed']);
        expect(seen.slice(0, 4)).toEqual(['admitted open 1 0 0', 'settled closed 0 0 1', 'paused closed 0 0 1', 'queued closed 0 1 1']);
        expect(seen).toContain('resumed reopening 0 2 1');
        expect(shared.snapshot()).toMatchObject({ state: 'open', inFlight: 0, waiting: 0 });
      }));

    it('a listener that disposes the gate in the middle leaves nobody hanging #C10', () => {
      for (const error of [BUSY, DOWN])
        for (const on of ['admitted', 'settled', 'paused', 'retry', 'queued', 'resumed', 'withdrawn'])
          virtual(({ flush, at, scheduler }) => {
            const shared = gate();
            const ends: string[] = [];
            shared.events$.subscribe(({ type }) => {
              if (type === on) shared.dispose();
            });
            const call = (name: string, source: Observable<unknown>): Subscription =>
              source.pipe(retryThrough(shared)).subscribe({ error: () => ends.push(name), complete: () => ends.push(name) });
            call('a', attempts(failing(1, error), of('a')));
            at(3, () => call('b', of('b')));
            at(4, () => call('c', of('c')).unsubscribe());
            flush();
            expect(ends.filter((name) => name !== 'c').sort()).toEqual(['a', 'b']);
            expect(shared.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, backingOff: 0 });
            expect(scheduler.actions).toHaveLength(0);
          });
    });
  });

  it('a snapshot is plain JSON of what remains #C11', () =>
    virtual(({ at, watch, flush }) => {
      const shared = gate({ budget: { ratio: 0.5, minPerSec: 1, ttlMs: 2_000 }, slowStart: { initial: 2 } });
      const idle = {
        name: 'api',
        state: 'open',
        epoch: 0,
        level: 0,
        retryAfterMs: 0,
        allowed: null,
        probing: 0,
        inFlight: 0,
        waiting: 0,
        backingOff: 0,
        retriesLeft: 2,
      };
      expect(JSON.parse(JSON.stringify(shared.snapshot()))).toEqual(idle);
      watch(attempts(failing(1, DOWN), later(100, 'a')).pipe(retryThrough(shared)));
      watch(attempts(failing(2, BUSY), later(9, 'b')).pipe(retryThrough(shared)));
      at(1, () => expect(shared.snapshot()).toEqual({ ...idle, inFlight: 1, backingOff: 1, retriesLeft: 2 }));
      at(4, () => {
        const closed = { ...idle, state: 'closed', epoch: 1, level: 1, allowed: 0 };
        expect(shared.snapshot()).toEqual({ ...closed, retryAfterMs: 8, waiting: 1, backingOff: 1, retriesLeft: 2 });
      });
      at(13, () => expect(shared.snapshot()).toMatchObject({ state: 'reopening', allowed: 2, probing: 2, inFlight: 2 }));
      flush();
      expect(gate({ budget: null }).snapshot().retriesLeft).toBeNull();
    }));

  it('state$ is the picture of now, and again after each event #C11', () =>
    virtual(({ watch, flush }) => {
      const shared = gate();
      const states: string[] = [];
      shared.state$.subscribe(({ state, waiting, inFlight }) => states.push(`${state} ${waiting} ${inFlight}`));
      watch(attempts(busy, later(1, 'a')).pipe(retryThrough(shared)));
      flush();
      expect(states).toEqual([
        'open 0 0',
        'open 0 1',
        'closed 0 0',
        'closed 0 0',
        'closed 0 0',
        'closed 1 0',
        'reopening 1 0',
        'reopening 0 1',
        'open 0 0',
      ]);
    }));

  describe('callbacks', () => {
    const boom = new Error('boom');
    const throws = (): never => {
      throw boom;
    };

    it.each([
      ['classify', { classify: throws }],
      ['retryAfter', { retryAfter: throws }],
      ['jitter', { jitter: throws }],
    ])('%s that throws fails its own call only #C6', (_, options) =>
      virtual(({ watch, lines, flush }) => {
        const shared = gate(options);
        watch(busy.pipe(retryThrough(shared)), 'busy');
        watch(of('a').pipe(retryThrough(shared)), 'other');
        flush();
        expect(lines).toEqual(['0 busy error boom', '0 other next a', '0 other complete']);
        expect(shared.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, probing: 0 });
      }),
    );

    it('random that throws fails its own call only #C6', () =>
      virtual(({ watch, lines, flush }) => {
        watch(busy.pipe(retryThrough(new RetryGate({ random: throws }))));
        flush();
        expect(lines).toEqual(['0 error boom']);
      }));

    it.each([
      ['classify', { classify: () => 'maybe' as never }],
      ['jitter', { jitter: () => Number.NaN }],
      ['jitter', { jitter: () => -1 }],
      ['jitter', { jitter: () => 'x' as never }],
      ['random', { random: () => Number.NaN, jitterMs: 10 }],
      ['random', { random: () => -1, jitterMs: 10 }],
      ['random', { random: () => Infinity, jitterMs: 10 }],
    ])('what %s makes is checked: a bad value fails that call #C9', (what, options) =>
      virtual(({ flush }) => {
        const errors: unknown[] = [];
        const shared = gate(options);
        busy.pipe(retryThrough(shared)).subscribe({ error: (error) => errors.push(error) });
        flush();
        expect(errors[0]).toBeInstanceOf(BadAskError);
        expect(String(errors[0])).toContain(`what ${what} makes`);
        expect(shared.snapshot()).toMatchObject({ state: 'open', inFlight: 0, waiting: 0 });
      }),
    );

    it('a probe whose callback throws gives its place to the next', () =>
      virtual(({ watch, lines, flush }) => {
        let asked = 0;
        const shared = gate({ classify: () => (asked++ === 0 ? 'throttle' : throws()) });
        watch(attempts(busy, busy).pipe(retryThrough(shared)), 'one');
        watch(of('b').pipe(retryThrough(shared)), 'two');
        flush();
        expect(lines).toEqual(['10 one error boom', '10 two next b', '10 two complete']);
      }));

    it('may call back into the gate', () =>
      virtual(({ watch, lines, flush }) => {
        const inner = (): void => void watch(of('inner').pipe(retryThrough(shared)), 'inner');
        const shared: RetryGate = gate({ retryAfter: () => (inner(), 7) });
        watch(attempts(busy, of('a')).pipe(retryThrough(shared)), 'outer');
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['0 inner next inner', '7 outer next a']);
      }));

    it('a bad ask of a call of one’s own fails that call #C9', () =>
      virtual(({ watch, lines, flush }) => {
        const shared = gate();
        watch(of('a').pipe(admit(shared, { maxAttempts: Number.NaN })), 'bad');
        watch(of('b').pipe(admit(shared, {})), 'good');
        flush();
        expect(lines[0]).toMatch(/^0 bad error api: maxAttempts must be/);
        expect(lines[1]).toBe('0 good next b');
      }));
  });

  describe('the retry budget', () => {
    it('a tenth of the calls failing is retried, an outage is not retried by everybody #80', () =>
      virtual(({ flush }) => {
        const count = (rate: number): number => {
          const shared = gate({ maxAttempts: 2, budget: { ratio: 0.2, minPerSec: 0 } });
          let made = 0;
          for (let i = 0; i < 1_000; i++) {
            const call = attempts(
              defer(() => (made++, i % 10 < rate * 10 ? down : of(i))),
              defer(() => (made++, of(i))),
            );
            call.pipe(retryThrough(shared)).subscribe({ error: () => undefined });
          }
          flush();
          return made - 1_000;
        };
        expect(count(0.1)).toBeGreaterThanOrEqual(99);
        expect(count(1)).toBe(200);
      }));

    it('only failures that would be tried again touch it #2.4', () =>
      virtual(({ flush }) => {
        const shared = gate({ maxAttempts: 2, budget: { ratio: 0, minPerSec: 3, ttlMs: 1_000 } });
        const call = (source: Observable<unknown>): unknown => source.pipe(retryThrough(shared)).subscribe({ error: () => undefined });
        for (const error of [{ status: 400 }, new Error('own'), undefined]) call(throwError(() => error));
        call(partly);
        expect(shared.snapshot().retriesLeft).toBe(3);
        call(attempts(busy, of('a')));
        expect(shared.snapshot().retriesLeft).toBe(3);
        flush();
        call(down);
        expect(shared.snapshot().retriesLeft).toBe(2);
        flush();
        expect(shared.snapshot().retriesLeft).toBe(2);
      }));

    it('a refused retry passes the original error on #2.4', () =>
      virtual(({ flush }) => {
        const errors: unknown[] = [];
        down.pipe(retryThrough(gate({ budget: { ratio: 0, minPerSec: 0 } }))).subscribe({ error: (error) => errors.push(error) });
        flush();
        expect(errors).toEqual([DOWN]);
        expect(errors[0]).toBe(DOWN);
      }));
  });

  describe('the clock', () => {
    /** A scheduler whose clock jumps about. */
    const skewed = (scheduler: SchedulerLike): SchedulerLike & { skew: number } => ({
      skew: 0,
      now() {
        return scheduler.now() + this.skew;
      },
      schedule: (...args: Parameters<SchedulerLike['schedule']>) => scheduler.schedule(...args),
    });

    it('set back during a pause postpones nothing #C7', () =>
      virtual(({ at, watch, lines, flush, scheduler }) => {
        const clock = skewed(scheduler);
        clock.skew = 1e12;
        const shared = gate({ scheduler: clock });
        watch(attempts(busy, of('a')).pipe(retryThrough(shared)), 'busy');
        watch(attempts(down, of('b')).pipe(retryThrough(shared)), 'parked');
        at(4, () => (clock.skew = 0));
        flush();
        const next = lines.filter((line) => line.includes('next')).map((line) => Number(line.split(' ')[0]));
        expect(next).toHaveLength(2);
        expect(Math.max(...next)).toBeLessThanOrEqual(25);
      }));

    it('set forward ends the pause at the next look #C7', () =>
      virtual(({ at, watch, lines, flush, scheduler }) => {
        const clock = skewed(scheduler);
        const shared = gate({ scheduler: clock });
        watch(attempts(busy, of('a')).pipe(retryThrough(shared)), 'one');
        at(3, () => (clock.skew = 1e9));
        at(4, () => watch(of('b').pipe(retryThrough(shared)), 'two'));
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['4 one next a', '4 two next b']);
      }));

    it('a gate that was made and used before a virtual time begins goes on in it #C7', () => {
      const shared = gate({ scheduler: asyncScheduler });
      of('before').pipe(retryThrough(shared)).subscribe();
      busy.pipe(retryThrough(shared)).subscribe().unsubscribe();
      virtual(({ watch, lines, flush }) => {
        watch(attempts(later(1, 'a')).pipe(retryThrough(shared)), 'a');
        flush();
        expect(lines[0]).toMatch(/^1\d? a next a$/);
      });
    });

    it('may be a VirtualTimeScheduler that is passed in', () => {
      const scheduler = new VirtualTimeScheduler();
      const shared = gate({ scheduler });
      const seen: string[] = [];
      attempts(busy, of('a'))
        .pipe(retryThrough(shared))
        .subscribe((value) => seen.push(`${scheduler.now()} ${value}`));
      scheduler.flush();
      expect(seen).toEqual(['10 a']);
    });

    it('works with fake timers', async () => {
      vi.useFakeTimers();
      try {
        const seen: string[] = [];
        const shared = gate();
        attempts(busy, of('a'))
          .pipe(retryThrough(shared))
          .subscribe((value) => seen.push(value));
        const parked = of('b')
          .pipe(retryThrough(shared))
          .subscribe((value) => seen.push(value));
        await vi.advanceTimersByTimeAsync(9);
        expect(seen).toEqual([]);
        expect(vi.getTimerCount()).toBe(1);
        await vi.advanceTimersByTimeAsync(10);
        expect(seen).toEqual(['a', 'b']);
        expect(parked.closed).toBe(true);
        expect(vi.getTimerCount()).toBe(0);
      } finally {
        vi.useRealTimers();
      }
    });

    it('one timer serves any number of waits, and there is none while nobody waits #C7', () =>
      virtual(({ at, flush, scheduler }) => {
        let open = 0;
        let most = 0;
        const counting = {
          now: () => scheduler.now(),
          schedule: (work: () => void, delay = 0) => {
            most = Math.max(most, ++open);
            const done = new Subscription(() => open--);
            done.add(scheduler.schedule(() => (done.unsubscribe(), work()), delay));
            return done;
          },
        } as SchedulerLike;
        const shared = gate({ scheduler: counting, maxElapsedMs: 1_000, budget: null });
        for (let i = 0; i < 20; i++) attempts(failing(i, DOWN), of(i)).pipe(retryThrough(shared)).subscribe();
        for (let i = 0; i < 20; i++) attempts(failing(i, BUSY), of(i)).pipe(retryThrough(shared)).subscribe();
        at(3, () => {
          for (let i = 0; i < 20; i++) of(i).pipe(retryThrough(shared)).subscribe();
        });
        flush();
        expect([open, most]).toEqual([0, 1]);
      }));
  });

  it('two users’ async contexts are never mixed by the line', () =>
    virtual(({ flush }) => {
      const user = new AsyncLocalStorage<string>();
      const shared = gate();
      const seen: string[] = [];
      attempts(busy, of('p')).pipe(retryThrough(shared)).subscribe();
      for (const name of ['ada', 'bob'])
        user.run(name, () => {
          const call = attempts(
            down,
            defer(() => of(user.getStore())),
          );
          call.pipe(retryThrough(shared)).subscribe((inside) => seen.push(`${name} ${inside} ${user.getStore()}`));
        });
      flush();
      expect(seen).toEqual(['ada ada ada', 'bob bob bob']);
    }));

  it('dispose stops calls in flight only if it is told to #C10', () =>
    virtual(({ watch, lines, flush, at }) => {
      const [gentle, hard] = [gate(), gate()];
      watch(later(9, 'a').pipe(retryThrough(gentle)), 'gentle');
      watch(later(9, 'b').pipe(retryThrough(hard)), 'hard');
      at(2, () => gentle.dispose());
      at(2, () => hard.dispose({ cancelInFlight: true }));
      flush();
      expect(lines).toEqual(['2 hard error Gate "api" has been disposed.', '9 gentle next a', '9 gentle complete']);
      expect([gentle.snapshot().inFlight, hard.snapshot().inFlight]).toEqual([0, 0]);
    }));

  it('dispose clears the timer whatever the refused do, and tells of no end of the pause after it #C10', () =>
    virtual(({ at, flush, scheduler }) => {
      const shared = gate();
      const lines = record(shared);
      later(50, 'long').pipe(retryThrough(shared)).subscribe();
      busy.pipe(retryThrough(shared)).subscribe({ error: () => second.unsubscribe() });
      const second = of('b').pipe(retryThrough(shared)).subscribe();
      of('c')
        .pipe(retryThrough(shared))
        .subscribe({ error: () => undefined });
      at(1, () => {
        shared.dispose();
        expect(scheduler.actions.map(({ delay }) => delay)).toEqual([50]);
      });
      flush();
      expect(lines.slice(-5)).toEqual(['1 refused', '1 withdrawn', '1 refused', '1 disposed', '50 settled completed']);
    }));

  it('a retry that a listener takes out of the line is not said to be queued', () =>
    virtual(({ flush }) => {
      const shared = gate({ baseMs: 3 });
      const calls = [1, 2].map(() => attempts(down, of('a')).pipe(retryThrough(shared)).subscribe());
      busy.pipe(retryThrough(shared)).subscribe().unsubscribe();
      let queued = 0;
      shared.events$.subscribe(({ type }) => {
        if (type !== 'queued') return;
        queued++;
        for (const call of calls) call.unsubscribe();
      });
      flush();
      expect(queued).toBe(1);
      expect(shared.snapshot()).toMatchObject({ waiting: 0, backingOff: 0 });
    }));

  it('a caller that throws when it is let in does not hold up the next', () =>
    virtual(({ flush, watch, lines }) => {
      const shared = gate();
      attempts(busy, of('p')).pipe(retryThrough(shared)).subscribe();
      const scope = { path: [], remaining: () => Infinity } as unknown as ScopeContext;
      const granted = (): never => {
        throw new Error('mine');
      };
      const call = { scope, attempt: 1, started: false, heldAbove: () => undefined };
      shared.enter({}, call, { granted, refused: () => undefined, revoked: () => undefined });
      watch(of('b').pipe(retryThrough(shared)));
      expect(flush).toThrow('mine');
      flush();
      expect(lines).toEqual(['10 next b', '10 complete']);
      expect(shared.snapshot()).toMatchObject({ waiting: 0, inFlight: 1 });
    }));
});
