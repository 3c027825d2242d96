import type { ObservableInput, SchedulerLike } from 'rxjs';
import { checkChoice } from '../core/options.js';
import type { ScopeReport } from '../core/types.js';
import { checkGateOptions, refuse } from './checks.js';
import type { GateEvent } from './events.js';
import type { QuietTripKind } from './tripRecord.js';

/** Whatever tells events; every gate does. */
export interface TripSource {
  readonly name?: string | undefined;
  readonly events$: ObservableInput<GateEvent>;
}

/** Whatever reports what it had to abandon; every scope does. */
export interface TripScope {
  readonly closed$: ObservableInput<Pick<ScopeReport, 'abandoned'>>;
}

export interface TripLogOptions {
  /** The gates to listen to: a list, or an Observable of gates still to come. Default none. */
  readonly gates?: ObservableInput<TripSource> | undefined;
  /** Scopes whose abandoned calls are told once each has closed: a list, or an Observable. A scope speaks for those nested in it. */
  readonly scopes?: ObservableInput<TripScope> | undefined;
  /** Kinds that are left out otherwise. Default none. */
  readonly also?: readonly QuietTripKind[] | undefined;
  /** What tells the time. Default asyncScheduler. */
  readonly scheduler?: SchedulerLike | undefined;
}

const QUIET: readonly QuietTripKind[] = ['refused', 'revoked', 'paused'];

export function checkTripLogOptions(who: string, options: TripLogOptions): void {
  checkGateOptions(who, options);
  const { gates, scopes, also } = options;
  checkInput(who, 'gates', gates, 'events$');
  checkInput(who, 'scopes', scopes, 'closed$');
  if (also === undefined) return;
  if (!Array.isArray(also)) refuse(TypeError, who, 'also', `a list of ${QUIET.join(', ')}`, also);
  for (const kind of also) checkChoice(who, 'also', kind, QUIET);
}

/** A list is looked through now; what an Observable brings is looked at when it comes. */
function checkInput(who: string, option: string, input: unknown, stream: 'events$' | 'closed$'): void {
  if (input === undefined) return;
  const range = `a list or an Observable of objects with ${stream}`;
  if (typeof input !== 'object' || input === null) refuse(TypeError, who, option, range, input);
  if (!Array.isArray(input)) return;
  for (const each of input as readonly unknown[]) {
    if (typeof each !== 'object' || each === null || !(stream in each)) refuse(TypeError, who, option, range, each);
  }
}
