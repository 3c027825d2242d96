import { expectNoOpenScopes, openScopes } from 'rxfleet/testing';
import { expect } from 'vitest';

/** Remembers how many scopes are open now; the function that it returns throws if there are more by then. */
export function leakCheck(): () => void {
  const before = openScopes().length;
  return () => {
    if (before === 0) expectNoOpenScopes();
    else expect(openScopes().slice(before)).toEqual([]);
  };
}
