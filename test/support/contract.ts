import { asyncScheduler, concat, EMPTY, NEVER, Observable, of, Subject, take, type OperatorFunction } from 'rxjs';
import { openScopes } from 'rxfleet/testing';
import { expect, it } from 'vitest';
import { briefly } from './brief.js';
import { torn, virtual } from './virtual.js';

/**
 * What every operator owes its source and its subscriber while nothing is cancelled: run over `operate`, which must let
 * strings pass as they are. `error` is how it tells the error `boom` of its source.
 */
export function keepsTheContract(operate: () => OperatorFunction<string, string>, error: string): void {
  it.each([
    ['never', '------', '------', '^-----'],
    ['empty', '|', '|', '(^!)'],
    ['one', '-a|', '-a|', '^-!'],
    ['many', 'a-(bc)-d-|', 'a-(bc)-d-|', '^--------!'],
    ['a value and the end in one frame', '--(a|)', '--(a|)', '^-!'],
    ['never after values', '-a-b--', '-a-b--', '^-----'],
  ])('mirrors a source that is %s', (_, diagram, expected, subscription) =>
    virtual(({ cold, hot, expectObservable, expectSubscriptions }) => {
      const [source, live] = [cold(diagram), hot(diagram)];
      const unsubscribe = diagram.includes('|') ? undefined : '------!';
      expectObservable(source.pipe(operate()), unsubscribe).toBe(expected);
      expectObservable(live.pipe(operate()), unsubscribe).toBe(expected);
      const span = diagram.includes('|') ? subscription : '^-----!';
      expectSubscriptions(source.subscriptions).toBe(diagram === '--(a|)' ? '^-!' : span);
    }),
  );

  it.each([
    ['at once', '#', '#', '(^!)'],
    ['after values', 'a-b-#', 'a-b-#', '^---!'],
  ])('tells an error of its source %s', (_, diagram, expected, subscription) =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(diagram, undefined, 'boom');
      expectObservable(source.pipe(operate(), briefly())).toBe(expected, undefined, error);
      expectSubscriptions(source.subscriptions).toBe(subscription);
    }),
  );

  it('unsubscribed early, unsubscribes its source and is silent', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('a-b-c-d-|');
      expectObservable(source.pipe(operate()), '^--!').toBe('a-b-');
      expectSubscriptions(source.subscriptions).toBe('^--!');
    }));

  it('does not break the chain when it is unsubscribed from outside', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('a-b-c-d-|');
      const outer = of(1).pipe(
        () => source,
        operate(),
        (result) => concat(result, NEVER),
      );
      expectObservable(outer, '^--!').toBe('a-b-');
      expectSubscriptions(source.subscriptions).toBe('^--!');
    }));

  it('one operator function serves two sources and two subscriptions', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const operator = operate();
      const [one, two] = [cold('a-b-|'), cold('-x#', undefined, 'boom')];
      const result = one.pipe(operator);
      expectObservable(result).toBe('a-b-|');
      expectObservable(result, '--^').toBe('--a-b-|');
      expectObservable(two.pipe(operator, briefly())).toBe('-x#', undefined, error);
      expectSubscriptions(one.subscriptions).toBe(['^---!', '--^---!']);
      expectSubscriptions(two.subscriptions).toBe('^-!');
    }));

  it('does nothing before it is subscribed', () => {
    let subscriptions = 0;
    const before = openScopes().length;
    const source = new Observable<string>(() => void subscriptions++);
    source.pipe(operate());
    expect([subscriptions, openScopes().length]).toEqual([0, before]);
  });

  it('stops a synchronous source that never ends', () => {
    let pulled = 0;
    const firehose = new Observable<string>((out) => {
      while (!out.closed && pulled < 100_000) out.next(`${pulled++}`);
    });
    const seen: string[] = [];
    firehose.pipe(operate(), take(3)).subscribe((value) => seen.push(value));
    expect(seen).toEqual(['0', '1', '2']);
    expect(pulled).toBe(3);
  });

  it('takes values that the consumer feeds back from next', () => {
    const source = new Subject<string>();
    const seen: string[] = [];
    source.pipe(operate()).subscribe({
      next: (value) => {
        seen.push(value);
        if (value.length < 4) source.next(`${value}!`);
        else source.complete();
      },
      complete: () => seen.push('end'),
    });
    source.next('a');
    expect(seen).toEqual(['a', 'a!', 'a!!', 'a!!!', 'end']);
  });

  it('tears its source down once, before it tells the end', () =>
    virtual(({ note, watch, lines, flush }) => {
      const noted = (source: Observable<string>): Observable<string> => torn(() => note('torn down'), source);
      watch(noted(of('a')).pipe(operate()), 'end');
      watch(noted(EMPTY).pipe(operate()), 'empty');
      watch(noted(concat(of('a'), NEVER)).pipe(operate(), take(1)), 'take');
      flush();
      expect(lines.filter((line) => line === '0 torn down')).toHaveLength(3);
      expect(lines.indexOf('0 torn down')).toBeLessThan(lines.indexOf('0 end complete'));
    }));

  it('passes on what a source emits while it is being subscribed and from a timer alike', () =>
    virtual(({ expectObservable }) => {
      const source = new Observable<string>((out) => {
        out.next('a');
        const action = asyncScheduler.schedule(() => (out.next('b'), out.complete()), 3);
        return () => action.unsubscribe();
      });
      expectObservable(source.pipe(operate())).toBe('a--(b|)');
    }));
}
