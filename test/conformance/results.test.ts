import { EMPTY, from, NEVER, of, Subject, throwError, toArray } from 'rxjs';
import { fanOutScoped, scoped, type ScopeReport } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { later, pause, virtual } from '../support/virtual.js';

describe('results and the normal end', () => {
  it('S01 scope completes only after every child completed', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('(abc|)');
      const a = cold('     -----(a|)');
      const b = cold('     ---------------(b|)');
      const c = cold('     ----------(c|)');
      const children = { a, b, c };
      const result = source.pipe(fanOutScoped((key: string) => children[key as keyof typeof children]));
      expectObservable(result).toBe('-----a----c----(b|)');
      expectSubscriptions(source.subscriptions).toBe('(^!)');
      expectSubscriptions(a.subscriptions).toBe('^----!');
      expectSubscriptions(b.subscriptions).toBe('^--------------!');
      expectSubscriptions(c.subscriptions).toBe('^---------!');
    }));

  it('S02 collected results are in input order, whatever the completion order', () =>
    virtual(({ expectObservable }) => {
      const result = from([20, 5, 10]).pipe(
        fanOutScoped((ms) => later(ms, ms), { order: 'index' }),
        toArray(),
      );
      expectObservable(result).toBe('20ms (r|)', { r: [20, 5, 10] });
    }));

  it('S03 ordered streaming under a limit: value i goes out as soon as 0..i are done', () =>
    virtual(({ expectObservable }) => {
      const result = from([20, 5, 10, 15]).pipe(fanOutScoped((ms) => later(ms, ms), { order: 'index', concurrency: 3 }));
      expectObservable(result).toBe('20ms (abcd|)', { a: 20, b: 5, c: 10, d: 15 });
      const early = from([5, 20, 10, 30]).pipe(fanOutScoped((ms) => later(ms, ms), { order: 'index', concurrency: 3 }));
      expectObservable(early).toBe('5ms a 14ms (bc) 11ms (d|)', { a: 5, b: 20, c: 10, d: 30 });
    }));

  it('S03 the child whose turn it is streams its values as they come', () =>
    virtual(({ cold, expectObservable }) => {
      const children = { a: cold('a--a--a|'), b: cold('b-b|') };
      const result = from(['a', 'b'] as const).pipe(fanOutScoped((key) => children[key], { order: 'index' }));
      expectObservable(result).toBe('a--a--a(bb|)');
    }));

  it('S04 an empty input completes at once, and collected is []', () =>
    virtual(({ expectObservable }) => {
      const group = handle();
      const result = EMPTY.pipe(
        fanOutScoped(() => NEVER, { order: 'index', onScope: group.take }),
        toArray(),
      );
      expectObservable(result).toBe('(r|)', { r: [] });
    }));

  it('S06 children may be added while others run; the scope stays open until source and children are done', () =>
    virtual(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('-a----b--|');
      const result = source.pipe(fanOutScoped((key) => later(key === 'a' ? 2 : 6, key)));
      expectObservable(result).toBe('---a--------(b|)');
      expectSubscriptions(source.subscriptions).toBe('^--------!');
    }));

  it('S06 a source that is still open holds the scope, although no child runs', () =>
    virtual(({ hot, expectObservable }) => {
      const result = hot('-a--------|').pipe(fanOutScoped((key) => of(key)));
      expectObservable(result).toBe('-a--------|');
    }));

  it('S07 cancelling one child by hand is not a failure: siblings go on, the scope completes', () =>
    virtual(({ cold, at, expectObservable, expectSubscriptions }) => {
      const group = handle();
      const a = cold('-----');
      const b = cold('----------(b|)');
      const result = from([a, b]).pipe(
        fanOutScoped(
          (child, index, ctx) => {
            if (index === 0) at(3, () => ctx.cancel('not needed'));
            return child;
          },
          { onScope: group.take },
        ),
      );
      expectObservable(result).toBe('----------(b|)');
      expectSubscriptions(a.subscriptions).toBe('^--!');
      expectSubscriptions(b.subscriptions).toBe('^---------!');
      at(11, () =>
        expect(reportOf(group.scope)).toMatchObject({ fulfilled: 1, outcomes: [{ index: 0, status: 'cancelled' }], errors: [] }),
      );
    }));

  it('S08 falsy results are results, in their slots', () =>
    virtual(({ expectObservable }) => {
      const values = [undefined, null, 0, '', false];
      const result = from(values).pipe(
        fanOutScoped((value, index) => later(10 - index, value), { order: 'index' }),
        toArray(),
      );
      expectObservable(result).toBe('10ms (r|)', { r: values });
      const settled = from(values).pipe(
        fanOutScoped((value, index) => later(10 - index, value), { order: 'index', policy: 'settle' }),
        toArray(),
      );
      expectObservable(settled).toBe('10ms (r|)', { r: values.map((value, index) => ({ index, status: 'fulfilled', value })) });
    }));

  it('a child may emit many values, or none', () =>
    virtual(({ cold, expectObservable }) => {
      const children = { a: cold('-a---a-|'), b: cold('--|'), c: cold('cc|') };
      const result = from(['a', 'b', 'c'] as const).pipe(fanOutScoped((key) => children[key]));
      expectObservable(result).toBe('c(ac)a-|');
    }));

  it('every kind of ObservableInput is a child', () =>
    fake(async ({ watch, lines, advance }) => {
      async function* later2(): AsyncGenerator<string> {
        yield await Promise.resolve('async iterable');
      }
      const kinds = [of('observable'), Promise.resolve('promise'), ['array'], new Set(['iterable']), later2()];
      watch(from(kinds).pipe(fanOutScoped((kind) => kind, { order: 'index' })));
      await advance(0);
      expect(lines).toEqual([
        '0 next observable',
        '0 next promise',
        '0 next array',
        '0 next iterable',
        '0 next async iterable',
        '0 complete',
      ]);
    }));

  it('a string child is its characters, as everywhere in rxjs, and something else is a failure', () =>
    virtual(({ watch, lines, flush }) => {
      watch(of('ab').pipe(fanOutScoped((value) => value)));
      watch(of(1).pipe(fanOutScoped((value) => value as never)));
      flush();
      expect(lines.slice(0, 3)).toEqual(['0 next a', '0 next b', '0 complete']);
      expect(lines[3]).toMatch(/error ScopeError\[.*Observable/);
    }));

  it('one operator function serves any number of sources and subscriptions, each with a scope of its own', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const group = handle();
      const operator = fanOutScoped((key: string) => later(2, key), { onScope: group.take, concurrency: 1 });
      const one = cold('(ab|)');
      const two = cold('x|');
      expectObservable(one.pipe(operator)).toBe('--a-(b|)');
      expectObservable(one.pipe(operator)).toBe('--a-(b|)');
      expectObservable(two.pipe(operator)).toBe('--(x|)');
      expectSubscriptions(one.subscriptions).toBe(['(^!)', '(^!)']);
      expectSubscriptions(two.subscriptions).toBe('^!');
    }));

  it('completes with the last of source, children, calls and tracked cleanups, whichever it is', () =>
    virtual(({ watch, lines, flush, hot }) => {
      const run = (source: number, child: number, call: number, cleanup: number): void => {
        watch(
          hot('a').pipe(
            () => scoped(() => later(source, 'a')),
            fanOutScoped((_, __, ctx) => {
              ctx.call(() => pause(call)).subscribe();
              ctx.track(pause(cleanup));
              return pause(child);
            }),
          ),
          `${source},${child},${call},${cleanup}`,
        );
      };
      run(1, 5, 2, 3);
      run(1, 2, 5, 3);
      run(1, 2, 3, 5);
      flush();
      expect(lines).toEqual(['6 1,5,2,3 complete', '6 1,2,5,3 complete', '6 1,2,3,5 complete']);
    }));

  describe('report', () => {
    it('counts what was fulfilled and lists the rest; with outcomes: all it lists everything', () =>
      virtual(({ at, expectObservable }) => {
        for (const outcomes of ['unfulfilled', 'all'] as const) {
          const group = handle();
          const result = from([0, 1, 2]).pipe(
            fanOutScoped(
              (value, _, ctx) => {
                if (value === 1) at(1, () => ctx.cancel());
                return later(5, value * 10);
              },
              { outcomes, onScope: group.take },
            ),
          );
          expectObservable(result).toBe('-----(ab|)', { a: 0, b: 20 });
          at(6, () => {
            const cancelled = { index: 1, status: 'cancelled' };
            const all = [{ index: 0, status: 'fulfilled', value: 0 }, cancelled, { index: 2, status: 'fulfilled', value: 20 }];
            const expected: ScopeReport = {
              ...{ fulfilled: 2, errors: [], late: [], abandoned: [] },
              outcomes: (outcomes === 'all' ? all : [cancelled]) as ScopeReport['outcomes'],
            };
            expect(reportOf(group.scope)).toEqual(expected);
          });
        }
      }));

    it('comes through closed$ synchronously, before the output ends, and again for later subscribers', () => {
      const group = handle();
      const order: string[] = [];
      const source = new Subject<number>();
      source.pipe(fanOutScoped((value) => of(value), { onScope: group.take })).subscribe({ complete: () => order.push('complete') });
      group.scope.closed$.subscribe({ next: () => order.push('report'), complete: () => order.push('end of reports') });
      source.next(1);
      expect(order).toEqual([]);
      source.complete();
      expect(order).toEqual(['report', 'end of reports', 'complete']);
      group.scope.closed$.subscribe({ next: () => order.push('again'), complete: () => order.push('end') });
      expect(order.slice(3)).toEqual(['again', 'end']);
    });

    it('closed is one promise, resolves with the same report and never rejects', async () => {
      const group = handle();
      const source = new Subject<number>();
      source.pipe(fanOutScoped(() => throwError(() => new Error('boom')), { onScope: group.take })).subscribe({ error: () => {} });
      const { closed } = group.scope;
      expect(group.scope.closed).toBe(closed);
      source.next(1);
      const report = await closed;
      expect(report.errors).toMatchObject([{ phase: 'run', index: 0 }]);
      expect(await group.scope.closed).toBe(report);
    });
  });
});
