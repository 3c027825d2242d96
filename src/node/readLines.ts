import type { FileHandle } from 'node:fs/promises';
import { following, oldest, type Generation } from './generations.js';

const CHUNK = 65_536;
const NEWLINE = 0x0a;
/** A line that is longer is not taken for one. */
const LONGEST_LINE = 10_000_000;
const POLL_MS = 200;

/** Lines as they come. */
export interface Lines {
  readonly lines: readonly string[];
  /** Everything that is there now has been read. */
  readonly idle: boolean;
}

export interface ReadLinesOptions {
  /** Goes on with what is appended, also when the file is renamed and begun anew. */
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

/** The lines of a log from its oldest generation on; undefined if there is no such file. */
export async function readLines(path: string, options: ReadLinesOptions): Promise<AsyncGenerator<Lines> | undefined> {
  const first = await oldest(path);
  return first === undefined ? undefined : linesFrom(path, first, options);
}

async function* linesFrom(path: string, first: Generation, { follow, signal }: ReadLinesOptions): AsyncGenerator<Lines> {
  let current = first;
  let reader = new LineReader(current.handle);
  try {
    while (!signal.aborted) {
      yield* reader.read(signal);
      const next = await following(path, current);
      if (next !== undefined) {
        // Whoever renamed it may have written to it after it was read to its end.
        yield* reader.read(signal);
        yield { lines: reader.end(), idle: false };
        await current.handle.close();
        current = next;
        reader = new LineReader(current.handle);
      } else if (follow) {
        yield { lines: [], idle: true };
        await pause(signal);
        await reader.startOverIfCut();
      } else {
        yield { lines: reader.end(), idle: true };
        return;
      }
    }
  } finally {
    await current.handle.close();
  }
}

/** Cuts one file into lines. */
class LineReader {
  private at = 0;
  private parts: Buffer[] = [];
  private length = 0;

  constructor(private readonly handle: FileHandle) {}

  /** To the end of what is there now. */
  async *read(signal: AbortSignal): AsyncGenerator<Lines> {
    while (!signal.aborted) {
      const { bytesRead, buffer } = await this.handle.read(Buffer.allocUnsafe(CHUNK), 0, CHUNK, this.at);
      if (bytesRead === 0) return;
      this.at += bytesRead;
      yield { lines: this.cut(buffer.subarray(0, bytesRead)), idle: false };
    }
  }

  /** The line that was begun and not ended, if there is one. */
  end(): string[] {
    const rest = this.take();
    return rest === '' ? [] : [rest];
  }

  /** A file that is shorter than what was read of it was emptied and begun anew. */
  async startOverIfCut(): Promise<void> {
    const { size } = await this.handle.stat();
    if (size >= this.at) return;
    this.at = 0;
    this.take();
  }

  private cut(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0; to = chunk.indexOf(NEWLINE, from)) {
      this.keep(chunk.subarray(from, to));
      lines.push(this.take());
      from = to + 1;
    }
    this.keep(chunk.subarray(from));
    return lines.filter((line) => line !== '');
  }

  /** Of a line that is too long only its beginning is kept, which is no JSON. */
  private keep(part: Buffer): void {
    this.length += part.length;
    if (part.length > 0 && this.length <= LONGEST_LINE) this.parts.push(part);
  }

  private take(): string {
    const line = Buffer.concat(this.parts).toString();
    this.parts = [];
    this.length = 0;
    return line;
  }
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, POLL_MS);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
