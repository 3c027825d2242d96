import { AsyncLocalStorage } from 'node:async_hooks';
import {
  catchError,
  concat,
  defer,
  EMPTY,
  finalize,
  from,
  merge,
  NEVER,
  Observable,
  of,
  range,
  throwError,
  type ObservableInput,
} from 'rxjs';
import { fanOutScoped, scoped, takeWithin, type Scope } from 'rxfleet';
import { describe, expect, it } from 'vitest';
import { DepthGate } from '../../src/gates/depthGate.js';
import { isDepthLimitError, type DepthLimitError } from '../../src/gates/errors.js';
import { Semaphore } from '../../src/gates/semaphore.js';
import { bulkhead } from '../../src/operators/bulkhead.js';
import { depthLimit } from '../../src/operators/depthLimit.js';
import { brief, briefly } from '../support/brief.js';
import { keepsTheContract } from '../support/contract.js';
import { cleaning, later, pause, torn, virtual } from '../support/virtual.js';

const WIDE = { maxDepth: 9, maxFanOut: 9, maxLive: 9, maxTotal: 1_000 };

/** The one error behind any number of scopes. */
function leaf(error: unknown): unknown {
  return error instanceof AggregateError ? leaf(error.errors[0]) : error;
}

describe('depthLimit', () => {
  describe('within the limits', () => keepsTheContract(() => depthLimit(new DepthGate(WIDE)), 'boom'));
  describe('with onExceed', () =>
    keepsTheContract(() => depthLimit<string, string>(new DepthGate(WIDE), undefined, { onExceed: () => ['never'] }), 'boom'));

  it('a call that is refused errors before its source is subscribed, with the label path #2.6 #6', () =>
    virtual(({ cold, expectObservable, expectSubscriptions, flush }) => {
      const gate = new DepthGate({ name: 'tree', maxDepth: 1 });
      const source = cold('-a|');
      const errors: DepthLimitError[] = [];
      const run = (fleet: Scope): Observable<string> => {
        const deep = fleet.child('team').child('agent');
        return source.pipe(depthLimit(gate, deep));
      };
      expectObservable(scoped((fleet) => run(fleet), { label: 'fleet' }).pipe(briefly())).toBe(
        '#',
        undefined,
        'ScopeError[Depth limit "tree" refuses the call at fleet > team > agent: it is deeper than 1.]',
      );
      expectSubscriptions(source.subscriptions).toBe([]);
      scoped((fleet) => run(fleet), { label: 'fleet' }).subscribe({ error: (error) => errors.push(leaf(error) as DepthLimitError) });
      flush();
      expect(errors.map(isDepthLimitError)).toEqual([true]);
      expect(errors[0]).toMatchObject({ code: 'DEPTH_LIMIT', limit: 'maxDepth', max: 1, path: ['fleet', 'team', 'agent'], gate: 'tree' });
      expect(gate.snapshot()).toEqual({ name: 'tree', live: 0, total: 0 });
    }));

  it('maxDepth 0 lets calls start at the root only #2.6', () =>
    virtual(({ watch, lines, flush }) => {
      const gate = new DepthGate({ maxDepth: 0 });
      watch(of('no scope').pipe(depthLimit(gate)));
      watch(scoped((fleet) => of('root scope').pipe(depthLimit(gate, fleet))));
      watch(scoped((fleet) => of('child').pipe(depthLimit(gate, fleet.child('a')))));
      watch(
        of('below a call').pipe(
          fanOutScoped((x) => of(x).pipe(depthLimit(gate))),
          depthLimit(gate),
        ),
      );
      flush();
      expect(lines).toEqual([
        '0 next no scope',
        '0 complete',
        '0 next root scope',
        '0 complete',
        '0 error ScopeError[Depth limit "depth" refuses the call at a: it is deeper than 0.]',
        '0 error ScopeError[Depth limit "depth" refuses the call at the root: it is deeper than 0.]',
      ]);
    }));

  it('recursion without any labels is as deep as the guarded calls around it', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate({ maxDepth: 3 });
      let deepest = 0;
      const dive = (depth: number): Observable<number> =>
        defer(() => {
          deepest = Math.max(deepest, depth);
          return of(depth + 1).pipe(fanOutScoped(dive));
        }).pipe(depthLimit(gate));
      const errors: unknown[] = [];
      dive(0).subscribe({ error: (error) => errors.push(leaf(error)) });
      flush();
      expect(deepest).toBe(3);
      expect(errors.map(brief)).toEqual(['Depth limit "depth" refuses the call at the root: it is deeper than 3.']);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 4 });
    }));

  it('maxFanOut counts the live children of one node, in a fan-out', () =>
    virtual(({ watch, lines, flush }) => {
      const gate = new DepthGate({ maxFanOut: 2 });
      const call = (n: number): Observable<number> =>
        later(n, n).pipe(depthLimit<number, string>(gate, undefined, { onExceed: ({ limit, max }) => [`${limit} ${max}`] })) as never;
      watch(from([1, 2, 3]).pipe(fanOutScoped(call)), 'one');
      watch(from([1, 2, 3]).pipe(fanOutScoped(call)), 'two');
      watch(concat(pause(5), from([1, 2]).pipe(fanOutScoped(call))), 'later');
      flush();
      expect(lines.filter((line) => line.includes('maxFanOut'))).toEqual(['0 one next maxFanOut 2', '0 two next maxFanOut 2']);
    }));

  it('maxFanOut counts a child() that holds calls once below its parent', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate({ maxFanOut: 2 });
      const refused: string[] = [];
      scoped(
        (fleet) => {
          const [a, b, c] = ['a', 'b', 'c'].map((label) => fleet.child(label)) as [Scope, Scope, Scope];
          const call = (name: string, scope: Scope): Observable<never> =>
            pause(3).pipe(
              depthLimit(gate, scope),
              catchError((error: unknown) => (refused.push(`${name}: ${brief(error)}`), EMPTY)),
            );
          return merge(call('a1', a), call('a2', a), call('a3', a), call('b1', b), call('c1', c), concat(pause(4), call('c2', c)));
        },
        { label: 'fleet' },
      ).subscribe();
      flush();
      expect(refused).toEqual([
        'a3: Depth limit "depth" refuses the call at fleet > a: 2 calls run under the same parent already.',
        'c1: Depth limit "depth" refuses the call at fleet > c: 2 calls run under the same parent already.',
      ]);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 4 });
    }));

  it('maxLive counts what runs anywhere in the tree, and maxTotal what ever started', () =>
    virtual(({ at, flush }) => {
      const gate = new DepthGate({ maxLive: 2, maxTotal: 3 });
      const ends: string[] = [];
      const call = (): void =>
        void later(2, 1)
          .pipe(depthLimit(gate))
          .subscribe({ complete: () => ends.push('done'), error: (error: DepthLimitError) => ends.push(`${error.limit} ${error.max}`) });
      for (const frame of [0, 0, 0, 5, 9]) at(frame, call);
      flush();
      expect(ends).toEqual(['maxLive 2', 'done', 'done', 'done', 'maxTotal 3']);
      expect(gate.snapshot()).toEqual({ name: 'depth', live: 0, total: 3 });
    }));

  it('a label that comes again below itself is refused where cycles are', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate({ cycles: 'refuse' });
      const errors: string[] = [];
      const run = (scope: Scope, labels: readonly string[]): Observable<number> => {
        const [label, ...rest] = labels;
        if (label === undefined) return of(1);
        const own = scope.child(label);
        return defer(() => run(own, rest)).pipe(depthLimit(gate, own));
      };
      for (const labels of [
        ['a', 'b', 'a'],
        ['a', 'b', 'c'],
      ])
        scoped((scope) => run(scope, labels), { label: 'fleet' }).subscribe({ error: (error) => errors.push(brief(leaf(error))) });
      flush();
      expect(errors).toEqual(['Depth limit "depth" refuses the call at fleet > a > b > a: its label is above it already.']);
    }));

  it('a 3-level fan-out of 3 runs 27 leaf agents unguarded, and no more than the limits allow guarded', () =>
    virtual(({ flush }) => {
      const fleet = (gate: DepthGate | undefined): { leaves: number; peak: number; refused: number } => {
        const seen = { leaves: 0, peak: 0, refused: 0 };
        let live = 0;
        const agent = (level: number): Observable<unknown> => {
          const work = defer(() => {
            seen.peak = Math.max(seen.peak, ++live);
            if (level === 3) seen.leaves++;
            return level === 3 ? later(5, 'leaf') : range(3).pipe(fanOutScoped(() => agent(level + 1)));
          }).pipe(finalize(() => live--));
          if (gate === undefined) return work;
          return work.pipe(depthLimit(gate, undefined, { onExceed: () => (seen.refused++, ['told the model']) }));
        };
        agent(0).subscribe();
        flush();
        return seen;
      };
      expect(fleet(undefined)).toMatchObject({ leaves: 27, peak: 40 });
      expect(fleet(new DepthGate({ maxFanOut: 2 }))).toMatchObject({ leaves: 8, peak: 15 });
      expect(fleet(new DepthGate({ maxDepth: 2 }))).toMatchObject({ leaves: 0, refused: 27 });
      expect(fleet(new DepthGate({ maxLive: 10 }))).toMatchObject({ peak: 10 });
      const total = new DepthGate({ maxTotal: 20 });
      fleet(total);
      expect(total.snapshot()).toMatchObject({ live: 0, total: 20 });
    }));

  describe('onExceed', () => {
    it('is told of the refusal, and what it returns goes out instead', () =>
      virtual(({ cold, expectObservable, expectSubscriptions }) => {
        const gate = new DepthGate({ name: 'tree', maxTotal: 0 });
        const [source, instead] = [cold('-a|'), cold('--x|')];
        const seen: string[] = [];
        const output = source.pipe(
          depthLimit(gate, undefined, { onExceed: (refusal) => (seen.push(`${refusal.gate} ${refusal.limit}`), instead) }),
        );
        expectObservable(output).toBe('--x|');
        expectObservable(output, '^!').toBe('--');
        expectSubscriptions(source.subscriptions).toBe([]);
        expectSubscriptions(instead.subscriptions).toBe(['^--!', '^!']);
      }));

    it('what it throws is the error of that call', () =>
      virtual(({ watch, lines }) => {
        const onExceed = (): ObservableInput<never> => {
          throw new Error('cannot tell');
        };
        watch(of(1).pipe(depthLimit(new DepthGate({ maxTotal: 0 }), undefined, { onExceed })));
        expect(lines).toEqual(['0 error cannot tell']);
      }));

    it('is not asked about refusals further in, nor about other errors', () =>
      virtual(({ watch, lines, flush }) => {
        const gate = new DepthGate({ maxDepth: 0 });
        const onExceed = (): string[] => ['instead'];
        const inner = of(1).pipe(depthLimit(gate));
        watch(defer(() => inner).pipe(depthLimit(gate, undefined, { onExceed })), 'inner');
        watch(throwError(() => 'boom').pipe(depthLimit(gate, undefined, { onExceed })), 'own');
        watch(of(1).pipe(depthLimit(new DepthGate({ maxTotal: 0 })), depthLimit(gate, undefined, { onExceed })), 'other gate');
        flush();
        expect(lines).toEqual([
          '0 inner error Depth limit "depth" refuses the call at the root: it is deeper than 0.',
          '0 own error boom',
          '0 other gate error Depth limit "depth" refuses the call at the root: 0 calls were started in the tree already.',
        ]);
      }));

    it('each subscription asks for itself', () =>
      virtual(({ at, watch, lines, flush }) => {
        const gate = new DepthGate({ maxLive: 1 });
        const call = later(2, 'x').pipe(depthLimit(gate, undefined, { onExceed: () => ['busy'] }));
        watch(call, 'one');
        watch(call, 'two');
        at(4, () => watch(call, 'three'));
        flush();
        expect(lines.filter((line) => line.includes('next'))).toEqual(['0 two next busy', '2 one next x', '6 three next x']);
      }));
  });

  describe('counts once, until nothing of the call runs any more', () => {
    it.each<[string, Observable<number>]>([
      ['completed', later(2, 1)],
      ['empty', EMPTY],
      [
        'failed',
        concat(
          pause(2),
          throwError(() => 'boom'),
        ),
      ],
      ['thrown while it was subscribed', defer(() => throwError(() => 'boom'))],
    ])('%s', (_, source) =>
      virtual(({ flush }) => {
        const gate = new DepthGate({ maxLive: 1 });
        source.pipe(depthLimit(gate)).subscribe({ error: () => undefined });
        flush();
        expect(gate.snapshot()).toMatchObject({ live: 0, total: 1 });
      }),
    );

    it('unsubscribed, twice', () =>
      virtual(({ at, flush }) => {
        const gate = new DepthGate(WIDE);
        const sub = NEVER.pipe(depthLimit(gate)).subscribe();
        at(2, () => (sub.unsubscribe(), sub.unsubscribe()));
        flush();
        expect(gate.snapshot()).toMatchObject({ live: 0, total: 1 });
      }));

    it('a stopped call that still cleans up counts', () =>
      virtual(({ at, flush }) => {
        const gate = new DepthGate(WIDE);
        const live: number[] = [];
        const sub = scoped((scope) => cleaning(scope, 3))
          .pipe(depthLimit(gate))
          .subscribe();
        at(2, () => sub.unsubscribe());
        for (const frame of [1, 3, 4, 6]) at(frame, () => live.push(gate.snapshot().live));
        flush();
        expect(live).toEqual([1, 1, 1, 0]);
      }));

    it('an abandoned one does not', () =>
      virtual(({ at, flush }) => {
        const gate = new DepthGate(WIDE);
        const live: number[] = [];
        const call = scoped((scope) => cleaning(scope, 100)).pipe(depthLimit(gate));
        const sub = scoped(() => call, { graceMs: 4 }).subscribe();
        at(2, () => sub.unsubscribe());
        for (const frame of [5, 7]) at(frame, () => live.push(gate.snapshot().live));
        flush();
        expect(live).toEqual([1, 0]);
      }));
  });

  it('unsubscribing a node tears down all descendants, children before parents #2.6', () =>
    virtual(({ note, lines, at, flush }) => {
      const gate = new DepthGate(WIDE);
      const agent = (scope: Scope, name: string, more: (scope: Scope) => Observable<unknown>): Observable<unknown> => {
        const own = scope.child(name);
        return torn(
          () => note(`${name} torn down`),
          merge(
            defer(() => more(own)),
            NEVER,
          ),
        ).pipe(depthLimit(gate, own));
      };
      const none = (): Observable<unknown> => NEVER;
      const sub = scoped((root) =>
        agent(root, 'a', (a) =>
          merge(
            agent(a, 'a.1', none),
            agent(a, 'a.2', (a2) => agent(a2, 'a.2.1', none)),
          ),
        ),
      ).subscribe();
      at(3, () => {
        expect(gate.snapshot()).toMatchObject({ live: 4 });
        sub.unsubscribe();
      });
      flush();
      expect(lines.map((line) => line.split(' ')[1]).sort()).toEqual(['a', 'a.1', 'a.2', 'a.2.1']);
      expect(lines.indexOf('3 a.2.1 torn down')).toBeLessThan(lines.indexOf('3 a.2 torn down'));
      expect(lines.indexOf('3 a.2 torn down')).toBeLessThan(lines.indexOf('3 a torn down'));
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 4 });
    }));

  it('cancelling the scope that is given as ctx stops the call', () =>
    virtual(({ watch, lines, at, flush }) => {
      const gate = new DepthGate(WIDE);
      watch(
        scoped((root) => {
          const team = root.child('team');
          at(3, () => team.cancel());
          return NEVER.pipe(depthLimit(gate, team));
        }),
      );
      flush();
      expect(lines).toEqual(['3 error ScopeError[Cancelled(parent-cancelled < explicit)]']);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 1 });
    }));

  it('a call below a scope that has ended errors with ScopeCancelledError #2.6', () =>
    virtual(({ watch, lines, cold, expectSubscriptions, flush }) => {
      const gate = new DepthGate(WIDE);
      const source = cold('-a|');
      let ended: Scope | undefined;
      scoped((root) => ((ended = root.child('team')), of(1))).subscribe();
      watch(source.pipe(depthLimit(gate, ended)));
      flush();
      expectSubscriptions(source.subscriptions).toBe([]);
      expect(lines).toEqual(['0 error Cancelled(parent-cancelled < explicit)']);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 0 });
    }));

  it('joins the gates of its pipe, with and without a ctx', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate(WIDE);
      const semaphore = new Semaphore({ limit: 1 });
      const roots: number[] = [];
      scoped((root) => {
        const call = defer(() => (roots.push(root.dump().scopes[0]?.scopes.length ?? -1), of(1)));
        return merge(
          call.pipe(bulkhead(semaphore), depthLimit(gate, root)),
          call.pipe(bulkhead(semaphore), depthLimit(gate, root), bulkhead(new Semaphore({ limit: 1 }))),
          call.pipe(bulkhead(semaphore), depthLimit(gate)),
        );
      }).subscribe();
      flush();
      expect(roots).toEqual([0, 0, 0]);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 3 });
    }));

  it('bad arguments throw where the operator is made', () => {
    const gate = new DepthGate(WIDE);
    expect(() => depthLimit({} as never)).toThrow(new TypeError('depthLimit: gate must be a gate, got [object Object].'));
    expect(() => depthLimit(gate, {} as never)).toThrow('depthLimit: ctx must be a scope of this package');
    expect(() => depthLimit(gate, undefined, { onExceed: 'wait' as never })).toThrow('depthLimit: onExceed must be');
  });

  it('100,000 synchronous calls, one in the other and one after the other, use no stack #11', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate({ maxLive: 1 });
      let seen = 0;
      range(100_000)
        .pipe(fanOutScoped((n) => of(n).pipe(depthLimit(gate)), { concurrency: 1 }))
        .subscribe(() => seen++);
      flush();
      expect(seen).toBe(100_000);
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 100_000 });
    }));

  it('a limit inside a deadline counts down when the deadline stops the call', () =>
    virtual(({ flush }) => {
      const gate = new DepthGate(WIDE);
      range(3)
        .pipe(
          fanOutScoped(() => NEVER.pipe(depthLimit(gate))),
          takeWithin(5),
        )
        .subscribe();
      expect(gate.snapshot()).toMatchObject({ live: 3 });
      flush();
      expect(gate.snapshot()).toMatchObject({ live: 0, total: 3 });
    }));

  it('callers keep their async context', () => {
    const user = new AsyncLocalStorage<string>();
    const gate = new DepthGate(WIDE);
    const seen: string[] = [];
    for (const name of ['alice', 'bob'])
      user.run(name, () =>
        defer(() => of(user.getStore()))
          .pipe(depthLimit(gate))
          .subscribe((who) => seen.push(`${name} is ${who}`)),
      );
    expect(seen).toEqual(['alice is alice', 'bob is bob']);
  });
});
