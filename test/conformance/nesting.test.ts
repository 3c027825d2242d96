import {
  catchError,
  concat,
  defer,
  EMPTY,
  from,
  merge,
  NEVER,
  Observable,
  of,
  retry,
  switchMap,
  takeUntil,
  tap,
  throwError,
  timer,
} from 'rxjs';
import { failWithin, fanOutScoped, isScopeCancelledError, isScopeError, scoped, takeWithin, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { brief, briefly, kinds } from '../support/brief.js';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';

describe('nesting and retry', () => {
  it('N01 an outer cancel reaches grandchildren', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const leaves = [0, 1, 2, 3].map((i) => cold(`-----${i}---`));
      const result = of(0, 2).pipe(fanOutScoped((i) => of(i, i + 1).pipe(fanOutScoped((leaf) => leaves[leaf] as Observable<string>))));
      expectObservable(result, '^--!').toBe('---');
      for (const leaf of leaves) expectSubscriptions(leaf.subscriptions).toBe('^--!');
    }));

  it('N02 an inner failure becomes the outer child’s failure and cancels outer siblings', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const sibling = cold('---------');
      const inner = cold('---#', undefined, 'boom');
      const result = of('inner', 'sibling').pipe(
        fanOutScoped((key) => (key === 'sibling' ? sibling : of(1).pipe(fanOutScoped(() => inner)))),
        briefly(),
      );
      expectObservable(result).toBe('---#', undefined, 'ScopeError[ScopeError[boom]]');
      expectSubscriptions(sibling.subscriptions).toBe('^--!');
      expectSubscriptions(inner.subscriptions).toBe('^--!');
    }));

  it('N05 the outer scope waits for the calls of inner scopes', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped((index, _, ctx) =>
            index === 0
              ? ctx.call(works.failing('A', 3, 'boom'))
              : of(1).pipe(fanOutScoped((__, ___, own) => own.call(works.deaf('deep', 30, 1)))),
          ),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['3 A settled', '30 deep settled', '30 error ScopeError[boom]']);
    }));

  it('N06 catchError around an inner scope: the fallback starts after the inner cleanup is acknowledged', () =>
    virtual(({ watch, note, lines, flush }) => {
      const inner = from([0, 1]).pipe(
        fanOutScoped((index, _, ctx) => (index === 0 ? failing(3, 'boom') : cleaning(ctx, 20, () => note('cleaned')))),
      );
      watch(of(1).pipe(fanOutScoped(() => inner.pipe(catchError(() => defer(() => (note('fallback'), of('fallback value'))))))));
      flush();
      expect(lines).toEqual(['23 cleaned', '23 fallback', '23 next fallback value', '23 complete']);
    }));

  it('N07 retry after a failed scope: the second attempt starts with nothing of the first in flight', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const inFlight: number[] = [];
      const attempt = defer(() => {
        inFlight.push(works.running);
        return from([works.failing('A', 5, 'boom'), works.deaf('B', 25, 'b')]).pipe(
          fanOutScoped((task, _, ctx) => ctx.call<unknown>(task), { concurrency: 2 }),
        );
      });
      watch(attempt.pipe(retry(2)));
      await advance(200);
      expect(inFlight).toEqual([0, 0, 0]);
      expect(lines.at(-1)).toBe('75 error ScopeError[boom]');
    }));

  it('N08 1000 nested scopes: see the synchronous cases; cancelled by a deadline in virtual time the innermost is torn down', () =>
    virtual(({ watch, note, lines, flush }) => {
      let nested: Observable<unknown> = torn(() => note('torn down'));
      for (let i = 0; i < 300; i++) {
        const inner = nested;
        nested = of(1).pipe(fanOutScoped(() => inner));
      }
      watch(nested.pipe(takeWithin(5)));
      flush();
      expect(lines).toEqual(['5 torn down', '5 complete']);
    }));

  it('signals are aborted from the top down, before anything is torn down', () =>
    virtual(({ note, at, lines, flush }) => {
      const outer = handle();
      const tell = (name: string, scope: { readonly signal: AbortSignal }): void =>
        scope.signal.addEventListener('abort', () => note(`abort ${name}`));
      of(1)
        .pipe(
          fanOutScoped(
            (_, __, ctx) => {
              tell('group', outer.scope);
              tell('child', ctx);
              return of(1).pipe(
                fanOutScoped(
                  (___, ____, own) =>
                    own.call((signal) => {
                      tell('call', { signal });
                      return torn(() => note('torn down'));
                    }),
                  { onScope: (scope) => tell('inner group', scope) },
                ),
              );
            },
            { onScope: outer.take },
          ),
        )
        .subscribe();
      at(2, () => outer.scope.cancel());
      flush();
      expect(lines).toEqual(['2 abort group', '2 abort child', '2 abort inner group', '2 abort call', '2 torn down']);
    }));

  it('an inner scope that is torn down by an ordinary operator is waited for by the outer one', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped((_, __, within) =>
            concat(of('first'), later(5, 'second'), later(5, 'third')).pipe(
              switchMap((name) =>
                name === 'third' ? of(name) : scoped((scope) => cleaning(scope, 20, () => note(`${name} cleaned`)), { within }),
              ),
            ),
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['10 next third', '25 first cleaned', '30 second cleaned', '30 complete']);
    }));

  it('a scope that is given by `within` is cancelled and waited for with its parent', () =>
    virtual(({ watch, note, at, lines, flush }) => {
      const parent = handle();
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: parent.take })), 'parent');
      at(2, () =>
        watch(
          scoped((scope) => cleaning(scope, 10, () => note('cleaned')), { within: parent.scope }),
          'inner',
        ),
      );
      at(5, () => parent.scope.cancel());
      flush();
      expect(lines).toEqual(['15 cleaned', '15 inner error Cancelled(parent-cancelled < explicit)', '15 parent complete']);
    }));

  it('within wins over the enclosing scope', () =>
    virtual(({ watch, at, lines, flush }) => {
      const elsewhere = handle();
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: elsewhere.take })), 'elsewhere');
      watch(of(1).pipe(fanOutScoped(() => scoped(() => later(10, 'value'), { within: elsewhere.scope }))));
      at(4, () => elsewhere.scope.cancel());
      flush();
      expect(lines).toEqual(['4 complete', '4 elsewhere complete']);
    }));

  it('an outer call and an inner scope tell one report each; late values of inner calls go up', () =>
    fake(async ({ works, advance }) => {
      const [outer, inner] = [handle(), handle()];
      const subscription = of(1)
        .pipe(
          fanOutScoped(
            () =>
              of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(works.deaf('deep', 20, 'value')), { onScope: inner.take, label: 'inner' })),
            { onScope: outer.take, label: 'outer' },
          ),
        )
        .subscribe();
      await advance(5);
      subscription.unsubscribe();
      await advance(50);
      expect(reportOf(inner.scope)).toMatchObject({
        late: [{ value: 'value' }],
        reason: { kind: 'parent-cancelled', cause: { kind: 'unsubscribed' } },
      });
      expect(reportOf(outer.scope)).toMatchObject({ late: [{ label: 'call', path: ['outer', 'inner'], value: 'value' }] });
    }));

  it('errors of an inner scope that nobody hears any more fail the outer one', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped((_, __, ctx) => {
            const inner = of(1).pipe(
              fanOutScoped(
                () =>
                  torn(() => {
                    throw 'inner teardown';
                  }),
                { within: ctx },
              ),
            );
            return merge(inner.pipe(takeUntil(timer(3))), later(10, 'value'));
          }),
        ),
      );
      flush();
      expect(lines).toEqual(['3 error ScopeError[inner teardown]']);
    }));
});

