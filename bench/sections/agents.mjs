import { from, lastValueFrom, mergeMap } from 'rxjs';
import { z } from 'zod';
import { fanOutScoped, FleetBudget, inner, Semaphore } from '../lib/fleet.mjs';
import { connect, request } from '../lib/server.mjs';
import { cpuNow, nextTurn, numbers, settledHeap } from '../lib/steady.mjs';

const file = import.meta.url;
const AGENTS = 1_000;
const SOCKETS = 64;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const definition = { name: 'look', description: 'Looks.', input_schema: { type: 'object', properties: {} } };
const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 0, cacheWrite5m: 0, cacheWrite1h: 0 };

/** Agents of which so many are at the model at once, the rest wait in line, and all spend from one budget. */
async function ours(client, look) {
  const { agent, modelGuard, tool } = await inner('agents.js');
  const semaphore = new Semaphore({ name: 'sockets', limit: SOCKETS });
  const budget = new FleetBudget({ name: 'fleet', usd: '1000' });
  const guard = modelGuard({ semaphore, budget, prices: { bench: rates } });
  const tools = [tool({ name: 'look', description: 'Looks.', effect: 'none', input: z.object({}), run: (_, { signal }) => look(signal) })];
  const one = (within) => agent({ client, ...request, tools, modelGuard: guard, ...(within && { within }) });
  return {
    all: (count) =>
      lastValueFrom(
        from(numbers(count)).pipe(
          fanOutScoped((_, __, ctx) => one(ctx), { concurrency: count }),
          mergeMap((event) => (event.type === 'done' ? [event.turns] : [])),
        ),
      ),
    start: (count) => {
      const running = numbers(count).map(() => one().subscribe());
      return () => running.forEach((each) => each.unsubscribe());
    },
  };
}

/** The same in loops over the stream of `messages.create`, each with a controller, behind a counter. */
function byHand(client, look) {
  let free = SOCKETS;
  const line = [];
  const streamed = async (messages, signal) => {
    if (free > 0) free--;
    else await new Promise((resolve) => line.push(resolve));
    try {
      const content = [];
      const json = [];
      const stream = await client.messages.create({ ...request, messages, tools: [definition], stream: true }, { signal });
      for await (const { type, index, content_block, delta } of stream) {
        if (type === 'content_block_start') content[index] = { ...content_block };
        else if (delta?.type === 'text_delta') content[index].text += delta.text;
        else if (delta?.type === 'input_json_delta') json[index] = (json[index] ?? '') + delta.partial_json;
      }
      content.forEach((block, index) => block.type === 'tool_use' && (block.input = JSON.parse(json[index])));
      return content;
    } finally {
      if (line.length > 0) line.shift()();
      else free++;
    }
  };
  const one = async (signal) => {
    const messages = [...request.messages];
    for (;;) {
      signal.throwIfAborted();
      const content = await streamed(messages, signal);
      const calls = content.filter(({ type }) => type === 'tool_use');
      messages.push({ role: 'assistant', content });
      if (calls.length === 0) return;
      const answer = async ({ id }) => ({ type: 'tool_result', tool_use_id: id, content: JSON.stringify(await look(signal)) });
      messages.push({ role: 'user', content: await Promise.all(calls.map(answer)) });
    }
  };
  return {
    all: (count) => Promise.all(numbers(count).map(() => one(new AbortController().signal))),
    start: (count) => {
      const running = numbers(count).map(() => new AbortController());
      for (const { signal } of running) one(signal).catch(() => {});
      return () => running.forEach((each) => each.abort());
    },
  };
}

