import { type MonoTypeOperatorFunction, Observable, Subscription, tap, timer } from 'rxjs';
import { bulkhead, scoped, Semaphore } from '../../src/index.js';
import { simulate } from './virtualTime.js';

/** One permit as it is often written: it goes back when the call says that it is over, and then downstream is told. */
export function releaseThenForward<T>(): MonoTypeOperatorFunction<T> {
  const line: (() => void)[] = [];
  let taken = false;
  const next = (): void => {
    taken = false;
    line.shift()?.();
  };
  return (source) =>
    new Observable((out) => {
      let held = false;
      const release = (): void => {
        if (held) next();
        held = false;
      };
      const call = new Subscription();
      const start = (): void => {
        taken = held = true;
        const complete = (): void => (release(), out.complete());
        call.add(source.subscribe({ next: (value) => out.next(value), error: (error) => (release(), out.error(error)), complete }));
      };
      if (taken) line.push(start);
      else start();
      call.add(release);
      return call;
    });
}

export function throughSemaphore<T>(): MonoTypeOperatorFunction<T> {
  return bulkhead(new Semaphore({ limit: 1 }));
}

export interface Span {
  readonly name: string;
  readonly from: number;
  /** When it was told to stop; only its connection is closed after that. */
  cancelled?: number;
  to: number;
}

export interface Day {
  readonly spans: readonly Span[];
  readonly mostLive: number;
}

/** Three calls in line: A completes after 3 s, B is cancelled after 2 s and needs 2 s more to stop, C completes after 3 s. */
export function threeCalls(limit: MonoTypeOperatorFunction<never>): Day {
  const spans: Span[] = [];
  let [live, mostLive] = [0, 0];
  simulate((now) => {
    const call = (name: string, ms: number): Observable<never> =>
      scoped((scope) => {
        return new Observable<never>((out) => {
          const span: Span = { name, from: now(), to: NaN };
          const over = (): void => void [live--, (span.to = now())];
          spans.push(span);
          mostLive = Math.max(mostLive, ++live);
          let completed = false;
          const work = timer(ms).subscribe(() => ((completed = true), out.complete()));
          return () => {
            work.unsubscribe();
            if (completed) return over();
            span.cancelled = now();
            scope.track(timer(2_000).pipe(tap({ complete: over })), 'closing');
          };
        });
      }).pipe(limit);
    call('A', 3_000).subscribe();
    const second = call('B', 6_000).subscribe();
    call('C', 3_000).subscribe();
    timer(5_000).subscribe(() => second.unsubscribe());
  });
  return { spans, mostLive };
}

export interface Handovers {
  readonly handovers: number;
  /** How many calls began before the one in front of them was torn down. */
  readonly early: number;
}

/** A hundred calls in line, all of which complete. */
export function hundredCalls(limit: MonoTypeOperatorFunction<never>): Handovers {
  let [live, calls, early] = [0, 0, 0];
  simulate(() => {
    const call = new Observable<never>((out) => {
      calls++;
      if (++live > 1) early++;
      const work = timer(10).subscribe({ complete: () => out.complete() });
      return () => (work.unsubscribe(), live--);
    }).pipe(limit);
    for (let i = 0; i < 100; i++) call.subscribe();
  });
  return { handovers: calls - 1, early };
}
