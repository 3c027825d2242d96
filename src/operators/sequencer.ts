/** Puts values of numbered sources in the order of their numbers: source i streams once 0 to i-1 are done. */
export class Sequencer<T> {
  private head = 0;
  private flushing = false;
  private readonly held = new Map<number, { values: T[]; done: boolean }>();

  constructor(private readonly emit: (value: T) => void) {}

  next(index: number, value: T): void {
    if (index === this.head && !this.flushing) this.emit(value);
    else this.entry(index).values.push(value);
  }

  done(index: number): void {
    this.entry(index).done = true;
    if (!this.flushing) this.flush();
  }

  /** Takes out everything that is still held, in order. */
  drain(): T[] {
    const rest = [...this.held].sort(([a], [b]) => a - b).flatMap(([, entry]) => entry.values);
    this.held.clear();
    return rest;
  }

  private entry(index: number): { values: T[]; done: boolean } {
    let entry = this.held.get(index);
    if (entry === undefined) this.held.set(index, (entry = { values: [], done: false }));
    return entry;
  }

  private flush(): void {
    this.flushing = true;
    try {
      for (let entry = this.held.get(this.head); entry !== undefined; entry = this.held.get(this.head)) {
        for (let i = 0; i < entry.values.length; i++) this.emit(entry.values[i] as T);
        entry.values = [];
        if (!entry.done) break;
        this.held.delete(this.head++);
      }
    } finally {
      this.flushing = false;
    }
  }
}
