export interface DepthLimits {
  readonly maxDepth: number;
  readonly maxFanOut: number;
  readonly maxLive: number;
  readonly maxTotal: number;
  /** Whether a label may come again below itself. */
  readonly cycles: 'allow' | 'refuse';
}

/** Which limit refuses a call, and where it stands. */
export interface DepthRefusal {
  readonly limit: 'maxDepth' | 'maxFanOut' | 'maxLive' | 'maxTotal' | 'cycle';
  readonly max: number;
}

/** A node of the tree: a call that is counted itself, or a place that counts as long as a counted call runs in it. */
export class DepthNode {
  /** Live nodes right below. */
  children = 0;
  gone = false;

  constructor(
    readonly parent: DepthNode | undefined,
    readonly depth: number,
    readonly kind: 'call' | 'place',
  ) {}

  /** Whether its parent counts it already. */
  get counted(): boolean {
    return this.kind === 'call' || this.children > 0;
  }
}

/** How large a tree of calls is now, and whether it may grow. All limits are checked before anything is counted. */
export class DepthTree {
  /** Calls that run. */
  live = 0;
  /** Calls that were ever started. */
  total = 0;

  constructor(private readonly limits: DepthLimits) {}

  /** Why no call may start below `parent`, whose labels and its own are `path`. */
  refusal(parent: DepthNode | undefined, depth: number, path: readonly string[]): DepthRefusal | undefined {
    const { maxDepth, maxFanOut, maxLive, maxTotal, cycles } = this.limits;
    if (depth > maxDepth) return { limit: 'maxDepth', max: maxDepth };
    if (cycles === 'refuse' && path.indexOf(path[path.length - 1] as string) < path.length - 1) return { limit: 'cycle', max: 1 };
    if (this.total >= maxTotal) return { limit: 'maxTotal', max: maxTotal };
    if (this.live >= maxLive) return { limit: 'maxLive', max: maxLive };
    for (let node = parent; node !== undefined; node = node.counted ? undefined : node.parent)
      if (node.children >= maxFanOut) return { limit: 'maxFanOut', max: maxFanOut };
    return undefined;
  }

  /** Counts a call, and the places around it in which nothing ran so far. */
  add(parent: DepthNode | undefined, depth: number): DepthNode {
    this.live++;
    this.total++;
    let node = parent;
    while (node !== undefined) {
      const { counted } = node;
      node.children++;
      node = counted ? undefined : node.parent;
    }
    return new DepthNode(parent, depth, 'call');
  }

  /** Nothing of the call runs any more. One that never ran, because another gate did not let it, was none. */
  remove(call: DepthNode, ran = true): void {
    if (call.gone) return;
    call.gone = true;
    this.live--;
    if (!ran) this.total--;
    let node = call.parent;
    while (node !== undefined) {
      node.children--;
      node = node.counted ? undefined : node.parent;
    }
  }
}
