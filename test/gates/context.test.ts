import { AsyncLocalStorage } from 'node:async_hooks';
import { defer, finalize, map, NEVER, Observable, of, Subject, takeUntil, tap, throwError, timer, type Subscription } from 'rxjs';
import { fanOutScoped, scoped, takeWithin, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { revokeAll } from '../../src/gates/gateBase.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { admit } from '../../src/operators/admit.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { Desk } from '../operators/admitHarness.js';
import { virtual } from '../support/virtual.js';

const user = new AsyncLocalStorage<string>();

/** What ran for whom: `ann: starts`, or `ann in bob: starts` where the context was another’s. */
class Log {
  readonly lines: string[] = [];

  note(name: string, what: string): void {
    const here = user.getStore();
    this.lines.push(here === name ? `${name}: ${what}` : `${name} in ${here ?? 'nobody'}: ${what}`);
  }

  /** Subscribes as `name` to what `guard` makes of a call that lasts until `end`. */
  as(name: string, guard: (call: Observable<unknown>) => Observable<unknown>, end: Observable<unknown> = NEVER): Subscription {
    const call = new Observable((out) => {
      this.note(name, 'starts');
      const sub = end.subscribe(out);
      return () => {
        this.note(name, 'is torn down');
        sub.unsubscribe();
      };
    });
    return user.run(name, () =>
      guard(call)
        .pipe(finalize(() => this.note(name, 'is final')))
        .subscribe({
          next: () => this.note(name, 'has a value'),
          error: () => this.note(name, 'has an error'),
          complete: () => this.note(name, 'is complete'),
        }),
    );
  }

  get mixed(): string[] {
    return this.lines.filter((line) => line.includes(' in '));
  }
}

describe('the async context of a caller is its own, whoever lets it in or stops it', () => {
  it('let in by the end of another’s call', () =>
    virtual(({ flush }) => {
      const [log, semaphore, end] = [new Log(), new Semaphore({ limit: 1 }), new Subject<void>()];
      log.as('ann', (call) => call.pipe(bulkhead(semaphore)), end);
      log.as('bob', (call) => call.pipe(bulkhead(semaphore)), of(1));
      log.as('cat', (call) => call.pipe(bulkhead(semaphore)), throwError(() => 'x')); // prettier-ignore
      user.run('ann', () => end.complete());
      flush();
      expect(log.lines).toEqual([
        'ann: starts',
        'ann: is torn down',
        'ann: is complete',
        'ann: is final',
        'bob: starts',
        'bob: has a value',
        'bob: is torn down',
        'bob: is complete',
        'bob: is final',
        'cat: starts',
        'cat: is torn down',
        'cat: has an error',
        'cat: is final',
      ]);
    }));

  it('let in after another left, by a timer that was armed there', () =>
    virtual(({ flush }) => {
      const [log, semaphore] = [new Log(), new Semaphore({ limit: 1 })];
      const ann = log.as('ann', (call) => call.pipe(bulkhead(semaphore)));
      log.as('bob', (call) => call.pipe(bulkhead(semaphore)), of(1));
      user.run('ann', () => ann.unsubscribe());
      user.run('somebody else', () => flush());
      expect(log.mixed).toEqual([]);
      expect(log.lines).toContain('bob: is complete');
    }));

  it('let in by a changed limit, by a slow start, or by whoever withdraws before it', () =>
    virtual(({ flush }) => {
      const log = new Log();
      const paused = new Semaphore({ limit: 0 });
      log.as('ann', (call) => call.pipe(bulkhead(paused)), of(1));
      user.run('admin', () => paused.setLimit(1));
      const slow = new Semaphore({ limit: 2, slowStart: { initial: 1, step: 1, everyMs: 5 } });
      const bob = log.as('bob', (call) => call.pipe(bulkhead(slow)));
      log.as('cat', (call) => call.pipe(bulkhead(slow)), of(1));
      flush();
      user.run('bob', () => bob.unsubscribe());
      const weighted = new Semaphore({ limit: 2 });
      const dan = log.as('dan', (call) => call.pipe(bulkhead(weighted)));
      const big = log.as('eve', (call) => call.pipe(bulkhead(weighted, { permits: 2 })));
      log.as('fay', (call) => call.pipe(bulkhead(weighted)), of(1));
      user.run('eve', () => big.unsubscribe());
      flush();
      user.run('dan', () => dan.unsubscribe());
      expect(log.mixed).toEqual([]);
      for (const name of ['ann', 'cat', 'fay']) expect(log.lines).toContain(`${name}: is complete`);
    }));

  it('refused or stopped by a dispose: error, teardown and finalize', () =>
    virtual(({ flush }) => {
      const [log, semaphore] = [new Log(), new Semaphore({ limit: 1 })];
      for (const name of ['ann', 'bob', 'cat']) log.as(name, (call) => call.pipe(bulkhead(semaphore)));
      user.run('admin', () => semaphore.dispose({ cancelInFlight: true }));
      flush();
      expect(log.lines).toEqual([
        'ann: starts',
        'bob: has an error',
        'bob: is final',
        'cat: has an error',
        'cat: is final',
        'ann: is torn down',
        'ann: has an error',
        'ann: is final',
      ]);
    }));

  it('stopped by a trip that another’s failure brought about', () =>
    virtual(({ flush }) => {
      const [log, gate, end] = [new Log(), new Desk('breaker'), new Subject<void>()];
      gate.on = (what) => {
        if (what === 'settle failed') revokeAll(gate.visits, () => new Error('tripped'));
      };
      for (const name of ['ann', 'bob']) log.as(name, (call) => call.pipe(admit(gate, undefined)));
      log.as('cat', (call) => call.pipe(admit(gate, undefined)), end);
      user.run('cat', () => end.error(new Error('boom')));
      flush();
      expect(log.lines).toEqual([
        'ann: starts',
        'bob: starts',
        'cat: starts',
        'cat: is torn down',
        'ann: is torn down',
        'bob: is torn down',
        'ann: has an error',
        'ann: is final',
        'bob: has an error',
        'bob: is final',
        'cat: has an error',
        'cat: is final',
      ]);
    }));

  it('granted, refused or let in again by a gate in its own time', () =>
    virtual(({ flush, at }) => {
      const [log, gate, inner] = [new Log(), new Desk('g').holding(), new Desk('inner')];
      const seen: (string | undefined)[] = [];
      gate.verdict = (visit, { kind }) => (kind === 'failed' && visit.call.attempt === 1 ? () => () => {} : undefined);
      const guard = (call: Observable<unknown>): Observable<unknown> =>
        call.pipe(
          tap(() => seen.push(user.getStore())),
          admit(inner, () => seen.push(user.getStore())),
          admit(gate, undefined),
        );
      let attempts = 0;
      log.as('ann', guard, defer(() => (attempts++ === 0 ? throwError(() => 'x') : of('value')))); // prettier-ignore
      log.as('bob', guard);
      at(1, () => user.run('gate', () => gate.visits[0]?.grant()));
      at(2, () => user.run('gate', () => gate.visits[1]?.refuse()));
      at(3, () => user.run('gate', () => gate.visits[0]?.grant()));
      flush();
      expect(log.lines).toEqual([
        'ann: starts',
        'ann: is torn down',
        'bob: has an error',
        'bob: is final',
        'ann: starts',
        'ann: has a value',
        'ann: is torn down',
        'ann: is complete',
        'ann: is final',
      ]);
      expect(seen).toEqual(['ann', 'ann', 'ann']);
    }));

  it('through gates that are parted by operators, scopes and fan-outs', () =>
    virtual(({ flush }) => {
      const [log, one, two] = [new Log(), new Semaphore({ limit: 1 }), new Semaphore({ limit: 1 })];
      const ends = [new Subject<void>(), of(1), of(2)];
      const names = ['ann', 'bob', 'cat'];
      names.forEach((name, i) =>
        log.as(
          name,
          (call) =>
            of(1).pipe(
              fanOutScoped(() => {
                log.note(name, 'projects');
                return scoped(() => call.pipe(bulkhead(one)));
              }),
              map((value) => value),
              bulkhead(two),
            ),
          ends[i],
        ),
      );
      user.run('ann', () => (ends[0] as Subject<void>).complete());
      flush();
      expect(log.mixed).toEqual([]);
      expect(log.lines.filter((line) => line.includes('projects'))).toEqual(['ann: projects', 'bob: projects', 'cat: projects']);
    }));

  it('one user’s queue in a fan-out does not leak into another’s', () =>
    virtual(({ flush }) => {
      const [log, semaphore] = [new Log(), new Semaphore({ limit: 1 })];
      const ends = new Map(['ann', 'bob'].map((name) => [name, [0, 1, 2].map(() => new Subject<void>())]));
      for (const [name, gates] of ends)
        user.run(name, () =>
          of(0, 1, 2)
            .pipe(
              fanOutScoped(
                (i) => {
                  log.note(name, `projects ${i}`);
                  return defer(() => (log.note(name, `starts ${i}`), gates[i] as Subject<void>)).pipe(bulkhead(semaphore, { key: name }));
                },
                { concurrency: 2 },
              ),
            )
            .subscribe({ complete: () => log.note(name, 'is complete') }),
        );
      const all = [...ends].flatMap(([name, gates]) => gates.map((gate) => ({ name, gate })));
      for (let round = 0; round < 6; round++) for (const { name, gate } of all) if (gate.observed) user.run(name, () => gate.complete());
      flush();
      expect(log.mixed).toEqual([]);
      expect(log.lines.filter((line) => line.endsWith('complete'))).toHaveLength(2);
    }));

  it('a deadline, a grace and a cancelled scope', () =>
    virtual(({ flush, at }) => {
      const [log, semaphore] = [new Log(), new Semaphore({ limit: 1 })];
      let scope: Scope | undefined;
      log.as('ann', (call) => call.pipe(bulkhead(semaphore), takeWithin(5)));
      log.as('bob', (call) => scoped((each) => ((scope = each), call.pipe(bulkhead(semaphore)))));
      at(7, () => user.run('bob', () => scope?.cancel()));
      user.run('nobody in particular', () => flush());
      expect(log.mixed).toEqual([]);
      expect(log.lines).toEqual([
        'ann: starts',
        'ann: is torn down',
        'ann: is complete',
        'ann: is final',
        'bob: starts',
        'bob: is torn down',
        'bob: is complete',
        'bob: is final',
      ]);
    }));

  it('usage is read in the context of its caller', () =>
    virtual(({ flush }) => {
      const [gate, seen] = [new Desk('g').holding(), [] as (string | undefined)[]];
      for (const name of ['ann', 'bob'])
        user.run(name, () =>
          of(1)
            .pipe(admit(gate, undefined, { usage: () => void seen.push(user.getStore()) }))
            .subscribe(),
        );
      user.run('gate', () => gate.visits.reverse().forEach((visit) => visit.grant()));
      flush();
      expect(seen).toEqual(['bob', 'ann']);
    }));

  it('40 users on real timers, 400 calls through two semaphores, some unsubscribed: nobody ever sees another’s context', async () => {
    const [log, outer, inner] = [new Log(), new Semaphore({ limit: 7 }), new Semaphore({ limit: 3 })];
    const stop = new Subject<void>();
    let ended = 0;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        if (++ended === 400) resolve();
      };
      for (let i = 0; i < 400; i++) {
        const name = `user ${i % 40}`;
        const end = timer(i % 5).pipe(map(() => (i % 11 === 0 ? raise() : i)));
        const guard = (call: Observable<unknown>): Observable<unknown> => {
          const guarded = call.pipe(
            bulkhead(inner, { key: name, priority: i % 2 }),
            tap(() => log.note(name, 'taps')),
            bulkhead(outer),
          );
          return (i % 7 === 0 ? guarded.pipe(takeWithin(15)) : i % 13 === 0 ? guarded.pipe(takeUntil(timer(10))) : guarded).pipe(
            finalize(done),
          );
        };
        log.as(name, guard, end);
      }
    });
    stop.complete();
    expect(log.mixed).toEqual([]);
    expect(log.lines.length).toBeGreaterThan(1500);
    expect([outer.snapshot(), inner.snapshot()]).toMatchObject([
      { inUse: 0, waiting: 0 },
      { inUse: 0, waiting: 0 },
    ]);
  });
});

function raise(): never {
  throw new Error('boom');
}
