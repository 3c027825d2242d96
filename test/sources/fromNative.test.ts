import { NEVER, Observable, of, Subject, take, throwError, timer } from 'rxjs';
import { fanOutScoped, takeWithin } from 'rxfleet';
import { afterEach, describe, expect, it } from 'vitest';
import { fromNative } from '../../src/sources/fromNative.js';
import { toNative } from '../../src/sources/toNative.js';
import type { NativeObservable, NativeObservableConstructor } from '../../src/sources/nativeObservable.js';
import { torn, virtual } from '../support/virtual.js';
import { DoubleObservable, reported, type DoubleSubscriber } from './nativeDouble.js';

const Native = DoubleObservable as unknown as NativeObservableConstructor;

afterEach(() => {
  expect(reported.splice(0)).toEqual([]);
});

/** A native Observable that is driven by hand. */
function driven(): { native: DoubleObservable<string>; subscribers: DoubleSubscriber[]; lines: string[] } {
  const subscribers: DoubleSubscriber[] = [];
  const lines: string[] = [];
  const native = new DoubleObservable<string>((subscriber) => {
    subscribers.push(subscriber);
    subscriber.addTeardown(() => lines.push('teardown'));
  });
  return { native, subscribers, lines };
}

describe('fromNative', () => {
  it('passes values and the end on', () =>
    virtual(({ watch, lines, at, flush }) => {
      const { native, subscribers } = driven();
      watch(fromNative(native));
      at(2, () => subscribers[0]?.next('a'));
      at(4, () => subscribers[0]?.next('b'));
      at(5, () => subscribers[0]?.complete());
      flush();
      expect(lines).toEqual(['2 next a', '4 next b', '5 complete']);
    }));

  it('passes the error on, also what the producer throws', () =>
    virtual(({ watch, lines }) => {
      watch(fromNative(new DoubleObservable((subscriber) => subscriber.error(new Error('told')))));
      watch(
        fromNative(
          new DoubleObservable(() => {
            throw new Error('thrown');
          }),
        ),
      );
      expect(lines).toEqual(['0 error told', '0 error thrown']);
    }));

  it('is cold, and what subscribe() throws is an error', () =>
    virtual(({ watch, lines }) => {
      let asked = 0;
      const source = fromNative(() => {
        asked++;
        return new DoubleObservable<number>((subscriber) => {
          subscriber.next(asked);
          subscriber.complete();
        });
      });
      expect(asked).toBe(0);
      watch(source);
      watch(source);
      const dead: NativeObservable<never> = {
        subscribe: () => {
          throw new Error('the document is gone');
        },
      };
      watch(fromNative(dead));
      watch(
        fromNative((): NativeObservable<never> => {
          throw new Error('function');
        }),
      );
      expect(lines).toEqual(['0 next 1', '0 complete', '0 next 2', '0 complete', '0 error the document is gone', '0 error function']);
    }));

  it('unsubscribing aborts the signal and runs the teardown, at once and once', () => {
    const { native, subscribers, lines } = driven();
    const subscription = fromNative(native).subscribe(() => lines.push('next'));
    subscription.unsubscribe();
    subscription.unsubscribe();
    expect([subscribers[0]?.active, subscribers[0]?.signal.aborted, lines]).toEqual([false, true, ['teardown']]);
    subscribers[0]?.next('late');
    subscribers[0]?.complete();
    expect(lines).toEqual(['teardown']);
  });

  it('take stops a source that emits while it is being subscribed', () => {
    let emitted = 0;
    const firehose = new DoubleObservable<number>((subscriber) => {
      while (subscriber.active && emitted < 1000) subscriber.next(emitted++);
    });
    const seen: number[] = [];
    fromNative(firehose)
      .pipe(take(3))
      .subscribe((value) => seen.push(value));
    expect([emitted, seen]).toEqual([3, [0, 1, 2]]);
  });

  it('two subscriptions of one native Observable share its producer until both have left', () => {
    const { native, subscribers, lines } = driven();
    const source = fromNative(native);
    const first = source.subscribe((value) => lines.push(`1 ${value}`));
    const second = source.subscribe((value) => lines.push(`2 ${value}`));
    subscribers[0]?.next('a');
    first.unsubscribe();
    subscribers[0]?.next('b');
    second.unsubscribe();
    expect([subscribers.length, lines]).toEqual([1, ['1 a', '2 a', '2 b', 'teardown']]);
  });

  it('leaving from inside next, and asking for more from inside it, are both fine', () => {
    const { native, subscribers, lines } = driven();
    const subscription = fromNative(native).subscribe((value) => {
      lines.push(value);
      if (value === 'a') subscribers[0]?.next('b');
      else subscription.unsubscribe();
    });
    subscribers[0]?.next('a');
    subscribers[0]?.next('c');
    expect(lines).toEqual(['a', 'b', 'teardown']);
  });

  it('an Observable of a library, which knows no signal, is unsubscribed', () => {
    const lines: string[] = [];
    const library = torn(() => lines.push('torn')) as unknown as NativeObservable<never>;
    fromNative(library).subscribe().unsubscribe();
    fromNative(of(1, 2) as unknown as NativeObservable<number>).subscribe({
      next: (value) => lines.push(String(value)),
      complete: () => lines.push('|'),
    });
    expect(lines).toEqual(['torn', '1', '2', '|']);
  });

  it('works in a scope as any source does', () =>
    virtual(({ watch, lines, note, flush }) => {
      const native = new DoubleObservable<string>((subscriber) => {
        subscriber.next('a');
        subscriber.addTeardown(() => note('teardown'));
      });
      watch(
        of(1).pipe(
          fanOutScoped(() => fromNative(native)),
          takeWithin(5),
        ),
      );
      flush();
      expect(lines).toEqual(['0 next a', '5 teardown', '5 complete']);
    }));

  it.each([[undefined], [null], [5], [{}], [{ subscribe: 5 }]])('%j throws a TypeError at once', (source) => {
    expect(() => fromNative(source as never)).toThrow(/^fromNative: source must be a native Observable/);
  });
});

