/** What the platform's own Observables are given. */
export interface NativeObserver<T> {
  next?: (value: T) => void;
  error?: (error: unknown) => void;
  complete?: () => void;
}

/** The platform's own Observable, as far as it is needed here. */
export interface NativeObservable<T> {
  subscribe(observer?: NativeObserver<T>, options?: { signal?: AbortSignal }): void;
}

/** Where the platform's own Observables get their values from. */
export interface NativeSubscriber<T> {
  next(value: T): void;
  error(error: unknown): void;
  complete(): void;
  /** Aborted when nobody listens any more, and after the end. */
  readonly signal: AbortSignal;
}

/** The platform's own class. */
export type NativeObservableConstructor = new <T>(producer: (subscriber: NativeSubscriber<T>) => void) => NativeObservable<T>;
