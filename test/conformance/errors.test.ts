import { catchError, concat, from, map, NEVER, of, throwError } from 'rxjs';
import { fanOutScoped, isScopeError, rootReason, scoped, ScopeCancelledError, ScopeError, takeWithin, type ScopeReport } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { brief, outcomeLine } from '../support/brief.js';
import { abortError, fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { failing, later, virtual } from '../support/virtual.js';

function shouldBeScopeError(error: unknown): ScopeError {
  if (!isScopeError(error)) throw new Error(`not a ScopeError: ${brief(error)}`);
  return error;
}

describe('errors and aggregation', () => {
  it('E01 a sibling that fails while it is being cancelled: both errors are reported', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 5, 'boom'), works.cleanup('B', 3, 'cleanup')];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      await advance(50);
      expect(lines.at(-1)).toBe('8 error ScopeError[boom, cleanup]');
    }));

  it('E01 the failures say where they come from', () =>
    fake(async ({ works, advance }) => {
      const group = handle();
      const tasks = [works.failing('A', 5, 'boom'), works.cleanup('B', 3, 'cleanup')];
      from(tasks)
        .pipe(fanOutScoped((task, _, ctx) => ctx.call(task), { onScope: group.take }))
        .subscribe({ error: () => {} });
      await advance(50);
      const report = reportOf(group.scope);
      expect(report.errors).toEqual([
        { error: 'boom', phase: 'run', index: 0 },
        { error: 'cleanup', phase: 'cleanup', index: 1 },
      ]);
      expect(report.outcomes.map(outcomeLine)).toEqual(['0 failed boom', '1 failed cleanup']);
    }));

  it('E02 a single failure has the same shape as many', () =>
    virtual(({ flush }) => {
      const boom = new Error('boom');
      let caught: unknown;
      of(1)
        .pipe(fanOutScoped(() => throwError(() => boom)))
        .subscribe({ error: (error: unknown) => (caught = error) });
      flush();
      const error = shouldBeScopeError(caught);
      expect(error).toBeInstanceOf(AggregateError);
      expect(error).toBeInstanceOf(ScopeError);
      expect(error.errors).toEqual([boom]);
      expect(error.cause).toBe(boom);
      expect(error.reason).toEqual({ kind: 'sibling-failed', index: 0, error: boom });
    }));

  it('E03 AbortErrors that our own cancel caused are not in the aggregate', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const sdk = Object.assign(new Error('Request was aborted.'), { name: 'APIUserAbortError' });
      const coded = Object.assign(new Error('aborted'), { code: 'ABORT_ERR' });
      const tasks = [
        works.failing('A', 5, 'boom'),
        works.coop('B', 99, 0),
        works.cleanup('C', 2, abortError()),
        works.cleanup('D', 2, sdk),
        works.cleanup('E', 2, coded),
        (signal: AbortSignal) =>
          new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as ScopeCancelledError))),
      ];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      await advance(50);
      expect(lines.at(-1)).toBe('7 error ScopeError[boom]');
    }));

  it('E03 the SDK’s own abort error counts, by its name, as a cancellation', async () => {
    const { APIUserAbortError } = await import('@anthropic-ai/sdk');
    await fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 5, 'boom'), works.cleanup('B', 1, new APIUserAbortError())];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      await advance(50);
      expect(lines.at(-1)).toBe('6 error ScopeError[boom]');
    });
  });

  it('E04 an AbortError that nobody asked for is a failure', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const own = abortError('its own timeout');
      watch(from([works.failing('A', 5, own)]).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      watch(of(1).pipe(fanOutScoped(() => throwError(() => own))));
      await advance(10);
      expect(lines).toEqual(['0 error ScopeError[its own timeout]', '5 A settled', '5 error ScopeError[its own timeout]']);
    }));

  it('E04 an AbortError of a call whose signal was not aborted stays a failure during a cancel', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(
        from([0, 1]).pipe(
          fanOutScoped((index, _, ctx) =>
            index === 0
              ? ctx.call(works.failing('A', 5, 'boom'))
              : ctx.call(works.failing('B', 8, abortError('a payment’s own timeout')), { shield: true }),
          ),
        ),
      );
      await advance(20);
      expect(lines).toEqual(['5 A settled', '8 B settled', '8 error ScopeError[boom, a payment’s own timeout]']);
    }));

  it('E05 source and child fail: both are in the aggregate, in order of occurrence', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const group = handle();
      const source = concat(of('go'), failing(5, 'src'));
      watch(source.pipe(fanOutScoped((_, __, ctx) => ctx.call(works.cleanup('B', 2, 'child')), { onScope: group.take })));
      await advance(20);
      expect(lines).toEqual(['7 B settled', '7 error ScopeError[src, child]']);
      expect(reportOf(group.scope).errors.map(({ phase }) => phase)).toEqual(['source', 'cleanup']);
    }));

  it.each([[undefined], [null], [0], [''], [false], [Number.NaN]])('E06 the falsy error %s is a failure and is kept', (value) =>
    fake(async ({ advance }) => {
      const errors: unknown[] = [];
      const run = (child: () => Promise<never>): void => {
        for (const policy of ['failFast', 'collect', 'race'] as const) {
          of(1)
            .pipe(fanOutScoped((_, __, ctx) => ctx.call(child), { policy }))
            .subscribe({ next: () => errors.push('next'), error: (error) => errors.push(error), complete: () => errors.push('complete') });
        }
      };
      run(() => Promise.reject(value));
      run(() => {
        throw value;
      });
      of(1)
        .pipe(fanOutScoped(() => throwError(() => value)))
        .subscribe({ error: (error) => errors.push(error) });
      throwError(() => value)
        .pipe(fanOutScoped(() => NEVER))
        .subscribe({ error: (error) => errors.push(error) });
      of(1)
        .pipe(
          fanOutScoped(() => {
            throw value;
          }),
        )
        .subscribe({ error: (error) => errors.push(error) });
      scoped(() => throwError(() => value)).subscribe({ error: (error) => errors.push(error) });
      await advance(0);
      expect(errors).toHaveLength(10);
      for (const error of errors) expect(shouldBeScopeError(error).errors).toEqual([value]);
      const settled: unknown[] = [];
      of(1)
        .pipe(fanOutScoped(() => throwError(() => value), { policy: 'settle' }))
        .subscribe((outcome) => settled.push(outcome));
      expect(settled).toEqual([{ index: 0, status: 'failed', reason: value }]);
    }),
  );

  it('E06 a falsy error during cleanup is kept as well', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 5, undefined), works.cleanup('B', 1, 0)];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      await advance(50);
      expect(lines.at(-1)).toBe('6 error ScopeError[undefined, 0]');
    }));

  it('E07 the same error object from two children is reported twice', () =>
    virtual(({ flush }) => {
      const same = new Error('same');
      let caught: unknown;
      from([1, 2])
        .pipe(fanOutScoped((ms) => failing(ms, same), { policy: 'collect' }))
        .subscribe({ error: (error: unknown) => (caught = error) });
      flush();
      const error = shouldBeScopeError(caught);
      expect(error.errors).toEqual([same, same]);
      expect(error.failures).toEqual([
        { error: same, phase: 'run', index: 0 },
        { error: same, phase: 'run', index: 1 },
      ]);
      expect(error.leaves()).toEqual([same, same]);
    }));

  it('E09 the error of a nested scope stays nested; leaves() flattens it', () =>
    virtual(({ flush }) => {
      let caught: unknown;
      of(1)
        .pipe(
          fanOutScoped(() =>
            from([1, 2]).pipe(
              fanOutScoped(() => from(['x', 'y']).pipe(fanOutScoped((error) => throwError(() => error), { policy: 'collect' }))),
            ),
          ),
        )
        .subscribe({ error: (error: unknown) => (caught = error) });
      flush();
      const error = shouldBeScopeError(caught);
      expect(brief(error)).toBe('ScopeError[ScopeError[ScopeError[x, y]]]');
      expect(error.leaves()).toEqual(['x', 'y']);
    }));

  it('E11 the error carries an outcome for every index that was asked for', () =>
    virtual(({ flush }) => {
      let caught: unknown;
      from([0, 1, 2, 3, 4])
        .pipe(
          fanOutScoped((index) => (index === 0 ? of('ok') : index === 1 ? failing(5, 'boom') : NEVER), { concurrency: 2, outcomes: 'all' }),
        )
        .subscribe({ error: (error: unknown) => (caught = error) });
      flush();
      expect(shouldBeScopeError(caught).outcomes.map(outcomeLine)).toEqual([
        '0 fulfilled ok',
        '1 failed boom',
        '2 cancelled',
        '3 not-started',
        '4 not-started',
      ]);
    }));

  it('E11 without outcomes: all, those that were fulfilled are a count', () =>
    virtual(({ flush }) => {
      const group = handle();
      from([0, 1, 2])
        .pipe(fanOutScoped((index) => (index === 1 ? failing(5, 'boom') : of('ok')), { concurrency: 2, onScope: group.take }))
        .subscribe({ error: () => {} });
      flush();
      const report = reportOf(group.scope);
      expect(report.fulfilled).toBe(2);
      expect(report.outcomes.map(outcomeLine)).toEqual(['1 failed boom']);
    }));

  it('E12 an abandoned call is unknown, an acknowledged one is cancelled', () =>
    fake(async ({ works, advance, now }) => {
      let caught: unknown;
      let at = 0;
      const tasks = [works.failing('A', 5, 'boom'), works.coop('B', 99, 0), works.deaf('C', 200, 'late')];
      from(tasks)
        .pipe(fanOutScoped((task, _, ctx) => ctx.call<unknown>(task, { label: `call` }), { graceMs: 20, outcomes: 'all' }))
        .subscribe({ error: (error) => ((caught = error), (at = now())) });
      await advance(30);
      const error = shouldBeScopeError(caught);
      expect(at).toBe(25 + TURN);
      expect(error.outcomes.map(outcomeLine)).toEqual(['0 failed boom', '1 cancelled', '2 unknown']);
      expect(error.abandoned).toMatchObject([{ label: 'call', index: 2, ageMs: 25 + TURN }]);
      expect(error.message).toContain('abandoned after the grace, may still complete: "call"');
      await advance(300);
      expect(error.late).toMatchObject([{ label: 'call', index: 2, status: 'fulfilled', value: 'late' }]);
    }));

  it('what is not a cancellation is told in order of occurrence, not of index', () =>
    virtual(({ watch, lines, flush }) => {
      watch(from([9, 3, 6]).pipe(fanOutScoped((ms) => failing(ms, ms), { policy: 'collect' })));
      flush();
      expect(lines).toEqual(['9 error ScopeError[3, 6, 9]']);
    }));

  it('the phases: project, source, run, cleanup', () =>
    virtual(({ flush }) => {
      const reports: ScopeReport[] = [];
      const run = (project: (value: number) => ReturnType<typeof failing>, source = from([0])): void => {
        const group = handle();
        source.pipe(fanOutScoped(project, { onScope: group.take })).subscribe({ error: () => reports.push(reportOf(group.scope)) });
      };
      run(() => {
        throw 'p';
      });
      run(
        () => NEVER,
        throwError(() => 's'),
      );
      run(() => failing(1, 'r'));
      flush();
      expect(reports.map(({ errors }) => errors)).toEqual([
        [{ error: 'p', phase: 'project', index: 0 }],
        [{ error: 's', phase: 'source' }],
        [{ error: 'r', phase: 'run', index: 0 }],
      ]);
    }));

  it('a child that ends with our own ScopeCancelledError is cancelled, not failed', () =>
    virtual(({ watch, lines, flush, at }) => {
      const group = handle();
      watch(
        from([0, 1]).pipe(
          fanOutScoped(
            (index, _, ctx) => {
              if (index === 1) return later(10, 'sibling');
              const agent = ctx.child('agent');
              at(3, () => agent.cancel());
              return agent.call(() => NEVER);
            },
            { onScope: group.take },
          ),
        ),
      );
      flush();
      expect(lines).toEqual(['10 next sibling', '10 complete']);
      expect(reportOf(group.scope)).toMatchObject({ fulfilled: 1, outcomes: [{ index: 0, status: 'cancelled' }], errors: [] });
    }));

  it('the guards know errors by their brand, also when the package is loaded twice', () => {
    const report = { fulfilled: 0, outcomes: [], errors: [], late: [], abandoned: [] };
    const error = new ScopeError(report, 'x');
    const alien = Object.defineProperty(new Error('alien'), Symbol.for('rxfleet.error'), { value: 'ScopeError' });
    expect(isScopeError(error)).toBe(true);
    expect(isScopeError(alien)).toBe(true);
    expect(isScopeError(new AggregateError([]))).toBe(false);
    for (const value of [undefined, null, 0, 'ScopeError', {}]) expect(isScopeError(value)).toBe(false);
  });

  it('rootReason looks through any number of nested scopes', () => {
    const cause = { kind: 'deadline', ms: 5, label: 'turn' } as const;
    const reason = { kind: 'parent-cancelled', cause: { kind: 'parent-cancelled', cause } } as const;
    expect(rootReason(reason)).toBe(cause);
    expect(rootReason(new ScopeCancelledError(reason))).toBe(cause);
    expect(new ScopeCancelledError(reason).kind).toBe('deadline');
    expect(rootReason(cause)).toBe(cause);
  });

  it('catchError and map between a call and its scope change nothing', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        from([1, 2]).pipe(
          fanOutScoped((value, _, ctx) =>
            ctx
              .call(() => (value === 1 ? failing(2, 'boom') : later(4, 'fine')))
              .pipe(
                map((each) => `mapped ${each}`),
                catchError((error) => of(`caught ${brief(error)}`)),
              ),
          ),
          takeWithin(null),
        ),
      );
      flush();
      expect(lines).toEqual(['2 next caught boom', '4 next mapped fine', '4 complete']);
    }));
});
