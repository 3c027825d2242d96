import type { MonoTypeOperatorFunction } from 'rxjs';
import { checkFunction, type ScopeOptions } from '../core/options.js';
import { within, type DeadlineEnd } from './deadline.js';

export interface TakeWithinOptions extends ScopeOptions {
  /** Called once when the scope has closed, before the output ends: tells a finished stream from one that was cut off. */
  readonly onEnd?: (end: DeadlineEnd) => void;
}

export function takeWithin<T>(ms: number | null, options: TakeWithinOptions = {}): MonoTypeOperatorFunction<T> {
  const { onEnd } = options;
  if (onEnd !== undefined) checkFunction('takeWithin', 'onEnd', onEnd);
  return within('takeWithin', ms, options, true, onEnd);
}
