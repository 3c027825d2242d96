import { AsyncLocalStorage } from 'node:async_hooks';
import { from, interval, NEVER, Observable, of, range, Subject, take, tap } from 'rxjs';
import { failWithin, fanOutScoped, scoped, takeWithin, type Scope, type ScopeTree } from 'rxfleet';
import { expectNoOpenScopes, openScopes } from 'rxfleet/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { briefly } from '../support/brief.js';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { cleaning, failing, later, pause, torn, virtual } from '../support/virtual.js';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const timers = (): number => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

/** Every label in a tree with the state of its node. */
function labels(tree: ScopeTree): string[] {
  const calls = tree.calls.map(({ label, state }) => `${label} ${state}`);
  return [`${tree.label} ${tree.state}`, ...calls, ...tree.scopes.flatMap(labels)];
}

describe('introspection', () => {
  it('H01 the tree of running work can be listed at any time', () =>
    virtual(({ at, flush }) => {
      const group = handle();
      of('a')
        .pipe(
          fanOutScoped(
            (_, __, ctx) => {
              const agent = ctx.child('agent');
              agent.call(() => NEVER, { label: 'search' }).subscribe({ error: () => {} });
              agent.call(() => later(9, 1), { label: 'payment', shield: true }).subscribe();
              return scoped((scope) => scope.call(() => cleaning(scope, 5), { label: 'model' }), { label: 'inner' });
            },
            { label: 'fleet', onScope: group.take },
          ),
        )
        .subscribe();
      at(3, () => {
        const tree = group.scope.dump();
        expect(labels(tree)).toEqual(
          expect.arrayContaining(['fleet closing', 'agent open', 'search running', 'payment shielded', 'inner open', 'model running']),
        );
        const agent = find(tree, 'agent');
        expect(agent?.path).toEqual(['fleet', 'agent']);
        expect(agent?.calls.map(({ ageMs }) => ageMs)).toEqual([3, 3]);
        expect(find(tree, 'inner')?.path).toEqual(['fleet', 'inner']);
      });
      at(4, () => group.scope.cancel());
      at(6, () => {
        const tree = group.scope.dump();
        expect(tree.reason).toEqual({ kind: 'explicit' });
        expect(labels(tree)).toEqual(
          expect.arrayContaining(['fleet cancelling', 'payment shielded', 'inner cancelling', 'cleaning 5 cleanup']),
        );
      });
      at(10, () => expect(labels(group.scope.dump())).toEqual(['fleet closed']));
      flush();
    }));

  it('H01 openScopes() lists the roots; expectNoOpenScopes() draws what is open', () => {
    const subscription = of(1)
      .pipe(fanOutScoped((_, __, ctx) => ctx.call(() => NEVER, { label: 'search' }), { label: 'fleet' }))
      .subscribe();
    expect(openScopes().map(({ label, state }) => [label, state])).toEqual([['fleet', 'closing']]);
    expect(() => expectNoOpenScopes()).toThrow(/1 scope is still open:\n\s+fleet \(closing\)[^]*search running for \d+ ms/);
    subscription.unsubscribe();
    expect(openScopes()).toEqual([]);
    expect(() => expectNoOpenScopes()).not.toThrow();
  });

  it('H01 a nested scope is listed under its root only', () => {
    const subscription = of(1)
      .pipe(
        fanOutScoped(() => scoped(() => NEVER, { label: 'inner' })),
        takeWithin(null, { label: 'outer' }),
      )
      .subscribe();
    expect(openScopes().map(({ label }) => label)).toEqual(['outer']);
    subscription.unsubscribe();
    expectNoOpenScopes();
  });
});

function find(tree: ScopeTree, label: string): ScopeTree | undefined {
  if (tree.label === label) return tree;
  for (const scope of tree.scopes) {
    const found = find(scope, label);
    if (found !== undefined) return found;
  }
  return undefined;
}

