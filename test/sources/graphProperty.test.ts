import fc from 'fast-check';
import { concat, concatMap, defer, from, map, Observable, of, tap, throwError, timer, VirtualTimeScheduler, type Subscription } from 'rxjs';
import { type Scope } from 'rxfleet';
import { tool } from 'rxfleet/agents';
import { openScopes } from 'rxfleet/testing';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { isDependencyCycleError, isDependencyFailedError, isUnknownReferenceError } from '../../src/sources/graphErrors.js';
import type { PlannedCall } from '../../src/sources/graphPlan.js';
import { toolGraphResults } from '../../src/sources/graphResults.js';
import type { GraphEvent } from '../../src/sources/graphRun.js';
import { toolGraph } from '../../src/sources/toolGraph.js';

/** What a call does: ends, fails, or cancels itself, after `ms`; and takes `cleanup` to stop when it is told to. */
interface Step {
  readonly how: 'value' | 'error' | 'cancel';
  readonly ms: number;
  readonly cleanup: number;
  /** Indices; one more than there are calls is a call that never comes. */
  readonly refs: readonly number[];
  readonly waits: readonly number[];
  /** Frames after the call before it in the plan. */
  readonly delay: number;
}

type Break = { readonly how: 'unsubscribe' | 'cancel' | 'signal' | 'source'; readonly frame: number } | undefined;

interface Case {
  readonly steps: readonly Step[];
  readonly order: readonly number[];
  readonly concurrency: number;
  readonly failFast: boolean;
  readonly broken: Break;
}

/** Acyclic if `whole`: a call needs those of lower number, and comes in any order. */
function cases(whole: boolean): fc.Arbitrary<Case> {
  const few = { maxLength: 3, size: 'max' } as const;
  return fc.integer({ min: 1, max: 12 }).chain((n) => {
    const step = (i: number): fc.Arbitrary<Step> => {
      const need = whole ? fc.integer({ min: 0, max: Math.max(0, i - 1) }) : fc.integer({ min: 0, max: n });
      const needs = whole && i === 0 ? fc.constant([]) : fc.array(need, few);
      return fc.record({
        how: fc.oneof({ arbitrary: fc.constant('value' as const), weight: 8 }, fc.constantFrom('error' as const, 'cancel' as const)),
        ms: fc.integer({ min: 0, max: 4 }),
        cleanup: fc.integer({ min: 0, max: 3 }),
        refs: needs,
        waits: needs,
        delay: fc.integer({ min: 0, max: 2 }),
      });
    };
    return fc.record({
      steps: fc.tuple(...Array.from({ length: n }, (_, i) => step(i))),
      order: fc.shuffledSubarray([...Array(n).keys()], { minLength: n }),
      concurrency: fc.constantFrom(1, 2, 3, Infinity),
      failFast: fc.boolean(),
      broken: fc.option(
        fc.record({
          how: fc.constantFrom('unsubscribe' as const, 'cancel' as const, 'signal' as const, 'source' as const),
          frame: fc.integer({ min: 0, max: 30 }),
        }),
        { nil: undefined },
      ),
    });
  });
}

const nameOf = (i: number): string => `c${i}`;
const numberOf = (id: string): number => Number(id.slice(1));
const FINAL = ['result', 'failed', 'cancelled'];

/** One run, watched: what is wrong is thrown at its end. */
class Watched {
  readonly events: GraphEvent[] = [];
  readonly problems: string[] = [];
  readonly ends: string[] = [];
  private readonly scheduler = new VirtualTimeScheduler();
  private readonly controller = new AbortController();
  private readonly arrived = new Set<number>();
  private readonly running = new Set<number>();
  private left = false;
  private scope: Scope | undefined;

  constructor(private readonly plan: Case) {}

  run(): void {
    const { broken, concurrency, failFast } = this.plan;
    const before = openScopes().length;
    const policy = failFast ? 'failFast' : 'answer';
    const { signal } = this.controller;
    const onScope = (scope: Scope): void => void (this.scope = scope);
    const output = this.calls().pipe(toolGraph({ tools: this.tool(), concurrency, policy, signal, onScope, scheduler: this.scheduler }));
    const subscription = output.subscribe({
      next: (event) => this.hear(event),
      error: () => this.end('error'),
      complete: () => this.end('complete'),
    });
    for (let frame = 0; frame < 200; frame++) this.scheduler.schedule(() => this.parallel(), frame + 0.5);
    if (broken !== undefined) this.scheduler.schedule(() => this.break(broken.how, subscription), broken.frame + 0.25);
    this.scheduler.flush();
    if (this.ends.length !== (this.left ? 0 : 1)) this.problems.push(`ends: ${this.ends.join()}`);
    if (this.running.size > 0) this.problems.push(`still running: ${[...this.running].join()}`);
    if (openScopes().length !== before) this.problems.push('a scope is open');
    if (!this.left) this.answers();
    expect(this.problems).toEqual([]);
  }

