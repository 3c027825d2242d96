import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { EMPTY, lastValueFrom, take, tap, toArray } from 'rxjs';
import { fanOutScoped, isScopeError, scoped, type ScopeContext } from 'rxfleet';
import { openScopes } from 'rxfleet/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { fromAsyncIterable, type FromAsyncIterableOptions } from '../../src/sources/fromAsyncIterable.js';
import { fake } from '../support/promises.js';
import { handle, reportOf } from '../support/scopes.js';
import { virtual } from '../support/virtual.js';

type Step = () => Promise<IteratorResult<string>>;

const never = (): Promise<never> => new Promise(() => {});
const after = <T>(ms: number, value: T): Promise<T> => new Promise((resolve) => setTimeout(resolve, ms, value));
const rejected = (ms: number, error: unknown): Promise<never> => new Promise((_, reject) => setTimeout(reject, ms, error));
const done: IteratorResult<string> = { done: true, value: undefined };

/** An async iterable from bare functions. */
function iterable(next: Step, stop?: Step): AsyncIterable<string> {
  return { [Symbol.asyncIterator]: () => ({ next, ...(stop === undefined ? {} : { return: stop }) }) };
}

async function* letters(): AsyncGenerator<string> {
  yield await after(1, 'a');
  yield await after(1, 'b');
  yield await after(1, 'c');
}