describe('timers', () => {
  it('H03 no timer keeps the process alive after the scope has closed', async () => {
    const before = timers();
    const scopes = [handle(), handle(), handle(), handle()];
    const [acknowledged, deadline, moved, graced] = scopes.map(({ take }) => take);
    const coop = (signal: AbortSignal): Promise<never> =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
    const subscriptions = [
      of(1).pipe(fanOutScoped((_, __, ctx) => ctx.call(coop), { graceMs: 5000, onScope: acknowledged as (scope: Scope) => void })),
      interval(1).pipe(take(3), takeWithin(60_000, { onScope: deadline as (scope: Scope) => void })),
      NEVER.pipe(failWithin(60_000, { onScope: moved as (scope: Scope) => void })),
      scoped((scope) => (scope.track(sleep(5)), NEVER), { graceMs: 60_000, onScope: graced as (scope: Scope) => void }),
    ].map((source) => source.subscribe());
    expect(timers()).toBeGreaterThan(before);
    scopes[2]?.scope.setDeadline(120_000);
    await sleep(10);
    subscriptions.forEach((subscription) => subscription.unsubscribe());
    await Promise.all(scopes.map(({ scope }) => scope.closed));
    expect(timers()).toBe(before);
  });

  it('H03 nor does an abandoned call leave one', async () => {
    const before = timers();
    const group = handle();
    const subscription = of(1)
      .pipe(fanOutScoped((_, __, ctx) => ctx.call(() => new Promise<never>(() => {})), { graceMs: 5, onScope: group.take }))
      .subscribe();
    subscription.unsubscribe();
    expect((await group.scope.closed).abandoned).toHaveLength(1);
    expect(timers()).toBe(before);
  });

  it('H03 a scope without a deadline arms none while it runs', async () => {
    const before = timers();
    const subscription = of(1)
      .pipe(
        fanOutScoped((_, __, ctx) => ctx.call(() => NEVER)),
        takeWithin(null),
      )
      .subscribe();
    await sleep(1);
    expect(timers()).toBe(before);
    subscription.unsubscribe();
  });
});

describe('marbles', () => {
  it('H04 the whole behaviour is marble-testable: cancel, cleanup and deadline in virtual time', () =>
    virtual(({ cold, hot, expectObservable, expectSubscriptions }) => {
      const source = hot('a-b-------');
      const a = cold('   ---#', undefined, 'boom');
      const b = cold('     ----------');
      const cleanup = cold('-----|');
      const result = source.pipe(
        fanOutScoped((key, _, ctx) =>
          key === 'a' ? a : new Observable<string>((out) => (out.add(b.subscribe(out)), () => ctx.track(cleanup))),
        ),
        briefly(),
      );
      expectObservable(result).toBe('--------#', undefined, 'ScopeError[boom]');
      expectSubscriptions(source.subscriptions).toBe('^--!');
      expectSubscriptions(a.subscriptions).toBe('^--!');
      expectSubscriptions(b.subscriptions).toBe('--^!');
      expectSubscriptions(cleanup.subscriptions).toBe('---^----!');
    }));

  it('H04 a deadline and a grace as well', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-a-b-c-');
      const endless = cold('------');
      const result = scoped((scope) => new Observable<string>((out) => (out.add(source.subscribe(out)), () => scope.track(endless)))).pipe(
        takeWithin(4, { graceMs: 3 }),
      );
      expectObservable(result).toBe('-a-b---|');
      expectSubscriptions(source.subscriptions).toBe('^---!');
      expectSubscriptions(endless.subscriptions).toBe('----^--!');
    }));
});

