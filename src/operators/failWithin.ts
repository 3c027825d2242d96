import type { MonoTypeOperatorFunction } from 'rxjs';
import type { ScopeOptions } from '../core/options.js';
import { within } from './deadline.js';

export function failWithin<T>(ms: number | null, options: ScopeOptions = {}): MonoTypeOperatorFunction<T> {
  return within('failWithin', ms, options, false, undefined);
}
