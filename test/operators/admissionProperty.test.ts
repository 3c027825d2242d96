import fc from 'fast-check';
import { concat, defer, EMPTY, map, NEVER, Observable, of, throwError, type Subscription } from 'rxjs';
import { failWithin, fanOutScoped, scoped, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { revokeAll } from '../../src/gates/gateBase.js';
import { admit } from '../../src/operators/admit.js';
import { cleaning, pause, virtual, type Virtual } from '../support/virtual.js';
import { Desk, type Visit } from './admitHarness.js';

type Answer =
  | { readonly how: 'grant' | 'refuse' | 'throw' | 'never' | 'grant and revoke' }
  | { readonly how: 'grant later' | 'refuse later'; readonly ms: number };

interface Plan {
  readonly gates: readonly {
    readonly answers: readonly Answer[];
    readonly again: number;
    readonly parted: 'no' | 'map' | 'fan-out' | 'scope' | 'deadline';
  }[];
  readonly calls: readonly { readonly at: number; readonly source: Source; readonly ms: number }[];
  readonly events: readonly ({ readonly at: number } & Interference)[];
  /** Interference from inside: at the so-many-th thing that a gate is told. */
  readonly hooks: readonly ({ readonly nth: number } & Interference)[];
}
type Source = 'value' | 'later' | 'fails' | 'fails later' | 'never' | 'empty' | 'slow to stop' | 'rude' | 'stream';
type Interference =
  | { readonly kind: 'leave'; readonly call: number }
  | { readonly kind: 'revoke'; readonly gate: number; readonly visit: number }
  | { readonly kind: 'revoke all'; readonly gate: number }
  | { readonly kind: 'cancel' };

const answer: fc.Arbitrary<Answer> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ how: fc.constant('grant' as const) }) },
  { weight: 3, arbitrary: fc.record({ how: fc.constant('grant later' as const), ms: fc.nat({ max: 6 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ how: fc.constantFrom('refuse' as const, 'throw' as const, 'never' as const, 'grant and revoke' as const) }),
  },
  { weight: 1, arbitrary: fc.record({ how: fc.constant('refuse later' as const), ms: fc.nat({ max: 6 }) }) },
);
const interference: fc.Arbitrary<Interference> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('leave' as const), call: fc.nat({ max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('revoke' as const), gate: fc.nat({ max: 3 }), visit: fc.nat({ max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('revoke all' as const), gate: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const) }) },
);
const plan: fc.Arbitrary<Plan> = fc.record({
  gates: fc.array(
    fc.record({
      answers: fc.array(answer, { minLength: 1, maxLength: 4 }),
      again: fc.nat({ max: 2 }),
      parted: fc.constantFrom('no', 'no', 'no', 'map', 'fan-out', 'scope', 'deadline'),
    }),
    { minLength: 1, maxLength: 4, size: 'max' },
  ),
  calls: fc.array(
    fc.record({
      at: fc.nat({ max: 8 }),
      source: fc.constantFrom<Source>('value', 'later', 'fails', 'fails later', 'never', 'empty', 'slow to stop', 'rude', 'stream'),
      ms: fc.integer({ min: 1, max: 8 }),
    }),
    { minLength: 1, maxLength: 5, size: 'max' },
  ),
  events: fc.array(
    fc.tuple(fc.nat({ max: 20 }), interference).map(([at, each]) => ({ at, ...each })),
    { maxLength: 5, size: 'max' },
  ),
  hooks: fc.array(
    fc.tuple(fc.nat({ max: 60 }), interference).map(([nth, each]) => ({ nth, ...each })),
    { maxLength: 3, size: 'max' },
  ),
});

/** What was told to a subscriber, and what its source did. */
interface Record {
  readonly told: string[];
  live: number;
  left: boolean;
  overlapped: boolean;
}

function sourceOf(kind: Source, ms: number): Observable<unknown> {
  const failure = throwError(() => new Error('boom'));
  switch (kind) {
    case 'value':
      return of('a');
    case 'later':
      return concat(pause(ms), of('a'));
    case 'fails':
      return failure;
    case 'fails later':
      return concat(of('a'), pause(ms), failure);
    case 'never':
      return NEVER;
    case 'empty':
      return EMPTY;
    case 'slow to stop':
      return scoped((ctx) => cleaning(ctx, ms));
    case 'rude':
      return new Observable((out) => {
        out.next('a');
        return () => {
          throw new Error('rude');
        };
      });
    case 'stream':
      return concat(of(1, 2), pause(ms), of(3));
  }
}