describe('child()', () => {
  it('does not hold its parent while nothing runs in it', () =>
    virtual(({ watch, lines, flush }) => {
      const children: Scope[] = [];
      watch(
        of(1).pipe(
          fanOutScoped((value, _, ctx) => {
            children.push(ctx.child('idle'), ctx.child('idle').child('deeper'));
            for (const child of children) void child.signal;
            return of(value);
          }),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next 1', '0 complete']);
      for (const child of children) {
        expect(child.dump().state).toBe('closed');
        expect(child.signal.aborted).toBe(false);
        expect(brief(reportOf(child).errors)).toBe('');
      }
    }));

  it('holds its parent as long as something runs in it, and never again after', () =>
    virtual(({ watch, lines, at, flush }) => {
      const group = handle();
      watch(
        of(1).pipe(
          fanOutScoped(
            (value, _, ctx) => {
              const agent = ctx.child('agent');
              agent.call(() => pause(5)).subscribe();
              at(3, () => agent.child('sub').track(pause(6)));
              return of(value);
            },
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next 1', '9 complete']);
    }));

  it('is cancelled with its parent; its calls error with ScopeCancelledError after they have acknowledged', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })));
      const agent = group.scope.child('agent');
      watch(agent.call(works.deaf('call', 20, 1)), 'call');
      agent.closed$.subscribe(({ reason }) => lines.push(`agent closed: ${reason === undefined ? '' : kinds(reason)}`));
      await advance(5);
      group.scope.cancel();
      await advance(50);
      expect(lines).toEqual([
        '20 call settled',
        '20 call error Cancelled(parent-cancelled < explicit)',
        'agent closed: parent-cancelled < explicit',
        '20 complete',
      ]);
    }));

  it('cancelled by itself leaves its parent and its siblings alone', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })));
      const [agent, other] = [group.scope.child('agent'), group.scope.child('other')];
      watch(
        agent.call(() => NEVER),
        'agent',
      );
      watch(
        other.call(() => later(8, 'fine')),
        'other',
      );
      at(4, () => agent.cancel('enough'));
      at(9, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['4 agent error Cancelled(explicit)', '8 other next fine', '8 other complete', '9 complete']);
      expect(agent.signal.aborted).toBe(true);
      expect(isScopeCancelledError(agent.signal.reason) && agent.signal.reason.reason).toEqual({ kind: 'explicit', reason: 'enough' });
      expect(reportOf(agent)).toMatchObject({ reason: { kind: 'explicit' } });
    }));

  it('an idle one that was handed out hears of the cancel', () =>
    virtual(({ at, note, lines, flush }) => {
      const group = handle();
      const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })).subscribe();
      const agent = group.scope.child('agent');
      const sub = agent.child('sub');
      agent.signal.addEventListener('abort', () => note('agent aborted'));
      sub.signal.addEventListener('abort', () => note('sub aborted'));
      sub.closed$.subscribe(() => note('sub closed'));
      at(3, () => subscription.unsubscribe());
      flush();
      expect(lines).toEqual(['3 agent aborted', '3 sub aborted', '3 sub closed']);
    }));

  it('counts depth and path; operators do not', () =>
    virtual(({ flush }) => {
      const seen: unknown[] = [];
      const note = ({ depth, path }: Scope): void => void seen.push([depth, path.join('/')]);
      of(1)
        .pipe(
          fanOutScoped(
            (_, __, ctx) => {
              note(ctx);
              const agent = ctx.child('agent');
              note(agent);
              note(agent.child('sub'));
              return of(1).pipe(takeWithin(5, { label: 'timed', within: agent, onScope: note }));
            },
            { label: 'root', onScope: note },
          ),
        )
        .subscribe();
      flush();
      expect(seen).toEqual([
        [0, 'root'],
        [0, 'root'],
        [1, 'root/agent'],
        [2, 'root/agent/sub'],
        [1, 'root/agent/timed'],
      ]);
    }));

  it('has a deadline of its own: its calls are cut off, the parent is not', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        scoped((scope) => {
          const agent = scope.child('agent');
          agent.setDeadline(5);
          return merge(agent.call(() => NEVER).pipe(catchError((error) => of(brief(error)))), later(10, 'parent'));
        }),
      );
      flush();
      expect(lines).toEqual(['5 next Cancelled(deadline)', '10 next parent', '10 complete']);
    }));

  it('can be used again after everything in it has ended', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })));
      const agent = group.scope.child('agent');
      watch(
        agent.call(() => of('sync')),
        'call',
      );
      at(2, () =>
        watch(
          agent.call(() => later(2, 'async')),
          'call',
        ),
      );
      at(6, () =>
        watch(
          agent.call(() => NEVER),
          'call',
        ),
      );
      at(8, () => group.scope.cancel());
      flush();
      expect(lines).toEqual([
        ...['0 call next sync', '0 call complete', '4 call next async', '4 call complete'],
        ...['8 call error Cancelled(parent-cancelled < explicit)', '8 complete'],
      ]);
    }));

  it('of a closed scope refuses', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      of(1)
        .pipe(fanOutScoped((value) => of(value), { onScope: group.take }))
        .subscribe();
      const agent = group.scope.child('agent');
      watch(agent.call(() => of(1)));
      expect(() => agent.track(EMPTY)).toThrow('The scope was cancelled');
      flush();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/^0 error Cancelled/);
    }));

  it('a failing cleanup in it fails the parent', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        scoped((scope) => {
          scope.child('agent').track(failing(3, 'agent cleanup'));
          return later(10, 'value');
        }),
      );
      flush();
      expect(lines.at(-1)).toMatch(/^\d+ error ScopeError\[agent cleanup\]$/);
    }));

  it('acquires resources, which close with it', () =>
    fake(async ({ watch, note, lines, advance }) => {
      const group = handle();
      watch(NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })));
      const agent = group.scope.child('agent');
      watch(
        agent.acquire(
          () => Promise.resolve('db'),
          (name) => note(`closing ${name}`),
        ),
        'acquire',
      );
      await advance(3);
      agent.cancel();
      await advance(1);
      group.scope.cancel();
      await advance(5);
      expect(lines).toEqual(['0 acquire next db', '0 acquire complete', '3 closing db', '4 complete']);
    }));

  it('acquires resources, which close with the parent’s normal end too', () =>
    fake(async ({ watch, note, lines, advance }) => {
      watch(
        scoped((scope) =>
          scope.child('agent').acquire(
            () => Promise.resolve('db'),
            (name) => note(`closing ${name}`),
          ),
        ),
      );
      await advance(3);
      expect(lines).toEqual(['0 next db', '0 closing db', '0 complete']);
    }));
});

