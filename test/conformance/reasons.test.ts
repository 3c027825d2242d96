import { defer, from, merge, NEVER, of, takeUntil, timer, type Observable } from 'rxjs';
import {
  failWithin,
  fanOutScoped,
  isScopeCancelledError,
  rootReason,
  scoped,
  ScopeCancelledError,
  takeWithin,
  type CancelReason,
  type FanOutOptions,
  type ScopeContext,
} from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { kinds } from '../support/brief.js';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, torn, virtual } from '../support/virtual.js';

/** A child that never ends and keeps the reason that its call's signal was aborted with. */
function keeper(): { readonly reasons: CancelReason[]; listen(ctx: ScopeContext): Observable<never> } {
  const reasons: CancelReason[] = [];
  return {
    reasons,
    listen: (ctx) =>
      ctx.call((signal) => {
        signal.addEventListener('abort', () => {
          if (!isScopeCancelledError(signal.reason)) throw new Error('the reason is not a ScopeCancelledError');
          reasons.push(signal.reason.reason);
        });
        return NEVER;
      }),
  };
}

describe('the reason of a cancel', () => {
  it('K01 a cancelled call sees why: sibling failure, deadline, unsubscribe, race', () =>
    virtual(({ at, flush }) => {
      const kept = {
        failed: keeper(),
        source: keeper(),
        deadline: keeper(),
        gone: keeper(),
        raced: keeper(),
        quit: keeper(),
        signal: keeper(),
      };
      const group = handle();
      const controller = new AbortController();
      const pair = (
        keep: { listen(ctx: ScopeContext): Observable<never> },
        other: Observable<unknown>,
        options: FanOutOptions = {},
      ): Observable<unknown> =>
        from([0, 1]).pipe(fanOutScoped((i, _, ctx) => (i === 0 ? keep.listen(ctx) : other), options as { policy: 'settle' }));
      pair(kept.failed, failing(2, 'boom')).subscribe({ error: () => {} });
      failing(2, 'src')
        .pipe(
          (source) => merge(of(1), source),
          fanOutScoped((_, __, ctx) => kept.source.listen(ctx)),
        )
        .subscribe({ error: () => {} });
      pair(kept.deadline, NEVER, { label: 'turn', onScope: (scope) => scope.setDeadline(3) }).subscribe({ error: () => {} });
      const subscription = pair(kept.gone, NEVER).subscribe();
      at(4, () => subscription.unsubscribe());
      pair(kept.raced, later(5, 1), { policy: 'race' }).subscribe();
      pair(kept.quit, NEVER, { onScope: group.take }).subscribe();
      at(6, () => group.scope.cancel('enough'));
      pair(kept.signal, NEVER, { signal: controller.signal }).subscribe({ error: () => {} });
      at(7, () => controller.abort('user'));
      flush();
      expect(kept.failed.reasons).toEqual([{ kind: 'sibling-failed', index: 1, error: 'boom' }]);
      expect(kept.source.reasons).toEqual([{ kind: 'source-error', error: 'src' }]);
      expect(kept.deadline.reasons).toEqual([{ kind: 'deadline', ms: 3, label: 'turn' }]);
      expect(kept.gone.reasons).toEqual([{ kind: 'unsubscribed' }]);
      expect(kept.raced.reasons).toEqual([{ kind: 'race-lost', winner: 1 }]);
      expect(kept.quit.reasons).toEqual([{ kind: 'explicit', reason: 'enough' }]);
      expect(kept.signal.reasons).toEqual([{ kind: 'signal', reason: 'user' }]);
    }));

  it('K01 with promises: signal.reason is the error, and it is one object for the whole group', () =>
    fake(async ({ works, advance }) => {
      const reasons: unknown[] = [];
      from([0, 1, 2])
        .pipe(
          fanOutScoped((i, _, ctx) =>
            ctx.call((signal) => {
              signal.addEventListener('abort', () => reasons.push(signal.reason));
              return i === 0 ? works.failing('A', 5, 'boom')(signal) : works.coop(`${i}`, 50, i)(signal);
            }),
          ),
        )
        .subscribe({ error: () => {} });
      await advance(10);
      expect(reasons).toHaveLength(2);
      expect(reasons[0]).toBeInstanceOf(ScopeCancelledError);
      expect(reasons[0]).toBe(reasons[1]);
      expect((reasons[0] as Error).message).toBe('The scope was cancelled: child 0 failed: "boom".');
    }));

  it('K03 a grandchild sees the root cause through nested scopes', () =>
    virtual(({ flush }) => {
      const kept = keeper();
      of(1)
        .pipe(
          fanOutScoped(() => of(1).pipe(fanOutScoped((_, __, ctx) => kept.listen(ctx)))),
          failWithin(5, { label: 'turn' }),
        )
        .subscribe({ error: () => {} });
      flush();
      expect(kept.reasons.map(kinds)).toEqual(['parent-cancelled < parent-cancelled < deadline']);
      expect(rootReason(kept.reasons[0] as CancelReason)).toEqual({ kind: 'deadline', ms: 5, label: 'turn' });
    }));

  it('K03 a call in a child() of a child() as well', () =>
    virtual(({ flush }) => {
      const kept = keeper();
      scoped((scope) => kept.listen(scope.child('agent').child('sub')))
        .pipe(takeWithin(5, { label: 'turn' }))
        .subscribe();
      flush();
      expect(kept.reasons.map((reason) => rootReason(reason))).toEqual([{ kind: 'deadline', ms: 5, label: 'turn' }]);
    }));

  it('K05 an explicit cancel by the owner ends quietly, after the acknowledgement', () =>
    virtual(({ watch, at, note, lines, flush }) => {
      const groups = { fan: handle(), body: handle(), take: handle(), fail: handle() };
      const child = (name: string) => (scope: ScopeContext) => cleaning(scope, 10, () => note(`${name} cleaned`));
      watch(of(1).pipe(fanOutScoped((_, __, ctx) => child('fan')(ctx), { onScope: groups.fan.take })), 'fan');
      watch(scoped(child('body'), { onScope: groups.body.take }), 'body');
      watch(scoped(child('take')).pipe(takeWithin(99, { onScope: groups.take.take })), 'take');
      watch(scoped(child('fail')).pipe(failWithin(99, { onScope: groups.fail.take })), 'fail');
      at(3, () => Object.values(groups).forEach(({ scope }) => scope.cancel()));
      flush();
      expect(lines.sort()).toEqual(['body', 'fail', 'fan', 'take'].flatMap((name) => [`13 ${name} cleaned`, `13 ${name} complete`]));
    }));

  it('K06 a signal that is aborted cancels the scope; the output errors and keeps the signal’s reason', () =>
    virtual(({ watch, at, lines, flush, cold, expectSubscriptions }) => {
      const controller = new AbortController();
      const { signal } = controller;
      const source = cold('a-----');
      let caught: unknown;
      source
        .pipe(fanOutScoped(() => torn(() => lines.push('torn down')), { signal }))
        .subscribe({ error: (error: unknown) => (caught = error) });
      watch(source.pipe(takeWithin(99, { signal })), 'take');
      watch(source.pipe(failWithin(99, { signal })), 'fail');
      watch(
        scoped(() => source, { signal }),
        'scoped',
      );
      at(4, () => controller.abort('stop'));
      flush();
      expect(lines).toEqual([
        ...['0 take next a', '0 fail next a', '0 scoped next a', 'torn down'],
        ...['4 take error Cancelled(signal)', '4 fail error Cancelled(signal)', '4 scoped error Cancelled(signal)'],
      ]);
      expect(isScopeCancelledError(caught) && caught.reason).toEqual({ kind: 'signal', reason: 'stop' });
      expectSubscriptions(source.subscriptions).toBe(['^---!', '^---!', '^---!', '^---!']);
    }));

  it('K06 a signal that is aborted already: nothing starts', () =>
    virtual(({ watch, lines, flush, cold, expectSubscriptions }) => {
      const signal = AbortSignal.abort('before');
      const source = cold('a');
      watch(source.pipe(fanOutScoped(() => NEVER, { signal })), 'fan');
      watch(source.pipe(takeWithin(9, { signal })), 'take');
      watch(
        scoped(() => source, { signal }),
        'scoped',
      );
      flush();
      expect(lines).toEqual(['0 fan error Cancelled(signal)', '0 take error Cancelled(signal)', '0 scoped error Cancelled(signal)']);
      expectSubscriptions(source.subscriptions).toBe([]);
    }));

  it('K06 the listener is removed when the scope has closed', () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    Object.assign(signal, {
      addEventListener: (...args: Parameters<typeof add>) => (listeners++, add(...args)),
      removeEventListener: (...args: Parameters<typeof remove>) => (listeners--, remove(...args)),
    });
    of(1)
      .pipe(fanOutScoped((value) => of(value), { signal }))
      .subscribe();
    failingNow()
      .pipe(fanOutScoped(() => NEVER, { signal }))
      .subscribe({ error: () => {} });
    NEVER.pipe(takeWithin(9, { signal })).subscribe().unsubscribe();
    scoped(() => of(1), { signal }).subscribe();
    expect(listeners).toBe(0);
  });

  it('the first reason wins: nothing that happens during the cancel overwrites it', () =>
    virtual(({ at, flush }) => {
      const controller = new AbortController();
      const group = handle();
      from([0, 1])
        .pipe(
          fanOutScoped((i, _, ctx) => (i === 0 ? failing(2, 'boom') : cleaning(ctx, 20)), {
            signal: controller.signal,
            onScope: group.take,
          }),
          takeWithin(6),
        )
        .subscribe({ error: () => {} });
      at(3, () => group.scope.cancel());
      at(4, () => controller.abort());
      flush();
      expect(reportOf(group.scope).reason).toEqual({ kind: 'sibling-failed', index: 0, error: 'boom' });
    }));

  it('the quiet end of the owner wins over a signal that is aborted later', () =>
    virtual(({ watch, at, lines, flush }) => {
      const controller = new AbortController();
      const group = handle();
      watch(scoped((scope) => cleaning(scope, 10), { signal: controller.signal, onScope: group.take }));
      at(2, () => group.scope.cancel());
      at(4, () => controller.abort());
      flush();
      expect(lines).toEqual(['12 complete']);
    }));

  it('failures during the cancel travel with the ScopeCancelledError', () =>
    virtual(({ at, flush }) => {
      const controller = new AbortController();
      let caught: unknown;
      of(1)
        .pipe(
          fanOutScoped(
            () =>
              torn(() => {
                throw 'teardown';
              }),
            { signal: controller.signal },
          ),
        )
        .subscribe({ error: (error: unknown) => (caught = error) });
      at(2, () => controller.abort());
      flush();
      expect(isScopeCancelledError(caught) && caught.suppressed).toEqual(['teardown']);
    }));
});

