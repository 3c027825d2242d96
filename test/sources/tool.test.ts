import {
  concat,
  EMPTY,
  firstValueFrom,
  from,
  lastValueFrom,
  NEVER,
  Observable,
  of,
  retry,
  Subject,
  take,
  throwError,
  timeout,
  timer,
  toArray,
} from 'rxjs';
import { isDeadlineExceededError, isScopeCancelledError, scoped, takeWithin, type Scope } from 'rxfleet';
import { isToolInputError, isToolOutputError, tool, type ToolCall, type ToolOptions } from 'rxfleet/agents';
import { expectNoOpenScopes } from 'rxfleet/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { fake } from '../support/promises.js';
import { later, torn, virtual } from '../support/virtual.js';

afterEach(expectNoOpenScopes);

const empty = z.object({});
const base = { name: 't', description: 'a tool', input: empty };

/** A tool without input. */
function made<R>(run: (call: ToolCall) => R, options: Partial<ToolOptions<typeof empty, R>> = {}) {
  return tool({ ...base, ...options, run: (_, call) => run(call) });
}

describe('tool: results', () => {
  it('puts out what a promise resolves with, and completes', async () => {
    const add = tool({ ...base, input: z.object({ a: z.number(), b: z.number() }), run: async ({ a, b }) => a + b });
    expect(await lastValueFrom(add({ a: 1, b: 2 }).pipe(toArray()))).toEqual([3]);
  });

  it.each([
    ['an array', [1, 2]],
    ['a string', 'text'],
    ['a Set', new Set([1])],
    ['undefined', undefined],
    ['null', null],
    ['zero', 0],
    ['an object', { a: 1 }],
    ['a function', Math.max],
    ['a generator', (function* () {})()],
  ])('takes %s for one value', async (_, value: unknown) => {
    expect(await lastValueFrom(made(() => value)({}).pipe(toArray()))).toEqual([value]);
  });

  it('unwraps a promise, a thenable, an Observable and an async iterable, once', async () => {
    const all = <R>(run: () => R): Promise<unknown[]> => lastValueFrom(made(run)({}).pipe(toArray()));
    const thenable: PromiseLike<number> = { then: (resolve) => Promise.resolve(5).then(resolve) };
    expect(await all(() => Promise.resolve([1, 2]))).toEqual([[1, 2]]);
    expect(await all(() => thenable)).toEqual([5]);
    expect(await all(() => from(['a', 'b']))).toEqual(['a', 'b']);
    expect(await all(() => of(Promise.resolve(1)))).toEqual([Promise.resolve(1)]);
    expect(
      await all(async function* () {
        yield [1];
        yield [2];
      }),
    ).toEqual([[1], [2]]);
    expect(await all(() => EMPTY)).toEqual([]);
  });

  it('is cold: it runs once per subscription, and never without one', async () => {
    let runs = 0;
    const call = made(() => ++runs)({});
    expect(runs).toBe(0);
    expect(await firstValueFrom(call)).toBe(1);
    expect(await firstValueFrom(call)).toBe(2);
  });

  it('passes the values of an Observable on as they come, and its subscription follows', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-a-b-|');
      const call = made(() => source)({});
      expectObservable(call).toBe('-a-b-|');
      expectObservable(call, '10ms ^--!').toBe('10ms -a-');
      expectSubscriptions(source.subscriptions).toBe(['^----!', '10ms ^--!']);
    }));

  it('stops a synchronous firehose', async () => {
    let pulled = 0;
    const firehose = new Observable<number>((out) => {
      while (!out.closed && pulled < 100_000) out.next(pulled++);
      out.complete();
    });
    expect(await lastValueFrom(made(() => firehose)({}).pipe(take(3), toArray()))).toEqual([0, 1, 2]);
    expect(pulled).toBe(3);
  });

  it('bears the name of the tool', () => {
    expect(made(() => 1, { name: 'look_up' }).name).toBe('look_up');
  });
});

