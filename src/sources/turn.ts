import type { Observable } from 'rxjs';
import { innermost } from '../core/call.js';
import { DirectObservable } from '../core/direct.js';
import type { ScopeNode } from '../core/node.js';
import { begun, planTurn, type TurnOptions } from './turnPlan.js';
import type { TurnEvent } from './turnEvent.js';
import { TurnRun } from './turnRun.js';
import { turnAround, TurnScope } from './turnScope.js';

/**
 * One turn: streams a reply of the model, runs the calls in it in one scope, and ends with the history that answers all of them in one batch.
 *
 * *When to use*: where something has to happen between turns. `agent` takes turns until the model is done.
 *
 * @param options - `client`, `messages`, `tools`, every parameter of the API, and limits; see {@link TurnOptions}. Throws a TypeError or RangeError
 * for a wrong one
 * @returns a cold Observable of events, the last of which has type `turn`. Unsubscribing closes the model's stream and cancels the calls; the scope
 * (`onScope`) has closed when they have stopped. Errors with what the model's stream errors with: a tool that fails is an answer, not an error
 * @see {@link conversation} for a history that can be looked at while the turn runs
 */
export function turn<O = unknown>(options: TurnOptions<O>): Observable<TurnEvent<O>> {
  const plan = planTurn('turn', options, undefined);
  const events = new DirectObservable<TurnEvent>((sink) => {
    const own = begun(plan, turnAround(innermost(plan.scope.within as ScopeNode | undefined))?.plan);
    const scope = new TurnScope<TurnEvent>(sink, plan.scope, own);
    scope.begin(() => {
      const ledger = (scope.ledger = own.open().below(turnAround(scope.up)?.ledger, 'turn'));
      return ledger.continued(() => new TurnRun(own, ledger, scope, 1).events(), plan.whenBusy);
    });
  });
  return events as Observable<TurnEvent<O>>;
}
