import { AsyncLocalStorage } from 'node:async_hooks';
import { asyncScheduler, defer, NEVER, of, timer, type Observable, type SchedulerLike, type Subscription } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { BucketCost } from '../../src/gates/bucketCost.js';
import type { Call, Caller, Lease } from '../../src/gates/gate.js';
import type { GateEvent } from '../../src/gates/events.js';
import { RateLimitQueueFullError, RateLimitWaitError } from '../../src/gates/errors.js';
import { TokenBucket, type BucketAsk } from '../../src/gates/tokenBucket.js';
import type { TokenBucketOptions } from '../../src/gates/bucketOptions.js';
import { admit } from '../../src/operators/admit.js';
import { tokenBucket } from '../../src/operators/tokenBucket.js';
import { later, virtual, type Virtual } from '../support/virtual.js';

/** One token in every `everyMs`. */
function bucketOf(capacity: number, everyMs: number, more: Partial<TokenBucketOptions> = {}): TokenBucket {
  return new TokenBucket({ capacity, refill: { tokens: 1, everyMs }, ...more });
}

function tokens(bucket: TokenBucket): number | undefined {
  return bucket.snapshot().limits['tokens']?.tokens;
}

/** Timers of a test that are armed now, without the test's own. */
function armed({ scheduler }: Virtual): number {
  return scheduler.actions.filter((action) => !action.closed && (action as unknown as { own?: boolean }).own !== true).length;
}

/** Notes when calls start, with their name, and how they fail. */
function calls({ now }: Pick<Virtual, 'now'>, bucket: TokenBucket): { log: string[]; call(name: string, ask?: BucketAsk): Subscription } {
  const log: string[] = [];
  const call = (name: string, ask: BucketAsk = {}): Subscription =>
    of(name)
      .pipe(tokenBucket(bucket, ask))
      .subscribe({ next: () => log.push(`${now()} ${name}`), error: (error: Error) => log.push(`${now()} ${name} ${error.name}`) });
  return { log, call };
}

