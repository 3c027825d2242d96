/** Something that is due at a time. `slot` and `turn` belong to the queue. */
export interface Due {
  readonly dueAt: number;
  slot: number;
  turn: number;
}

/** What is due next, first come first served where times are equal: a heap from which anything can be taken out. */
export class DueQueue<D extends Due> {
  private readonly heap: D[] = [];
  private turns = 0;

  get size(): number {
    return this.heap.length;
  }

  get first(): D | undefined {
    return this.heap[0];
  }

  add(item: D): void {
    item.turn = ++this.turns;
    this.heap.push(item);
    this.rise(item, this.heap.length - 1);
  }

  remove(item: D): void {
    const { slot } = item;
    if (this.heap[slot] !== item) return;
    item.slot = -1;
    const moved = this.heap.pop() as D;
    if (moved === item) return;
    this.rise(moved, slot);
    this.sink(moved, moved.slot);
  }

  private rise(item: D, from: number): void {
    let slot = from;
    for (let above = (slot - 1) >> 1; slot > 0; above = (slot - 1) >> 1) {
      const parent = this.heap[above] as D;
      if (before(parent, item)) break;
      this.put(parent, slot);
      slot = above;
    }
    this.put(item, slot);
  }

  private sink(item: D, from: number): void {
    let slot = from;
    for (let below = this.lesser(slot); below !== undefined; below = this.lesser(slot)) {
      if (before(item, below)) break;
      const next = below.slot;
      this.put(below, slot);
      slot = next;
    }
    this.put(item, slot);
  }

  private lesser(slot: number): D | undefined {
    const left = this.heap[slot * 2 + 1];
    const right = this.heap[slot * 2 + 2];
    return right !== undefined && left !== undefined && before(right, left) ? right : left;
  }

  private put(item: D, slot: number): void {
    this.heap[slot] = item;
    item.slot = slot;
  }
}

function before(a: Due, b: Due): boolean {
  return a.dueAt < b.dueAt || (a.dueAt === b.dueAt && a.turn < b.turn);
}
