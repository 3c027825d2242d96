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
    public id: string,
    public request: R,
    /** What whoever asks for the same again has in common with it; undefined if it is withdrawn with whoever asked. */
    public key: string | undefined,
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
  readonly key: string | undefined;
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
  private readonly orphans = new Set<Entry<R, W>>();
  /** Decisions that nobody waited for, oldest first. */
  private readonly decided = new Set<Entry<R, W>>();
  /** Both, by their keys. */
  private readonly left = new Map<string, Set<Entry<R, W>>>();
  private readonly due = new DueQueue<Entry<R, W>>();
  private numbered = 0;

  constructor(
    private readonly name: string,
    private readonly limits: BookLimits,
    /** Whether two requests ask for the same: a key alone may come from outside. */
    private readonly same: (one: R, other: R) => boolean = () => true,
    /** Is told what is thrown away because its id or key came again for something else. */
    private readonly onUseless: (entry: Entry<R, W>) => void = () => {},
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

  /** This id, or one like it where another request has it. */
  free(id: string | undefined, key: string | undefined): string | undefined {
    const isFree = (name: string): boolean => {
      const taken = this.waiting.get(name);
      return taken === undefined || (taken.waiter === undefined && taken.key === key);
    };
    let free = id;
    while (free !== undefined && !isFree(free)) free = `${id}-${++this.numbered}`;
    return free;
  }

  find(id: string): Entry<R, W> | undefined {
    return this.waiting.get(id);
  }

  has(entry: Entry<R, W>): boolean {
    return this.waiting.get(entry.id) === entry;
  }

  /**
   * Asks. An id that somebody waits under is taken: undefined. A request for the same that was left behind is joined, and goes by the new id; if
   * it has been decided meanwhile, the entry carries the decision, which is handed out once.
   */
  ask({ id, request, key, waiter, dueAt }: Asked<R, W>, now: number): Entry<R, W> | undefined {
    this.forget(now);
    const under = id === undefined ? undefined : this.waiting.get(id);
    if (under?.waiter !== undefined) return undefined;
    const left = this.leftFor(key ?? id, request, id);
    if (left?.decision !== undefined) return left;
    if (under !== undefined && under !== left) this.discard(under);
    if (left !== undefined) return this.join(left, { id, request, key, waiter, dueAt });
    const entry = new Entry(id ?? this.number(), request, key, waiter, now, dueAt);
    this.waiting.set(entry.id, entry);
    if (dueAt < Infinity) this.due.add(entry);
    return entry;
  }

  /** Whoever waited has left. A request that is kept stays, and may push out one that was left longer ago. */
  leave(entry: Entry<R, W>): Entry<R, W> | undefined {
    entry.waiter = undefined;
    if (entry.key === undefined) {
      this.remove(entry);
      return undefined;
    }
    this.orphans.add(entry);
    this.index(entry.key, entry);
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
    const { id, key } = entry;
    if (key === undefined || this.waiting.has(id) || this.decided.has(entry)) return undefined;
    for (const each of this.left.get(key) ?? []) if (each.id === id) return undefined;
    entry.decision = decision;
    entry.forgetAt = now + this.limits.keepMs;
    this.decided.add(entry);
    this.index(key, entry);
    return this.overflow(this.decided);
  }

  /** Takes out a request that is due by now. */
  expire(now: number): Entry<R, W> | undefined {
    const { first } = this.due;
    if (first === undefined || first.dueAt > now) return undefined;
    this.remove(first);
    return first;
  }

  /** Forgets a request or a decision. */
  remove(entry: Entry<R, W>): void {
    if (this.has(entry)) this.waiting.delete(entry.id);
    this.due.remove(entry);
    if (this.orphans.delete(entry) || this.decided.delete(entry)) this.unindex(entry);
  }

  clear(): void {
    for (const entry of [...this.waiting.values(), ...this.decided]) this.remove(entry);
  }

  /** What was left of a request for the same, by preference under the same id. What has the same key and asks for something else is of no use to anybody. */
  private leftFor(key: string | undefined, request: R, id: string | undefined): Entry<R, W> | undefined {
    let first: Entry<R, W> | undefined;
    for (const entry of (key === undefined ? undefined : this.left.get(key)) ?? []) {
      if (!this.same(entry.request, request)) this.discard(entry);
      else if (entry.id === id) return this.handOut(entry);
      else first ??= entry;
    }
    return first && this.handOut(first);
  }

  private handOut(entry: Entry<R, W>): Entry<R, W> {
    if (entry.decision !== undefined) this.remove(entry);
    return entry;
  }

  private discard(entry: Entry<R, W>): void {
    this.remove(entry);
    this.onUseless(entry);
  }

  private join(entry: Entry<R, W>, { id, request, key, waiter }: Asked<R, W>): Entry<R, W> {
    this.orphans.delete(entry);
    this.unindex(entry);
    if (id !== undefined && id !== entry.id) {
      this.waiting.delete(entry.id);
      entry.id = id;
      this.waiting.set(id, entry);
    }
    Object.assign(entry, { request, key, waiter });
    return entry;
  }

  private index(key: string, entry: Entry<R, W>): void {
    const same = this.left.get(key);
    if (same === undefined) this.left.set(key, new Set([entry]));
    else same.add(entry);
  }

  private unindex(entry: Entry<R, W>): void {
    const { key = '' } = entry;
    const same = this.left.get(key);
    if (same?.delete(entry) === true && same.size === 0) this.left.delete(key);
  }

  private number(): string {
    for (;;) {
      const id = `${this.name}-${++this.numbered}`;
      if (!this.waiting.has(id)) return id;
    }
  }

  private forget(now: number): void {
    for (const entry of this.decided) {
      if (entry.forgetAt > now) return;
      this.remove(entry);
    }
  }

  private overflow(kept: Set<Entry<R, W>>): Entry<R, W> | undefined {
    if (kept.size <= this.limits.maxKept) return undefined;
    const [oldest] = kept;
    if (oldest !== undefined) this.remove(oldest);
    return oldest;
  }
}
