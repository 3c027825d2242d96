import fc from 'fast-check';
import { EMPTY, NEVER, of, Subject, take, throwError, type Observable } from 'rxjs';
import { describe, expect, it, vi } from 'vitest';
import type { CallInfo, ScopeReport } from '../../src/core/types.js';
import type { GateEvent, GateEventBody } from '../../src/gates/events.js';
import { BulkheadFullError, CircuitOpenError } from '../../src/gates/errors.js';
import type { TripRecord } from '../../src/gates/tripRecord.js';
import type { TripLogOptions, TripSource } from '../../src/gates/tripOptions.js';
import { tripLog } from '../../src/operators/tripLog.js';
import { scoped } from '../../src/operators/scoped.js';
import { handle } from '../support/scopes.js';
import { virtual, type Virtual } from '../support/virtual.js';

const full = new BulkheadFullError('calls', 1, 1, 0);

class Gate implements TripSource {
  readonly name: string;
  readonly events = new Subject<GateEvent>();

  constructor(name = 'gate') {
    this.name = name;
  }

  get events$(): Observable<GateEvent> {
    return this.events;
  }

  tell(event: GateEventBody): void {
    this.events.next({ gate: this.name, at: 0, ...event });
  }
}

/** What a log tells, each record with its frame. */
function watch({ now }: Virtual, options: TripLogOptions): { readonly seen: string[]; readonly records: TripRecord[]; stop: () => void } {
  const seen: string[] = [];
  const records: TripRecord[] = [];
  const subscription = tripLog(options).subscribe({
    next: (record) => {
      expect(JSON.parse(JSON.stringify(record))).toEqual(record);
      expect(record.at).toBe(now());
      records.push(record);
      seen.push(`${now()} ${record.kind} ${'gate' in record ? record.gate : '-'}: ${record.message}`);
    },
    error: () => seen.push(`${now()} error`),
    complete: () => seen.push(`${now()} complete`),
  });
  return { seen, records, stop: () => subscription.unsubscribe() };
}

function record(event: GateEventBody, also: TripLogOptions['also'] = []): TripRecord | undefined {
  const gate = new Gate();
  const records: TripRecord[] = [];
  const log = tripLog({ gates: [gate], also }).subscribe((each) => records.push(each));
  gate.tell(event);
  log.unsubscribe();
  expect(records.length).toBeLessThan(2);
  return records[0];
}

