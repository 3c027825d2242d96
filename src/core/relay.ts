import { Observable, UnsubscriptionError, type Observer, type Unsubscribable } from 'rxjs';

/** An observer that holds its own subscription from before the first value on. */
export interface RelayTarget<T> extends Observer<T> {
  attach(handle: Unsubscribable): void;
  /** A teardown threw inside `subscribe`. */
  torn(error: unknown): void;
}

/**
 * Subscribes `target` to `source` so that a source which emits while it is being subscribed can be stopped, which
 * `source.subscribe(observer)` alone does not allow.
 */
export function relay<T>(source: Observable<T>, target: RelayTarget<T>): void {
  new Observable<T>((subscriber) => {
    target.attach(subscriber);
    try {
      source.subscribe(subscriber);
    } catch (error) {
      target.torn(error);
    }
  }).subscribe(target);
}

/** Unsubscribes and hands every error that a teardown threw to `target`; never throws. */
export function tearDown(handle: Unsubscribable | undefined, target: Pick<RelayTarget<never>, 'torn'>): void {
  try {
    handle?.unsubscribe();
  } catch (error) {
    if (error instanceof UnsubscriptionError) error.errors.forEach((each) => target.torn(each));
    else target.torn(error);
  }
}
