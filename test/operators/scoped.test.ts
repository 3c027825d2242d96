import { concat, EMPTY, merge, NEVER, of, take, type Observable } from 'rxjs';
import { scoped, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, virtual } from '../support/virtual.js';

describe('scoped', () => {
  describe('around a source', () => keepsTheContract(() => (source: Observable<string>) => scoped(() => source), 'ScopeError[boom]'));
  describe('around a call', () =>
    keepsTheContract(() => (source: Observable<string>) => scoped((scope) => scope.call(() => source)), 'ScopeError[boom]'));

  it('calls the factory once for each subscription, with a scope of its own', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const scopes: Scope[] = [];
      const source = cold('-a|');
      const result = scoped((scope) => (scopes.push(scope), source));
      expect(scopes).toEqual([]);
      expectObservable(result).toBe('-a|');
      expectObservable(result, '-^').toBe('--a|');
      expectSubscriptions(source.subscriptions).toBe(['^-!', '-^-!']);
      pause(5).subscribe({ complete: () => expect(new Set(scopes).size).toBe(2) });
    }));

  it('takes every ObservableInput from its factory', () =>
    fake(async ({ watch, lines, advance }) => {
      watch(
        scoped(() => Promise.resolve('promise')),
        'p',
      );
      watch(
        scoped(() => ['array']),
        'a',
      );
      await advance(0);
      expect(lines).toEqual(['0 a next array', '0 a complete', '0 p next promise', '0 p complete']);
    }));

  it('waits for everything that runs in it: calls on the side, cleanups, child scopes', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const [side, cleanup, agent] = [cold('----|'), cold('------|'), cold('--------|')];
      const result = scoped((scope) => {
        scope.call(() => side).subscribe();
        scope.track(cleanup);
        scope
          .child('agent')
          .call(() => agent)
          .subscribe();
        return of('a');
      });
      expectObservable(result).toBe('a-------|');
      expectSubscriptions(side.subscriptions).toBe('^---!');
      expectSubscriptions(cleanup.subscriptions).toBe('^-----!');
      expectSubscriptions(agent.subscriptions).toBe('^-------!');
    }));

  it('when its body fails, cancels what runs in it, waits, and fails', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const side = cold('-----');
      const cleanup = cold('----|');
      const result = scoped((scope) => {
        scope.call(() => side).subscribe({ error: () => scope.track(cleanup) });
        return failing(3, 'boom');
      }).pipe(briefly());
      expectObservable(result).toBe('-------#', undefined, 'ScopeError[boom]');
      expectSubscriptions(side.subscriptions).toBe('^--!');
      expectSubscriptions(cleanup.subscriptions).toBe('---^---!');
    }));

  it('a factory that throws fails the output and leaves nothing open', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      watch(
        scoped(
          () => {
            throw 'from the factory';
          },
          { onScope: group.take },
        ),
      );
      flush();
      expect(lines).toEqual(['0 error ScopeError[from the factory]']);
      expect(group.scope.dump().state).toBe('closed');
    }));

  it('a factory that throws after it started something: that is cancelled and waited for', () =>
    virtual(({ watch, lines, note, flush }) => {
      watch(
        scoped((scope) => {
          scope.call(() => cleaning(scope, 5, () => note('cleaned'))).subscribe({ error: () => {} });
          throw 'from the factory';
        }),
      );
      flush();
      expect(lines).toEqual(['5 cleaned', '5 error ScopeError[from the factory]']);
    }));

  it('a factory that returns no ObservableInput fails the output with a TypeError', () =>
    virtual(({ watch, lines, flush }) => {
      watch(scoped(() => 5 as never));
      flush();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/^0 error ScopeError\[You provided/);
    }));

  it('a failing call that nobody subscribes through the body does not fail the scope', () =>
    virtual(({ watch, lines, flush }) => {
      const group = handle();
      watch(
        scoped(
          (scope) => {
            scope.call(() => failing(2, 'caught by its subscriber')).subscribe({ error: () => {} });
            return later(5, 'a');
          },
          { onScope: group.take },
        ),
      );
      flush();
      expect(lines).toEqual(['5 next a', '5 complete']);
      expect(reportOf(group.scope).errors).toEqual([]);
    }));

  it('can be cancelled by its own body', () =>
    virtual(({ expectObservable }) => {
      expectObservable(scoped((scope) => merge(of('a'), concat(pause(3), scopedCancel(scope)), NEVER))).toBe('a--|');
      expectObservable(scoped((scope) => (scope.cancel(), of('never')))).toBe('|');
    }));

  it('take(1) of it: the rest is cancelled', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const side = cold('--------');
      expectObservable(
        scoped((scope) =>
          merge(
            later(3, 'a'),
            scope.call(() => side),
          ),
        ).pipe(take(1)),
      ).toBe('---(a|)');
      expectSubscriptions(side.subscriptions).toBe('^--!');
    }));

  it('the factory must be a function, options are checked by name', () => {
    expect(() => scoped('x' as never)).toThrow(TypeError);
    expect(() => scoped(() => NEVER, { graceMs: -1 })).toThrow('scoped: graceMs must be');
  });
});

function scopedCancel(scope: Scope): Observable<never> {
  return scoped(() => (scope.cancel(), EMPTY), { within: scope });
}