describe('TokenBucket', () => {
  describe('its line', () => {
    it('#52 a full queue refuses the newcomer, or has the oldest give way', () =>
      virtual((test) => {
        for (const [overflow, expected] of [
          ['reject', ['0 c RateLimitQueueFullError', '10 a', '20 b']],
          ['dropOldest', ['0 a RateLimitQueueFullError', '10 b', '20 c']],
        ] as const) {
          const at = test.now();
          const bucket = bucketOf(1, 10, { initial: 0, maxQueue: 2, overflow });
          const { log, call } = calls({ now: () => test.now() - at }, bucket);
          for (const name of ['a', 'b', 'c']) call(name);
          test.flush();
          expect(log).toEqual(expected);
        }
      }));

    it('#52 several of the oldest give way to a big one, nobody in vain', () =>
      virtual((test) => {
        const bucket = bucketOf(10, 1, { initial: 0, maxQueueCost: 6, overflow: 'dropOldest' });
        const { log, call } = calls(test, bucket);
        for (const name of ['a', 'b', 'c']) call(name, { cost: 2 });
        call('huge', { cost: 7 });
        call('big', { cost: 4 });
        expect(bucket.snapshot()).toMatchObject({ waiting: 2, limits: { tokens: { queued: 6 } } });
        test.flush();
        expect(log).toEqual([
          '0 huge RateLimitQueueFullError',
          '0 a RateLimitQueueFullError',
          '0 b RateLimitQueueFullError',
          '2 c',
          '6 big',
        ]);
      }));

    it('#52 #C8 tells which bound, and how long the queue takes to drain', () =>
      virtual((test) => {
        const bucket = bucketOf(10, 5, { name: 'api', initial: 0, maxQueueCost: 6 });
        const errors: unknown[] = [];
        of(1)
          .pipe(tokenBucket(bucket, { cost: 4 }))
          .subscribe();
        of(1)
          .pipe(tokenBucket(bucket, { cost: 3 }))
          .subscribe({ error: (error: unknown) => errors.push(error) });
        expect(errors).toEqual([new RateLimitQueueFullError('api', 'cost', 6, 4, 35)]);
        expect((errors[0] as Error).message).toBe(
          'The queue of rate limit "api" is full: a cost of 4 waits of at most 6; it drains in about 35 ms.',
        );
        test.flush();
      }));

    it('#63 with priorities the least important gives way, never one above the newcomer', () =>
      virtual((test) => {
        const bucket = bucketOf(1, 10, { initial: 0, maxQueue: 2, overflow: 'dropOldest' });
        const { log, call } = calls(test, bucket);
        call('high', { priority: 2 });
        call('low', { priority: 0 });
        call('middle', { priority: 1 });
        call('lower', { priority: 0 });
        test.flush();
        expect(log).toEqual(['0 low RateLimitQueueFullError', '0 lower RateLimitQueueFullError', '10 high', '20 middle']);
      }));

    it('#C6 one that gave way and comes back at once gives nobody’s place away twice', () =>
      virtual((test) => {
        const bucket = bucketOf(1, 10, { initial: 0, maxQueue: 1, overflow: 'dropOldest' });
        const { log, call } = calls(test, bucket);
        let back = 0;
        of('a')
          .pipe(tokenBucket(bucket))
          .subscribe({ error: () => back++ < 3 && call(`back ${back}`) });
        call('b');
        expect(bucket.snapshot()).toMatchObject({ waiting: 1, limits: { tokens: { queued: 1 } } });
        test.flush();
        expect(log).toEqual(['0 b RateLimitQueueFullError', '10 back 1']);
      }));

    it('#2.2 maxWaitMs refuses at once who would wait longer, and tells how long', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0, maxWaitMs: 30 });
        const { log, call } = calls(test, bucket);
        call('a', { cost: 2 });
        call('b', { cost: 1 });
        const errors: unknown[] = [];
        of(1)
          .pipe(tokenBucket(bucket))
          .subscribe({ error: (error: unknown) => errors.push(error) });
        expect(errors).toEqual([new RateLimitWaitError('tokenBucket', 30, 40)]);
        test.flush();
        expect(log).toEqual(['20 a', '30 b']);
      }));

    it('#2.2 maxWaitMs of 0 lets nobody wait', () =>
      virtual((test) => {
        const { log, call } = calls(test, bucketOf(1, 10, { maxWaitMs: 0 }));
        call('a');
        call('b');
        expect(log).toEqual(['0 a', '0 b RateLimitWaitError']);
      }));

    it('#2.2 a pause that comes later moves the wait: refused at its deadline, in order of arrival, whom it held up goes', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0, maxWaitMs: 30 });
        const { log, call } = calls(test, bucket);
        call('a', { cost: 2 });
        test.at(5, () => {
          call('b', { cost: 1 });
          bucket.pause(29);
        });
        test.flush();
        expect(log).toEqual(['30 a RateLimitWaitError', '34 b']);
      }));

    it('#2.2 a call whose turn comes in the frame of its deadline is in time', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0, maxWaitMs: 30 });
        const { log, call } = calls(test, bucket);
        call('a', { cost: 3 });
        bucket.pause(30);
        test.flush();
        expect(log).toEqual(['30 a']);
      }));

    it('#2.2 of those that reach their deadline together, one goes that only the others held up', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 3, maxWaitMs: 40 });
        const { log, call } = calls(test, bucket);
        call('big', { cost: 5 });
        call('small', { cost: 1 });
        call('other', { cost: 1 });
        bucket.drain();
        test.flush();
        expect(log).toEqual(['40 big RateLimitWaitError', '40 small', '40 other']);
      }));

    it('#2.2 no timer is left when the last one was refused at its deadline', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0, maxWaitMs: 30 });
        const { log, call } = calls(test, bucket);
        call('a');
        bucket.pause(100);
        test.at(30, () =>
          test.at(0, () => {
            expect(log).toEqual(['30 a RateLimitWaitError']);
            expect(armed(test)).toBe(0);
          }),
        );
        test.flush();
        expect(log).toHaveLength(1);
      }));

    it('#2.2 the deadlines of those behind count too, where priorities and keys change the order', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0, maxWaitMs: 50 });
        const { log, call } = calls(test, bucket);
        call('low', { cost: 4 });
        test.at(20, () => call('high', { cost: 5, priority: 1 }));
        test.flush();
        expect(log).toEqual(['50 high', '50 low RateLimitWaitError']);
      }));

    it('#70 a newcomer of a quiet key is not refused for the queue of a busy one', () =>
      virtual((test) => {
        const bucket = bucketOf(1, 10, { initial: 0, maxWaitMs: 50 });
        const { log, call } = calls(test, bucket);
        for (const name of ['a1', 'a2', 'a3', 'a4', 'a5', 'a6']) call(name, { key: 'a' });
        call('b1', { key: 'b' });
        test.flush();
        expect(log).toEqual(['0 a6 RateLimitWaitError', '10 a1', '20 b1', '30 a2', '40 a3', '50 a4', '50 a5 RateLimitWaitError']);
      }));

    it('#17 who left has left no entry', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0 });
        const { call } = calls(test, bucket);
        const waiting = [1, 2, 3].map((priority) => call('x', { priority, key: `${priority}`, cost: priority }));
        expect(bucket.snapshot()).toMatchObject({ waiting: 3, nextInMs: 30, limits: { tokens: { queued: 6 } } });
        for (const each of waiting) each.unsubscribe();
        for (const each of waiting) each.unsubscribe();
        expect(bucket.snapshot()).toMatchObject({ waiting: 0, inFlight: 0, nextInMs: null, limits: { tokens: { queued: 0 } } });
        expect(armed(test)).toBe(0);
      }));

    it('#2.2 one timer, untouched by those who leave from behind the head, and none while nobody waits', () =>
      virtual((test) => {
        const schedule = vi.spyOn(test.scheduler, 'schedule');
        const bucket = bucketOf(5, 10, { initial: 0, scheduler: test.scheduler });
        const { log, call } = calls(test, bucket);
        call('head');
        const behind = Array.from({ length: 100 }, () => call('behind'));
        expect([schedule.mock.calls.length, armed(test)]).toEqual([1, 1]);
        for (const each of behind) each.unsubscribe();
        expect([schedule.mock.calls.length, armed(test)]).toEqual([1, 1]);
        test.flush();
        expect(log).toEqual(['10 head']);
        expect([schedule.mock.calls.length, armed(test)]).toEqual([1, 0]);
      }));

    it('#2.2 when the head leaves, the timer is touched once in that frame, however many leave', () =>
      virtual((test) => {
        const bucket = bucketOf(50, 10, { initial: 0, scheduler: test.scheduler });
        const { call } = calls(test, bucket);
        const waiting = Array.from({ length: 1000 }, (_, i) => call('x', { cost: (i % 40) + 1 }));
        const schedule = vi.spyOn(test.scheduler, 'schedule');
        for (const each of waiting.slice(0, 999)) each.unsubscribe();
        expect(schedule).toHaveBeenCalledTimes(1);
        waiting[999]?.unsubscribe();
        expect(armed(test)).toBe(0);
      }));

    it('#2.2 a newcomer of a higher priority that is due earlier moves the timer', () =>
      virtual((test) => {
        const { log, call } = calls(test, bucketOf(5, 10, { initial: 0 }));
        call('big', { cost: 4 });
        call('small', { cost: 1, priority: 1 });
        test.flush();
        expect(log).toEqual(['10 small', '50 big']);
      }));

    it('#C6 who joins while others are let in goes to the tail, who leaves then is skipped', () =>
      virtual((test) => {
        const bucket = bucketOf(4, 10, { initial: 0 });
        const { log, call } = calls(test, bucket);
        bucket.pause(40);
        let third: Subscription | undefined = undefined;
        of('first')
          .pipe(tokenBucket(bucket))
          .subscribe(() => {
            log.push(`${test.now()} first`);
            call('newcomer');
            third?.unsubscribe();
          });
        call('second');
        third = call('third');
        call('fourth');
        test.flush();
        expect(log).toEqual(['40 first', '40 second', '40 fourth', '40 newcomer']);
      }));

    it('#D14 a refill looks at whose turn it is, not at everybody who waits', () =>
      virtual((test) => {
        const bucket = bucketOf(10, 1, { initial: 0 });
        const fits = vi.spyOn(bucket as unknown as { fits(): boolean }, 'fits');
        let seen = 0;
        for (let i = 0; i < 20_000; i++)
          of(i)
            .pipe(tokenBucket(bucket))
            .subscribe(() => seen++);
        test.flush();
        expect(seen).toBe(20_000);
        expect(test.now()).toBe(20_000);
        expect(fits.mock.calls.length).toBeLessThanOrEqual(80_000);
      }));

    it('#C7 a timer that fires early lets nobody in early', () =>
      virtual((test) => {
        const scheduler: SchedulerLike = {
          now: test.now,
          schedule: ((work: () => void, delay = 0) => test.scheduler.schedule(work, Math.ceil(delay / 2))) as SchedulerLike['schedule'],
        };
        const { log, call } = calls(test, bucketOf(5, 10, { initial: 0, scheduler }));
        call('a', { cost: 3 });
        call('b');
        test.flush();
        expect(log).toEqual(['30 a', '40 b']);
      }));

    it('whoever waits starts in the async context of its own subscriber', () =>
      virtual((test) => {
        const user = new AsyncLocalStorage<string>();
        const bucket = bucketOf(1, 10, { initial: 0 });
        const seen: (string | undefined)[] = [];
        for (const name of ['ann', 'bob', 'cy'])
          user.run(name, () =>
            defer(() => of(user.getStore()))
              .pipe(tokenBucket(bucket))
              .subscribe((store) => seen.push(store, user.getStore())),
          );
        test.flush();
        expect(seen).toEqual(['ann', 'ann', 'bob', 'bob', 'cy', 'cy']);
      }));

    it('#C7 a wait beyond 2^31 milliseconds comes in pieces', () =>
      virtual((test) => {
        const bucket = bucketOf(1, 2 ** 32, { initial: 0, scheduler: test.scheduler });
        const delays = vi.spyOn(test.scheduler, 'schedule');
        const { log, call } = calls(test, bucket);
        call('a');
        const most = (): number => Math.max(...delays.mock.calls.map(([, delay]) => delay ?? 0));
        const waiting = call('b');
        test.at(1000, () => waiting.unsubscribe());
        test.flush();
        expect(log).toEqual([`${2 ** 32} a`]);
        expect(most()).toBeLessThan(2 ** 31);
      }));
  });

  describe('pause', () => {
    it('#2.2 #68 only ever extends a pause', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 1);
        const { log, call } = calls(test, bucket);
        bucket.pause(20);
        bucket.pause(5);
        call('a');
        test.at(10, () => bucket.pause(5));
        test.at(15, () => bucket.pause(10));
        test.flush();
        expect(log).toEqual(['25 a']);
      }));

    it('#2.2 lasts at least a millisecond and at most maxPauseMs', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 1, { maxPauseMs: 50 });
        const { log, call } = calls(test, bucket);
        bucket.pause(0);
        expect(bucket.snapshot().pausedMs).toBe(1);
        call('a');
        test.at(2, () => {
          bucket.pause(-5);
          bucket.pause(1e9);
          expect(bucket.snapshot().pausedMs).toBe(50);
          call('b');
        });
        test.flush();
        expect(log).toEqual(['1 a', '52 b']);
      }));

    it('goes on refilling, needs no timer while nobody waits, and is told', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0 });
        const { log, call } = calls(test, bucket);
        const events: unknown[] = [];
        bucket.events$.subscribe(({ type, at, ...rest }) => (type === 'paused' || type === 'resumed') && events.push([at, type, rest]));
        bucket.pause(30, 'retry-after');
        expect(armed(test)).toBe(0);
        test.at(40, () => {
          call('a', { cost: 4 });
          bucket.pause(10);
          call('b');
        });
        test.flush();
        expect(log).toEqual(['40 a', '50 b']);
        expect(events).toEqual([
          [0, 'paused', { gate: 'tokenBucket', ms: 30, waiting: 0, cause: 'retry-after' }],
          [40, 'resumed', { gate: 'tokenBucket' }],
          [40, 'paused', { gate: 'tokenBucket', ms: 10, waiting: 0 }],
          [50, 'resumed', { gate: 'tokenBucket' }],
        ]);
      }));
  });

  describe('what the server says', () => {
    const model = (): TokenBucket =>
      new TokenBucket({
        name: 'model',
        limits: {
          requests: { capacity: 50, refill: { tokens: 50, everyMs: 60_000 }, cost: 1 },
          inputTokens: { capacity: 30_000, refill: { tokens: 30_000, everyMs: 60_000 } },
          outputTokens: { capacity: 8_000, refill: { tokens: 8_000, everyMs: 60_000 } },
        },
      });
    const levels = (bucket: TokenBucket): number[] => Object.values(bucket.snapshot().limits).map((limit) => limit.tokens);

    it('#2.2 several limits are taken at once, and settled each by its name', () =>
      virtual(({ flush }) => {
        const bucket = model();
        const usage = { inputTokens: 900, outputTokens: 40 };
        later(0, usage)
          .pipe(tokenBucket(bucket, { cost: { inputTokens: 1_000, outputTokens: 500 }, settle: (used) => used }))
          .subscribe();
        expect(levels(bucket)).toEqual([49, 29_000, 7_500]);
        flush();
        expect(levels(bucket)).toEqual([49, 29_100, 7_960]);
      }));

    it('#2.2 #18 #56 a call that one limit holds up takes nothing from the others, also when it leaves', () =>
      virtual(({ at, flush }) => {
        const bucket = model();
        const running = NEVER.pipe(tokenBucket(bucket, { cost: { outputTokens: 8_000 } })).subscribe();
        const waiting = of(1)
          .pipe(tokenBucket(bucket, { cost: { inputTokens: 30_000, outputTokens: 1 } }))
          .subscribe();
        expect(bucket.snapshot()).toMatchObject({ waiting: 1, nextInMs: 8 });
        expect(levels(bucket)).toEqual([49, 30_000, 0]);
        at(1, () => {
          waiting.unsubscribe();
          expect(bucket.snapshot()).toMatchObject({ waiting: 0, limits: { inputTokens: { tokens: 30_000, queued: 0 } } });
        });
        flush();
        running.unsubscribe();
      }));

    it('#56 one that is cancelled in flight with a refund gives all parts back', () => {
      const bucket = model();
      const cost = { inputTokens: 3, outputTokens: 5 };
      NEVER.pipe(tokenBucket(bucket, { cost, onCancel: 'refund' }))
        .subscribe()
        .unsubscribe();
      expect(levels(bucket)).toEqual([50, 30_000, 8_000]);
    });

    it('#2.2 a number for several limits, and a name that is none, fail that call', () => {
      const bucket = model();
      const errors: string[] = [];
      for (const cost of [5, { tokens: 5 }])
        of(1)
          .pipe(tokenBucket(bucket, { cost }))
          .subscribe({ error: (error: Error) => errors.push(error.message) });
      expect(errors).toEqual([
        'Gate "model": cost of this call must be an object with integers for requests, inputTokens, outputTokens, got 5.',
        'Gate "model": a name in the cost of this call must be one of requests, inputTokens, outputTokens, got "tokens".',
      ]);
    });

    it('#2.2 #53 names the limit that is too small', () => {
      const errors: unknown[] = [];
      of(1)
        .pipe(tokenBucket(model(), { cost: { inputTokens: 30_001 } }))
        .subscribe({ error: (error: unknown) => errors.push(error) });
      expect(errors).toMatchObject([{ limitName: 'inputTokens', cost: 30_001, capacity: 30_000 }]);
    });

    it('#2.2 sync takes several limits at once, ignores names that it does not have, and lets in who fits', () =>
      virtual((test) => {
        const bucket = model();
        const notes: unknown[] = [];
        bucket.events$.subscribe((event) => event.type === 'note' && notes.push([event.note, event.unit, event.amount]));
        const { log, call } = calls(test, bucket);
        call('a', { cost: { inputTokens: 30_000 } });
        const sentSeq = bucket.seq;
        call('b', { cost: { inputTokens: 5_000 } });
        expect(log).toEqual(['0 a']);
        bucket.sync({
          sentSeq,
          limits: {
            requests: { remaining: 40, resetMs: 12_000 },
            inputTokens: { remaining: 6_000, resetMs: 48_000 },
            outputTokens: undefined,
            tokens: { remaining: 0 },
          },
        });
        expect(log).toEqual(['0 a', '0 b']);
        expect(levels(bucket)).toEqual([39, 1_000, 8_000]);
        expect(notes).toEqual([
          ['synced', 'requests', 40],
          ['synced', 'inputTokens', 6_000],
        ]);
      }));

    it('#2.2 a lower level makes those who wait, wait longer', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0 });
        const { log, call } = calls(test, bucket);
        call('a', { cost: 3 });
        test.at(25, () => bucket.sync({ remaining: 0 }));
        test.flush();
        expect(log).toEqual(['55 a']);
      }));

    it('#68 an answer from before a drain is ignored', () =>
      virtual(({ flush }) => {
        const bucket = bucketOf(10, 1000);
        const running = NEVER.pipe(tokenBucket(bucket)).subscribe();
        const sentSeq = bucket.seq;
        bucket.drain();
        bucket.sync({ remaining: 9, sentSeq });
        expect(tokens(bucket)).toBe(0);
        bucket.drain({ sentSeq });
        bucket.sync({ remaining: 9, sentSeq: bucket.seq + 1 });
        expect(tokens(bucket)).toBe(9);
        running.unsubscribe();
        flush();
      }));

    it('#60 drain empties one limit or all of them, and tells', () => {
      const bucket = model();
      const notes: unknown[] = [];
      bucket.events$.subscribe((event) => event.type === 'note' && notes.push([event.note, event.unit]));
      bucket.drain({ limit: 'outputTokens' });
      expect(levels(bucket)).toEqual([50, 30_000, 0]);
      bucket.drain();
      expect(levels(bucket)).toEqual([0, 0, 0]);
      expect(notes.map(String)).toEqual(['drained,outputTokens', 'drained,requests', 'drained,inputTokens', 'drained,outputTokens']);
    });

    it('#2.2 the refill is held back until the server is full, for no longer than it takes to fill', () =>
      virtual((test) => {
        const bucket = bucketOf(10, 10);
        const { log, call } = calls(test, bucket);
        call('a', { cost: 10 });
        bucket.sync({ remaining: 0, resetMs: 180, sentSeq: bucket.seq });
        call('b', { cost: 1 });
        test.flush();
        expect(log).toEqual(['0 a', '90 b']);
        bucket.sync({ remaining: 0, resetMs: 1e12, sentSeq: bucket.seq });
        expect(bucket.snapshot().limits['tokens']).toMatchObject({ tokens: 0, fullInMs: 200 });
      }));
  });

  describe('events and state', () => {
    it('#C11 tells what happens, after the state is consistent', () =>
      virtual((test) => {
        const bucket = bucketOf(2, 10, { initial: 1, maxQueue: 1 });
        const events: string[] = [];
        bucket.events$.subscribe((event: GateEvent) => {
          const { waiting, inFlight, limits } = bucket.snapshot();
          events.push(`${event.at} ${event.type}: ${waiting} wait, ${inFlight} run, ${limits['tokens']?.tokens} left`);
        });
        const { call } = calls(test, bucket);
        call('a');
        call('b');
        call('refused');
        test.at(5, () => call('c').unsubscribe());
        test.flush();
        call('d', { cost: 2 }).unsubscribe();
        expect(events).toEqual([
          '0 admitted: 0 wait, 1 run, 0 left',
          '0 settled: 0 wait, 0 run, 0 left',
          '0 queued: 1 wait, 0 run, 0 left',
          '0 refused: 1 wait, 0 run, 0 left',
          '5 refused: 1 wait, 0 run, 0 left',
          '10 admitted: 0 wait, 1 run, 0 left',
          '10 settled: 0 wait, 0 run, 0 left',
          '10 queued: 1 wait, 0 run, 0 left',
          '10 withdrawn: 0 wait, 0 run, 0 left',
        ]);
      }));

    it('#C11 admitted tells how long it waited, refused why', () =>
      virtual((test) => {
        const bucket = bucketOf(2, 10, { initial: 0 });
        const events: unknown[] = [];
        bucket.events$.subscribe((event) => {
          if (event.type === 'admitted') events.push(event.waitedMs);
          if (event.type === 'refused') events.push(event.error.name);
        });
        const { call } = calls(test, bucket);
        call('a', { cost: 2 });
        call('huge', { cost: 3 });
        call('bad', { cost: { x: 1 } });
        test.flush();
        expect(events).toEqual(['CostExceedsCapacityError', 'BadAskError', 20]);
      }));

    it('#C11 state$ is the picture of now and after each event, and plain JSON', () =>
      virtual((test) => {
        const bucket = bucketOf(2, 10, { initial: 0 });
        const states: unknown[] = [];
        bucket.state$.subscribe((state) => {
          expect(JSON.parse(JSON.stringify(state))).toEqual(state);
          states.push([state.waiting, state.inFlight, state.nextInMs, state.limits['tokens']?.tokens, state.limits['tokens']?.fullInMs]);
        });
        calls(test, bucket).call('a', { cost: 2 });
        test.flush();
        expect(states).toEqual([
          [0, 0, null, 0, 20],
          [1, 0, 20, 0, 20],
          [0, 1, null, 0, 20],
          [0, 0, null, 0, 20],
        ]);
      }));

    it('#C11 costs nothing while nobody listens: no time is asked for a path, no event made', () => {
      const bucket = bucketOf(2, 10);
      const tell = vi.spyOn(bucket as never, 'pass' as never);
      of(1).pipe(tokenBucket(bucket)).subscribe();
      expect(tell).toHaveBeenCalledTimes(1);
      expect((bucket as unknown as { events: unknown }).events).toBeUndefined();
    });

    it('#C6 an observer of events may call back in', () =>
      virtual((test) => {
        const bucket = bucketOf(2, 10);
        const { log, call } = calls(test, bucket);
        let more = 3;
        bucket.events$.subscribe((event) => {
          if ((event.type === 'settled' || event.type === 'queued') && more-- > 0) call(`${event.type} ${more}`);
        });
        call('a');
        test.flush();
        expect(log.sort()).toEqual(['0 a', '0 settled 2', '10 settled 1', '20 queued 0'].sort());
        expect(bucket.snapshot()).toMatchObject({ waiting: 0, inFlight: 0 });
      }));

    it('#C6 an observer of events that unsubscribes the call it hears of: nothing is lost', () =>
      virtual((test) => {
        const bucket = bucketOf(2, 10, { initial: 0 });
        const subscriptions: Subscription[] = [];
        const start = vi.fn(() => NEVER);
        bucket.events$.subscribe((event) => event.type === 'admitted' && subscriptions[0]?.unsubscribe());
        subscriptions.push(defer(start).pipe(tokenBucket(bucket)).subscribe());
        test.flush();
        expect(start).not.toHaveBeenCalled();
        expect(bucket.snapshot()).toMatchObject({ waiting: 0, inFlight: 0, limits: { tokens: { tokens: 1 } } });
      }));
  });

  describe('dispose', () => {
    it('#C10 #D16 ends those who wait, stops the timer, leaves what is in flight', () =>
      virtual((test) => {
        const bucket = bucketOf(1, 10);
        const { log, call } = calls(test, bucket);
        const running = later(20, 'x')
          .pipe(tokenBucket(bucket))
          .subscribe(() => log.push(`${test.now()} done`));
        call('a');
        call('b');
        bucket.dispose();
        bucket.dispose();
        expect(armed(test)).toBe(1);
        call('c');
        test.flush();
        expect(log).toEqual(['a', 'b', 'c'].map((name) => `0 ${name} ResourceDisposedError`).concat('20 done'));
        expect(running.closed).toBe(true);
        expect(bucket.snapshot()).toMatchObject({ waiting: 0, inFlight: 0 });
      }));

    it('#C10 cancels what is in flight if it is told to', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 1000);
        const errors: string[] = [];
        for (const onCancel of ['keep', 'refund'] as const)
          NEVER.pipe(tokenBucket(bucket, { cost: 2, onCancel })).subscribe({ error: (error: Error) => errors.push(error.name) });
        bucket[Symbol.dispose]();
        expect(errors).toEqual([]);
        bucket.dispose({ cancelInFlight: true });
        expect(errors).toEqual(['ResourceDisposedError', 'ResourceDisposedError']);
        expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 3 } } });
        expect(armed(test)).toBe(0);
      }));

    it('#C10 while others are let in', () =>
      virtual((test) => {
        const bucket = bucketOf(5, 10, { initial: 0 });
        const { log, call } = calls(test, bucket);
        bucket.pause(50);
        of('a')
          .pipe(tokenBucket(bucket))
          .subscribe(() => bucket.dispose());
        call('b');
        test.flush();
        expect(log).toEqual(['50 b ResourceDisposedError']);
        expect(armed(test)).toBe(0);
      }));
  });

  describe('its clock', () => {
    /** A scheduler whose clock can be set. */
    function jumpy(): { scheduler: SchedulerLike; set(ms: number): void } {
      let skew = 0;
      const scheduler: SchedulerLike = {
        now: () => asyncScheduler.now() + skew,
        schedule: (...args: Parameters<SchedulerLike['schedule']>) => asyncScheduler.schedule(...args),
      };
      return { scheduler, set: (ms) => (skew += ms) };
    }

    beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }));
    afterEach(() => void vi.useRealTimers());

    it('#C7 a clock that is set back refills nothing and loses nothing', async () => {
      const { scheduler, set } = jumpy();
      const bucket = bucketOf(10, 100, { initial: 3, scheduler });
      expect(tokens(bucket)).toBe(3);
      set(-1_000_000);
      expect(tokens(bucket)).toBe(3);
      const started = vi.fn(() => of(1));
      defer(started)
        .pipe(tokenBucket(bucket, { cost: 4 }))
        .subscribe();
      await vi.advanceTimersByTimeAsync(60);
      set(-1_000_000);
      await vi.advanceTimersByTimeAsync(39);
      expect(started).not.toHaveBeenCalled();
      await vi.advanceTimersByTimeAsync(101);
      expect(started).toHaveBeenCalledTimes(1);
      expect(vi.getTimerCount()).toBe(0);
    });

    it('#C7 #57 a clock that jumps ahead gives one full bucket at most', () => {
      const { scheduler, set } = jumpy();
      const bucket = bucketOf(10, 100, { initial: 0, scheduler });
      expect(tokens(bucket)).toBe(0);
      set(86_400_000);
      expect(tokens(bucket)).toBe(10);
    });

    it('#C7 a pause survives a clock that is set back, and lasts no longer', () => {
      const { scheduler, set } = jumpy();
      const bucket = bucketOf(10, 100, { scheduler });
      bucket.pause(1000);
      set(-1e9);
      expect(bucket.snapshot().pausedMs).toBe(1000);
      vi.advanceTimersByTime(1000);
      expect(bucket.snapshot().pausedMs).toBe(0);
    });

    it('#54 goes on beyond 2^32 milliseconds', async () => {
      const bucket = bucketOf(10, 1000, { initial: 0 });
      expect(tokens(bucket)).toBe(0);
      vi.advanceTimersByTime(2 ** 32);
      expect(tokens(bucket)).toBe(10);
      const running = NEVER.pipe(tokenBucket(bucket, { cost: 10 })).subscribe();
      const started = vi.fn(() => of(1));
      defer(started).pipe(tokenBucket(bucket)).subscribe();
      await vi.advanceTimersByTimeAsync(999);
      expect(started).not.toHaveBeenCalled();
      await vi.advanceTimersByTimeAsync(1);
      expect(started).toHaveBeenCalledTimes(1);
      running.unsubscribe();
    });

    it('#C7 used with the real clock first, it goes on in virtual time, and back', () => {
      const bucket = bucketOf(2, 10);
      of(1)
        .pipe(tokenBucket(bucket, { cost: 2 }))
        .subscribe();
      expect(tokens(bucket)).toBe(0);
      const scheduler = new TestScheduler(() => {});
      scheduler.run(({ flush }) => {
        const log: string[] = [];
        for (const name of ['a', 'b'])
          of(name)
            .pipe(tokenBucket(bucket))
            .subscribe((value) => log.push(`${scheduler.now()} ${value}`));
        flush();
        expect(log).toEqual(['10 a', '20 b']);
      });
      expect(tokens(bucket)).toBe(2);
    });

    it('#C1 made and used by nobody, it arms nothing', () => {
      const bucket = bucketOf(2, 10);
      bucket.pause(1000);
      bucket.drain();
      bucket.sync({ remaining: 1, resetMs: 5000 });
      bucket.snapshot();
      of(1)
        .pipe(tokenBucket(bucket, { cost: 0 }))
        .subscribe();
      expect(vi.getTimerCount()).toBe(0);
    });
  });

  it('is a gate like any other: admit takes it, and asks are checked there', () => {
    const bucket = bucketOf(5, 1000);
    const seen: unknown[] = [];
    const ask = (what: unknown): Observable<number> => of(1).pipe(admit(bucket, what as BucketAsk));
    for (const what of [{ cost: 2 }, { priority: NaN }, { priority: '1' }, { key: 5 }])
      ask(what).subscribe({ next: (value) => seen.push(value), error: (error: Error) => seen.push(error.message) });
    expect(seen).toEqual([
      1,
      'Gate "tokenBucket": priority of this call must be a number, got NaN.',
      'Gate "tokenBucket": priority of this call must be a number, got "1".',
      'Gate "tokenBucket": key of this call must be a string, got 5.',
    ]);
  });

  it('#D13 200,000 grants need no stack and no list of times', () => {
    const bucket = bucketOf(200_000, 1e6);
    const caller: Caller<void, BucketCost> = { granted: (lease) => lease.settle(end), refused: () => {}, revoked: () => {} };
    const call = { scope: { path: [] }, attempt: 1, started: true, heldAbove: () => undefined } as unknown as Call;
    const end = { kind: 'completed', started: true, emitted: 0 } as const;
    for (let i = 0; i < 200_000; i++) bucket.enter({}, call, caller);
    expect(bucket.snapshot()).toMatchObject({ inFlight: 0, seq: 200_000, limits: { tokens: { tokens: 0 } } });
  });

  it('#68 an answer does not lift it by what is still on its way to the server', () => {
    const bucket = bucketOf(6, 1e6);
    const leases: Lease<BucketCost>[] = [];
    const caller: Caller<void, BucketCost> = { granted: (lease) => leases.push(lease), refused: () => {}, revoked: () => {} };
    const call = { scope: { path: [] }, attempt: 1, started: true, heldAbove: () => undefined } as unknown as Call;
    for (let i = 0; i < 6; i++) bucket.enter({}, call, caller);
    bucket.sync({ remaining: 7, sentSeq: 6 });
    expect(tokens(bucket)).toBe(2);
    for (const lease of leases.slice(0, 5)) lease.report?.(1);
    bucket.enter({ cost: 2 }, call, caller);
    bucket.sync({ remaining: 5, sentSeq: 7 });
    expect(tokens(bucket)).toBe(3);
  });

  it('#C3 a lease settles once, whoever calls it again', () => {
    const bucket = bucketOf(10, 1e6);
    const leases: Lease<BucketCost>[] = [];
    const caller: Caller<void, BucketCost> = { granted: (lease) => leases.push(lease), refused: () => {}, revoked: () => {} };
    const call = { scope: { path: [] }, attempt: 1, started: true, heldAbove: () => undefined } as unknown as Call;
    bucket.enter({ cost: 6 }, call, caller)();
    const end = { kind: 'completed', started: true, emitted: 0 } as const;
    leases[0]?.report?.(2);
    for (let i = 0; i < 3; i++) leases[0]?.settle(end);
    expect(bucket.snapshot()).toMatchObject({ inFlight: 0, limits: { tokens: { tokens: 8 } } });
    bucket.drain();
    const withdraw = bucket.enter({ cost: 6 }, call, caller);
    withdraw();
    withdraw();
    expect(bucket.snapshot()).toMatchObject({ waiting: 0, limits: { tokens: { queued: 0 } } });
  });

  it('reports are kept while it runs, and applied at its end', () =>
    virtual(({ at, flush }) => {
      const bucket = bucketOf(100, 10_000);
      timer(0, 10)
        .pipe(tokenBucket(bucket, { cost: 50, settle: (n) => n * 10, onCancel: 'refund' }))
        .subscribe()
        .add(() => expect(tokens(bucket)).toBe(80));
      at(15, () => expect(tokens(bucket)).toBe(50));
      at(25, () => bucket.dispose({ cancelInFlight: true }));
      expect(() => flush()).toThrow('disposed');
    }));
});
