import fc from 'fast-check';
import {
  catchError,
  concat,
  concatMap,
  defer,
  EMPTY,
  finalize,
  from,
  map,
  merge,
  NEVER,
  Observable,
  of,
  repeat,
  retry,
  switchMap,
  take,
  tap,
  throwError,
  timeout,
  timer,
  type ObservableInput,
  type SchedulerLike,
} from 'rxjs';
import { failWithin, fanOutScoped, scoped, takeWithin, type FanOutOptions, type Scope } from 'rxfleet';

/** What a call does. The first group lives in virtual time, the second in promises. */
export type Work =
  | { readonly kind: 'sync'; readonly count: number }
  | { readonly kind: 'throws' | 'fails-at-once' | 'never' | 'empty' }
  | { readonly kind: 'later' | 'fails' | 'rude' | 'rude-later'; readonly ms: number }
  | { readonly kind: 'many'; readonly ms: number; readonly count: number }
  | { readonly kind: 'cleaning'; readonly ms: number; readonly cleanup: number; readonly fails: boolean }
  | { readonly kind: 'coop' | 'deaf' | 'rejects' | 'iterable'; readonly ms: number }
  | { readonly kind: 'cleanup'; readonly ms: number; readonly fails: boolean }
  | { readonly kind: 'stuck' };

export type Plan =
  | { readonly op: 'call'; readonly work: Work; readonly shield: boolean; readonly aside: boolean }
  | { readonly op: 'map' | 'scoped' | 'child' | 'share'; readonly inner: Plan }
  | { readonly op: 'retry' | 'repeat' | 'take'; readonly count: number; readonly delay: number; readonly inner: Plan }
  | { readonly op: 'timeout'; readonly ms: number; readonly fallback: boolean; readonly inner: Plan }
  | { readonly op: 'catch'; readonly inner: Plan; readonly then: Plan }
  | { readonly op: 'concat' | 'merge' | 'concatMap' | 'switchMap'; readonly gap: number; readonly items: readonly Plan[] }
  | { readonly op: 'deadline'; readonly ms: number | null; readonly inner: Plan }
  | { readonly op: 'acquire'; readonly openMs: number; readonly closeMs: number; readonly fails: boolean; readonly inner: Plan }
  | { readonly op: 'takeWithin' | 'failWithin'; readonly ms: number; readonly grace: Grace; readonly inner: Plan }
  | {
      readonly op: 'fanOut';
      readonly gap: number;
      readonly items: readonly Plan[];
      readonly concurrency: number;
      readonly policy: 'failFast' | 'collect' | 'settle' | 'race';
      readonly order: 'completion' | 'index';
      readonly grace: Grace;
      readonly cancelOwn: number;
    };

type Grace = number | undefined;

const ms = fc.integer({ min: 0, max: 8 });

const virtualWork: fc.Arbitrary<Work> = fc.oneof(
  fc.record({ kind: fc.constant('sync' as const), count: fc.integer({ min: 0, max: 3 }) }),
  fc.record({ kind: fc.constantFrom('throws' as const, 'fails-at-once' as const, 'never' as const, 'empty' as const) }),
  fc.record({ kind: fc.constantFrom('later' as const, 'fails' as const, 'rude' as const, 'rude-later' as const), ms }),
  fc.record({ kind: fc.constant('many' as const), ms, count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant('cleaning' as const), ms, cleanup: ms, fails: fc.boolean() }),
);

const promiseWork: fc.Arbitrary<Work> = fc.oneof(
  fc.record({ kind: fc.constantFrom('coop' as const, 'deaf' as const, 'rejects' as const, 'iterable' as const), ms }),
  fc.record({ kind: fc.constant('cleanup' as const), ms, fails: fc.boolean() }),
  fc.constant({ kind: 'stuck' as const }),
);

