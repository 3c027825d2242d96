import { AsyncLocalStorage } from 'node:async_hooks';
import {
  concat,
  config,
  defer,
  EMPTY,
  from,
  merge,
  NEVER,
  Observable,
  of,
  range,
  Subject,
  throwError,
  type MonoTypeOperatorFunction,
} from 'rxjs';
import { fanOutScoped } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import type { GateEvent } from '../../src/gates/events.js';
import { type BudgetNode, FleetBudget } from '../../src/gates/fleetBudget.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { fleetBudget, type FleetBudgetCallOptions } from '../../src/operators/fleetBudget.js';
import { brief, briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { failing, later, torn, virtual } from '../support/virtual.js';

/** `spent+reserved`, and what of it is uncertain. */
function books(budget: BudgetNode): string {
  const { spent, reserved, uncertain } = budget.snapshot().microUsd;
  return `${spent}+${reserved}${uncertain > 0 ? ` (${uncertain}?)` : ''}`;
}

function errorOf(source: Observable<unknown>): unknown {
  let found: unknown;
  source.subscribe({ error: (error: unknown) => (found = error) });
  return found;
}

function words(event: GateEvent): string {
  switch (event.type) {
    case 'admitted':
      return `admitted after ${event.waitedMs}`;
    case 'settled':
      return event.end;
    case 'note':
      return `${event.note} ${event.amount} ${event.unit}`;
    case 'alert':
      return `${event.path.join('/')} ${event.unit} ${event.fraction}: ${event.used} of ${event.limit}`;
    case 'tripped':
      return `tripped ${event.path.join('/')}: ${event.cancelled}`;
    default:
      return event.type;
  }
}

function log(budget: BudgetNode): string[] {
  const lines: string[] = [];
  budget.events$.subscribe((event) => lines.push(words(event)));
  return lines;
}

const wait = { onExceed: 'wait' } as const;

describe('fleetBudget', () => {
  describe('with money to spare', () => keepsTheContract(() => fleetBudget(new FleetBudget({ usd: '1.00' }), { estimate: 100 }), 'boom'));
  describe('with running totals', () =>
    keepsTheContract(() => fleetBudget(new FleetBudget({ usd: '1.00' }), { estimate: 100, actual: () => 50 }), 'boom'));

  it('#2.3 reserves at the start and charges what was used at the end, at every node of the path', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, at, flush }) => {
      const fleet = new FleetBudget({ usd: '1.00' });
      const agent = fleet.child('agent', { usd: '0.30', tokens: 1000 });
      const source = cold('-a-b-(c|)', { a: 10, b: 30, c: 20 });
      const call = source.pipe(
        fleetBudget(agent, { estimate: { microUsd: 50, tokens: 9 }, actual: (microUsd) => ({ microUsd, tokens: 5 }) }),
      );
      expectObservable(call).toBe('-a-b-(c|)', { a: 10, b: 30, c: 20 });
      expectSubscriptions(source.subscriptions).toBe('^----!');
      at(4, () => expect([books(fleet), books(agent), fleet.snapshot().inFlight]).toEqual(['0+50', '0+50', 1]));
      flush();
      expect([books(fleet), books(agent)]).toEqual(['30+0', '30+0']);
      expect(agent.snapshot()).toMatchObject({
        tokens: { spent: 5, reserved: 0 },
        calls: { spent: 1, limit: 'unbounded' },
        inFlight: 0,
        waiting: 0,
      });
    }));

  it('#2.3 refuses what the path does not allow: the source is not subscribed, the error names the node', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const fleet = new FleetBudget({ name: 'fleet', usd: '0.10' });
      const agent = fleet.child('agent-7', { usd: '1.00' });
      const [one, two] = [cold('--a|'), cold('--b|')];
      expectObservable(one.pipe(fleetBudget(agent, { estimate: 60_000 }))).toBe('--a|');
      const second = two.pipe(fleetBudget(agent, { estimate: 50_000 }), briefly());
      const message = 'Budget "fleet" refuses $0.050000: $0.000000 spent and $0.060000 reserved of $0.100000.';
      expectObservable(second, '-^').toBe('-#', undefined, message);
      expectSubscriptions(two.subscriptions).toBe([]);
    }));

  it('#2.3 with wait, calls come in first come first served as others end; a big one is not overtaken', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const fleet = new FleetBudget({ usd: '0.000100' });
      const calls = [cold('---a|'), cold('--b|'), cold('-c|')];
      const estimates = [60, 90, 10];
      const results = calls.map((call, i) => call.pipe(fleetBudget(fleet, { estimate: estimates[i]!, actual: () => 1, ...wait })));
      expectObservable(merge(...results)).toBe('---a--b-c|');
      expectSubscriptions(calls[0]!.subscriptions).toBe('^---!');
      expectSubscriptions(calls[1]!.subscriptions).toBe('----^--!');
      expectSubscriptions(calls[2]!.subscriptions).toBe('-------^-!');
    }));

  it('#2.3 a request larger than the limit errors at once, also with wait; raising the limit lets it in', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ name: 'fleet', usd: '0.0001', calls: 5 });
      const agent = fleet.child('agent', { share: 0.5 });
      const call = of('x').pipe(fleetBudget(agent, { estimate: 51, ...wait }));
      expect(errorOf(call)).toMatchObject({ code: 'BUDGET_EXCEEDED', path: ['fleet', 'agent'], limit: 50, requested: 51 });
      expect(errorOf(of(1).pipe(fleetBudget(agent, { estimate: { microUsd: 1, calls: 3 }, ...wait })))).toMatchObject({
        unit: 'calls',
        limit: 2,
      });
      fleet.raise({ usd: '0.000002' });
      expect(errorOf(call)).toBeUndefined();
      flush();
    }));

  it('#2.3 a waiting call comes in when a limit is raised or a new period begins', () =>
    virtual(({ note, lines, at, flush }) => {
      const fleet = new FleetBudget({ microUsd: 100 });
      const agent = fleet.child('agent', { share: 0.5 });
      const call = (name: string): Observable<string> =>
        later(1, name).pipe(fleetBudget(agent, { estimate: 50, actual: () => 50, ...wait }));
      for (const name of ['a', 'b', 'c']) call(name).subscribe((value) => note(value));
      at(5, () => fleet.raise({ microUsd: 100 }));
      at(10, () => fleet.reset());
      flush();
      expect(lines).toEqual(['1 a', '6 b', '11 c']);
      expect(books(fleet)).toBe('50+0');
    }));

  it('#2.3 a report above the reservation extends it; where no limit allows that, the call is stopped', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 100 });
      const source = cold('-a-b-c-d|', { a: 40, b: 80, c: 101, d: 120 });
      const call = source.pipe(fleetBudget(fleet, { estimate: 50, actual: (value) => value }), briefly());
      const message = 'Budget "fleet" refuses $0.000021: $0.000000 spent and $0.000080 reserved of $0.000100.';
      expectObservable(call).toBe('-a-b-#', { a: 40, b: 80 }, message);
      expectSubscriptions(source.subscriptions).toBe('^----!');
      const events = log(fleet);
      flush();
      expect(books(fleet)).toBe('101+0');
      expect(fleet.snapshot().microUsd.overrun).toBe(21);
      expect(errorOf(of(1).pipe(fleetBudget(fleet, { estimate: 0, ...wait })))).toBeUndefined();
      expect(fleet.snapshot()).toMatchObject({ waiting: 1, inFlight: 0 });
      expect(events).toEqual([
        'admitted after 0',
        'revoked',
        'cancelled',
        'overrun 21 microUsd',
        'fleet microUsd 0.8: 101 of 100',
        'fleet microUsd 1: 101 of 100',
        'queued',
      ]);
      fleet.dispose();
    }));

  it('#84 50 parallel calls under a limit for 20: never over, 20 at once, more as they cost less, one alert at 0.8', () =>
    virtual(({ at, flush }) => {
      const fleet = new FleetBudget({ microUsd: 1_000_000 });
      const events = log(fleet);
      let [live, most, worst, done, refused] = [0, 0, 0, 0, 0];
      const call = new Observable<number>((out) => {
        most = Math.max(most, ++live);
        const { spent, reserved } = fleet.snapshot().microUsd;
        worst = Math.max(worst, spent + reserved);
        at(10, () => (out.next(30_000), out.complete()));
        return () => void live--;
      });
      for (let i = 0; i < 50; i++)
        call
          .pipe(fleetBudget(fleet, { estimate: 50_000, actual: (cost) => cost, ...wait }))
          .subscribe({ complete: () => done++, error: () => refused++ });
      expect(fleet.snapshot()).toMatchObject({ inFlight: 20, waiting: 30, microUsd: { reserved: 1_000_000 } });
      flush();
      expect({ most, worst, done }).toEqual({ most: 20, worst: 1_000_000, done: 32 });
      expect(events.filter((line) => line.includes('0.8'))).toEqual(['budget microUsd 0.8: 810000 of 1000000']);
      expect(fleet.snapshot()).toMatchObject({ inFlight: 0, waiting: 18, microUsd: { spent: 960_000, reserved: 0 } });
      fleet.dispose();
      expect(refused).toBe(18);
    }));

  it.each([10, 50, 200])('#2.3 %d agents with calls of up to $0.05 never spend more than $1.00', (agents) =>
    virtual(({ flush, at }) => {
      const fleet = new FleetBudget({ usd: '1.00' });
      let worst = 0;
      const call = (agent: BudgetNode, i: number): Observable<number> =>
        later(1 + ((i * 31) % 17), 1 + ((i * 7919) % 50_000)).pipe(fleetBudget(agent, { estimate: 50_000, actual: (cost) => cost }));
      for (let n = 0; n < agents; n++) {
        const agent = fleet.child(`${n}`, { usd: '0.50' });
        let made = 0;
        const next = (): void => {
          if (made < 50) call(agent, n * 50 + made++).subscribe({ complete: next, error: () => at(5, next) });
          const { spent, reserved } = fleet.snapshot().microUsd;
          worst = Math.max(worst, spent + reserved);
        };
        next();
      }
      flush();
      expect(worst).toBeLessThanOrEqual(1_000_000);
      expect(fleet.snapshot().microUsd.spent).toBeGreaterThan(950_000);
    }),
  );
});

