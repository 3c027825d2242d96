import { lastValueFrom, tap } from 'rxjs';
import { z } from 'zod';
import { inner } from '../lib/fleet.mjs';
import { connect, request } from '../lib/server.mjs';
import { median } from '../lib/stats.mjs';

const file = import.meta.url;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const definition = { name: 'read', description: 'Reads.', input_schema: { type: 'object', properties: { ms: { type: 'number' } } } };

/** What is written most: the reply as it streams, then all of its calls at once. */
async function byHand(client) {
  const content = [];
  const json = [];
  for await (const event of await client.messages.create({ ...request, tools: [definition], stream: true })) {
    if (event.type === 'content_block_start') content[event.index] = event.content_block;
    else if (event.type === 'content_block_delta') json[event.index] = (json[event.index] ?? '') + event.delta.partial_json;
  }
  const replied = performance.now();
  const results = await Promise.all(content.map((_, index) => sleep(JSON.parse(json[index]).ms)));
  if (results.length !== 5) throw new Error(`There were ${results.length} calls.`);
  return { replied };
}

/** A turn, when its reply was complete, and how late its tools ran: from the event after a call's block, or, waiting, the last of the reply. */
async function ours(eager) {
  const { tool, turn } = await inner('agents.js');
  return async (client) => {
    const released = new Map();
    const late = [];
    let replied;
    const read = tool({
      name: 'read',
      description: 'Reads.',
      effect: 'none',
      input: z.object({ ms: z.number() }),
      run: async ({ ms }, { id }) => {
        late.push(performance.now() - (eager ? released.get(id) : replied));
        await sleep(ms);
        return ms;
      },
    });
    let block;
    const note = ({ type, event }) => {
      if (type !== 'model') return;
      if (block && (event.type === 'content_block_start' || event.type === 'message_delta')) released.set(block.id, performance.now());
      if (event.type === 'content_block_start') block = event.content_block;
      if (event.type === 'message_stop') replied = performance.now();
    };
    const end = await lastValueFrom(turn({ client, ...request, tools: [read], eager }).pipe(tap(note)));
    if (end.results.length !== 5 || end.results.some(({ is_error }) => is_error)) throw new Error('A call failed.');
    return { replied, late: median(late) };
  };
}

/** Milliseconds by the clock, the median of some turns: of the whole, of its reply, and how late a tool runs. */
function timed(prepare) {
  return async ({ script, turns }) => {
    const one = await prepare();
    const { client, close } = await connect(script);
    const found = [];
    for (let i = -1; i < turns; i++) {
      const begun = performance.now();
      const { replied, late } = await one(client);
      if (i >= 0) found.push({ whole: performance.now() - begun, reply: replied - begun, late });
    }
    close();
    const middle = (name) => median(found.map((each) => each[name]));
    return { whole: middle('whole'), reply: middle('reply'), late: middle('late') };
  };
}

export const contenders = {
  eager: timed(() => ours(true)),
  waiting: timed(() => ours(false)),
  'by hand': timed(() => byHand),
};

function group(title, script, goal = {}) {
  return {
    title,
    file,
    params: { script, turns: 3 },
    rounds: 5,
    contenders: ['eager', 'waiting', 'by hand'],
    unit: 'ms a turn',
    tell: (r, name) => r[name].whole,
    rows: [
      { what: 'waiting for the end of the reply, over starting early', figure: (r) => r.waiting.whole / r.eager.whole, ...goal },
      {
        what: 'a loop by hand that waits for the end of the reply, over starting early',
        figure: (r) => r['by hand'].whole / r.eager.whole,
      },
      { what: 'the reply alone', figure: (r) => r.eager.reply, unit: 'ms' },
      { what: 'from its end to the end of the turn: starting early', figure: (r) => r.eager.whole - r.eager.reply, unit: 'ms' },
      { what: 'from its end to the end of the turn: waiting', figure: (r) => r.waiting.whole - r.waiting.reply, unit: 'ms' },
      { what: 'from the event that releases a call until its tool runs', figure: (r) => r.eager.late, unit: 'ms' },
    ],
  };
}

export const section = {
  goal: 'Starting tools early: five calls of 600, 450, 300, 150 and 10 ms, in a reply that takes about 750 ms',
  groups: [
    group('writing takes the time: the end of a block comes with the start of the next', 'five', { atLeast: 1.7 }),
    group('every event takes as long as any other: the start of a block comes 32 ms after the end of the one before', 'evenly'),
  ],
};
