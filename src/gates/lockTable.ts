import { Ring } from '../core/ring.js';

/** The keys that a call reads, and those that it writes. */
export interface LockKeys {
  readonly reads?: readonly string[] | undefined;
  readonly writes?: readonly string[] | undefined;
}

/** How one key is used now. */
export interface KeyUse {
  readonly key: string;
  readonly mode: 'read' | 'write';
  readonly holders: number;
  readonly waiting: number;
}

/** One key: how many have it, and who waits for it in order of arrival. */
class Line<W> {
  open = 0;
  writing = false;
  head: Ticket<W> | undefined = undefined;
  tail: Ticket<W> | undefined = undefined;
  waiting = 0;
  stirred = false;

  constructor(readonly key: string) {}

  admits(write: boolean): boolean {
    return this.open === 0 || !(write || this.writing);
  }

  take(ticket: Ticket<W>): void {
    ticket.open = true;
    this.open++;
    this.writing = ticket.write;
  }

  append(ticket: Ticket<W>): void {
    ticket.before = this.tail;
    if (this.tail === undefined) this.head = ticket;
    else this.tail.after = ticket;
    this.tail = ticket;
    this.waiting++;
  }

  unlink(ticket: Ticket<W>): void {
    const { before, after } = ticket;
    if (before === undefined) this.head = after;
    else before.after = after;
    if (after === undefined) this.tail = before;
    else after.before = before;
    ticket.before = ticket.after = undefined;
    this.waiting--;
  }
}

/** The place of one claim in the line of one key. */
class Ticket<W> {
  open = false;
  before: Ticket<W> | undefined = undefined;
  after: Ticket<W> | undefined = undefined;

  constructor(
    readonly claim: Claim<W>,
    readonly line: Line<W>,
    readonly write: boolean,
  ) {}
}

/** All the keys that one call asks for, granted together. */
export class Claim<W> {
  readonly tickets: Ticket<W>[] = [];
  /** How many of its keys it still waits for. */
  missing = 0;
  gone = false;

  constructor(
    readonly owner: W,
    readonly order: number,
    /** Whether each key is written. */
    readonly modes: ReadonlyMap<string, boolean>,
    /** The claim of the call around it. */
    readonly above: Claim<W> | undefined,
  ) {}

  get held(): boolean {
    return this.missing === 0 && !this.gone;
  }
}

/** Whether a claim, or one around it, gives that right already. */
function covers<W>(by: Claim<W>, key: string, write: boolean): boolean {
  for (let claim: Claim<W> | undefined = by; claim !== undefined; claim = claim.above) {
    const mode = claim.gone ? undefined : claim.modes.get(key);
    if (mode === true || (mode === false && !write)) return true;
  }
  return false;
}

/**
 * Readers-writer locks by key. A claim stands in the line of each of its keys from its arrival on, and is granted when
 * nobody in front of it conflicts, so conflicting claims go in order of arrival and everything else at once. All lines agree
 * on that order, so nobody can wait in a circle. Each step costs as much as the claim has keys.
 */
export class LockTable<W> {
  /** Claims that wait. */
  waiting = 0;
  /** Claims that are granted. */
  held = 0;
  private arrivals = 0;
  private readonly lines = new Map<string, Line<W>>();
  /** Lines in which somebody left since they were last looked at. */
  private stirred: Line<W>[] = [];
  private readonly ready = new Ring<Claim<W>>();

  /**
   * Asks for keys: the claim is `held` at once, or waits. Below another claim nobody waits, for that could be for ever:
   * undefined, unless what is not covered is free now.
   */
  claim(owner: W, modes: ReadonlyMap<string, boolean>, above?: Claim<W>): Claim<W> | undefined {
    const claim = new Claim(owner, ++this.arrivals, modes, above);
    const keys = above === undefined ? [...modes] : [...modes].filter(([key, write]) => !covers(above, key, write));
    if (above !== undefined && !keys.every(([key, write]) => this.free(key, write))) return undefined;
    for (const [key, write] of keys) this.stand(claim, key, write);
    if (claim.missing === 0) this.held++;
    else this.waiting++;
    return claim;
  }

  /** Gives a claim up, held or not. Who may go on now is told by `next`. */
  drop(claim: Claim<W>): void {
    if (claim.gone) return;
    if (claim.missing === 0) this.held--;
    else this.waiting--;
    claim.gone = true;
    for (const ticket of claim.tickets) this.leave(ticket);
  }

  /** A claim that has come to be granted since it was made, oldest first; undefined when there are no more. */
  next(): Claim<W> | undefined {
    if (this.stirred.length > 0) this.advance();
    for (let claim = this.ready.shift(); claim !== undefined; claim = this.ready.shift()) if (!claim.gone) return claim;
    return undefined;
  }

  /** Whether somebody left whom others may have waited for. */
  get moved(): boolean {
    return this.stirred.length > 0;
  }

  /** Every key that somebody holds or waits for. */
  uses(): KeyUse[] {
    return [...this.lines.values()].map(({ key, writing, open, waiting }) => ({
      key,
      mode: writing ? 'write' : 'read',
      holders: open,
      waiting,
    }));
  }

  private free(key: string, write: boolean): boolean {
    const line = this.lines.get(key);
    return line === undefined || (line.head === undefined && line.admits(write));
  }

  private stand(claim: Claim<W>, key: string, write: boolean): void {
    let line = this.lines.get(key);
    if (line === undefined) this.lines.set(key, (line = new Line(key)));
    const ticket = new Ticket(claim, line, write);
    claim.tickets.push(ticket);
    if (line.head === undefined && line.admits(write)) return line.take(ticket);
    line.append(ticket);
    claim.missing++;
  }

  private leave(ticket: Ticket<W>): void {
    const { line } = ticket;
    if (ticket.open) line.open--;
    else line.unlink(ticket);
    if (line.head !== undefined) {
      if (!line.stirred) this.stirred.push(line);
      line.stirred = true;
    } else if (line.open === 0) this.lines.delete(line.key);
  }

  private advance(): void {
    const { stirred } = this;
    const granted: Claim<W>[] = [];
    this.stirred = [];
    for (const line of stirred) {
      line.stirred = false;
      for (let { head } = line; head !== undefined && line.admits(head.write); { head } = line) {
        line.unlink(head);
        line.take(head);
        if (--head.claim.missing === 0) granted.push(head.claim);
      }
    }
    this.waiting -= granted.length;
    this.held += granted.length;
    for (const claim of granted.sort((a, b) => a.order - b.order)) this.ready.push(claim);
  }
}

/** One mode for each key: writing includes reading. */
export function lockModes({ reads = [], writes = [] }: LockKeys): Map<string, boolean> {
  const modes = new Map<string, boolean>();
  for (const key of reads) modes.set(key, false);
  for (const key of writes) modes.set(key, true);
  return modes;
}