describe('a fleetBudget that is unsubscribed', () => {
  it('#2.3 #13 while it waits: leaves the line, the source never starts, and a smaller one behind it goes at once', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const fleet = new FleetBudget({ microUsd: 100 });
      const [one, two, three] = [cold('----a|'), cold('--b|'), cold('--c|')];
      const operator = <T>(estimate: number): MonoTypeOperatorFunction<T> => fleetBudget(fleet, { estimate, actual: () => 0, ...wait });
      expectObservable(one.pipe(operator(60))).toBe('----a|');
      expectObservable(two.pipe(operator(90)), '-^-!').toBe('---');
      expectObservable(three.pipe(operator(40)), '--^').toBe('-----c|');
      expectSubscriptions(two.subscriptions).toBe([]);
      expectSubscriptions(three.subscriptions).toBe('---^--!');
      flush();
      expect(fleet.snapshot()).toMatchObject({ waiting: 0, inFlight: 0, microUsd: { spent: 0, reserved: 0 } });
    }));

  it('#2.3 in flight: is charged all that was set aside, what was not seen is uncertain', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const fleet = new FleetBudget({ microUsd: 1000 });
      const source = cold('-a-b--', { a: 10, b: 20 });
      const events = log(fleet);
      expectObservable(source.pipe(fleetBudget(fleet, { estimate: 50, actual: (cost) => cost })), '^---!').toBe('-a-b', { a: 10, b: 20 });
      expectSubscriptions(source.subscriptions).toBe('^---!');
      flush();
      expect(books(fleet)).toBe('50+0 (30?)');
      expect(events).toEqual(['admitted after 0', 'cancelled', 'uncertain 30 microUsd']);
    }));

  it.each([
    ['seen', '20+0'],
    [() => 35, '35+0 (15?)'],
  ] as const)('#2.3 in flight with onCancel %s', (onCancel, expected) => {
    const fleet = new FleetBudget({ microUsd: 1000 });
    const call = concat(of(20), NEVER).pipe(fleetBudget(fleet, { estimate: 50, actual: (cost: number) => cost, onCancel }));
    call.subscribe().unsubscribe();
    expect(books(fleet)).toBe(expected);
  });

  it('#2.3 #18 admitted, but waiting further in: has not started, and gets all back', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const closed = new Semaphore({ limit: 0 });
    const call = of('x').pipe(bulkhead(closed), fleetBudget(fleet, { estimate: 50 }));
    const waiting = call.subscribe();
    expect(books(fleet)).toBe('0+50');
    waiting.unsubscribe();
    expect(books(fleet)).toBe('0+0');
    expect(fleet.snapshot().calls.spent).toBe(0);
  });

  it('#24 before it is subscribed: nothing happens', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    let started = 0;
    const source = new Observable<never>(() => void started++);
    new Observable<never>((out) => {
      out.unsubscribe();
      source.pipe(fleetBudget(fleet, { estimate: 50 })).subscribe(out);
    }).subscribe();
    expect([started, books(fleet)]).toEqual([0, '0+0']);
  });

  it('#2.3 after its end: nothing happens', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const events = log(fleet);
    const ended = of(5)
      .pipe(fleetBudget(fleet, { estimate: 50, actual: (cost) => cost }))
      .subscribe();
    ended.unsubscribe();
    expect([books(fleet), events]).toEqual(['5+0', ['admitted after 0', 'completed']]);
  });

  it('unsubscribing a fan-out of 5 starts none of the waiting four', () =>
    virtual(({ at, flush }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      let started = 0;
      const call = new Observable<never>(() => void started++);
      const all = from([1, 2, 3, 4, 5])
        .pipe(fanOutScoped(() => call.pipe(fleetBudget(fleet, { estimate: 10, onCancel: 'seen', ...wait }))))
        .subscribe();
      at(5, () => all.unsubscribe());
      flush();
      expect(started).toBe(1);
      expect(fleet.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, microUsd: { spent: 0, reserved: 0 } });
    }));

  it('#8 10,000 that wait under one parent leave with it: nothing waits, nothing is armed, nothing was charged', () =>
    virtual(({ scheduler }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const holder = NEVER.pipe(fleetBudget(fleet, { estimate: 10, onCancel: 'seen' })).subscribe();
      const all = range(10_000)
        .pipe(fanOutScoped(() => of(1).pipe(fleetBudget(fleet, { estimate: 10, ...wait })), { concurrency: Infinity }))
        .subscribe();
      expect(fleet.snapshot().waiting).toBe(10_000);
      all.unsubscribe();
      holder.unsubscribe();
      expect(scheduler.actions.filter((action) => !action.closed)).toHaveLength(0);
      expect(fleet.snapshot()).toMatchObject({ inFlight: 0, waiting: 0, microUsd: { spent: 0, reserved: 0 } });
    }));

  it('lets the next in within the same frame', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const fleet = new FleetBudget({ microUsd: 60 });
      const [one, two] = [cold('------'), cold('--b|')];
      const operator = <T>(): MonoTypeOperatorFunction<T> => fleetBudget(fleet, { estimate: 50, onCancel: () => 10, ...wait });
      expectObservable(one.pipe(operator()), '^--!').toBe('---');
      expectObservable(two.pipe(operator())).toBe('-----b|');
      expectSubscriptions(two.subscriptions).toBe('---^--!');
    }));
});