describe('tool: failures', () => {
  it.each([
    ['an Error', new Error('boom')],
    ['a string', 'boom'],
    ['undefined', undefined],
    ['null', null],
    ['an abort that nobody asked for', new DOMException('aborted', 'AbortError')],
  ])('errors with %s as it was thrown, synchronously, by a promise or by an Observable', async (_, error: unknown) => {
    const caught = (run: () => unknown): Promise<unknown> =>
      new Promise((resolve, reject) => made(run)({}).subscribe({ error: resolve, complete: () => reject(new Error('completed')) }));
    const thrower = (): never => {
      throw error;
    };
    expect(await caught(thrower)).toBe(error);
    expect(await caught(() => Promise.reject(error))).toBe(error);
    expect(await caught(() => throwError(() => error))).toBe(error);
  });

  it('checks the input before it runs, and says each problem with its path', async () => {
    let runs = 0;
    const find = tool({
      ...base,
      name: 'find',
      input: z.object({ query: z.string(), filters: z.array(z.object({ name: z.string() })), limit: z.number().max(10) }),
      run: () => ++runs,
    });
    const bad = { query: 1, filters: [{ name: 'a' }, {}], limit: 11 } as never;
    const error = await firstValueFrom(find(bad)).catch((caught: unknown) => caught);
    if (!isToolInputError(error)) throw error;
    expect(error.tool).toBe('find');
    expect(error.problems.map(({ path }) => path)).toEqual(['query', 'filters[1].name', 'limit']);
    expect(error.message).toContain('- filters[1].name: Invalid input: expected string, received undefined');
    expect(error.cause).toBeInstanceOf(z.ZodError);
    expect(runs).toBe(0);
  });

  it('says what each option of a union has against a value', async () => {
    const input = z.object({ at: z.union([z.object({ day: z.string() }), z.object({ hour: z.number() })]) });
    const error = await firstValueFrom(tool({ ...base, input, run: () => 1 })({ at: { hour: 'x' } } as never)).catch((e: unknown) => e);
    expect((error as Error).message).toMatch(/at: .*\(1\) day: .*; \(2\) hour: .*expected number/);
  });

  it('gives run the parsed input: defaults, coercions and transforms applied', async () => {
    const input = z.object({ n: z.coerce.number().default(3), s: z.string().transform((s) => s.length) });
    const seen = await firstValueFrom(tool({ ...base, input, run: (given) => given })({ s: 'four' }));
    expect(seen).toEqual({ n: 3, s: 4 });
  });

  it('waits for schemas with asynchronous parts', async () => {
    const input = z.object({ id: z.string().refine(async (id) => id === 'known', 'no such id') });
    const output = z.string().refine(async (text) => text !== 'bad', 'bad text');
    const get = tool({ ...base, input, output, run: async ({ id }, { path }) => (path.length > 0 ? id : 'bad') });
    expect(await firstValueFrom(get({ id: 'known' }))).toBe('known');
    expect(await firstValueFrom(get({ id: 'other' })).catch((error: unknown) => isToolInputError(error))).toBe(true);
    const bad = tool({ ...base, output, run: () => Promise.resolve('bad') });
    expect(await firstValueFrom(bad({})).catch((error: unknown) => isToolOutputError(error))).toBe(true);
  });

  it('checks every value that it puts out, and emits it as parsed', async () => {
    const output = z.object({ n: z.number() });
    const good = tool({ ...base, output, run: () => of({ n: 1, more: true } as { n: number }, { n: 2 }) });
    expect(await lastValueFrom(good({}).pipe(toArray()))).toEqual([{ n: 1 }, { n: 2 }]);
    const bad = tool({ ...base, output, run: () => concat(of({ n: 'x' as unknown as number }), NEVER) });
    const error = await firstValueFrom(bad({})).catch((caught: unknown) => caught);
    if (!isToolOutputError(error)) throw error;
    expect(error.message).toBe('The output of the tool "t" does not fit its schema:\n- n: Invalid input: expected number, received string');
  });

  it('errors with what a schema throws', async () => {
    const input = z.object({}).refine(() => {
      throw new Error('schema bug');
    });
    await expect(firstValueFrom(tool({ ...base, input, run: () => 1 })({}))).rejects.toThrow('schema bug');
  });
});

