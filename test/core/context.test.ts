import { AsyncLocalStorage } from 'node:async_hooks';
import { readFileSync } from 'node:fs';
import { NEVER, of } from 'rxjs';
import { fanOutScoped, takeWithin } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { ambient } from '../../src/core/ambient.js';
import * as browser from '../../src/core/context.default.js';
import * as node from '../../src/core/context.node.js';

describe('async context', () => {
  it('in Node a binding runs its task where it was captured', () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const binding = storage.run('here', () => node.captureContext());
    storage.run('elsewhere', () => binding?.run((argument: number) => seen.push(argument, storage.getStore()), 5));
    expect(seen).toEqual([5, 'here']);
  });

  it('browsers have none, and their build imports nothing of Node', () => {
    expect(browser.captureContext()).toBeUndefined();
    expect(browser.manyListeners(new AbortController().signal)).toBeUndefined();
    expect(readFileSync(new URL('../../src/core/context.default.ts', import.meta.url), 'utf8')).not.toMatch(/^import/m);
  });
});

describe('the enclosing scope', () => {
  it('nothing global is kept without a registry, and nothing is left when the outermost call has returned', () => {
    expect(ambient.registry).toBeUndefined();
    const subscription = of(1)
      .pipe(
        fanOutScoped(() => NEVER),
        takeWithin(null),
      )
      .subscribe();
    expect(ambient).toMatchObject({ scope: undefined, depth: 0 });
    subscription.unsubscribe();
    expect(ambient).toMatchObject({ scope: undefined, depth: 0, registry: undefined });
  });

  it('is restored when a callback throws', () => {
    of(1)
      .pipe(
        fanOutScoped(() => {
          throw new Error('project');
        }),
      )
      .subscribe({ error: () => {} });
    expect(ambient).toMatchObject({ scope: undefined, depth: 0 });
  });
});
