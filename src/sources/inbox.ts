import { EMPTY, Observable, Subject, take, takeUntil } from 'rxjs';
import { captureContext } from '#context';
import type { Block } from './historyLines.js';
import type { MessageParam } from './historyParts.js';
import { repairBlock } from './repairBlock.js';

type Content = MessageParam['content'];

const MAX_UNREAD = 1_000;

/** Whether it says nothing. */
export function isBlank(content: unknown): boolean {
  if (typeof content === 'string') return content.trim() === '';
  return Array.isArray(content) && (content as readonly unknown[]).every(isBlankText);
}

function isBlankText(block: unknown): boolean {
  const { type, text } = (block ?? {}) as { readonly type?: unknown; readonly text?: unknown };
  return type === 'text' && typeof text === 'string' && text.trim() === '';
}

/** What was said, as the API takes it; undefined if it does not, or there is nothing in it. */
export function sayable(content: Content): Content | undefined {
  if (isBlank(content)) return undefined;
  if (typeof content === 'string') return content;
  const blocks = content.filter((block) => !isBlankText(block)).map((block) => repairBlock(block, 'user', () => undefined));
  const fine = blocks.filter((block): block is Block => block !== undefined && block.type !== 'tool_result');
  return fine.length === blocks.length ? fine : undefined;
}

/** What people say while an agent runs, until it joins the conversation. */
export class Inbox {
  private readonly arrivals = new Subject<Content>();
  private waiting: Content[] = [];
  private open: boolean;

  constructor(private readonly source: Observable<Content> | undefined) {
    this.open = source !== undefined;
  }

  /** Follows the source beside a run, whose error its error is. */
  beside<T>(run: Observable<T>): Observable<T> {
    const { source } = this;
    if (source === undefined) return run;
    return new Observable((out) => {
      const left = new Subject<void>();
      out.add(() => left.next());
      source.pipe(takeUntil(left)).subscribe({
        next: (content) => {
          if (typeof content !== 'string' && !Array.isArray(content))
            return out.error(new TypeError('agent: inbox$ must emit texts, or lists of content blocks.'));
          this.waiting.push(content);
          if (this.waiting.length > MAX_UNREAD) out.error(new RangeError(`agent: more than ${MAX_UNREAD} messages of inbox$ wait.`));
          else if (sayable(content) !== undefined) this.arrivals.next(content);
        },
        error: (error: unknown) => out.error(error),
        complete: () => {
          if (out.closed) return;
          this.open = false;
          this.arrivals.complete();
        },
      });
      if (!out.closed) out.add(run.subscribe(out));
    });
  }

  /** Completes when somebody has said something, or nobody will; in the async context of the agent, not of whoever spoke. */
  first(): Observable<never> {
    if (!this.open || this.waiting.some((content) => sayable(content) !== undefined)) return EMPTY;
    const binding = captureContext();
    return new Observable((out) => {
      const go = (): void => out.complete();
      return this.arrivals.pipe(take(1)).subscribe({ complete: () => (binding === undefined ? go() : binding.run(go, undefined)) });
    });
  }

  /** Everything that was said since the last time. */
  read(): Content[] {
    const { waiting } = this;
    this.waiting = [];
    return waiting;
  }
}
