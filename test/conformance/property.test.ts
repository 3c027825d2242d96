import fc from 'fast-check';
import { asyncScheduler, Observable, VirtualTimeScheduler, type SchedulerLike } from 'rxjs';
import { scoped, type Scope, type ScopeReport } from 'rxfleet';
import { openScopes } from 'rxfleet/testing';
import { describe, expect, it, vi } from 'vitest';
import { World, plans, type Plan } from '../support/plans.js';

/** How a run is broken off: at the n-th thing that happens, or at a frame. */
interface Break {
  readonly how: 'unsubscribe' | 'cancel' | 'signal' | 'deadline';
  readonly at: { readonly step: number } | { readonly frame: number };
}

/** Takes one item out of a list; false if it is not there. */
function take<T>(list: T[], item: T): boolean {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
  return at >= 0;
}

interface Outcome {
  readonly steps: number;
  readonly frames: number;
  readonly problems: readonly string[];
}

/** What one subscription to a plan did, checked while it goes on. */
class Watched {
  readonly problems: string[] = [];
  readonly world: World;
  private readonly controller = new AbortController();
  private scope: Scope | undefined;
  private subscription: { unsubscribe(): void } | undefined;
  private steps = 0;
  private left = false;
  private ends = 0;
  private report: ScopeReport | undefined;

  constructor(
    private readonly plan: Plan,
    private readonly broken: Break | undefined,
    private readonly graces: boolean,
    private readonly scheduler: SchedulerLike,
  ) {
    this.world = new World(() => this.step(), !graces, scheduler);
  }

  get stepCount(): number {
    return this.steps;
  }

  get ended(): boolean {
    return this.ends > 0;
  }

  start(): void {
    const options = { scheduler: this.scheduler, signal: this.controller.signal, onScope: (scope: Scope) => this.open(scope) };
    const output = scoped((scope) => this.world.build(this.plan, scope), options);
    // The subscriber is at hand before the source is subscribed, so that it can leave at any step.
    new Observable<unknown>((out) => {
      this.subscription = out;
      return output.subscribe(out);
    }).subscribe({
      next: () => (this.notified('next'), this.step()),
      error: () => this.notified('error'),
      complete: () => this.notified('complete'),
    });
  }

  private open(scope: Scope): void {
    this.scope = scope;
    scope.closed$.subscribe((report) => {
      this.report = report;
      const live = this.world.live.map(({ label }) => label);
      // A cleanup is an Observable here: letting it go tears it down.
      const named = report.abandoned.map(({ label }) => label).filter((label) => label !== 'cleaning' && !label.includes('acquire'));
      // What settles while it is being given up may be named as well.
      const justNow = this.world.runs.filter(({ settledAt }) => settledAt === this.scheduler.now()).map(({ label }) => label);
      if (!named.every((label) => take(live, label) || justNow.includes(label)) || live.length > 0)
        this.problems.push(`closed with [${live.join()}] running and [${named.join()}] named`);
    });
  }

  private notified(what: string): void {
    if (this.left) this.problems.push(`${what} after unsubscribe`);
    if (this.ends > 0) this.problems.push(`${what} after the end`);
    if (what === 'next') return;
    this.ends++;
    if (this.report === undefined) this.problems.push(`${what} before the scope had closed`);
    if (!this.graces && this.world.live.length > 0) this.problems.push(`${what} with ${this.world.live.length} calls running`);
  }

  private step(): void {
    const { broken } = this;
    if (broken !== undefined && 'step' in broken.at && this.steps === broken.at.step) {
      this.steps++;
      this.breakOff();
    } else this.steps++;
  }

  breakOff(how = this.broken?.how ?? 'unsubscribe'): void {
    if (how === 'unsubscribe') {
      this.left = true;
      this.subscription?.unsubscribe();
    } else if (how === 'cancel') this.scope?.cancel('broken off');
    else if (how === 'deadline') this.scope?.setDeadline(1);
    else this.controller.abort('broken off');
  }