  private break(how: NonNullable<Break>['how'], subscription: Subscription): void {
    if (how === 'cancel') this.scope?.cancel();
    if (how === 'signal') this.controller.abort();
    if (how !== 'unsubscribe' || this.ends.length > 0) return;
    this.left = true;
    subscription.unsubscribe();
  }

  /** The calls of the plan, in its order. */
  private calls(): Observable<PlannedCall> {
    const { order, steps, broken } = this.plan;
    const one = (i: number): Observable<PlannedCall> => {
      const { delay, refs, waits } = steps[i]!;
      const call = defer(() => {
        this.arrived.add(i);
        return of({ id: nameOf(i), name: 't', input: { i, got: refs.map((r) => `$${nameOf(r)}`) }, dependsOn: waits.map(nameOf) });
      });
      return delay === 0 ? call : timer(delay, this.scheduler).pipe(concatMap(() => call));
    };
    const all = concat(...order.map(one));
    if (broken?.how !== 'source') return all;
    const failing = timer(broken.frame, this.scheduler).pipe(map((): never => JSON.parse('broken') as never));
    return new Observable((out) => {
      out.add(failing.subscribe({ error: () => out.error('broken') }));
      out.add(all.subscribe(out));
    });
  }

  private tool() {
    const run = (i: number, scope: Scope): Observable<string> =>
      new Observable<string>((out) => {
        const { how, ms, cleanup } = this.plan.steps[i]!;
        this.running.add(i);
        if (this.running.size > this.plan.concurrency) this.problems.push(`${this.running.size} at once`);
        let over = false;
        const end = (): void => void ((over = true), this.running.delete(i));
        const after = ms === 0 ? of(0) : timer(ms, this.scheduler);
        const work = after.subscribe(() => {
          if (how === 'cancel') return scope.cancel('itself');
          end();
          if (how === 'error') out.error(new Error(nameOf(i)));
          else of(`out of ${i}`).subscribe(out);
        });
        return () => {
          work.unsubscribe();
          if (over) return;
          const stopping = cleanup === 0 ? of(0) : timer(cleanup, this.scheduler);
          scope.track(stopping.pipe(map(end)));
        };
      });
    const input = z.object({ i: z.number(), got: z.array(z.string()) });
    return tool({ name: 't', description: '', input, run: ({ i, got }, { scope }) => (this.started(i, got), run(i, scope)) });
  }

  // What must hold on the way

  private hear(event: GraphEvent): void {
    if (this.left) this.problems.push(`${event.type} after unsubscribe`);
    if (this.ends.length > 0) this.problems.push(`${event.type} after the end`);
    if (nameOf(this.plan.order[event.index]!) !== event.id) this.problems.push(`index ${event.index} of ${event.id}`);
    this.events.push(event);
  }

  private end(how: string): void {
    this.ends.push(how);
    if (this.running.size > 0) this.problems.push(`${how} while ${[...this.running].join()} run`);
  }

  private endOf(i: number): GraphEvent | undefined {
    return this.events.find(({ id, type }) => id === nameOf(i) && FINAL.includes(type));
  }

  private needs(i: number): number[] {
    const { refs, waits } = this.plan.steps[i]!;
    return [...refs, ...waits];
  }

  private started(i: number, got: readonly string[]): void {
    for (const need of this.needs(i)) if (this.endOf(need)?.type !== 'result') this.problems.push(`${i} before ${need}`);
    expect(got).toEqual(this.plan.steps[i]!.refs.map((r) => `out of ${r}`));
  }

  /** Between two frames nothing waits that could run. */
  private parallel(): void {
    if (this.left || this.ends.length > 0 || this.scope?.dump().state === 'cancelling' || this.running.size >= this.plan.concurrency)
      return;
    for (const i of this.arrived) {
      const waits = this.endOf(i) === undefined && !this.running.has(i);
      if (waits && this.needs(i).every((need) => this.endOf(need)?.type === 'result')) this.problems.push(`${i} could run`);
    }
  }

  // What must hold in the end

  private answers(): void {
    for (const i of this.arrived) {
      const ends = this.events.filter(({ id, type }) => id === nameOf(i) && FINAL.includes(type));
      const late = ends.length === 1 && this.events.slice(this.events.indexOf(ends[0]!) + 1).some(({ id }) => id === nameOf(i));
      if (ends.length !== 1 || late) this.problems.push(`${i} has ${ends.length} ends, late: ${late}`);
    }
    if (this.scope?.dump().reason !== undefined) return;
    const good = this.runnable();
    this.plan.steps.forEach((step, i) => this.check(i, step, good));
  }