/** Kilobytes of heap that an agent holds at the model, or in line for it, or in a tool; and what is left of it when it has been stopped. */
function held(make) {
  return async ({ script }) => {
    const { client, look, close } = await connect(script);
    let waiting = 0;
    const { start } = await make(client, (signal) => waitFor(signal, (by) => (waiting += by)));
    const stopped = async (stop) => {
      stop();
      while ((await look()).stats.open > 0 || waiting > 0) await pause(20);
      await pause(200);
    };
    const there = async (count) => {
      if (script === 'quiet') while ((await look()).stats.open < Math.min(count, SOCKETS)) await pause(20);
      else while (waiting < count) await pause(20);
      await pause(200);
    };
    const warm = start(100);
    await there(100);
    await stopped(warm);
    const before = await settledHeap();
    const stop = start(AGENTS);
    await there(AGENTS);
    const peak = (await settledHeap()) - before;
    await stopped(stop);
    const left = (await settledHeap()) - before;
    const { maxOpen, open } = (await look()).stats;
    close();
    return { held: peak / AGENTS / 1024, left: left / AGENTS / 1024, maxOpen, open };
  };
}

function waitFor(signal, count) {
  count(1);
  return new Promise((_, reject) =>
    signal.addEventListener('abort', () => {
      count(-1);
      reject(signal.reason);
    }),
  );
}

/** Agents of two turns with a call in between, to the end. */
function through(make) {
  return async () => {
    const { client, look, close } = await connect('twoTurns');
    const { all } = await make(client, async () => {
      await nextTurn();
      return 'seen';
    });
    await all(200);
    const begun = performance.now();
    const used = cpuNow();
    await all(AGENTS);
    const figures = { cpu: (cpuNow() - used) / AGENTS, clock: performance.now() - begun };
    const { maxOpen, open, requests, completed } = (await look()).stats;
    close();
    if (requests !== 2 * (AGENTS + 200) || completed !== requests) throw new Error(`${completed} of ${requests} requests were completed.`);
    return { ...figures, maxOpen, open };
  };
}

export const contenders = {
  'ours, held': held(ours),
  'by hand, held': held(byHand),
  ours: through(ours),
  'by hand': through(byHand),
};

const kept = (title, script) => ({
  title,
  file,
  params: { script },
  flags: ['--expose-gc'],
  rounds: 3,
  contenders: ['ours, held', 'by hand, held'],
  rows: [
    { what: 'heap per agent', figure: (r) => r['ours, held'].held, unit: 'KB' },
    { what: 'the same in loops by hand', figure: (r) => r['by hand, held'].held, unit: 'KB' },
    { what: 'left of it when all have been stopped', figure: (r) => r['ours, held'].left, unit: 'KB' },
    { what: 'the same in loops by hand', figure: (r) => r['by hand, held'].left, unit: 'KB' },
    { what: 'requests open at once', figure: (r) => r['ours, held'].maxOpen, unit: '', atMost: SOCKETS },
    { what: 'requests open when all have been stopped', figure: (r) => r['ours, held'].open, unit: '', atMost: 0 },
  ],
});

export const section = {
  goal: `${AGENTS} agents in one process, ${SOCKETS} at once at the model, over HTTP with the SDK`,
  groups: [
    kept(`${SOCKETS} in a quiet stream, the others in line`, 'quiet'),
    kept('all of them in a call of a tool', 'twoTurns'),
    {
      title: 'two turns each with a call in between, to the end',
      file,
      rounds: 5,
      contenders: ['ours', 'by hand'],
      unit: 'ms of CPU an agent',
      tell: (r, name) => r[name].cpu,
      rows: [
        { what: 'CPU over loops by hand', figure: (r) => r.ours.cpu / r['by hand'].cpu },
        { what: 'all by the clock', figure: (r) => r.ours.clock, unit: 'ms' },
        { what: 'the same in loops by hand', figure: (r) => r['by hand'].clock, unit: 'ms' },
        { what: 'requests open at once', figure: (r) => r.ours.maxOpen, unit: '', atMost: SOCKETS },
        { what: 'requests open afterwards', figure: (r) => r.ours.open, unit: '', atMost: 0 },
      ],
    },
  ],
};
