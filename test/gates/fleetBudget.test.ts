import { concat, config, defer, map, merge, NEVER, Observable, of, Subject, Subscription, type MonoTypeOperatorFunction } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import type { GateEvent } from '../../src/gates/events.js';
import { type BudgetNode, FleetBudget } from '../../src/gates/fleetBudget.js';
import type { Call, Lease } from '../../src/gates/gate.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { fleetBudget, type FleetBudgetCallOptions } from '../../src/operators/fleetBudget.js';
import { brief } from '../support/brief.js';
import { later, torn, virtual } from '../support/virtual.js';

const reported: unknown[] = [];
const before = config.onUnhandledError;
config.onUnhandledError = (error: unknown) => reported.push(error);
afterAll(() => void (config.onUnhandledError = before));

function books(budget: BudgetNode): string {
  const { spent, reserved } = budget.snapshot().microUsd;
  return `${spent}+${reserved}`;
}

/** A call of 10 that waits for room and costs what it has seen, which is nothing. */
function ten<T>(budget: BudgetNode, options: Partial<FleetBudgetCallOptions<T>> = {}): MonoTypeOperatorFunction<T> {
  return fleetBudget(budget, { estimate: 10, onExceed: 'wait', onCancel: 'seen', actual: () => 0, ...options });
}

function errorOf(source: Observable<unknown>): unknown {
  let found: unknown;
  source.subscribe({ error: (error: unknown) => (found = error) });
  return found;
}

function types(budget: BudgetNode): string[] {
  const lines: string[] = [];
  budget.events$.subscribe((event) => lines.push(event.type === 'note' ? event.note : event.type));
  return lines;
}

describe('options of a FleetBudget', () => {
  it.each([
    [undefined, TypeError, 'options must be an object'],
    [{}, TypeError, 'the limits must be some of usd, microUsd, tokens, calls, share; "unbounded" where there is none, got "none"'],
    [{ name: '', usd: 1 }, TypeError, 'name must be'],
    [{ usd: -1 }, RangeError, 'usd must be an amount in dollars'],
    [{ usd: NaN }, RangeError, 'usd must be'],
    [{ usd: '1e3' }, RangeError, 'usd must be'],
    [{ usd: true }, TypeError, 'usd must be'],
    [{ usd: 1, microUsd: 1 }, TypeError, 'microUsd must be left out where usd is given'],
    [{ microUsd: 0.5 }, RangeError, 'microUsd must be an integer of at least 0, got 0.5'],
    [{ microUsd: '5' }, TypeError, 'microUsd must be'],
    [{ microUsd: Infinity }, RangeError, 'microUsd must be'],
    [{ tokens: -1 }, RangeError, 'tokens must be'],
    [{ calls: 1.5 }, RangeError, 'calls must be'],
    [{ calls: 'many' }, TypeError, 'calls must be'],
    [{ share: 0.5 }, TypeError, 'share must be left out: a root has no parent'],
    [{ usd: 1, alerts: 0.8 }, TypeError, 'alerts must be an array'],
    [{ usd: 1, alerts: [0] }, RangeError, 'alerts must be a number above 0 and up to 1'],
    [{ usd: 1, alerts: [1.1] }, RangeError, 'alerts must be'],
    [{ usd: 1, scheduler: {} }, TypeError, 'scheduler must be a SchedulerLike'],
  ])('#2.3 are checked: %j', (options, kind, message) => {
    expect(() => new FleetBudget(options as never)).toThrow(kind);
    expect(() => new FleetBudget(options as never)).toThrow(`FleetBudget: ${message}`);
  });

  it.each([
    [['', { usd: 1 }], TypeError, 'name must be a string that is not empty'],
    [[5, { usd: 1 }], TypeError, 'name must be'],
    [['twin', { usd: 1 }], RangeError, 'name must be one that no other child has'],
    [['a'], TypeError, 'the limits must be'],
    [['a', null], TypeError, 'the limits must be'],
    [['a', {}], TypeError, 'the limits must be'],
    [['a', { share: 0 }], RangeError, 'share must be a number above 0'],
    [['a', { share: 1.5 }], RangeError, 'share must be'],
    [['a', { share: '0.5' }], TypeError, 'share must be'],
    [['a', { share: 1 / 3 }], RangeError, 'share must be a number with at most six decimals'],
    [['a', { share: 1e-9 }], RangeError, 'share must be a number with at most six decimals'],
    [['a', { usd: '-1' }], RangeError, 'usd must be'],
  ])('#2.3 of a child are checked: %j', (given, kind, message) => {
    const fleet = new FleetBudget({ usd: 1 });
    fleet.child('twin', { usd: 'unbounded' });
    const child = (): unknown => (fleet.child as (...args: unknown[]) => unknown).apply(fleet, given);
    expect(child).toThrow(kind);
    expect(child).toThrow(`FleetBudget.child: ${message}`);
    expect(fleet.snapshot().children.map(({ name }) => name)).toEqual(['twin']);
  });

  it('#2.3 a share of nothing is none', () =>
    expect(() => new FleetBudget({ usd: 'unbounded' }).child('a', { share: 0.5 })).toThrow(
      'share must be left out: the parent has no limit',
    ));

  it.each([{}, { usd: -1 }, { usd: 'unbounded' }, { microUsd: 0.5 }, { usd: 1, microUsd: 1 }, { tokens: 5 }])(
    'of a raise are checked: %j',
    (by) => {
      const fleet = new FleetBudget({ usd: 1 });
      expect(() => fleet.raise(by as never)).toThrow('FleetBudget.raise: ');
      expect(fleet.snapshot().microUsd.limit).toBe(1_000_000);
    },
  );

  it('#2.3 limits are in dollars, micro-dollars, tokens, calls, or shares of the parent’s', () => {
    const fleet = new FleetBudget({ name: 'fleet', usd: '0.30', tokens: 1000, calls: 'unbounded' });
    const agent = fleet.child('agent', { share: 0.2, calls: 3 });
    const limits = ({ microUsd, tokens, calls }: ReturnType<BudgetNode['snapshot']>): unknown[] => [
      microUsd.limit,
      tokens.limit,
      calls.limit,
    ];
    expect([limits(fleet.snapshot()), limits(agent.snapshot())]).toEqual([
      [300_000, 1000, 'unbounded'],
      [60_000, 200, 3],
    ]);
    expect([fleet.name, agent.name, agent.path]).toEqual(['fleet', 'agent', ['fleet', 'agent']]);
  });
});

