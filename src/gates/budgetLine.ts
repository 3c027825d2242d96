import type { Amounts } from './budgetAccount.js';
import type { LedgerNode } from './ledger.js';

/** Somebody in the line. The links belong to the line. */
export class Place<W> {
  spot: Spot<W> | undefined = undefined;
  ahead: Place<W> | undefined = undefined;
  behind: Place<W> | undefined = undefined;
  /** Nodes whose waiters have to let this one go first, wherever it stands now. */
  readonly holdsUp: Set<LedgerNode> = new Set();

  constructor(
    readonly who: W,
    readonly node: LedgerNode,
    readonly amounts: Amounts,
    /** In order of arrival. */
    readonly visit: number,
  ) {}
}

/** Those for whom one node has no room, in order of arrival. */
class Spot<W> {
  first: Place<W> | undefined = undefined;
  last: Place<W> | undefined = undefined;
  length = 0;
  /** Whoever was first here now waits at a node above, through which all of these have to go as well. */
  heldUp = false;

  constructor(readonly node: LedgerNode) {}
}

/**
 * Who waits for room in a ledger. Each stands at the node that has no room for it, so that a full agent does not hold up the
 * others; at every node it is first come, first served, and a big one is not overtaken. Knows neither calls nor time.
 */
export class BudgetLine<W> {
  length = 0;
  private turns = 0;
  private readonly spots: Map<LedgerNode, Spot<W>> = new Map();
  /** Nodes at which the first may have room now. */
  private readonly ready: Set<Spot<W>> = new Set();

  /** Whether somebody may go who has not been looked at. */
  get stirred(): boolean {
    return this.ready.size > 0;
  }

  /** The innermost node that has no room, or at which somebody waits who came before `visit`. */
  obstacle(node: LedgerNode, amounts: Amounts, visit: number = Infinity): LedgerNode | undefined {
    const full = node.shortage(amounts)?.node;
    if (this.length === 0) return full;
    for (let each: LedgerNode | undefined = node; each !== undefined; each = each.parent)
      if (each === full || (this.spots.get(each)?.first?.visit ?? Infinity) < visit) return each;
    return undefined;
  }

  /** How many wait for room at a node. */
  countAt(node: LedgerNode): number {
    return this.spots.get(node)?.length ?? 0;
  }

  /** Everybody, in order of arrival. */
  all(): W[] {
    const places: Place<W>[] = [];
    for (const { first } of this.spots.values()) for (let place = first; place !== undefined; place = place.behind) places.push(place);
    return places.sort((one, other) => one.visit - other.visit).map(({ who }) => who);
  }

  /** Adds a newcomer at the node that is in its way. */
  join(who: W, node: LedgerNode, amounts: Amounts, obstacle: LedgerNode): Place<W> {
    const place = new Place(who, node, amounts, this.turns++);
    this.insert(place, obstacle);
    this.length++;
    return place;
  }

  /** Takes somebody out; whether they were in the line. */
  leave(place: Place<W>): boolean {
    const { spot } = place;
    if (spot === undefined) return false;
    if (spot.first === place) this.ready.add(spot);
    this.unlink(place, spot);
    this.letGo(place, () => true);
    this.length--;
    return true;
  }

  /** There may be room at a node and all above it. */
  freed(node: LedgerNode): void {
    if (this.length === 0) return;
    for (let each: LedgerNode | undefined = node; each !== undefined; each = each.parent) this.stir(each);
  }

  /** There may be room at a node and all below it. */
  opened(node: LedgerNode): void {
    if (this.length === 0) return;
    this.stir(node);
    for (const child of node.children) this.opened(child);
  }

  /** Takes out whoever may go now, the one who came first. */
  next(): Place<W> | undefined {
    for (let place = this.first(); place !== undefined; place = this.first()) {
      const spot = place.spot as Spot<W>;
      const obstacle = this.obstacle(place.node, place.amounts, place.visit);
      if (obstacle === undefined) {
        this.leave(place);
        return place;
      }
      if (obstacle === spot.node) this.ready.delete(spot);
      else this.move(place, spot, obstacle);
    }
    return undefined;
  }

  private first(): Place<W> | undefined {
    let first: Place<W> | undefined;
    for (const spot of this.ready) {
      if (spot.first === undefined || spot.heldUp) this.ready.delete(spot);
      else if (first === undefined || spot.first.visit < first.visit) first = spot.first;
    }
    return first;
  }

  /** Above, it holds up those behind it; below, it is in the way of nobody who does not go there. */
  private move(place: Place<W>, from: Spot<W>, to: LedgerNode): void {
    const above = to.path.length < from.node.path.length;
    this.unlink(place, from);
    this.letGo(place, (node) => node.path.length <= to.path.length);
    if (above && from.first !== undefined) {
      from.heldUp = true;
      place.holdsUp.add(from.node);
    }
    this.insert(place, to);
  }

  private letGo(place: Place<W>, which: (node: LedgerNode) => boolean): void {
    for (const node of place.holdsUp) {
      if (!which(node)) continue;
      place.holdsUp.delete(node);
      const spot = this.spots.get(node);
      if (spot !== undefined) spot.heldUp = false;
      this.stir(node);
    }
  }

  private stir(node: LedgerNode): void {
    const spot = this.spots.get(node);
    if (spot !== undefined) this.ready.add(spot);
  }

  private insert(place: Place<W>, node: LedgerNode): void {
    let spot = this.spots.get(node);
    if (spot === undefined) this.spots.set(node, (spot = new Spot(node)));
    let ahead = spot.last;
    while (ahead !== undefined && ahead.visit > place.visit) ahead = ahead.ahead;
    const behind = ahead === undefined ? spot.first : ahead.behind;
    spot.length++;
    place.spot = spot;
    place.ahead = ahead;
    place.behind = behind;
    if (ahead === undefined) spot.first = place;
    else ahead.behind = place;
    if (behind === undefined) spot.last = place;
    else behind.ahead = place;
  }

  private unlink(place: Place<W>, spot: Spot<W>): void {
    const { ahead, behind } = place;
    if (ahead === undefined) spot.first = behind;
    else ahead.behind = behind;
    if (behind === undefined) spot.last = ahead;
    else behind.ahead = ahead;
    spot.length--;
    place.spot = place.ahead = place.behind = undefined;
    if (spot.first !== undefined) return;
    this.spots.delete(spot.node);
    this.ready.delete(spot);
  }
}