describe('how a call of a fleetBudget ends', () => {
  it.each([
    ['429: free', { status: 429 }, '0+0'],
    ['its own error: all that was set aside', new Error('boom'), '50+0 (50?)'],
  ])('#2.3 failed with %s', (_, error, expected) => {
    const fleet = new FleetBudget({ microUsd: 100 });
    expect(errorOf(throwError(() => error).pipe(fleetBudget(fleet, { estimate: 50 })))).toBe(error);
    expect(books(fleet)).toBe(expected);
  });

  it('#2.3 failed: chargeOnError decides', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const call = concat(
      of(7),
      throwError(() => 'half'),
    );
    errorOf(
      call.pipe(
        fleetBudget(fleet, { estimate: 50, actual: () => 7, chargeOnError: (_, { reserved, seen }) => reserved.microUsd - seen.microUsd! }),
      ),
    );
    expect(books(fleet)).toBe('43+0 (36?)');
  });

  it('#2.3 refused further in: has cost nothing', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const full = new Semaphore({ limit: 1, maxQueue: 0 });
    const holder = NEVER.pipe(bulkhead(full)).subscribe();
    expect(errorOf(of(1).pipe(bulkhead(full), fleetBudget(fleet, { estimate: 50 })))).toMatchObject({ code: 'BULKHEAD_FULL' });
    expect(fleet.snapshot()).toMatchObject({ microUsd: { spent: 0, reserved: 0 }, calls: { spent: 0 } });
    holder.unsubscribe();
  });

  it('#2.3 completed without usage: is charged all that was set aside, and that is noted', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const events = log(fleet);
    EMPTY.pipe(fleetBudget(fleet, { estimate: { microUsd: 50, tokens: 10 }, actual: () => undefined })).subscribe();
    expect(events).toEqual(['admitted after 0', 'completed', 'missingUsage 50 microUsd', 'missingUsage 10 tokens']);
    expect(books(fleet)).toBe('50+0');
  });

  it('#2.3 replayed with the same chargeId: is not charged again', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const call = of(60).pipe(fleetBudget(fleet, { estimate: 80, actual: (cost) => cost, chargeId: 'turn-1' }));
    for (let i = 0; i < 3; i++) expect(errorOf(call)).toBeUndefined();
    const events = log(fleet);
    expect(errorOf(EMPTY.pipe(fleetBudget(fleet, { estimate: 1000, chargeId: 'turn-1' })))).toBeUndefined();
    expect(events).toEqual(['admitted after 0', 'completed']);
    expect(fleet.snapshot()).toMatchObject({ microUsd: { spent: 60, reserved: 0 }, calls: { spent: 1 } });
  });

  it('#2.3 with the same chargeId and in flight when the other completes: neither is it charged, nor told of', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const twin = new Subject<number>();
    const charged = { estimate: 50, chargeId: 'turn-1' };
    const running = twin.pipe(fleetBudget(fleet, charged)).subscribe();
    of(60)
      .pipe(fleetBudget(fleet, { ...charged, estimate: 50, actual: () => 40 }))
      .subscribe();
    const events = log(fleet);
    running.unsubscribe();
    expect([books(fleet), events]).toEqual(['40+0', ['cancelled']]);
  });

  it('settles after the source is torn down, before downstream is told, and lets the next in after that', () =>
    virtual(({ flush, at, note, lines }) => {
      const fleet = new FleetBudget({ microUsd: 50 });
      const call = (name: string): Observable<never> =>
        torn(
          () => note(`${name} torn, ${books(fleet)}`),
          new Observable<never>((out) => {
            note(`${name} starts`);
            at(1, () => out.complete());
          }),
        );
      for (const name of ['a', 'b'])
        call(name)
          .pipe(fleetBudget(fleet, { estimate: 30, chargeOnError: () => 0, actual: () => 0, ...wait }))
          .subscribe({ complete: () => note(`${name} told, ${books(fleet)}`) });
      at(2, () => fleet.raise({ microUsd: 20 }));
      flush();
      expect(lines).toEqual(['0 a starts', '1 a torn, 0+30', '1 a told, 30+0', '2 b starts', '3 b torn, 30+30', '3 b told, 60+0']);
    }));

  it('a downstream that throws does not hold up the next', () => {
    const before = config.onUnhandledError;
    config.onUnhandledError = () => undefined;
    const fleet = new FleetBudget({ microUsd: 50 });
    const [first, seen] = [new Subject<number>(), [] as string[]];
    first.pipe(fleetBudget(fleet, { estimate: 50, actual: () => 0 })).subscribe({
      complete: () => {
        throw new Error('bug');
      },
    });
    of(1)
      .pipe(fleetBudget(fleet, { estimate: 50, ...wait }))
      .subscribe(() => seen.push('b'));
    first.next(1);
    first.complete();
    expect(seen).toEqual(['b']);
    return new Promise((done) => setTimeout(done)).then(() => void (config.onUnhandledError = before));
  });
});

