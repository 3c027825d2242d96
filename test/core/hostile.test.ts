import { AsyncLocalStorage } from 'node:async_hooks';
import {
  finalize,
  from,
  lastValueFrom,
  NEVER,
  of,
  retry,
  Subject,
  takeUntil,
  timeout,
  toArray,
  type Observable,
  type ObservableInput,
} from 'rxjs';
import { fanOutScoped, scoped, takeWithin, type Scope } from 'rxfleet';
import { afterEach, describe, expect, it } from 'vitest';
import { expectNoOpenScopes } from '../../src/testing/openScopes.js';

const wait = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));
const errorOf = (source: Observable<unknown>): Promise<Error> =>
  lastValueFrom(source.pipe(toArray())).then(
    () => expect.unreachable(),
    (error: unknown) => error as Error,
  );

afterEach(expectNoOpenScopes);

/** As rxjs leaves it when somebody calls `unsubscribe()` on it: subscribing throws. */
function brokenSubject(): Subject<number> {
  const subject = new Subject<number>();
  subject.closed = true;
  return subject;
}

describe('what does not keep to its protocol', () => {
  it.each([
    ['undefined', undefined],
    ['null', null],
    ['a string', 'done'],
  ])('an async iterator that gives %s for a step is a TypeError', async (_, step) => {
    const broken = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve(step) }) } as unknown as ObservableInput<number>;
    const error = await errorOf(of(1).pipe(fanOutScoped(() => broken)));
    expect(error.cause).toBeInstanceOf(TypeError);
  });

  it('an async iterator whose step has a getter that throws fails with that', async () => {
    const step = {
      done: false,
      get value(): number {
        throw new Error('getter');
      },
    };
    const broken = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve(step) }) };
    expect((await errorOf(of(1).pipe(fanOutScoped(() => broken)))).cause).toMatchObject({ message: 'getter' });
  });

  it.each(['failFast', 'collect', 'race'] as const)('a source that throws out of subscribe fails its child: %s', async (policy) => {
    const closed = brokenSubject();
    expect(await errorOf(of(1).pipe(fanOutScoped(() => closed, { policy })))).toMatchObject({ failures: [{ phase: 'run', index: 0 }] });
  });

  it('and settles', async () => {
    const closed = brokenSubject();
    const [outcome] = await lastValueFrom(
      of(1).pipe(
        fanOutScoped(() => closed, { policy: 'settle' }),
        toArray(),
      ),
    );
    expect(outcome?.status).toBe('failed');
  });

  it('a signal of a DOM library', async () => {
    const listeners = new Set<() => void>();
    const signal = {
      aborted: false,
      reason: 'gone',
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    } as unknown as AbortSignal;
    const ended = errorOf(of(1).pipe(fanOutScoped(() => NEVER, { signal })));
    for (const listener of listeners) listener();
    expect(await ended).toMatchObject({ name: 'ScopeCancelledError', reason: { kind: 'signal', reason: 'gone' } });
    expect(listeners.size).toBe(0);
  });

  it.each([Symbol('s'), Object.create(null) as unknown, 7])('an error with the message %j still ends its scope', async (message) => {
    const odd = Object.assign(new Error('x'), { message });
    const sibling = (_: unknown, index: number, ctx: Scope): Observable<unknown> =>
      index === 0
        ? ctx.call(() => Promise.reject(odd))
        : ctx.call((signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))));
    expect(await errorOf(of(0, 1).pipe(fanOutScoped(sibling)))).toMatchObject({ name: 'ScopeError', errors: [odd] });
  });
});

