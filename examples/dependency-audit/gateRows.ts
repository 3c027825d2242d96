import type { BudgetSnapshot, CircuitBreaker, RetrySnapshot, TokenBucketSnapshot } from 'rxfleet';
import type { Guards } from './guards.js';
import { compact, dollars, meter, paint, seconds } from './text.js';

/** The state of every guard, as the parts of one row each, the important ones first. */
export function gateRows({ bucket, retry, budget, breakers }: Guards): Readonly<Record<string, readonly string[]>> {
  return {
    limit: bucketRow(bucket.snapshot()),
    retry: retryRow(retry.snapshot()),
    tools: breakerRow(breakers),
    budget: budgetRow(budget.snapshot()),
  };
}

function bucketRow({ limits, waiting, pausedMs }: TokenBucketSnapshot): string[] {
  const levels = Object.entries(limits).map(([name, { tokens, capacity }]) => {
    const short = name.replace('Tokens', '');
    return `${short} ${compact(Math.max(0, tokens))}/${compact(capacity)}`;
  });
  const waits = `${waiting} waiting`;
  return [...(pausedMs > 0 ? [paint('red', `paused ${seconds(pausedMs)}`)] : []), waiting > 0 ? paint('yellow', waits) : waits, ...levels];
}

function retryRow({ state, retryAfterMs, probing, allowed, waiting }: RetrySnapshot): string[] {
  if (state === 'open') return ['lets everybody through'];
  if (state === 'closed') return [paint('red', `holds everybody back for ${seconds(retryAfterMs)}`), `${waiting} waiting`];
  return [paint('yellow', 're-opens slowly'), `${probing} of ${allowed} in flight`, `${waiting} waiting`];
}

const MARKS = {
  closed: paint('green', '●'),
  open: paint('red', '○'),
  halfOpen: paint('yellow', '◐'),
  isolated: paint('red', '○'),
} as const;

/** Those that are not closed first, for the others are cut off where there is no room. */
function breakerRow(breakers: ReadonlyMap<string, CircuitBreaker>): string[] {
  const all = [...breakers.values()].map((breaker) => breaker.snapshot());
  const [closed, others] = [all.filter(({ state }) => state === 'closed'), all.filter(({ state }) => state !== 'closed')];
  return [...others, ...closed].map(({ name, state, retryAfterMs }) => {
    const short = name.split('_').at(-1) ?? name;
    return `${MARKS[state]}${short}${state === 'open' && retryAfterMs > 0 ? ` ${seconds(retryAfterMs)}` : ''}`;
  });
}

function budgetRow({ microUsd: { limit, spent, reserved } }: BudgetSnapshot): string[] {
  const most = Number(limit);
  return [`${dollars(spent)} of ${dollars(most)}`, `${dollars(reserved)} set aside`, meter(spent / most, 20)];
}
