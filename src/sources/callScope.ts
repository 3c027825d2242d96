import { CANCELLING } from '../core/node.js';
import { OutputScope } from '../core/output.js';
import type { CancelReason, ScopeFailure, ScopeReport } from '../core/types.js';

/** The one failure of a scope, if that is what its source failed with: it goes out as it is, without a ScopeError around it. */
export function ownError({ errors }: ScopeReport, reason: CancelReason | undefined): ScopeFailure | undefined {
  if (reason?.kind !== 'source-error') return undefined;
  return errors.length === 1 && errors[0]?.phase === 'source' ? errors[0] : undefined;
}

/** A scope around one source, whose values and whose own error come out as they are. */
export class CallScope<T> extends OutputScope<T, T> {
  next(value: T): void {
    if (this.state < CANCELLING) this.emit(value);
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const own = ownError(this.report(), reason);
    if (own === undefined) super.conclude(reason);
    else this.out.error(own.error);
  }
}