/** Random pipelines. With `graces` some scopes give up early, so calls may be abandoned. */
export function plans({ promises, graces }: { promises: boolean; graces: boolean }): fc.Arbitrary<Plan> {
  const work = promises ? fc.oneof(virtualWork, promiseWork, promiseWork) : virtualWork;
  const grace: fc.Arbitrary<Grace> = graces ? fc.constantFrom(undefined, 0, 3, 10) : fc.constantFrom(undefined, 4000);
  const gap = fc.integer({ min: 0, max: 3 });
  const fanOut = (items: fc.Arbitrary<Plan[]>): fc.Arbitrary<Plan> =>
    fc.record({
      op: fc.constant('fanOut' as const),
      gap,
      items,
      concurrency: fc.constantFrom(1, 2, 3, Infinity),
      policy: fc.constantFrom('failFast' as const, 'collect' as const, 'settle' as const, 'race' as const),
      order: fc.constantFrom('completion' as const, 'index' as const),
      grace,
      cancelOwn: fc.integer({ min: -3, max: 6 }),
    });
  const { top } = fc.letrec<{ top: Plan; plan: Plan }>((tie) => {
    const inner = tie('plan');
    const items = fc.array(inner, { minLength: 1, maxLength: 4 });
    return {
      top: fc.oneof({ weight: 3, arbitrary: fanOut(fc.array(inner, { minLength: 2, maxLength: 5 })) }, { weight: 1, arbitrary: inner }),
      plan: fc.oneof(
        { maxDepth: 5, depthSize: 'medium', withCrossShrink: true },
        fc.record({
          op: fc.constant('call' as const),
          work,
          shield: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
          aside: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
        }),
        { weight: 3, arbitrary: fanOut(items) },
        fc.record({ op: fc.constantFrom('takeWithin' as const, 'failWithin' as const), ms, grace, inner }),
        fc.record({ op: fc.constantFrom('map' as const, 'scoped' as const, 'child' as const, 'share' as const), inner }),
        fc.record({
          op: fc.constantFrom('retry' as const, 'repeat' as const, 'take' as const),
          count: fc.integer({ min: 1, max: 2 }),
          delay: fc.integer({ min: -2, max: 2 }),
          inner,
        }),
        fc.record({ op: fc.constant('deadline' as const), ms: fc.oneof(ms, fc.constant(null)), inner }),
        ...(promises ? [fc.record({ op: fc.constant('acquire' as const), openMs: ms, closeMs: ms, fails: fc.boolean(), inner })] : []),
        fc.record({ op: fc.constant('timeout' as const), ms, fallback: fc.boolean(), inner }),
        fc.record({ op: fc.constant('catch' as const), inner, then: inner }),
        fc.record({ op: fc.constantFrom('concat' as const, 'merge' as const, 'concatMap' as const, 'switchMap' as const), gap, items }),
      ),
    };
  });
  return top;
}

/** One run of one call. */
interface Run {
  readonly label: string;
  ends: number;
  settled: boolean;
  settledAt: number | undefined;
}

interface Resource {
  closed: number;
}

/** Builds a plan and counts what its calls do. */
export class World {
  readonly runs: Run[] = [];
  readonly resources: Resource[] = [];
  readonly violations: string[] = [];
  private labels = 0;

  /** @param step called whenever something happens, so that a test can break in there. */
  constructor(
    private readonly step: () => void,
    private readonly limits: boolean,
    private readonly scheduler: SchedulerLike,
  ) {}

  private wait(ms: number): Observable<0> {
    return timer(ms, this.scheduler);
  }

  get live(): readonly Run[] {
    return this.runs.filter(({ settled }) => !settled);
  }

