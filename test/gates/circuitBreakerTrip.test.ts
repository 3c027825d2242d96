import { defer, from, merge, NEVER, Observable, of, Subject, throwError, type Subscription } from 'rxjs';
import { fanOutScoped, scoped, type ScopeContext } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { CircuitBreaker } from '../../src/gates/circuitBreaker.js';
import type { CircuitBreakerOptions } from '../../src/gates/breakerOptions.js';
import { isCircuitIsolatedError, isCircuitOpenError, isCircuitTrippedError } from '../../src/gates/errors.js';
import { circuitBreak } from '../../src/operators/circuitBreak.js';
import { failing, pause, torn, virtual, type Virtual } from '../support/virtual.js';

const boom = new Error('boom');

function short(error: unknown): string {
  if (isCircuitTrippedError(error)) return 'tripped';
  if (isCircuitOpenError(error)) return 'open';
  return isCircuitIsolatedError(error) ? 'isolated' : (error as Error).message;
}

/** Calls that run until they are told to fail, with a journal of what happens to each. */
class Fleet {
  readonly circuit: CircuitBreaker;
  readonly calls: Map<string, Subscription> = new Map();
  readonly guilty: Subject<never> = new Subject();
  readonly lines: string[];

  constructor(
    private readonly test: Virtual,
    options: CircuitBreakerOptions = {},
  ) {
    this.lines = test.lines;
    this.circuit = new CircuitBreaker({ name: 'model', failures: 1, openMs: 10, ...options });
  }

  readonly note = (what: string): void => this.test.note(what);

  start(name: string, source: Observable<unknown> = NEVER, onError: () => void = () => undefined): void {
    const call = torn(() => this.note(`${name} torn`), source).pipe(circuitBreak(this.circuit));
    const subscription = call.subscribe({
      error: (error: unknown) => {
        this.note(`${name} ${short(error)}`);
        onError();
      },
    });
    this.calls.set(name, subscription);
  }

  /** The guilty call fails. */
  fail(): void {
    this.guilty.error(boom);
  }
}

