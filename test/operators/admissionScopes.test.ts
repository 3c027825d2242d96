import { getEventListeners } from 'node:events';
import { concat, defer, map, merge, NEVER, Observable, of, range, Subject, timeout, toArray, type Subscription } from 'rxjs';
import { failWithin, fanOutScoped, scoped, takeWithin, type Outcome, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/gates/semaphore.js';
import { admit } from '../../src/operators/admit.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { outcomeLine } from '../support/brief.js';
import { looseCall } from '../support/loose.js';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';
import { Desk } from './admitHarness.js';

describe('a scope around a guarded call', () => {
  it('takeWithin: the wait is part of the time, and at the deadline the call leaves the line or is stopped', () =>
    virtual(({ flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      desk.answer = (visit) => {
        if (desk.visits.length === 1) visit.grant();
      };
      watch(torn(() => note('torn down')).pipe(admit(desk, undefined), takeWithin(5)), 'runs');
      watch(of('a').pipe(admit(desk, undefined), takeWithin(5)), 'waits');
      flush();
      expect(lines.slice(2)).toEqual([
        '0 g2 enter',
        '5 torn down',
        '5 g1 settle cancelled',
        '5 g1 release',
        '5 runs complete',
        '5 g2 withdraw',
        '5 waits complete',
      ]);
      desk.expectSettledOnce();
    }));

  it('failWithin below is a failure of the call, above it a cancel', () =>
    virtual(({ flush, watch, lines }) => {
      const [below, above] = [new Desk('below'), new Desk('above')];
      watch(NEVER.pipe(failWithin(3), admit(below, undefined)), 'below');
      watch(NEVER.pipe(admit(above, undefined), failWithin(4)), 'above');
      flush();
      expect(lines).toEqual(['3 below error Deadline(3)', '4 above error Deadline(4)']);
      expect([below, above].map((desk) => desk.last.ends[0]?.kind)).toEqual(['failed', 'cancelled']);
    }));

  it('rxjs timeout above is an unsubscribe: cancelled; below, a failure', () =>
    virtual(({ flush, watch, lines }) => {
      const [below, above] = [new Desk('below'), new Desk('above')];
      watch(NEVER.pipe(timeout(3), admit(below, undefined)));
      watch(NEVER.pipe(admit(above, undefined), timeout(4)));
      flush();
      expect(lines).toEqual(['3 error Timeout has occurred', '4 error Timeout has occurred']);
      expect([below, above].map((desk) => desk.last.ends[0]?.kind)).toEqual(['failed', 'cancelled']);
    }));

  it('a fan-out whose child fails stops the guarded siblings, waiting or running, before it errors', () =>
    virtual(({ flush, watch, lines, note }) => {
      const desk = new Desk('g', note);
      desk.answer = (visit) => {
        if (visit.ask !== 2) visit.grant();
      };
      watch(
        range(3).pipe(
          fanOutScoped((n) => (n === 0 ? failing(2, new Error('boom')) : torn(() => note(`${n} torn down`))).pipe(admit(desk, n))),
        ),
      );
      flush();
      expect(lines.slice(5)).toEqual([
        '2 g1 settle failed',
        '2 g1 release',
        '2 g3 withdraw',
        '2 1 torn down',
        '2 g2 settle cancelled',
        '2 g2 release',
        '2 error ScopeError[boom]',
        '2 g1 pump',
      ]);
      desk.expectSettledOnce();
    }));

  it('a refusal and a revoke are outcomes `failed` of that child, a cancelled child is `cancelled`', () =>
    virtual(({ at, flush }) => {
      const desk = new Desk('g');
      const scopes: Scope[] = [];
      desk.answer = (visit) => {
        if (visit.ask === 0) visit.refuse(new Error('refused'));
        else if (visit.ask !== 3) visit.grant();
      };
      const outcomes: Outcome<unknown>[] = [];
      range(5)
        .pipe(
          fanOutScoped(
            (n, _i, ctx) => {
              scopes.push(ctx);
              return later(9, n).pipe(admit(desk, n));
            },
            { policy: 'settle', order: 'index' },
          ),
        )
        .subscribe((outcome) => outcomes.push(outcome));
      at(1, () => desk.visits.find(({ ask }) => ask === 1)?.revoke(new Error('revoked')));
      at(2, () => scopes[2]?.cancel());
      at(3, () => scopes[3]?.cancel());
      flush();
      expect(outcomes.map(outcomeLine)).toEqual(['0 failed refused', '1 failed revoked', '2 cancelled', '3 cancelled', '4 fulfilled 4']);
      desk.expectSettledOnce();
    }));

  it('an aborted signal or a cancelled parent ends it with ScopeCancelledError, an owner’s cancel quietly', () =>
    virtual(({ at, flush, watch, lines }) => {
      const desk = new Desk('g');
      const abort = new AbortController();
      const [owner, parent] = [handle(), handle()];
      watch(
        scoped(() => NEVER.pipe(admit(desk, 1)), { signal: abort.signal }),
        'signal',
      );
      watch(
        scoped(() => NEVER.pipe(admit(desk, 2)), { onScope: owner.take }),
        'owner',
      );
      watch(
        scoped(() => NEVER, { onScope: parent.take }),
        'parent',
      );
      watch(
        scoped(() => NEVER.pipe(admit(desk, 3)), { within: parent.scope }),
        'within',
      );
      at(1, () => abort.abort());
      at(2, () => owner.scope.cancel());
      at(3, () => parent.scope.cancel());
      flush();
      expect(lines).toEqual([
        '1 signal error Cancelled(signal)',
        '2 owner complete',
        '3 within error Cancelled(parent-cancelled < explicit)',
        '3 parent complete',
      ]);
      expect(desk.visits.map(({ ends }) => ends[0]?.kind)).toEqual(['cancelled', 'cancelled', 'cancelled']);
      desk.expectSettledOnce();
    }));

  it('that was cancelled before lets nobody enter a gate', () =>
    virtual(({ flush, watch, lines }) => {
      const desk = new Desk('g');
      watch(scoped((scope) => defer(() => (scope.cancel(), of('a').pipe(admit(desk, undefined))))));
      watch(
        scoped((scope) => {
          scope.cancel();
          return scoped(() => of('a').pipe(admit(desk, undefined)), { within: scope });
        }),
      );
      flush();
      expect(desk.visits.filter(({ history }) => history.includes('begin'))).toEqual([]);
      desk.expectSettledOnce();
      expect(lines).toEqual(['0 complete', '0 complete']);
    }));

  it('waits for it: it closes when the guarded call and all below have', () =>
    virtual(({ at, flush, note, lines }) => {
      const desk = new Desk('g', note);
      const { take, scope } = ((made) => ({ take: made.take, scope: () => made.scope }))(handle());
      const sub = scoped(() => scoped((ctx) => cleaning(ctx, 6)).pipe(admit(desk, undefined)), { onScope: take }).subscribe();
      scope().closed$.subscribe(() => note('closed'));
      at(2, () => sub.unsubscribe());
      flush();
      expect(lines.slice(2)).toEqual(['2 g1 settle cancelled', '8 g1 release', '8 closed']);
    }));

  it('names what the guarded call waits for', () =>
    virtual(({ at, flush }) => {
      const desk = new Desk('g').holding();
      const group = handle();
      const sub = scoped(() => merge(NEVER, of('a').pipe(admit(desk, undefined))), { onScope: group.take }).subscribe();
      at(1, () => {
        expect(group.scope.dump().scopes).toMatchObject([{ waiting: 1, state: 'open' }]);
        sub.unsubscribe();
      });
      flush();
    }));

  it('its path and depth are those of the call', () =>
    virtual(({ flush }) => {
      const desk = new Desk('g');
      scoped(
        (fleet) => {
          const agent = fleet.child('agent 7');
          return scoped(() => of('a').pipe(admit(desk, undefined)), { within: agent, label: 'turn' });
        },
        { label: 'fleet' },
      ).subscribe();
      flush();
      const { scope } = desk.last.call;
      expect([scope.path, scope.depth]).toEqual([['fleet', 'agent 7', 'turn'], 1]);
    }));

  it('is found in the subscribe chain: directly, through operators, in a queue of a fan-out, and when a gate grants later', () =>
    virtual(({ at, flush }) => {
      const [desk, probe] = [new Desk('g').holding(), new Desk('probe')];
      const leaf = (): Observable<string> => of('a').pipe(admit(probe, undefined));
      scoped(
        () =>
          merge(
            leaf(),
            leaf().pipe(map((a) => a)),
            concat(pause(1), of(1)).pipe(fanOutScoped(() => leaf())),
            of(1, 2).pipe(fanOutScoped((n) => (n === 1 ? later(2, 'b') : leaf()), { concurrency: 1 })),
            defer(leaf).pipe(admit(desk, undefined)),
          ),
        { label: 'agent' },
      ).subscribe();
      at(3, () => desk.last.grant());
      flush();
      expect(probe.visits.map(({ call }) => call.scope.path)).toEqual(Array.from({ length: 5 }, () => ['agent']));
    }));
});

describe('a scope with many guarded calls', () => {
  it('#10 10,000 calls one after the other leave nothing behind: no finalizer, no scope', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 2 });
      const group = handle();
      let seen = 0;
      const most = { finalizers: 0, scopes: 0 };
      const sub: Subscription = scoped(
        () => concat(pause(1), ...Array.from({ length: 10_000 }, (_, i) => of(i).pipe(bulkhead(semaphore)))),
        { onScope: group.take },
      ).subscribe(() => {
        if (++seen % 1000 !== 0) return;
        const { _finalizers: finalizers } = sub as unknown as { _finalizers: unknown[] | null };
        most.finalizers = Math.max(most.finalizers, finalizers?.length ?? 0);
        most.scopes = Math.max(most.scopes, group.scope.dump().scopes.length);
      });
      flush();
      expect([seen, most.finalizers]).toEqual([10_000, 1]);
      expect(most.scopes).toBeLessThanOrEqual(1);
    }));

  it('#21 1,000 calls share one AbortSignal: no listener is left, waiting, running or ended', () =>
    virtual(({ flush, at }) => {
      const semaphore = new Semaphore({ limit: 100 });
      const abort = new AbortController();
      const listeners = (): number => getEventListeners(abort.signal, 'abort').length;
      const calls = Array.from({ length: 1000 }, (_, i) =>
        scoped(() => later(1 + (i % 3), i).pipe(bulkhead(semaphore)), { signal: abort.signal }).subscribe(),
      );
      expect(listeners()).toBe(1000);
      at(2, () => calls.slice(500).forEach((call) => call.unsubscribe()));
      flush();
      expect([listeners(), semaphore.snapshot()]).toMatchObject([0, { inUse: 0, waiting: 0 }]);
    }));

  it('#21 an abort ends those who wait and those who run', () =>
    virtual(({ flush, at, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const abort = new AbortController();
      for (const name of ['a', 'b'])
        watch(
          scoped(() => NEVER.pipe(bulkhead(semaphore)), { signal: abort.signal }),
          name,
        );
      at(2, () => abort.abort());
      flush();
      expect(lines).toEqual(['2 a error Cancelled(signal)', '2 b error Cancelled(signal)']);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }));
});

