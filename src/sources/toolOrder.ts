import { refuse } from './checks.js';
import type { PendingCall } from './conversation.js';
import type { ToolDefinition } from './toolDefinition.js';

/** Holds calls of one reply back until those of the tools that theirs depends on have ended. Knows neither scopes nor time. */
export class ToolOrder {
  /** Calls that have not ended, by the name of their tool. */
  private readonly open = new Map<string, Set<PendingCall>>();
  /** The first call of each tool that ended without a result. */
  private readonly failed = new Map<string, PendingCall>();
  private held: PendingCall[] = [];

  constructor(private readonly tools: ReadonlyMap<string, ToolDefinition>) {}

  get holds(): boolean {
    return this.held.length > 0;
  }

  expect(call: PendingCall): void {
    const { name } = call.call;
    const same = this.open.get(name);
    if (same === undefined) this.open.set(name, new Set([call]));
    else same.add(call);
  }

  /** The ids of the calls that this one waits for; none if it can go. */
  hold(call: PendingCall): readonly string[] {
    const ids = this.needs(call).flatMap((name) => [...(this.open.get(name) ?? [])].map(({ id }) => id));
    if (ids.length > 0) this.held.push(call);
    return ids;
  }

  /** The name of a tool that a call depends on and whose call failed. */
  failedFor(call: PendingCall): { readonly name: string; readonly call: PendingCall } | undefined {
    for (const name of this.needs(call)) {
      const failed = this.failed.get(name);
      if (failed !== undefined) return { name, call: failed };
    }
    return undefined;
  }

  /** A call has ended. Returns those that can go now. */
  ended(call: PendingCall): readonly PendingCall[] {
    const { name } = call.call;
    const same = this.open.get(name);
    if (same?.delete(call) !== true) return [];
    if (call.result?.is_error === true && !this.failed.has(name)) this.failed.set(name, call);
    if (same.size > 0 || this.held.length === 0) return [];
    const free = this.held.filter((each) => this.needs(each).every((need) => (this.open.get(need)?.size ?? 0) === 0));
    if (free.length > 0) this.held = this.held.filter((each) => !free.includes(each));
    return free;
  }

  private needs({ call }: PendingCall): readonly string[] {
    return this.tools.get(call.name)?.dependsOn ?? [];
  }
}

/** Throws where a tool depends on one that is not there, or on itself by way of others. */
export function checkOrder(who: string, tools: ReadonlyMap<string, ToolDefinition>, names: ReadonlySet<string>): void {
  const fine = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    if (fine.has(name)) return;
    if (path.includes(name))
      throw new TypeError(`${who}: tools depend on each other: ${[...path.slice(path.indexOf(name)), name].join(' -> ')}.`);
    for (const need of tools.get(name)?.dependsOn ?? []) {
      if (!names.has(need)) refuse(TypeError, who, `tools: dependsOn of "${name}"`, 'names of tools that are there', need);
      visit(need, [...path, name]);
    }
    fine.add(name);
  };
  for (const name of tools.keys()) visit(name, []);
}
