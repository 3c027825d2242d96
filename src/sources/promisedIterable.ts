function ignore(): void {
  // Whoever pulled it hears of it.
}

/** Waits for each value before it asks for the next. */
class PromisedIterator<T> implements AsyncIterator<T, undefined> {
  private pending: Promise<unknown> | undefined = undefined;
  private closed = false;

  constructor(private readonly iterator: Iterator<T | PromiseLike<T>, unknown>) {}

  next(): Promise<IteratorResult<T, undefined>> {
    const step = this.iterator.next();
    if (step.done) return Promise.resolve({ done: true, value: undefined });
    const value = Promise.resolve(step.value);
    this.pending = value;
    return value.then(
      (each) => ({ done: false, value: each }),
      (error: unknown) => {
        this.closeAfter();
        throw error;
      },
    );
  }

  /** Lets the iterable clean up at once, and has ended when the promise that is waited for has. */
  async return(): Promise<IteratorResult<T, undefined>> {
    try {
      this.close();
    } finally {
      await this.pending?.catch(ignore);
    }
    return { done: true, value: undefined };
  }

  /** As in `for await`, what the value was rejected with is the error, whatever the cleanup throws. */
  private closeAfter(): void {
    try {
      this.close();
    } catch {
      ignore();
    }
  }

  private close(): void {
    if (this.closed) return;
    this.closed = true;
    this.iterator.return?.();
  }
}

/** An iterable of values or promises as an async iterable of the values, in order and one at a time. */
export function promisedIterable<T>(iterable: Iterable<T | PromiseLike<T>>): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => new PromisedIterator(iterable[Symbol.iterator]()) };
}
