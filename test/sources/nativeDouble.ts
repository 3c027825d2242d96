import type { NativeObserver } from '../../src/sources/nativeObservable.js';

type Callback<A extends unknown[]> = ((...args: A) => void) | undefined;

/** What the platform would tell `window.onerror`. */
export const reported: unknown[] = [];

function invoke<A extends unknown[]>(callback: Callback<A>, ...args: A): void {
  try {
    callback?.call(undefined, ...args);
  } catch (error) {
    reported.push(error);
  }
}

/** The observer as the platform reads it: members one by one, in the order of their names, callable or undefined. */
class Dictionary {
  readonly complete: Callback<[]>;
  readonly error: Callback<[unknown]>;
  readonly next: Callback<[unknown]>;

  constructor(observer: NativeObserver<never> | ((value: never) => void) = {}) {
    const members = (typeof observer === 'function' ? { next: observer } : observer) as Record<string, unknown>;
    const read = (name: string): never => {
      const member = members[name];
      if (member !== undefined && typeof member !== 'function') throw new TypeError(`${name} is not a function`);
      return member as never;
    };
    this.complete = read('complete');
    this.error = read('error');
    this.next = read('next');
  }
}

/** The platform's Subscriber, of the draft as browsers have it: shared by the observers that listen at the same time. */
export class DoubleSubscriber {
  readonly observers = new Set<Dictionary>();
  private readonly teardowns: (() => void)[] = [];
  private readonly controller = new AbortController();
  active = true;

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  next(value: unknown): void {
    if (!this.active) return;
    for (const observer of [...this.observers]) invoke(observer.next, value);
  }

  error(error: unknown): void {
    if (!this.active) return void reported.push(error);
    const observers = [...this.observers];
    this.close(error);
    for (const observer of observers) {
      if (observer.error === undefined) reported.push(error);
      else invoke(observer.error, error);
    }
  }

  complete(): void {
    if (!this.active) return;
    const observers = [...this.observers];
    this.close();
    for (const observer of observers) invoke(observer.complete);
  }

  addTeardown(teardown: () => void): void {
    if (this.active) this.teardowns.push(teardown);
    else invoke(teardown);
  }

  leave(observer: Dictionary, reason: unknown): void {
    this.observers.delete(observer);
    if (this.observers.size === 0) this.close(reason);
  }

  close(reason?: unknown): void {
    if (!this.active) return;
    this.active = false;
    this.controller.abort(reason);
    for (const teardown of this.teardowns.reverse()) invoke(teardown);
  }
}

/** The platform's Observable, as far as subscribing goes. */
export class DoubleObservable<T> {
  private shared: DoubleSubscriber | undefined;

  constructor(private readonly producer: (subscriber: DoubleSubscriber) => void) {}

  subscribe(observer?: NativeObserver<T> | ((value: T) => void), options: { signal?: AbortSignal } = {}): void {
    const dictionary = new Dictionary(observer);
    const { signal } = options;
    const { shared } = this;
    if (shared?.active) return this.join(shared, dictionary, signal);
    const subscriber = (this.shared = new DoubleSubscriber());
    subscriber.observers.add(dictionary);
    if (signal?.aborted) subscriber.close(signal.reason);
    else signal?.addEventListener('abort', () => subscriber.leave(dictionary, signal.reason));
    try {
      this.producer.call(undefined, subscriber);
    } catch (error) {
      subscriber.error(error);
    }
  }

  private join(subscriber: DoubleSubscriber, dictionary: Dictionary, signal: AbortSignal | undefined): void {
    if (signal?.aborted) return;
    subscriber.observers.add(dictionary);
    signal?.addEventListener('abort', () => subscriber.leave(dictionary, signal.reason));
  }
}
