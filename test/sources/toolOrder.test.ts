import { from, lastValueFrom, take, toArray } from 'rxjs';
import { KeyedLock } from 'rxfleet';
import {
  isDependencyFailedError,
  tool,
  toolGraph,
  turn,
  type AnyTool,
  type ToolEvent,
  type TurnEvent,
  type TurnOptions,
} from 'rxfleet/agents';
import { expectNoOpenScopes, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
const log: string[] = [];
beforeEach(() => {
  log.length = 0;
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

type Options = Partial<Parameters<typeof tool>[0]> & { readonly dependsOn?: readonly string[] };
const step = (name: string, dependsOn: readonly string[] = [], { ms = 5, ...options }: Options & { ms?: number } = {}): AnyTool =>
  tool({
    effect: 'none',
    ...options,
    name,
    description: name,
    input: z.object({ fail: z.boolean().optional() }),
    dependsOn,
    run: async ({ fail }) => {
      log.push(`${name}+`);
      await sleep(ms);
      log.push(`${name}-`);
      if (fail === true) throw new Error(`${name} broke`);
      return name;
    },
  });

async function run(names: readonly string[], tools: readonly AnyTool[], options: Partial<TurnOptions> = {}) {
  const calls = names.map((each) => {
    const [name = '', how] = each.split('!');
    return { name, input: how === undefined ? {} : { fail: true } };
  });
  const { client } = await start([reply.toolUse(calls)]);
  const events = await lastValueFrom(turn({ client, ...ask, tools, ...options }).pipe(toArray()));
  const told = events.flatMap((event) => (event.type === 'tool' ? [event.event] : []));
  const end = events.at(-1) as TurnEvent & { type: 'turn' };
  return { told, end, ids: end.results.map((each) => each.tool_use_id), results: end.results.map(({ content }) => content) };
}

const of = (events: readonly ToolEvent[], name: string) => events.filter((each) => each.name === name);

describe('tools that depend on others', () => {
  it('wait for the calls of those in the same reply, in whatever order the model made them; the rest does not', async () => {
    const tools = [step('login', [], { ms: 30 }), step('fetch', ['login']), step('other'), step('save', ['fetch', 'login'])];
    const { told, results, ids } = await run(['save', 'fetch', 'other', 'login', 'login'], tools);
    expect(log.slice(-4)).toEqual(['fetch+', 'fetch-', 'save+', 'save-']);
    expect(log.indexOf('other-')).toBeLessThan(log.indexOf('login-'));
    expect(results).toEqual(['save', 'fetch', 'other', 'login', 'login']);
    expect(of(told, 'fetch')[0]).toMatchObject({ type: 'waiting', for: 'calls', on: [ids[3], ids[4]] });
    expect(of(told, 'save')[0]).toMatchObject({ type: 'waiting', for: 'calls', on: [ids[1], ids[3], ids[4]] });
    expect(of(told, 'other').map(({ type }) => type)).toEqual(['started', 'result']);
  });

  it('run at once where the reply has no such call', async () => {
    const { told } = await run(['fetch'], [step('login'), step('fetch', ['login'])]);
    expect(told.map(({ type }) => type)).toEqual(['started', 'result']);
  });

  it('take no slot while they wait', async () => {
    const tools = [step('a'), step('b', ['a']), step('c', ['b'])];
    const { results } = await run(['c', 'c', 'b', 'b', 'a'], tools, { concurrency: 1 });
    expect(log.join(' ')).toBe('a+ a- b+ b- b+ b- c+ c- c+ c-');
    expect(results).toEqual(['c', 'c', 'b', 'b', 'a']);
  });

  it('do not run when one of those fails, and the model is told where it began', async () => {
    const tools = [step('login'), step('fetch', ['login']), step('save', ['fetch']), step('other')];
    const { told, results } = await run(['save', 'fetch', 'login!', 'other'], tools);
    expect(log.filter((each) => each.endsWith('+')).sort()).toEqual(['login+', 'other+']);
    const failed = of(told, 'save').at(-1) as ToolEvent & { type: 'failed' };
    expect(failed).toMatchObject({
      type: 'failed',
      phase: 'input',
      effect: 'none',
      error: { call: 'save', dependency: 'fetch', root: 'login' },
    });
    expect(isDependencyFailedError(failed.error) && (failed.error.cause as Error).message).toContain('"fetch" needs "login"');
    expect(results[0]).toMatch(/"save" needs "fetch", which has no result because "login" has none.*did not run/s);
    expect(results[2]).toContain('login broke');
  });

  it('also where it was refused, unknown to its schema, or timed out', async () => {
    const strict = tool({ name: 'login', description: '', effect: 'none', input: z.object({ user: z.string() }), run: () => 1 });
    expect((await run(['login', 'fetch'], [strict, step('fetch', ['login'])])).results[1]).toContain('needs "login"');
    const slow = step('login', [], { ms: 300, timeoutMs: 10, graceMs: 0 });
    expect((await run(['login', 'fetch'], [slow, step('fetch', ['login'])])).results[1]).toContain('needs "login"');
    await sleep(300);
  });

  it('are not started early', async () => {
    const { client } = await start([
      reply.toolUse(
        [
          { name: 'fetch', input: {} },
          { name: 'login', input: {} },
        ],
        { pace: { eventMs: 10 } },
      ),
    ]);
    await lastValueFrom(turn({ client, ...ask, tools: [step('login'), step('fetch', ['login'])] }));
    expect(log).toEqual(['login+', 'login-', 'fetch+', 'fetch-']);
  });

  it('are told of the time of the group, like all others', async () => {
    const tools = [step('login', [], { ms: 500, graceMs: 0 }), step('fetch', ['login'])];
    const { results } = await run(['fetch', 'login'], tools, { timeouts: { group: 30 } });
    expect(results[0]).toMatch(/"fetch" did not run: the time of 30 ms/);
    expect(results[1]).toMatch(/"login" was not finished in time .* the time of 30 ms/);
    expect(log).toEqual(['login+']);
    await sleep(500);
  });

  it('never start when the listener has left, at whatever event', async () => {
    const tools = [step('a', [], { ms: 0 }), step('b', ['a'], { ms: 0 }), step('c', ['b'], { ms: 0 })];
    const { client } = await start(() => reply.toolUse(['c', 'b', 'a'].map((name) => ({ name, input: {} }))));
    const all = await lastValueFrom(turn({ client, ...ask, tools }).pipe(toArray()));
    for (let n = 1; n < all.length; n++) {
      log.length = 0;
      await lastValueFrom(turn({ client, ...ask, tools }).pipe(take(n), toArray()));
      const before = log.length;
      await sleep(2);
      expect(
        log.slice(before).filter((each) => each.endsWith('+')),
        `left at event ${n}`,
      ).toEqual([]);
    }
  });

  it('a thousand of them cost no more than a moment', async () => {
    const tools = [step('a', [], { ms: 0 }), step('b', ['a'], { ms: 0 })];
    const names = [...Array<string>(500).fill('b'), ...Array<string>(500).fill('a')];
    const { results } = await run(names, tools, { concurrency: 1000 });
    expect(results).toEqual(names);
  });

  it('must exist, and not need each other', async () => {
    const { client } = await start([]);
    const made =
      (...tools: AnyTool[]) =>
      () =>
        turn({ client, ...ask, tools });
    expect(made(step('a', ['b']))).toThrow('tools: dependsOn of "a" must be names of tools that are there');
    expect(made(step('a', ['b']), step('b', ['c']), step('c', ['a']))).toThrow('a -> b -> c -> a');
    expect(made(step('a', ['a']))).toThrow(TypeError);
    expect(() => step('a', 'b' as never)).toThrow('dependsOn must be an array of names');
  });
});

describe('calls that conflict', () => {
  it('tell that they wait, and for which keys', async () => {
    const edit = tool({
      name: 'edit',
      description: 'edits',
      input: z.object({ file: z.string() }),
      resources: ({ file }) => ({ writes: [file], reads: ['config'] }),
      run: () => sleep(10),
    });
    const { client } = await start([reply.toolUse(['a', 'b', 'a'].map((file) => ({ name: 'edit', input: { file } })))]);
    const events = await lastValueFrom(turn({ client, ...ask, tools: [edit], lock: new KeyedLock() }).pipe(toArray()));
    const waiting = events.flatMap((event) => (event.type === 'tool' && event.event.type === 'waiting' ? [event.event] : []));
    const results = (events.at(-1) as TurnEvent & { type: 'turn' }).results;
    expect(waiting).toMatchObject([{ id: results[2]?.tool_use_id, for: 'resources', on: ['a', 'config'] }]);
  });
});

describe('plans', () => {
  it('calls of tools that depend on others wait for those in front of them in the plan', async () => {
    const plan = [
      { id: 'l', name: 'login', input: {} },
      { id: 'f', name: 'fetch', input: {} },
      { id: 's', name: 'save', input: {} },
    ];
    const tools = [step('login', [], { ms: 20 }), step('fetch', ['login']), step('save', ['login', 'fetch'])];
    await lastValueFrom(from(plan).pipe(toolGraph({ tools })));
    expect(log).toEqual(['login+', 'login-', 'fetch+', 'fetch-', 'save+', 'save-']);
    const failing = [{ ...plan[0]!, input: { fail: true } }, plan[1]!];
    const events = await lastValueFrom(from(failing).pipe(toolGraph({ tools }), toArray()));
    expect(events.find(({ id, type }) => id === 'f' && type === 'failed')).toMatchObject({ error: { dependency: 'l' } });
    expect(() => toolGraph({ tools: [step('a', ['b'])] })).toThrow('dependsOn of "a"');
  });
});
