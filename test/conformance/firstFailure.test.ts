import { concat, finalize, from, NEVER, Observable, of, Subject, throwError } from 'rxjs';
import { fanOutScoped, isScopeError, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { brief, briefly } from '../support/brief.js';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';

describe('the first failure', () => {
  it('F01 first failure tears down running siblings', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('(ab|)');
      const a = cold('     -----#', undefined, 'boom');
      const b = cold('     ------------');
      const children = { a, b };
      const result = source.pipe(
        fanOutScoped((key: string) => children[key as 'a' | 'b']),
        briefly(),
      );
      expectObservable(result).toBe('-----#', undefined, 'ScopeError[boom]');
      expectSubscriptions(a.subscriptions).toBe('^----!');
      expectSubscriptions(b.subscriptions).toBe('^----!');
    }));

  it('F02 sibling teardown runs before the error is delivered', () =>
    virtual(({ watch, note, lines, flush }) => {
      const children = [failing(5, 'boom'), torn(() => note('B torn down'))];
      watch(from(children).pipe(fanOutScoped((child) => child)));
      flush();
      expect(lines).toEqual(['5 B torn down', '5 error ScopeError[boom]']);
    }));

  it('F03 the error waits for the asynchronous cleanup of siblings', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        from(['a', 'b']).pipe(
          fanOutScoped((key, _, ctx) => (key === 'a' ? failing(5, 'boom') : cleaning(ctx, 30, () => note('B cleaned')))),
        ),
      );
      flush();
      expect(lines).toEqual(['35 B cleaned', '35 error ScopeError[boom]']);
    }));

  it('F03 the same with promises', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 5, 'boom'), works.cleanup('B', 30)];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      await advance(100);
      expect(lines).toEqual(['5 A settled', '35 B settled', '35 error ScopeError[boom]']);
    }));

  it('F04 queued children never start after the failure', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const started: number[] = [];
      const source = cold('(1234|)');
      const result = source.pipe(
        fanOutScoped(
          (value) => {
            started.push(Number(value));
            return value === '2' ? failing(5, 'boom') : NEVER;
          },
          { concurrency: 2 },
        ),
        finalize(() => expect(started).toEqual([1, 2])),
        briefly(),
      );
      expectObservable(result).toBe('-----#', undefined, 'ScopeError[boom]');
      expectSubscriptions(source.subscriptions).toBe('(^!)');
    }));

  it('F06 an error of the source: children are torn down first, then the error', () =>
    virtual(({ watch, note, lines, flush, hot }) => {
      const source = hot('a--#', undefined, 'src');
      watch(source.pipe(fanOutScoped(() => torn(() => note('child torn down')))));
      flush();
      expect(lines).toEqual(['3 child torn down', '3 error ScopeError[src]']);
    }));

  it('F07 a failing child stops the source', () =>
    virtual(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('a-----b-----c---');
      const result = source.pipe(
        fanOutScoped(() => failing(4, 'boom')),
        briefly(),
      );
      expectObservable(result).toBe('----#', undefined, 'ScopeError[boom]');
      expectSubscriptions(source.subscriptions).toBe('^---!');
    }));

  it('F08 project throws while earlier children run: they are torn down, then the error', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        from([0, 1, 2]).pipe(
          fanOutScoped((value) => {
            if (value === 1) throw new Error('projected');
            note(`start ${value}`);
            return torn(() => note(`${value} torn down`));
          }),
        ),
      );
      flush();
      expect(lines).toEqual(['0 start 0', '0 0 torn down', '0 error ScopeError[projected]']);
    }));

  it('F11 a synchronous failure stops a synchronous source before the next child', () =>
    virtual(({ expectObservable }) => {
      const started: string[] = [];
      const result = from(['bad', 'good']).pipe(
        fanOutScoped((key) => {
          started.push(key);
          return key === 'bad' ? throwError(() => 'bad') : of(key);
        }),
        finalize(() => expect(started).toEqual(['bad'])),
        briefly(),
      );
      expectObservable(result).toBe('#', undefined, 'ScopeError[bad]');
    }));

  it('nothing is emitted between the failure and the error, whatever siblings do', () =>
    virtual(({ watch, lines, flush }) => {
      const chatty = new Observable<string>((out) => {
        out.next('before');
        return () => {
          out.next('in teardown');
          out.complete();
        };
      });
      watch(
        from(['bad', 'chatty', 'tracked']).pipe(
          fanOutScoped((key, _, ctx) => {
            if (key === 'bad') return failing(3, 'boom');
            if (key === 'chatty') return chatty;
            return cleaning(ctx, 10, undefined, NEVER);
          }),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next before', '13 error ScopeError[boom]']);
    }));

  it('a source that emits or fails in its teardown is heard neither as a value nor as a second end', () =>
    virtual(({ watch, lines, flush }) => {
      const projected: string[] = [];
      const source = new Observable<string>((out) => {
        out.next('first');
        return () => {
          out.next('from the teardown');
          out.error('error from the teardown');
        };
      });
      watch(
        source.pipe(
          fanOutScoped((key) => {
            projected.push(key);
            return failing(2, 'boom');
          }),
        ),
      );
      flush();
      expect(projected).toEqual(['first']);
      expect(lines).toEqual(['2 error ScopeError[boom]']);
    }));

  it('a sibling that fails in the same frame, but later, is cancelled; it does not fail', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const a = cold('-----#', undefined, 'first');
      const b = cold('-----#', undefined, 'second');
      const group = handle();
      const result = from([a, b]).pipe(
        fanOutScoped((child) => child, { onScope: group.take }),
        briefly(),
        finalize(() => expect(reportOf(group.scope).outcomes).toMatchObject([{ status: 'failed' }, { status: 'cancelled' }])),
      );
      expectObservable(result).toBe('-----#', undefined, 'ScopeError[first]');
      expectSubscriptions(a.subscriptions).toBe('^----!');
      expectSubscriptions(b.subscriptions).toBe('^----!');
    }));

  it('a failing child waits for calls that it left running', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(
        of(1).pipe(
          fanOutScoped((_, __, ctx) => {
            ctx.call(() => cleaning(ctx, 7, () => note('cleaned'))).subscribe({ error: () => note('call cancelled') });
            return failing(3, 'boom');
          }),
        ),
      );
      flush();
      expect(lines.filter((line) => !line.endsWith('cancelled'))).toEqual(['10 cleaned', '10 error ScopeError[boom]']);
      expect(lines).toContain('3 call cancelled');
    }));

  it('two children that fail one after the other while the first failure is being cleaned up: one error, both failures', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const tasks = [works.failing('A', 5, 'first'), works.failing('B', 8, 'second'), works.cleanup('C', 10)];
      watch(from(tasks).pipe(fanOutScoped((task, _, ctx) => ctx.call(task))));
      await advance(50);
      expect(lines).toEqual(['5 A settled', '8 B settled', '15 C settled', '15 error ScopeError[first, second]']);
    }));

  it('the subscriber may resubscribe in its error callback: nothing of the first run is left', () =>
    virtual(({ lines, note, flush }) => {
      let live = 0;
      const group = handle();
      const result = from([1, 2]).pipe(
        fanOutScoped(
          (value, _, ctx) =>
            value === 1
              ? failing(2, 'boom')
              : new Observable<never>(() => {
                  note(`start with ${live++} live`);
                  return () => ctx.track(concat(pause(3), new Observable<never>((out) => (live--, out.complete()))));
                }),
          { onScope: group.take },
        ),
      );
      result.subscribe({ error: () => result.subscribe({ error: (error) => note(brief(error)) }) });
      flush();
      expect(lines).toEqual(['0 start with 0 live', '5 start with 0 live', '10 ScopeError[boom]']);
      expect(group.scopes).toHaveLength(2);
    }));

  it('unsubscribing while the failure is being cleaned up silences it; the report still has it', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      const subscription = watch(
        from(['a', 'b']).pipe(
          fanOutScoped((key, _, ctx) => (key === 'a' ? failing(5, 'boom') : cleaning(ctx, 30)), { onScope: group.take }),
        ),
      );
      at(10, () => subscription.unsubscribe());
      flush();
      expect(lines).toEqual([]);
      const report = reportOf(group.scope);
      expect(report.reason).toMatchObject({ kind: 'sibling-failed', index: 0 });
      expect(report.errors.map((failure) => failure.error)).toEqual(['boom']);
    }));

  it('an error thrown by a consumer callback is the consumer’s own: the scope ends as if it had not happened', async () => {
    const thrown: unknown[] = [];
    const listener = (error: unknown): void => void thrown.push(error);
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', listener);
    try {
      const group = handle();
      const source = new Subject<number>();
      source.pipe(fanOutScoped((value) => of(value), { onScope: group.take })).subscribe(() => {
        throw new Error('consumer');
      });
      source.next(1);
      source.next(2);
      source.complete();
      expect((await group.scope.closed).fulfilled).toBe(2);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(thrown.map(brief)).toEqual(['consumer', 'consumer']);
    } finally {
      process.off('uncaughtException', listener);
      for (const each of listeners) process.on('uncaughtException', each);
    }
  });

  it('a failure inside a scope that is given by hand cancels with the group', () =>
    virtual(({ watch, lines, flush, at }) => {
      let kept: Scope | undefined;
      watch(
        from([1, 2]).pipe(
          fanOutScoped((value, _, ctx) => {
            if (value === 1) kept = ctx;
            return value === 1 ? NEVER : failing(4, 'boom');
          }),
        ),
      );
      at(2, () =>
        watch(
          (kept as Scope).call(() => later(10, 'late')),
          'call',
        ),
      );
      flush();
      expect(lines).toEqual(['4 call error Cancelled(sibling-failed)', '4 error ScopeError[boom]']);
    }));

  it('the error names the scope, counts the failures and says what they were', () =>
    virtual(({ flush }) => {
      const errors: unknown[] = [];
      from([1, 2, 3, 4, 5])
        .pipe(fanOutScoped((value) => failing(value, new Error(`no ${value}`)), { policy: 'collect', label: 'search' }))
        .subscribe({ error: (error) => errors.push(error) });
      flush();
      const [error] = errors;
      expect(isScopeError(error) && error.message).toBe('5 failures in scope "search": no 1; no 2; no 3; ….');
    }));
});