describe('what a FleetBudget tells', () => {
  it('a snapshot is plain JSON of the whole tree', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 100 });
      const agent = fleet.child('agent', { tokens: 50 });
      const calls = [1, 2].map(() => NEVER.pipe(ten(agent, { estimate: { microUsd: 60, tokens: 5 } })).subscribe());
      const none = { spent: 0, uncertain: 0, overrun: 0 };
      const counts = { inFlight: 1, waiting: 1, tripped: false };
      const [microUsd, tokens, used] = [
        { ...none, reserved: 60 },
        { ...none, reserved: 5 },
        { ...none, reserved: 1, limit: 'unbounded' },
      ];
      const picture = {
        name: 'fleet',
        microUsd: { ...microUsd, limit: 100 },
        tokens: { ...tokens, limit: 'unbounded' },
        calls: used,
        ...counts,
        children: [
          {
            name: 'agent',
            microUsd: { ...microUsd, limit: 'unbounded' },
            tokens: { ...tokens, limit: 50 },
            calls: used,
            ...counts,
            children: [],
          },
        ],
      };
      expect(fleet.snapshot()).toEqual(picture);
      expect(JSON.parse(JSON.stringify(fleet.snapshot()))).toEqual(picture);
      for (const call of calls) call.unsubscribe();
      flush();
    }));

  it('events are told at the node and at those above it, once the books are consistent', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 100 });
      const [agent, other] = [fleet.child('agent', { microUsd: 50 }), fleet.child('other', { microUsd: 50 })];
      const heard: string[] = [];
      const hear = (at: BudgetNode): Subscription =>
        at.events$.subscribe((event) => {
          const { spent, reserved } = agent.snapshot().microUsd;
          heard.push(
            `${event.gate} ${event.type}${event.type === 'alert' ? ` ${event.path.join('/')} ${event.fraction}` : ''} ${spent}+${reserved}`,
          );
        });
      hear(fleet);
      hear(agent);
      hear(other);
      of(50)
        .pipe(fleetBudget(agent, { estimate: 50, actual: (cost) => cost }))
        .subscribe();
      expect(heard).toEqual([
        'agent admitted 0+50',
        'fleet admitted 0+50',
        'agent settled 50+0',
        'fleet settled 50+0',
        'agent alert fleet/agent 0.8 50+0',
        'fleet alert fleet/agent 0.8 50+0',
        'agent alert fleet/agent 1 50+0',
        'fleet alert fleet/agent 1 50+0',
      ]);
      heard.length = 0;
      of(30)
        .pipe(fleetBudget(other, { estimate: 30, actual: (cost) => cost }))
        .subscribe();
      expect(heard.filter((line) => line.includes('alert'))).toEqual(['fleet alert fleet 0.8 50+0']);
      flush();
    }));

  it('every kind of event', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const events = types(fleet);
      const holder = NEVER.pipe(ten(fleet)).subscribe();
      const waiting = NEVER.pipe(ten(fleet)).subscribe();
      waiting.unsubscribe();
      errorOf(of(1).pipe(ten(fleet, { onExceed: 'error' })));
      fleet.raise({ microUsd: 5 });
      fleet.reset();
      holder.unsubscribe();
      fleet.trip('enough');
      fleet.resume();
      fleet.resume();
      fleet.dispose();
      fleet.dispose();
      flush();
      const ends = ['settled', 'tripped', 'resumed', 'disposed'];
      expect(events).toEqual(['admitted', 'queued', 'withdrawn', 'refused', 'raised', 'reset', ...ends]);
    }));

  it('alerts at fractions of one’s own, which children take over', () => {
    const fleet = new FleetBudget({ microUsd: 100, alerts: [1, 0.5, 0.5] });
    const agent = fleet.child('agent', { microUsd: 10 });
    const told: string[] = [];
    fleet.events$.subscribe((event) => event.type === 'alert' && told.push(`${event.path.join('/')} ${event.fraction}`));
    for (let i = 0; i < 10; i++)
      of(1)
        .pipe(fleetBudget(agent, { estimate: 1, actual: (cost) => cost }))
        .subscribe();
    expect(told).toEqual(['budget/agent 0.5', 'budget/agent 1']);
    fleet.child('quiet', { microUsd: 1, alerts: [] });
  });

  it('state$ is the picture of now, and again after each event', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const states: string[] = [];
    const watching = fleet.state$
      .pipe(map(({ microUsd: { spent, reserved } }) => `${spent}+${reserved}`))
      .subscribe((state) => states.push(state));
    of(5)
      .pipe(fleetBudget(fleet, { estimate: 10, actual: (cost) => cost }))
      .subscribe();
    watching.unsubscribe();
    expect(states).toEqual(['0+0', '0+10', '5+0']);
  });

  it('an observer of events that throws holds nobody up', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      fleet.events$.subscribe(() => {
        throw new Error('bug');
      });
      const seen: number[] = [];
      merge(of(1).pipe(ten(fleet)), of(2).pipe(ten(fleet))).subscribe((value) => seen.push(value));
      expect(seen).toEqual([1, 2]);
      flush();
    }));

  it('an observer may trip the budget as a call is admitted: the call never starts', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    fleet.events$.subscribe((event) => event.type === 'admitted' && fleet.trip('no more'));
    let started = 0;
    const error = errorOf(defer(() => of(++started)).pipe(ten(fleet)));
    expect(error).toMatchObject({ code: 'BUDGET_TRIPPED' });
    expect([started, books(fleet), fleet.snapshot().inFlight]).toEqual([0, '0+0', 0]);
  });

  it('the same when it came from the line', () =>
    virtual(({ flush, at }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const errors: string[] = [];
      const holder = NEVER.pipe(ten(fleet)).subscribe();
      for (let i = 0; i < 3; i++)
        of(1)
          .pipe(ten(fleet))
          .subscribe({ error: (error: unknown) => errors.push(brief(error)) });
      fleet.events$.subscribe((event: GateEvent) => event.type === 'admitted' && fleet.trip('no more'));
      at(3, () => holder.unsubscribe());
      flush();
      expect(errors).toHaveLength(3);
      expect(fleet.snapshot()).toMatchObject({ inFlight: 0, waiting: 0 });
    }));
});

