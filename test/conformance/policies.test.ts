import { EMPTY, from, map, NEVER, of, throwError, toArray, type Observable } from 'rxjs';
import { fanOutScoped, takeWithin, type FanOutOptions, type Outcome } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { briefly, outcomeLine } from '../support/brief.js';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, torn, virtual } from '../support/virtual.js';

type Kind = { readonly ms: number; readonly fails?: boolean };
const run = ({ ms, fails = false }: Kind): Observable<string> => (fails ? failing(ms, `f${ms}`) : later(ms, `v${ms}`));
const lined = map(outcomeLine);

describe('policies', () => {
  it('P01 settle never errors: one record per child, in input order', () =>
    virtual(({ expectObservable }) => {
      const result = from([{ ms: 6 }, { ms: 2, fails: true }, { ms: 4 }]).pipe(
        fanOutScoped(run, { policy: 'settle', order: 'index' }),
        lined,
        toArray(),
      );
      expectObservable(result).toBe('------(r|)', { r: ['0 fulfilled v6', '1 failed f2', '2 fulfilled v4'] });
    }));

  it('P01 settle emits each outcome when it is known, in order of completion by default', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([{ ms: 6 }, { ms: 2, fails: true }, { ms: 4 }]).pipe(fanOutScoped(run, { policy: 'settle' }), lined));
      flush();
      expect(lines).toEqual(['2 next 1 failed f2', '4 next 2 fulfilled v4', '6 next 0 fulfilled v6', '6 complete']);
    }));

  it('P02 collect: a failure does not cancel siblings; at the end one aggregate of all', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const children = [cold('-#', undefined, 'f1'), cold('-----(v|)'), cold('---#', undefined, 'f3')];
      const result = from(children).pipe(
        fanOutScoped((child) => child, { policy: 'collect' }),
        briefly(),
      );
      expectObservable(result).toBe('-----(v#)', undefined, 'ScopeError[f1, f3]');
      ['^!', '^----!', '^--!'].forEach((span, i) => expectSubscriptions(children[i]?.subscriptions ?? []).toBe(span));
    }));

  it('P03 race: the first success wins; an earlier failure does not end it', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const children = [cold('-#'), cold('------(v|)'), cold('---------(w|)')];
      const group = handle();
      const result = from(children).pipe(fanOutScoped((child) => child, { policy: 'race', onScope: group.take }));
      expectObservable(result).toBe('------(v|)');
      ['^!', '^-----!', '^-----!'].forEach((span, i) => expectSubscriptions(children[i]?.subscriptions ?? []).toBe(span));
    }));

  it('P04 race: all fail, one aggregate of all', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        from([
          { ms: 3, fails: true },
          { ms: 1, fails: true },
        ]).pipe(fanOutScoped(run, { policy: 'race' })),
      );
      flush();
      expect(lines).toEqual(['3 error ScopeError[f1, f3]']);
    }));

  it.each(['failFast', 'collect', 'settle', 'race'] as const)('P07 %s: an error of the source still fails the scope', (policy) =>
    virtual(({ hot, watch, lines, flush, expectSubscriptions, cold }) => {
      const child = cold('--------');
      watch(hot('a--#', undefined, 'src').pipe(fanOutScoped(() => child, { policy: policy as 'failFast' })));
      flush();
      expect(lines).toEqual(['3 error ScopeError[src]']);
      expectSubscriptions(child.subscriptions).toBe('^--!');
    }),
  );
});

