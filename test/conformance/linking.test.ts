import {
  asyncScheduler,
  catchError,
  combineLatest,
  concat,
  concatMap,
  concatWith,
  defer,
  delay,
  exhaustMap,
  expand,
  finalize,
  forkJoin,
  from,
  iif,
  map,
  merge,
  mergeMap,
  NEVER,
  observeOn,
  of,
  race,
  repeat,
  retry,
  share,
  shareReplay,
  startWith,
  subscribeOn,
  switchMap,
  take,
  takeUntil,
  tap,
  throwError,
  timeout,
  timer,
  zip,
  type Observable,
} from 'rxjs';
import { fanOutScoped, scoped, takeWithin, type CallFunction } from 'rxfleet';
import { openScopes } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { looseCall } from '../support/loose.js';
import { fake, type Fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';

/** Makes an Observable of one more call with this work. */
type MakeCall = <T>(fn: CallFunction<T>) => Observable<T>;
type Shape = (call: Observable<number>, make: MakeCall) => Observable<unknown>;

/** Whether the last call that a shape makes belongs to the scope around it when it is not given one. */
const SHAPES: readonly (readonly [name: string, links: boolean, shape: Shape])[] = [
  // Subscribed within the chain.
  ['alone', true, (call) => call],
  ['map', true, (call) => call.pipe(map((value) => value + 1))],
  ['of, mergeMap', true, (call) => of(1).pipe(mergeMap(() => call))],
  ['of, switchMap', true, (call) => of(1).pipe(switchMap(() => call))],
  ['of, exhaustMap', true, (call) => of(1).pipe(exhaustMap(() => call))],
  ['of, concatMap', true, (call) => of(1).pipe(concatMap(() => call))],
  ['of, expand', true, (call) => of(1).pipe(expand((value) => (value === 1 ? call : NEVER)))],
  ['defer', true, (call) => defer(() => call)],
  ['iif', true, (call) => iif(() => true, call, NEVER)],
  ['merge', true, (call) => merge(NEVER, call)],
  ['combineLatest', true, (call) => combineLatest([of(1), call])],
  ['forkJoin', true, (call) => forkJoin([of(1), call])],
  ['zip', true, (call) => zip(of(1), call)],
  ['race', true, (call) => race(NEVER, call)],
  ['startWith', true, (call) => call.pipe(startWith(0))],
  ['concat behind something synchronous', true, (call) => concat(of(1), call)],
  ['share', true, (call) => call.pipe(share())],
  ['shareReplay', true, (call) => call.pipe(shareReplay({ bufferSize: 1, refCount: true }))],
  ['timeout', true, (call) => call.pipe(timeout(500))],
  ['takeUntil', true, (call) => call.pipe(takeUntil(NEVER))],
  ['observeOn(asyncScheduler)', true, (call) => call.pipe(observeOn(asyncScheduler))],
  ['delay', true, (call) => call.pipe(delay(1))],
  [
    'finalize and tap',
    true,
    (call) =>
      call.pipe(
        tap(),
        finalize(() => {}),
      ),
  ],
  [
    'retry() after a synchronous failure',
    true,
    (call) =>
      once(
        throwError(() => 'x'),
        call,
      ).pipe(retry(1)),
  ],
  ['catchError of a synchronous failure', true, (call) => throwError(() => 'x').pipe(catchError(() => call))],
  // Subscribed when another call of the same scope tells something: our own notifications restore it.
  [
    'concat behind another call',
    true,
    (call, make) =>
      concat(
        make(() => timer(2)),
        call,
      ),
  ],
  ['concatMap behind another call', true, (call, make) => of(1, 2).pipe(concatMap((i) => (i === 1 ? make(() => timer(2)) : call)))],
  ['retry() after a call that failed', true, (call, make) => once(make(failsAfter(2)), call).pipe(retry(1))],
  [
    'repeat() after a call that completed',
    true,
    (call, make) =>
      once(
        make(() => timer(2).pipe(take(0))),
        call,
      ).pipe(repeat(2)),
  ],
  ['catchError of a call that failed', true, (call, make) => make(failsAfter(2)).pipe(catchError(() => call))],
  ['expand from a call’s value', true, (call, make) => make(() => timer(2)).pipe(expand((value) => (value === 0 ? call : NEVER)))],
  ['switchMap from a call’s value', true, (call, make) => make(() => timer(2)).pipe(switchMap(() => call))],
  [
    'mergeMap behind a fan-out',
    true,
    (call) =>
      of(1).pipe(
        fanOutScoped(() => timer(2)),
        mergeMap(() => call),
      ),
  ],
  ['concatWith behind takeWithin', true, (call) => NEVER.pipe(takeWithin(2), concatWith(call))],
  [
    'catchError behind scoped',
    true,
    (call) =>
      scoped(() =>
        timer(2).pipe(
          map(() => {
            throw 'x';
          }),
        ),
      ).pipe(catchError(() => call)),
  ],
  // Subscribed by somebody else's timer, promise or queue: only ctx links.
  ['timer, mergeMap', false, (call) => timer(2).pipe(mergeMap(() => call))],
  ['promise, mergeMap', false, (call) => from(Promise.resolve(1)).pipe(mergeMap(() => call))],
  ['concat behind a timer', false, (call) => concat(timer(2), call)],
  ['the queue of concatMap', false, (call) => of(1, 2).pipe(concatMap((i) => (i === 1 ? timer(2) : call)))],
  [
    'retry() after an asynchronous failure',
    false,
    (call) =>
      once(
        timer(2).pipe(
          map(() => {
            throw 'x';
          }),
        ),
        call,
      ).pipe(retry(1)),
  ],
  [
    'retry({ delay })',
    false,
    (call) =>
      once(
        throwError(() => 'x'),
        call,
      ).pipe(retry({ count: 1, delay: 2 })),
  ],
  ['retry({ delay }) of a call', false, (call, make) => once(make(failsAfter(1)), call).pipe(retry({ count: 1, delay: 2 }))],
  ['repeat({ delay })', false, (call) => once(of(1), call).pipe(repeat({ count: 2, delay: 2 }))],
  [
    'catchError of an asynchronous failure',
    false,
    (call) =>
      timer(2).pipe(
        map(() => {
          throw 'x';
        }),
        catchError(() => call),
      ),
  ],
  ['timeout({ with })', false, (call) => NEVER.pipe(timeout({ each: 2, with: () => call }))],
  ['subscribeOn(asyncScheduler)', false, (call) => call.pipe(subscribeOn(asyncScheduler))],
  [
    'observeOn(asyncScheduler), mergeMap',
    false,
    (call) =>
      of(1).pipe(
        observeOn(asyncScheduler),
        mergeMap(() => call),
      ),
  ],
  [
    'delay, switchMap',
    false,
    (call) =>
      of(1).pipe(
        delay(2),
        switchMap(() => call),
      ),
  ],
  [
    'a call’s value through observeOn',
    false,
    (call, make) =>
      make(() => of(1)).pipe(
        observeOn(asyncScheduler),
        mergeMap(() => call),
      ),
  ],
];

/** The first subscription goes to `first`, the next to `then`. */
function once<T, U>(first: Observable<T>, then: Observable<U>): Observable<T | U> {
  let subscriptions = 0;
  return defer((): Observable<T | U> => (subscriptions++ === 0 ? first : then));
}

function failsAfter(ms: number): () => Observable<never> {
  return () =>
    timer(ms).pipe(
      map(() => {
        throw 'x';
      }),
    );
}

const DEADLINE = 20;
const containers: readonly (readonly [string, (body: (make: MakeCall | undefined) => Observable<unknown>) => Observable<unknown>])[] = [
  ['takeWithin', (body) => body(undefined).pipe(takeWithin(DEADLINE))],
  ['scoped', (body) => scoped((scope) => (scope.setDeadline(DEADLINE), body((fn) => scope.call(fn))))],
  [
    'fanOutScoped',
    (body) => of(1).pipe(fanOutScoped((_, __, ctx) => body((fn) => ctx.call(fn)), { onScope: (scope) => scope.setDeadline(DEADLINE) })),
  ],
];

/** Runs a shape in a container around a deaf call of 50 ms: whether the call was linked, and when the output ended. */
async function run({ works, advance, now }: Fake, contain: (typeof containers)[number][1], shape: Shape, explicit: boolean) {
  const before = openScopes().length;
  let linked: boolean | undefined;
  let endedAt: number | undefined;
  const end = (): void => void (endedAt = now());
  const body = (make: MakeCall | undefined): Observable<unknown> => {
    const call = explicit && make !== undefined ? make : looseCall;
    const deaf = call((signal: AbortSignal) => {
      linked = openScopes().length === before + 1;
      return works.deaf('call', 50, 1)(signal);
    });
    return shape(deaf, call);
  };
  contain(body).subscribe({ error: end, complete: end });
  await advance(200);
  return { linked, endedAt: endedAt ?? Infinity, settled: works.settled.length };
}

describe('which shapes link a call to the scope around it', () => {
  for (const [container, contain] of containers) {
    it.each(SHAPES)(`${container}: %s, implicitly: %s`, (_, links, shape) =>
      fake(async (test) => {
        const { linked, endedAt } = await run(test, contain, shape, false);
        expect(linked).toBe(links);
        if (links) expect(endedAt).toBeGreaterThanOrEqual(50);
      }),
    );
  }

  for (const [container, contain] of containers.slice(1)) {
    it.each(SHAPES)(`${container}: %s, with ctx: always`, (_, __, shape) =>
      fake(async (test) => {
        const { linked, endedAt } = await run(test, contain, shape, true);
        expect(linked).toBe(true);
        expect(endedAt).toBeGreaterThanOrEqual(50);
      }),
    );
  }

  it('H05 a call behind retry({ delay }) and map inside takeWithin: with ctx, complete waits for it', () =>
    fake(async ({ works, watch, lines, advance }) => {
      let attempts = 0;
      watch(
        scoped((ctx) =>
          ctx
            .call((signal) => (attempts++ === 0 ? works.failing('first', 1, 'x') : works.deaf('second', 50, 'value'))(signal))
            .pipe(
              map((value) => value),
              retry({ count: 1, delay: 2 }),
            ),
        ).pipe(takeWithin(10)),
      );
      await advance(100);
      expect(lines).toEqual(['1 first settled', '53 second settled', '53 complete']);
    }));

  it('a call that is not linked is waited for all the same if the scope tears it down', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const call = looseCall(works.deaf('call', 50, 'value'));
      watch(
        timer(2).pipe(
          mergeMap(() => call),
          takeWithin(10),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['52 call settled', '52 complete']);
    }));

  it('so is a scope that is not linked', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const inner = scoped((scope) => scope.call(works.deaf('call', 50, 'value')));
      watch(
        timer(2).pipe(
          mergeMap(() => inner),
          takeWithin(10),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['52 call settled', '52 complete']);
    }));

  it('what it had to abandon is named by the scope that tore it down', () =>
    fake(async ({ works, advance }) => {
      const group = handle();
      const inner = scoped((scope) => scope.call(works.stuck('call'), { label: 'stuck' }));
      timer(2)
        .pipe(
          mergeMap(() => inner),
          takeWithin(10, { graceMs: 5, onScope: group.take }),
        )
        .subscribe();
      await advance(10_000);
      expect(reportOf(group.scope).abandoned).toMatchObject([{ label: 'stuck' }]);
    }));

  it('a call that is not linked and was left before is nobody’s', () =>
    fake(async ({ works, watch, lines, advance }) => {
      const call = looseCall(works.deaf('call', 50, 'value'));
      watch(
        timer(2).pipe(
          mergeMap(() => call.pipe(takeUntil(timer(3)))),
          takeWithin(10),
        ),
      );
      await advance(100);
      expect(lines).toEqual(['5 complete', '52 call settled']);
    }));

  it('a callback of the consumer is outside: what it starts does not belong to the scope that tells it', () =>
    fake(async ({ advance }) => {
      const roots: number[] = [];
      const call = looseCall(() => (roots.push(openScopes().length), of(1)));
      of(1)
        .pipe(fanOutScoped((value) => timer(value)))
        .subscribe({ next: () => void call.subscribe(), complete: () => void call.subscribe() });
      await advance(10);
      // The fan-out is still open when it emits, and has closed when it completes; the call is a root of its own both times.
      expect(roots).toEqual([2, 1]);
    }));

  it('the link is restored when the chain has been subscribed, also when it throws', () => {
    const roots: number[] = [];
    const call = looseCall(() => (roots.push(openScopes().length), of(1)));
    const rude = fanOutScoped(() => {
      throw new Error('project');
    });
    const subscription = NEVER.pipe(takeWithin(null)).subscribe();
    of(1)
      .pipe(rude)
      .subscribe({ error: () => {} });
    call.subscribe();
    subscription.unsubscribe();
    call.subscribe();
    expect(roots).toEqual([2, 1]);
  });
});
