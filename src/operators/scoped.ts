import { from, type Observable, type ObservableInput } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { CANCELLING } from '../core/node.js';
import { checkFunction, checkScopeOptions, type ScopeOptions } from '../core/options.js';
import { OutputScope } from '../core/output.js';
import type { Scope } from '../core/types.js';

class Body<T> extends OutputScope<T, T> {
  next(value: T): void {
    if (this.state < CANCELLING) this.emit(value);
  }

  protected override sourceFailed(error: unknown): void {
    this.failed({ error, phase: 'run' });
  }
}

/**
 * Opens a scope around what a factory returns: the output ends once the body and every call made through the scope have.
 *
 * ```
 * body      --a--b|                       body      --a------------
 * call        ---------|                  call        ------x~~|      scope.cancel() at 8
 * output    --a--b-----|                  output    --a--------|
 * ```
 *
 * Use it as Trio's nursery or Python's TaskGroup: several calls that belong together and come from no one stream.
 *
 * ```ts
 * import { forkJoin } from 'rxjs';
 * import { scoped } from 'rxfleet';
 *
 * scoped((scope) => forkJoin([scope.call(async () => 1), scope.call(async () => 2)])).subscribe((pair) => console.log(pair));
 * ```
 *
 * @param factory - is given the scope and returns the body, any ObservableInput
 * @param options - those of every scope
 * @returns a cold Observable, a scope for each subscription; it errors with ScopeError, ScopeCancelledError or
 * DeadlineExceededError; unsubscribing cancels everything in it
 * @see fanOutScoped for one call per value
 */
export function scoped<T>(factory: (scope: Scope) => ObservableInput<T>, options: ScopeOptions = {}): Observable<T> {
  checkFunction('scoped', 'factory', factory);
  checkScopeOptions('scoped', options);
  return new DirectObservable((sink) => {
    const body: Body<T> = new Body<T>(sink, options);
    body.begin(() => from(factory(body)));
  });
}