describe('settle', () => {
  it('uses a child’s last value, undefined if it had none', () =>
    virtual(({ cold, watch, lines, flush }) => {
      watch(
        from<Observable<string>[]>([cold('a-b-(c|)'), cold('--|'), EMPTY]).pipe(
          fanOutScoped((child) => child, { policy: 'settle', order: 'index' }),
          lined,
        ),
      );
      flush();
      expect(lines).toEqual(['4 next 0 fulfilled c', '4 next 1 fulfilled undefined', '4 next 2 fulfilled undefined', '4 complete']);
    }));

  it('a throwing project is the failure of that child alone', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        from([0, 1, 2]).pipe(
          fanOutScoped(
            (i) => {
              if (i === 1) throw 'projected';
              return of(i);
            },
            { policy: 'settle' },
          ),
          lined,
        ),
      );
      flush();
      expect(lines).toEqual(['0 next 0 fulfilled 0', '0 next 1 failed projected', '0 next 2 fulfilled 2', '0 complete']);
    }));

  it.each(['completion', 'index'] as const)('cancel(): the remaining outcomes, then complete, order %s', (order) =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      const kinds: Kind[] = [{ ms: 3 }, { ms: 99 }, { ms: 2, fails: true }, { ms: 99 }, { ms: 1 }, { ms: 1 }];
      watch(from(kinds).pipe(fanOutScoped(run, { policy: 'settle', order, concurrency: 3, onScope: group.take }), lined));
      at(8, () => group.scope.cancel());
      flush();
      const ended = ['2 next 2 failed f2', '3 next 0 fulfilled v3', '4 next 4 fulfilled v1', '5 next 5 fulfilled v1'];
      const cut = ['8 next 1 cancelled', '8 next 3 cancelled'];
      if (order === 'completion') {
        expect(lines.slice(0, 4).sort()).toEqual(ended.sort());
        expect(lines.slice(4).sort()).toEqual([...cut, '8 complete'].sort());
      } else {
        expect(lines).toEqual([
          ...['3 next 0 fulfilled v3', '8 next 1 cancelled', '8 next 2 failed f2', '8 next 3 cancelled'],
          ...['8 next 4 fulfilled v1', '8 next 5 fulfilled v1', '8 complete'],
        ]);
      }
      expect(lines.at(-1)).toBe('8 complete');
    }),
  );

  it('cancel(): values that never started are not-started; every index has exactly one outcome', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(
        from([0, 1, 2, 3]).pipe(
          fanOutScoped((_, __, ctx) => cleaning(ctx, 4), { policy: 'settle', order: 'index', concurrency: 2, onScope: group.take }),
          lined,
        ),
      );
      at(3, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['7 next 0 cancelled', '7 next 1 cancelled', '7 next 2 not-started', '7 next 3 not-started', '7 complete']);
    }));

  it('cancel(): an abandoned call is unknown', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      const tasks = [works.coop('A', 50, 1), works.deaf('B', 50, 2)];
      watch(
        from(tasks).pipe(
          fanOutScoped((task, _, ctx) => ctx.call(task), { policy: 'settle', order: 'index', graceMs: 10, onScope: group.take }),
          lined,
        ),
      );
      await advance(5);
      group.scope.cancel();
      await advance(100);
      expect(lines).toEqual([
        ...['5 A settled', `${15 + TURN} next 0 cancelled`, `${15 + TURN} next 1 unknown`, `${15 + TURN} complete`, '50 B settled'],
      ]);
    }));

  it('a child cancelled by hand is an outcome like any other', () =>
    virtual(({ watch, at, lines, flush }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped((i, _, ctx) => (i === 0 ? (at(2, () => ctx.cancel()), cleaning(ctx, 3)) : later(9, i)), { policy: 'settle' }),
          lined,
        ),
      );
      flush();
      expect(lines).toEqual(['5 next 0 cancelled', '9 next 1 fulfilled 1', '9 complete']);
    }));

  it('a cleanup that fails makes its child’s outcome failed', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        of(0).pipe(
          fanOutScoped(
            (i, _, ctx) => {
              ctx.track(failing(3, 'flush'));
              return of(i);
            },
            { policy: 'settle' },
          ),
          lined,
        ),
      );
      flush();
      expect(lines).toEqual(['3 next 0 failed flush', '3 complete']);
    }));

  it('a deadline around it keeps the outcomes that were told, and ends', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([{ ms: 2 }, { ms: 3, fails: true }, { ms: 50 }]).pipe(fanOutScoped(run, { policy: 'settle' }), lined, takeWithin(10)));
      flush();
      expect(lines).toEqual(['2 next 0 fulfilled v2', '3 next 1 failed f3', '10 complete']);
    }));

  it('a signal that is aborted: an error, no outcomes', () =>
    virtual(({ watch, at, lines, flush }) => {
      const controller = new AbortController();
      watch(from([{ ms: 50 }]).pipe(fanOutScoped(run, { policy: 'settle', signal: controller.signal })));
      at(4, () => controller.abort('stop'));
      flush();
      expect(lines).toEqual(['4 error Cancelled(signal)']);
    }));
});

