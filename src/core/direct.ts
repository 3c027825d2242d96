import { Observable, type Observer, type Subscriber, type Unsubscribable } from 'rxjs';

/** Where notifications go: a Subscriber, or one of our own records, which is given its subscription by `attach`. */
export type Sink<T> = Observer<T>;

/** An observer that holds its own subscription from before the first value on. */
export interface RelayTarget<T> extends Observer<T> {
  attach(handle: Unsubscribable): void;
  /** A teardown threw inside `subscribe`. */
  torn(error: unknown): void;
}

/** An Observable of ours. Our own records subscribe to it with `begin`, without a Subscriber in between. */
export class DirectObservable<T> extends Observable<T> {
  /** `begin` is called as a method: one function can serve all instances of a class. */
  constructor(readonly begin: (this: DirectObservable<T>, sink: Sink<T>) => void) {
    super(subscribeDirectly);
  }
}

function subscribeDirectly<T>(this: Observable<T>, subscriber: Subscriber<T>): void {
  (this as DirectObservable<T>).begin(subscriber);
}

/** Gives a sink its subscription, before anything is emitted. A Subscriber may be of another copy of rxjs. */
export function hand<T>(sink: Sink<T>, handle: Unsubscribable): void {
  const { attach } = sink as Partial<RelayTarget<T>>;
  if (typeof attach === 'function') attach.call(sink, handle);
  else (sink as Subscriber<T>).add(handle);
}
