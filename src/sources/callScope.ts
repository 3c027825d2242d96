import type { Subscriber } from 'rxjs';
import { innermost } from '../core/call.js';
import { CANCELLING, type ScopeNode } from '../core/node.js';
import type { ScopeOptions } from '../core/options.js';
import { OutputScope } from '../core/output.js';
import type { CancelReason, ScopeContext, ScopeFailure, ScopeReport } from '../core/types.js';

/** The one failure of a scope, if that is what its source failed with: it goes out as it is, without a ScopeError around it. */
export function ownError({ errors }: ScopeReport, reason: CancelReason | undefined): ScopeFailure | undefined {
  if (reason?.kind !== 'source-error') return undefined;
  return errors.length === 1 && errors[0]?.phase === 'source' ? errors[0] : undefined;
}

/** A scope around one source, whose values and whose own error come out as they are. */
export class CallScope<T> extends OutputScope<T, T> {
  constructor(out: Subscriber<T>, options: ScopeOptions) {
    const within = innermost(options.within as unknown as ScopeNode | undefined) as unknown as ScopeContext | undefined;
    super(out, within === undefined ? options : { ...options, within });
  }

  next(value: T): void {
    if (this.state < CANCELLING) this.emit(value);
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const own = ownError(this.report(), reason);
    if (own === undefined) super.conclude(reason);
    else this.out.error(own.error);
  }
}
