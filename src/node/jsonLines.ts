import {
  asyncScheduler,
  catchError,
  concat,
  defer,
  ignoreElements,
  merge,
  Observable,
  Subject,
  tap,
  throwError,
  type OperatorFunction,
  type SchedulerLike,
} from 'rxjs';
import { captureContext } from '#context';
import { innermost } from '../core/call.js';
import { ScopeBase } from '../core/scope.js';
import type { ScopeContext } from '../core/types.js';
import { checkCount, checkGateOptions, refuse } from '../gates/checks.js';
import type { TripRecord } from '../gates/tripRecord.js';
import { LineFile } from './lineFile.js';
import { LineQueue } from './lineQueue.js';

/** What happens to the file. */
export type JsonLinesEvent =
  | { readonly type: 'opened'; readonly path: string; readonly bytes: number }
  /** It was full: it has another name now, and a new one is begun. */
  | { readonly type: 'rotated'; readonly path: string }
  /** Values that were not written: there was no room for them, or they are no JSON. The file has a record that tells the count. */
  | { readonly type: 'dropped'; readonly path: string; readonly count: number }
  /** It could not be written. What waits is tried again in a second or more, with `waiting` bytes of room taken until then. */
  | { readonly type: 'failed'; readonly path: string; readonly error: unknown; readonly waiting: number }
  /** Nothing more will be written. `missing` values are not in the file. */
  | { readonly type: 'closed'; readonly path: string; readonly written: number; readonly missing: number };

export interface JsonLinesOptions {
  /** Bytes after which the file is renamed and a new one begun, 1000 or more. Default 10 000 000. */
  readonly maxBytes?: number | undefined;
  /** Renamed files to keep, `path.1` being the youngest. Default 5. */
  readonly keep?: number | undefined;
  /** Bytes that may wait while the disk is slow, 1000 or more. Default 1 000 000. */
  readonly maxQueueBytes?: number | undefined;
  /** Told once the file is closed, also after an unsubscribe. */
  readonly onClosed?: ((event: Extract<JsonLinesEvent, { readonly type: 'closed' }>) => void) | undefined;
  /** The scope that waits for the file to be closed after an unsubscribe. Default: the enclosing one, if any. */
  readonly within?: ScopeContext | undefined;
  /** What tells the time of the record that counts what is missing. Default asyncScheduler. */
  readonly scheduler?: SchedulerLike | undefined;
}

/**
 * Writes each value as a line of JSON to the end of a file, which never grows beyond `maxBytes`, and tells what happens to it.
 *
 * ```
 * source    --a-b----------c--|           source    --a-b-
 * jsonLines -o------------------k|        jsonLines -o----!      unsubscribed: b is written, then the file is closed
 * file      ---a-b----------c-            file      ---a-b
 *
 * o  opened    k  closed, all is written
 * ```
 *
 * *Use it* for a `tripLog`, which `npx rxfleet trips` prints; any other values go as well. Lines are only appended, so whatever
 * kills the process tears at most the last one, and the next writer begins with a new line. Before the file is too long it is
 * renamed to `path.1`, that to `path.2`, and so on. While the disk is slow, values wait in a bounded queue; what does not fit
 * is counted in a record of kind `dropped` where it is missing. One file is for one writer.
 *
 * ```ts
 * import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
 * import { tmpdir } from 'node:os';
 * import { join } from 'node:path';
 * import { from, lastValueFrom } from 'rxjs';
 * import { jsonLines } from 'rxfleet/node';
 *
 * const folder = mkdtempSync(join(tmpdir(), 'trips-'));
 * const end = await lastValueFrom(from([{ a: 1 }, { b: 2 }]).pipe(jsonLines(join(folder, 'trips.jsonl'))));
 * const text = readFileSync(join(folder, 'trips.jsonl'), 'utf8');
 * rmSync(folder, { recursive: true });
 * if (end.type !== 'closed' || text !== '{"a":1}\n{"b":2}\n') throw new Error(text);
 * ```
 *
 * @param path - the file; it is made, with its folders, for its owner alone (mode 0600)
 * @param options - `maxBytes` (default 10 MB), `keep` (renamed files, default 5), `maxQueueBytes` (default 1 MB), `onClosed`,
 * `within`, `scheduler`
 * @returns an operator. It emits what happens to the file: `opened`, `rotated`, `dropped`, `failed` (a write is tried again
 * in a second or more), and `closed` as the last; then it completes, or errors as the source did. Unsubscribing stops the
 * source at once, writes what waits and closes the file; `onClosed` and the enclosing scope hear when that is done
 * @see tripLog for what to write
 */