describe('async context', () => {
  const user = new AsyncLocalStorage<string>();

  /** Two users feed one fan-out with a limit of 1 that a third has subscribed. */
  const share = async (options: { order?: 'index'; policy?: 'settle' }, slow: string): Promise<Record<string, string[]>> => {
    const seen: Record<string, string[]> = { project: [], call: [], next: [], end: [] };
    const note = (where: string, whose: string): void => void seen[where]?.push(`${whose} sees ${user.getStore()}`);
    const source = new Subject<string>();
    const done = new Promise<void>((resolve) =>
      user.run('owner', () =>
        source
          .pipe(
            fanOutScoped(
              (name, _, ctx) => {
                note('project', name);
                return ctx.call(async () => {
                  note('call', name);
                  await sleep(name === slow ? 10 : 2);
                  return name;
                });
              },
              { concurrency: options.order === 'index' ? 2 : 1, ...options } as { policy: 'settle' },
            ),
          )
          .subscribe({
            next: (value) => note('next', typeof value === 'string' ? value : (value as { value: string }).value),
            complete: () => (note('end', 'owner'), resolve()),
          }),
      ),
    );
    for (const name of ['alice', 'bob', 'alice', 'bob', 'carol']) user.run(name, () => source.next(name));
    user.run('closer', () => source.complete());
    await done;
    return seen;
  };

  const own = ['alice', 'bob', 'alice', 'bob', 'carol'].map((name) => `${name} sees ${name}`);

  it.each([{}, { order: 'index' }, { policy: 'settle' }, { policy: 'settle', order: 'index' }] as const)(
    'users who share a queue never see each other’s values: %o',
    async (options) => {
      for (const slow of ['alice', 'bob']) {
        const seen = await share(options, slow);
        expect(seen['project']).toEqual(own);
        expect(seen['call']).toEqual(own);
        expect(seen['next']).toHaveLength(5);
        for (const line of seen['next'] ?? []) expect(line).toMatch(/^(\w+) sees (\1|owner)$/);
        expect(seen['end']).toEqual(['owner sees owner']);
      }
    },
  );

  it('nor do synchronous children behind an asynchronous one', async () => {
    const seen: string[] = [];
    const source = new Subject<string>();
    const subscription = source
      .pipe(
        fanOutScoped((name) => (seen.push(`${name} sees ${user.getStore()}`), name === 'slow' ? pause(2) : of(name)), { concurrency: 1 }),
        tap((name) => seen.push(`${name} gets ${user.getStore()}`)),
      )
      .subscribe();
    for (const name of ['slow', 'alice', 'bob']) user.run(name, () => source.next(name));
    await sleep(10);
    subscription.unsubscribe();
    expect(seen).toEqual(['slow sees slow', 'alice sees alice', 'alice gets alice', 'bob sees bob', 'bob gets bob']);
  });

  it('deadlines that share a timer fire in the context of their own operator', async () => {
    const seen: string[] = [];
    const root = handle();
    const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: root.take })).subscribe();
    await Promise.all(
      ['alice', 'bob', 'carol'].map(
        (name) =>
          new Promise<void>((resolve) =>
            user.run(name, () =>
              torn(() => seen.push(`${name} torn down as ${user.getStore()}`))
                .pipe(takeWithin(3, { within: root.scope, onEnd: () => seen.push(`${name} ends as ${user.getStore()}`) }))
                .subscribe({ complete: () => (seen.push(`${name} completes as ${user.getStore()}`), resolve()) }),
            ),
          ),
      ),
    );
    subscription.unsubscribe();
    const expected = ['alice', 'bob', 'carol'].flatMap((name) => [
      `${name} torn down as ${name}`,
      `${name} ends as ${name}`,
      `${name} completes as ${name}`,
    ]);
    expect(seen.sort()).toEqual(expected.sort());
  });

  it('a grace that ends tells the output in its own context', async () => {
    const seen: string[] = [];
    const stop = new Subject<void>();
    await Promise.all(
      ['alice', 'bob'].map(
        (name) =>
          new Promise<void>((resolve) =>
            user.run(name, () => {
              const group = handle();
              of(1)
                .pipe(fanOutScoped((_, __, ctx) => ctx.call(() => new Promise<never>(() => {})), { graceMs: 3, onScope: group.take }))
                .subscribe({ complete: () => (seen.push(`${name} sees ${user.getStore()}`), resolve()) });
              stop.subscribe(() => group.scope.cancel());
              if (name === 'bob') setTimeout(() => user.run('stopper', () => stop.next()), 1);
            }),
          ),
      ),
    );
    expect(seen.sort()).toEqual(['alice sees alice', 'bob sees bob']);
  });

  it('the end of an output that waited for a call is told in the subscriber’s context', async () => {
    const seen: unknown[] = [];
    const controller = new AbortController();
    await new Promise<void>(
      (resolve) =>
        user.run('alice', () =>
          scoped(
            (scope) =>
              scope.call(
                (signal) =>
                  new Promise<never>((_, reject) =>
                    signal.addEventListener('abort', () => setTimeout(() => reject(signal.reason as Error), 2)),
                  ),
              ),
            {
              signal: controller.signal,
            },
          ).subscribe({ error: () => (seen.push(user.getStore()), resolve()) }),
        ) && user.run('bob', () => controller.abort()),
    );
    expect(seen).toEqual(['alice']);
  });
});

