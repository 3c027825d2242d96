import { concat, defer, map, NEVER, Observable, of, Subject, take, throwError, type OperatorFunction } from 'rxjs';
import { fanOutScoped, type FanOutOptions } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { briefly, outcomeLine } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { handle } from '../support/scopes.js';
import { later, virtual } from '../support/virtual.js';

const identity = (options: FanOutOptions): OperatorFunction<string, string> =>
  fanOutScoped((value) => of(value), options as { policy?: 'failFast' });

describe('fanOutScoped', () => {
  const all: FanOutOptions[] = [
    {},
    { concurrency: 1 },
    { concurrency: Infinity },
    { order: 'index' },
    { policy: 'collect' },
    { outcomes: 'all' },
  ];
  describe.each(all)('with synchronous children and %o', (options) => keepsTheContract(() => identity(options), 'ScopeError[boom]'));

  describe('with calls as children', () =>
    keepsTheContract(() => fanOutScoped((value, _, ctx) => ctx.call(() => of(value))), 'ScopeError[boom]'));

  describe('settled, unpacked', () =>
    keepsTheContract(
      () => (source) =>
        source.pipe(
          fanOutScoped((value: string) => of(value), { policy: 'settle' }),
          map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : outcome.status)),
        ),
      'ScopeError[boom]',
    ));

  it('subscribes each child once, when a slot is free, and unsubscribes it when it ends', () =>
    virtual(({ cold, hot, expectObservable, expectSubscriptions }) => {
      // a takes a slot from 0 to 4, b from 1 to 7; c gets one at 4 and gives it back in the same frame, d at 5.
      const source = hot('abc--d----|');
      const children = { a: cold('---a|'), b: cold('-b----|'), c: cold('(c|)'), d: cold('--d-|') };
      const result = source.pipe(fanOutScoped((key) => children[key as keyof typeof children], { concurrency: 2 }));
      expectObservable(result).toBe('--bac--d--|');
      expectSubscriptions(source.subscriptions).toBe('^---------!');
      expectSubscriptions(children.a.subscriptions).toBe('^---!');
      expectSubscriptions(children.b.subscriptions).toBe('-^-----!');
      expectSubscriptions(children.c.subscriptions).toBe('----(^!)');
      expectSubscriptions(children.d.subscriptions).toBe('-----^---!');
    }));

  it.each([
    ['failFast', '---a----#', 'ScopeError[boom]'],
    ['collect', '---a--------(b#)', 'ScopeError[boom]'],
  ] as const)('%s with an error of a child', (policy, expected, error) =>
    virtual(({ cold, hot, expectObservable }) => {
      const source = hot('-ab-c---------|'.slice(0, 13));
      const children = { a: later(2, 'a'), b: later(10, 'b'), c: cold('----#', undefined, 'boom') };
      const result = source.pipe(
        take(3),
        fanOutScoped((key) => children[key as keyof typeof children], { policy }),
        briefly(),
      );
      expectObservable(result).toBe(expected, undefined, error);
    }),
  );

  it('settle emits one outcome for each value', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('abc|');
      const children = { a: cold('------(x|)'), b: cold('-#', undefined, 'boom'), c: cold('|') };
      const result = source.pipe(
        fanOutScoped((key) => children[key as keyof typeof children], { policy: 'settle' }),
        map(outcomeLine),
      );
      expectObservable(result).toBe('--(bc)(a|)', { a: '0 fulfilled x', b: '1 failed boom', c: '2 fulfilled undefined' });
      expectSubscriptions(source.subscriptions).toBe('^--!');
    }));

  it('gives project the value, the index and a scope of the child’s own', () =>
    virtual(({ flush }) => {
      const seen: unknown[] = [];
      const group = handle();
      const contexts = new Set<unknown>();
      of('a', 'b')
        .pipe(
          fanOutScoped(
            function (...args) {
              seen.push(args.slice(0, 2), args.length);
              contexts.add(args[2]);
              return NEVER;
            },
            { onScope: group.take },
          ),
        )
        .subscribe()
        .unsubscribe();
      flush();
      expect(seen).toEqual([['a', 0], 3, ['b', 1], 3]);
      expect(contexts.size).toBe(2);
      expect(contexts.has(group.scope)).toBe(false);
    }));

  it('indexes start anew with each subscription', () => {
    const indexes: number[] = [];
    const result = of('a', 'b').pipe(fanOutScoped((value, index) => (indexes.push(index), of(value))));
    result.subscribe();
    result.subscribe();
    expect(indexes).toEqual([0, 1, 0, 1]);
  });

  it('a child that fails synchronously on subscribe', () =>
    virtual(({ watch, lines, flush }) => {
      const rude = new Observable<never>(() => {
        throw 'in subscribe';
      });
      watch(of(1).pipe(fanOutScoped(() => rude)));
      watch(of(1).pipe(fanOutScoped(() => defer(() => throwError(() => 'deferred')))));
      flush();
      expect(lines).toEqual(['0 error ScopeError[in subscribe]', '0 error ScopeError[deferred]']);
    }));

  it('a child that emits after its own end is not heard', () =>
    virtual(({ watch, lines, flush }) => {
      let late: (() => void) | undefined;
      const child = new Observable<string>((out) => {
        out.next('a');
        out.complete();
        late = () => (out.next('b'), out.error('c'));
      });
      const source = new Subject<number>();
      watch(source.pipe(fanOutScoped(() => child)));
      source.next(1);
      late?.();
      source.complete();
      flush();
      expect(lines).toEqual(['0 next a', '0 complete']);
    }));

  it('a Subject as a child is not completed by the end of the scope', () => {
    const child = new Subject<string>();
    const seen: string[] = [];
    child.subscribe((value) => seen.push(value));
    of(1)
      .pipe(fanOutScoped(() => child))
      .subscribe()
      .unsubscribe();
    child.next('still open');
    expect(seen).toEqual(['still open']);
  });

  it('the same Observable may be many children', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const child = cold('----a|');
      expectObservable(of(1, 2, 3).pipe(fanOutScoped(() => child, { concurrency: 2 }))).toBe('----(aa)-a|');
      expectSubscriptions(child.subscriptions).toBe(['^----!', '^----!', '-----^----!']);
    }));

  it('the same call may be many children: each subscription is a call of its own', () => {
    let calls = 0;
    const seen: number[] = [];
    of(1, 2, 3)
      .pipe(
        fanOutScoped((_, __, ctx) => {
          const call = ctx.call(() => of(calls++));
          return concat(call, call);
        }),
      )
      .subscribe((value) => seen.push(value));
    expect(seen).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('leaves the values alone', () => {
    const values = [{}, null, undefined, Number.NaN, () => {}, Symbol('s'), NEVER];
    const seen: unknown[] = [];
    of(...values)
      .pipe(fanOutScoped((value) => of(value)))
      .subscribe((value) => seen.push(value));
    expect(seen).toEqual(values);
    seen.forEach((value, i) => expect(value).toBe(values[i]));
  });
});
