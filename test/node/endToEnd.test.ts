import { join } from 'node:path';
import { NEVER, Subject, throwError, type Observable } from 'rxjs';
import { scoped, type Scope } from 'rxfleet';
import { jsonLines, type JsonLinesEvent } from 'rxfleet/node';
import { expect, it, vi } from 'vitest';
import { CircuitBreaker } from '../../src/gates/circuitBreaker.js';
import { FleetBudget } from '../../src/gates/fleetBudget.js';
import { RetryGate } from '../../src/gates/retryGate.js';
import type { TripRecord } from '../../src/gates/tripRecord.js';
import { circuitBreak } from '../../src/operators/circuitBreak.js';
import { fleetBudget } from '../../src/operators/fleetBudget.js';
import { retryThrough } from '../../src/operators/retryThrough.js';
import { tripLog } from '../../src/operators/tripLog.js';
import { folder, linesOf } from './harness.js';

it('what happens at real gates and scopes ends up in the file, in order', async () => {
  const path = join(folder(), 'trips.jsonl');
  const breaker = new CircuitBreaker({ name: 'search', failures: 2 });
  const fleet = new FleetBudget({ name: 'fleet', usd: '1.00' });
  const retry = new RetryGate({ name: 'claude', baseMs: 60_000 });
  const agent = fleet.child('agent-7', { usd: '0.50' });
  const scopes = new Subject<Scope>();
  let told: JsonLinesEvent | undefined;
  const log = tripLog({ gates: [breaker, fleet, retry], scopes, also: ['refused'] })
    .pipe(jsonLines(path, { onClosed: (event) => (told = event) }))
    .subscribe();

  // Two failures trip the breaker, which stops three calls in flight and refuses those that come after.
  const quiet = { error: () => {} };
  for (let i = 0; i < 3; i++) NEVER.pipe(circuitBreak(breaker)).subscribe(quiet);
  const fails = throwError(() => new Error('529 overloaded, key sk-ant-api03-very-secret'));
  for (let i = 0; i < 6; i++) fails.pipe(circuitBreak(breaker)).subscribe(quiet);

  // An agent has spent 80 % of its share.
  const call = (cost: number): Observable<number> =>
    new Subject<number>().pipe(fleetBudget(agent, { estimate: cost, actual: (spent) => spent }));
  call(400_000).subscribe(quiet).unsubscribe();

  // The provider asks for less.
  const throttled = throwError(() => Object.assign(new Error('429 slow down'), { status: 429 }))
    .pipe(retryThrough(retry))
    .subscribe(quiet);

  // A call that does not hear that it has to stop.
  const stuck = scoped((scope) => scope.call(() => new Promise<never>(() => {}), { label: 'upload' }), {
    label: 'run',
    graceMs: 20,
    onScope: (scope) => scopes.next(scope),
  }).subscribe();
  stuck.unsubscribe();

  await vi.waitFor(() => expect(linesOf(path).at(-1)).toContain('abandoned'));
  log.unsubscribe();
  await vi.waitFor(() => expect(told).toMatchObject({ type: 'closed', missing: 0 }));
  const records = linesOf(path).map((line) => JSON.parse(line) as TripRecord);
  expect(records.map(({ kind, message }) => `${kind}: ${message}`)).toEqual([
    'state: Is open now; it was closed.',
    'tripped: Tripped and stopped 3 calls in flight: 529 overloaded, key [redacted]',
    expect.stringMatching(/^refused: Refused a call: Circuit breaker "search" is open; it lets a probe through in \d+ ms\.$/),
    'note: Charged without being sure: $0.40.',
    'alert: 80 % of $0.50 is used: $0.40 at fleet > agent-7.',
    expect.stringMatching(/^retry-storm: Holds every call back for [\d.]+ (?:ms|s|min): 429 slow down$/),
    expect.stringMatching(
      /^abandoned: "upload" did not end within its grace and was abandoned after \d+ ms at run; it may still complete\.$/,
    ),
  ]);
  throttled.unsubscribe();
  breaker.dispose();
  retry.dispose();
  fleet.dispose();
});
