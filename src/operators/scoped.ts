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

export function scoped<T>(factory: (scope: Scope) => ObservableInput<T>, options: ScopeOptions = {}): Observable<T> {
  checkFunction('scoped', 'factory', factory);
  checkScopeOptions('scoped', options);
  return new DirectObservable((sink) => {
    const body: Body<T> = new Body<T>(sink, options);
    body.begin(() => from(factory(body)));
  });
}