describe('toNative', () => {
  it('passes values, the end and the error on', () =>
    virtual(({ note, lines, cold, flush }) => {
      const observer = {
        next: (value: unknown) => note(String(value)),
        error: (error: unknown) => note(String(error)),
        complete: () => note('|'),
      };
      toNative(cold('--a-b-|'), Native).subscribe(observer);
      toNative(cold('---#', {}, 'boom'), Native).subscribe(observer);
      flush();
      expect(lines).toEqual(['2 a', '3 boom', '4 b', '6 |']);
    }));

  it('is cold, and an abort unsubscribes from the source', () =>
    virtual(({ hot, expectObservable: _, expectSubscriptions, at }) => {
      const source = hot('--a--b--c--d--|');
      const native = toNative(source, Native);
      const controller = new AbortController();
      at(1, () => native.subscribe({}, { signal: controller.signal }));
      at(6, () => controller.abort());
      expectSubscriptions(source.subscriptions).toBe('-^----!');
    }));

  it('an abort stops a source that emits while it is being subscribed', () => {
    let emitted = 0;
    const firehose = new Observable<number>((out) => {
      while (!out.closed && emitted < 1000) out.next(emitted++);
    });
    const controller = new AbortController();
    const seen: number[] = [];
    toNative(firehose, Native).subscribe(
      { next: (value) => (seen.push(value), value === 2 && controller.abort()) },
      { signal: controller.signal },
    );
    expect([emitted, seen]).toEqual([3, [0, 1, 2]]);
  });

  it('a signal that is aborted already subscribes to nothing', () => {
    let subscribed = 0;
    const source = new Observable(() => void subscribed++);
    toNative(source, Native).subscribe({}, { signal: AbortSignal.abort() });
    expect(subscribed).toBe(0);
  });

  it('leaves nothing behind at the end, and does not tell of an end that nobody waits for', () => {
    const source = new Subject<number>();
    const lines: string[] = [];
    const controller = new AbortController();
    toNative(source, Native).subscribe(
      { next: (value) => lines.push(String(value)), complete: () => lines.push('|') },
      { signal: controller.signal },
    );
    source.next(1);
    expect(source.observed).toBe(true);
    controller.abort();
    expect([source.observed, lines]).toEqual([false, ['1']]);
  });

  it('an observer that throws does not disturb the source', () => {
    const lines: string[] = [];
    const boom = new Error('boom');
    toNative(of(1, 2), Native).subscribe({
      next: () => {
        lines.push('next');
        throw boom;
      },
      complete: () => lines.push('|'),
    });
    expect(lines).toEqual(['next', 'next', '|']);
    expect(reported.splice(0)).toEqual([boom, boom]);
  });

  it('there and back is the same', () =>
    virtual(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('-a-b--c-|');
      const same = fromNative(toNative(source, Native));
      expectObservable(same, '----^--!').toBe('------c-');
      expectSubscriptions(source.subscriptions).toBe('----^--!');
      expectObservable(
        fromNative(
          toNative(
            throwError(() => 'x'),
            Native,
          ),
        ),
      ).toBe('#', {}, 'x');
      expectObservable(fromNative(toNative(timer(3), Native))).toBe('---(0|)', { 0: 0 });
    }));

  it('takes the class of the platform, and says so where there is none', () => {
    expect(() => toNative(NEVER)).toThrow(/^toNative: Native must be the platform's Observable class, got undefined/);
    const platform = globalThis as { Observable?: unknown };
    platform.Observable = Native;
    try {
      const seen: number[] = [];
      toNative(of(1)).subscribe({ next: (value) => seen.push(value) });
      expect(seen).toEqual([1]);
    } finally {
      delete platform.Observable;
    }
  });
});
