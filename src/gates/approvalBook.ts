import { DueQueue, type Due } from './dueQueue.js';

/** What a person decided. */
export type Decision =
  { readonly kind: 'approved'; readonly input: unknown } | { readonly kind: 'denied'; readonly reason: string | undefined };

/** What is asked of a person, and who waits for the answer. */
export class Entry<R, W> implements Due {
  slot = -1;
  turn = 0;
  decision: Decision | undefined = undefined;
  /** When a decision that nobody has picked up is forgotten. */
  forgetAt: number = Infinity;

  constructor(
    readonly id: string,
    readonly request: R,
    public keep: boolean,
    /** Undefined when whoever asked has left. */
    public waiter: W | undefined,
    readonly askedAt: number,
    readonly dueAt: number,
  ) {}
}

export interface BookLimits {
  /** How long a decision that nobody waited for is remembered. */
  readonly keepMs: number;
  /** How many such decisions, and how many requests that nobody waits for, are kept. */
  readonly maxKept: number;
}

export interface Asked<R, W> {
  readonly id: string | undefined;
  readonly request: R;
  readonly keep: boolean;
  readonly waiter: W;
  readonly dueAt: number;
}

/**
 * The requests that wait for a decision, each under an id of its own, and the decisions that wait for whoever asked.
 * Decisions come in any order; each step costs the same however many wait.
 */
export class ApprovalBook<R, W> {
  private readonly waiting = new Map<string, Entry<R, W>>();
  /** Of those, the ones that nobody waits for any more, longest first. */
  private readonly orphans = new Map<string, Entry<R, W>>();
  /** Decisions that nobody waited for, oldest first. */
  private readonly decided = new Map<string, Entry<R, W>>();
  private readonly due = new DueQueue<Entry<R, W>>();
  private numbered = 0;

  constructor(
    private readonly name: string,
    private readonly limits: BookLimits,
  ) {}

  get size(): number {
    return this.waiting.size;
  }

  get remembered(): number {
    return this.decided.size;
  }

  /** When the next request expires; Infinity if none does. */
  get nextDue(): number {
    return this.due.first?.dueAt ?? Infinity;
  }

  /** In the order in which they were asked. */
  entries(): IterableIterator<Entry<R, W>> {
    return this.waiting.values();
  }

  find(id: string): Entry<R, W> | undefined {
    return this.waiting.get(id);
  }

  has(entry: Entry<R, W>): boolean {
    return this.waiting.get(entry.id) === entry;
  }

  /**
   * Asks. An id that somebody waits under is taken: undefined. One that was left behind is joined; if it has been decided
   * meanwhile, the entry carries the decision, which is handed out once.
   */
  ask({ id = this.number(), request, keep, waiter, dueAt }: Asked<R, W>, now: number): Entry<R, W> | undefined {
    this.forget(now);
    const decided = this.decided.get(id);
    if (decided !== undefined) {
      this.decided.delete(id);
      return decided;
    }
    const pending = this.waiting.get(id);
    if (pending !== undefined) return this.join(pending, keep, waiter);
    const entry = new Entry(id, request, keep, waiter, now, dueAt);
    this.waiting.set(id, entry);
    if (dueAt < Infinity) this.due.add(entry);
    return entry;
  }

  /** Whoever waited has left. A request that is kept stays, and may push out one that was left longer ago. */
  leave(entry: Entry<R, W>): Entry<R, W> | undefined {
    entry.waiter = undefined;
    if (!entry.keep) {
      this.remove(entry);
      return undefined;
    }
    this.orphans.set(entry.id, entry);
    return this.overflow(this.orphans);
  }

  /** Whoever waits is told by the caller; if nobody does, the decision is remembered, and may push out an older one. */
  decide(entry: Entry<R, W>, decision: Decision, now: number): Entry<R, W> | undefined {
    this.remove(entry);
    return entry.waiter === undefined ? this.remember(entry, decision, now) : undefined;
  }

  /** Keeps a decision that nobody has made use of, unless its id is in use again. */
  remember(entry: Entry<R, W>, decision: Decision, now: number): Entry<R, W> | undefined {
    this.forget(now);
    if (this.waiting.has(entry.id) || this.decided.has(entry.id)) return undefined;
    entry.decision = decision;
    entry.forgetAt = now + this.limits.keepMs;
    this.decided.set(entry.id, entry);
    return this.overflow(this.decided);
  }

  /** Takes out a request that is due by now. */
  expire(now: number): Entry<R, W> | undefined {
    const { first } = this.due;
    if (first === undefined || first.dueAt > now) return undefined;
    this.remove(first);
    return first;
  }

  remove(entry: Entry<R, W>): void {
    this.waiting.delete(entry.id);
    this.orphans.delete(entry.id);
    this.due.remove(entry);
  }

  clear(): void {
    for (const entry of [...this.waiting.values()]) this.remove(entry);
    this.decided.clear();
  }

  private join(entry: Entry<R, W>, keep: boolean, waiter: W): Entry<R, W> | undefined {
    if (entry.waiter !== undefined) return undefined;
    this.orphans.delete(entry.id);
    entry.waiter = waiter;
    entry.keep = keep;
    return entry;
  }

  private number(): string {
    for (;;) {
      const id = `${this.name}-${++this.numbered}`;
      if (!this.waiting.has(id) && !this.decided.has(id)) return id;
    }
  }

  private forget(now: number): void {
    for (const entry of this.decided.values()) {
      if (entry.forgetAt > now) return;
      this.decided.delete(entry.id);
    }
  }

  private overflow(kept: Map<string, Entry<R, W>>): Entry<R, W> | undefined {
    if (kept.size <= this.limits.maxKept) return undefined;
    const [oldest] = kept.values();
    if (oldest === undefined) return undefined;
    kept.delete(oldest.id);
    if (this.has(oldest)) this.remove(oldest);
    return oldest;
  }
}