describe('fromAsyncIterable', () => {
  it('emits the values and completes', () =>
    fake(async ({ watch, lines, advance }) => {
      watch(fromAsyncIterable(letters()));
      await advance(10);
      expect(lines).toEqual(['1 next a', '2 next b', '3 next c', '3 complete']);
    }));

  it('is cold: a function is called for each subscription, and an iterable that can be used once is used once', () =>
    fake(async ({ watch, lines, advance }) => {
      const twice = fromAsyncIterable(letters);
      watch(twice.pipe(toArray()));
      watch(twice.pipe(toArray()));
      const once = fromAsyncIterable(letters());
      watch(once.pipe(toArray()), 'once');
      await advance(10);
      watch(once.pipe(toArray()), 'once');
      await advance(10);
      expect(lines).toHaveLength(8);
      expect(lines.filter((line) => line.endsWith('next [a,b,c]'))).toHaveLength(3);
      expect(lines.slice(-2)).toEqual(['10 once next []', '10 once complete']);
    }));

  it('an empty one completes, one that never yields is waited for', () =>
    fake(async ({ watch, lines, advance }) => {
      watch(fromAsyncIterable(iterable(async () => done)));
      const subscription = watch(fromAsyncIterable(iterable(never, async () => done)), 'never');
      await advance(1000);
      subscription.unsubscribe();
      await advance(0);
      expect(lines).toEqual(['0 complete']);
    }));

  it('pulls one at a time, and the next only when the one before has been handled', () =>
    fake(async ({ advance }) => {
      let asked = 0;
      let pending = 0;
      const source = iterable(async () => {
        expect(++pending).toBe(1);
        await after(1, 0);
        pending--;
        return asked++ < 20 ? { done: false, value: 'x' } : done;
      });
      let seen = 0;
      fromAsyncIterable(source).subscribe(() => expect(asked).toBe(++seen));
      await advance(50);
      expect(seen).toBe(20);
    }));

  it('an endless one of values that are there is stopped by take', () =>
    fake(async ({ watch, lines, note, advance }) => {
      const naturals = async function* (): AsyncGenerator<number> {
        try {
          for (let i = 0; ; i++) yield i;
        } finally {
          note('closed');
        }
      };
      watch(fromAsyncIterable(naturals).pipe(take(3)));
      await advance(0);
      expect(lines).toEqual(['0 next 0', '0 next 1', '0 next 2', '0 complete', '0 closed']);
    }));

  it('fails with what the iterable throws, and does not call return() then', () =>
    fake(async ({ watch, lines, note, advance }) => {
      const fail = (): Promise<never> => rejected(2, new Error('next'));
      watch(fromAsyncIterable(iterable(fail, async () => (note('return'), done))));
      const throwing = function* (): Generator<string> {
        yield 'a';
        throw new Error('generator');
      };
      watch(fromAsyncIterable(throwing), 'sync');
      watch(
        fromAsyncIterable((): AsyncIterable<string> => {
          throw new Error('function');
        }),
        'function',
      );
      await advance(5);
      expect(lines).toEqual(['0 function error function', '0 sync next a', '0 sync error generator', '2 error next']);
    }));

  describe('leaving', () => {
    it('calls return() at once, once, also while next() is stuck for ever', () =>
      fake(async ({ watch, lines, note, advance }) => {
        const group = handle();
        const stuck = iterable(never, async () => (note('return'), await after(3, 0), note('returned'), done));
        const subscription = watch(scoped((scope) => fromAsyncIterable(stuck, { within: scope }), { onScope: group.take }));
        await advance(5);
        subscription.unsubscribe();
        note('left');
        group.scope.closed$.subscribe(() => note('closed'));
        await advance(20);
        expect(lines).toEqual(['5 return', '5 left', '8 returned', '8 closed']);
        expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [], late: [] });
      }));

    it('lets nothing through any more, whatever still comes', () =>
      fake(async ({ watch, lines, advance }) => {
        const late = iterable(
          () => after(5, { done: false, value: 'late' }),
          () => after(10, { done: false, value: 'later' }),
        );
        const subscription = watch(fromAsyncIterable(late));
        await advance(1);
        subscription.unsubscribe();
        await advance(30);
        expect(lines).toEqual([]);
        expect(openScopes()).toEqual([]);
      }));

    it('waits for the pending next() where there is no return()', () =>
      fake(async ({ watch, note, lines, advance }) => {
        const group = handle();
        const subscription = watch(
          scoped(
            (scope) =>
              fromAsyncIterable(
                iterable(() => after(7, done)),
                { within: scope },
              ),
            { onScope: group.take },
          ),
        );
        await advance(1);
        subscription.unsubscribe();
        group.scope.closed$.subscribe(() => note('closed'));
        await advance(20);
        expect(lines).toEqual(['7 closed']);
      }));

    it('a return() that never settles is abandoned, by name, when the grace is over', () =>
      fake(async ({ watch, advance }) => {
        const group = handle();
        const options = { graceMs: 5, onScope: group.take };
        const subscription = watch(
          scoped((scope) => fromAsyncIterable(iterable(never, never), { within: scope, label: 'stuck' }), options),
        );
        await advance(1);
        subscription.unsubscribe();
        await advance(3);
        expect(openScopes()).toMatchObject([{ calls: [{ label: 'stuck', state: 'cancelling' }] }]);
        await advance(20);
        expect(reportOf(group.scope).abandoned).toMatchObject([{ label: 'stuck' }]);
      }));

    it.each<[string, Step]>([
      ['rejects', () => rejected(2, new Error('return'))],
      [
        'throws',
        () => {
          throw new Error('return');
        },
      ],
    ])('a return() that %s is a failure of the cleanup', (_, stop) =>
      fake(async ({ watch, advance, lines }) => {
        const group = handle();
        const subscription = watch(scoped((scope) => fromAsyncIterable(iterable(never, stop), { within: scope }), { onScope: group.take }));
        await advance(1);
        subscription.unsubscribe();
        await advance(5);
        expect(lines).toEqual([]);
        expect(reportOf(group.scope).errors).toMatchObject([{ phase: 'cleanup', error: { message: 'return' } }]);
      }),
    );

    it('in the middle of a synchronous subscribe calls nothing, or return()', () =>
      fake(async ({ note, lines, advance }) => {
        const source = fromAsyncIterable({
          [Symbol.asyncIterator]: () => ({
            next: () => (note('next'), never()),
            return: async () => (note('return'), done),
          }),
        });
        source.subscribe().unsubscribe();
        source.pipe(take(0)).subscribe();
        await advance(1);
        expect(lines).toEqual(['0 next', '0 return']);
      }));

    it('subscribed again, it waits until the one that was left has ended', () =>
      fake(async ({ watch, lines, note, advance }) => {
        const source = fromAsyncIterable(() => {
          note('open');
          return iterable(never, () => after(4, done));
        });
        source.subscribe().unsubscribe();
        const second = watch(source);
        await advance(10);
        second.unsubscribe();
        await advance(10);
        expect(lines).toEqual(['0 open', '4 open']);
      }));
  });

  describe('a signal', () => {
    it('is given to a function that asks for it, and reaches a generator in the middle of an await', () =>
      fake(async ({ watch, lines, note, advance }) => {
        const group = handle();
        const reading = async function* (signal: AbortSignal): AsyncGenerator<string> {
          try {
            yield 'a';
            yield await new Promise<string>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
          } finally {
            note('closed');
          }
        };
        const subscription = watch(scoped((scope) => fromAsyncIterable(reading, { within: scope }), { onScope: group.take }));
        await advance(5);
        subscription.unsubscribe();
        await advance(0);
        expect(lines).toEqual(['0 next a', '5 closed']);
        expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [] });
      }));

    it('without it a generator that waits for ever is abandoned', () =>
      fake(async ({ watch, advance }) => {
        const group = handle();
        const deaf = async function* (): AsyncGenerator<string> {
          yield await never();
        };
        const subscription = watch(scoped((scope) => fromAsyncIterable(deaf, { within: scope }), { graceMs: 5, onScope: group.take }));
        await advance(1);
        subscription.unsubscribe();
        await advance(10);
        expect(reportOf(group.scope).abandoned).toMatchObject([{ label: 'deaf' }]);
      }));

    it('is not made for a function that does not', () =>
      fake(async ({ watch, advance }) => {
        let given = -1;
        watch(fromAsyncIterable((...args: unknown[]) => ((given = args.length), [1])));
        await advance(0);
        expect(given).toBe(0);
      }));
  });

  describe('an iterable that is not asynchronous', () => {
    it('emits its values, and those of its promises, in order', () =>
      fake(async ({ watch, lines, advance }) => {
        watch(fromAsyncIterable([after(3, 'slow'), 'now', after(1, 'quick')]));
        watch(fromAsyncIterable(new Set([1, 2])), 'set');
        await advance(10);
        expect(lines).toEqual([
          '0 set next 1',
          '0 set next 2',
          '0 set complete',
          '3 next slow',
          '3 next now',
          '3 next quick',
          '3 complete',
        ]);
      }));

    it('is asked for the next only when its promise has settled', () =>
      fake(async ({ watch, lines, note, advance }) => {
        const jobs = function* (): Generator<Promise<string>> {
          for (const name of ['a', 'b']) {
            note(`start ${name}`);
            yield after(2, name);
          }
        };
        watch(fromAsyncIterable(jobs));
        await advance(10);
        expect(lines).toEqual(['0 start a', '2 next a', '2 start b', '4 next b', '4 complete']);
      }));

    it('a promise that rejects fails it, and the iterable cleans up', () =>
      fake(async ({ watch, lines, note, advance }) => {
        const jobs = function* (): Generator<Promise<string>> {
          try {
            yield rejected(1, new Error('job'));
          } finally {
            note('closed');
            throw new Error('lost, as in for await');
          }
        };
        watch(fromAsyncIterable(jobs));
        await advance(5);
        expect(lines).toEqual(['1 closed', '1 error job']);
      }));

    it('leaving lets it clean up at once, and the scope waits for the promise that is pending', () =>
      fake(async ({ watch, lines, note, advance }) => {
        const group = handle();
        const jobs = function* (): Generator<Promise<string>> {
          try {
            yield after(9, 'a');
          } finally {
            note('cleaned');
          }
        };
        const subscription = watch(scoped((scope) => fromAsyncIterable(jobs, { within: scope }), { onScope: group.take }));
        await advance(2);
        subscription.unsubscribe();
        group.scope.closed$.subscribe(() => note('closed'));
        await advance(20);
        expect(lines).toEqual(['2 cleaned', '9 closed']);
        expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [] });
      }));

    it('what it throws while it cleans up, and what the pending promise rejects with, are failures of the cleanup', () =>
      fake(async ({ watch, advance }) => {
        const group = handle();
        const jobs = function* (): Generator<Promise<string>> {
          try {
            yield rejected(5, new Error('job'));
          } finally {
            throw new Error('cleanup');
          }
        };
        const subscription = watch(scoped((scope) => fromAsyncIterable(jobs, { within: scope }), { onScope: group.take }));
        await advance(1);
        subscription.unsubscribe();
        await advance(10);
        expect(reportOf(group.scope).errors.map(({ error, phase }) => [String(error), phase])).toEqual([
          ['Error: job', 'cleanup'],
          ['Error: cleanup', 'cleanup'],
        ]);
      }));

    it('an object that is both is asynchronous', () =>
      fake(async ({ watch, lines, advance }) => {
        watch(fromAsyncIterable({ [Symbol.iterator]: () => ['sync'][Symbol.iterator](), [Symbol.asyncIterator]: letters }));
        await advance(5);
        expect(lines.at(0)).toBe('1 next a');
      }));
  });

  it('in a fan-out a failing sibling stops it, and the group ends when it has', () =>
    fake(async ({ watch, lines, note, advance }) => {
      const run = (_: number, index: number, ctx: ScopeContext) =>
        fromAsyncIterable(
          index === 0
            ? iterable(never, async () => (await after(4, 0), note('returned'), done))
            : iterable(() => rejected(3, new Error('b'))),
          {
            within: ctx,
          },
        );
      watch(scoped(() => EMPTY));
      watch(lastOf([1, 2], run), 'group');
      await advance(20);
      expect(lines).toEqual(['0 complete', '7 returned', '7 group error ScopeError[b]']);
    }));

  it('a ReadableStream of the platform is one', async () => {
    const stream = new ReadableStream<string>({
      start(controller) {
        controller.enqueue('a');
        controller.enqueue('b');
        controller.close();
      },
    });
    expect(await lastValueFrom(fromAsyncIterable(stream).pipe(toArray()))).toEqual(['a', 'b']);
    expect(stream.locked).toBe(false);
  });

  describe('a ReadableStream', () => {
    it('that is stuck is cancelled at once, and the scope waits for its cancel', () =>
      fake(async ({ watch, advance, lines, note }) => {
        const group = handle();
        const cancel = async (): Promise<void> => {
          note('cancel');
          await after(3, undefined);
        };
        const stream = new ReadableStream<string>({ pull: never, cancel });
        const subscription = watch(scoped((scope) => fromAsyncIterable(stream, { within: scope }), { onScope: group.take }));
        await advance(1);
        expect(stream.locked).toBe(true);
        subscription.unsubscribe();
        expect(stream.locked).toBe(false);
        await advance(1);
        expect(openScopes()).toHaveLength(1);
        await advance(5);
        expect(lines).toEqual(['1 cancel']);
        expect(reportOf(group.scope)).toMatchObject({ errors: [], abandoned: [] });
      }));

    it('that is left after a value is cancelled, and one that has ended is not', async () => {
      let cancelled = 0;
      const endless = new ReadableStream<number>({ pull: (controller) => controller.enqueue(1), cancel: () => void cancelled++ });
      expect(await lastValueFrom(fromAsyncIterable(endless).pipe(take(3), toArray()))).toEqual([1, 1, 1]);
      expect([cancelled, endless.locked]).toEqual([1, false]);
    });

    it('that breaks fails it with what it broke with, and is not locked any more', async () => {
      const stream = new ReadableStream({ pull: (controller) => controller.error(new Error('broken')) });
      await expect(lastValueFrom(fromAsyncIterable(stream))).rejects.toThrow('broken');
      expect(stream.locked).toBe(false);
    });

    it('that breaks as it is left is no failure of the cleanup, a `cancel` that throws is', () =>
      fake(async ({ watch, advance }) => {
        const signal = handle();
        const thrower = handle();
        const follow = (controller: ReadableStreamDefaultController, { signal: stop }: { signal: AbortSignal }): void =>
          stop.addEventListener('abort', () => controller.error(stop.reason));
        const streams = [
          scoped(
            (scope) =>
              fromAsyncIterable((stop) => new ReadableStream<string>({ start: (c) => follow(c, { signal: stop }) }), { within: scope }),
            { onScope: signal.take },
          ),
          scoped((scope) => fromAsyncIterable(new ReadableStream<string>({ cancel: () => rejected(1, new Error('cancel')) }), { within: scope }), { onScope: thrower.take }), // prettier-ignore
        ];
        const subscriptions = streams.map((each) => watch(each));
        await advance(1);
        for (const each of subscriptions) each.unsubscribe();
        await advance(5);
        expect(reportOf(signal.scope)).toMatchObject({ errors: [], abandoned: [] });
        expect(reportOf(thrower.scope).errors).toMatchObject([{ phase: 'cleanup', error: { message: 'cancel' } }]);
      }));

    it('that somebody else reads fails it, and stays theirs', async () => {
      const stream = new ReadableStream<string>();
      const reader = stream.getReader();
      await expect(lastValueFrom(fromAsyncIterable(stream))).rejects.toThrow(TypeError);
      expect(stream.locked).toBe(true);
      reader.releaseLock();
    });

    it('of a response that is left closes its connection', async () => {
      const server = createServer((_request, response) => void response.write('first'));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      onTestFinished(() => void server.close());
      const closed = new Promise((resolve) => server.on('connection', (socket) => socket.on('close', resolve)));
      const { body } = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
      const group = handle();
      const chunks = scoped(() => fromAsyncIterable(body!), { onScope: group.take });
      let seen = 0;
      const subscription = chunks.subscribe(() => seen++);
      await expect.poll(() => seen).toBe(1);
      subscription.unsubscribe();
      await closed;
      expect(reportOf(group.scope).abandoned).toEqual([]);
    });
  });

  it('has the name of its function, or the one that it is given', () =>
    fake(async ({ advance }) => {
      const stop = async (): Promise<IteratorResult<string>> => done;
      const ticks = (): AsyncIterable<string> => iterable(never, stop);
      const subscriptions = [
        fromAsyncIterable(ticks),
        fromAsyncIterable(ticks()),
        fromAsyncIterable(() => ticks()),
        fromAsyncIterable(ticks, { label: 'clock' }),
      ].map((source) => source.subscribe());
      expect(openScopes().flatMap(({ calls }) => calls.map(({ label }) => label))).toEqual(['ticks', 'iterable', 'iterable', 'clock']);
      for (const each of subscriptions) each.unsubscribe();
      await advance(0);
    }));

  it('keeps a marble test in virtual time as it is: nothing is emitted synchronously', () =>
    virtual(({ watch, lines }) => {
      const subscription = watch(fromAsyncIterable(['a']).pipe(tap(() => expect.unreachable())));
      subscription.unsubscribe();
      expect(lines).toEqual([]);
    }));

  it.each<[string, unknown, unknown]>([
    ['undefined', undefined, {}],
    ['null', null, {}],
    ['a number', 5, {}],
    ['a string, which would come out letter by letter', 'abc', {}],
    ['an object', {}, {}],
    ['a promise', Promise.resolve([1]), {}],
    ['label', [], { label: 5 }],
    ['within', [], { within: {} }],
  ])('%s throws a TypeError at once', (_, source, options) => {
    expect(() => fromAsyncIterable(source as [], options as FromAsyncIterableOptions)).toThrow(TypeError);
    expect(() => fromAsyncIterable(source as [], options as FromAsyncIterableOptions)).toThrow(/^fromAsyncIterable: /);
  });

  it.each([
    ['a string', 'abc'],
    ['a promise', Promise.resolve([1])],
    ['nothing', undefined],
  ])('a function that gives %s fails', (_, given) =>
    fake(async ({ advance }) => {
      let error: unknown;
      fromAsyncIterable<unknown>(() => given as never).subscribe({ error: (thrown: unknown) => (error = thrown) });
      await advance(0);
      expect(error).toBeInstanceOf(TypeError);
      expect(isScopeError(error)).toBe(false);
    }),
  );
});

function lastOf(
  values: readonly number[],
  run: (value: number, index: number, ctx: ScopeContext) => ReturnType<typeof fromAsyncIterable<string>>,
) {
  return fromAsyncIterable(values).pipe(fanOutScoped(run));
}