describe('a breaker that trips', () => {
  it('#49 tears down every victim, then tells each in the order of subscription, all in one frame; the guilty call is last', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      fleet.start('one');
      fleet.start('guilty', failing(5, boom));
      fleet.start('two', NEVER, () => fleet.start('again', of('never made')));
      test.flush();
      expect(fleet.lines).toEqual([
        '5 guilty torn',
        '5 one torn',
        '5 two torn',
        '5 one tripped',
        '5 two tripped',
        '5 again open',
        '5 guilty boom',
      ]);
    }));

  it('15 calls in flight are cancelled in the same turn of the event loop as the trip', async () => {
    const circuit = new CircuitBreaker({ name: 'model', failures: 5 });
    const aborted: number[] = [];
    const ended: string[] = [];
    let turn = 0;
    const call = (n: number): Observable<unknown> =>
      scoped((scope) =>
        scope.call(
          (signal) =>
            new Promise((_, reject) => {
              signal.addEventListener('abort', () => {
                aborted.push(turn);
                reject(signal.reason as Error);
              });
            }),
          { label: `paid ${n}` },
        ),
      ).pipe(circuitBreak(circuit));
    for (let n = 0; n < 15; n++) call(n).subscribe({ error: (error: unknown) => ended.push(short(error)) });
    for (let n = 0; n < 4; n++)
      throwError(() => boom)
        .pipe(circuitBreak(circuit))
        .subscribe({ error: () => undefined });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect([circuit.snapshot().inFlight, aborted]).toEqual([15, []]);
    const before = turn;
    setImmediate(() => turn++);
    throwError(() => boom)
      .pipe(circuitBreak(circuit))
      .subscribe({ error: () => ended.push('guilty') });
    expect(aborted).toEqual(new Array(15).fill(before));
    expect([circuit.state, circuit.snapshot().inFlight]).toEqual(['open', 0]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(ended.filter((end) => end === 'tripped')).toHaveLength(15);
    expect(ended).toHaveLength(16);
  });

  it('what 15 calls in flight would have cost after a trip is not spent, against going on with all of them', () => {
    const spent = (cancelInFlight: boolean): number => {
      let cost = 0;
      virtual(({ flush, scheduler }) => {
        const circuit = new CircuitBreaker({ failures: 5, cancelInFlight });
        const paid = new Observable<number>((out) => {
          const meter = scheduler.schedule(function (this: { schedule(state: number, delay: number): void }, n = 0) {
            cost++;
            if (n === 100) out.complete();
            else this.schedule(n + 1, 10);
          } as never);
          return () => meter.unsubscribe();
        });
        for (let n = 0; n < 15; n++) paid.pipe(circuitBreak(circuit)).subscribe({ error: () => undefined });
        for (let n = 1; n <= 5; n++)
          failing(5 * n, boom)
            .pipe(circuitBreak(circuit))
            .subscribe({ error: () => undefined });
        flush();
      });
      return cost;
    };
    expect([spent(false), spent(true)]).toEqual([15 * 101, 15 * 3]);
  });

  it('#2.1 a victim that an earlier victim’s handler unsubscribes hears nothing', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      fleet.start('one', NEVER, () => fleet.calls.get('two')?.unsubscribe());
      fleet.start('two');
      fleet.start('three');
      fleet.start('guilty', fleet.guilty);
      fleet.fail();
      expect(fleet.lines).toEqual([
        '0 guilty torn',
        '0 one torn',
        '0 two torn',
        '0 three torn',
        '0 one tripped',
        '0 three tripped',
        '0 guilty boom',
      ]);
    }));

  it('#2.1 a victim’s handler that unsubscribes the guilty call silences it, and nobody else', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      fleet.start('one', NEVER, () => fleet.calls.get('guilty')?.unsubscribe());
      fleet.start('two');
      fleet.start('guilty', fleet.guilty);
      fleet.fail();
      test.flush();
      expect(fleet.lines).toEqual(['0 guilty torn', '0 one torn', '0 two torn', '0 one tripped', '0 two tripped']);
      expect(fleet.circuit.snapshot()).toMatchObject({ state: 'open', inFlight: 0, attempt: 1 });
    }));

  it('victims that end while another victim is torn down are told their own end, and count for nothing', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      const shared = new Subject<string>();
      fleet.start(
        'one',
        torn(() => shared.error(new Error('dragged along'))),
      );
      fleet.start('two', shared);
      const done = new Subject<string>();
      fleet.start(
        'three',
        torn(() => done.complete()),
      );
      done
        .pipe(circuitBreak(fleet.circuit))
        .subscribe({ error: () => fleet.note('four error'), complete: () => fleet.note('four complete') });
      fleet.start('guilty', fleet.guilty);
      fleet.fail();
      test.flush();
      expect(fleet.lines).toEqual([
        '0 guilty torn',
        '0 two torn',
        '0 two dragged along',
        '0 one torn',
        '0 four complete',
        '0 three torn',
        '0 one tripped',
        '0 three tripped',
        '0 guilty boom',
      ]);
      expect(fleet.circuit.snapshot()).toMatchObject({ state: 'open', generation: 1, attempt: 1, lateResults: 0, inFlight: 0 });
    }));

  it.each(['reset', 'trip', 'isolate', 'dispose', 'call'] as const)('a victim’s handler may %s', (what) =>
    virtual((test) => {
      const fleet = new Fleet(test);
      const { circuit } = fleet;
      const events: string[] = [];
      circuit.events$.subscribe((event) => events.push(event.type === 'state' ? `${event.from}>${event.to}` : event.type));
      fleet.start('one', NEVER, () => {
        if (what === 'call') fleet.start('again');
        else circuit[what]();
        if (what === 'reset') fleet.start('again');
      });
      fleet.start('two');
      fleet.start('guilty', fleet.guilty);
      events.length = 0;
      fleet.fail();
      const again = { call: ['0 again open'], reset: [], trip: [], isolate: [], dispose: [] }[what];
      expect(fleet.lines).toEqual([
        '0 guilty torn',
        '0 one torn',
        '0 two torn',
        '0 one tripped',
        ...again,
        '0 two tripped',
        '0 guilty boom',
      ]);
      expect(circuit.state).toBe({ call: 'open', reset: 'closed', trip: 'open', isolate: 'isolated', dispose: 'open' }[what]);
      expect(circuit.snapshot().inFlight).toBe(what === 'reset' ? 1 : 0);
      expect(events.filter((event) => event.includes('>'))).toEqual(
        { call: ['closed>open'], reset: ['closed>closed'], trip: ['closed>open'], isolate: ['closed>isolated'], dispose: ['closed>open'] }[
          what
        ],
      );
      fleet.calls.get('again')?.unsubscribe();
    }),
  );

  it('two calls that fail in one frame trip it once: the second is a victim', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      fleet.start('one', fleet.guilty);
      fleet.start('two', fleet.guilty);
      fleet.fail();
      expect(fleet.lines).toEqual(['0 one torn', '0 two torn', '0 two tripped', '0 one boom']);
      expect(fleet.circuit.snapshot()).toMatchObject({ attempt: 1, generation: 1, lateResults: 0 });
    }));

  it('a source that fails while it is being subscribed trips it, and the calls before it are told first', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      fleet.start('one');
      fleet.start(
        'guilty',
        throwError(() => boom),
      );
      expect(fleet.lines).toEqual(['0 guilty torn', '0 one torn', '0 one tripped', '0 guilty boom']);
    }));

  it('a call around the guilty one, behind the same breaker, is a victim and is told once what is below has ended', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      const inner = defer(() => failing(3, boom).pipe(circuitBreak(fleet.circuit)));
      fleet.start('outer', from([1]).pipe(fanOutScoped(() => inner)));
      fleet.start('other');
      test.flush();
      expect(fleet.lines).toEqual(['3 outer torn', '3 other torn', '3 other tripped', '3 outer tripped']);
      expect(fleet.circuit.snapshot()).toMatchObject({ state: 'open', inFlight: 0, attempt: 1 });
    }));

  it('the calls of one fan-out are all stopped, and the fan-out fails with a victim’s error first and the guilty call’s last', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      let error: unknown;
      from([0, 1, 2])
        .pipe(fanOutScoped((n) => (n === 1 ? failing(3, boom) : torn(() => test.note(`${n} torn`))).pipe(circuitBreak(fleet.circuit))))
        .subscribe({ error: (reason: unknown) => (error = reason) });
      test.flush();
      expect(test.lines).toEqual(['3 0 torn', '3 2 torn']);
      expect((error as AggregateError).errors.map(short)).toEqual(['tripped', 'boom']);
      expect(fleet.circuit.snapshot()).toMatchObject({ state: 'open', inFlight: 0, attempt: 1 });
    }));

  it('a sweep whose first call trips it by a slow cancel leaves no other call counted twice', () =>
    virtual((test) => {
      const circuit = new CircuitBreaker({ window: { kind: 'count', size: 5, min: 1, rate: 1, slowMs: 5 } });
      const sub = from([0, 1, 2])
        .pipe(fanOutScoped(() => NEVER.pipe(circuitBreak(circuit)), { concurrency: 3 }))
        .subscribe({ error: () => test.note('error') });
      test.at(5, () => sub.unsubscribe());
      test.flush();
      expect(test.lines).toEqual([]);
      expect(circuit.snapshot()).toMatchObject({ state: 'open', attempt: 1, generation: 1, inFlight: 0, lateResults: 0 });
    }));

  it('with cancelInFlight false calls in flight go on, and their ends are late', () =>
    virtual((test) => {
      const fleet = new Fleet(test, { cancelInFlight: false });
      fleet.start('ok', pause(12));
      fleet.start('bad', failing(13, boom));
      fleet.start('guilty', failing(2, boom));
      test.at(12, () => fleet.start('probe', pause(5)));
      test.at(14, () => expect(fleet.circuit.snapshot()).toMatchObject({ state: 'halfOpen', lateResults: 2, inFlight: 1 }));
      test.flush();
      expect(fleet.lines).toEqual(['2 guilty torn', '2 guilty boom', '12 ok torn', '13 bad torn', '13 bad boom', '17 probe torn']);
      expect(fleet.circuit.state).toBe('closed');
    }));

  it('#44 a hung probe is stopped when it is given up', () =>
    virtual((test) => {
      const fleet = new Fleet(test, { openMs: 10 });
      fleet.circuit.trip();
      test.at(10, () => fleet.start('hung'));
      test.at(19, () => fleet.start('early', of(1)));
      test.at(20, () => fleet.start('late', of(1)));
      test.flush();
      expect(fleet.lines).toEqual(['19 early open', '20 hung torn', '20 hung tripped', '20 late open']);
      expect(fleet.circuit.snapshot()).toMatchObject({ state: 'open', attempt: 2 });
    }));

  it('trip(reason) stops what is in flight and says why; a second one finds nobody', () =>
    virtual((test) => {
      const fleet = new Fleet(test);
      const causes: unknown[] = [];
      NEVER.pipe(circuitBreak(fleet.circuit)).subscribe({ error: (error: Error) => causes.push(error.message, error.cause) });
      fleet.circuit.trip('maintenance');
      fleet.circuit.trip('again');
      expect(causes).toEqual([
        'Circuit breaker "model" tripped while this call was in flight, so it was stopped: "maintenance"',
        'maintenance',
      ]);
      expect(fleet.circuit.snapshot()).toMatchObject({ attempt: 2, generation: 2 });
    }));

  it('tells a large fleet in order, whatever its handlers do', () =>
    virtual(({ flush }) => {
      const circuit = new CircuitBreaker({ failures: 1 });
      const told: number[] = [];
      let refused = 0;
      const again = (): void =>
        void of(1)
          .pipe(circuitBreak(circuit))
          .subscribe({ error: () => refused++ });
      for (let n = 0; n < 10_000; n++) NEVER.pipe(circuitBreak(circuit)).subscribe({ error: () => (told.push(n), again()) });
      throwError(() => boom)
        .pipe(circuitBreak(circuit))
        .subscribe({ error: () => told.push(-1) });
      expect(told).toEqual([...new Array(10_000).keys(), -1]);
      expect(refused).toBe(10_000);
      flush();
    }));

  it('the cancel reason below a victim names the breaker', () =>
    virtual(() => {
      const circuit = new CircuitBreaker({ name: 'model' });
      let ctx: ScopeContext | undefined;
      scoped((scope) => {
        ctx = scope;
        return merge(NEVER, NEVER);
      })
        .pipe(circuitBreak(circuit))
        .subscribe({ error: () => undefined });
      const signal = ctx?.signal;
      circuit.trip();
      expect((signal?.reason as Error).message).toContain('gate model tripped');
    }));
});