describe('tripping a budget', () => {
  it('#2.3 stops the calls of that node and below: all are torn down before any is told, in order', () =>
    virtual(({ note, lines, flush, at }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 1000 });
      const agent = fleet.child('agent', { microUsd: 100 });
      const [task, other] = [agent.child('task', { microUsd: 100 }), fleet.child('other', { microUsd: 100 })];
      const events = types(fleet);
      const call = (name: string, budget: BudgetNode): void => {
        torn(() => note(`${name} torn`))
          .pipe(fleetBudget(budget, { estimate: 30 }))
          .subscribe({ error: (error: unknown) => note(`${name}: ${(error as { code: string }).code}`) });
      };
      call('a', task);
      call('b', other);
      call('c', agent);
      call('d', task);
      of(1)
        .pipe(fleetBudget(task, { estimate: 30, onExceed: 'wait' }))
        .subscribe({ error: (error: unknown) => note(`waiting: ${brief(error)}`) });
      at(5, () => agent.trip('runaway'));
      at(9, () => fleet.dispose({ cancelInFlight: true }));
      flush();
      const message = 'Budget "fleet > agent" was tripped, so this call was stopped: "runaway"';
      expect(lines).toEqual([
        '5 a torn',
        '5 c torn',
        '5 d torn',
        '5 a: BUDGET_TRIPPED',
        '5 c: BUDGET_TRIPPED',
        '5 d: BUDGET_TRIPPED',
        `5 waiting: ${message}`,
        '9 b torn',
        '9 b: RESOURCE_DISPOSED',
      ]);
      expect(books(agent)).toBe('90+0');
      expect(events.filter((type) => type === 'tripped')).toEqual(['tripped']);
    }));

  it('#2.3 tells how many calls it stopped, and why', () => {
    const fleet = new FleetBudget({ name: 'fleet', microUsd: 1000 });
    let told: GateEvent | undefined;
    const kinds = types(fleet);
    fleet.events$.subscribe((event) => (told = event));
    for (let i = 0; i < 15; i++) NEVER.pipe(ten(fleet)).subscribe({ error: () => undefined });
    fleet.trip('runaway');
    expect(kinds.filter((kind) => kind === 'revoked')).toHaveLength(15);
    expect(told).toMatchObject({ type: 'tripped', cancelled: 15, cause: 'runaway', path: ['fleet'] });
    expect(fleet.snapshot()).toMatchObject({ inFlight: 0, tripped: true });
  });

  it('lets nobody in before it is resumed, the other nodes go on', () => {
    const fleet = new FleetBudget({ microUsd: 1000 });
    const [agent, other] = [fleet.child('agent', { share: 0.5 }), fleet.child('other', { share: 0.5 })];
    const task = agent.child('task', { share: 1 });
    agent.trip(new Error('runaway'));
    expect(errorOf(of(1).pipe(ten(task)))).toMatchObject({ code: 'BUDGET_TRIPPED', path: ['budget', 'agent'] });
    expect(errorOf(of(1).pipe(ten(other)))).toBeUndefined();
    agent.resume();
    expect(errorOf(of(1).pipe(ten(task)))).toBeUndefined();
  });

  it('a victim that subscribes again in its handler is refused; one that another unsubscribes is skipped', () => {
    const fleet = new FleetBudget({ microUsd: 1000 });
    const heard: string[] = [];
    const second = new Subject<void>();
    NEVER.pipe(ten(fleet)).subscribe({
      error: () => {
        heard.push('a');
        second.next();
        heard.push((errorOf(of(1).pipe(ten(fleet))) as { code: string }).code);
      },
    });
    const b = NEVER.pipe(ten(fleet)).subscribe({ error: () => heard.push('b') });
    second.subscribe(() => b.unsubscribe());
    fleet.trip('x');
    expect(heard).toEqual(['a', 'BUDGET_TRIPPED']);
  });

  it('a waiting call that a victim’s handler unsubscribes is not told', () => {
    const fleet = new FleetBudget({ microUsd: 10 });
    const heard: string[] = [];
    const waiting = new Subscription();
    NEVER.pipe(ten(fleet)).subscribe({ error: () => waiting.unsubscribe() });
    waiting.add(NEVER.pipe(ten(fleet)).subscribe({ error: () => heard.push('waiting') }));
    fleet.trip('x');
    expect(heard).toEqual([]);
    expect(fleet.snapshot()).toMatchObject({ inFlight: 0, waiting: 0 });
  });

  it('whoever waits elsewhere for what the victims held comes in', () =>
    virtual(({ flush, at, now }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const [agent, other] = [fleet.child('agent', { share: 1 }), fleet.child('other', { share: 1 })];
      const seen: number[] = [];
      NEVER.pipe(ten(agent)).subscribe({ error: () => undefined });
      of(1)
        .pipe(ten(agent))
        .subscribe({ error: () => undefined });
      of(1)
        .pipe(ten(other))
        .subscribe(() => seen.push(now()));
      at(5, () => agent.trip('x'));
      flush();
      expect(seen).toEqual([5]);
    }));

  it('so does whoever waits behind one that was tripped', () =>
    virtual(({ flush, at, now }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const [agent, other] = [fleet.child('agent', { share: 1 }), fleet.child('other', { share: 1 })];
      const seen: string[] = [];
      const holder = NEVER.pipe(ten(other, { estimate: 5 })).subscribe();
      NEVER.pipe(ten(agent)).subscribe({ error: () => seen.push(`${now()} tripped`) });
      of(1)
        .pipe(ten(other, { estimate: 5 }))
        .subscribe(() => seen.push(`${now()} in`));
      at(5, () => agent.trip('x'));
      at(6, () => holder.unsubscribe());
      flush();
      expect(seen).toEqual(['5 tripped', '5 in']);
    }));
});