  private check(i: number, { how }: Step, good: ReadonlySet<number>): void {
    const end = this.endOf(i);
    const met = this.needs(i).every((need) => good.has(need));
    const expected = !met ? 'failed' : { value: 'result', error: 'failed', cancel: 'cancelled' }[how];
    if (end?.type !== expected) this.problems.push(`${i}: ${end?.type}, expected ${expected}`);
    if (met || end?.type !== 'failed') return;
    const { error } = end;
    if (isDependencyCycleError(error)) {
      const cycle = error.cycle.map(numberOf);
      if (!cycle.includes(i) || !cycle.slice(1).every((next, at) => this.needs(cycle[at]!).includes(next))) this.problems.push(`no cycle: ${cycle.join()}`); // prettier-ignore
    } else if (isDependencyFailedError(error)) {
      const need = numberOf(error.dependency);
      if (!this.needs(i).includes(need) || good.has(need)) this.problems.push(`${i} does not fail by ${need}`);
    } else if (!isUnknownReferenceError(error) || !this.needs(i).includes(this.plan.steps.length)) this.problems.push(String(error));
  }

  /** What can have a result: the least set that is closed under what the calls need. */
  private runnable(): Set<number> {
    const good = new Set<number>();
    for (let size = -1; size < good.size;) {
      size = good.size;
      this.plan.steps.forEach(({ how }, i) => {
        if (how === 'value' && this.needs(i).every((need) => good.has(need))) good.add(i);
      });
    }
    return good;
  }
}

describe('any plan, in any order, broken off at any time', () => {
  it.each([
    ['acyclic', true],
    ['with cycles and unknown references', false],
  ])('%s', (_name, whole) => {
    fc.assert(
      fc.property(cases(whole), (plan) => new Watched(plan).run()),
      { numRuns: 1500 },
    );
  });

  it('toolGraphResults has one block for each call that came, whatever happened', () => {
    fc.assert(
      fc.property(cases(false), (plan) => {
        const watched = new Watched({ ...plan, broken: undefined });
        watched.run();
        const ids: string[] = [];
        const events = concat(watched.events, watched.ends[0] === 'error' ? throwError(() => 'x') : []);
        events.pipe(toolGraphResults()).subscribe({ next: (all) => ids.push(...all.map((each) => each.tool_use_id)), error: () => {} });
        const came = plan.order.map(nameOf).filter((id) => watched.events.some((event) => event.id === id));
        expect(ids).toEqual(came);
      }),
      { numRuns: 200 },
    );
  });

  it('whatever is in it: everything that comes has one end, and each answer an id of its own', () => {
    const echo = tool({ name: 't', description: '', input: z.looseObject({}), run: (input) => input });
    const id = fc.constantFrom<unknown>('a', 'b', '1', 1, 2, '', null, undefined, true, NaN, {}, '$a', '__proto__', 'constructor');
    const text = fc.constantFrom('$a', '$1', '${b.x}', 'costs $1', '$$a', '$a.x[0]', '$__proto__', '$constructor.name', '$2.b');
    const one = fc.record(
      {
        id,
        ref: id,
        name: fc.constantFrom<unknown>('t', 't', 't', 'other', 5),
        input: fc.dictionary(fc.constantFrom('x', 'b'), fc.oneof(text, fc.array(text, { maxLength: 2 }))),
        dependsOn: fc.oneof(fc.array(id, { maxLength: 2 }), fc.constant('a')),
      },
      { requiredKeys: [] },
    );
    const plans = fc.array(fc.oneof({ arbitrary: one, weight: 9 }, fc.constantFrom<unknown>(null, 5, 'a', [])), { maxLength: 8 });
    fc.assert(
      fc.property(plans, (plan) => {
        const events: GraphEvent[] = [];
        let ended = false;
        const calls = from(plan as PlannedCall[]).pipe(
          toolGraph({ tools: echo }),
          tap((event) => events.push(event)),
        );
        calls.pipe(toolGraphResults()).subscribe((blocks) => {
          ended = true;
          const ids = blocks.map((each) => each.tool_use_id);
          expect(new Set(ids).size).toBe(ids.length);
          expect(ids).not.toContain('');
        });
        expect(ended).toBe(true);
        plan.forEach((_, at) => {
          const own = events.filter(({ index }) => index === at).map(({ type }) => type);
          expect([['started', 'result'], ['failed']]).toContainEqual(own);
        });
      }),
      { numRuns: 1000 },
    );
  });
});
