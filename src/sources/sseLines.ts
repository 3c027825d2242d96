const LF = 10;
const CR = 13;
const BOM = [0xef, 0xbb, 0xbf] as const;
const FIRST_SIZE = 256;
/** A longer buffer is given back once its line is complete. */
const KEPT_SIZE = 65_536;

/**
 * Cuts bytes into lines that end with CR, LF or CRLF, wherever the chunks are cut. UTF-8 needs no care here: neither byte
 * is ever part of a longer character.
 */
export class SseLines {
  /** The most bytes that a line may have, finished or not. */
  room: number = Infinity;
  private chunk: Uint8Array = new Uint8Array(0);
  private at = 0;
  /** Where the chunk's next CR is, if that is known. */
  private cr = -1;
  private held = new Uint8Array(FIRST_SIZE);
  private size = 0;
  private afterCr = false;
  private atStart = true;

  /** Takes the next chunk, once `next` has nothing left of the one before. */
  push(chunk: Uint8Array): void {
    this.chunk = chunk;
    this.at = 0;
    this.cr = -1;
  }

  /** Another connection: what is left of this one is dropped. */
  restart(): void {
    this.push(new Uint8Array(0));
    this.size = 0;
    this.afterCr = false;
    this.atStart = true;
  }

  /** The next line without its end, to be read before the next call; undefined if there is no whole one; null if it is too long. */
  next(): Uint8Array | undefined | null {
    const { chunk } = this;
    if (this.afterCr && this.at < chunk.length) {
      this.afterCr = false;
      if (chunk[this.at] === LF) this.at++;
    }
    const end = this.lineEnd();
    const piece = chunk.subarray(this.at, end);
    if (this.size + piece.length > this.room) return null;
    this.at = Math.min(end + 1, chunk.length);
    if (end === chunk.length) {
      this.hold(piece);
      return undefined;
    }
    this.afterCr = chunk[end] === CR;
    return this.whole(piece);
  }

  private lineEnd(): number {
    const { chunk, at } = this;
    if (this.cr < at) this.cr = orEnd(chunk, chunk.indexOf(CR, at));
    const nearby = chunk.subarray(at, this.cr).indexOf(LF);
    return nearby < 0 ? this.cr : at + nearby;
  }

  private whole(piece: Uint8Array): Uint8Array {
    let line = piece;
    if (this.size > 0) {
      this.hold(piece);
      line = this.held.subarray(0, this.size);
      this.size = 0;
      if (this.held.length > KEPT_SIZE) this.held = new Uint8Array(FIRST_SIZE);
    }
    if (!this.atStart) return line;
    this.atStart = false;
    return BOM.every((byte, i) => line[i] === byte) ? line.subarray(BOM.length) : line;
  }

  /** A copy, since the piece may be a few bytes of a large chunk. */
  private hold(piece: Uint8Array): void {
    const size = this.size + piece.length;
    if (size > this.held.length) {
      const larger = new Uint8Array(Math.max(size, this.held.length * 2));
      larger.set(this.held.subarray(0, this.size));
      this.held = larger;
    }
    this.held.set(piece, this.size);
    this.size = size;
  }
}

function orEnd(chunk: Uint8Array, found: number): number {
  return found < 0 ? chunk.length : found;
}