describe('failures while it is stopped', () => {
  it('go to the parent, or to onUnhandled, when nobody listens any more', () =>
    virtual(({ at, flush }) => {
      const desk = new Desk('g');
      const group = handle();
      const unhandled: unknown[] = [];
      const rude = new Observable<never>(() => () => {
        throw new Error('teardown');
      });
      const sub = of(1)
        .pipe(
          fanOutScoped(() => rude.pipe(admit(desk, undefined)), {
            onScope: group.take,
            onUnhandled: (failures) => unhandled.push(...failures.map(({ error }) => error)),
          }),
        )
        .subscribe();
      at(1, () => sub.unsubscribe());
      flush();
      expect(unhandled).toEqual([new Error('teardown')]);
      expect(reportOf(group.scope).errors).toMatchObject([{ error: new Error('teardown'), phase: 'cleanup' }]);
      desk.expectSettledOnce();
    }));
});

describe('calls that do not stop when they are told to', () => {
  const told = (lines: readonly string[]): string[] => lines.filter((line) => !line.endsWith('settled'));

  it('Q02 D10 a cancelled call keeps its permit until it has really ended: a bulkhead of 1 means 1', () =>
    fake(async ({ works, advance, watch }) => {
      const semaphore = new Semaphore({ limit: 1 });
      watch(
        range(3).pipe(
          fanOutScoped((n) => scoped((scope) => scope.call(works.deaf(`call ${n}`, 30, n))).pipe(bulkhead(semaphore), takeWithin(5)), {
            policy: 'settle',
            concurrency: Infinity,
          }),
        ),
      );
      await advance(200);
      expect(works.peak).toBe(1);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }));

  it('D10 so does one whose timeout fires below the bulkhead', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const calls = [0, 1, 2].map((n) => looseCall(works.deaf(`call ${n}`, 30, n)).pipe(timeout(5), bulkhead(semaphore)));
      calls.forEach((call, n) => watch(call, String(n)));
      await advance(29);
      expect([works.running, semaphore.snapshot().inUse]).toEqual([1, 1]);
      await advance(100);
      expect([works.started.length, works.peak]).toEqual([3, 1]);
      expect(lines.filter((line) => line.includes('error'))).toEqual([
        '30 0 error Timeout has occurred',
        '60 1 error Timeout has occurred',
        '90 2 error Timeout has occurred',
      ]);
    }));

  it('and one that was unsubscribed', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const sub = looseCall(works.deaf('deaf', 20, 1))
        .pipe(bulkhead(semaphore))
        .subscribe();
      watch(looseCall(works.coop('next', 5, 2)).pipe(bulkhead(semaphore)));
      await advance(3);
      sub.unsubscribe();
      await advance(16);
      expect([works.running, semaphore.snapshot()]).toMatchObject([1, { inUse: 1, waiting: 1 }]);
      await advance(1);
      expect([works.running, semaphore.snapshot().inUse]).toEqual([0, 0]);
      await advance(TURN);
      expect([works.started, works.running]).toEqual([['deaf', 'next'], 1]);
      await advance(5);
      expect(told(lines)).toEqual([`${25 + TURN} next 2`, `${25 + TURN} complete`]);
    }));

  it('and one that was revoked; it is told when it has ended', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const semaphore = new Semaphore({ name: 'db', limit: 1 });
      watch(looseCall(works.deaf('deaf', 20, 1)).pipe(bulkhead(semaphore)));
      await advance(3);
      semaphore.dispose({ cancelInFlight: true });
      expect(semaphore.snapshot().inUse).toBe(1);
      await advance(17);
      expect(semaphore.snapshot().inUse).toBe(0);
      expect(told(lines)).toEqual(['20 error Gate "db" has been disposed.']);
    }));

  it('after the grace it is abandoned, and its permit is free', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const group = handle();
      const sub = scoped((scope) => scope.call(works.deaf('stuck', 300, 1), { label: 'stuck' }).pipe(bulkhead(semaphore)), {
        graceMs: 50,
        onScope: group.take,
      }).subscribe();
      watch(of('next').pipe(bulkhead(semaphore)));
      await advance(10);
      sub.unsubscribe();
      await advance(49);
      expect([semaphore.snapshot().inUse, lines]).toEqual([1, []]);
      await advance(1 + TURN);
      expect(semaphore.snapshot().inUse).toBe(0);
      await advance(TURN);
      expect(told(lines)).toEqual([`${60 + 2 * TURN} next next`, `${60 + 2 * TURN} complete`]);
      expect(reportOf(group.scope).abandoned.map(({ label }) => label)).toEqual(['stuck']);
      await advance(300);
    }));

  it('a call that left work behind ends, and gives its permit back, when that has ended', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      watch(
        scoped((scope) => {
          scope.call(works.coop('background', 15, 0)).subscribe();
          return of('body');
        }).pipe(bulkhead(semaphore)),
      );
      await advance(14);
      expect([lines, semaphore.snapshot().inUse]).toEqual([['0 next body'], 1]);
      await advance(1);
      expect([lines.at(-1), semaphore.snapshot().inUse]).toEqual(['15 complete', 0]);
    }));

  it('cancelled by its scope, holds the line until it has ended', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const group = handle();
      watch(
        scoped((scope) => scope.call(works.deaf('deaf', 20, 1)).pipe(bulkhead(semaphore)), { onScope: group.take }),
        'first',
      );
      watch(of('next').pipe(bulkhead(semaphore)), 'second');
      await advance(5);
      group.scope.cancel();
      await advance(15);
      expect(told(lines)).toEqual(['20 first complete']);
      await advance(TURN);
      expect(told(lines).slice(1)).toEqual([`${20 + TURN} second next next`, `${20 + TURN} second complete`]);
    }));
});

