import { Observable, type Unsubscribable, type UnsubscriptionError } from 'rxjs';
import { DirectObservable, type RelayTarget } from './direct.js';

export type { RelayTarget };

/**
 * Subscribes `target` to `source` so that a source which emits while it is being subscribed can be stopped, which
 * `source.subscribe(observer)` alone does not allow.
 */
export function relay<T>(source: Observable<T>, target: RelayTarget<T>): void {
  if (source instanceof DirectObservable) return source.begin(target);
  new Observable<T>((subscriber) => {
    target.attach(subscriber);
    try {
      source.subscribe(subscriber);
    } catch (error) {
      if (subscriber.closed) target.torn(error);
      else subscriber.error(error);
    }
  }).subscribe(target);
}

/** Unsubscribes and hands every error that a teardown threw to `target`; never throws. */
export function tearDown(handle: Unsubscribable | undefined, target: Pick<RelayTarget<never>, 'torn'>): void {
  try {
    handle?.unsubscribe();
  } catch (error) {
    const errors =
      (error as Partial<UnsubscriptionError> | null)?.name === 'UnsubscriptionError' ? (error as UnsubscriptionError).errors : [error];
    for (const each of errors) target.torn(each);
  }
}
