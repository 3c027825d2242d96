/** What can be in a LiveList, in one at a time. The links belong to the list. */
export interface Linked {
  earlier: Linked | undefined;
  later: Linked | undefined;
  list: LiveList<never> | undefined;
}

/** What is in flight, or waits, in order of arrival. Whoever leaves does so at once, from anywhere. */
export class LiveList<L extends Linked> {
  length = 0;
  oldest: L | undefined = undefined;
  newest: L | undefined = undefined;

  add(each: L): void {
    each.list = this as unknown as LiveList<never>;
    each.earlier = this.newest;
    if (this.newest === undefined) this.oldest = each;
    else this.newest.later = each;
    this.newest = each;
    this.length++;
  }

  has(each: L): boolean {
    return (each.list as unknown) === this;
  }

  /** Whether it was in this list. */
  remove(each: L): boolean {
    if (!this.has(each)) return false;
    const { earlier, later } = each;
    if (earlier === undefined) this.oldest = later as L | undefined;
    else earlier.later = later;
    if (later === undefined) this.newest = earlier as L | undefined;
    else later.earlier = earlier;
    each.list = each.earlier = each.later = undefined;
    this.length--;
    return true;
  }

  /** A copy, for whoever changes the list on the way. */
  all(): L[] {
    const all: L[] = [];
    for (let each = this.oldest; each !== undefined; each = each.later as L | undefined) all.push(each);
    return all;
  }
}
