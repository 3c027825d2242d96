import { type Linked, LiveList } from './liveList.js';

/** Who can wait in a line. */
export interface Waiter extends Linked {
  /** Higher goes first. */
  readonly priority: number;
  /** Those of different keys take turns. */
  readonly key: string | undefined;
  /** Its number in the line, by arrival. Belongs to the line. */
  ticket: number;
}

/** Those of one key on one level, first come first served. */
class Lane extends LiveList<Waiter> {
  round: Round | undefined = undefined;
  before: Lane | undefined = undefined;
  after: Lane | undefined = undefined;

  constructor(
    readonly level: Level,
    readonly key: string | undefined,
  ) {
    super();
  }
}

class Round {
  first: Lane | undefined = undefined;
  last: Lane | undefined = undefined;

  append(lane: Lane): void {
    lane.round = this;
    lane.before = this.last;
    if (this.last === undefined) this.first = lane;
    else this.last.after = lane;
    this.last = lane;
  }

  remove(lane: Lane): void {
    const { before, after } = lane;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    lane.before = lane.after = lane.round = undefined;
  }
}

/**
 * Those of one priority. In every round each key is served once: a head that does not fit yet lets the others of its round
 * pass, but never the next round, so that no key waits for ever behind smaller calls of others.
 */
class Level {
  now: Round = new Round();
  next: Round = new Round();
  readonly lanes: Map<string | undefined, Lane> = new Map();

  constructor(readonly priority: number) {}

  lane(key: string | undefined): Lane {
    let lane = this.lanes.get(key);
    if (lane === undefined) {
      lane = new Lane(this, key);
      this.lanes.set(key, lane);
      (this.lanes.size === 1 ? this.now : this.next).append(lane);
    }
    return lane;
  }

  drop(lane: Lane): void {
    this.lanes.delete(lane.key);
    lane.round?.remove(lane);
    this.turn();
  }

  endTurn(lane: Lane): void {
    if (this.lanes.size === 1) return;
    lane.round?.remove(lane);
    this.next.append(lane);
    this.turn();
  }

  private turn(): void {
    if (this.now.first !== undefined) return;
    const { now } = this;
    this.now = this.next;
    this.next = now;
  }
}

/**
 * Who waits at a gate: strict priorities, round robin between keys, first come first served within a key, and anybody can
 * leave from anywhere at once. Adding, leaving and serving cost the same at any length.
 */
export class WaitingLine<W extends Waiter> {
  length = 0;
  private tickets = 0;
  /** Highest priority first. */
  private readonly levels: Level[] = [];
  /** The level that was emptied last: a line that runs empty again and again makes nothing new. */
  private spare: Level | undefined = undefined;

  /** Whether somebody of this priority or a higher one waits: a newcomer must not pass them. */
  blocks(priority: number): boolean {
    const [top] = this.levels;
    return top !== undefined && top.priority >= priority;
  }

  add(waiter: W): void {
    waiter.ticket = this.tickets++;
    this.level(waiter.priority).lane(waiter.key).add(waiter);
    this.length++;
  }

  /** Takes somebody out who leaves; whether they were in the line. */
  remove(waiter: W): boolean {
    const lane = this.leave(waiter);
    if (lane?.length === 0) this.drop(lane);
    return lane !== undefined;
  }

  /** Takes somebody out whose turn it was. */
  serve(waiter: W): void {
    const lane = this.leave(waiter);
    if (lane === undefined) return;
    if (lane.length === 0) this.drop(lane);
    else lane.level.endTurn(lane);
  }

  /** Whose turn it is among those that fit. */
  next(fits: (waiter: W) => boolean): W | undefined {
    for (let lane = this.levels[0]?.now.first; lane !== undefined; lane = lane.after) if (fits(lane.oldest as W)) return lane.oldest as W;
    return undefined;
  }

  /** Those who could be next, once they fit. */
  heads(): W[] {
    const heads: W[] = [];
    for (let lane = this.levels[0]?.now.first; lane !== undefined; lane = lane.after) heads.push(lane.oldest as W);
    return heads;
  }

  /** Whether others may have to wait for this one: if it leaves, they may go. */
  isHead(waiter: W): boolean {
    const lane = waiter.list as unknown as Lane | undefined;
    return lane instanceof Lane && lane.oldest === waiter && lane.level === this.levels[0];
  }

  /** Who came first of all. Looks at every key. */
  get oldest(): W | undefined {
    let oldest: Waiter | undefined;
    for (const { lanes } of this.levels) {
      for (const { oldest: head } of lanes.values())
        if (head !== undefined && (oldest === undefined || head.ticket < oldest.ticket)) oldest = head;
    }
    return oldest as W | undefined;
  }

  /** Everybody, in order of arrival: a copy. */
  all(): W[] {
    const all: Waiter[] = [];
    for (const { lanes } of this.levels) for (const lane of lanes.values()) for (const waiter of lane.all()) all.push(waiter);
    return all.sort((one, other) => one.ticket - other.ticket) as W[];
  }

  private level(priority: number): Level {
    const { levels } = this;
    let low = 0;
    for (let high = levels.length; low < high;) {
      const middle = (low + high) >> 1;
      if ((levels[middle] as Level).priority > priority) low = middle + 1;
      else high = middle;
    }
    const found = levels[low];
    if (found?.priority === priority) return found;
    const level = this.spare?.priority === priority ? this.spare : new Level(priority);
    this.spare = undefined;
    levels.splice(low, 0, level);
    return level;
  }

  private drop(lane: Lane): void {
    const { level } = lane;
    level.drop(lane);
    if (level.lanes.size > 0) return;
    this.levels.splice(this.levels.indexOf(level), 1);
    this.spare = level;
  }

  private leave(waiter: W): Lane | undefined {
    const lane = waiter.list as unknown as Lane | undefined;
    if (!(lane instanceof Lane) || !lane.remove(waiter)) return undefined;
    this.length--;
    return lane;
  }
}