  build(plan: Plan, ctx: Scope, child?: Slots): Observable<unknown> {
    switch (plan.op) {
      case 'call':
        return this.call(plan.work, ctx, plan, child);
      case 'map':
        return this.build(plan.inner, ctx, child).pipe(map((value) => value));
      case 'share':
        return merge(this.build(plan.inner, ctx, child), EMPTY);
      case 'scoped':
        return scoped((scope) => this.build(plan.inner, scope, child), { within: ctx, scheduler: this.scheduler });
      case 'child':
        return defer(() => this.build(plan.inner, ctx.child('agent'), child));
      case 'retry': {
        const config = { count: plan.count, ...(plan.delay < 0 ? {} : { delay: () => this.wait(plan.delay) }) };
        return this.build(plan.inner, ctx, child).pipe(retry(config));
      }
      case 'repeat': {
        const config = { count: plan.count, ...(plan.delay < 0 ? {} : { delay: () => this.wait(plan.delay) }) };
        return this.build(plan.inner, ctx, child).pipe(repeat(config));
      }
      case 'take':
        return this.build(plan.inner, ctx, child).pipe(take(plan.count));
      case 'timeout': {
        const inner = this.build(plan.inner, ctx, child);
        return inner.pipe(timeout({ each: plan.ms, scheduler: this.scheduler, ...(plan.fallback ? { with: () => of('fallback') } : {}) }));
      }
      case 'deadline':
        return defer(() => (ctx.setDeadline(plan.ms), this.build(plan.inner, ctx, child)));
      case 'acquire':
        return concat(this.acquire(plan, ctx), this.build(plan.inner, ctx, child));
      case 'catch':
        return this.build(plan.inner, ctx, child).pipe(catchError(() => this.build(plan.then, ctx, child)));
      case 'concat':
        return concat(...plan.items.map((item) => this.build(item, ctx, child)));
      case 'merge':
        return merge(...plan.items.map((item) => this.build(item, ctx, child)));
      case 'concatMap':
        return this.spaced(plan.items, plan.gap).pipe(concatMap((item) => this.build(item, ctx, child)));
      case 'switchMap':
        return this.spaced(plan.items, plan.gap).pipe(switchMap((item) => this.build(item, ctx, child)));
      case 'takeWithin':
      case 'failWithin': {
        const operator = plan.op === 'takeWithin' ? takeWithin : failWithin;
        return this.build(plan.inner, ctx, child).pipe(
          operator(plan.ms, { within: ctx, scheduler: this.scheduler, ...graceOf(plan.grace) }),
        );
      }
      case 'fanOut':
        return this.fanOut(plan, ctx);
    }
  }

  private spaced<T>(items: readonly T[], gap: number): Observable<T> {
    return gap === 0 ? from(items) : from(items).pipe(concatMap((item, i) => (i === 0 ? of(item) : this.wait(gap).pipe(map(() => item)))));
  }

  private acquire({ openMs, closeMs, fails }: Extract<Plan, { op: 'acquire' }>, ctx: Scope): Observable<unknown> {
    const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
    const { resources, step } = this;
    return ctx.acquire(
      async function acquire() {
        await sleep(openMs);
        const resource: Resource = { closed: 0 };
        resources.push(resource);
        return resource;
      },
      async (resource) => {
        step();
        resource.closed++;
        await sleep(closeMs);
        if (fails) throw new Error('close');
      },
    );
  }

  private fanOut(plan: Extract<Plan, { op: 'fanOut' }>, within: Scope): Observable<unknown> {
    const { concurrency, policy, order } = plan;
    const options: FanOutOptions = { concurrency, policy, order, within, scheduler: this.scheduler, ...graceOf(plan.grace) };
    return defer(() => {
      const slots = new Map<number, number>();
      return this.spaced(plan.items, plan.gap).pipe(
        fanOutScoped(
          (item, index, ctx) => {
            this.step();
            if (plan.cancelOwn === index) this.wait(1).subscribe(() => ctx.cancel());
            const count = (by: 1 | -1): void => {
              slots.set(index, (slots.get(index) ?? 0) + by);
              const busy = [...slots.values()].filter((n) => n > 0).length;
              if (this.limits && busy > concurrency) this.violations.push(`${busy} children with a limit of ${concurrency}`);
            };
            return this.build(item, ctx, count);
          },
          options as { policy: 'settle' },
        ),
        tap(() => this.step()),
      );
    });
  }

  private call(
    work: Work,
    ctx: Scope,
    { shield, aside }: { shield: boolean; aside: boolean },
    child: Slots = () => {},
  ): Observable<unknown> {
    const label = `${work.kind} ${this.labels++}`;
    // What never ends by itself must not be shielded: nobody could end it.
    const options = {
      label,
      shield: shield && work.kind !== 'never' && work.kind !== 'stuck' && work.kind !== 'rude' && work.kind !== 'cleanup',
    };
    const call = ctx.call((signal) => {
      this.step();
      return this.perform(work, label, signal, ctx, child);
    }, options);
    if (!aside) return call;
    return defer(() => (call.subscribe({ error: () => {} }), of('aside')));
  }

  private begin(label: string, child: Slots): { run: Run; end(): void } {
    const run: Run = { label, ends: 0, settled: false, settledAt: undefined };
    this.runs.push(run);
    child(1);
    return {
      run,
      end: () => {
        if (run.ends++ === 0) child(-1);
        else this.violations.push(`${label} ended ${run.ends} times`);
        run.settled = true;
        run.settledAt = this.scheduler.now();
        this.step();
      },
    };
  }