describe('a fan-out over a bulkhead', () => {
  it('of 5 over 1: unsubscribing it starts none of the waiting four', () =>
    virtual(({ at, flush, now }) => {
      const semaphore = new Semaphore({ limit: 1 });
      const started: string[] = [];
      const call = (n: number): Observable<never> => defer(() => (started.push(`${n}@${now()}`), NEVER));
      const sub = range(5)
        .pipe(fanOutScoped((n) => call(n).pipe(bulkhead(semaphore)), { concurrency: 5 }))
        .subscribe();
      at(5, () => sub.unsubscribe());
      flush();
      expect(started).toEqual(['0@0']);
      expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
    }));

  it.each(['unsubscribe', 'a failure', 'a deadline', 'a parent', 'an owner', 'a revoke of the holder', 'a trip of all'] as const)(
    'ended by %s lets nobody of its own in, but others in the same frame',
    (how) =>
      virtual(({ at, flush, now }) => {
        const semaphore = new Semaphore({ limit: 1 });
        const gate = new Desk('g');
        const started: string[] = [];
        const stop = new Subject<never>();
        const noted = (name: string): Observable<never> => defer(() => (started.push(`${name}@${now()}`), stop));
        const [group, parent] = [handle(), handle()];
        const sub = scoped(
          () =>
            range(5).pipe(
              fanOutScoped((n) => noted(String(n)).pipe(bulkhead(semaphore), admit(gate, undefined)), {
                concurrency: 5,
                onScope: group.take,
              }),
              takeWithin(how === 'a deadline' ? 5 : null),
            ),
          { onScope: parent.take },
        ).subscribe({ error: () => {} });
        const other = noted('other')
          .pipe(bulkhead(semaphore))
          .subscribe({ error: () => {} });
        at(5, () => {
          if (how === 'unsubscribe') sub.unsubscribe();
          if (how === 'a failure') stop.error(new Error('boom'));
          if (how === 'a parent') parent.scope.cancel();
          if (how === 'an owner') group.scope.cancel();
          if (how === 'a revoke of the holder') gate.visits[0]?.revoke(new Error('revoked'));
          if (how === 'a trip of all') for (const visit of gate.visits) visit.revoke(new Error('revoked'));
        });
        flush();
        expect(started).toEqual(['0@0', 'other@5']);
        gate.expectSettledOnce();
        other.unsubscribe();
        flush();
        expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
      }),
  );

  it('of 100 over 3, in input order with order: index', () =>
    virtual(({ flush }) => {
      const semaphore = new Semaphore({ limit: 3 });
      let [live, peak] = [0, 0];
      const results: number[][] = [];
      const call = (n: number): Observable<number> =>
        defer(() => {
          peak = Math.max(peak, ++live);
          return concat(
            later(1 + (n % 5), n),
            defer(() => (live--, [])),
          );
        });
      range(100)
        .pipe(
          fanOutScoped((n) => call(n).pipe(bulkhead(semaphore)), { concurrency: Infinity, order: 'index' }),
          toArray(),
        )
        .subscribe((all) => results.push(all));
      flush();
      expect([results[0], peak]).toEqual([Array.from({ length: 100 }, (_, i) => i), 3]);
    }));
});