describe('a teardown that ends the output that it belongs to', () => {
  const quick = async (run: (stop$: Subject<void>, onScope: (scope: Scope) => void) => Observable<unknown>): Promise<void> => {
    let scope: Scope | undefined;
    const stop$ = new Subject<void>();
    run(stop$, (each) => (scope = each)).subscribe();
    const started = performance.now();
    await scope?.closed;
    expect(performance.now() - started).toBeLessThan(500);
  };

  it('takeWithin', () =>
    quick((stop$, onScope) =>
      NEVER.pipe(
        finalize(() => stop$.next()),
        takeWithin(5, { onScope, graceMs: Infinity }),
        takeUntil(stop$),
      ),
    ));

  it('a scope around it', () =>
    quick((stop$, onScope) =>
      scoped(
        () =>
          NEVER.pipe(
            finalize(() => stop$.next()),
            takeWithin(5, { graceMs: Infinity }),
          ),
        { onScope, graceMs: Infinity },
      ).pipe(takeUntil(stop$)),
    ));

  it('a sibling of a failed child', () =>
    quick((stop$, onScope) =>
      of(1, 2).pipe(
        fanOutScoped((i) => (i === 1 ? wait(5).then(() => Promise.reject(new Error('boom'))) : NEVER.pipe(finalize(() => stop$.next()))), {
          onScope,
          graceMs: Infinity,
        }),
        takeUntil(stop$),
      ),
    ));
});

describe('one call, subscribed again', () => {
  it('runs in the async context of its own subscriber', async () => {
    const user = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    await lastValueFrom(
      scoped((scope) => {
        const call = scope.call(async () => {
          seen.push(user.getStore());
          await wait(10);
        });
        user.run('alice', () => call.subscribe().unsubscribe());
        return user.run('bob', () => from(lastValueFrom(call)));
      }),
    );
    expect(seen).toEqual(['alice', 'bob']);
  });

  it('never overlaps an attempt that was left, shielded or not', async () => {
    let live = 0;
    let most = 0;
    const attempt = async (): Promise<void> => {
      most = Math.max(most, ++live);
      await wait(20);
      live--;
    };
    for (const shield of [false, true]) {
      const call = (_: number, __: number, ctx: Scope): Observable<void> => ctx.call(attempt, { shield }).pipe(timeout(5), retry(2));
      await errorOf(of(1).pipe(fanOutScoped(call)));
    }
    expect(most).toBe(1);
  });

  it('a long scope keeps nothing of calls that were superseded', async () => {
    let scope: Scope | undefined;
    await lastValueFrom(
      scoped((each) => {
        scope = each;
        for (let i = 0; i < 50; i++)
          each
            .call(() => Promise.resolve(i))
            .subscribe()
            .unsubscribe();
        return wait(5);
      }),
    );
    expect((await scope?.closed)?.late).toEqual([]);
  });
});

it('closed$ and onEnd run in the async context of whoever asked', async () => {
  const user = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  const source = new Subject<number>();
  user.run('bob', () => {
    const onScope = (scope: Scope): void => void scope.closed$.subscribe(() => seen.push(user.getStore()));
    source.pipe(takeWithin(null, { onScope, onEnd: () => seen.push(user.getStore()) })).subscribe();
  });
  user.run('alice', () => source.complete());
  expect(seen).toEqual(['bob', 'bob']);
});

it.each([
  [2, 7],
  [1000, 40],
  [2, 300],
])('%i synchronous values through %i fan-outs one after the other', (values, stages) => {
  let source: Observable<number> = from(Array.from({ length: values }, (_, i) => i));
  for (let i = 0; i < stages; i++) source = source.pipe(fanOutScoped((value) => of(value)));
  const seen: (number | string)[] = [];
  source.subscribe({ next: (value) => seen.push(value), complete: () => seen.push('end') });
  expect(seen).toEqual([...Array.from({ length: values }, (_, i) => i), 'end']);
});

it('the deadline of a child() scope in a fan-out fails its child', async () => {
  const slow = (_: number, __: number, ctx: Scope): Observable<number> => {
    const agent = ctx.child('agent');
    agent.setDeadline(5);
    return agent.call((signal) => new Promise<number>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))));
  };
  expect(await errorOf(of(1).pipe(fanOutScoped(slow)))).toMatchObject({ cause: { name: 'ScopeCancelledError', kind: 'deadline' } });
});