  private perform(work: Work, label: string, signal: AbortSignal, ctx: Scope, child: Slots): ObservableInput<unknown> {
    if (work.kind === 'throws') throw new Error(label);
    if (isPromise(work)) return this.promise(work, label, signal, child);
    return new Observable((out) => {
      const { end } = this.begin(label, child);
      const inner = this.inner(work).subscribe(out);
      return () => {
        inner.unsubscribe();
        if (work.kind !== 'cleaning') end();
        else this.track(work, ctx, end);
        if (work.kind === 'rude' || work.kind === 'rude-later') throw new Error(`teardown of ${label}`);
      };
    });
  }

  private track(work: { cleanup: number; fails: boolean }, ctx: Scope, end: () => void): void {
    const failure = work.fails ? throwError(() => new Error('cleanup')) : EMPTY;
    try {
      ctx.track(
        this.wait(work.cleanup).pipe(
          switchMap(() => failure),
          finalize(end),
        ),
        'cleaning',
      );
    } catch {
      // The scope has closed: it had been abandoned.
      end();
    }
  }

  private inner(work: Work): Observable<unknown> {
    switch (work.kind) {
      case 'sync':
        return from(Array.from({ length: work.count }, (_, i) => i));
      case 'later':
      case 'rude-later':
      case 'cleaning':
        return this.wait(work.ms);
      case 'fails':
        return this.wait(work.ms).pipe(switchMap(() => throwError(() => new Error(work.kind))));
      case 'fails-at-once':
        return throwError(() => new Error(work.kind));
      case 'many':
        return timer(work.ms, work.ms + 1, this.scheduler).pipe(take(work.count));
      case 'empty':
        return EMPTY;
      default:
        return NEVER;
    }
  }

  private promise(work: Work, label: string, signal: AbortSignal, child: Slots): ObservableInput<unknown> {
    const wait = work.kind === 'stuck' || work.kind === 'cleanup' ? Infinity : 'ms' in work ? work.ms : 0;
    if (work.kind === 'iterable') return tokens(wait, () => this.begin(label, child).end);
    const { end } = this.begin(label, child);
    const finish = (settle: () => void) => () => (end(), settle());
    return new Promise((resolve, reject) => {
      const whenAborted = (stop: () => void): void => {
        if (signal.aborted) stop();
        else signal.addEventListener('abort', stop);
      };
      if (work.kind === 'cleanup') {
        const error = work.fails ? new Error('cleanup') : new DOMException('aborted', 'AbortError');
        whenAborted(
          () =>
            void setTimeout(
              finish(() => reject(error)),
              work.ms,
            ),
        );
      }
      if (wait === Infinity) return;
      const stop = (): void => (clearTimeout(timeout), finish(() => reject(signal.reason as Error))());
      const timeout = setTimeout(() => {
        signal.removeEventListener('abort', stop);
        finish(() => (work.kind === 'rejects' ? reject(new Error(label)) : resolve(label)))();
      }, wait);
      if (work.kind === 'coop') whenAborted(stop);
    });
  }
}

type Slots = (by: 1 | -1) => void;

function isPromise({ kind }: Work): boolean {
  return kind === 'coop' || kind === 'deaf' || kind === 'rejects' || kind === 'cleanup' || kind === 'stuck' || kind === 'iterable';
}

/** Two values; its clean-up takes a while. Ends once: by itself, or when `return()` has settled. */
function tokens(wait: number, begin: () => () => void): AsyncIterable<string> {
  const sleep = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, wait));
  return {
    [Symbol.asyncIterator]: () => {
      const end = begin();
      let [returned, ended, pulls] = [false, false, 0];
      const done = { done: true, value: undefined } as const;
      return {
        next: async () => {
          await sleep();
          if (returned) return done;
          if (pulls++ < 2) return { done: false, value: 'token' };
          ended = true;
          end();
          return done;
        },
        return: async () => {
          if (ended) return done;
          returned = true;
          await sleep();
          end();
          return done;
        },
      };
    },
  };
}

function graceOf(graceMs: Grace): { graceMs?: number } {
  return graceMs === undefined ? {} : { graceMs };
}
