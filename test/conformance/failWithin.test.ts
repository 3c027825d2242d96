import { catchError, concat, interval, merge, NEVER, Observable, of, retry, take, tap } from 'rxjs';
import { DeadlineExceededError, failWithin, fanOutScoped, isDeadlineExceededError, scoped, takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { brief, briefly } from '../support/brief.js';
import { fake, TURN } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, torn, virtual } from '../support/virtual.js';

/** The DeadlineExceededError that a stream ends with. */
function catching(source: Observable<unknown>): { readonly error: DeadlineExceededError } {
  let caught: unknown;
  source.subscribe({ error: (error: unknown) => (caught = error) });
  return {
    get error() {
      if (!isDeadlineExceededError(caught)) throw new Error(`no DeadlineExceededError: ${brief(caught)}`);
      return caught;
    },
  };
}

describe('failWithin', () => {
  it('D01 the deadline is a total: a source that keeps emitting still fails', () =>
    virtual(({ expectObservable }) => {
      expectObservable(interval(5).pipe(failWithin(12), briefly())).toBe('-----a----b-#', { a: 0, b: 1 }, 'Deadline(12)');
    }));

  it('D02 values before it, the error at it, nothing after', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-----a----b----c');
      expectObservable(source.pipe(failWithin(12), briefly())).toBe('-----a----b-#', undefined, 'Deadline(12)');
      expectSubscriptions(source.subscriptions).toBe('^-----------!');
    }));

  it('D03 completes in time: no error, no timer left', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, scheduler, flush }) => {
      const source = cold('--a|');
      expectObservable(source.pipe(failWithin(10))).toBe('--a|');
      expectSubscriptions(source.subscriptions).toBe('^--!');
      flush();
      expect(scheduler.actions).toEqual([]);
    }));

  it('D04 a tie: completion in the deadline’s own frame wins', () =>
    virtual(({ cold, expectObservable }) => {
      expectObservable(cold('---(a|)').pipe(failWithin(3))).toBe('---(a|)');
      expectObservable(cold('---a').pipe(failWithin(3), briefly())).toBe('---(a#)', undefined, 'Deadline(3)');
    }));

  it('D05 the error is delivered after the teardown of the source', () =>
    virtual(({ watch, note, lines, flush }) => {
      watch(torn(() => note('torn down')).pipe(failWithin(5)));
      flush();
      expect(lines).toEqual(['5 torn down', '5 error Deadline(5)']);
    }));

  it('D06 the error waits for the asynchronous acknowledgement', () =>
    fake(async ({ works, watch, lines, advance }) => {
      watch(scoped((scope) => scope.call(works.deaf('stubborn', 30, 1))).pipe(failWithin(5)));
      await advance(50);
      expect(lines).toEqual(['30 stubborn settled', '30 error Deadline(5)']);
    }));

  it('D07 the source’s own error passes unchanged', () =>
    virtual(({ flush, watch, lines }) => {
      const own = new TypeError('own');
      let caught: unknown;
      failing(2, own)
        .pipe(failWithin(5))
        .subscribe({ error: (error: unknown) => (caught = error) });
      watch(failing(2, undefined).pipe(failWithin(5)));
      flush();
      expect(caught).toBe(own);
      expect(lines).toEqual(['2 error undefined']);
    }));

  it('D10 an inner deadline that the user catches: the outer still holds', () =>
    virtual(({ watch, lines, flush }) => {
      watch(
        NEVER.pipe(
          failWithin(5, { label: 'inner' }),
          catchError(() => NEVER),
          failWithin(12, { label: 'outer' }),
        ),
      );
      flush();
      expect(lines).toEqual(['12 error Deadline(outer 12)']);
    }));

  it('D11 a cancel before the deadline is not reported as a timeout', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(NEVER.pipe(failWithin(10, { onScope: group.take })));
      at(3, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['3 complete']);
      expect(reportOf(group.scope).reason).toEqual({ kind: 'explicit' });
    }));

  it('D11 nor is a cancel whose cleanup lasts beyond the deadline', () =>
    virtual(({ watch, at, lines, flush }) => {
      const group = handle();
      watch(scoped((scope) => cleaning(scope, 20)).pipe(failWithin(10, { onScope: group.take })));
      at(3, () => group.scope.cancel());
      flush();
      expect(lines).toEqual(['23 complete']);
    }));

  it('D12 the error says which budget, how long, how many values', () =>
    virtual(({ flush }) => {
      const found = catching(interval(5).pipe(failWithin(12, { label: 'group' })));
      flush();
      const { error } = found;
      expect(error).toMatchObject({ name: 'DeadlineExceededError', label: 'group', ms: 12, seen: 2, suppressed: [], abandoned: [] });
      expect(error).toBeInstanceOf(DeadlineExceededError);
      expect(error.message).toBe('The deadline "group" of 12 ms passed after 2 values.');
    }));

  it('D13 over a call that never settles: fails at deadline + grace and names it', () =>
    fake(async ({ works, advance, now }) => {
      let at = 0;
      const found = catching(
        scoped((scope) => scope.call(works.stuck('x'), { label: 'payment' })).pipe(
          failWithin(5, { graceMs: 15 }),
          tap({ error: () => (at = now()) }),
        ),
      );
      await advance(50);
      expect(at).toBe(20 + 2 * TURN);
      expect(found.error.abandoned).toMatchObject([{ label: 'payment', ageMs: 20 + 2 * TURN }]);
      expect(found.error.message).toBe(
        'The deadline of 5 ms passed after 0 values; abandoned after the grace, may still complete: "payment".',
      );
    }));
});

