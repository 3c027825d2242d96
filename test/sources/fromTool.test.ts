import {
  catchError,
  concat,
  EMPTY,
  firstValueFrom,
  from,
  ignoreElements,
  lastValueFrom,
  NEVER,
  Observable,
  of,
  Subject,
  take,
  throwError,
  timer,
  toArray,
} from 'rxjs';
import { scoped, takeWithin, type Scope } from 'rxfleet';
import { fromTool, tool, type AnyTool, type ToolEvent, type ToolOptions } from 'rxfleet/agents';
import { expectNoOpenScopes } from 'rxfleet/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { fake } from '../support/promises.js';
import { virtual } from '../support/virtual.js';

afterEach(expectNoOpenScopes);

const anything = z.object({ n: z.number().optional() });

function made<R>(run: ToolOptions<typeof anything, R>['run'], options: Partial<ToolOptions<typeof anything, R>> = {}) {
  return tool({ name: 't', description: 'a tool', input: anything, ...options, run });
}

const use = { id: 'toolu_1', name: 't', input: { n: 1 } };
const who = { id: 'toolu_1', name: 't' };
const started = { ...who, type: 'started', input: { n: 1 }, attempt: 1, path: ['t'] };

function eventsOf(one: AnyTool | readonly AnyTool[], call: { id: string; name: string; input: unknown } = use): Promise<ToolEvent[]> {
  return lastValueFrom(fromTool(one as AnyTool, call).pipe(toArray()));
}

