import Anthropic from '@anthropic-ai/sdk';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import { z } from 'zod';
import { swallow, version } from '../row.mjs';

const runnerWith = (extra) => (job, options) => {
  const client = new Anthropic({ apiKey: 'bench', baseURL: job.url, maxRetries: 0 });
  const tools = Object.entries(job.tools).map(([name, body]) =>
    betaZodTool({ name, description: name, inputSchema: z.object({}), run: (_input, context) => body(context?.signal) }),
  );
  const messages = [{ role: 'user', content: 'Go.' }];
  return client.beta.messages.toolRunner({ model: 'bench', max_tokens: 1_024, messages, tools, ...extra }, options);
};

const plain = runnerWith({});
const streamed = runnerWith({ stream: true });
const eager = runnerWith({ stream: true, runToolsEagerly: true });

const scenarios = (make) => {
  const abort = (job) => {
    void job.abortAtMoment();
    return swallow(make(job, { signal: job.signal }).runUntilDone());
  };
  return { fail: (job) => swallow(make(job).runUntilDone()), abort, abortQuiet: abort };
};

/** Reads the reply until the moment has come, and breaks out of both loops at the next event. */
async function breakOut(job, make) {
  let left = false;
  void job.moment().then(() => (left = true));
  for await (const stream of make(job)) {
    for await (const event of stream) if (left && event) break;
    if (left) break;
  }
}

/** No event comes any more, so there is nothing to break at: the iterators are told, and nobody waits for them. */
async function leaveQuiet(job, make) {
  const outer = make(job)[Symbol.asyncIterator]();
  const { value: stream } = await outer.next();
  const inner = stream[Symbol.asyncIterator]();
  const read = async () => {
    while (!(await inner.next()).done);
  };
  void swallow(read());
  await job.moment();
  void swallow(inner.return?.());
  void swallow(outer.return?.());
}

const sdk = version('@anthropic-ai/sdk');

export const rows = [
  { name: 'Anthropic tool runner', with: sdk, model: {}, ...scenarios(plain) },
  {
    name: 'Anthropic tool runner, streamed',
    with: sdk,
    model: {},
    ...scenarios(streamed),
    leaveQuiet: (job) => leaveQuiet(job, streamed),
  },
  {
    name: 'Anthropic tool runner, runToolsEagerly',
    with: sdk,
    model: { eventMs: 20 },
    ...scenarios(eager),
    leave: (job) => breakOut(job, eager),
    leaveQuiet: (job) => leaveQuiet(job, eager),
  },
];
