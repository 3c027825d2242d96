import { lastValueFrom } from 'rxjs';
import { z } from 'zod';
import { inner } from '../lib/fleet.mjs';
import { connect, request } from '../lib/server.mjs';
import { cpuNow } from '../lib/steady.mjs';

const file = import.meta.url;

const definition = { name: 'noop', description: 'Does nothing.', input_schema: { type: 'object', properties: { n: { type: 'number' } } } };
const asked = { ...request, tools: [definition] };
const run = async ({ n }) => n;

async function answer(content) {
  const calls = content.filter(({ type }) => type === 'tool_use');
  const results = await Promise.all(
    calls.map(async ({ id, input }) => ({ type: 'tool_result', tool_use_id: id, content: JSON.stringify(await run(input)) })),
  );
  return [...request.messages, { role: 'assistant', content }, { role: 'user', content: results }];
}

async function whole(client) {
  const { content } = await client.messages.create(asked);
  return answer(content);
}

async function streamed(client) {
  const content = [];
  const json = [];
  for await (const event of await client.messages.create({ ...asked, stream: true })) {
    if (event.type === 'content_block_start') content[event.index] = { ...event.content_block };
    else if (event.type === 'content_block_delta') {
      if (event.delta.type === 'input_json_delta') json[event.index] = (json[event.index] ?? '') + event.delta.partial_json;
      else if (event.delta.type === 'text_delta') content[event.index].text += event.delta.text;
    }
  }
  content.forEach((block, index) => {
    if (block.type === 'tool_use') block.input = JSON.parse(json[index] ?? '{}');
  });
  return answer(content);
}

async function ours() {
  const { tool, turn } = await inner('agents.js');
  const noop = tool({ name: 'noop', description: 'Does nothing.', input: z.object({ n: z.number() }), effect: 'none', run });
  return (client) => lastValueFrom(turn({ client, ...request, tools: [noop] }));
}

/** Microseconds of a turn, after so many others: of this process's own CPU, in which the server has no part, and by the clock. */
function timed(prepare) {
  return async ({ turns, before }) => {
    const one = await prepare();
    const { client, close } = await connect('tools');
    const many = async (count) => {
      for (let i = 0; i < count; i++) await one(client);
    };
    await many(before);
    const started = performance.now();
    const used = cpuNow();
    await many(turns);
    const micros = (ms) => (ms * 1000) / turns;
    const figures = { cpu: micros(cpuNow() - used), clock: micros(performance.now() - started) };
    close();
    return figures;
  };
}

export const contenders = { whole: timed(() => whole), streamed: timed(() => streamed), turn: timed(ours) };

const group = (title, params, atMost) => ({
  title,
  file,
  params,
  contenders: ['whole', 'streamed', 'turn'],
  unit: 'µs a turn',
  tell: (r, name) => r[name].cpu,
  rows: [
    { what: 'over a bare loop on messages.create', figure: (r) => r.turn.cpu / r.whole.cpu, ...(atMost && { atMost }) },
    { what: 'over a bare loop that streams the reply, as a turn does', figure: (r) => r.turn.cpu / r.streamed.cpu },
    { what: 'by the clock: over a bare loop on messages.create', figure: (r) => r.turn.clock / r.whole.clock },
    { what: 'by the clock: over a bare loop that streams', figure: (r) => r.turn.clock / r.streamed.clock },
  ],
});

export const section = {
  goal: 'Goal 6: a turn of ten calls that do nothing, over HTTP with the SDK, against the same by hand',
  groups: [
    group('CPU time of the client, of 400 turns after 400 others', { turns: 400, before: 400 }, 1.5),
    { ...group('the same after 3,000 others: what the engine has to optimise is optimised', { turns: 400, before: 3_000 }), rounds: 3 },
  ],
};
