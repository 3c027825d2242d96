import type { MonoTypeOperatorFunction } from 'rxjs';
import type { ScopeContext } from '../core/types.js';

/** Puts gates in front of the call that `req` describes. */
export type Guard<Req> = <T>(req: Req, ctx?: ScopeContext) => MonoTypeOperatorFunction<T>;
