import type { Unsubscribable } from 'rxjs';

/** Where an iterator's values and its end go. */
interface IteratorTarget<T> {
  readonly over: boolean;
  readonly cancelled: boolean;
  attach(handle: Unsubscribable): void;
  next(value: T): void;
  error(error: unknown): void;
  complete(): void;
  /** It has stopped after it was told to. */
  ended(): void;
  torn(error: unknown): void;
}

/**
 * Pulls an async iterable. Told to stop, it calls `return()` at once, also while `next()` is pending for ever, and has
 * ended when `return()` has settled (without one, when the pending `next()` has).
 */
export class IteratorRun<T> implements Unsubscribable {
  private iterator: AsyncIterator<T> | undefined;
  private stopped = false;

  constructor(
    private readonly iterable: AsyncIterable<T>,
    private readonly target: IteratorTarget<T>,
  ) {}

  start(): void {
    this.target.attach(this);
    if (this.target.cancelled) return this.unsubscribe();
    this.iterator = this.iterable[Symbol.asyncIterator]();
    this.pull(this.iterator);
  }

  private pull(iterator: AsyncIterator<T>): void {
    iterator.next().then(
      ({ done, value }) => {
        if (this.stopped) {
          if (iterator.return === undefined) this.target.ended();
        } else if (done === true) this.finish(() => this.target.complete());
        else {
          this.target.next(value);
          if (!this.stopped) this.pull(iterator);
        }
      },
      (error: unknown) => {
        if (this.stopped && iterator.return !== undefined) this.target.torn(error);
        else this.finish(() => this.target.error(error));
      },
    );
  }

  private finish(tell: () => void): void {
    this.stopped = true;
    tell();
  }

  unsubscribe(): void {
    if (this.stopped) return;
    this.stopped = true;
    if (this.iterator === undefined) return this.target.ended();
    if (this.iterator.return === undefined) return;
    Promise.resolve(this.iterator.return()).then(
      () => this.target.ended(),
      (error: unknown) => this.target.error(error),
    );
  }
}
