import { defer, forkJoin, from, fromEvent, lastValueFrom, mergeMap, Observable, takeUntil, throwError } from 'rxjs';
import { swallow, version } from '../row.mjs';

const aborted = (signal) => fromEvent(signal, 'abort').pipe(mergeMap(() => throwError(() => signal.reason)));

/** One of the five, with a signal that the caller aborts, as far as there is one. */
const all = (job, signal) => job.names.map((name) => job.tools[name](signal));

const forked = (job) => defer(() => forkJoin(all(job).map((each) => from(each))));

/** A promise as an Observable whose teardown aborts it: what most people write. */
const abortable = (run) =>
  new Observable((subscriber) => {
    const controller = new AbortController();
    run(controller.signal).then(
      (value) => {
        subscriber.next(value);
        subscriber.complete();
      },
      (error) => subscriber.error(error),
    );
    return () => controller.abort();
  });

const merged = (job) => from(job.names).pipe(mergeMap((name) => abortable(job.tools[name])));

/** Runs an Observable to its end, or leaves it in the middle. */
const scenarios = (make) => ({
  fail: (job) => swallow(lastValueFrom(make(job))),
  abort: (job) => {
    void job.abortAtMoment();
    return swallow(lastValueFrom(make(job).pipe(takeUntil(aborted(job.signal)))));
  },
  leave: async (job) => {
    const subscription = make(job).subscribe();
    await job.moment();
    subscription.unsubscribe();
  },
});

const rxjs = version('rxjs');

export const rows = [
  {
    name: 'Promise.all',
    with: `Node ${process.versions.node}`,
    fail: (job) => swallow(Promise.all(all(job))),
    abort: (job) => {
      void job.abortAtMoment();
      return swallow(Promise.all(all(job, job.signal)));
    },
  },
  { name: 'forkJoin(from(promise))', with: rxjs, ...scenarios(forked) },
  { name: 'mergeMap, aborting teardown', with: rxjs, ...scenarios(merged) },
];
