import { from, type MonoTypeOperatorFunction, type Observable, type ObservableInput } from 'rxjs';
import { DEFAULT_GRACE_MS, innermost } from '../core/call.js';
import { DirectObservable, type Sink } from '../core/direct.js';
import type { ScopeNode } from '../core/node.js';
import type { ScopeContext } from '../core/types.js';
import { checkFunction, type ScopeOptions } from '../core/options.js';
import type { Gate } from '../gates/gate.js';
import { refuse } from '../gates/checks.js';
import { Admission } from './admission.js';
import type { Plan, Stack } from './stage.js';
import { WorkObservable } from './work.js';

/** A call behind gates. Another gate in front of it joins the stack, so that all of them share what they know of the call. */
export class GuardedObservable<T> extends DirectObservable<T> implements Stack {
  constructor(
    /** Starts the call with what the innermost gate granted. */
    readonly launch: (grant: unknown) => Observable<T>,
    readonly options: ScopeOptions,
    readonly plan: Plan | undefined,
    readonly inner?: Stack | undefined,
    readonly single?: boolean | undefined,
  ) {
    super(admitTo);
  }
}

function admitTo<T>(this: DirectObservable<T>, sink: Sink<T>): void {
  const call = this as GuardedObservable<T>;
  const admission = new Admission(sink, inheriting(call.options), call);
  admission.begin(() => call.launch(admission.grant));
}

const NO_OPTIONS: ScopeOptions = {};

/** A guard changes nothing in how long its call may take to stop. */
function inheriting(options: ScopeOptions): ScopeOptions {
  const graceMs = innermost(options.within as ScopeNode | undefined)?.env.graceMs ?? DEFAULT_GRACE_MS;
  return graceMs === DEFAULT_GRACE_MS ? options : { ...options, graceMs };
}

export interface AdmitOptions<T, Use> {
  /** What the call has used so far, read from a value: running totals, or undefined if the value does not tell. */
  readonly usage?: ((value: T) => Use | undefined) | undefined;
  /** The enclosing scope. Default: the one in whose synchronous subscribe chain the call is subscribed, if any. */
  readonly within?: ScopeContext | undefined;
}

/** Gates are known by what they do, so that those of another copy of this package are gates as well. */
export function isGate(gate: unknown): gate is Gate<unknown> {
  return typeof (gate as Partial<Gate<unknown>> | null | undefined)?.enter === 'function';
}

function checkGate(who: string, gate: unknown): void {
  if (!isGate(gate)) refuse(TypeError, who, 'gate', 'a gate', gate);
}

/** The operator of one gate, for the shells: `who` names it when something is wrong with what it was given. */
export function gated<T, Ask, Use = never>(
  who: string,
  gate: Gate<Ask, unknown, Use>,
  ask: Ask | (() => Ask),
  usage?: (value: T) => Use | undefined,
): MonoTypeOperatorFunction<T> {
  checkGate(who, gate);
  if (usage !== undefined) checkFunction(who, 'usage', usage);
  const plan = { gate, ask, usage } as Plan;
  return (source) => behind(source, plan);
}

/** Puts a gate in front of a call, or makes it one that gates can be put in front of. */
export function behind<T>(
  source: Observable<T>,
  plan: Plan | undefined,
  options: ScopeOptions = NO_OPTIONS,
  single: boolean = source instanceof WorkObservable,
): Observable<T> {
  if (source instanceof GuardedObservable && options === NO_OPTIONS)
    return new GuardedObservable<T>(source.launch as (grant: unknown) => Observable<T>, source.options, plan, source);
  return new GuardedObservable(() => source, options, plan, undefined, single);
}

/**
 * Puts a gate in front of a call: the call starts when the gate grants it, ends with the gate's error when it refuses or takes
 * its permission back, and tells the gate exactly once how it ended, before anybody downstream hears of it.
 *
 * ```
 * source         --a--|                   source        ------
 *                admit(gate)                            admit(gate)     unsubscribed while it waits:
 * output    ...----a--|                   output   ..!                  it leaves the line, the source never starts
 * ```
 *
 * Use it for a gate that you wrote; the gates of this package have operators of their own. Put it on the single call, inside
 * the fan-out. Gates of one `pipe()` share what they know of the call; the lower one is the outer one.
 *
 * ```ts
 * import { of } from 'rxjs';
 * import { admit, type Gate } from 'rxfleet';
 *
 * const office: Gate<'knock'> = {
 *   name: 'office',
 *   enter(_ask, _call, caller) {
 *     caller.granted({ settle: (end) => console.log(end.kind) }, undefined);
 *     return () => undefined;
 *   },
 * };
 * of('hello').pipe(admit(office, 'knock')).subscribe();
 * ```
 *
 * @param gate - any object with the `enter` of the port
 * @param ask - what the call asks of the gate; a function is called once for each attempt, and what it throws fails that call
 * @param options - `usage` reads from a value what the call has used so far
 * @returns an operator that errors with the gate's error when it was refused or revoked and otherwise ends as the source does;
 * unsubscribing takes a waiting call out of the line, and stops one in flight
 * @see guard for several gates in the right order
 */
export function admit<T, Ask, Use = never>(
  gate: Gate<Ask, unknown, Use>,
  ask: Ask | (() => Ask),
  options: AdmitOptions<T, Use> = {},
): MonoTypeOperatorFunction<T> {
  const { usage, within } = options;
  const operator = gated('admit', gate, ask, usage);
  return within === undefined ? operator : (source) => operator(behind(source, undefined, { within }));
}

/**
 * A call that needs what the gate grants: an edited input, a key, a connection.
 *
 * ```ts
 * import { admitted, type Gate } from 'rxfleet';
 *
 * const desk: Gate<string, number> = {
 *   name: 'desk',
 *   enter(_ask, _call, caller) {
 *     caller.granted({ settle: () => undefined }, 7);
 *     return () => undefined;
 *   },
 * };
 * admitted(desk, 'a number', (n) => [n + 1]).subscribe((n) => console.log(n));
 * ```
 *
 * @param gate - any object with the `enter` of the port
 * @param ask - what the call asks of the gate
 * @param run - starts the call with what was granted, any ObservableInput
 * @returns a cold Observable that ends as with `admit`
 */
export function admitted<T, Ask, Grant>(
  gate: Gate<Ask, Grant>,
  ask: Ask | (() => Ask),
  run: (grant: Grant) => ObservableInput<T>,
): Observable<T> {
  checkGate('admitted', gate);
  checkFunction('admitted', 'run', run);
  return new GuardedObservable((grant) => from(run(grant as Grant)), NO_OPTIONS, { gate, ask });
}