describe('collect', () => {
  it('queued children start after a failure', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([{ ms: 1, fails: true }, { ms: 2 }, { ms: 3 }]).pipe(fanOutScoped(run, { policy: 'collect', concurrency: 1 })));
      flush();
      expect(lines).toEqual(['3 next v2', '6 next v3', '6 error ScopeError[f1]']);
    }));

  it('without a failure completes', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([{ ms: 1 }, { ms: 2 }]).pipe(fanOutScoped(run, { policy: 'collect' })));
      flush();
      expect(lines).toEqual(['1 next v1', '2 next v2', '2 complete']);
    }));

  it('cancel() after a failure: the failure is told all the same', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(from([{ ms: 1, fails: true }, { ms: 50 }]).pipe(fanOutScoped(run, { policy: 'collect', onScope: group.take })));
      at(5, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['5 error ScopeError[f1]']);
    }));

  it('a source error cancels the children and joins their failures', () =>
    virtual(({ hot, watch, lines, flush }) => {
      watch(
        hot('ab-----#', undefined, 'src').pipe(fanOutScoped((key) => (key === 'a' ? failing(2, 'boom') : NEVER), { policy: 'collect' })),
      );
      flush();
      expect(lines).toEqual(['7 error ScopeError[boom, src]']);
    }));

  it('a child that failed after it had emitted keeps its values', () =>
    virtual(({ cold, expectObservable }) => {
      const result = of(1).pipe(
        fanOutScoped(() => cold('a-b-#', undefined, 'boom'), { policy: 'collect' }),
        briefly(),
      );
      expectObservable(result).toBe('a-b-#', undefined, 'ScopeError[boom]');
    }));
});

