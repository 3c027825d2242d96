import type { Unsubscribable } from 'rxjs';
import { isReadable, readIterable } from './readIterable.js';

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
  /** Its last step failed after it was told to stop, and its `return()` has not settled. */
  stopFailed(error: unknown): void;
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
    const { iterable } = this;
    this.iterator = (isReadable<T>(iterable) ? readIterable<T>(iterable) : iterable)[Symbol.asyncIterator]();
    this.target.attach(this);
    if (this.target.cancelled) this.unsubscribe();
    else this.pull(this.iterator);
  }

  private pull(iterator: AsyncIterator<T>): void {
    settle(
      () => iterator.next(),
      (result) => this.pulled(iterator, opened(result)),
      (error) => {
        if (this.stopped && iterator.return !== undefined) return this.target.stopFailed(error);
        this.stopped = true;
        this.target.error(error);
      },
    );
  }

  private pulled(iterator: AsyncIterator<T>, { done, value, broken }: Step<T>): void {
    if (broken !== undefined && !this.stopped) {
      this.stopped = true;
      this.target.error(broken.error);
    } else if (this.stopped) {
      if (iterator.return === undefined) this.target.ended();
    } else if (done) {
      this.stopped = true;
      this.target.complete();
    } else {
      this.target.next(value as T);
      if (!this.stopped) this.pull(iterator);
    }
  }

  unsubscribe(): void {
    if (this.stopped) return;
    this.stopped = true;
    const { iterator, target } = this;
    if (iterator === undefined) target.ended();
    else if (iterator.return !== undefined) {
      settle(
        () => iterator.return?.(),
        () => target.ended(),
        (error) => target.error(error),
      );
    }
  }
}

interface Step<T> {
  readonly done?: boolean | undefined;
  readonly value?: T;
  /** The iterator does not keep to its protocol. */
  readonly broken?: { readonly error: unknown };
}

/** Reads a step once; a result that is no object is a TypeError, as in `for await`. */
function opened<T>(result: IteratorResult<T, unknown>): Step<T> {
  if (typeof result !== 'object' || result === null) {
    return { broken: { error: new TypeError(`An async iterator's next() must give an object, got ${String(result)}.`) } };
  }
  try {
    const { done, value } = result;
    return { done, value: value as T };
  } catch (error) {
    return { broken: { error } };
  }
}

function settle<V>(task: () => PromiseLike<V> | V, onValue: (value: V) => void, onError: (error: unknown) => void): void {
  let result: PromiseLike<V> | V;
  try {
    result = task();
  } catch (error) {
    return onError(error);
  }
  Promise.resolve(result).then(onValue, onError);
}
