import { captureContext, type AsyncBinding } from '#context';

/** A value that waits for its turn, with the async context that it came in. */
interface Held<T> {
  readonly value: T;
  readonly context: AsyncBinding | undefined;
}

/** Puts values of numbered sources in the order of their numbers: source i streams once 0 to i-1 are done. */
export class Sequencer<T> {
  private head = 0;
  private flushing = false;
  private readonly held: Map<number, { values: Held<T>[]; done: boolean }> = new Map();

  constructor(private readonly emit: (value: T) => void) {}

  next(index: number, value: T): void {
    if (index === this.head && !this.flushing) this.emit(value);
    else this.entry(index).values.push({ value, context: captureContext() });
  }

  done(index: number): void {
    this.entry(index).done = true;
    if (!this.flushing) this.flush();
  }

  /** Takes out everything that is still held, in order. */
  drain(): T[] {
    const rest = [...this.held].sort(([a], [b]) => a - b).flatMap(([, entry]) => entry.values.map(({ value }) => value));
    this.held.clear();
    return rest;
  }

  private entry(index: number): { values: Held<T>[]; done: boolean } {
    let entry = this.held.get(index);
    if (entry === undefined) this.held.set(index, (entry = { values: [], done: false }));
    return entry;
  }

  private flush(): void {
    this.flushing = true;
    try {
      for (let entry = this.held.get(this.head); entry !== undefined; entry = this.held.get(this.head)) {
        for (let i = 0; i < entry.values.length; i++) this.release(entry.values[i] as Held<T>);
        entry.values = [];
        if (!entry.done) break;
        this.held.delete(this.head++);
      }
    } finally {
      this.flushing = false;
    }
  }

  private release({ value, context }: Held<T>): void {
    if (context === undefined) this.emit(value);
    else context.run(this.emit, value);
  }
}