export function jsonLines(path: string, options: JsonLinesOptions = {}): OperatorFunction<unknown, JsonLinesEvent> {
  checkJsonLines(path, options);
  return (source) =>
    new Observable((subscriber) => {
      const events = new Subject<JsonLinesEvent>();
      const binding = captureContext();
      const sink = new JsonSink(path, options, (event) => {
        if (binding === undefined) events.next(event);
        else binding.run((each: JsonLinesEvent) => events.next(each), event);
      });
      const scope = innermost(options.within as ScopeBase | undefined);
      subscriber.add(() => {
        const closed = sink.close();
        if (scope instanceof ScopeBase && !scope.over) scope.track(closed, `jsonLines ${path}`);
      });
      const closed = defer(() => sink.close()).pipe(ignoreElements());
      const taken = source.pipe(
        tap((value) => sink.add(value)),
        ignoreElements(),
        catchError((error: unknown) =>
          concat(
            closed,
            throwError(() => error),
          ),
        ),
      );
      merge(events, concat(taken, closed).pipe(tap({ complete: () => events.complete() }))).subscribe(subscriber);
    });
}

/** One subscription: values become lines, and what becomes of the lines is told. */
class JsonSink {
  private readonly longest: number;
  private readonly queue: LineQueue;
  private readonly file: LineFile;
  private values = 0;
  private end: Promise<void> | undefined = undefined;

  constructor(
    private readonly path: string,
    private readonly options: JsonLinesOptions,
    private readonly tell: (event: JsonLinesEvent) => void,
  ) {
    const { maxBytes = 10_000_000, keep = 5, maxQueueBytes = 1_000_000 } = options;
    this.longest = Math.min(maxBytes, maxQueueBytes);
    this.queue = new LineQueue(maxQueueBytes, (count) => this.missing(count));
    this.file = new LineFile(path, this.queue, {
      maxBytes,
      keep,
      opened: (bytes) => tell({ type: 'opened', path, bytes }),
      rotated: () => tell({ type: 'rotated', path }),
      failed: (error) => tell({ type: 'failed', path, error, waiting: this.queue.bytes }),
    });
    this.file.begin();
  }

  add(value: unknown): void {
    this.values++;
    const text = toLine(value);
    if (text === undefined || Buffer.byteLength(text) >= this.longest) this.queue.skip();
    else this.queue.add(text);
    this.file.flush();
  }

  close(): Promise<void> {
    return (this.end ??= this.file.close().then(() => {
      const { path, values, queue } = this;
      const event = { type: 'closed', path, written: queue.records, missing: values - queue.records } as const;
      this.tell(event);
      try {
        this.options.onClosed?.(event);
      } catch (error) {
        asyncScheduler.schedule(() => {
          throw error;
        });
      }
    }));
  }

  private missing(count: number): string {
    const { path, options, tell } = this;
    tell({ type: 'dropped', path, count });
    const message = `${count === 1 ? '1 record is' : `${count} records are`} missing here: no room was left while they waited to be written, or they are no JSON.`;
    const at = (options.scheduler ?? asyncScheduler).now();
    return JSON.stringify({ kind: 'dropped', at, path: [], message, count } satisfies TripRecord);
  }
}

function toLine(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

function checkJsonLines(path: string, options: JsonLinesOptions): void {
  if (typeof path !== 'string') refuse(TypeError, 'jsonLines', 'path', 'a string', path);
  if (path === '' || path.includes('\0')) refuse(RangeError, 'jsonLines', 'path', 'the name of a file', path);
  checkGateOptions('jsonLines', options);
  const { maxBytes, keep, maxQueueBytes, onClosed, within } = options;
  if (maxBytes !== undefined) checkCount('jsonLines', 'maxBytes', maxBytes, 1000);
  if (keep !== undefined) checkCount('jsonLines', 'keep', keep, 0);
  if (maxQueueBytes !== undefined) checkCount('jsonLines', 'maxQueueBytes', maxQueueBytes, 1000);
  if (onClosed !== undefined && typeof onClosed !== 'function') refuse(TypeError, 'jsonLines', 'onClosed', 'a function', onClosed);
  if (within !== undefined && !(within instanceof ScopeBase)) refuse(TypeError, 'jsonLines', 'within', 'a scope of this package', within);
}
