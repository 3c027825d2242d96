import { finalize, type Observable } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { CallScope } from './callScope.js';
import { planTurn, type TurnOptions } from './turnPlan.js';
import { TurnRun, type TurnEvent } from './turnRun.js';

export function turn(options: TurnOptions): Observable<TurnEvent> {
  const plan = planTurn('turn', options, undefined);
  return new DirectObservable((sink) => {
    const scope = new CallScope<TurnEvent>(sink, plan.scope);
    scope.begin(() => {
      const ledger = plan.open();
      ledger.acquire();
      return new TurnRun(plan, ledger, scope, 1).events().pipe(finalize(() => ledger.release()));
    });
  });
}
