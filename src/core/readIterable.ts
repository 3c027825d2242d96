/** Cancels a stream at once. Throws what its `cancel` throws, but not what it had broken with before. */
export async function release(reader: ReadableStreamDefaultReader<unknown>): Promise<void> {
  const broken = reader.closed.then(
    () => undefined,
    (error: unknown) => error,
  );
  const cancelled = reader.cancel();
  reader.releaseLock();
  try {
    await cancelled;
  } catch (error) {
    if ((await broken) !== error) throw error;
  }
}

/** Reads a stream of the platform. Its own iterator waits for the pending read before it cancels; this one cancels at once. */
class StreamIterator<T> implements AsyncIterator<T, undefined> {
  constructor(private readonly reader: ReadableStreamDefaultReader<T>) {}

  async next(): Promise<IteratorResult<T, undefined>> {
    try {
      const { done, value } = await this.reader.read();
      if (!done) return { done: false, value };
    } catch (error) {
      this.reader.releaseLock();
      throw error;
    }
    this.reader.releaseLock();
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    await release(this.reader);
    return { done: true, value: undefined };
  }
}

/** Whether it is a `ReadableStream`, of whatever realm. */
export function isReadable<T>(source: object): source is ReadableStream<T> {
  return typeof (source as Partial<ReadableStream<T>>).getReader === 'function';
}

/** The chunks of a stream. Whoever leaves cancels it. */
export function readIterable<T>(stream: ReadableStream<T>): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => new StreamIterator(stream.getReader()) };
}