it('a call that waited runs in the async context of whoever subscribed it', () => {
  const user = new AsyncLocalStorage<string>();
  const fleet = new FleetBudget({ microUsd: 10 });
  const seen: (string | undefined)[] = [];
  const first = new Subject<void>();
  const call = defer(() => of(user.getStore()));
  const made = first.pipe(fleetBudget(fleet, { estimate: 10, actual: () => 0, chargeOnError: () => 0, onCancel: 'seen' }));
  user.run('x', () => made.subscribe());
  for (const name of ['ann', 'bob'])
    user.run(name, () => call.pipe(fleetBudget(fleet, { estimate: 5, actual: () => 0, ...wait })).subscribe((value) => seen.push(value)));
  first.next();
  user.run('somebody else', () => first.complete());
  expect(seen).toEqual(['ann', 'bob']);
});

describe('what a fleetBudget is given', () => {
  const fleet = new FleetBudget({ name: 'fleet', microUsd: 100 });
  const good: FleetBudgetCallOptions<unknown> = { estimate: 1 };

  it.each([
    [null, TypeError, 'options must be an object'],
    [{}, TypeError, 'estimate must be'],
    [{ estimate: {} }, TypeError, 'estimate must be'],
    [{ estimate: '1' }, TypeError, 'estimate (microUsd) must be an integer, 0 or more, got "1"'],
    [{ estimate: NaN }, RangeError, 'estimate (microUsd) must be'],
    [{ estimate: -1 }, RangeError, 'estimate (microUsd) must be'],
    [{ estimate: 0.5 }, RangeError, 'estimate (microUsd) must be'],
    [{ estimate: { tokens: 1.5 } }, RangeError, 'estimate (tokens) must be'],
    [{ ...good, actual: 5 }, TypeError, 'actual must be a function'],
    [{ ...good, onExceed: 'queue' }, RangeError, 'onExceed must be one of "error", "wait"'],
    [{ ...good, onCancel: 'free' }, RangeError, 'onCancel must be one of "reserved", "seen"'],
    [{ ...good, onCancel: 5 }, TypeError, 'onCancel must be'],
    [{ ...good, chargeOnError: 5 }, TypeError, 'chargeOnError must be a function'],
    [{ ...good, chargeId: 5 }, TypeError, 'chargeId must be a string'],
  ])('#2.3 is checked when the operator is made: %j', (options, kind, message) => {
    expect(() => fleetBudget(fleet, options as never)).toThrow(kind);
    expect(() => fleetBudget(fleet, options as never)).toThrow(`fleetBudget: ${message}`);
  });

  it('a budget is checked as well', () => expect(() => fleetBudget({} as never, good)).toThrow('fleetBudget: gate must be a gate'));

  it.each([NaN, -1, 0.5, '5', null, undefined, { microUsd: -1 }, {}])('an estimate that cannot be used fails that call: %j', (estimate) => {
    const error = errorOf(of(1).pipe(fleetBudget(fleet, { estimate: () => estimate as never })));
    expect(error).toMatchObject({ code: 'BAD_ASK', gate: 'fleet' });
    expect(books(fleet)).toBe('0+0');
  });

  it('a unit that somebody limits has to be estimated', () => {
    const agent = fleet.child('counted', { tokens: 50 });
    expect(errorOf(of(1).pipe(fleetBudget(agent, { estimate: 1 })))).toMatchObject({ code: 'BAD_ASK' });
    expect(errorOf(of(1).pipe(fleetBudget(agent, { estimate: { tokens: 1 } })))).toMatchObject({ code: 'BAD_ASK' });
    expect(errorOf(of(1).pipe(fleetBudget(agent, { estimate: { tokens: 1, microUsd: 0 } })))).toBeUndefined();
    agent.dispose();
  });

  it('an estimate that throws fails that call', () =>
    expect(
      errorOf(
        of(1).pipe(
          fleetBudget(fleet, {
            estimate: () => {
              throw new Error('bug');
            },
          }),
        ),
      ),
    ).toMatchObject({ message: 'bug' }));

  it.each([NaN, -1, '5', { tokens: 0.5 }])('usage that cannot be used fails that call, which is charged: %j', (usage) => {
    const budget = new FleetBudget({ microUsd: 100 });
    const error = errorOf(concat(of(1), NEVER).pipe(fleetBudget(budget, { estimate: 30, actual: () => usage as never })));
    expect([brief(error).startsWith('Gate "budget": usage'), books(budget)]).toEqual([true, '30+0 (30?)']);
  });

  it('an actual that throws fails that call, which is charged', () => {
    const budget = new FleetBudget({ microUsd: 100 });
    const actual = (): never => {
      throw new Error('bug');
    };
    expect(errorOf(concat(of(1), NEVER).pipe(fleetBudget(budget, { estimate: 30, actual })))).toMatchObject({ message: 'bug' });
    expect(books(budget)).toBe('30+0 (30?)');
  });

  it('an estimate is made for each subscription', () => {
    const budget = new FleetBudget({ microUsd: 100 });
    let estimate = 0;
    const call = of(1).pipe(fleetBudget(budget, { estimate: () => ++estimate }));
    call.subscribe();
    call.subscribe();
    expect(books(budget)).toBe('3+0');
  });
});

describe('a budget inside a budget', () => {
  it('a call that would wait below one that holds the same budget is refused with the path: nobody would ever let it in', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 100 });
      const agent = fleet.child('agent', { microUsd: 100 });
      const inner = of(1).pipe(fleetBudget(agent, { estimate: 60, ...wait }));
      const outer = from(['task']).pipe(
        fanOutScoped(() => inner, { label: 'work' }),
        fleetBudget(fleet, { estimate: 60 }),
      );
      const error = errorOf(outer);
      flush();
      expect(brief(error)).toContain('"fleet" is held');
      expect(fleet.snapshot()).toMatchObject({ inFlight: 0, waiting: 0 });
    }));

  it('an error that comes late is passed on', () =>
    virtual(({ expectObservable }) => {
      const fleet = new FleetBudget({ microUsd: 100 });
      expectObservable(failing(3, 'boom').pipe(fleetBudget(fleet, { estimate: 60 }))).toBe('---#', undefined, 'boom');
    }));
});