describe('fromTool', () => {
  it('tells that it started, and the result', async () => {
    expect(await eventsOf(made(async ({ n }) => n))).toEqual([started, { ...who, type: 'result', output: 1 }]);
  });

  it('every value but the last is progress, told when the next one comes; the last is the result', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const values = cold('-a-b-c--|');
      const progress = (value: string): object => ({ ...who, type: 'progress', value });
      expectObservable(fromTool(made(() => values) as AnyTool, use) as Observable<unknown>).toBe('s--a-b--(r|)', {
        s: started,
        a: progress('a'),
        b: progress('b'),
        r: { ...who, type: 'result', output: 'c' },
      });
      expectSubscriptions(values.subscriptions).toBe('^-------!');
    }));

  it('tells what the tool says of its progress at once, and nothing after its end', async () => {
    let late: ((value: unknown) => void) | undefined;
    const events = await eventsOf(
      made(async (_, { progress }) => {
        late = progress;
        progress('half');
        return 'whole';
      }),
    );
    late?.('too late');
    expect(events.map((event) => event.type)).toEqual(['started', 'progress', 'result']);
  });

  it('an Observable that ends empty, and undefined, are results without output', async () => {
    expect((await eventsOf(made(() => EMPTY))).at(-1)).toEqual({ ...who, type: 'result', output: undefined });
    expect((await eventsOf(made(() => undefined))).at(-1)).toEqual({ ...who, type: 'result', output: undefined });
  });

  it('takes the tool from a list by its name', async () => {
    const other = tool({ name: 'other', description: '', input: z.object({}), run: () => 'other' });
    expect((await eventsOf([made(() => 't'), other], { ...use, name: 'other' })).at(-1)).toMatchObject({ output: 'other' });
  });

  it.each([
    ['a list', [made(() => 1)]],
    ['one tool', made(() => 1)],
  ])('fails a call of an unknown tool and names those that %s has', async (_, tools) => {
    const [event, ...rest] = await eventsOf(tools, { ...use, name: 'nope' });
    expect(rest).toEqual([]);
    expect(event).toMatchObject({ type: 'failed', phase: 'input', effect: 'none', error: { name: 'UnknownToolError', known: ['t'] } });
    expect((event as { error: Error }).error.message).toBe('There is no tool "nope". The tools are: t.');
  });

  it.each([
    ['undefined', undefined],
    ['null', null],
    ['a string', '{"n":1}'],
    ['an array', []],
    ['a wrong field', { n: 'x' }],
  ])('fails bad input (%s) without running', async (_, input) => {
    let ran = false;
    const events = await eventsOf(
      made(() => (ran = true)),
      { ...use, input },
    );
    expect(events).toMatchObject([{ type: 'failed', phase: 'input', effect: 'none', error: { name: 'ToolInputError' } }]);
    expect(ran).toBe(false);
  });

  it.each([
    ['an Error', new Error('boom')],
    ['a string', 'boom'],
    ['undefined', undefined],
    ['a falsy number', 0],
  ])('a tool that throws %s has failed with it', async (_, error: unknown) => {
    const thrown: (() => unknown)[] = [
      () => {
        throw error;
      },
      () => Promise.reject(error),
      () =>
        concat(
          of(1),
          throwError(() => error),
        ),
    ];
    for (const run of thrown) {
      const last = (await eventsOf(made(run))).at(-1);
      expect(last).toEqual({ ...who, type: 'failed', phase: 'run', error, effect: 'unknown' });
    }
  });

  it('output that does not fit is a failure of its own phase', async () => {
    const bad = tool({ name: 't', description: '', input: anything, output: z.string(), run: () => 5 as never });
    expect((await eventsOf(bad)).at(-1)).toMatchObject({
      type: 'failed',
      phase: 'output',
      effect: 'unknown',
      error: { name: 'ToolOutputError' },
    });
  });

  it('its own timeout is a failure; a tool without effects has none', () =>
    fake(async ({ advance, works }) => {
      const stopped: ToolEvent[] = [];
      for (const effect of ['none', 'unsafe'] as const) {
        fromTool(
          made((_, { signal }) => works.coop('c', 500, 1)(signal), { timeoutMs: 20, effect }),
          use,
        ).subscribe((e) => stopped.push(e));
      }
      await advance(25);
      expect(stopped.filter(({ type }) => type === 'failed')).toMatchObject([
        { phase: 'timeout', effect: 'none', error: { name: 'DeadlineExceededError', ms: 20 } },
        { phase: 'timeout', effect: 'unknown' },
      ]);
    }));

  it('a deadline of the tool itself is not its timeout', async () => {
    const events = await eventsOf(
      made((_, { scope }) =>
        NEVER.pipe(takeWithin(5, { within: scope }), (s) =>
          concat(
            s,
            throwError(() => 'mine'),
          ),
        ),
      ),
    );
    expect(events.at(-1)).toMatchObject({ type: 'failed', phase: 'run', error: 'mine' });
  });

  it('a cancel from above comes out as cancelled, with the reason, once the tool has acknowledged', () =>
    fake(async ({ advance, works }) => {
      const events: [number, ToolEvent][] = [];
      let ctx: Scope | undefined;
      const cleanup = works.cleanup('c', 120);
      scoped((scope) => ((ctx = scope), NEVER)).subscribe();
      fromTool(
        made((_, { signal }) => cleanup(signal)),
        use,
        ctx,
      ).subscribe((event) => events.push([Date.now(), event]));
      await advance(10);
      ctx!.cancel('enough');
      await advance(200);
      const reason = { kind: 'parent-cancelled', cause: { kind: 'explicit', reason: 'enough' } };
      expect(events.at(-1)).toEqual([130, { ...who, type: 'cancelled', ran: true, effect: 'unknown', reason }]);
    }));

  it('never starts in a scope that is cancelled already', async () => {
    const root = new Subject<Scope>();
    const first = firstValueFrom(root);
    scoped((scope) => (root.next(scope), NEVER))
      .subscribe()
      .unsubscribe();
    const events = await lastValueFrom(
      fromTool(
        made(() => 1),
        use,
        await first,
      ).pipe(toArray()),
    );
    expect(events).toMatchObject([{ type: 'cancelled', ran: false, effect: 'none', reason: { kind: 'parent-cancelled' } }]);
  });

  it('a call that ends itself is cancelled', async () => {
    const quits = made((_, { scope }) => {
      scope.cancel();
      return NEVER;
    });
    expect((await eventsOf(quits)).at(-1)).toMatchObject({ type: 'cancelled', reason: { kind: 'explicit' } });
  });

  it('leaving when it is told that the tool starts keeps it from running', () => {
    let ran = false;
    fromTool(
      made(() => (ran = true)),
      use,
    )
      .pipe(take(1))
      .subscribe();
    expect(ran).toBe(false);
  });

  it('leaving at any event stops the tool', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const values = cold('-a-b-c--|');
      const call = fromTool(
        made(() => values),
        use,
      );
      for (const n of [1, 2, 3]) expectObservable(call.pipe(take(n), ignoreElements())).toBe(n === 1 ? '|' : n === 2 ? '---|' : '-----|');
      expectSubscriptions(values.subscriptions).toBe(['^--!', '^----!']);
    }));

  it('a synchronous firehose is stopped', async () => {
    let pulled = 0;
    const firehose = new Observable<number>((out) => {
      while (!out.closed && pulled < 100_000) out.next(pulled++);
    });
    await lastValueFrom(
      fromTool(
        made(() => firehose),
        use,
      ).pipe(take(4)),
    );
    expect(pulled).toBeLessThan(6);
  });

  it('what a tool left running fails: the call has failed', async () => {
    const inner = tool({
      name: 'inner',
      description: '',
      input: anything,
      run: () => timer(5).pipe(() => throwError(() => new Error('later'))),
    });
    const outer = made((_, { scope }) => {
      scope.track(lastValueFrom(timer(2)).then(() => Promise.reject(new Error('cleanup failed'))));
      return inner({}, scope).pipe(catchError(() => EMPTY));
    });
    expect((await eventsOf(outer)).at(-1)).toMatchObject({ type: 'failed', phase: 'run', error: { name: 'ScopeError' } });
  });

  it('refuses what is no tool, and what is no scope', () => {
    expect(() => fromTool((() => 1) as never, use)).toThrow(/^fromTool: tools must be made with tool\(\)/);
    expect(() => fromTool([{}] as never, use)).toThrow(TypeError);
    expect(() =>
      fromTool(
        made(() => 1),
        use,
        {} as never,
      ),
    ).toThrow(/^fromTool: within must be a scope/);
  });

  it('subscribing twice makes two calls', async () => {
    let runs = 0;
    const call = fromTool(
      made(() => from([++runs])),
      use,
    );
    await lastValueFrom(call);
    expect((await lastValueFrom(call)) as unknown).toMatchObject({ output: 2 });
  });
});