describe('one operator around another', () => {
  it('an error passes each layer once, in its own shape', () =>
    virtual(({ watch, lines, flush }) => {
      const source = of(1).pipe(fanOutScoped(() => failing(2, 'boom')));
      watch(source.pipe(takeWithin(10)), 'takeWithin');
      watch(source.pipe(failWithin(10)), 'failWithin');
      watch(
        scoped(() => source),
        'scoped',
      );
      watch(of(1).pipe(fanOutScoped(() => source.pipe(failWithin(10)))), 'fanOut');
      flush();
      expect(lines).toEqual([
        '2 takeWithin error ScopeError[boom]',
        '2 failWithin error ScopeError[boom]',
        '2 scoped error ScopeError[ScopeError[boom]]',
        '2 fanOut error ScopeError[ScopeError[boom]]',
      ]);
    }));

  it('an inner deadline is the outer child’s failure, with its own error', () =>
    virtual(({ flush }) => {
      let caught: unknown;
      of(1)
        .pipe(fanOutScoped(() => NEVER.pipe(failWithin(5, { label: 'inner' }))))
        .subscribe({ error: (error: unknown) => (caught = error) });
      flush();
      expect(brief(caught)).toBe('ScopeError[Deadline(inner 5)]');
      expect(isScopeError(caught) && caught.reason).toMatchObject({ kind: 'sibling-failed', index: 0 });
    }));

  it('a parent that is cancelled: nothing of the inner output is heard', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped(() =>
            of(1).pipe(
              fanOutScoped((_, __, ctx) => cleaning(ctx, 5)),
              tap({ error: () => note('inner error'), complete: () => note('inner complete') }),
            ),
          ),
          takeWithin(3),
        ),
      );
      flush();
      expect(lines).toEqual(['8 complete']);
    }));

  it('throwError in project of an inner scope: types all the way', () =>
    virtual(({ flush }) => {
      const errors: unknown[] = [];
      scoped(() => of(1).pipe(fanOutScoped(() => throwError(() => new TypeError('x'))))).subscribe({
        error: (error) => errors.push(error),
      });
      flush();
      const [error] = errors;
      expect(isScopeError(error) && error.leaves()).toEqual([new TypeError('x')]);
    }));
});