/** A desk that plays its answers, one after the other, and lets a failed call come again so many times. */
function desk(test: Virtual, index: number, { answers, again }: Plan['gates'][number], told: () => void): Desk {
  const made = new Desk(`gate ${index} `, () => {});
  let next = 0;
  const play = (visit: Visit): void => {
    const each = answers[next++ % answers.length] as Answer;
    if (each.how === 'grant' || each.how === 'grant and revoke') visit.grant();
    if (each.how === 'grant and revoke') visit.revoke();
    if (each.how === 'refuse') visit.refuse();
    if (each.how === 'throw') throw new Error('enter');
    if (each.how === 'grant later') test.at(each.ms, () => answerOnce(visit, () => visit.grant()));
    if (each.how === 'refuse later') test.at(each.ms, () => answerOnce(visit, () => visit.refuse()));
  };
  /** A gate that keeps to the port: it answers nobody who has withdrawn. */
  const answerOnce = (visit: Visit, give: () => void): void => {
    if (visit.history.at(-1) !== 'withdraw') give();
  };
  made.answer = play;
  made.verdict = (visit, { kind }) => {
    if (kind !== 'failed' || visit.ends.length > again) return;
    return () => {
      // After a failure it answers through a scheduler.
      test.at(0, () => answerOnce(visit, () => visit.grant()));
      return () => visit.withdraw();
    };
  };
  made.on = told;
  return made;
}

function part(how: Plan['gates'][number]['parted'], source: Observable<unknown>): Observable<unknown> {
  if (how === 'map') return source.pipe(map((value) => value));
  if (how === 'fan-out') return of(source).pipe(fanOutScoped((each) => each));
  if (how === 'scope') return scoped(() => source);
  return how === 'deadline' ? source.pipe(failWithin(9)) : source;
}

function run(test: Virtual, { gates, calls, events, hooks }: Plan): void {
  const records: Record[] = [];
  const subs: (Subscription | undefined)[] = [];
  let root: Scope | undefined;
  let count = 0;
  let [cancelled, final] = [false, false];
  const interfere = (each: Interference): void => {
    if (each.kind === 'leave') {
      const record = records[each.call];
      if (record === undefined || subs[each.call] === undefined) return;
      record.left = true;
      subs[each.call]?.unsubscribe();
    } else if (each.kind === 'revoke') desks[each.gate]?.visits[each.visit]?.revoke();
    else if (each.kind === 'revoke all') revokeAll(desks[each.gate]?.visits ?? [], () => new Error('tripped'));
    else {
      cancelled = true;
      root?.cancel();
    }
  };
  const onTold = (): void => {
    const at = count++;
    for (const hook of hooks) if (hook.nth === at) interfere(hook);
  };
  const desks = gates.map((gate, i) => desk(test, i, gate, onTold));
  const subscribe = (index: number, { source, ms }: Plan['calls'][number]): void => {
    const record: Record = { told: [], live: 0, left: false, overlapped: false };
    records[index] = record;
    const watched = defer(() => {
      if (++record.live > 1) record.overlapped = true;
      const inner = sourceOf(source, ms);
      return new Observable((out) => {
        const sub = inner.subscribe(out);
        return () => {
          record.live--;
          sub.unsubscribe();
        };
      });
    });
    const guarded = gates.reduce((call, gate, i) => part(gate.parted, call.pipe(admit(desks[i] as Desk, i))), watched);
    const tell = (what: string): void => {
      if (record.left) record.told.push(`${what} after it had left`);
      else record.told.push(what);
    };
    subs[index] = guarded.subscribe({
      next: () => tell('next'),
      error: () => tell('end'),
      complete: () => tell('end'),
    });
  };
  const all = scoped((scope) => {
    root = scope;
    return NEVER;
  }).subscribe({ error: () => {} });
  calls.forEach((call, i) =>
    test.at(call.at, () => {
      if (!cancelled) scoped(() => defer(() => (subscribe(i, call), EMPTY)), { within: root }).subscribe({ error: () => {} });
    }),
  );
  for (const event of events) test.at(event.at, () => interfere(event));
  test.at(100, () => {
    final = true;
    subs.forEach((sub, i) => {
      (records[i] as Record).left = true;
      sub?.unsubscribe();
    });
    all.unsubscribe();
  });
  test.flush();
  expect(final).toBe(true);
  for (const each of desks) each.expectSettledOnce();
  for (const each of desks.flatMap(({ visits }) => visits)) {
    expect(['granted', 'begin', 'report']).not.toContain(each.history.at(-1));
    expect(each.history.filter((what) => what === 'pump').length).toBeLessThanOrEqual(
      each.ends.filter(({ kind }) => kind !== 'cancelled').length,
    );
  }
  for (const { told, live, overlapped } of records.filter(Boolean)) {
    expect([live, overlapped]).toEqual([0, false]);
    expect(told.filter((what) => what.includes('after it had left'))).toEqual([]);
    expect(told.filter((what) => what === 'end').length).toBeLessThanOrEqual(1);
    if (told.includes('end')) expect(told.at(-1)).toBe('end');
  }
}

describe('whatever gates answer and whoever interferes when', () => {
  it('each grant is settled and released once, no attempt overlaps the one before, and a subscriber hears one end or none', () => {
    fc.assert(
      fc.property(plan, (each) => virtual((test) => run(test, each))),
      { numRuns: 600 },
    );
  });
});