describe('disposing of a budget', () => {
  it('queued calls error, later ones too, those in flight go on', () =>
    virtual(({ watch, lines, at, flush }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 10 });
      watch(later(5, 'a').pipe(ten(fleet)), 'a');
      watch(later(5, 'b').pipe(ten(fleet)), 'b');
      at(2, () => fleet.dispose());
      at(3, () => watch(of('c').pipe(ten(fleet)), 'c'));
      flush();
      expect(lines).toEqual([
        '2 b error Gate "fleet" has been disposed.',
        '3 c error Gate "fleet" has been disposed.',
        '5 a next a',
        '5 a complete',
      ]);
      expect(() => fleet.child('x', { usd: 1 })).toThrow('has been disposed');
    }));

  it('a child: its parent forgets it and keeps what it has spent; its name is free again', () =>
    virtual(({ flush, watch, lines, at }) => {
      const fleet = new FleetBudget({ name: 'fleet', microUsd: 100 });
      const agent = fleet.child('agent', { microUsd: 50 });
      const task = agent.child('task', { microUsd: 50 });
      watch(later(5, 7).pipe(fleetBudget(task, { estimate: 20, actual: (cost) => cost })), 'a');
      at(1, () => agent.dispose());
      at(1, () => expect(fleet.snapshot().children).toEqual([]));
      at(2, () => watch(of(1).pipe(ten(task)), 'late'));
      at(3, () => fleet.child('agent', { microUsd: 10 }));
      flush();
      expect(lines).toEqual(['2 late error Gate "agent" has been disposed.', '5 a next 7', '5 a complete']);
      expect([books(fleet), books(agent), fleet.snapshot().inFlight]).toEqual(['7+0', '7+0', 0]);
    }));

  it('a child with calls in flight, cancelling them: only its own', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const agent = fleet.child('agent', { microUsd: 50 });
    const errors: string[] = [];
    const other = NEVER.pipe(ten(fleet)).subscribe({ error: () => errors.push('other') });
    NEVER.pipe(ten(agent)).subscribe({ error: (error: unknown) => errors.push(brief(error)) });
    agent[Symbol.dispose]();
    expect(errors).toEqual([]);
    agent.dispose({ cancelInFlight: true });
    expect(errors).toEqual(['Gate "agent" has been disposed.']);
    other.unsubscribe();
  });
});