describe('the signal', () => {
  it('of a scope is one object, aborted once, and already aborted when it is first asked for after the cancel', () =>
    virtual(({ flush }) => {
      const group = handle();
      const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })).subscribe();
      const { scope } = group;
      const early = scope.signal;
      expect(early).toBe(scope.signal);
      expect(early.aborted).toBe(false);
      subscription.unsubscribe();
      expect(early.aborted).toBe(true);
      const late = handle();
      NEVER.pipe(fanOutScoped(() => NEVER, { onScope: late.take }))
        .subscribe()
        .unsubscribe();
      expect(late.scope.signal.aborted).toBe(true);
      expect(isScopeCancelledError(late.scope.signal.reason)).toBe(true);
      flush();
    }));

  it('a call that succeeded never sees its signal aborted afterwards', () =>
    fake(async ({ works, advance }) => {
      const signals: AbortSignal[] = [];
      const keep =
        <T>(task: (signal: AbortSignal) => T) =>
        (signal: AbortSignal): T => (signals.push(signal), task(signal));
      const run = (options: FanOutOptions, kill: (subscription: { unsubscribe(): void }) => void): void => {
        const subscription = from([0, 1])
          .pipe(
            fanOutScoped(
              (i, _, ctx) => (i === 0 ? ctx.call(keep(works.deaf('A', 2, 1))) : ctx.call(keep(works.coop('B', 99, 2)))),
              options as { policy: 'settle' },
            ),
          )
          .subscribe({ error: () => {} });
        setTimeout(() => kill(subscription), 5);
      };
      const controller = new AbortController();
      run({}, (subscription) => subscription.unsubscribe());
      run({ signal: controller.signal }, () => controller.abort());
      run({ policy: 'race' }, () => {});
      run({ onScope: (scope) => scope.setDeadline(5) }, () => {});
      await advance(20);
      const succeeded = signals.filter((_, i) => i % 2 === 0);
      expect(succeeded.map(({ aborted }) => aborted)).toEqual([false, false, false, false]);
      expect(signals.filter((_, i) => i % 2 === 1).every(({ aborted }) => aborted)).toBe(true);
    }));

  it('neither does a scope that ended by itself', () =>
    virtual(({ flush }) => {
      const group = handle();
      const contexts: AbortSignal[] = [];
      const subscription = of(1, 2)
        .pipe(
          fanOutScoped((value, _, ctx) => (contexts.push(ctx.signal), later(value, value)), {
            onScope: (scope) => (group.take(scope), contexts.push(scope.signal)),
          }),
        )
        .subscribe();
      flush();
      subscription.unsubscribe();
      group.scope.cancel();
      expect(contexts.map(({ aborted }) => aborted)).toEqual([false, false, false]);
      expect(reportOf(group.scope).reason).toBeUndefined();
    }));

  it('a call that its own subscriber left sees `unsubscribed`', () =>
    virtual(({ flush }) => {
      const kept = keeper();
      scoped((scope) => kept.listen(scope).pipe(takeUntil(timer(3)))).subscribe();
      flush();
      expect(kept.reasons).toEqual([{ kind: 'unsubscribed' }]);
    }));

  it('an abort listener may cancel, track and call: nothing recurses, nothing starts', () =>
    virtual(({ watch, lines, flush, note }) => {
      const group = handle();
      let invoked = 0;
      watch(
        from([0, 1, 2]).pipe(
          fanOutScoped(
            (i, _, ctx) => {
              if (i === 0) return failing(3, 'boom');
              ctx.signal.addEventListener('abort', () => {
                note(`abort ${i}`);
                group.scope.cancel();
                ctx.cancel();
                ctx.call(() => (invoked++, NEVER)).subscribe({ error: () => note('refused') });
                ctx.track(timer(4));
              });
              return torn(() => note(`torn ${i}`));
            },
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(invoked).toBe(0);
      expect(lines.slice(0, 4)).toEqual(['3 abort 1', '3 refused', '3 abort 2', '3 refused']);
      expect(lines.slice(4)).toEqual([...lines.slice(4, 6), '7 error ScopeError[boom]']);
    }));

  it('with 10,000 listeners in one scope prints no warning', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    const group = handle();
    const controller = new AbortController();
    const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take, signal: controller.signal })).subscribe();
    let heard = 0;
    for (let i = 0; i < 10_000; i++) group.scope.signal.addEventListener('abort', () => heard++);
    const many = from(Array.from({ length: 100 })).pipe(
      fanOutScoped(() => NEVER.pipe(takeWithin(99, { signal: controller.signal })), { concurrency: Infinity }),
    );
    const others = many.subscribe();
    others.unsubscribe();
    subscription.unsubscribe();
    await new Promise((resolve) => setTimeout(resolve, 10));
    process.off('warning', onWarning);
    expect(heard).toBe(10_000);
    expect(warnings).toEqual([]);
  });

  it('is made only for a function that declares a parameter', () =>
    fake(async ({ advance }) => {
      const arities: number[] = [];
      await new Promise<void>((resolve) => {
        scoped((scope) =>
          merge(
            scope.call(async function () {
              arities.push(arguments.length);
            }),
            scope.call(async (signal) => void arities.push(signal instanceof AbortSignal ? 1 : -1)),
          ),
        ).subscribe({ complete: resolve });
      });
      await advance(TURN);
      expect(arities.sort()).toEqual([0, 1]);
    }));
});

function failingNow(): Observable<never> {
  return defer(() => {
    throw new Error('now');
  });
}
