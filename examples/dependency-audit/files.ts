import type { Stats } from 'node:fs';
import { createReadStream } from 'node:fs';
import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';

/** A file of a package. */
export interface FileEntry {
  /** Relative to the package, with forward slashes. */
  readonly path: string;
  readonly bytes: number;
}

/** What a tool may not do, in words for the model. */
export class PathError extends Error {
  override readonly name = 'PathError';
}

const HINT = 'Paths are relative to the folder of the package, as in "package.json" or "dist/index.js".';

/** The files of one package and of nothing else: paths come from a model, so none may lead out of its folder, not even by a link. */
export class PackageFiles {
  constructor(
    readonly name: string,
    /** Its folder, symbolic links resolved. */
    private readonly root: string,
  ) {}

  /** The text of a file, at most so many bytes of it. */
  async read(path: string, maxBytes: number, signal: AbortSignal): Promise<{ readonly text: string; readonly bytes: number }> {
    const file = await this.resolve(path);
    const { size } = await this.expect(file, path, 'file', (stats) => stats.isFile());
    signal.throwIfAborted();
    const chunks: Buffer[] = [];
    // `end` is inclusive.
    if (size > 0) for await (const chunk of createReadStream(file, { end: maxBytes - 1, signal })) chunks.push(chunk as Buffer);
    return {
      text: Buffer.concat(chunks)
        .toString('utf8')
        .replace(/^\uFEFF/, ''),
      bytes: size,
    };
  }

  async exists(path: string): Promise<boolean> {
    return this.resolve(path).then(
      () => true,
      () => false,
    );
  }

  /** The names in a folder. */
  async names(path: string, signal: AbortSignal): Promise<string[]> {
    const names = await readdir(await this.resolve(path));
    signal.throwIfAborted();
    return names;
  }

  /** Every file below a folder, without the packages nested in it. Links are not followed. */
  async *walk(path: string, signal: AbortSignal): AsyncGenerator<FileEntry, void> {
    const start = await this.resolve(path);
    await this.expect(start, path, 'folder', (stats) => stats.isDirectory());
    const folders = [start];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      for (const entry of await readdir(folder, { withFileTypes: true })) {
        signal.throwIfAborted();
        const full = join(folder, entry.name);
        if (entry.isDirectory()) {
          if (entry.name !== 'node_modules') folders.push(full);
        } else if (entry.isFile()) yield { path: this.relative(full), bytes: (await lstat(full)).size };
      }
    }
  }

  private relative(full: string): string {
    return relative(this.root, full).split(sep).join('/');
  }

  /** The real path of something in the package. */
  private async resolve(path: string): Promise<string> {
    const full = resolve(this.root, path);
    if (path.includes('\0') || isAbsolute(path) || !this.holds(full)) throw this.outside(path);
    const real = await realpath(full).catch((error: unknown) => {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') throw new PathError(`There is no "${path}" in the package "${this.name}". ${HINT}`);
      throw error;
    });
    if (!this.holds(real)) throw this.outside(path);
    return real;
  }

  private holds(full: string): boolean {
    return full === this.root || full.startsWith(this.root.endsWith(sep) ? this.root : this.root + sep);
  }

  private outside(path: string): PathError {
    return new PathError(`"${path}" leads out of the package "${this.name}" and was refused. ${HINT}`);
  }

  private async expect(full: string, path: string, kind: string, fits: (stats: Stats) => boolean): Promise<Stats> {
    const stats = await stat(full);
    if (!fits(stats)) throw new PathError(`"${path}" in the package "${this.name}" is no ${kind}.`);
    return stats;
  }
}
