import Anthropic from '@anthropic-ai/sdk';
import { from, lastValueFrom } from 'rxjs';
import { z } from 'zod';
import { dist, fanOutScoped } from '../../lib/fleet.mjs';
import { swallow, version } from '../row.mjs';

const { agent, tool } = await import(new URL('agents.js', dist));

const fanOut = (job, options) =>
  from(job.names).pipe(fanOutScoped((name, _index, ctx) => ctx.call((signal) => job.tools[name](signal)), options));

function agentWith(extra) {
  return (job, options) => {
    const client = new Anthropic({ apiKey: 'bench', baseURL: job.url });
    const tools = Object.entries(job.tools).map(([name, body]) =>
      tool({ name, description: name, input: z.object({}), effect: 'none', run: (_input, call) => body(call.signal) }),
    );
    const messages = [{ role: 'user', content: 'Go.' }];
    return agent({ client, model: 'bench', max_tokens: 1_024, messages, tools, ...extra, ...options });
  };
}

/** Control is back when the output has ended, or, for whoever has unsubscribed, when the scope has closed. */
const scenarios = (make) => {
  const end = (job, options) => swallow(lastValueFrom(make(job, options), { defaultValue: undefined }));
  const abort = (job) => {
    void job.abortAtMoment();
    return end(job, { signal: job.signal });
  };
  const leave = async (job) => {
    let scope;
    const subscription = make(job, { onScope: (each) => (scope = each) }).subscribe();
    await job.moment();
    subscription.unsubscribe();
    await scope.closed;
  };
  return { strict: true, fail: (job) => end(job), abort, leave, abortQuiet: abort, leaveQuiet: leave };
};

const { fail, abort, leave } = scenarios(fanOut);
const ours = version('../../..');

export const rows = [
  { name: 'rxfleet fanOutScoped', with: ours, strict: true, fail, abort, leave },
  { name: 'rxfleet agent', with: ours, model: {}, ...scenarios(agentWith({ eager: false })) },
  { name: 'rxfleet agent, failFast', with: ours, strict: true, model: {}, fail: scenarios(agentWith({ onToolError: 'failFast' })).fail },
  { name: 'rxfleet agent, calls begin mid-reply', with: ours, model: { eventMs: 20 }, ...scenarios(agentWith({ eager: true })) },
];