describe('tripLog', () => {
  describe('a record for', () => {
    const path = ['fleet', 'agent-7'];
    it.each<[string, GateEventBody, Partial<TripRecord>]>([
      [
        'an alert of a budget',
        { type: 'alert', path, fraction: 0.8, unit: 'microUsd', used: 812_500, limit: 1_000_000 },
        { kind: 'alert', path, fraction: 0.8, message: '80 % of $1.00 is used: $0.8125 at fleet > agent-7.' },
      ],
      [
        'an alert in tokens',
        { type: 'alert', path: [], fraction: 1, unit: 'tokens', used: 1200, limit: 1000 },
        { kind: 'alert', message: '100 % of 1000 tokens is used: 1200 tokens.' },
      ],
      [
        'a trip',
        { type: 'tripped', path, cancelled: 15, cause: new Error('529 overloaded') },
        { kind: 'tripped', cancelled: 15, message: 'Tripped at fleet > agent-7 and stopped 15 calls in flight: 529 overloaded' },
      ],
      [
        'a trip of one call',
        { type: 'tripped', path: [], cancelled: 1, cause: 'by hand' },
        { message: 'Tripped and stopped 1 call in flight: "by hand"' },
      ],
      ['a breaker that opened', { type: 'state', from: 'closed', to: 'open' }, { kind: 'state', message: 'Is open now; it was closed.' }],
      ['a breaker that closed', { type: 'state', from: 'halfOpen', to: 'closed' }, { message: 'Is closed now; it was half-open.' }],
      [
        'a retry gate that closed',
        { type: 'paused', ms: 2500, waiting: 14, cause: new Error('429') },
        { kind: 'retry-storm', phase: 'held', ms: 2500, waiting: 14, message: 'Holds every call back for 2.5 s, 14 calls waiting: 429' },
      ],
      [
        'a retry that was one too many',
        { type: 'retry', path, attempt: 2, delayMs: 300, refused: 'budget', error: new Error('reset') },
        { kind: 'retry-storm', phase: 'refused', message: 'Did not retry a call at fleet > agent-7: too many retries already: reset' },
      ],
      [
        'a note',
        { type: 'note', path, note: 'overrun', amount: 20_000, unit: 'microUsd' },
        { kind: 'note', note: 'overrun', amount: 20_000, message: 'Used beyond the limit: $0.02 at fleet > agent-7.' },
      ],
      [
        'a note of somebody else’s gate',
        { type: 'note', path: [], note: 'lost a page', amount: 1, unit: 'pages' },
        { kind: 'note', note: 'lost a page', message: 'lost a page: 1 pages.' },
      ],
      [
        'a person who is asked',
        { type: 'approval', id: 'toolu_1', path, outcome: 'asked' },
        { kind: 'approval', id: 'toolu_1', message: 'Somebody has to decide on "toolu_1" at fleet > agent-7.' },
      ],
      [
        'a person who did not answer',
        { type: 'approval', id: 'toolu_1', path: [], outcome: 'expired' },
        { outcome: 'expired', message: 'Nobody decided on "toolu_1" in time.' },
      ],
    ])('%s', (_, event, expected) => expect(record(event)).toMatchObject({ gate: 'gate', ...expected }));

    it('a call that outlived its scope', () =>
      virtual((test) => {
        const group = handle();
        const scopes = new Subject<typeof group.scope>();
        const { seen } = watch(test, { scopes });
        const deaf = scoped((scope) => scope.child('agent').call(() => new Promise<never>(() => {}), { label: 'upload' }), {
          graceMs: 20,
          label: 'run',
          onScope: group.take,
        }).subscribe();
        scopes.next(group.scope);
        scopes.complete();
        test.at(30, () => deaf.unsubscribe());
        test.flush();
        expect(seen).toEqual([
          '50 abandoned -: "upload" did not end within its grace and was abandoned after 50 ms at run > agent; it may still complete.',
          '50 complete',
        ]);
      }));
  });

  describe('no record for', () => {
    it.each<[string, GateEventBody]>([
      ['an admission', { type: 'admitted', path: [], waitedMs: 0 }],
      ['a call that waits', { type: 'queued', path: [], waiting: 1 }],
      ['a call that leaves the line', { type: 'withdrawn', path: [] }],
      ['a call that settles', { type: 'settled', path: [], end: 'failed' }],
      ['a breaker that tries again', { type: 'state', from: 'open', to: 'halfOpen' }],
      ['a rate limit that pauses', { type: 'paused', ms: 100, waiting: 1 }],
      ['a retry that goes ahead', { type: 'retry', path: [], attempt: 1, delayMs: 5, error: full }],
      ['a retry that its own limit ends', { type: 'retry', path: [], attempt: 4, delayMs: 0, refused: 'attempts', error: full }],
      ['an answer', { type: 'approval', id: '1', path: [], outcome: 'approved' }],
      ['a note of every day', { type: 'note', path: [], note: 'synced', amount: 5, unit: 'tokens' }],
      ['a refusal', { type: 'refused', path: [], error: full }],
      ['a single call that is stopped', { type: 'revoked', path: [], error: full }],
      ['the end of a pause that nobody was told of', { type: 'resumed' }],
      ['the end of the gate', { type: 'disposed' }],
    ])('%s', (_, event) => expect(record(event)).toBeUndefined());
  });

  it('a budget that lets calls in again after a trip is told as a change of state', () => {
    const gate = new Gate();
    const seen: string[] = [];
    tripLog({ gates: [gate] }).subscribe((each) => seen.push(`${each.kind} ${each.message}`));
    gate.tell({ type: 'tripped', path: ['fleet'], cancelled: 2, cause: 'by hand' });
    gate.tell({ type: 'resumed' });
    gate.tell({ type: 'resumed' });
    expect(seen).toEqual([
      'tripped Tripped at fleet and stopped 2 calls in flight: "by hand"',
      'state Lets calls through again after it was tripped.',
    ]);
  });

  it('asked for them, it tells refusals, revocations and pauses as well', () => {
    const also = ['refused', 'revoked', 'paused'] as const;
    expect(record({ type: 'refused', path: ['a'], error: full }, also)).toMatchObject({
      kind: 'refused',
      code: 'BULKHEAD_FULL',
      count: 1,
      message: `Refused a call at a: ${full.message}`,
    });
    expect(record({ type: 'revoked', path: [], error: full }, also)).toMatchObject({
      kind: 'revoked',
      message: `Stopped a call: ${full.message}`,
    });
    expect(record({ type: 'paused', ms: 900, waiting: 1 }, also)).toMatchObject({
      kind: 'paused',
      message: 'Holds every call back for 900 ms, 1 call waiting.',
    });
  });

  describe('floods', () => {
    it('are one record per gate and second, with a count', () =>
      virtual((test) => {
        const [first, second] = [new Gate('first'), new Gate('second')];
        const { seen, stop } = watch(test, { gates: [first, second], also: ['refused'] });
        const refuse = (gate: Gate, times: number, path: string): void => {
          for (let i = 0; i < times; i++) gate.tell({ type: 'refused', path: [path], error: new CircuitOpenError(gate.name, 5, 'open') });
        };
        test.at(10, () => refuse(first, 10_000, 'a'));
        test.at(20, () => refuse(second, 1, 'b'));
        test.at(500, () => refuse(first, 10_000, 'c'));
        test.at(1500, () => refuse(first, 3, 'd'));
        test.at(5000, () => refuse(first, 1, 'e'));
        test.flush();
        const why = (gate: string): string => new CircuitOpenError(gate, 5, 'open').message;
        expect(seen).toEqual([
          `10 refused first: Refused a call at a: ${why('first')}`,
          `20 refused second: Refused a call at b: ${why('second')}`,
          `1010 refused first: Refused 19999 calls within a second, the last at c: ${why('first')}`,
          `2010 refused first: Refused 3 calls within a second, the last at d: ${why('first')}`,
          `5000 refused first: Refused a call at e: ${why('first')}`,
        ]);
        stop();
      }));

    it('of notes are summed up by what they note', () =>
      virtual((test) => {
        const gate = new Gate();
        const { records, stop } = watch(test, { gates: [gate] });
        test.at(1, () => {
          for (let i = 0; i < 5; i++) gate.tell({ type: 'note', path: [], note: 'missing usage', amount: 100, unit: 'tokens' });
          for (let i = 0; i < 4; i++) gate.tell({ type: 'note', path: [], note: 'missing usage', amount: 7, unit: 'microUsd' });
          gate.tell({ type: 'note', path: [], note: 'dropped debt', amount: 9, unit: 'tokens' });
        });
        test.flush();
        expect(records).toMatchObject([
          { note: 'missing usage', count: 1, amount: 100 },
          {
            note: 'missing usage',
            count: 4,
            amount: 400,
            unit: 'tokens',
            message: 'missing usage: 400 tokens in 4 calls within a second, the last.',
          },
          { note: 'missing usage', count: 4, amount: 28, unit: 'microUsd' },
          { note: 'dropped debt', count: 1, amount: 9 },
        ]);
        stop();
      }));

    it('of a pause that is extended again and again tell its latest state', () =>
      virtual((test) => {
        const gate = new Gate();
        const { seen, stop } = watch(test, { gates: [gate] });
        const pause = (ms: number, waiting: number) => () => gate.tell({ type: 'paused', ms, waiting, cause: new Error('429') });
        test.at(1, pause(500, 3));
        test.at(2, pause(800, 4));
        test.at(3, pause(3000, 5));
        test.at(3003, () => gate.tell({ type: 'resumed' }));
        test.at(3100, () => gate.tell({ type: 'resumed' }));
        test.flush();
        expect(seen).toEqual([
          '1 retry-storm gate: Holds every call back for 500 ms, 3 calls waiting: 429',
          '1001 retry-storm gate: Holds every call back for 3 s, 5 calls waiting (2 times within a second): 429',
          '3003 retry-storm gate: Lets calls through again.',
        ]);
        stop();
      }));

    it('of ever new notes take no more memory than fifty of them', () =>
      virtual((test) => {
        const gate = new Gate();
        const { records, stop } = watch(test, { gates: [gate] });
        test.at(1, () => {
          for (let i = 0; i < 10_000; i++) gate.tell({ type: 'note', path: [], note: `note ${i}`, amount: 1, unit: 'calls' });
        });
        test.flush();
        expect(records.length).toBeLessThan(60);
        expect(records.reduce((sum, each) => sum + ('count' in each ? each.count : 0), 0)).toBe(10_000);
        stop();
      }));

    it('of abandoned calls are told one by one up to ten, and then by their number', () => {
      const abandoned = Array.from({ length: 10_000 }, (_, i): CallInfo => ({ label: `call ${i}`, path: ['run'], ageMs: 5 }));
      const report: ScopeReport = { fulfilled: 0, outcomes: [], errors: [], late: [], abandoned };
      const records: TripRecord[] = [];
      tripLog({ scopes: [{ closed$: of(report) }] }).subscribe((each) => records.push(each));
      expect(records).toHaveLength(11);
      expect(records.at(-1)).toMatchObject({ count: 9990, message: 'and 9990 calls more in the same scope; they may still complete.' });
    });

    it('no event is told twice or lost, whenever it comes', () => {
      fc.assert(
        fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 5000 }), fc.constantFrom('a', 'b', 'c')), { maxLength: 60 }), (events) =>
          virtual((test) => {
            const gate = new Gate();
            const { records, stop } = watch(test, { gates: [gate] });
            for (const [at, note] of events) test.at(at, () => gate.tell({ type: 'note', path: [], note, amount: 3, unit: 'calls' }));
            test.flush();
            for (const note of ['a', 'b', 'c']) {
              const told = records.filter((each) => each.kind === 'note' && each.note === note) as {
                count: number;
                amount: number;
                at: number;
              }[];
              const count = told.reduce((sum, each) => sum + each.count, 0);
              expect(count).toBe(events.filter((each) => each[1] === note).length);
              expect(told.reduce((sum, each) => sum + each.amount, 0)).toBe(3 * count);
              told.slice(1).forEach((each, i) => expect(each.at - told[i]!.at).toBeGreaterThanOrEqual(1000));
            }
            stop();
          }),
        ),
        { numRuns: 50 },
      );
    });
  });

  describe('it outlives what it listens to', () => {
    it('a gate whose events error', () =>
      virtual((test) => {
        const [bad, good] = [new Gate('bad'), new Gate('good')];
        const { seen, stop } = watch(test, { gates: [bad, good] });
        test.at(1, () => bad.events.error(new Error('lost')));
        test.at(2, () => good.tell({ type: 'state', from: 'closed', to: 'open' }));
        test.flush();
        expect(seen).toEqual(['1 note bad: The events of this gate broke off: lost', '2 state good: Is open now; it was closed.']);
        stop();
      }));

    it('counts of a gate whose events then error are still told', () =>
      virtual((test) => {
        const gate = new Gate();
        const { records } = watch(test, { gates: [gate] });
        test.at(1, () => {
          for (let i = 0; i < 3; i++) gate.tell({ type: 'note', path: [], note: 'n', amount: 1, unit: 'calls' });
          gate.events.error(new Error('lost'));
        });
        test.flush();
        expect(records).toMatchObject([{ note: 'n', count: 1 }, { note: 'unreadable' }, { note: 'n', count: 2, at: 1001 }]);
      }));

    it.each<[string, TripSource]>([
      [
        'getter that throws',
        {
          get events$(): never {
            throw new Error('no events');
          },
        },
      ],
      ['events that throw when subscribed', { name: 'x', events$: throwError(() => new Error('no events')) }],
    ])('a %s', (_, gate) => {
      const records: TripRecord[] = [];
      const good = new Gate();
      tripLog({ gates: [gate, good] }).subscribe((each) => records.push(each));
      good.tell({ type: 'state', from: 'closed', to: 'open' });
      expect(records).toMatchObject([{ kind: 'note', note: 'unreadable' }, { kind: 'state' }]);
      expect(records[0]?.message).toContain('no events');
    });

    it.each<[string, unknown]>([
      ['null', null],
      ['without a path', { type: 'alert', gate: 'g', at: 0 }],
      ['with a path that is none', { type: 'tripped', gate: 'g', at: 0, path: 5, cancelled: 1 }],
      [
        'with an error that throws when read',
        {
          type: 'note',
          gate: 'g',
          at: 0,
          path: [],
          get note(): string {
            throw new Error('x');
          },
        },
      ],
    ])('an event %s', (_, event) => {
      const gate = new Gate();
      const records: TripRecord[] = [];
      tripLog({ gates: [gate] }).subscribe((each) => records.push(each));
      gate.events.next(event as GateEvent);
      gate.tell({ type: 'state', from: 'closed', to: 'open' });
      expect(records.at(-1)).toMatchObject({ kind: 'state' });
    });

    it('gates and scopes that come as Observables and break off', () => {
      const gates = new Subject<TripSource>();
      const scopes = new Subject<{ closed$: Observable<ScopeReport> }>();
      const records: TripRecord[] = [];
      let complete = false;
      tripLog({ gates, scopes }).subscribe({ next: (each) => records.push(each), complete: () => (complete = true) });
      const gate = new Gate();
      gates.next(gate);
      gates.next(null as never);
      gates.error(new Error('no more gates'));
      scopes.next({ closed$: throwError(() => new Error('no report')) });
      scopes.error(new Error('no more scopes'));
      expect(records.map((each) => each.message)).toEqual([
        "A gate cannot be read: Cannot read properties of null (reading 'name')",
        'The list of gates broke off: no more gates',
        'The report of a scope cannot be read: no report',
        'The list of scopes broke off: no more scopes',
      ]);
      expect(complete).toBe(true);
    });
  });

  describe('secrets stay out', () => {
    it.each([
      'sk-ant-api03-abc_DEF-123',
      'Bearer abcdef123456',
      'Basic dXNlcjpwYXNz',
      'x-api-key: abcd1234',
      '{"api_key":"abcd1234"}',
      'https://user:hunter22@db/',
      'ghp_abcdefghijklmnop123456',
      'AKIAABCDEFGHIJKLMNOP',
      'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc',
      'password=hunter22',
      'AWS_SECRET_ACCESS_KEY=abcd1234',
      'https://x/?token=abcd1234&b=1',
    ])('%s', (secret) => {
      const words = `Error 401: ${secret} is invalid`;
      const events: GateEventBody[] = [
        { type: 'tripped', path: [], cancelled: 1, cause: new Error(words) },
        { type: 'tripped', path: [], cancelled: 1, cause: words },
        { type: 'tripped', path: [], cancelled: 1, cause: new Error('x'.repeat(3985) + secret) },
        { type: 'refused', path: [words], error: new Error(words) },
        { type: 'approval', id: words, path: [words], outcome: 'asked' },
        { type: 'note', path: [words], note: words, amount: 1, unit: 'calls' },
      ];
      for (const event of events) {
        const text = JSON.stringify(record(event, ['refused']));
        for (const part of ['api03', 'abcdef123456', 'dXNlcjpwYXNz', 'abcd1234', 'hunter22', 'ghp_', 'AKIA', 'eyJ'])
          expect(text).not.toContain(part);
        if (!text.includes('xxx')) expect(text).toContain('[redacted]');
      }
    });

    it('ordinary words stay', () => {
      for (const words of [
        'output tokens: 5000 of 10000',
        'task-force-of-twenty-people at sk-learn',
        '429 rate_limit_error (request req_011CSabc)',
      ])
        expect(record({ type: 'tripped', path: [], cancelled: 1, cause: new Error(words) })?.message).toContain(words);
    });

    it('records stay short whatever they are made of', () => {
      const long = 'y \n'.repeat(1_000_000);
      const path = Array.from({ length: 5000 }, (_, i) => `${i} ${long.slice(0, 5000)}`);
      const text = JSON.stringify(record({ type: 'refused', path, error: new Error(long) }, ['refused']));
      expect(text.length).toBeLessThan(8000);
      expect(text).not.toContain('\\n');
      const started = performance.now();
      for (const nasty of [
        'a-'.repeat(50_000),
        'secret'.repeat(20_000),
        'eyJ'.repeat(40_000),
        '://'.repeat(40_000),
        'token: '.repeat(20_000),
      ])
        record({ type: 'tripped', path: [], cancelled: 1, cause: new Error(nasty) });
      expect(performance.now() - started).toBeLessThan(500);
    });
  });

  describe('life', () => {
    it('listens only while somebody does, and to each subscriber apart', () => {
      const gate = new Gate();
      const log = tripLog({ gates: [gate] });
      expect(gate.events.observed).toBe(false);
      const counts = [0, 0];
      const one = log.subscribe(() => counts[0]!++);
      const two = log.subscribe(() => counts[1]!++);
      for (let i = 0; i < 3; i++) gate.tell({ type: 'note', path: [], note: 'n', amount: 1, unit: 'calls' });
      one.unsubscribe();
      two.unsubscribe();
      expect(counts).toEqual([1, 1]);
      expect(gate.events.observed).toBe(false);
    });

    it('has a timer only while it counts, and none once it was left', () => {
      vi.useFakeTimers();
      try {
        const gate = new Gate();
        const log = tripLog({ gates: [gate] }).subscribe();
        expect(vi.getTimerCount()).toBe(0);
        gate.tell({ type: 'state', from: 'closed', to: 'open' });
        expect(vi.getTimerCount()).toBe(0);
        gate.tell({ type: 'note', path: [], note: 'n', amount: 1, unit: 'calls' });
        expect(vi.getTimerCount()).toBe(1);
        vi.advanceTimersByTime(1000);
        expect(vi.getTimerCount()).toBe(0);
        gate.tell({ type: 'note', path: [], note: 'n', amount: 1, unit: 'calls' });
        expect(vi.getTimerCount()).toBe(1);
        log.unsubscribe();
        expect(vi.getTimerCount()).toBe(0);
      } finally {
        vi.useRealTimers();
      }
    });

    it('subscriptions follow the subscriber', () =>
      virtual(({ hot, expectObservable, expectSubscriptions }) => {
        const event: GateEvent = { gate: 'g', at: 0, type: 'state', from: 'closed', to: 'open' };
        const events$ = hot('--e--e--e--', { e: event });
        const log = tripLog({ gates: [{ name: 'g', events$ }] });
        const at = (frame: number): TripRecord => ({
          kind: 'state',
          at: frame,
          gate: 'g',
          path: [],
          from: 'closed',
          to: 'open',
          message: 'Is open now; it was closed.',
        });
        expectObservable(log, '---^---!').toBe('-----e', { e: at(5) });
        expectObservable(log.pipe(take(1)), '^').toBe('--(e|)', { e: at(2) });
        expectSubscriptions(events$.subscriptions).toBe(['^-!', '---^---!']);
      }));

    it('completes when everything it listens to has', () =>
      virtual(({ cold, expectObservable }) => {
        const events$ = cold<GateEvent>('---|');
        expectObservable(tripLog({ gates: [{ events$ }], scopes: [] })).toBe('---|');
        expectObservable(tripLog({})).toBe('|');
        expectObservable(tripLog({ gates: [], scopes: [{ closed$: EMPTY }] })).toBe('|');
        expectObservable(tripLog({ gates: NEVER })).toBe('-');
      }));

    it('a synchronous firehose stops at take', () => {
      let told = 0;
      const events$ = new Subject<GateEvent>();
      const event: GateEvent = { gate: 'g', at: 0, type: 'state', from: 'closed', to: 'open' };
      tripLog({ gates: [{ events$: Array.from({ length: 100_000 }, () => event) }, { events$ }] })
        .pipe(take(3))
        .subscribe(() => told++);
      expect(told).toBe(3);
      expect(events$.observed).toBe(false);
    });

    it('an observer that makes the gate tell more hears it', () => {
      const gate = new Gate();
      const seen: string[] = [];
      tripLog({ gates: [gate] }).subscribe((each) => {
        seen.push(each.kind);
        if (seen.length < 5) gate.tell({ type: 'state', from: 'closed', to: 'open' });
      });
      gate.tell({ type: 'tripped', path: [], cancelled: 1, cause: 'x' });
      expect(seen).toEqual(['tripped', 'state', 'state', 'state', 'state']);
    });
  });

  it('bad options throw where they are given', () => {
    expect(() => tripLog(undefined as never)).toThrow(new TypeError('tripLog: options must be an object, got undefined.'));
    expect(() => tripLog({ gates: 5 as never })).toThrow('tripLog: gates must be a list or an Observable of objects with events$, got 5.');
    expect(() => tripLog({ gates: [{} as never] })).toThrow(TypeError);
    expect(() => tripLog({ scopes: [null as never] })).toThrow(
      'tripLog: scopes must be a list or an Observable of objects with closed$, got null.',
    );
    expect(() => tripLog({ also: 'refused' as never })).toThrow(TypeError);
    expect(() => tripLog({ also: ['alert' as never] })).toThrow(RangeError);
    expect(() => tripLog({ scheduler: {} as never })).toThrow('tripLog: scheduler must be a SchedulerLike');
  });
});
