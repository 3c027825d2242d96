import fc from 'fast-check';
import { Observable, Subject, type SchedulerLike, type Subscription } from 'rxjs';
import { openScopes } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import type { CircuitBreakerOptions } from '../../src/gates/breakerOptions.js';
import { CircuitBreaker, type Isolation } from '../../src/gates/circuitBreaker.js';
import { circuitBreak } from '../../src/operators/circuitBreak.js';
import { BreakerModel, type ModelRules } from './breakerModel.js';

/** A clock that can be set to anything; its tasks run when `run` finds them due. */
class Jumpy implements SchedulerLike {
  at = 1_000_000;
  private tasks: { readonly due: number; readonly run: () => void; gone: boolean }[] = [];

  now(): number {
    return this.at;
  }

  schedule: SchedulerLike['schedule'] = ((work: () => void, delay = 0): Pick<Subscription, 'unsubscribe'> => {
    const task = { due: this.at + delay, run: work, gone: false };
    this.tasks.push(task);
    return { unsubscribe: () => (task.gone = true) };
  }) as never;

  get pending(): number {
    return this.tasks.filter(({ gone }) => !gone).length;
  }

  run(): void {
    for (;;) {
      const due = this.tasks.find((task) => !task.gone && task.due <= this.at);
      if (due === undefined) return;
      due.gone = true;
      due.run();
    }
  }
}

type End = 'complete' | 'server error' | 'bad request' | 'unsubscribe';

type Step =
  | { readonly do: 'call'; readonly immediate: End | 'value' | undefined }
  | { readonly do: 'value'; readonly which: number }
  | { readonly do: 'end'; readonly which: number; readonly end: End }
  | { readonly do: 'wait' | 'jump'; readonly ms: number }
  | { readonly do: 'trip' | 'reset' | 'isolate' | 'restore' };

const ends = fc.constantFrom<End>('complete', 'server error', 'server error', 'bad request', 'unsubscribe');
const which = fc.nat(20);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('call' as const),
      immediate: fc.oneof(fc.constant(undefined), fc.constant('value' as const), ends),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('value' as const), which }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('end' as const), which, end: ends }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 4, 10, 30, 500) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('jump' as const), ms: fc.constantFrom(-1_000_000, -7, 1_000_000_000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('trip' as const, 'reset' as const, 'isolate' as const, 'restore' as const) }) },
);

const rulesOf: fc.Arbitrary<ModelRules> = fc.record({
  kind: fc.constantFrom('consecutive' as const, 'count' as const, 'time' as const),
  size: fc.integer({ min: 3, max: 40 }),
  min: fc.integer({ min: 1, max: 3 }),
  rate: fc.constantFrom(0.34, 0.5, 1),
  slowMs: fc.constantFrom(5, 10, 1000),
  slowRate: fc.constantFrom(0.5, 1),
  probes: fc.integer({ min: 1, max: 3 }),
  probeMaxMs: fc.constantFrom(10, 40),
  openMs: fc.constantFrom(4, 30),
});

function optionsOf({ kind, size, min, rate, slowMs, slowRate, probes, probeMaxMs, openMs }: ModelRules): CircuitBreakerOptions {
  const limits = kind === 'consecutive' ? { failures: min } : { window: { kind, size, min, rate, slowMs, slowRate } };
  return { ...limits, probes, probeMaxMs, openMs };
}

/** One call, and what was seen of it. */
interface Run {
  readonly source: Subject<string>;
  readonly seen: string[];
  /** How often the source was subscribed, and is now. */
  made: number;
  live: number;
  subscription: Subscription | undefined;
  /** What the model thinks of it. */
  state: 'live' | 'over';
  values: number;
}

const BAD: Readonly<Record<string, object>> = { 'server error': { status: 500 }, 'bad request': { status: 400 } };

class World {
  readonly scheduler: Jumpy = new Jumpy();
  readonly runs: Run[] = [];
  readonly model: BreakerModel;
  readonly circuit: CircuitBreaker;
  private readonly handles: Isolation[] = [];
  /** The time of the model, which no jump sets back. */
  private time = 0;
  private readonly open: number = openScopes().length;

  constructor(
    rules: ModelRules,
    private readonly cancelInFlight: boolean,
  ) {
    const consecutive = rules.kind === 'consecutive';
    this.model = new BreakerModel(consecutive ? { ...rules, size: rules.min } : rules);
    this.circuit = new CircuitBreaker({ ...optionsOf(rules), cancelInFlight, scheduler: this.scheduler });
    this.time = this.scheduler.at;
  }

