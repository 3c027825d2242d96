import type { Scope } from '../core/types.js';
import type { ToolCall } from './tool.js';
import type { ToolRun } from './toolRun.js';
import type { Version } from './versions.js';

/** The call as `run` sees it: whatever costs something is made when it is asked for. */
export class Call implements ToolCall {
  readonly progress: (value: unknown) => void;
  readonly noteVersion: (version: Version) => void;

  constructor(
    private readonly owner: ToolRun<never>,
    /** Where the work runs: behind a guard, inside of it. */
    readonly scope: Scope,
  ) {
    this.progress = (value) => owner.tellProgress(value);
    this.noteVersion = (version) => owner.noteVersion(version);
  }

  get signal(): AbortSignal {
    return this.scope.signal;
  }
  get id(): string {
    return this.owner.invocation.id;
  }
  get idempotencyKey(): string {
    return this.owner.invocation.id;
  }
  get attempt(): number {
    return this.owner.attempt;
  }
  get version(): Version | undefined {
    return this.owner.version;
  }
  get depth(): number {
    return this.owner.depth;
  }
  get path(): readonly string[] {
    return this.owner.path;
  }
}