describe('race', () => {
  it('is won by the first child that completes, with its last value; values before that are not told', () =>
    virtual(({ cold, expectObservable }) => {
      const result = from([cold('a-b-c-|'), cold('--x--(y|)')]).pipe(fanOutScoped((child) => child, { policy: 'race' }));
      expectObservable(result).toBe('-----(y|)');
    }));

  it('a winner without a value wins with undefined', () =>
    virtual(({ expectObservable }) => {
      const result = of(1).pipe(fanOutScoped(() => EMPTY, { policy: 'race' }));
      expectObservable(result).toBe('(u|)', { u: undefined });
    }));

  it('the result waits until the losers have acknowledged', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped((i, _, ctx) => (i === 0 ? later(3, 'winner') : cleaning(ctx, 10, () => note('loser cleaned'))), { policy: 'race' }),
        ),
      );
      flush();
      expect(lines).toEqual(['13 loser cleaned', '13 next winner', '13 complete']);
    }));

  it('the winner’s own cleanup is waited for, and its signal is not aborted', () =>
    virtual(({ watch, note, lines, flush }) => {
      let aborted: boolean | undefined;
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (i, _, ctx) => {
              if (i === 1) return NEVER;
              ctx.call((signal) => later(8, 'side').pipe(map(() => (aborted = signal.aborted)))).subscribe(() => note('side call ended'));
              return later(3, 'winner');
            },
            { policy: 'race' },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['8 side call ended', '8 next winner', '8 complete']);
      expect(aborted).toBe(false);
    }));

  it('the winner’s own calls are not under the grace of the losers', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (i, _, ctx) => {
              if (i === 0) ctx.call(() => later(8, 'side')).subscribe();
              return i === 0 ? of('winner') : NEVER;
            },
            { policy: 'race', graceMs: 3, onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['8 next winner', '8 complete']);
      expect(reportOf(group.scope).abandoned).toEqual([]);
    }));

  it('queued children start when an earlier one fails, and never after the win', () =>
    virtual(({ flush, watch, lines }) => {
      const started: number[] = [];
      const kinds: Kind[] = [{ ms: 2, fails: true }, { ms: 4 }, { ms: 1, fails: true }, { ms: 9 }, { ms: 1 }];
      watch(from(kinds).pipe(fanOutScoped((kind, i) => (started.push(i), run(kind)), { policy: 'race', concurrency: 2 })));
      flush();
      expect(started).toEqual([0, 1, 2, 3]);
      expect(lines).toEqual(['4 next v4', '4 complete']);
    }));

  it('a winner stops the source', () =>
    virtual(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('a--b--c--d');
      expectObservable(source.pipe(fanOutScoped((key) => later(4, key), { policy: 'race' }))).toBe('----(a|)');
      expectSubscriptions(source.subscriptions).toBe('^---!');
    }));

  it('no children: completes without a value', () =>
    virtual(({ expectObservable }) => expectObservable(EMPTY.pipe(fanOutScoped(() => NEVER, { policy: 'race' }))).toBe('|')));

  it('all cancelled by hand: completes without a value', () =>
    virtual(({ watch, lines, at, flush }) => {
      watch(from([0, 1]).pipe(fanOutScoped((_, __, ctx) => (at(2, () => ctx.cancel()), NEVER), { policy: 'race' })));
      flush();
      expect(lines).toEqual(['2 complete']);
    }));

  it('the losers’ reason names the winner; their cleanup errors are in the report', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (i) =>
              i === 1
                ? later(3, 'winner')
                : torn<string>(() => {
                    throw 'loser';
                  }),
            { policy: 'race', onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['3 next winner', '3 complete']);
      expect(reportOf(group.scope)).toMatchObject({
        reason: { kind: 'race-lost', winner: 1 },
        errors: [{ error: 'loser', phase: 'cleanup', index: 0 }],
      });
    }));

  it('cancel() by the owner: completes without a value', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(from([{ ms: 2, fails: true }, { ms: 50 }]).pipe(fanOutScoped(run, { policy: 'race', onScope: group.take })));
      at(6, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['6 complete']);
    }));
});