  do(step: Step): void {
    const at = 'which' in step ? this.pick(step.which) : -1;
    const run = this.runs[at];
    if (step.do === 'wait' || step.do === 'jump') this.pass(step.ms);
    else if (step.do === 'call') this.call(step.immediate);
    else if (step.do === 'value') {
      if (run !== undefined) this.value(run);
    } else if (step.do === 'end') {
      if (run !== undefined) this.end(run, at, step.end);
    } else this.act(step.do);
    this.scheduler.run();
  }

  private pass(ms: number): void {
    this.scheduler.at += ms;
    // The gate has to look at the clock to see that it was set back.
    this.circuit.snapshot();
    this.time += Math.max(0, ms);
  }

  private act(what: 'trip' | 'reset' | 'isolate' | 'restore'): void {
    if (what === 'restore') {
      const handle = this.handles.pop();
      if (handle === undefined) return;
      handle.dispose();
      handle.dispose();
      this.model.restore();
    } else if (what === 'isolate') {
      this.handles.push(this.circuit.isolate());
      if (this.cancelInFlight) this.sweep('CircuitIsolatedError');
      this.model.isolate();
    } else if (what === 'reset') {
      this.circuit.reset();
      this.model.reset();
    } else {
      this.circuit.trip('by hand');
      this.watchTrips(() => this.model.trip(this.time));
    }
  }

  private pick(which: number): number {
    const live = [...this.runs.keys()].filter((at) => this.runs[at]?.state === 'live');
    return live[which % live.length] ?? -1;
  }

  /** Calls that the model thinks were stopped. */
  private sweep(error: string): void {
    this.runs.forEach((run, at) => {
      if (run.state !== 'live') return;
      run.state = 'over';
      this.model.dismiss(at);
      expect(run.seen[run.seen.length - 1]).toBe(error);
    });
  }

  private watchTrips(task: () => void): void {
    const { trips } = this.model;
    task();
    if (this.model.trips > trips && this.cancelInFlight) this.sweep('CircuitTrippedError');
  }

  private call(immediate: Step extends infer S ? (S extends { immediate: infer I } ? I : never) : never): void {
    const at = this.runs.length;
    const run: Run = { source: new Subject(), seen: [], made: 0, live: 0, subscription: undefined, state: 'live', values: 0 };
    this.runs.push(run);
    const source = new Observable<string>((out) => {
      run.made++;
      run.live++;
      const inner = run.source.subscribe(out);
      out.add(() => run.live--);
      if (immediate === 'value') run.source.next('value');
      else if (immediate === 'complete') run.source.complete();
      else if (immediate !== undefined && immediate !== 'unsubscribe') run.source.error(BAD[immediate]);
      return inner;
    });
    run.state = 'over';
    run.subscription = source.pipe(circuitBreak(this.circuit)).subscribe({
      next: (value) => run.seen.push(value),
      error: (error: Error) => run.seen.push(error instanceof Error ? error.name : JSON.stringify(error)),
      complete: () => run.seen.push('complete'),
    });
    let entered = false;
    this.watchTrips(() => (entered = this.model.enter(at, this.time)));
    expect(run.made).toBe(entered ? 1 : 0);
    if (!entered) {
      expect(run.seen).toEqual([this.model.phase === 'isolated' ? 'CircuitIsolatedError' : 'CircuitOpenError']);
      return;
    }
    run.state = 'live';
    this.model.begin(at, this.time);
    if (immediate === 'value') run.values++;
    else if (immediate !== undefined) this.end(run, at, immediate, true);
  }

  private value(run: Run): void {
    run.source.next('value');
    run.values++;
    expect(run.seen).toHaveLength(run.values);
  }

  private end(run: Run, at: number, end: End, done = false): void {
    if (end === 'unsubscribe') run.subscription?.unsubscribe();
    else if (!done && end === 'complete') run.source.complete();
    else if (!done) run.source.error(BAD[end]);
    run.state = 'over';
    const outcome =
      end === 'server error' ? 'failure' : end === 'complete' || (end === 'unsubscribe' && run.values > 0) ? 'success' : 'neutral';
    this.watchTrips(() => this.model.end(at, outcome, end === 'unsubscribe', this.time));
    const last = { complete: 'complete', unsubscribe: 'value', 'server error': '{"status":500}', 'bad request': '{"status":400}' }[end];
    if (end !== 'unsubscribe' || run.values > 0) expect(run.seen[run.seen.length - 1]).toBe(last);
  }

