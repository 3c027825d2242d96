import fc from 'fast-check';
import { Observable, Subject, takeUntil, VirtualTimeScheduler, type SchedulerLike, type Subscription } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { TokenBucket } from '../../src/gates/tokenBucket.js';
import { tokenBucket } from '../../src/operators/tokenBucket.js';

/** What a call does once it has started. */
interface CallPlan {
  readonly cost: number;
  readonly priority: number;
  readonly key: string | undefined;
  readonly ends: 'completes' | 'fails' | 'never' | 'leaves';
  readonly afterMs: number;
  /** What it tells that it has used, if it tells. */
  readonly used: number | undefined;
  readonly onCancel: 'keep' | 'refund';
  /** Whom it unsubscribes when it starts, and whether there is another such call when it emits or is refused. */
  readonly drops: number | undefined;
  readonly again: boolean;
}

type Step =
  | { readonly do: 'call'; readonly plan: CallPlan }
  | { readonly do: 'advance' | 'jump' | 'pause' | 'unsubscribe' | 'sync'; readonly n: number }
  | { readonly do: 'drain' | 'dispose' };

interface Run {
  readonly capacity: number;
  readonly tokens: number;
  readonly everyMs: number;
  readonly maxQueue: number;
  readonly maxQueueCost: number;
  readonly maxWaitMs: number;
  readonly overflow: 'reject' | 'dropOldest';
  readonly steps: readonly Step[];
}

const plans = fc.record<CallPlan>({
  cost: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 22 })),
  priority: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: -1, max: 2 }) }),
  key: fc.option(fc.constantFrom('a', 'b'), { nil: undefined }),
  ends: fc.constantFrom('completes', 'fails', 'never', 'leaves'),
  afterMs: fc.nat(12),
  used: fc.option(fc.nat(30), { nil: undefined }),
  onCancel: fc.constantFrom('keep', 'refund'),
  drops: fc.option(fc.nat(30), { nil: undefined, freq: 6 }),
  again: fc.boolean(),
});

function stepsOf(...also: readonly fc.Arbitrary<Step>[]): fc.Arbitrary<Step[]> {
  const call = fc.record({ do: fc.constant('call' as const), plan: plans });
  const step = fc.oneof(
    { weight: 8, arbitrary: call },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('advance' as const), n: fc.nat(30) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('unsubscribe' as const), n: fc.nat(40) }) },
    ...also.map((arbitrary) => ({ weight: 1, arbitrary })),
  );
  return fc.array<Step>(step, { maxLength: 60 });
}

function runs(steps: fc.Arbitrary<Step[]>): fc.Arbitrary<Run> {
  return fc.record({
    capacity: fc.integer({ min: 1, max: 20 }),
    tokens: fc.integer({ min: 1, max: 7 }),
    everyMs: fc.integer({ min: 1, max: 15 }),
    maxQueue: fc.constantFrom(Infinity, Infinity, 3),
    maxQueueCost: fc.constantFrom(Infinity, Infinity, 15),
    maxWaitMs: fc.constantFrom(Infinity, Infinity, 25),
    overflow: fc.constantFrom('reject', 'dropOldest'),
    steps,
  });
}

const pauses = fc.record({ do: fc.constant('pause' as const), n: fc.nat(40) });
const syncs = fc.record({ do: fc.constant('sync' as const), n: fc.integer({ min: -20, max: 20 }) });
const drains = fc.constant<Step>({ do: 'drain' });
const disposals = fc.constant<Step>({ do: 'dispose' });
const jumps = fc.record({ do: fc.constant('jump' as const), n: fc.integer({ min: -1000, max: 200 }) });

/** The same level, kept in another way: in parts of a token, with numbers of any size. */
class Shadow {
  private parts: bigint;
  private at = 0;

  constructor(private readonly plan: Pick<Run, 'capacity' | 'tokens' | 'everyMs'>) {
    this.parts = this.full;
  }

  private get full(): bigint {
    return BigInt(this.plan.capacity) * BigInt(this.plan.everyMs);
  }

  private bound(parts: bigint): void {
    this.parts = parts > this.full ? this.full : parts < -this.full ? -this.full : parts;
  }