describe('a budget that many share', () => {
  it('forgets the children that were disposed of', () => {
    const fleet = new FleetBudget({ microUsd: 10 });
    for (let i = 0; i < 100; i++) fleet.child('one of many', { share: 1 }).dispose();
    const { ledger } = fleet as unknown as { readonly ledger: { readonly children: Set<unknown> } };
    expect([ledger.children.size, fleet.snapshot().children.length]).toEqual([0, 0]);
  });

  it('asks for no wake-up where nobody can come in', () =>
    virtual(({ scheduler, flush }) => {
      const fleet = new FleetBudget({ microUsd: 100 });
      const full = fleet.child('full', { microUsd: 10 });
      const calls = [full, full, fleet].map((budget) => NEVER.pipe(ten(budget)).subscribe());
      calls[2]!.unsubscribe();
      expect([fleet.snapshot().waiting, scheduler.actions.length]).toEqual([1, 0]);
      for (const call of calls) call.unsubscribe();
      flush();
    }));

  it('a lease settles once, whoever calls it', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const leases: Lease<unknown>[] = [];
    const caller = { granted: (lease: Lease<unknown>) => leases.push(lease), refused: () => undefined, revoked: () => undefined };
    const call = { scope: { path: [] }, attempt: 1, started: true, heldAbove: () => undefined } as unknown as Call;
    const withdraw = fleet.enter({ estimate: 10 }, call, caller);
    for (const kind of ['completed', 'failed', 'cancelled'] as const) leases[0]!.settle({ kind, started: true, emitted: 0 });
    withdraw();
    leases[0]!.report?.(50);
    expect(fleet.snapshot()).toMatchObject({ inFlight: 0, calls: { spent: 1 }, microUsd: { spent: 10, reserved: 0 } });
  });

  it('needs no timer: not while it waits, not when it is idle', () =>
    virtual(({ scheduler, flush }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const holder = NEVER.pipe(ten(fleet)).subscribe();
      const waiting = [1, 2, 3].map(() => NEVER.pipe(ten(fleet)).subscribe());
      expect(scheduler.actions).toHaveLength(0);
      waiting[0]!.unsubscribe();
      holder.unsubscribe();
      expect(scheduler.actions).toHaveLength(1);
      waiting[1]!.unsubscribe();
      waiting[2]!.unsubscribe();
      expect(scheduler.actions.filter((action) => !action.closed)).toHaveLength(0);
      flush();
    }));

  it('#16 a newcomer does not pass those who wait, also between a release and the next grant', () =>
    virtual(({ watch, lines, at, flush }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      const holder = NEVER.pipe(ten(fleet)).subscribe();
      watch(of('first').pipe(ten(fleet)), '1');
      at(2, () => {
        holder.unsubscribe();
        watch(of('second').pipe(ten(fleet)), '2');
        watch(of('third').pipe(ten(fleet, { onExceed: 'error' })), '3');
      });
      flush();
      expect(lines).toEqual([
        '2 3 error Budget "budget" refuses $0.000010: $0.000000 spent and $0.000000 reserved of $0.000010, and 2 calls wait in front.',
        '2 1 next first',
        '2 1 complete',
        '2 2 next second',
        '2 2 complete',
      ]);
    }));

  it('#11 100,000 synchronous calls behind one that takes a while use no stack, and 100,000 withdrawals cost little', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ microUsd: 10 });
      let seen = 0;
      later(1, 'x').pipe(ten(fleet)).subscribe();
      for (let i = 0; i < 50_000; i++)
        of(i)
          .pipe(ten(fleet))
          .subscribe(() => seen++);
      const leaving: Subscription[] = [];
      for (let i = 0; i < 50_000; i++)
        leaving.push(
          of(i)
            .pipe(ten(fleet))
            .subscribe(() => seen++),
        );
      for (const each of leaving) each.unsubscribe();
      expect(fleet.snapshot().waiting).toBe(50_000);
      flush();
      expect(seen).toBe(50_000);
      for (let i = 0; i < 100_000; i++)
        of(i)
          .pipe(ten(fleet))
          .subscribe(() => seen++);
      expect(seen).toBe(150_000);
      expect(books(fleet)).toBe('0+0');
    }));

  it('calls that are made from inside a call’s handlers come in turn', () => {
    const fleet = new FleetBudget({ microUsd: 10 });
    const seen: string[] = [];
    const make = (name: string, next?: () => void): void =>
      void of(name)
        .pipe(ten(fleet))
        .subscribe((value) => {
          seen.push(value);
          next?.();
        });
    make('a', () => {
      make('b', () => make('d'));
      make('c');
      expect(fleet.snapshot()).toMatchObject({ inFlight: 1, waiting: 2 });
    });
    expect(seen).toEqual(['a', 'b', 'c', 'd']);
  });

  it('a full agent does not hold up the others', () => {
    const fleet = new FleetBudget({ microUsd: 100 });
    const [one, two] = [fleet.child('one', { microUsd: 10 }), fleet.child('two', { microUsd: 50 })];
    const seen: string[] = [];
    const holder = NEVER.pipe(ten(one)).subscribe();
    of('one')
      .pipe(ten(one))
      .subscribe((value) => seen.push(value));
    of('two')
      .pipe(ten(two))
      .subscribe((value) => seen.push(value));
    expect(seen).toEqual(['two']);
    holder.unsubscribe();
    expect(fleet.snapshot().waiting).toBe(1);
    one.raise({ microUsd: 1 });
    expect(seen).toEqual(['two', 'one']);
  });

  it('works before and after a virtual time, and with a clock that is set back', () => {
    const fleet = new FleetBudget({ microUsd: 10 });
    const seen: number[] = [];
    const holder = NEVER.pipe(ten(fleet)).subscribe();
    of(1)
      .pipe(ten(fleet))
      .subscribe((value) => seen.push(value));
    virtual(({ flush, at }) => {
      of(2)
        .pipe(ten(fleet))
        .subscribe((value) => seen.push(value));
      at(3, () => holder.unsubscribe());
      flush();
    });
    expect(seen).toEqual([1, 2]);
  });

  it('a function of the user’s that fails where nobody can be told is reported as uncaught; the call is charged', () =>
    virtual(({ flush }) => {
      const fleet = new FleetBudget({ microUsd: 100 });
      const bug = new Error('bug');
      const onCancel = (): never => {
        throw bug;
      };
      const call = concat(of(1), NEVER).pipe(fleetBudget(fleet, { estimate: 10, onCancel }));
      call.subscribe().unsubscribe();
      expect(books(fleet)).toBe('10+0');
      expect(flush).toThrow(bug);
    }));

  it('an onCancel that calls back in finds the books in order', () => {
    const fleet = new FleetBudget({ microUsd: 20 });
    const seen: string[] = [];
    of('x')
      .pipe(ten(fleet, { estimate: 15 }))
      .subscribe((value) => seen.push(value));
    const onCancel = (): number => {
      seen.push(books(fleet));
      fleet.raise({ microUsd: 15 });
      return 3;
    };
    const holder = NEVER.pipe(ten(fleet, { onCancel })).subscribe();
    of('y')
      .pipe(ten(fleet, { estimate: 15 }))
      .subscribe((value) => seen.push(value));
    holder.unsubscribe();
    expect(seen).toEqual(['x', '0+10', 'y']);
    expect(books(fleet)).toBe('3+0');
  });

  it('#56 refused by a gate further in, after it was admitted: every node gets all back', () => {
    const fleet = new FleetBudget({ microUsd: 100, calls: 5 });
    const agent = fleet.child('agent', { tokens: 5 });
    const full = new Semaphore({ limit: 1 });
    const error = errorOf(
      of(1).pipe(
        bulkhead(full, () => ({ permits: 2 })),
        ten(agent, { estimate: { microUsd: 9, tokens: 5 } }),
      ),
    );
    expect(error).toMatchObject({ code: 'PERMITS_EXCEED_LIMIT' });
    for (const { microUsd, tokens, calls } of [fleet.snapshot(), agent.snapshot()])
      expect([microUsd, tokens, calls].map(({ spent, reserved }) => spent + reserved)).toEqual([0, 0, 0]);
  });
});

it('nothing else was reported as unhandled', () => expect(reported.map(String)).toEqual(reported.map(() => 'Error: bug')));