describe('cost', () => {
  const heap = async (): Promise<number> => {
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.();
      await sleep(1);
    }
    return process.memoryUsage().heapUsed;
  };

  it('a long scope keeps nothing of 200,000 finished children', async () => {
    expect(globalThis.gc).toBeTypeOf('function');
    const source = new Subject<number>();
    let count = 0;
    const group = handle();
    const subscription = source
      .pipe(
        fanOutScoped(
          (i, _, ctx) =>
            i % 4 === 0 ? of(i) : i % 4 === 1 ? ctx.call(async () => i) : i % 4 === 2 ? ctx.call(() => of(i)) : Promise.resolve(i),
          {
            concurrency: 64,
            onScope: group.take,
          },
        ),
      )
      .subscribe(() => count++);
    const feed = async (from: number, to: number): Promise<void> => {
      for (let i = from; i < to; i++) {
        source.next(i);
        if (i % 500 === 0) await sleep(0);
      }
      while (count < to) await sleep(1);
    };
    await feed(0, 20_000);
    const before = await heap();
    await feed(20_000, 200_000);
    const grown = (await heap()) - before;
    expect(grown).toBeLessThan(1_000_000);
    source.complete();
    expect((await group.scope.closed).fulfilled).toBe(200_000);
    subscription.unsubscribe();
  });

  it('a long scope keeps nothing of finished calls, child scopes, nested operators and cleanups', async () => {
    const group = handle();
    const subscription = NEVER.pipe(fanOutScoped(() => NEVER, { onScope: group.take })).subscribe();
    const { scope } = group;
    const work = async (rounds: number): Promise<void> => {
      for (let i = 0; i < rounds; i++) {
        const agent = scope.child('agent');
        agent.call(() => of(i)).subscribe();
        agent.call(async () => i).subscribe();
        scope.track(Promise.resolve());
        of(i)
          .pipe(takeWithin(1000, { within: scope }))
          .subscribe();
        of(i)
          .pipe(fanOutScoped((value) => of(value), { within: scope }))
          .subscribe();
        if (i % 200 === 0) await sleep(0);
      }
    };
    await work(4000);
    const before = await heap();
    await work(16_000);
    expect((await heap()) - before).toBeLessThan(1_000_000);
    expect(scope.dump()).toMatchObject({ calls: [], scopes: [] });
    subscription.unsubscribe();
  });

  it('a finished child’s context and value can be collected', async () => {
    const source = new Subject<object>();
    const refs: WeakRef<object>[] = [];
    const subscription = source
      .pipe(fanOutScoped((value, _, ctx) => (refs.push(new WeakRef(ctx), new WeakRef(value)), ctx.call(async () => value))))
      .subscribe();
    (() => source.next({ big: true }))();
    await sleep(2);
    await heap();
    expect(refs.map((ref) => ref.deref())).toEqual([undefined, undefined]);
    subscription.unsubscribe();
  });

  it('100,000 calls in flight are cancelled at once: no overflow, no warning, nothing unhandled', async () => {
    const noise: unknown[] = [];
    const listen = (what: unknown): void => void noise.push(what);
    process.on('warning', listen);
    process.on('unhandledRejection', listen);
    const group = handle();
    let running = 0;
    const subscription = range(0, 100_000)
      .pipe(
        fanOutScoped(
          (_, __, ctx) =>
            ctx.call(
              (signal) =>
                new Promise<never>((___, reject) => {
                  running++;
                  signal.addEventListener('abort', () => (running--, reject(signal.reason as Error)));
                }),
            ),
          { concurrency: Infinity, onScope: group.take },
        ),
      )
      .subscribe();
    expect(running).toBe(100_000);
    subscription.unsubscribe();
    const report = await group.scope.closed;
    expect(running).toBe(0);
    expect(report).toMatchObject({ errors: [], abandoned: [] });
    expect(report.outcomes).toHaveLength(100_000);
    await sleep(1);
    process.off('warning', listen);
    process.off('unhandledRejection', listen);
    expect(noise).toEqual([]);
  });

  it('100,000 Observables in flight fail together with one of them', () =>
    virtual(({ flush }) => {
      let tornDown = 0;
      let errors = 0;
      range(0, 100_000)
        .pipe(fanOutScoped((i) => (i === 50_000 ? failing(5, 'boom') : torn(() => tornDown++)), { concurrency: Infinity }))
        .subscribe({ error: () => errors++ });
      flush();
      expect([tornDown, errors]).toEqual([99_999, 1]);
    }));

  it('10,000 children whose teardown throws: each is told', () =>
    virtual(({ flush }) => {
      const group = handle();
      const subscription = range(0, 10_000)
        .pipe(
          fanOutScoped(
            (i) =>
              torn(() => {
                throw i;
              }),
            { concurrency: Infinity, onScope: group.take },
          ),
        )
        .subscribe();
      subscription.unsubscribe();
      flush();
      expect(reportOf(group.scope).errors).toHaveLength(10_000);
    }));

  it('30,000 children that each reach a deadline of their own, at a cost that does not grow with their number', () =>
    virtual(({ flush }) => {
      let failures = 0;
      range(0, 30_000)
        .pipe(fanOutScoped((_, __, ctx) => (ctx.setDeadline(5), NEVER), { concurrency: Infinity, policy: 'collect' }))
        .subscribe({ error: (error: AggregateError) => (failures = error.errors.length) });
      flush();
      expect(failures).toBe(30_000);
    }));

  it('removing one of many live children costs the same, however many there are', () =>
    virtual(({ flush }) => {
      // 60,000 children that end in reverse order: with a linear removal this takes minutes.
      let ended = 0;
      const COUNT = 60_000;
      const ends = Array.from({ length: COUNT }, () => new Subject<void>());
      from(ends)
        .pipe(fanOutScoped((end) => end, { concurrency: Infinity }))
        .subscribe({ complete: () => ended++ });
      for (let i = COUNT - 1; i >= 0; i--) ends[i]?.complete();
      flush();
      expect(ended).toBe(1);
    }));
});