  level(now: number): number {
    this.bound(this.parts + BigInt(now - this.at) * BigInt(this.plan.tokens));
    this.at = now;
    const every = BigInt(this.plan.everyMs);
    const rest = ((this.parts % every) + every) % every;
    return Number((this.parts - rest) / every);
  }

  add(now: number, tokens: number): void {
    const value = this.level(now) + tokens;
    if (value < -this.plan.capacity) this.set(now, -this.plan.capacity, true);
    else this.bound(this.parts + BigInt(tokens) * BigInt(this.plan.everyMs));
  }

  /** Without what has been refilled of the next token, or with it. */
  set(now: number, tokens: number, keep = false): void {
    const rest = this.parts - BigInt(this.level(now)) * BigInt(this.plan.everyMs);
    this.bound(BigInt(tokens) * BigInt(this.plan.everyMs) + (keep ? rest : 0n));
  }
}

interface Tracked {
  readonly plan: CallPlan;
  readonly number: number;
  readonly subscription: Subscription | undefined;
  readonly leave: Subject<void>;
  phase: 'waits' | 'runs' | 'over';
  starts: number;
  ends: number;
  since: number;
}

class World {
  readonly problems: string[] = [];
  private readonly time = new VirtualTimeScheduler();
  private readonly bucket: TokenBucket;
  private readonly shadow: Shadow;
  private readonly calls: Tracked[] = [];
  private readonly armed: Set<Subscription> = new Set();
  private skew = 0;
  private gained = 0;
  private disposed = false;
  private readonly seen = { admitted: 0, settled: 0, refused: 0, withdrawn: 0, queued: 0 };

  constructor(private readonly run: Run) {
    const { time, armed } = this;
    const scheduler: SchedulerLike = {
      now: () => time.now() + this.skew,
      schedule: <T>(work: (this: never, state?: T) => void, delay?: number, state?: T): Subscription => {
        const task: Subscription = time.schedule<T>(
          function (this: unknown, given?: T) {
            armed.delete(task);
            work.call(this as never, given);
          },
          delay,
          state,
        );
        armed.add(task);
        task.add(() => armed.delete(task));
        return task;
      },
    };
    const { capacity, tokens, everyMs, maxQueue, maxQueueCost, maxWaitMs, overflow } = run;
    this.bucket = new TokenBucket({ capacity, refill: { tokens, everyMs }, maxQueue, maxQueueCost, maxWaitMs, overflow, scheduler });
    this.shadow = new Shadow(run);
    this.bucket.events$.subscribe(({ type }) => {
      if (type in this.seen) this.seen[type as keyof World['seen']]++;
    });
  }

  private get now(): number {
    return this.time.now() + this.gained;
  }

  private problem(what: string): void {
    this.problems.push(`${this.time.now()}: ${what}`);
  }

  play(): this {
    this.check('at first');
    for (const step of this.run.steps) {
      this.take(step);
      this.advance(0);
      this.check(step.do);
    }
    this.advance(10_000);
    for (const call of this.calls) this.stop(call);
    this.advance(0);
    this.check('at last');
    if (this.calls.some(({ phase }) => phase !== 'over')) this.problem('not all are over');
    if (this.armed.size > 0) this.problem('a timer at the end');
    const { admitted, settled } = this.seen;
    if (admitted !== settled) this.problem(`${admitted} admitted, ${settled} settled`);
    return this;
  }

  private take(step: Step): void {
    const { bucket, shadow, now } = this;
    if (step.do === 'call') this.call(step.plan);
    else if (step.do === 'advance') this.advance(step.n);
    else if (step.do === 'unsubscribe') this.stop(this.calls[step.n]);
    else if (step.do === 'pause') bucket.pause(step.n);
    else if (step.do === 'dispose') {
      this.disposed = true;
      bucket.dispose();
    } else if (step.do === 'drain') {
      shadow.set(now, Math.min(0, shadow.level(now)));
      bucket.drain();
    } else if (step.do === 'sync') {
      const remaining = Math.max(step.n, -this.run.capacity);
      if (remaining < shadow.level(now)) shadow.set(now, remaining);
      bucket.sync({ remaining: step.n });
    } else if (step.do === 'jump') {
      bucket.snapshot();
      this.skew += step.n;
      if (step.n > 0) this.gained += step.n;
      bucket.snapshot();
    }
  }