  check(): void {
    const { model, circuit, runs } = this;
    const { state, generation, attempt, lateResults, probing, inFlight, total, failed, slow, waiting } = circuit.snapshot();
    expect({ state, generation, attempt, lateResults, probing, total, failed, slow, waiting }).toEqual({
      state: model.phase,
      generation: model.generation,
      attempt: model.attempt,
      lateResults: model.late,
      probing: model.probesOut,
      ...model.counts(this.time),
      waiting: 0,
    });
    const live = runs.filter((run) => run.state === 'live');
    expect(inFlight).toBe(live.length);
    expect(runs.map((run) => run.live)).toEqual(runs.map((run) => (run.state === 'live' ? 1 : 0)));
    for (const run of runs) expect(run.made).toBeLessThanOrEqual(1);
    expect(this.scheduler.pending).toBe(0);
  }

  finish(): void {
    for (const run of this.runs) run.subscription?.unsubscribe();
    this.scheduler.run();
    expect([this.circuit.snapshot().inFlight, this.scheduler.pending, openScopes().length]).toEqual([0, 0, this.open]);
  }
}

describe('a breaker against a model, with random calls, ends, unsubscribes, trips and clock jumps', () => {
  it.each([true, false])(
    'with cancelInFlight %s both agree after every step, and no timer is ever needed',
    (cancelInFlight) => {
      fc.assert(
        fc.property(rulesOf, fc.array(step, { maxLength: 80, size: 'max' }), (rules, steps) => {
          const world = new World(rules, cancelInFlight);
          for (const each of steps) {
            world.do(each);
            world.check();
          }
          world.finish();
        }),
        { numRuns: 150 },
      );
    },
    60_000,
  );

  it('where calls wait for probes, each is answered once, nobody is let in past the probes, and nothing is left', () => {
    fc.assert(
      fc.property(rulesOf, fc.array(step, { maxLength: 80, size: 'max' }), (rules, steps) => {
        const scheduler = new Jumpy();
        const open = openScopes().length;
        const circuit = new CircuitBreaker({ ...optionsOf(rules), whileProbing: 'queue', scheduler });
        const runs: Run[] = [];
        const handles: Isolation[] = [];
        for (const each of steps) {
          const live = runs.filter(({ state }) => state === 'live');
          const run = 'which' in each ? live[each.which % live.length] : undefined;
          if (each.do === 'wait' || each.do === 'jump') scheduler.at += each.ms;
          else if (each.do === 'trip' || each.do === 'reset') circuit[each.do]();
          else if (each.do === 'isolate') handles.push(circuit.isolate());
          else if (each.do === 'restore') handles.pop()?.dispose();
          else if (each.do === 'call') {
            const one: Run = { source: new Subject(), seen: [], made: 0, live: 0, subscription: undefined, state: 'live', values: 0 };
            runs.push(one);
            const source = new Observable<string>((out) => {
              one.made++;
              one.live++;
              out.add(() => one.live--);
              return one.source.subscribe(out);
            });
            const ended = (): void => {
              one.values++;
              one.state = 'over';
            };
            one.subscription = source.pipe(circuitBreak(circuit)).subscribe({ error: ended, complete: ended });
          } else if (run === undefined || !('which' in each)) continue;
          else if (each.do === 'value') run.source.next('value');
          else if (each.end === 'unsubscribe') {
            run.subscription?.unsubscribe();
            run.state = 'over';
          } else if (run.made === 1) {
            if (each.end === 'complete') run.source.complete();
            else run.source.error(BAD[each.end]);
          }
          scheduler.run();
          const { state, probing, waiting, inFlight } = circuit.snapshot();
          expect(runs.filter((one) => one.state === 'live').length).toBe(inFlight + waiting);
          expect(runs.filter((one) => one.live > 0).length).toBe(inFlight);
          expect(probing).toBeLessThanOrEqual(rules.probes);
          if (waiting > 0) expect([state, scheduler.pending]).toEqual(['halfOpen', 1]);
          else expect(scheduler.pending).toBe(0);
          for (const one of runs)
            expect([one.made <= 1, one.values <= 1, one.state === 'over' || one.values === 0]).toEqual([true, true, true]);
        }
        for (const one of runs) one.subscription?.unsubscribe();
        scheduler.run();
        expect([circuit.snapshot().inFlight, circuit.snapshot().waiting, scheduler.pending, openScopes().length]).toEqual([0, 0, 0, open]);
      }),
      { numRuns: 150 },
    );
  }, 60_000);
});