describe('nothing is left behind', () => {
  afterEach(() => expectNoOpenScopes());

  it('after every kind of end', () =>
    fake(async ({ works, advance }) => {
      const run = (source: Observable<unknown>): void => void source.subscribe({ error: () => {} });
      const tasks = (): ((signal: AbortSignal) => Promise<unknown>)[] => [
        works.coop('A', 3, 1),
        works.deaf('B', 4, 2),
        works.cleanup('C', 5),
      ];
      const fan = (): Observable<unknown> => from(tasks()).pipe(fanOutScoped((task, _, ctx) => ctx.call(task)));
      run(fan().pipe(takeWithin(2)));
      run(fan().pipe(failWithin(2)));
      run(fan().pipe(take(1)));
      run(scoped(fan).pipe(takeWithin(2)));
      run(from([fan(), failing(2, 'boom')]).pipe(fanOutScoped((each) => each)));
      run(
        from([fan(), fan()]).pipe(
          fanOutScoped((each) => each, { policy: 'race' }),
          takeWithin(100),
        ),
      );
      fan().subscribe().unsubscribe();
      await advance(200);
      expect(works.running).toBe(0);
    }));

  it('a call outside of any scope has one of its own, and it closes with the call', () =>
    fake(async ({ advance, works, watch, lines }) => {
      const { looseCall } = await import('../support/loose.js');
      watch(looseCall(works.deaf('A', 5, 'value')));
      const left = looseCall(works.deaf('B', 20, 'value')).subscribe();
      expect(openScopes()).toHaveLength(2);
      await advance(5);
      expect(openScopes()).toHaveLength(1);
      left.unsubscribe();
      expect(openScopes()).toHaveLength(1);
      await advance(15);
      expect(openScopes()).toHaveLength(0);
      expect(lines).toEqual(['5 A settled', '5 next value', '5 complete', '20 B settled']);
    }));

  it('a cleanup that outlives an abandoned scope is nobody’s any more', () =>
    virtual(({ watch, lines, flush }) => {
      watch(scoped((scope) => cleaning(scope, 50)).pipe(takeWithin(2, { graceMs: 3 })));
      watch(pause(60), 'clock');
      flush();
      expect(lines).toEqual(['5 complete', '60 clock complete']);
    }));
});
