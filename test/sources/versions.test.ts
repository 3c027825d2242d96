import { concat, EMPTY, lastValueFrom, of, throwError, toArray } from 'rxjs';
import { guard, RetryGate } from 'rxfleet';
import {
  agent,
  conversation,
  tool,
  turn,
  VersionConflictError,
  type AgentEvent,
  type AnyTool,
  type ToolEvent,
  type ToolRequest,
} from 'rxfleet/agents';
import { expectNoOpenScopes, lastToolResults, reply } from 'rxfleet/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ask, sleep, start, watchProcess } from './harness.js';

let quiet: () => void;
beforeEach(() => {
  quiet = watchProcess();
});
afterEach(async () => {
  expectNoOpenScopes();
  await sleep(0);
  quiet();
});

/** Pages with versions, as behind ETag and If-Match. */
class Store {
  readonly pages = new Map<string, { version: number; text: string }>();
  readonly writes: string[] = [];
  readMs = 1;

  constructor(...names: string[]) {
    for (const name of names) this.pages.set(name, { version: 1, text: 'first' });
  }

  put(name: string, text: string, base: unknown): number {
    const page = this.pages.get(name) ?? { version: 0, text: '' };
    if (base !== page.version) throw new VersionConflictError((base ?? 'none') as number, page.version, page.text);
    const version = page.version + 1;
    this.pages.set(name, { version, text });
    this.writes.push(`${name}: ${text}`);
    return version;
  }

  tools(conflictRetries?: number): AnyTool[] {
    const page = z.object({ name: z.string() });
    return [
      tool({
        name: 'read',
        description: 'reads',
        effect: 'none',
        input: page,
        versionOf: ({ name }) => name,
        run: async ({ name }, { noteVersion }) => {
          const { version, text } = this.pages.get(name)!;
          await sleep(this.readMs);
          noteVersion(version);
          return text;
        },
      }),
      tool({
        name: 'write',
        description: 'writes',
        effect: 'idempotent',
        input: page.extend({ text: z.string() }),
        versionOf: ({ name }) => name,
        conflictRetries,
        run: async ({ name, text }, call) => {
          await sleep(1);
          call.noteVersion(this.put(name, text, call.version));
          return 'written';
        },
      }),
    ];
  }
}

const read = (name: string) => ({ name: 'read', input: { name } });
const write = (name: string, text: string) => ({ name: 'write', input: { name, text } });
const tools = (events: readonly AgentEvent[]): ToolEvent[] => events.flatMap((event) => (event.type === 'tool' ? [event.event] : []));
const answers = (events: readonly AgentEvent[]) =>
  events.flatMap((event) => (event.type === 'turn' ? event.results.map(({ content }) => content as string) : []));

async function run(
  store: Store,
  replies: Parameters<typeof reply.toolUse>[0][],
  between: (turn: number) => void = () => {},
  retries?: number,
) {
  let turns = 0;
  const { client } = await start(() => {
    between(turns);
    const calls = replies[turns++];
    return calls === undefined ? reply.text('done') : reply.toolUse(calls);
  });
  return lastValueFrom(agent({ client, ...ask, tools: store.tools(retries) }).pipe(toArray()));
}

describe('versions', () => {
  it('a write is based on what was read, without the model having to carry it', async () => {
    const store = new Store('a');
    const events = await run(store, [[read('a')], [write('a', 'second')], [write('a', 'third')]]);
    expect(answers(events)).toEqual(['first', 'written', 'written']);
    expect(store.writes).toEqual(['a: second', 'a: third']);
  });

  it('nothing is overwritten that somebody else has written since: the model sees it, and may then write', async () => {
    const store = new Store('a');
    const somebody = (turn: number) => turn === 1 && store.put('a', 'theirs', 1);
    const events = await run(store, [[read('a')], [write('a', 'mine')], [write('a', 'theirs and mine')]], somebody);
    expect(answers(events)[1]).toMatch(/Nothing was written.*version 1.*version 2.*theirs/s);
    expect(store.writes).toEqual(['a: theirs', 'a: theirs and mine']);
    const conflict = tools(events).find(({ type }) => type === 'conflict');
    expect(conflict).toMatchObject({ again: false, error: { expected: 1, version: 2, current: 'theirs' } });
  });

  it('a write in the same reply as the read is not based on it: it was composed before', async () => {
    const store = new Store('a');
    const somebody = (turn: number) => turn === 1 && store.put('a', 'theirs', 1);
    const events = await run(store, [[read('a')], [read('a'), write('a', 'mine')], [write('a', 'both')]], somebody);
    expect(answers(events)[2]).toContain('Nothing was written');
    expect(store.pages.get('a')?.text).toBe('both');
  });

  it('a read in the same reply as a write does not take back what was written', async () => {
    for (const slowMs of [1, 20]) {
      const store = new Store('a');
      store.readMs = slowMs;
      const events = await run(store, [[read('a')], [read('a'), write('a', 'second')], [write('a', 'third')]]);
      expect(answers(events).slice(1)).toEqual(['first', 'written', 'written']);
      expect(store.writes).toEqual(['a: second', 'a: third']);
    }
  });

  it('who has never read has no version', async () => {
    const store = new Store('a');
    const events = await run(store, [[write('a', 'blind')]]);
    expect(answers(events)[0]).toContain('based on version none');
    expect(store.writes).toEqual([]);
  });

  it('keys have versions of their own', async () => {
    const store = new Store('a', 'b');
    store.put('b', 'two', 1);
    const events = await run(store, [
      [read('a'), read('b')],
      [write('a', 'x'), write('b', 'y')],
    ]);
    expect(answers(events).slice(2)).toEqual(['written', 'written']);
  });

  it('they belong to the conversation, not to the agent', async () => {
    const store = new Store('a');
    const chat = conversation([ask.messages[0]!]);
    const script = [[read('a')], undefined, [write('a', 'later')], undefined];
    let n = 0;
    const { client } = await start(() => {
      const calls = script[n++];
      return calls === undefined ? reply.text('ok') : reply.toolUse(calls);
    });
    const options = { client, ...ask, messages: chat, tools: store.tools() };
    await lastValueFrom(agent(options));
    chat.add({ role: 'user', content: 'and now write' });
    const events = await lastValueFrom(agent(options).pipe(toArray()));
    expect(answers(events)).toEqual(['written']);
  });

  it('what was read for a reply that broke off was not seen', async () => {
    const store = new Store('a');
    const chat = conversation([ask.messages[0]!]);
    let n = 0;
    const { client } = await start(() =>
      n++ === 0
        ? reply.toolUse([read('a'), read('a')], { pace: { eventMs: 10 }, fault: { kind: 'fin', after: 8 } })
        : reply.toolUse([write('a', 'x')]),
    );
    const options = { client, ...ask, messages: chat, tools: store.tools() };
    await expect(lastValueFrom(turn(options))).rejects.toThrow('without message_stop');
    const events = await lastValueFrom(turn(options).pipe(toArray()));
    expect(answers(events)[0]).toContain('based on version none');
  });
});