  private advance(ms: number): void {
    const { time } = this;
    const target = time.frame + ms;
    time.maxFrames = target;
    time.flush();
    time.frame = target;
  }

  private stop(call: Tracked | undefined): void {
    if (call === undefined) return;
    const waited = call.phase === 'waits';
    call.leave.next();
    if (waited) call.phase = 'over';
  }

  private call(plan: CallPlan): void {
    const call: Tracked = {
      plan,
      number: this.calls.length,
      subscription: undefined,
      leave: new Subject(),
      phase: 'waits',
      starts: 0,
      ends: 0,
      since: this.now,
    };
    this.calls.push(call);
    const { cost, priority, key, onCancel } = plan;
    const settle = (used: number | undefined): number | undefined => used;
    this.source(call)
      .pipe(tokenBucket(this.bucket, { cost, priority, key, onCancel, settle }), takeUntil(call.leave))
      .subscribe({
        next: () => this.again(plan),
        error: (error: Error) => {
          if (error.message === 'fails') return;
          this.refused(call, error);
          this.again(plan);
        },
        complete: () => {
          if (call.phase === 'waits') call.phase = 'over';
        },
      });
  }

  private again(plan: CallPlan): void {
    if (plan.again) this.call({ ...plan, again: false, drops: undefined });
  }

  private refused(call: Tracked, error: Error): void {
    if (call.phase !== 'waits') this.problem(`${call.number} was refused while it ${call.phase}: ${error.message}`);
    if (call.starts > 0) this.problem(`${call.number} was refused after its start`);
    call.phase = 'over';
    const { cost } = call.plan;
    const expected =
      error.name === 'ResourceDisposedError'
        ? this.disposed
        : error.name === 'CostExceedsCapacityError'
          ? cost > this.run.capacity
          : error.name === 'RateLimitWaitError'
            ? this.run.maxWaitMs < Infinity
            : error.name === 'RateLimitQueueFullError' && (this.run.maxQueue < Infinity || this.run.maxQueueCost < Infinity);
    if (!expected) this.problem(`${call.number}: ${error.message}`);
  }

  private source(call: Tracked): Observable<number | undefined> {
    const { plan } = call;
    return new Observable((out) => {
      this.started(call);
      let kind: 'completed' | 'failed' | 'cancelled' = 'cancelled';
      let told = false;
      const end = (): void => {
        kind = plan.ends === 'fails' ? 'failed' : 'completed';
        told = plan.used !== undefined;
        out.next(plan.used);
        if (plan.ends === 'fails') out.error(new Error('fails'));
        else out.complete();
      };
      let timer: Subscription | undefined;
      if (plan.ends === 'leaves') {
        out.next(plan.used);
        told = plan.used !== undefined;
        call.leave.next();
      } else if (plan.ends !== 'never') {
        if (plan.afterMs === 0) end();
        else timer = this.time.schedule(end, plan.afterMs);
      }
      return () => {
        timer?.unsubscribe();
        this.ended(call, kind, told);
      };
    });
  }

  /** The moment of its grant. */
  private started(call: Tracked): void {
    const { plan } = call;
    const { now, shadow } = this;
    if (call.phase !== 'waits') this.problem(`${call.number} starts, but is ${call.phase}`);
    if (++call.starts > 1) this.problem(`${call.number} starts again`);
    if (plan.cost > 0) {
      if (plan.cost > shadow.level(now)) this.problem(`${call.number} starts at ${plan.cost} with ${shadow.level(now)}`);
      const { pausedMs } = this.bucket.snapshot();
      if (pausedMs > 0) this.problem(`${call.number} starts in a pause of ${pausedMs}`);
      for (const other of this.calls) {
        if (other.phase !== 'waits' || other === call || other.plan.cost === 0) continue;
        if (other.plan.priority > plan.priority) this.problem(`${call.number} passes ${other.number} of a higher priority`);
        const peers = other.plan.priority === plan.priority && other.plan.key === plan.key;
        if (peers && other.number < call.number) this.problem(`${call.number} passes ${other.number}`);
      }
    }
    call.phase = 'runs';
    shadow.add(now, -plan.cost);
    if (plan.drops !== undefined && plan.drops !== call.number) this.stop(this.calls[plan.drops]);
  }