describe('tool: the call that run is given', () => {
  it('makes a signal only when it is asked for', async () => {
    const made1 = AbortController;
    let controllers = 0;
    globalThis.AbortController = class extends made1 {
      constructor() {
        super();
        controllers++;
      }
    };
    try {
      await firstValueFrom(made(async () => 1)({}));
      expect(controllers).toBe(0);
      await firstValueFrom(made(async ({ signal }) => signal.aborted)({}));
      expect(controllers).toBe(1);
    } finally {
      globalThis.AbortController = made1;
    }
  });

  it('can be taken apart', async () => {
    const seen = await firstValueFrom(
      made(({ signal, scope, id, idempotencyKey, attempt, depth, path, progress }) => {
        progress('halfway');
        return { aborted: signal.aborted, own: scope.path, same: id === idempotencyKey, id, attempt, depth, path };
      })({}),
    );
    expect(seen).toMatchObject({ aborted: false, own: ['t'], same: true, attempt: 1, depth: 0, path: ['t'] });
    expect(seen.id).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('knows where it is, and how long it has', async () => {
    const inner = made(({ path, depth, scope }) => [path, depth, scope.remaining()] as const, { name: 'inner', timeoutMs: 5_000 });
    const outer = made(({ scope }) => inner({}, scope), { name: 'outer' });
    const level = (ctx: Scope) => outer({}, ctx).pipe(takeWithin(100, { label: 'soon', within: ctx }));
    const run = scoped((scope) => level(scope.child('level')), { label: 'root' });
    const [path, depth, remaining] = await firstValueFrom(run);
    expect(path).toEqual(['root', 'level', 'soon', 'outer', 'inner']);
    expect(depth).toBe(1);
    expect(remaining).toBeLessThanOrEqual(100);
  });

  it('counts attempts under one key, and a new attempt waits for the one before it to stop', () =>
    fake(async ({ works, advance, lines, watch }) => {
      const keys: string[] = [];
      const deaf = works.deaf('deaf', 100, 'late');
      const slow = made((call) => {
        keys.push(`${call.attempt} ${String(call.id === call.idempotencyKey)} ${call.id}`);
        return deaf(call.signal);
      });
      watch(slow({}).pipe(timeout(30), retry(1)));
      await advance(60);
      expect(works.running).toBe(1);
      expect(works.started).toHaveLength(1);
      await advance(200);
      expect(works.peak).toBe(1);
      expect(keys).toHaveLength(1);
      expect(lines).toEqual(['60 error Timeout has occurred', '100 deaf settled']);
      watch(slow({}).pipe(timeout(150), retry(1)));
      await advance(200);
      expect(keys[1]?.slice(0, 6)).toBe('1 true');
    }));

  it('gives every attempt of one Observable the same key', async () => {
    const seen: [number, string][] = [];
    let left = 2;
    const flaky = made(({ attempt, idempotencyKey }) => {
      seen.push([attempt, idempotencyKey]);
      if (left-- > 0) throw new Error('again');
      return 'ok';
    });
    const call = flaky({});
    expect(await firstValueFrom(call.pipe(retry(2)))).toBe('ok');
    expect(seen.map(([attempt]) => attempt)).toEqual([1, 2, 3]);
    expect(new Set(seen.map(([, key]) => key)).size).toBe(1);
    await firstValueFrom(flaky({}));
    expect(seen.at(-1)?.[1]).not.toBe(seen[0]?.[1]);
  });
});

describe('tool: stopping', () => {
  it('unsubscribing aborts the signal with the reason, and the scope above waits for the acknowledgement', () =>
    fake(async ({ works, advance }) => {
      let reason: unknown;
      let root: Scope | undefined;
      const cleanup = works.cleanup('cleanup', 120);
      const slow = made(({ signal }) => {
        signal.addEventListener('abort', () => void (reason = signal.reason));
        return cleanup(signal);
      });
      const run = scoped((scope) => slow({}, scope), { onScope: (scope) => (root = scope) }).subscribe();
      await advance(10);
      run.unsubscribe();
      expect(isScopeCancelledError(reason)).toBe(true);
      expect((reason as { kind: string }).kind).toBe('unsubscribed');
      const closed = root!.closed;
      await advance(119);
      expect(works.running).toBe(1);
      await advance(1);
      expect(works.running).toBe(0);
      expect((await closed).errors).toEqual([]);
    }));

  it('calls made through its scope are cancelled with it and waited for', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const nested = cold('------|');
      const inner = made(() => nested, { name: 'inner' });
      const failing = made(({ scope }) => {
        inner({}, scope).subscribe({ error: () => {} });
        return concat(
          timer(2),
          throwError(() => 'boom'),
        );
      });
      expectObservable(failing({})).toBe('--(a#)', { a: 0 }, 'boom');
      expectSubscriptions(nested.subscriptions).toBe('^-!');
    }));

  it('a result is followed by the end only when what it left running is over', () =>
    virtual(({ cold, expectObservable }) => {
      const inner = made(() => cold('-----(x|)'));
      const outer = made(({ scope }) => {
        inner({}, scope).subscribe();
        return cold('--(a|)');
      });
      expectObservable(outer({})).toBe('--a--|');
    }));

  it('timeoutMs covers the whole call, errors with DeadlineExceededError and waits for the acknowledgement', () =>
    fake(async ({ works, advance, watch, lines }) => {
      const cleanup = works.cleanup('cleanup', 120);
      watch(made(({ signal }) => cleanup(signal), { name: 'slow', timeoutMs: 50 })({}));
      await advance(169);
      expect(lines).toEqual([]);
      await advance(5);
      expect(lines.at(-1)).toMatch(/^17\d error Deadline\(slow 50\)$/);
      expect(works.running).toBe(0);
    }));

  it('graceMs is how long a deaf call is waited for', () =>
    fake(async ({ works, advance }) => {
      const stuck = works.deaf('deaf', 1_000, 'late');
      const errors: unknown[] = [];
      made(() => stuck(new AbortController().signal), { timeoutMs: 50, graceMs: 100 })({}).subscribe({
        error: (error: unknown) => errors.push(error),
      });
      await advance(160);
      const [error] = errors;
      if (!isDeadlineExceededError(error)) throw error;
      expect(error.abandoned.map(({ label }) => label)).toEqual(['t']);
      await advance(1_000);
    }));

  it('is stopped by its own scope without an error', () =>
    virtual(({ expectObservable }) => {
      const call = made(({ scope }) => {
        timer(3).subscribe(() => scope.cancel());
        return NEVER;
      });
      expectObservable(call({})).toBe('---|');
    }));

  it('never runs in a scope that is already cancelled', async () => {
    let runs = 0;
    const root = new Subject<Scope>();
    const first = firstValueFrom(root);
    const run = scoped((scope) => (root.next(scope), NEVER)).subscribe();
    const ctx = await first;
    run.unsubscribe();
    const error = await firstValueFrom(made(() => ++runs)({}, ctx)).catch((caught: unknown) => caught);
    expect(isScopeCancelledError(error)).toBe(true);
    expect(runs).toBe(0);
  });

  it('leaves the signal of a call that succeeded alone', () =>
    virtual(({ flush }) => {
      let aborted = false;
      const call = made(({ signal }) => {
        signal.addEventListener('abort', () => (aborted = true));
        return later(5, 'x');
      });
      scoped((scope) => concat(call({}, scope), NEVER))
        .subscribe()
        .unsubscribe();
      const run = scoped((scope) => concat(call({}, scope), timer(5))).subscribe();
      flush();
      run.unsubscribe();
      expect(aborted).toBe(true);
      aborted = false;
      scoped((scope) => concat(call({}, scope), timer(5))).subscribe();
      flush();
      expect(aborted).toBe(false);
    }));

  it('tears an Observable down once', () =>
    virtual(({ at }) => {
      let times = 0;
      const run = made(() => torn(() => times++))({}).subscribe();
      at(3, () => run.unsubscribe());
      at(4, () => run.unsubscribe());
      at(5, () => expect(times).toBe(1));
    }));
});

