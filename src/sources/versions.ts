import { nothing, type CallEnd, type Caller, type Gate, type Lease, type Withdraw } from '../gates/gate.js';
import { isVersionConflictError, type VersionConflictError } from './errors.js';

/** What a version looks like: an ETag, a number that counts up, a hash. */
export type Version = string | number;

/** What a call knows of the conversation in which it was made. */
export interface Chat {
  readonly versions: SeenVersions;
  /** Stands for the conversation: whoever continues it has the same. */
  readonly owner: object;
  /** Names of the agents from its agent down to the one that made the call. */
  readonly trail: readonly string[];
}

/** The versions that the model has seen in one conversation, by key. */
export class SeenVersions {
  private readonly seen = new Map<string, Version>();
  /** What was written in this turn. */
  private readonly written = new Set<string>();
  /** Of results that the model gets with the end of the turn. */
  private readonly coming = new Map<string, Version>();

  get(key: string): Version | undefined {
    return this.seen.get(key);
  }

  /** Something was written: whatever the model does next is based on that. */
  wrote(key: string, version: Version): void {
    this.seen.set(key, version);
    this.coming.delete(key);
    this.written.add(key);
  }

  /** Something was read: calls that were made before do not know of it. Beside a write nobody knows which came first, and the write counts. */
  read(key: string, version: Version): void {
    if (!this.written.has(key)) this.coming.set(key, version);
  }

  /** Something was shown after a conflict. */
  met(key: string, version: Version): void {
    this.coming.set(key, version);
  }

  /** The turn has ended; its results are in the history, or lost. */
  settle(kept: boolean): void {
    if (kept) for (const [key, version] of this.coming) this.seen.set(key, version);
    this.coming.clear();
    this.written.clear();
  }
}

/** Lets a call in again that met a newer version, up to a number of times. */
export class ConflictRetries implements Gate<void> {
  readonly name = 'versions';

  constructor(
    private left: number,
    private readonly onConflict: (error: VersionConflictError, again: boolean) => void,
  ) {}

  enter(_ask: void, _call: unknown, caller: Caller): Withdraw {
    const again = (): Withdraw => {
      caller.granted(lease, undefined);
      return nothing;
    };
    const lease: Lease = {
      settle: ({ kind, error }: CallEnd) => {
        if (kind !== 'failed' || !isVersionConflictError(error)) return undefined;
        const retries = this.left-- > 0;
        this.onConflict(error, retries);
        return retries ? again : undefined;
      },
    };
    return again();
  }
}
