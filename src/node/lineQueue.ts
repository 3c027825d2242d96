import { Ring } from '../core/ring.js';

/** Bytes of lines that are written at once. */
const BATCH = 65_536;

interface Line {
  readonly bytes: Buffer;
  /** 1, or 0 for a line that tells how many are missing. */
  readonly records: number;
}

/**
 * Lines that wait to be written, up to so many bytes of them. What does not fit is counted, and a line that tells the count
 * stands where they are missing.
 */
export class LineQueue {
  /** Bytes that wait. */
  bytes = 0;
  /** Records that were written. */
  records = 0;
  private readonly lines = new Ring<Line>();
  /** The first lines, taken together. They wait until they are known to be written. */
  private batch: Line[] = [];
  private batched = 0;
  private missing = 0;

  constructor(
    private readonly maxBytes: number,
    private readonly tellMissing: (count: number) => string,
  ) {}

  get empty(): boolean {
    return this.bytes === 0 && this.missing === 0;
  }

  /** Appends a text as a line, or counts it if there is no room. */
  add(text: string): void {
    const bytes = Buffer.from(`${text}\n`);
    if (this.bytes + bytes.length > this.maxBytes) return this.skip();
    this.closeGap();
    this.push({ bytes, records: 1 });
  }

  /** Counts a line that cannot be written. */
  skip(): void {
    this.missing++;
  }

  /** Puts the line that counts the missing ones behind what waits. */
  closeGap(): void {
    const { missing } = this;
    this.missing = 0;
    if (missing > 0) this.push({ bytes: Buffer.from(`${this.tellMissing(missing)}\n`), records: 0 });
  }

  /** The first lines, as many as fit into `room` bytes; empty if not even one does. */
  peek(room: number): Buffer {
    for (let line = this.take(); line !== undefined; line = this.take()) {
      this.batch.push(line);
      this.batched += line.bytes.length;
    }
    if (this.batched <= room) return concat(this.batch);
    let bytes = 0;
    return concat(this.batch.filter((line) => (bytes += line.bytes.length) <= room));
  }

  /** So many bytes of them are written. Returns how many of those belong to a line that is not complete. */
  written(bytes: number): number {
    let left = bytes;
    let lines = 0;
    for (const line of this.batch) {
      if (line.bytes.length > left) break;
      left -= line.bytes.length;
      this.records += line.records;
      lines++;
    }
    this.batch.splice(0, lines);
    this.batched -= bytes - left;
    this.bytes -= bytes - left;
    return left;
  }

  /** Everything that waits. */
  rest(): Buffer {
    this.closeGap();
    const rest = [...this.batch];
    for (let line = this.lines.shift(); line !== undefined; line = this.lines.shift()) rest.push(line);
    this.batch = [];
    this.batched = this.bytes = 0;
    return concat(rest);
  }

  private push(line: Line): void {
    this.lines.push(line);
    this.bytes += line.bytes.length;
  }

  private take(): Line | undefined {
    return this.batched < BATCH ? this.lines.shift() : undefined;
  }
}

function concat(lines: readonly Line[]): Buffer {
  return Buffer.concat(lines.map((line) => line.bytes));
}