  /** Torn down: the bucket settles next. */
  private ended(call: Tracked, kind: 'completed' | 'failed' | 'cancelled', told: boolean): void {
    const { cost, used, onCancel } = call.plan;
    if (++call.ends > 1) this.problem(`${call.number} ends again`);
    call.phase = 'over';
    const reported = told ? used : undefined;
    const charged = kind !== 'cancelled' ? (reported ?? cost) : onCancel === 'refund' ? (reported ?? 0) : Math.max(cost, reported ?? 0);
    this.shadow.add(this.now, cost - charged);
  }

  private check(after: string): void {
    const { bucket, run, armed } = this;
    const { waiting, inFlight, nextInMs, limits } = bucket.snapshot();
    const { tokens, queued } = limits['tokens'] as { tokens: number; queued: number };
    const waits = this.calls.filter(({ phase }) => phase === 'waits');
    const tell = (what: string): void => this.problem(`${what} after ${after}`);
    if (tokens > run.capacity || tokens < -run.capacity || !Number.isSafeInteger(tokens)) tell(`${tokens} tokens`);
    if (tokens !== this.shadow.level(this.now)) tell(`${tokens} tokens, not ${this.shadow.level(this.now)}`);
    if (waiting !== waits.length) tell(`${waiting} wait, not ${waits.length}`);
    if (queued !== waits.reduce((sum, { plan }) => sum + plan.cost, 0)) tell(`a cost of ${queued} waits`);
    if (inFlight !== this.calls.filter(({ phase }) => phase === 'runs').length) tell(`${inFlight} in flight`);
    if (waiting > run.maxQueue || queued > run.maxQueueCost) tell(`${waiting} wait with ${queued}`);
    if (armed.size !== (waiting > 0 ? 1 : 0)) tell(`${armed.size} timers while ${waiting} wait`);
    if (this.gained > 0) return;
    if (nextInMs === 0) tell('somebody fits and was not let in');
    for (const { since, number } of waits) if (this.now - since > run.maxWaitMs) tell(`${number} waits too long`);
  }
}

function holds(run: Run): void {
  expect(new World(run).play().problems).toEqual([]);
}

describe('TokenBucket, whatever happens', () => {
  it('calls, costs, priorities, keys, unsubscribes at every phase: every token is accounted for, nobody passes, every lease settles once', () =>
    fc.assert(fc.property(runs(stepsOf()), holds), { numRuns: 300 }));

  it('with pauses, drains, a server that says less and a disposal', () =>
    fc.assert(fc.property(runs(stepsOf(pauses, drains, syncs, disposals)), holds), { numRuns: 300 }));

  it('a server that says less than the bucket can owe takes nothing of the next token', () => {
    const plan = { priority: 0, key: undefined, ends: 'completes', onCancel: 'keep', drops: undefined, again: true } as const;
    const limits = { maxQueue: Infinity, maxQueueCost: Infinity, maxWaitMs: Infinity, overflow: 'reject' } as const;
    const steps: Step[] = [
      { do: 'call', plan: { ...plan, cost: 0, afterMs: 2, used: 1 } },
      { do: 'call', plan: { ...plan, cost: 2, afterMs: 0, used: 3 } },
      { do: 'advance', n: 2 },
      { do: 'sync', n: -3 },
    ];
    holds({ capacity: 2, tokens: 1, everyMs: 3, ...limits, steps });
  });

  it('#C7 #54 with a clock that jumps back and ahead', () => fc.assert(fc.property(runs(stepsOf(pauses, jumps)), holds), { numRuns: 300 }));

  it('without refill what is left is the capacity less what was charged: granted = charged + refunded', () =>
    fc.assert(
      fc.property(runs(stepsOf()), (run) => holds({ ...run, capacity: 1000, tokens: 1, everyMs: 2 ** 40 })),
      { numRuns: 100 },
    ));
});