  finish(): readonly string[] {
    const { problems, world, scope } = this;
    problems.push(...world.violations);
    for (const { closed } of world.resources) if (closed !== 1) problems.push(`a resource was closed ${closed} times`);
    for (const { label, ends } of world.runs) if (ends > 1) problems.push(`${label} ended ${ends} times`);
    if (scope?.dump().state !== 'closed') problems.push(`the scope is ${scope?.dump().state}`);
    if (openScopes().length > 0) problems.push(`${openScopes().length} scopes are open: ${JSON.stringify(openScopes())}`);
    if (this.report === undefined) problems.push('no report');
    return problems;
  }
}

function inVirtualTime(plan: Plan, broken: Break | undefined, graces: boolean): Outcome {
  const scheduler = new VirtualTimeScheduler();
  const watched = new Watched(plan, broken, graces, scheduler);
  if (broken !== undefined && 'frame' in broken.at) scheduler.schedule(() => watched.breakOff(), broken.at.frame);
  watched.start();
  scheduler.flush();
  const frames = scheduler.now();
  if (!watched.ended) watched.breakOff();
  scheduler.flush();
  watched.breakOff('unsubscribe');
  scheduler.flush();
  const never = watched.world.runs.filter(({ settled }) => !settled).map(({ label }) => `${label} was never torn down`);
  return { steps: watched.stepCount, frames, problems: [...watched.finish(), ...never] };
}

async function withPromises(plan: Plan, broken: Break | undefined): Promise<Outcome> {
  const watched = new Watched(plan, broken, true, asyncScheduler);
  if (broken !== undefined && 'frame' in broken.at) setTimeout(() => watched.breakOff(), broken.at.frame);
  watched.start();
  await vi.advanceTimersByTimeAsync(200);
  watched.breakOff('unsubscribe');
  await vi.advanceTimersByTimeAsync(12_000);
  return { steps: watched.stepCount, frames: 60, problems: watched.finish() };
}

const HOWS = ['unsubscribe', 'cancel', 'signal', 'deadline'] as const;

/** Every step and every frame of a run, or an even choice of them. */
function breaks({ steps, frames }: Outcome, most: number): Break[] {
  const points = [
    ...Array.from({ length: steps }, (_, step) => ({ step })),
    ...Array.from({ length: Math.min(frames, 60) + 1 }, (_, frame) => ({ frame })),
  ];
  const all = points.flatMap((at) => HOWS.map((how) => ({ how, at })));
  const every = Math.max(1, Math.ceil(all.length / most));
  return all.filter((_, i) => i % every === 0);
}

function explain(plan: Plan, broken: Break | undefined, { problems }: Outcome): string {
  return `${JSON.stringify(broken) ?? 'unbroken'}: ${problems.join('; ')}\n${JSON.stringify(plan)}`;
}

describe('any pipeline, broken off at any step', () => {
  it.each([
    ['with a long grace no call outlives the output, and no limit is passed', false],
    ['with short graces whatever runs on is named', true],
  ])('%s', (_, graces) => {
    fc.assert(
      fc.property(plans({ promises: false, graces }), (plan) => {
        const whole = inVirtualTime(plan, undefined, graces);
        if (whole.problems.length > 0) expect.fail(explain(plan, undefined, whole));
        for (const broken of breaks(whole, 60)) {
          const outcome = inVirtualTime(plan, broken, graces);
          if (outcome.problems.length > 0) expect.fail(explain(plan, broken, outcome));
        }
      }),
      { numRuns: 100, includeErrorInReport: true },
    );
  });

  it('with promises every call has settled or is named, and nothing is unhandled', async () => {
    const unhandled: unknown[] = [];
    const listen = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', listen);
    vi.useFakeTimers({ now: 0 });
    try {
      await fc.assert(
        fc.asyncProperty(plans({ promises: true, graces: true }), async (plan) => {
          const whole = await withPromises(plan, undefined);
          if (whole.problems.length > 0) expect.fail(explain(plan, undefined, whole));
          for (const broken of breaks(whole, 16)) {
            const outcome = await withPromises(plan, broken);
            if (outcome.problems.length > 0) expect.fail(explain(plan, broken, outcome));
          }
        }),
        { numRuns: 150, includeErrorInReport: true },
      );
    } finally {
      vi.useRealTimers();
      await new Promise((resolve) => setTimeout(resolve, 1));
      process.off('unhandledRejection', listen);
    }
    expect(unhandled).toEqual([]);
  }, 60_000);
});
