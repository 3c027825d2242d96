import { MOST_NESTED } from './json.js';
import type { JsonKind, JsonListener } from './partialJson.js';
import type { Shape } from './partialShape.js';

const NOTHING = Symbol('nothing to show');

/** A key takes so many times as long to copy as an item. */
const KEY_COST = 16;

/** Builds what can be shown of a value while it is read: what fits its shape so far. What is whole is built once and shared by all pictures. */
export class PartialValue implements JsonListener {
  /** Whether there is more to show than when it was last set to false. */
  changed = false;
  private readonly frames: Frame[] = [];
  /** The shape of the string, number, boolean or null that is read. */
  private shape: Shape | undefined = undefined;
  private text: string | typeof NOTHING = NOTHING;
  private whole: unknown = NOTHING;

  constructor(private readonly root: Shape | undefined) {}

  /** A picture of what there is, in objects and arrays that do not change any more. Undefined if there is nothing to show. */
  get value(): unknown {
    const shown = this.frames.reduceRight<unknown>((child, frame) => frame.picture(child), this.text);
    const value = this.frames.length === 0 && shown === NOTHING ? this.whole : shown;
    return value === NOTHING ? undefined : value;
  }

  /** What a picture costs: the items that have to be copied, and the keys, which take so much longer. */
  get cost(): number {
    return this.frames.reduce((sum, { cost }) => sum + cost, 0);
  }

  key(key: string): void {
    this.frames.at(-1)?.expect(key);
  }

  begin(kind: JsonKind): void {
    const frame = this.frames.at(-1);
    this.shape = frame === undefined ? this.root?.taking(kind) : frame.begin(kind);
    if (kind !== 'object' && kind !== 'array') return;
    this.frames.push(kind === 'object' ? new ObjectFrame(this.shape) : new ArrayFrame(this.shape));
    this.changed ||= this.shape !== undefined;
  }

  grow(soFar: string): void {
    if (this.shape?.grows !== true) return;
    this.changed ||= this.text === NOTHING || this.text.length !== soFar.length;
    this.text = soFar;
  }

  end(value: string | number | boolean | null): void {
    const fits = this.shape?.allows(value) === true;
    const shown = this.text !== NOTHING && this.text.length === (value as string).length;
    this.text = NOTHING;
    this.changed ||= fits && !shown;
    this.put(fits ? value : NOTHING);
    if (fits) this.changed = this.frames.at(-1)?.narrow(value) === true || this.changed;
  }

  close(): void {
    this.put(this.frames.pop()?.shown ?? NOTHING);
  }

  private put(value: unknown): void {
    const frame = this.frames.at(-1);
    if (frame === undefined) this.whole = value;
    else frame.put(value);
  }
}

/** An object or array that is read. */
interface Frame {
  /** What is whole of it; undefined if it is not to be shown. */
  readonly shown: object | undefined;
  readonly cost: number;
  expect(key: string): void;
  /** A child begins. Returns its shape, if it is to be shown. */
  begin(kind: JsonKind): Shape | undefined;
  /** The child is whole. */
  put(value: unknown): void;
  /** The child has told which alternatives remain. Returns whether something must not be shown any more. */
  narrow(value: unknown): boolean;
  picture(child: unknown): unknown;
}

class ArrayFrame implements Frame {
  readonly shown: unknown[] | undefined;
  private next = 0;

  constructor(private readonly shape: Shape | undefined) {
    this.shown = shape && [];
  }

  get cost(): number {
    return this.shown?.length ?? 0;
  }

  expect(): void {}

  begin(kind: JsonKind): Shape | undefined {
    return this.shape?.item(this.next++)?.taking(kind);
  }

  put(value: unknown): void {
    if (value !== NOTHING) this.shown?.push(value);
    else if (this.shape?.isPlace(this.next - 1) === true) this.shown?.push(undefined);
  }

  narrow(): boolean {
    return false;
  }

  picture(child: unknown): unknown {
    const picture = this.shown?.slice();
    if (child !== NOTHING) picture?.push(child);
    return picture ?? NOTHING;
  }
}

class ObjectFrame implements Frame {
  readonly shown: Record<string, unknown> | undefined;
  cost = 0;
  private key = '';

  constructor(private shape: Shape | undefined) {
    this.shown = shape && {};
  }

  expect(key: string): void {
    this.key = key;
  }

  begin(kind: JsonKind): Shape | undefined {
    const { key } = this;
    this.remove(key);
    this.become(this.shape?.having(key, (child) => child.taking(kind) !== undefined));
    return this.shape?.property(key)?.taking(kind);
  }

  put(value: unknown): void {
    if (value !== NOTHING) this.add(this.key, value);
  }

  narrow(value: unknown): boolean {
    return this.become(this.shape?.having(this.key, (child) => child.taking(kindOf(value))?.allows(value) === true));
  }

  picture(child: unknown): unknown {
    const { shown, key } = this;
    if (shown === undefined) return NOTHING;
    return child === NOTHING ? { ...shown } : { ...shown, [key]: child };
  }

  /** Fewer alternatives remain: what fitted only the others is not shown any more. */
  private become(shape: Shape | undefined): boolean {
    if (shape === this.shape) return false;
    this.shape = shape;
    for (const [key, value] of Object.entries(this.shown ?? {})) {
      const fitting = fit(shape?.property(key), value);
      this.remove(key);
      if (fitting !== undefined) this.add(key, fitting);
    }
    return true;
  }

  private add(key: string, value: unknown): void {
    if (this.shown === undefined) return;
    this.shown[key] = value;
    this.cost += KEY_COST;
  }

  private remove(key: string): void {
    if (this.shown === undefined || !Object.hasOwn(this.shown, key)) return;
    Reflect.deleteProperty(this.shown, key);
    this.cost -= KEY_COST;
  }
}

/** What fits of a whole value; undefined if nothing does. */
export function fit(shape: Shape | undefined, value: unknown): unknown {
  const built = new PartialValue(shape);
  tell(value, built, 0);
  return built.value;
}

function kindOf(value: unknown): JsonKind {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : (typeof value as JsonKind);
}

function tell(value: unknown, out: JsonListener, depth: number): void {
  out.begin(kindOf(value));
  if (typeof value !== 'object' || value === null) return out.end(value as string | number | boolean | null);
  if (depth < MOST_NESTED) {
    for (const [key, child] of Object.entries(value)) {
      if (!Array.isArray(value)) out.key(key);
      tell(child, out, depth + 1);
    }
  }
  out.close();
}
