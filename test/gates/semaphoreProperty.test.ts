import fc from 'fast-check';
import { concat, ignoreElements, NEVER, Observable, throwError, timer, type Subscription } from 'rxjs';
import { scoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import type { Call, Caller, Lease, Withdraw } from '../../src/gates/gate.js';
import { Semaphore, type PermitAsk } from '../../src/gates/semaphore.js';
import { admit } from '../../src/operators/admit.js';
import { pause, virtual, type Virtual } from '../support/virtual.js';
import { armed } from './semaphoreHarness.js';

interface Step {
  readonly at: number;
  readonly act:
    | {
        readonly kind: 'call';
        readonly ms: number;
        readonly permits: number;
        readonly priority: number;
        readonly key: number;
        readonly end: End;
      }
    | { readonly kind: 'leave'; readonly who: number }
    | { readonly kind: 'leave all'; readonly from: number }
    | { readonly kind: 'limit'; readonly limit: number };
}
/** How a call ends: by itself, at once, or only after a while once it was told to stop. */
type End = 'completes' | 'fails' | 'at once' | 'fails at once' | 'never' | 'slowly' | 'leaves itself' | 'leaves the next';

const LIMIT = 4;

const act = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('call' as const),
      ms: fc.integer({ min: 1, max: 12 }),
      permits: fc.integer({ min: 1, max: LIMIT }),
      priority: fc.nat({ max: 2 }),
      key: fc.nat({ max: 2 }),
      end: fc.constantFrom<End>(
        'completes',
        'completes',
        'fails',
        'at once',
        'fails at once',
        'never',
        'slowly',
        'leaves itself',
        'leaves the next',
      ),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('leave' as const), who: fc.nat({ max: 30 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave all' as const), from: fc.nat({ max: 30 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('limit' as const), limit: fc.integer({ min: 0, max: LIMIT }) }) },
);
const steps: fc.Arbitrary<Step[]> = fc.array(fc.record({ at: fc.nat({ max: 40 }), act }), { minLength: 15, maxLength: 60, size: 'max' });

interface Seen {
  readonly name: number;
  readonly priority: number;
  readonly key: number;
  readonly permits: number;
  phase: 'waits' | 'holds' | 'gone';
  settled: number;
  released: number;
}

/** A semaphore whose leases are watched on their way. */
class Watched extends Semaphore {
  readonly all: Seen[] = [];
  held = 0;
  readonly broken: string[] = [];

  override enter(ask: PermitAsk, call: Call, caller: Caller): Withdraw {
    const { permits = 1, priority = 0, key } = ask;
    const seen: Seen = { name: this.all.length, priority, key: Number(key), permits, phase: 'waits', settled: 0, released: 0 };
    this.all.push(seen);
    const withdraw = super.enter(ask, call, {
      granted: (lease) => {
        this.onGrant(seen);
        caller.granted(this.watch(lease, seen));
      },
      refused: (error) => {
        seen.phase = 'gone';
        caller.refused(error);
      },
      revoked: (error, tell) => caller.revoked(error, tell),
    });
    return () => {
      if (seen.phase === 'waits') seen.phase = 'gone';
      withdraw();
    };
  }

  private onGrant(seen: Seen): void {
    if (seen.phase !== 'waits') this.broken.push(`${seen.name} granted while it ${seen.phase}`);
    for (const other of this.all) {
      if (other.phase !== 'waits' || other === seen) continue;
      if (other.priority > seen.priority) this.broken.push(`${seen.name} passed ${other.name} of a higher priority`);
      if (other.priority === seen.priority && other.key === seen.key && other.name < seen.name)
        this.broken.push(`${seen.name} passed ${other.name} of the same key`);
    }
    seen.phase = 'holds';
    this.held += seen.permits;
    if (this.held > this.limit) this.broken.push(`${this.held} of ${this.limit} permits`);
  }

  private watch(lease: Lease, seen: Seen): Lease {
    return {
      settle: (end) => {
        if (seen.settled++ > 0) this.broken.push(`${seen.name} settled again`);
        return lease.settle(end);
      },
      release: () => {
        if (seen.settled !== 1 || seen.released++ > 0) this.broken.push(`${seen.name} released out of turn`);
        seen.phase = 'gone';
        this.held -= seen.permits;
        lease.release?.();
      },
      pump: () => lease.pump?.(),
    };
  }

  /** At rest: what is told is true, and nobody waits who could be let in. */
  check(): void {
    const waiting = this.all.filter(({ phase }) => phase === 'waits');
    const snapshot = this.snapshot();
    if (snapshot.inUse !== this.held || snapshot.waiting !== waiting.length) this.broken.push(`tells ${JSON.stringify(snapshot)}`);
    const top = Math.max(...waiting.map(({ priority }) => priority));
    const heads = new Map<number, Seen>();
    for (const each of waiting) if (each.priority === top && !heads.has(each.key)) heads.set(each.key, each);
    const free = this.limit - this.held;
    if (waiting.length > 0 && [...heads.values()].every(({ permits }) => permits <= free))
      this.broken.push(`${top} waits though ${free} are free`);
    if (waiting.length === 0 && armed(this)) this.broken.push('a timer runs for nobody');
  }
}

function run(test: Virtual, semaphore: Watched, list: readonly Step[], fused: boolean): void {
  const subs: Subscription[] = [];
  const source = (index: number, ms: number, end: End): Observable<unknown> => {
    const wait = timer(ms).pipe(ignoreElements());
    const failure = throwError(() => new Error('boom'));
    switch (end) {
      case 'completes':
        return wait;
      case 'fails':
        return concat(wait, failure);
      case 'at once':
        return new Observable((out) => out.complete());
      case 'fails at once':
        return failure;
      case 'never':
        return NEVER;
      case 'slowly':
        return scoped((ctx) => new Observable(() => () => ctx.track(pause(ms))));
      case 'leaves itself':
        return new Observable(() => subs[index]?.unsubscribe());
      case 'leaves the next':
        return new Observable((out) => {
          subs[index + 1]?.unsubscribe();
          out.complete();
        });
    }
  };
  const open = { name: 'open', enter: (_: unknown, __: Call, caller: Caller) => (caller.granted({ settle: () => {} }), () => {}) };
  for (const { at, act: each } of list) {
    test.at(at, () => {
      if (each.kind === 'leave') subs[each.who]?.unsubscribe();
      else if (each.kind === 'leave all') for (const sub of subs.slice(each.from)) sub.unsubscribe();
      else if (each.kind === 'limit') semaphore.setLimit(each.limit);
      else {
        const { permits, priority, key, ms, end } = each;
        const guarded = source(subs.length, ms, end).pipe(admit(semaphore, { permits, priority, key: String(key) }));
        subs.push((fused ? guarded.pipe(admit(open, undefined)) : guarded).subscribe({ error: () => {} }));
      }
    });
    // What a step left to do in its frame comes first.
    test.at(at, () => void test.scheduler.schedule(() => void test.scheduler.schedule(() => semaphore.check())));
  }
  test.at(60, () => {
    semaphore.setLimit(LIMIT);
    for (const sub of subs) sub.unsubscribe();
  });
  test.flush();
  expect(semaphore.broken).toEqual([]);
  expect(semaphore.snapshot()).toMatchObject({ inUse: 0, waiting: 0 });
  expect(semaphore.all.map(({ settled, released }) => settled - released)).toEqual(semaphore.all.map(() => 0));
  expect(semaphore.all.filter(({ phase }) => phase !== 'gone')).toEqual([]);
  expect(armed(semaphore)).toBe(false);
}

describe('whatever calls come, end, leave, and however the limit is moved', () => {
  it.each([
    ['alone', false],
    ['under another gate', true],
  ])(
    'permits are conserved and never above the limit, each lease is settled and released once, the order is kept, nobody waits who could go (%s)',
    (_, fused) => {
      fc.assert(
        fc.property(steps, (list) => virtual((test) => run(test, new Watched({ limit: LIMIT }), list, fused))),
        { numRuns: 250 },
      );
    },
  );

  it('a lowered limit never lets anybody in above it', () => {
    fc.assert(
      fc.property(steps, fc.array(fc.tuple(fc.nat({ max: 40 }), fc.integer({ min: 0, max: LIMIT })), { maxLength: 10 }), (list, limits) => {
        const moved = limits.map(([at, limit]): Step => ({ at, act: { kind: 'limit', limit } }));
        virtual((test) => run(test, new Watched({ limit: LIMIT }), [...list, ...moved], false));
      }),
      { numRuns: 150 },
    );
  });
});
