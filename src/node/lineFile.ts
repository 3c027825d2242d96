import { appendFileSync, fstatSync } from 'node:fs';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { LineQueue } from './lineQueue.js';
import { orMissing } from './orMissing.js';

const NEWLINE = Buffer.from('\n');
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** How long a process that ends waits for the write that is under way: in steps of a millisecond. */
const LAST_WAIT_STEPS = 1000;

export interface LineFileOptions {
  /** Bytes after which the file is renamed and a new one begun. */
  readonly maxBytes: number;
  /** Renamed files that are kept. */
  readonly keep: number;
  opened(bytes: number): void;
  rotated(): void;
  failed(error: unknown): void;
}

/** The file that is open, and what was known of it last. */
interface Opened {
  readonly handle: FileHandle;
  readonly dev: number;
  readonly ino: number;
  /** A pipe or a device: it has no size and is not renamed. */
  readonly special: boolean;
  size: number;
  /** It does not end with a newline. */
  torn: boolean;
}

/**
 * The bytes that the file has more than were known of, once they are as many as were sent: a write that is under way is done
 * by another thread, also while this one ends, and what is written again before that would be there twice.
 */
function grownBy({ handle, size, special }: Opened, sent: number): number {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  let grown = fstatSync(handle.fd).size - size;
  for (let step = 0; grown < sent && !special && step < LAST_WAIT_STEPS; step++) {
    Atomics.wait(clock, 0, 0, 1);
    grown = fstatSync(handle.fd).size - size;
  }
  return grown;
}

/**
 * Writes a queue of lines to the end of a file, which is renamed and begun anew before it is too long. Lines leave the queue
 * once they are written; when writing fails they wait until it can be tried again.
 */
export class LineFile {
  private file: Opened | undefined = undefined;
  private running: Promise<void> | undefined = undefined;
  private ending = false;
  private wake: (() => void) | undefined = undefined;
  /** Bytes of lines that are just being written. */
  private sent = 0;

  constructor(
    private readonly path: string,
    private readonly queue: LineQueue,
    private readonly options: LineFileOptions,
  ) {}

  /** Opens the file, and makes it if there is none. */
  begin(): void {
    this.running ??= this.run();
  }

  /** Writes what waits. */
  flush(): void {
    if (!this.queue.empty) this.begin();
  }

  /** Writes what waits, unless that fails, and closes the file. */
  async close(): Promise<void> {
    this.ending = true;
    this.wake?.();
    this.flush();
    await this.running;
    await this.release();
  }

  private async run(): Promise<void> {
    process.on('exit', this.writeNow);
    let failures = 0;
    do {
      failures = (await this.attempt()) ? 0 : failures + 1;
      if (failures > 0 && this.ending) break;
      if (failures > 0) await this.sleep(Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS));
    } while (failures > 0 || !this.queue.empty);
    process.off('exit', this.writeNow);
    this.running = undefined;
  }

  private async attempt(): Promise<boolean> {
    try {
      await this.writeSome();
      return true;
    } catch (error) {
      await this.release();
      this.options.failed(error);
      return false;
    }
  }

  private async writeSome(): Promise<void> {
    const { queue } = this;
    const file = await this.current();
    if (queue.empty) return;
    if (queue.bytes === 0) queue.closeGap();
    const before = file.torn ? NEWLINE.length : 0;
    const lines = queue.peek(file.special ? Infinity : this.options.maxBytes - file.size - before);
    if (lines.length === 0) return this.rotate();
    this.sent = lines.length;
    const { bytesWritten } = await file.handle.write(before === 0 ? lines : Buffer.concat([NEWLINE, lines]));
    this.sent = 0;
    if (bytesWritten >= before) file.torn = queue.written(bytesWritten - before) > 0;
  }

  /** The file at the path, which somebody else may have renamed or removed since the last time. */
  private async current(): Promise<Opened> {
    const { file } = this;
    if (file !== undefined) {
      const there = await orMissing(stat(this.path));
      if (there?.ino === file.ino && there.dev === file.dev) {
        file.size = there.size;
        return file;
      }
      await this.release();
    }
    return (this.file = await this.open());
  }

  private async open(): Promise<Opened> {
    const handle = (await orMissing(open(this.path, 'a+', 0o600))) ?? (await this.create());
    try {
      const found = await handle.stat();
      const { dev, ino, size } = found;
      const last = Buffer.from(NEWLINE);
      if (size > 0) await handle.read(last, 0, 1, size - 1);
      this.options.opened(size);
      return { handle, dev, ino, special: !found.isFile(), size, torn: !last.equals(NEWLINE) };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  private async create(): Promise<FileHandle> {
    await mkdir(dirname(this.path), { recursive: true });
    return open(this.path, 'a+', 0o600);
  }

  /** Moves each file one number up, as far as the numbers in front of it are taken. */
  private async rotate(): Promise<void> {
    const { path } = this;
    const { keep } = this.options;
    await this.release();
    if (keep === 0) await rm(path, { force: true });
    else {
      let free = 1;
      while (free < keep && (await orMissing(stat(`${path}.${free}`))) !== undefined) free++;
      for (let n = free; n > 1; n--) await rename(`${path}.${n - 1}`, `${path}.${n}`);
      await orMissing(rename(path, `${path}.1`));
    }
    this.options.rotated();
  }

  private async release(): Promise<void> {
    const { file } = this;
    this.file = undefined;
    this.sent = 0;
    await file?.handle.close().catch(() => undefined);
  }

  /** Does not keep the process alive. */
  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms).unref();
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** The process ends: there is no time left for anything but this. */
  private readonly writeNow = (): void => {
    const { file, queue, sent } = this;
    try {
      const grown = file === undefined || sent === 0 ? 0 : grownBy(file, sent);
      const done = grown >= sent;
      if (done) queue.written(sent);
      const torn = done ? sent === 0 && file?.torn === true : file?.torn === true || grown > 0;
      const rest = queue.rest();
      if (rest.length > 0) appendFileSync(file?.handle.fd ?? this.path, torn ? Buffer.concat([NEWLINE, rest]) : rest, { mode: 0o600 });
    } catch {
      // Nobody is left to tell.
    }
  };
}