describe('tool: definition', () => {
  it('is what the API wants', () => {
    const input = z.object({ query: z.string().describe('what to look for'), limit: z.number().optional() });
    const search = tool({ name: 'search', description: 'Searches.', input, api: { cache_control: { type: 'ephemeral' } }, run: () => 1 });
    expect(search.definition.toApi()).toEqual({
      name: 'search',
      description: 'Searches.',
      cache_control: { type: 'ephemeral' },
      input_schema: {
        type: 'object',
        properties: { query: { type: 'string', description: 'what to look for' }, limit: { type: 'number' } },
        required: ['query'],
      },
    });
    expect(search.definition).toMatchObject({ name: 'search', effect: 'unsafe', timeoutMs: undefined });
  });

  it.each<[string, object, RegExp, typeof TypeError | typeof RangeError]>([
    ['name', { name: 5 }, /^tool: name must be a string, got 5/, TypeError],
    ['name', { name: 'white space' }, /^tool: name must be 1 to 128 letters.*"white space"/, RangeError],
    ['name', { name: 'x'.repeat(129) }, /^tool: name must be/, RangeError],
    ['description', { description: undefined }, /^tool: description must be a string/, TypeError],
    ['input', { input: { type: 'object' } }, /^tool: input must be a zod schema, got an object/, TypeError],
    ['input', { input: z.string() }, /^tool: input of "t" must be a zod object/, TypeError],
    ['input', { input: z.union([z.object({}), z.object({ a: z.string() })]) }, /^tool: input of "t" must be a zod object/, TypeError],
    ['input', { input: z.object({ at: z.date() }) }, /^tool: input of "t" must have a JSON schema/, TypeError],
    ['output', { output: 'text' }, /^tool: output must be a zod schema, got "text"/, TypeError],
    ['effect', { effect: 'some' }, /^tool: effect must be one of "none", "idempotent", "unsafe"/, RangeError],
    ['timeoutMs', { timeoutMs: -1 }, /^tool: timeoutMs must be a number of milliseconds/, RangeError],
    ['timeoutMs', { timeoutMs: NaN }, /^tool: timeoutMs/, RangeError],
    ['timeoutMs', { timeoutMs: '5' }, /^tool: timeoutMs/, TypeError],
    ['graceMs', { graceMs: -1 }, /^tool: graceMs/, RangeError],
    ['api', { api: 'strict' }, /^tool: api must be an object/, TypeError],
    ['run', { run: undefined }, /^tool: run must be a function/, TypeError],
  ])('refuses a wrong %s: %o', (_, wrong, message, kind) => {
    const make = (): unknown => tool({ ...base, run: () => 1, ...wrong } as never);
    expect(make).toThrow(message);
    expect(make).toThrow(kind);
  });

  it('refuses a context that is no scope', () => {
    expect(() => made(() => 1)({}, {} as never)).toThrow(/^t: within must be a scope/);
  });
});
