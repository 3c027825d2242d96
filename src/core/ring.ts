/** A first-in first-out queue over a growing ring: push and shift cost the same at any length. */
export class Ring<T> {
  private slots: (T | undefined)[] = new Array<T | undefined>(16);
  private first = 0;
  length = 0;

  push(item: T): void {
    if (this.length === this.slots.length) this.grow();
    this.slots[(this.first + this.length++) & (this.slots.length - 1)] = item;
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.slots[this.first];
    this.slots[this.first] = undefined;
    this.first = (this.first + 1) & (this.slots.length - 1);
    this.length--;
    return item;
  }

  clear(): void {
    this.slots = new Array<T | undefined>(16);
    this.first = this.length = 0;
  }

  private grow(): void {
    const old = this.slots;
    this.slots = new Array<T | undefined>(old.length * 2);
    for (let i = 0; i < this.length; i++) this.slots[i] = old[(this.first + i) & (old.length - 1)];
    this.first = 0;
  }
}