describe('order: index with each policy', () => {
  const kinds: Kind[] = [{ ms: 6 }, { ms: 2, fails: true }, { ms: 4 }];

  it('failFast: what is not in order yet when a child fails is dropped; what was told stays told', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([{ ms: 2 }, { ms: 9 }, { ms: 3 }, { ms: 5, fails: true }]).pipe(fanOutScoped(run, { order: 'index' })));
      flush();
      expect(lines).toEqual(['2 next v2', '5 error ScopeError[f5]']);
    }));

  it('collect: a failed child makes room for the next', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from(kinds).pipe(fanOutScoped(run, { order: 'index', policy: 'collect' })));
      watch(
        from([{ ms: 1, fails: true }, { ms: 5 }, { ms: 3 }]).pipe(fanOutScoped(run, { order: 'index', policy: 'collect' })),
        'first fails',
      );
      flush();
      expect(lines).toEqual([
        ...['5 first fails next v5', '5 first fails next v3', '5 first fails error ScopeError[f1]'],
        ...['6 next v6', '6 next v4', '6 error ScopeError[f2]'],
      ]);
    }));

  it('settle: outcomes in order, as soon as 0..i are known', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([...kinds, { ms: 8 }]).pipe(fanOutScoped(run, { order: 'index', policy: 'settle' }), lined));
      flush();
      expect(lines).toEqual([
        '6 next 0 fulfilled v6',
        '6 next 1 failed f2',
        '6 next 2 fulfilled v4',
        '8 next 3 fulfilled v8',
        '8 complete',
      ]);
    }));

  it('race: has one value, so no order', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from(kinds).pipe(fanOutScoped(run, { order: 'index', policy: 'race' })));
      flush();
      expect(lines).toEqual(['4 next v4', '4 complete']);
    }));

  it('a child cancelled by hand makes room for the next', () =>
    virtual(({ watch, at, lines, flush }) => {
      watch(
        from([0, 1]).pipe(fanOutScoped((i, _, ctx) => (i === 0 ? (at(3, () => ctx.cancel()), NEVER) : later(1, i)), { order: 'index' })),
      );
      flush();
      expect(lines[0]).toBe('3 next 1');
      expect(lines[1]).toBe('3 complete');
    }));

  it('a subscriber that feeds the source while held values are flushed sees them in order', () =>
    virtual(({ cold, watch, lines, flush }) => {
      watch(
        from([cold('----(a|)'), cold('-b-c-d--|'), cold('e|')]).pipe(fanOutScoped((child) => child, { order: 'index', concurrency: 3 })),
      );
      flush();
      expect(lines.map((line) => line.replace(' next ', ''))).toEqual(['4a', '4b', '4c', '5d', '8e', '8 complete']);
    }));

  it('outcomes: all keeps values with every policy', () =>
    virtual(({ flush }) => {
      for (const policy of ['collect', 'settle', 'race', 'failFast'] as const) {
        const group = handle();
        const options: FanOutOptions = { policy, outcomes: 'all', order: 'index', onScope: group.take };
        from([{ ms: 2 }, { ms: 3 }])
          .pipe(fanOutScoped(run, options as { policy: 'settle' }))
          .subscribe();
        flush();
        const expected: Record<string, string[]> = { race: ['0 fulfilled v2', '1 cancelled'] };
        expect(reportOf(group.scope).outcomes.map(outcomeLine)).toEqual(expected[policy] ?? ['0 fulfilled v2', '1 fulfilled v3']);
      }
    }));
});

describe('types of options', () => {
  it.each([
    ['policy', 'fastest', RangeError],
    ['policy', 3, TypeError],
    ['order', 'random', RangeError],
    ['outcomes', 'none', RangeError],
    ['outcomes', true, TypeError],
    ['graceMs', -1, RangeError],
    ['graceMs', Number.NaN, RangeError],
    ['graceMs', '5', TypeError],
    ['label', 5, TypeError],
    ['signal', {}, TypeError],
    ['within', {}, TypeError],
    ['onScope', 'x', TypeError],
    ['onUnhandled', {}, TypeError],
    ['scheduler', {}, TypeError],
  ])('%s: %s is refused when the operator is called, by name', (option, value, kind) => {
    const call = (): unknown => fanOutScoped(() => NEVER, { [option]: value } as FanOutOptions as { policy: 'settle' });
    expect(call).toThrow(kind);
    expect(call).toThrow(`fanOutScoped: ${option} must be`);
  });

  it('project must be a function', () => expect(() => fanOutScoped('x' as never)).toThrow(TypeError));

  it('Outcome narrows by status', () =>
    virtual(({ flush }) => {
      const values: number[] = [];
      of(1)
        .pipe(fanOutScoped((value) => of(value), { policy: 'settle' }))
        .subscribe((outcome: Outcome<number>) => outcome.status === 'fulfilled' && values.push(outcome.value));
      throwError(() => 1)
        .pipe(fanOutScoped(() => NEVER, { policy: 'settle' }))
        .subscribe({ error: () => {} });
      flush();
      expect(values).toEqual([1]);
    }));
});
