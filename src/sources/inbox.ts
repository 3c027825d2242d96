import { EMPTY, ignoreElements, Observable, Subject, take } from 'rxjs';
import type { MessageParam } from './historyParts.js';

type Content = MessageParam['content'];

const MAX_UNREAD = 1_000;

/** Whether there is nothing in it that the API would take. */
export function isBlank(content: Content): boolean {
  if (typeof content === 'string') return content.trim() === '';
  return Array.isArray(content) && content.every((block) => block.type === 'text' && block.text.trim() === '');
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
      const heard = source.subscribe({
        next: (content) => {
          if (typeof content !== 'string' && !Array.isArray(content))
            return out.error(new TypeError('agent: inbox$ must emit texts, or lists of content blocks.'));
          this.waiting.push(content);
          if (this.waiting.length > MAX_UNREAD) out.error(new RangeError(`agent: more than ${MAX_UNREAD} messages of inbox$ wait.`));
          else if (!isBlank(content)) this.arrivals.next(content);
        },
        error: (error: unknown) => out.error(error),
        complete: () => {
          this.open = false;
          this.arrivals.complete();
        },
      });
      out.add(heard);
      out.add(run.subscribe(out));
    });
  }

  /** Completes when somebody has said something, or nobody will. */
  first(): Observable<never> {
    if (!this.open || this.waiting.some((content) => !isBlank(content))) return EMPTY;
    return this.arrivals.pipe(take(1), ignoreElements());
  }

  /** Everything that was said since the last time. */
  read(): Content[] {
    const { waiting } = this;
    this.waiting = [];
    return waiting;
  }
}