describe('conflictRetries', () => {
  it('an idempotent write runs again on the version that is there, as often as it may', async () => {
    const store = new Store('a');
    const somebody = (turn: number) => turn === 1 && store.put('a', 'theirs', 1);
    const events = await run(store, [[read('a')], [write('a', 'mine')], [write('a', 'more')]], somebody, 1);
    expect(answers(events)).toEqual(['first', 'written', 'written']);
    const told = tools(events)
      .filter(({ name }) => name === 'write')
      .map((event) =>
        event.type === 'started' ? `started ${event.attempt}` : event.type === 'conflict' ? `conflict ${event.again}` : event.type,
      );
    expect(told).toEqual(['started 1', 'conflict true', 'started 2', 'result', 'started 1', 'result']);
  });

  it('and no more often', async () => {
    let tries = 0;
    const busy = tool({
      name: 'write',
      description: 'writes',
      effect: 'idempotent',
      input: z.object({}),
      versionOf: () => 'a',
      conflictRetries: 3,
      run: (_input, call) => {
        tries++;
        throw new VersionConflictError(call.version ?? 0, Number(call.version ?? 0) + 1, 'always somebody');
      },
    });
    const { client } = await start((request) =>
      lastToolResults(request).length > 0 ? reply.text('so be it') : reply.toolUse([{ name: 'write', input: {} }]),
    );
    const retry = new RetryGate({ name: 'tools', baseMs: 1 });
    const events = await lastValueFrom(agent({ client, ...ask, tools: [busy], toolGuard: guard<ToolRequest>({ retry }) }).pipe(toArray()));
    expect(tries).toBe(4);
    expect(tools(events).filter(({ type }) => type === 'conflict')).toMatchObject([
      { again: true },
      { again: true },
      { again: true },
      { again: false },
    ]);
    expect(answers(events)[0]).toContain('version 4:');
  });

  it('is refused for tools that may not be repeated, or have no versions', () => {
    const base = { name: 'write', description: 'writes', input: z.object({}), run: () => 1 };
    expect(() => tool({ ...base, versionOf: () => 'a', conflictRetries: 1 })).toThrow(RangeError);
    expect(() => tool({ ...base, effect: 'idempotent', conflictRetries: 1 })).toThrow('conflictRetries');
    expect(() => tool({ ...base, versionOf: 5 as never })).toThrow(TypeError);
  });

  it('a run that met a conflict leaves no value behind', async () => {
    let tries = 0;
    const odd = tool({
      name: 'odd',
      description: '',
      effect: 'idempotent',
      input: z.object({}),
      versionOf: () => 'a',
      conflictRetries: 1,
      run: () =>
        tries++ === 0
          ? concat(
              of('stale'),
              throwError(() => new VersionConflictError(1, 2, 'x')),
            )
          : EMPTY,
    });
    const { client } = await start([reply.toolUse([{ name: 'odd', input: {} }])]);
    const events = await lastValueFrom(turn({ client, ...ask, tools: [odd] }).pipe(toArray()));
    expect(answers(events)).toEqual(['The call completed without output.']);
  });

  it('a key that cannot be told fails its own call', async () => {
    const broken = tool({
      name: 'broken',
      description: '',
      input: z.object({}),
      versionOf: () => {
        throw new Error('no key');
      },
      run: () => 1,
    });
    const { client } = await start([reply.toolUse([{ name: 'broken', input: {} }])]);
    const events = await lastValueFrom(turn({ client, ...ask, tools: [broken] }).pipe(toArray()));
    expect(answers(events)[0]).toContain('no key');
  });

  it('leaving in the middle of a retry leaves nothing behind', async () => {
    const store = new Store('a');
    const somebody = (turn: number) => turn === 1 && store.put('a', 'theirs', 1);
    let turns = 0;
    const { client } = await start(() => {
      somebody(turns);
      return reply.toolUse(turns++ === 0 ? [read('a')] : [write('a', 'mine')]);
    });
    await new Promise<void>((resolve) => {
      const running = agent({ client, ...ask, tools: store.tools(5) }).subscribe((event) => {
        if (event.type !== 'tool' || event.event.type !== 'conflict') return;
        running.unsubscribe();
        resolve();
      });
    });
    await sleep(10);
    expect(store.writes).toEqual(['a: theirs']);
  });
});