describe('what failWithin carries', () => {
  it('failures of the cleanup, as suppressed', () =>
    fake(async ({ works, advance }) => {
      const found = catching(
        scoped((scope) =>
          merge(
            scope.call(works.cleanup('A', 3, 'async cleanup')),
            torn(() => {
              throw 'teardown';
            }),
          ),
        ).pipe(failWithin(5)),
      );
      await advance(20);
      expect(found.error.suppressed.map(brief).sort()).toEqual(['async cleanup', 'teardown']);
    }));

  it('not the AbortErrors that it caused', () =>
    fake(async ({ works, advance }) => {
      const found = catching(scoped((scope) => scope.call(works.coop('A', 50, 1))).pipe(failWithin(5)));
      await advance(20);
      expect(found.error.suppressed).toEqual([]);
    }));

  it('not the failures that an inner settle has told already', () =>
    virtual(({ flush }) => {
      const found = catching(
        of(1, 2).pipe(
          fanOutScoped((i) => (i === 1 ? failing(1, 'told') : NEVER), { policy: 'settle' }),
          failWithin(5),
        ),
      );
      flush();
      expect(found.error).toMatchObject({ seen: 1, suppressed: [] });
    }));
});

describe('failWithin and its neighbours', () => {
  it('retry starts a new deadline for each attempt, when the one before has ended', () =>
    virtual(({ watch, note, lines, flush }) => {
      let attempt = 0;
      watch(scoped((scope) => (note(`attempt ${++attempt}`), cleaning(scope, 4))).pipe(failWithin(5), retry(2)));
      flush();
      expect(lines).toEqual(['0 attempt 1', '9 attempt 2', '18 attempt 3', '27 error Deadline(5)']);
    }));

  it('a deadline inside each child of a fan-out is that child’s failure', () =>
    virtual(({ watch, lines, flush }) => {
      watch(of(1, 9, 2).pipe(fanOutScoped((ms) => later(ms, ms).pipe(failWithin(5, { label: `${ms}` })), { policy: 'collect' })));
      flush();
      expect(lines).toEqual(['1 next 1', '2 next 2', '5 error ScopeError[Deadline(9 5)]']);
    }));

  it('inside takeWithin: what comes first decides', () =>
    virtual(({ watch, lines, flush }) => {
      watch(NEVER.pipe(failWithin(5), takeWithin(9)), 'inner');
      watch(NEVER.pipe(failWithin(9), takeWithin(5)), 'outer');
      flush();
      expect(lines).toEqual(['5 inner error Deadline(5)', '5 outer complete']);
    }));

  it('values that come while the source is being stopped are not forwarded', () =>
    virtual(({ watch, lines, flush }) => {
      const chatty = new Observable<string>((out) => () => (out.next('too late'), out.complete()));
      watch(chatty.pipe(failWithin(5)));
      watch(chatty.pipe(takeWithin(6)), 'take');
      flush();
      expect(lines).toEqual(['5 error Deadline(5)', '6 take complete']);
    }));

  it('take(1) before the deadline: the deadline is forgotten', () =>
    virtual(({ watch, lines, flush, scheduler }) => {
      watch(concat(later(2, 'a'), NEVER).pipe(failWithin(5), take(1)));
      flush();
      expect(lines).toEqual(['2 next a', '2 complete']);
      expect(scheduler.actions).toEqual([]);
    }));
});
